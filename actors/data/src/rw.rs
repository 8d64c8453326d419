//! The facet that changes state and announces it, in one method. Only `process` and `link` hold it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use greenroom_db as db;
use greenroom_model::*;
use greenroom_runtime::{AskError, Runtime};
use tokio::time::{Instant, sleep};

use crate::actor::read;
use crate::error::DataError;
use crate::journal::Journal;
use crate::ro::Ro;

/// How long a write is asked for again while its outcome is unknown or the database is away.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// The first wait before asking again; it doubles up to [`SLOWEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(5);
const SLOWEST_RETRY: Duration = Duration::from_millis(500);
/// How often it is tried whether a database that took no writes takes them again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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

impl From<LogStream> for db::Stream {
    fn from(stream: LogStream) -> Self {
        match stream {
            LogStream::Stdout => db::Stream::Out,
            LogStream::Stderr => db::Stream::Err,
            LogStream::Header => db::Stream::Header,
            LogStream::Plain => db::Stream::Plain,
        }
    }
}

/// Changes state. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Rw {
    pub(crate) ro: Ro,
}

impl Rw {
    /// The reading facet.
    pub fn ro(&self) -> &Ro {
        &self.ro
    }

    /// A new id, for an entity that is about to be written. No message, no database.
    ///
    /// # Errors
    /// Unavailable, when the ids reserved ahead are used up (under a burst, for as long as a commit takes).
    pub fn new_id<I: AllocatedId>(&self) -> Result<I, DataError> {
        match self.ro.shared.ids.take(I::KIND) {
            Ok(id) => Ok(I::from(id)),
            Err(exhausted) => {
                // Nobody waits for it: whoever asks again finds more.
                let _ = self.ro.shared.writer.tell(db::ReserveIds { kind: I::KIND, count: 1_000 });
                Err(DataError::unavailable(exhausted))
            }
        }
    }

    /// The time, as new rows bear it.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.ro.shared.supervisor.runtime().now_micros())
    }

    /// Does all of `ops` or nothing, and answers when that is durable. Asks again by itself, under the same write id, when the
    /// outcome is unknown (a restart below) and, for a while, when the database is away or full. While it is known to be so, once is
    /// enough: whoever asks is told at once.
    pub async fn write(&self, ops: Vec<Op>) -> Result<Committed, DataError> {
        self.write_for(ops, WRITE_PATIENCE).await
    }

    /// As [`Rw::write`], asking again for so long.
    pub(crate) async fn write_for(&self, ops: Vec<Op>, patience: Duration) -> Result<Committed, DataError> {
        self.commit_for(&self.prepare(ops), patience).await
    }

    /// A write to be asked for by [`Rw::commit`], again and again under its one id.
    pub fn prepare(&self, ops: Vec<Op>) -> Write {
        new_write(&self.ro.shared.supervisor.runtime(), ops)
    }

    /// As [`Rw::write`]. Whoever asks again after an error must do so with the same write: that may have happened.
    pub async fn commit(&self, write: &Write) -> Result<Committed, DataError> {
        self.commit_for(write, WRITE_PATIENCE).await
    }

    async fn commit_for(&self, write: &Write, patience: Duration) -> Result<Committed, DataError> {
        let deadline = Instant::now() + patience;
        let mut wait = FIRST_RETRY;
        loop {
            let hopeless = !self.ro.shared.writable.load(Ordering::Relaxed);
            let why = match self.ro.shared.writer.ask(db::Commit(write.clone())).await {
                Ok(Ok(committed)) => {
                    self.ro.shared.writable.store(true, Ordering::Relaxed);
                    return Ok(committed);
                }
                Ok(Err(db::WriteError::Refused(refusal))) => return Err(refusal.into()),
                Ok(Err(db::WriteError::Fenced)) => return Err(DataError::Fenced),
                Ok(Err(db::WriteError::Unavailable(why))) if hopeless => {
                    return Err(DataError::unavailable(why));
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            if Instant::now() + wait >= deadline {
                self.watch_outage();
                return Err(DataError::unavailable(why));
            }
            sleep(wait).await;
            wait = (wait * 2).min(SLOWEST_RETRY);
        }
    }

    /// Notes that the database takes no writes, and tries until it does: an idle master must hear of the end, too.
    fn watch_outage(&self) {
        if !self.ro.shared.writable.swap(false, Ordering::Relaxed) {
            return; // one watches already
        }
        let shared = self.ro.shared.clone();
        tokio::spawn(async move {
            loop {
                sleep(LOOK_AGAIN).await;
                let probe = new_write(&shared.supervisor.runtime(), vec![Op::Heartbeat]);
                match shared.writer.ask(db::Commit(probe)).await {
                    Ok(Ok(_)) => shared.writable.store(true, Ordering::Relaxed),
                    Ok(Err(db::WriteError::Fenced)) | Err(AskError::Stopped) => return,
                    Ok(Err(_)) | Err(_) => {}
                }
                if shared.writable.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
    }

    /// Whether other masters may share the database.
    pub fn is_shared(&self) -> bool {
        self.ro.shared.store.is_shared()
    }

    /// How long a master is taken for alive after it last told that it lives.
    pub fn lease(&self) -> Duration {
        self.ro.shared.store.lease()
    }

    /// The other masters that count as active and whose lease is over, by the database's clock.
    ///
    /// # Errors
    /// If the database cannot say it now.
    pub async fn lapsed_masters(&self) -> Result<Vec<MasterId>, DataError> {
        Ok(read(&self.ro.shared.reader, db::LapsedMasters).await?.value)
    }

    /// Takes the place of a dead master from it ([`Op::TakeOver`]).
    ///
    /// # Errors
    /// [`Refusal::Held`] if it lives after all, or another master was faster.
    pub async fn take_over(&self, master: MasterId) -> Result<Committed, DataError> {
        let done = self.write(vec![Op::TakeOver { master }]).await?;
        self.ro.shared.store.metrics().takeovers.inc();
        Ok(done)
    }

    /// Ordered writes that are not awaited one by one.
    pub fn journal(&self) -> Journal {
        Journal::new(self.clone())
    }

    /// Appends text (whole lines or parts of lines; valid UTF-8) to a log. Answers when there is room for more: await it before
    /// the next piece, so that memory stays bounded. The text is announced within a quarter of a second.
    pub async fn append_log(&self, log: LogId, stream: LogStream, text: Bytes) -> Result<(), DataError> {
        let message = db::Append { log, stream: stream.into(), text };
        self.ro.shared.log_writer.ask(message).await?.map_err(|error| log_error(log, error))
    }

    /// Ends a log: everything appended is durable, an unterminated last line gets its `\n`. Gives the number of lines, for
    /// [`Op::FinishLog`] (which the caller writes).
    pub async fn finish_log(&self, log: LogId) -> Result<i64, DataError> {
        let ended = self.ro.shared.log_writer.ask(db::FinishLog { log }).await?;
        ended.map_err(|error| log_error(log, error))
    }
}

/// A write of its own random id, as of now.
pub(crate) fn new_write(runtime: &Runtime, ops: Vec<Op>) -> Write {
    let high = u128::from(runtime.dice().next_u64()) << 64;
    let id = WriteId(high | u128::from(runtime.dice().next_u64()));
    Write { id, at: Timestamp(runtime.now_micros()), ops }
}

/// A log that has ended takes no more text, however often it is asked.
fn log_error(log: LogId, error: db::LogError) -> DataError {
    match error {
        db::LogError::Finished => Refusal::Final(format!("log {log}")).into(),
        db::LogError::Unavailable(_) | db::LogError::Damaged(_) => DataError::unavailable(error),
    }
}
