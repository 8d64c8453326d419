//! Ordered writes that are not awaited one by one: steps, properties and texts of a running build.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use greenroom_model::{Committed, Op, Refusal};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::error::DataError;
use crate::rw::Rw;

/// How long a journal waits before it tries again what the database could not take.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Writes of one owner, in order. What is pushed while a write is under way goes with the next one, so a busy owner
/// costs one transaction at a time however much it says. Nothing is lost while the owner lives; when it dies, what was not
/// yet durable is gone with it, as if it had not been said.
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    rw: Rw,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// A task is writing.
    writing: bool,
}

/// Operations, and who waits for them.
struct Entry {
    ops: Vec<Op>,
    answer: Option<oneshot::Sender<Result<Committed, DataError>>>,
}

impl Journal {
    pub(crate) fn new(rw: Rw) -> Self {
        Self { inner: Arc::new(Inner { rw, queue: Mutex::default() }) }
    }

    /// Adds an operation; it will be written in order, soon. A refusal is logged and leaves the others alone.
    pub fn push(&self, op: Op) {
        self.enqueue(Entry { ops: vec![op], answer: None });
    }

    /// Adds operations that are durable, with all before them, when this answers. They happen together or not at all; a
    /// refusal concerns only them. While the database is away this waits.
    pub async fn write(&self, ops: Vec<Op>) -> Result<Committed, DataError> {
        let (answer, wait) = oneshot::channel();
        self.enqueue(Entry { ops, answer: Some(answer) });
        wait.await.unwrap_or_else(|_| Err(DataError::unavailable("the journal's writer ended")))
    }

    fn enqueue(&self, entry: Entry) {
        let mut queue = self.inner.queue();
        queue.entries.push_back(entry);
        if !std::mem::replace(&mut queue.writing, true) {
            // It holds no claim on the journal between two writes: a dropped journal ends it.
            tokio::spawn(write_all(Arc::downgrade(&self.inner)));
        }
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything queued, or says that the writer may end.
    fn take(&self) -> Vec<Entry> {
        let mut queue = self.queue();
        let entries: Vec<Entry> = queue.entries.drain(..).collect();
        queue.writing = !entries.is_empty();
        entries
    }
}

async fn write_all(journal: Weak<Inner>) {
    loop {
        let Some(inner) = journal.upgrade() else { return };
        let entries = inner.take();
        let rw = inner.rw.clone();
        drop(inner);
        if entries.is_empty() {
            return;
        }
        write_entries(&journal, &rw, entries).await;
    }
}

/// All in one write; when that is refused, each alone.
async fn write_entries(journal: &Weak<Inner>, rw: &Rw, entries: Vec<Entry>) {
    let all: Vec<Op> = entries.iter().flat_map(|e| e.ops.iter().cloned()).collect();
    match persist(journal, rw, all).await {
        Ok(committed) => {
            let mut outcomes = committed.outcomes.into_iter();
            for entry in entries {
                let own = outcomes.by_ref().take(entry.ops.len()).collect();
                answer(entry, Ok(Committed { outcomes: own, at: committed.at }));
            }
        }
        Err(DataError::Refused(refusal)) if entries.len() == 1 => {
            entries.into_iter().for_each(|e| answer(e, Err(refusal.clone().into())));
        }
        Err(DataError::Refused(_)) => {
            for entry in entries {
                let result = persist(journal, rw, entry.ops.clone()).await;
                answer(entry, result);
            }
        }
        Err(error) => entries.into_iter().for_each(|e| answer(e, Err(error.clone()))),
    }
}

fn answer(entry: Entry, result: Result<Committed, DataError>) {
    match entry.answer {
        // The owner may have stopped waiting; that is its own business.
        Some(answer) => drop(answer.send(result)),
        None => match result {
            Ok(_) => {}
            Err(DataError::Refused(Refusal::Final(what))) => {
                tracing::debug!(what, "a late note about something that has ended was left out");
            }
            Err(error) => tracing::warn!(error = %error, ops = ?entry.ops, "a write was refused"),
        },
    }
}

/// Writes, however long the database is away, as long as the journal lives.
async fn persist(journal: &Weak<Inner>, rw: &Rw, ops: Vec<Op>) -> Result<Committed, DataError> {
    let write = rw.prepare(ops);
    loop {
        match rw.commit(&write).await {
            Err(DataError::Unavailable { why, .. }) if journal.strong_count() > 0 => {
                tracing::warn!(why, "a write waits for the database");
                sleep(AGAIN_AFTER).await;
            }
            other => return other,
        }
    }
}
