//! The DbReader: answers reads, each from one read transaction with its clock.

use std::sync::Arc;

use actix::{Actor, Context, Handler, Message, ResponseFuture};
use greenroom_model::*;

use crate::messages::*;
use crate::store::Store;

/// Answers reads, several at a time.
pub struct DbReader {
    _store: Store,
}

impl DbReader {
    /// A reader over `store`.
    pub fn new(store: Store) -> Self {
        Self { _store: store }
    }
}

impl Actor for DbReader {
    type Context = Context<Self>;
}

greenroom_runtime::supervised!(DbReader, "db-reader");

/// An entity that a store keeps.
pub trait Stored: Entity + Send + Sync + 'static {}
macro_rules! stored { ($($ty:ty),*) => { $(impl Stored for $ty {})* } }
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
    Log
);

impl<E: Stored> Handler<List<E>> for DbReader {
    type Result = ResponseFuture<ReadResult<Page<Arc<E>>>>;

    fn handle(&mut self, _msg: List<E>, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(async { Err(ReadError::Unavailable("not built yet".into())) })
    }
}

impl<E: Stored> Handler<Get<E>> for DbReader {
    type Result = ResponseFuture<ReadResult<Option<Arc<E>>>>;

    fn handle(&mut self, _msg: Get<E>, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(async { Err(ReadError::Unavailable("not built yet".into())) })
    }
}

macro_rules! handle {
    ($($message:ty),* $(,)?) => {$(
        impl Handler<$message> for DbReader {
            type Result = ResponseFuture<<$message as Message>::Result>;

            fn handle(&mut self, _msg: $message, _ctx: &mut Self::Context) -> Self::Result {
                Box::pin(async { Err(ReadError::Unavailable("not built yet".into())) })
            }
        }
    )*};
}

handle!(
    BuildPropertiesOf,
    BuildsetPropertiesOf,
    SchedulerStateOf,
    ChangeSourceStateOf,
    ListenerOf,
    ControlActOf,
    OpenControlActs,
    UnfinishedBuilds,
    BuildsOfChange,
    ChangesOfBuild,
    EventsAfter,
    CurrentClock,
    LoadHot,
);
