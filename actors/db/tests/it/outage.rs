//! What the log says while the database takes no writes.

use std::sync::{Arc, Mutex};

use greenroom_db::WriteError;
use greenroom_model::*;
use sqlx::{Connection, SqliteConnection};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Level, Metadata, Subscriber};

use crate::world::{Engine, World};

/// Keeps the messages of warnings and informations of this crate's subject.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<(Level, String)>>>);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("greenroom_db") && *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push((*event.metadata().level(), message.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[actix_rt::test]
async fn an_outage_is_logged_when_it_begins_and_when_it_is_over() {
    let said = Said::default();
    let _guard = tracing::subscriber::set_default(said.clone());
    let world = World::open(Engine::Sqlite).await;
    world.configure().await;
    let file = format!("sqlite://{}", world.path().join("test.db").display());
    let mut raw = SqliteConnection::connect(&file).await.unwrap();
    // A stock that no write can be done on: its row cannot be read.
    let broken = "UPDATE workers SET workerinfo = 'no JSON'";
    sqlx::raw_sql(broken).execute(&mut raw).await.unwrap();
    // What the writer remembers goes with a new one.
    let world = World::over(world.store.clone(), world.dir.clone());
    let pause = || Op::PauseWorker { worker: WorkerId(1), paused: true, reason: None };
    for _ in 0..5 {
        let answer = world.commit(world.write(vec![pause()])).await;
        assert!(matches!(answer, Err(WriteError::Unavailable(_))), "{answer:?}");
    }
    let warning = (Level::WARN, "writes are refused".to_owned());
    assert_eq!(*said.0.lock().unwrap(), std::slice::from_ref(&warning));
    let repaired = "UPDATE workers SET workerinfo = NULL";
    sqlx::raw_sql(repaired).execute(&mut raw).await.unwrap();
    for _ in 0..2 {
        world.commit(world.write(vec![pause()])).await.unwrap();
    }
    let over = (Level::INFO, "writes are taken again".to_owned());
    assert_eq!(*said.0.lock().unwrap(), [warning, over]);
}
