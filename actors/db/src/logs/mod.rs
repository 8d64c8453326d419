//! Log text: the LogWriter and LogReader actors over a log store.

use actix::{Actor, Context, Handler, ResponseFuture};

use crate::messages::*;
use crate::store::Store;

/// Stores log text and announces it.
pub struct LogWriter {
    _store: Store,
    _announce: LogAnnouncer,
}

impl LogWriter {
    /// A writer over `store`; `announce` is called at most 4 times a second a log, after the text is stored.
    pub fn new(store: Store, announce: LogAnnouncer) -> Self {
        Self { _store: store, _announce: announce }
    }
}

impl Actor for LogWriter {
    type Context = Context<Self>;
}

greenroom_runtime::supervised!(LogWriter, "log-writer");

/// Reads log text.
pub struct LogReader {
    _store: Store,
}

impl LogReader {
    /// A reader over `store`.
    pub fn new(store: Store) -> Self {
        Self { _store: store }
    }
}

impl Actor for LogReader {
    type Context = Context<Self>;
}

greenroom_runtime::supervised!(LogReader, "log-reader");

macro_rules! handle {
    ($actor:ty: $($message:ty => $result:ty),*) => {$(
        impl Handler<$message> for $actor {
            type Result = ResponseFuture<Result<$result, LogError>>;

            fn handle(&mut self, _msg: $message, _ctx: &mut Self::Context) -> Self::Result {
                Box::pin(async { Err(LogError::Unavailable("not built yet".into())) })
            }
        }
    )*};
}

handle!(LogWriter: Append => (), FinishLog => i64, FlushLogs => ());
handle!(LogReader: ReadLines => LogLines);
