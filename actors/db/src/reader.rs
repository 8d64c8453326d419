//! The DbReader: answers reads, each from one read transaction with its clock.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message, ResponseFuture};
use greenroom_model::*;
use serde_json::json;

use crate::engine::{EngineError, ReadTx};
use crate::history::{self, BuildContextOf, ChangesOfStamps, ConsoleCellsOf, ConsoleOf, HistoriesOf};
use crate::messages::*;
use crate::reads;
use crate::reads_retention;
use crate::replica;
use crate::rows::RowMapped;
use crate::store::Store;

/// Answers reads, several at a time.
pub struct DbReader {
    store: Store,
    asked: u64,
}

impl DbReader {
    /// A reader over `store`.
    pub fn new(store: Store) -> Self {
        Self { store, asked: 0 }
    }
}

impl Actor for DbReader {
    type Context = Context<Self>;
}

impl greenroom_runtime::Supervised for DbReader {
    const KIND: &'static str = "db-reader";

    fn observe(&self) -> serde_json::Value {
        json!({ "asked": self.asked, "by-replica": self.store.replica_answers() })
    }
}

/// An entity that a store keeps. Not to be implemented elsewhere.
pub trait Stored: Entity + RowMapped {}

macro_rules! stored {
    ($($ty:ty),* $(,)?) => { $(impl Stored for $ty {})* };
}

stored!(
    Master,
    Builder,
    Worker,
    Scheduler,
    ChangeSource,
    Project,
    Change,
    SourceStamp,
    Buildset,
    BuildRequest,
    Build,
    Step,
    Log,
    ConfigurationVersion,
    Notifier,
    Delivery,
    ControlAct,
);

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Damaged(text) => ReadError::Damaged(text),
            other => ReadError::Unavailable(other.to_string()),
        }
    }
}

pub(crate) type Read<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// Runs a read in one transaction, together with the clock.
async fn snapshot<T>(
    store: Store,
    read: impl for<'a> FnOnce(&'a mut dyn ReadTx) -> Read<'a, T> + Send,
) -> ReadResult<T> {
    let mut tx = store.0.engine.read().await?;
    let clock = reads::clock(&mut *tx, store.0.generation).await?;
    let value = read(&mut *tx).await?;
    clock.heads().for_each(|(master, seq)| store.saw(master, seq));
    Ok(Snapshot { value, clock })
}

/// As [`snapshot`], from a replica if there is one that shows as much.
async fn snapshot_anywhere<T>(
    store: Store,
    read: impl for<'a> Fn(&'a mut dyn ReadTx) -> Read<'a, T> + Send,
) -> ReadResult<T> {
    match replica::read(&store, &read).await {
        Some(found) => Ok(found),
        None => snapshot(store, read).await,
    }
}

impl<E: Stored> Handler<List<E>> for DbReader {
    type Result = ResponseFuture<ReadResult<Page<Arc<E>>>>;

    fn handle(&mut self, msg: List<E>, _ctx: &mut Self::Context) -> Self::Result {
        self.asked += 1;
        let store = self.store.clone();
        Box::pin(snapshot_anywhere(store, move |tx| {
            let query = msg.query.clone();
            Box::pin(async move { crate::pages::page(tx, &query).await })
        }))
    }
}

impl Handler<LapsedMasters> for DbReader {
    type Result = ResponseFuture<ReadResult<Vec<MasterId>>>;

    fn handle(&mut self, _: LapsedMasters, _ctx: &mut Self::Context) -> Self::Result {
        self.asked += 1;
        let store = self.store.clone();
        let (me, shared) = (store.master(), store.is_shared());
        Box::pin(snapshot(store, move |tx| Box::pin(async move { reads::lapsed(tx, me, shared).await })))
    }
}

impl<E: Stored> Handler<Get<E>> for DbReader {
    type Result = ResponseFuture<ReadResult<Option<Arc<E>>>>;

    fn handle(&mut self, msg: Get<E>, _ctx: &mut Self::Context) -> Self::Result {
        self.asked += 1;
        let store = self.store.clone();
        Box::pin(snapshot_anywhere(store, move |tx| Box::pin(reads::by_id(tx, msg.id))))
    }
}

macro_rules! handle {
    ($snapshot:ident: $($message:ty => $read:path),* $(,)?) => {$(
        impl Handler<$message> for DbReader {
            type Result = ResponseFuture<<$message as Message>::Result>;

            fn handle(&mut self, msg: $message, _ctx: &mut Self::Context) -> Self::Result {
                self.asked += 1;
                let store = self.store.clone();
                Box::pin($snapshot(store, move |tx| Box::pin($read(tx, msg.clone()))))
            }
        }
    )*};
}

// History.
handle!(
    snapshot_anywhere:
    BuildPropertiesOf => reads::build_properties,
    BuildsetPropertiesOf => reads::buildset_properties,
    BuildsOfChange => reads::builds_of_change,
    ChangesOfBuild => reads::changes_of_build,
    BuildContextOf => history::build_context,
    ChangesOfStamps => history::changes_of_stamps,
    ConsoleOf => history::console,
);

// What is decided by: from the primary.
handle!(
    snapshot:
    SchedulerStateOf => reads::scheduler_state,
    ChangeSourceStateOf => reads::change_source_state,
    ListenerOf => reads::listener,
    ControlActOf => reads::control_act,
    OpenControlActs => reads::open_control_acts,
    UnfinishedBuilds => reads::unfinished_builds,
    EventsAfter => reads::events_after,
    NextCut => reads::next_cut,
    CurrentClock => reads::nothing,
    LoadHot => reads::hot,
    HistoriesOf => history::histories_of,
    ConsoleCellsOf => history::cells_of_stamps,
    RetentionFacts => reads_retention::facts,
    LooseEnds => reads_retention::loose,
);

impl Handler<LogBytesOf> for DbReader {
    type Result = ResponseFuture<Result<HashMap<BuildId, u64>, LogError>>;

    fn handle(&mut self, msg: LogBytesOf, _ctx: &mut Self::Context) -> Self::Result {
        self.asked += 1;
        Box::pin(reads_retention::log_bytes(self.store.clone(), msg.builds))
    }
}
