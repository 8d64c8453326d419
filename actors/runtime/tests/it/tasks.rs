//! Tasks owned by actors.

use std::time::Duration;

use actix::prelude::*;
use greenroom_runtime::{Birth, ChildSpec, TaskEnd, Tasks, TestWorld, supervised};
use tokio::sync::oneshot;

use crate::probe::Book;

const SOON: Duration = Duration::from_secs(5);

struct Owner {
    tasks: Tasks<Self>,
    birth: u64,
    book: Book,
}

impl Actor for Owner {
    type Context = Context<Self>;
}
supervised!(Owner, "owner");

/// Runs a task until the gate says how to end.
#[derive(Message)]
#[rtype(result = "u64")]
struct Run(oneshot::Receiver<bool>);

impl Handler<Run> for Owner {
    type Result = u64;
    fn handle(&mut self, Run(gate): Run, _: &mut Self::Context) -> u64 {
        let guard = Guard(self.book.clone());
        let task = async move {
            let _guard = guard;
            assert_ne!(gate.await, Ok(true), "sick task");
            7
        };
        self.tasks.spawn(task, Ended);
        self.birth
    }
}

struct Guard(Book);
impl Drop for Guard {
    fn drop(&mut self) {
        self.0.write("dropped");
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Ended(TaskEnd<u32>);

impl Handler<Ended> for Owner {
    type Result = ();
    fn handle(&mut self, Ended(end): Ended, _: &mut Self::Context) {
        self.book.write(format!("birth {}: {end:?}, {} left", self.birth, self.tasks.running()));
    }
}

#[derive(Message)]
#[rtype(result = "usize")]
struct CancelOne;

impl Handler<CancelOne> for Owner {
    type Result = usize;
    fn handle(&mut self, _: CancelOne, _: &mut Self::Context) -> usize {
        let id = self.tasks.spawn(std::future::pending::<u32>(), Ended);
        let running = self.tasks.running();
        self.tasks.cancel(id);
        running - self.tasks.running()
    }
}

fn owner(book: &Book) -> impl Fn(&Birth<Owner>) -> Owner + Send + 'static {
    let book = book.clone();
    move |birth| Owner { tasks: birth.tasks(), birth: birth.number(), book: book.clone() }
}

#[actix::test]
async fn ends_and_panics_come_as_messages() {
    let world = TestWorld::new();
    let book = Book::default();
    let front = world.root().spawn(ChildSpec::new("owner"), owner(&book));
    let (well, gate) = oneshot::channel();
    let (sick, sick_gate) = oneshot::channel();
    front.ask(Run(gate)).await.unwrap();
    front.ask(Run(sick_gate)).await.unwrap();
    sick.send(true).unwrap();
    world.settle().await;
    well.send(false).unwrap();
    world.settle().await;
    let told: Vec<_> = book.lines().into_iter().filter(|line| line != "dropped").collect();
    assert_eq!(told.len(), 2);
    assert!(told[0].contains("birth 1: Panicked(") && told[0].contains("sick task"), "{told:?}");
    assert_eq!(told[1], "birth 1: Done(7), 0 left");
    assert_eq!(front.births(), 1, "a task's panic is not its owner's");
    assert_eq!(front.ask(CancelOne).await, Ok(1));
    world.finish().await;
}

#[actix::test]
async fn tasks_end_with_the_birth_that_owns_them() {
    let mut world = TestWorld::new();
    world.expect_panic("owner");
    let book = Book::default();
    let front = world.root().spawn(ChildSpec::new("owner"), owner(&book));
    let (_open, gate) = oneshot::channel();
    front.ask(Run(gate)).await.unwrap();
    world.inject_panic("owner");
    world.settle().await;
    assert_eq!(book.lines(), ["dropped"], "aborted, and nothing told");
    front.wait_ready(SOON).await.unwrap();
    let (_open, gate) = oneshot::channel();
    assert_eq!(front.ask(Run(gate)).await, Ok(2));
    world.finish().await;
    tokio::task::yield_now().await;
    assert_eq!(book.lines(), ["dropped", "dropped"], "so does a stop");
}
