//! An actor that does as it is told, and a book of what happened to it.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{self, Poll};
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;
use greenroom_runtime::{Birth, ChildSpec, Front, Supervised, Supervisor, complete, fail, letter_deadline};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// What happened, in order; shared by all births of a probe.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Vec<String>>>, Option<&'static str>);

impl Book {
    pub fn write(&self, line: impl Into<String>) {
        let line = match self.1 {
            Some(name) => format!("{name} {}", line.into()),
            None => line.into(),
        };
        self.0.lock().unwrap().push(line);
    }

    /// The same book for one of several, whose lines begin with its name.
    pub fn named(&self, name: &'static str) -> Self {
        Self(Arc::clone(&self.0), Some(name))
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|each| *each == line).count()
    }
}

pub struct Probe {
    pub birth: u64,
    pub sum: u64,
    pub book: Book,
    /// Panics in `started` of births up to this number.
    pub sick_until: u64,
    /// At a stop: asks for more time, and takes this long.
    pub last_work: Option<Duration>,
}

impl Probe {
    pub fn new(birth: &Birth<Self>, book: &Book) -> Self {
        Self { birth: birth.number(), sum: 0, book: book.clone(), sick_until: 0, last_work: None }
    }
}

/// Starts a healthy probe.
pub fn spawn(supervisor: &Supervisor, spec: ChildSpec, book: &Book) -> Front<Probe> {
    let book = book.clone();
    supervisor.spawn(spec, move |birth| Probe::new(birth, &book))
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.book.write(format!("started {}", self.birth));
        assert!(self.birth > self.sick_until, "sick");
    }

    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        self.book.write("stopping");
        match self.last_work.take() {
            Some(work) => {
                ctx.run_later(work, |act, ctx| {
                    act.book.write("last work");
                    ctx.stop();
                });
                Running::Continue
            }
            None => Running::Stop,
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.book.write("stopped");
    }
}

impl Supervised for Probe {
    const KIND: &'static str = "probe";

    fn observe(&self) -> Value {
        json!({"sum": self.sum})
    }

    fn drain(&mut self, _: &mut Self::Context) {
        self.book.write("drain");
    }
}

#[derive(Message)]
#[rtype(result = "u64")]
pub struct Add(pub u64);

impl Handler<Add> for Probe {
    type Result = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
        self.sum += n;
        self.book.write(format!("add {n}"));
        self.sum
    }
}

/// Which birth answers, and the deadline it sees.
#[derive(Message)]
#[rtype(result = "(u64, bool)")]
pub struct WhichBirth;

impl Handler<WhichBirth> for Probe {
    type Result = MessageResult<WhichBirth>;
    fn handle(&mut self, _: WhichBirth, _: &mut Self::Context) -> Self::Result {
        MessageResult((self.birth, letter_deadline().is_some()))
    }
}

/// The ways to end.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub enum End {
    Panic,
    PanicInContext,
    Fail,
    FailInWait,
    Complete,
    Stop,
}

impl Handler<End> for Probe {
    type Result = ();
    fn handle(&mut self, how: End, ctx: &mut Self::Context) {
        match how {
            End::Panic => panic!("told to"),
            End::PanicInContext => {
                ctx.spawn(wrap_future(async { panic!("told to, later") }));
            }
            End::Fail => fail(ctx, "told to fail"),
            End::FailInWait => ctx.wait(FailAndHang),
            End::Complete => complete(ctx),
            End::Stop => ctx.stop(),
        }
    }
}

/// Fails its actor and never ends itself.
struct FailAndHang;

impl ActorFuture<Probe> for FailAndHang {
    type Output = ();
    fn poll(
        self: Pin<&mut Self>,
        _: &mut Probe,
        ctx: &mut Context<Probe>,
        _: &mut task::Context<'_>,
    ) -> Poll<()> {
        fail(ctx, "failed while waiting");
        Poll::Pending
    }
}

/// Answers when the gate opens; panics if the gate says so.
#[derive(Message)]
#[rtype(result = "u64")]
pub struct AnswerLater(pub oneshot::Receiver<bool>);

impl Handler<AnswerLater> for Probe {
    type Result = ResponseActFuture<Self, u64>;
    fn handle(&mut self, AnswerLater(gate): AnswerLater, _: &mut Self::Context) -> Self::Result {
        self.book.write("begun");
        Box::pin(wrap_future::<_, Self>(gate).map(|sick, act, _| {
            assert_ne!(sick, Ok(true), "sick gate");
            act.sum
        }))
    }
}

/// Lets nothing else be handled until the gate opens.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Block(pub oneshot::Receiver<()>);

impl Handler<Block> for Probe {
    type Result = AtomicResponse<Self, ()>;
    fn handle(&mut self, Block(gate): Block, _: &mut Self::Context) -> Self::Result {
        self.book.write("blocked");
        AtomicResponse::new(Box::pin(wrap_future::<_, Self>(gate).map(|_, _, _| ())))
    }
}

/// Lets nothing else be handled for 30 s, and says now and then that this is meant.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WaitLong;

impl Handler<WaitLong> for Probe {
    type Result = AtomicResponse<Self, ()>;
    fn handle(&mut self, _: WaitLong, _: &mut Self::Context) -> Self::Result {
        let wait = async {
            for _ in 0..30 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                greenroom_runtime::still_alive();
            }
        };
        AtomicResponse::new(Box::pin(wrap_future(wait)))
    }
}

/// Blocks a probe and waits until it is blocked. Dropping the answer unblocks it.
pub async fn block(front: &Front<Probe>) -> oneshot::Sender<()> {
    let (open, gate) = oneshot::channel();
    let before = front.queue_depth();
    front.tell(Block(gate)).unwrap();
    while front.queue_depth() > before {
        tokio::task::yield_now().await;
    }
    open
}

/// Holds the arbiter itself.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Hold(pub std::sync::mpsc::Receiver<()>);

impl Handler<Hold> for Probe {
    type Result = ();
    fn handle(&mut self, Hold(gate): Hold, _: &mut Self::Context) {
        let _ = gate.recv();
    }
}
