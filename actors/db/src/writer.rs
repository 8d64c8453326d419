//! The DbWriter: the one actor that changes the database.
//!
//! It takes whatever queued during the last commit into the next one and never waits for company. What it knows of the
//! database it can read again: a restart loses nothing.

use std::collections::VecDeque;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use greenroom_model::{Committed, Timestamp, Write};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::core::Core;
use crate::messages::{Commit, EventSink, Prune, Pruned, Remove, Removed, ReserveIds, WriteError};
use crate::store::Store;

/// The most operations of one transaction.
const GROUP: usize = 1000;
/// The most writes that wait; more are refused.
const QUEUE: usize = 10_000;
/// Events younger than this are kept, in microseconds; remembered write ids, too.
const KEEP_MICROS: i64 = 3_600_000_000;
/// So many events are kept however old.
const KEEP_EVENTS: i64 = 1_000_000;
/// How often the DbWriter prunes by itself, in microseconds.
const PRUNE_EVERY_MICROS: i64 = 60_000_000;

type Reply<T> = oneshot::Sender<Result<T, WriteError>>;

/// What is done between commits, a step at a time.
enum Chore {
    /// One of each kind waits at most.
    Reserve(ReserveIds, Vec<Reply<()>>),
    Prune {
        what: Prune,
        so_far: Pruned,
        reply: Option<Reply<Pruned>>,
    },
    Remove(Remove, Reply<Removed>),
}

/// Commits writes, one transaction at a time, each with what queued during the last one.
pub struct DbWriter {
    /// Away while it commits.
    core: Option<Core>,
    queue: VecDeque<(Write, Reply<Committed>)>,
    chores: VecDeque<Chore>,
    pruned_at: Timestamp,
    /// For reports.
    commits: u64,
    events: u64,
    largest: usize,
}

impl DbWriter {
    /// A writer over `store` that hands the events of each commit to `sink`.
    pub fn new(store: Store, sink: EventSink) -> Self {
        Self {
            core: Some(Core::new(store, sink)),
            queue: VecDeque::new(),
            chores: VecDeque::new(),
            pruned_at: Timestamp(0),
            commits: 0,
            events: 0,
            largest: 0,
        }
    }

    /// Begins the next transaction, if none runs and something waits.
    fn kick(&mut self, ctx: &mut Context<Self>) {
        if self.queue.is_empty() && self.chores.is_empty() {
            return;
        }
        let Some(mut core) = self.core.take() else { return };
        let (writes, replies) = self.next_group();
        let chore = self.chores.pop_front();
        let work = async move {
            if !writes.is_empty() {
                let began = Instant::now();
                let answers = core.run(&writes).await;
                let metrics = core.metrics();
                metrics.commit.observe(began.elapsed().as_secs_f64());
                metrics.group.observe(writes.len() as f64);
                for (reply, answer) in replies.into_iter().zip(answers) {
                    reply.send(answer).ok(); // the asker may have given up
                }
            }
            let rest = match chore {
                Some(chore) => step(&mut core, chore).await,
                None => None,
            };
            (core, rest)
        };
        ctx.spawn(work.into_actor(self).map(|(core, rest), writer, ctx| {
            (writer.commits, writer.events) = (core.commits, core.events);
            writer.chores.extend(rest);
            writer.plan_pruning(core.now);
            writer.core = Some(core);
            writer.kick(ctx);
        }));
    }

    fn next_group(&mut self) -> (Vec<Write>, Vec<Reply<Committed>>) {
        let (mut writes, mut replies, mut ops) = (Vec::new(), Vec::new(), 0);
        while let Some((write, _)) = self.queue.front() {
            ops += write.ops.len().max(1);
            if ops > GROUP && !writes.is_empty() {
                break;
            }
            if let Some((write, reply)) = self.queue.pop_front() {
                writes.push(write);
                replies.push(reply);
            }
        }
        self.largest = self.largest.max(writes.len());
        (writes, replies)
    }

