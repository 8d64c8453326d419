//! The facet that changes state and announces it, in one method. Only `process` and `link` hold it.

use bytes::Bytes;
use greenroom_model::*;

use crate::error::DataError;
use crate::journal::Journal;
use crate::ro::Ro;

/// Which stream a piece of log text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output (`o`).
    Stdout,
    /// Standard error (`e`).
    Stderr,
    /// What the machinery says (`h`).
    Header,
    /// A log without streams.
    Plain,
}

/// Changes state. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Rw {}

#[allow(unused_variables)]
impl Rw {
    /// The reading facet.
    pub fn ro(&self) -> &Ro {
        unimplemented!()
    }

    /// A new id, for an entity that is about to be written. No message, no database.
    ///
    /// # Errors
    /// Unavailable, when the ids reserved ahead are used up (under a burst, for as long as a commit takes).
    pub fn new_id<I: AllocatedId>(&self) -> Result<I, DataError> {
        unimplemented!()
    }

    /// The time, as new rows bear it.
    pub fn now(&self) -> Timestamp {
        unimplemented!()
    }

    /// Does all of `ops` or nothing, and answers when that is durable. Asks again by itself, under the same write id, when the
    /// outcome is unknown (a restart below) and, for a while, when the database is away.
    pub async fn write(&self, ops: Vec<Op>) -> Result<Committed, DataError> {
        unimplemented!()
    }

    /// Ordered writes that are not awaited one by one.
    pub fn journal(&self) -> Journal {
        unimplemented!()
    }

    /// Appends text (whole lines or parts of lines; valid UTF-8) to a log. Answers when there is room for more: await it before
    /// the next piece, so that memory stays bounded. The text is announced within a quarter of a second.
    pub async fn append_log(&self, log: LogId, stream: LogStream, text: Bytes) -> Result<(), DataError> {
        unimplemented!()
    }

    /// Ends a log: everything appended is durable, an unterminated last line gets its `\n`. Gives the number of lines, for
    /// [`Op::FinishLog`] (which the caller writes).
    pub async fn finish_log(&self, log: LogId) -> Result<i64, DataError> {
        unimplemented!()
    }
}
