//! The DbWriter: the one actor that changes the database.

use actix::{Actor, Context, Handler, ResponseFuture};
use greenroom_model::Committed;

use crate::messages::{Commit, EventSink, Prune, Pruned, ReserveIds, WriteError};
use crate::store::Store;

/// Commits writes, one transaction at a time, each with what queued during the last one.
pub struct DbWriter {
    _store: Store,
    _sink: EventSink,
}

impl DbWriter {
    /// A writer over `store` that hands the events of each commit to `sink`.
    pub fn new(store: Store, sink: EventSink) -> Self {
        Self { _store: store, _sink: sink }
    }
}

impl Actor for DbWriter {
    type Context = Context<Self>;
}

greenroom_runtime::supervised!(DbWriter, "db-writer");

impl Handler<Commit> for DbWriter {
    type Result = ResponseFuture<Result<Committed, WriteError>>;

    fn handle(&mut self, _msg: Commit, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(async { Err(WriteError::Unavailable("not built yet".into())) })
    }
}

impl Handler<ReserveIds> for DbWriter {
    type Result = ResponseFuture<Result<(), WriteError>>;

    fn handle(&mut self, _msg: ReserveIds, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(async { Err(WriteError::Unavailable("not built yet".into())) })
    }
}

impl Handler<Prune> for DbWriter {
    type Result = ResponseFuture<Result<Pruned, WriteError>>;

    fn handle(&mut self, _msg: Prune, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(async { Err(WriteError::Unavailable("not built yet".into())) })
    }
}