    fn plan_pruning(&mut self, now: Timestamp) {
        let busy = self.chores.iter().any(|c| matches!(c, Chore::Prune { .. }));
        if busy || now.micros_since(self.pruned_at) < PRUNE_EVERY_MICROS {
            return;
        }
        self.pruned_at = now;
        let what = Prune { older_than: Timestamp(now.0.saturating_sub(KEEP_MICROS)), keep: KEEP_EVENTS };
        self.chores.push_back(Chore::Prune { what, so_far: Pruned::default(), reply: None });
    }
}

/// One step of a chore; what is left of it comes back.
async fn step(core: &mut Core, chore: Chore) -> Option<Chore> {
    match chore {
        Chore::Reserve(what, replies) => {
            let answer = core.reserve(what.kind, i64::from(what.count)).await;
            for reply in replies {
                reply.send(answer.clone()).ok();
            }
            None
        }
        Chore::Remove(what, reply) => {
            reply.send(core.remove_step(&what).await).ok();
            None
        }
        Chore::Prune { what, mut so_far, reply } => {
            let answer = match core.prune_step(what.older_than, what.keep).await {
                Ok(Pruned { events: 0, writes: 0, floor }) => Ok(Pruned { floor, ..so_far }),
                Ok(more) => {
                    so_far.events += more.events;
                    so_far.writes += more.writes;
                    return Some(Chore::Prune { what, so_far, reply });
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &answer {
                tracing::warn!(db.error = %error, "failed to prune old events");
            }
            if let Some(reply) = reply {
                reply.send(answer).ok();
            }
            None
        }
    }
}

impl Actor for DbWriter {
    type Context = Context<Self>;
}

impl greenroom_runtime::Supervised for DbWriter {
    const KIND: &'static str = "db-writer";

    fn observe(&self) -> serde_json::Value {
        json!({
            "queued": self.queue.len(), "commits": self.commits, "events": self.events, "largest-group": self.largest,
        })
    }
}

/// The answer of a write whose actor ended meanwhile: nobody knows.
async fn wait<T>(answer: oneshot::Receiver<Result<T, WriteError>>) -> Result<T, WriteError> {
    answer.await.unwrap_or_else(|_| Err(WriteError::Unknown("the writer ended".into())))
}

impl Handler<Commit> for DbWriter {
    type Result = ResponseFuture<Result<Committed, WriteError>>;

    fn handle(&mut self, Commit(write): Commit, ctx: &mut Self::Context) -> Self::Result {
        if self.queue.len() >= QUEUE {
            return Box::pin(async { Err(WriteError::Unavailable("too many writes wait".into())) });
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push_back((write, reply));
        self.kick(ctx);
        Box::pin(wait(answer))
    }
}

impl Handler<ReserveIds> for DbWriter {
    type Result = ResponseFuture<Result<(), WriteError>>;

    fn handle(&mut self, msg: ReserveIds, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        let queued = self.chores.iter_mut().find_map(|chore| match chore {
            Chore::Reserve(what, replies) if what.kind == msg.kind => Some((what, replies)),
            _ => None,
        });
        match queued {
            Some((what, replies)) => {
                what.count = what.count.max(msg.count);
                replies.push(reply);
            }
            None => self.chores.push_back(Chore::Reserve(msg, vec![reply])),
        }
        self.kick(ctx);
        Box::pin(wait(answer))
    }
}

impl Handler<Prune> for DbWriter {
    type Result = ResponseFuture<Result<Pruned, WriteError>>;

    fn handle(&mut self, what: Prune, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.chores.push_back(Chore::Prune { what, so_far: Pruned::default(), reply: Some(reply) });
        self.kick(ctx);
        Box::pin(wait(answer))
    }
}

impl Handler<Remove> for DbWriter {
    type Result = ResponseFuture<Result<Removed, WriteError>>;

    fn handle(&mut self, what: Remove, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.chores.push_back(Chore::Remove(what, reply));
        self.kick(ctx);
        Box::pin(wait(answer))
    }
}
