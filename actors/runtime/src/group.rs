//! Rounds: members that stop in the reverse order of their starting, and start in order.
//!
//! A round is how a supervisor restarts more than the one child that ended: what a strategy says of a group, or
//! a whole supervisor below it that has failed. The members concerned are parked one after the other, the last
//! started first: each ends in order within its grace, and what was queued at it is answered as *restarted*. After
//! the backoff they are born again one after the other, each when the one before runs. A failure meanwhile joins the
//! round, which begins again with all that it has parked. There is one round at a time, in a task of its own.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use greenroom_model::restart::Strategy;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::front::later;
use crate::lock;
use crate::registry::Entry;
use crate::supervisor::{Book, CUT_OFF_SLACK, Member, StopOrder, Supervisor};
use crate::vital::{Order, State};

/// A member that does not run after so long holds the later ones up no more.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// Members that have failed and wait for a round.
#[derive(Debug)]
pub(crate) struct Round {
    failed: BTreeSet<u64>,
    /// The end of the backoff.
    at: Instant,
    why: Arc<str>,
}

/// What a round does.
struct Plan {
    epoch: u64,
    members: Vec<Member>,
    at: Instant,
    why: Arc<str>,
}

type Doing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Supervisor {
    /// A member has failed and has been granted a restart: from the instant on it runs again, with whom the strategy names.
    pub(crate) fn begin_round(&self, failed: u64, at: Instant, why: &str) {
        let idle = {
            let mut book = lock(&self.0.book);
            if book.phase != State::Running {
                return;
            }
            let round =
                book.round.get_or_insert_with(|| Round { failed: BTreeSet::new(), at, why: Arc::from(why) });
            round.failed.insert(failed);
            round.at = round.at.max(at);
            book.epoch += 1;
            !std::mem::replace(&mut book.in_round, true)
        };
        self.0.changed.notify_waiters();
        if idle {
            let this = self.clone();
            // if the arbiter is gone, so are the children
            self.0.arbiter.spawn(async move { this.rounds().await });
        }
    }

    /// What goes on in this supervisor is over: it stops, or its parent takes its members over.
    pub(crate) fn end_rounds(&self, book: &mut Book) {
        book.epoch += 1;
        book.round = None;
        self.0.changed.notify_waiters();
    }

    async fn rounds(&self) {
        let mut parked = BTreeSet::new();
        while let Some(plan) = self.next_round(&mut parked) {
            let done = tokio::select! {
                () = self.round(&plan) => true,
                () = self.moved_on(plan.epoch) => false,
            };
            if done {
                parked.clear();
            }
        }
    }

    fn next_round(&self, parked: &mut BTreeSet<u64>) -> Option<Plan> {
        let strategy = self.strategy();
        let mut book = lock(&self.0.book);
        let round = book.round.take().filter(|_| book.phase == State::Running);
        let Some(round) = round else {
            book.in_round = false;
            return None;
        };
        parked.extend(concerned(&book, strategy, &round.failed));
        let members = parked.iter().filter_map(|id| book.members.get(id).cloned()).collect();
        Some(Plan { epoch: book.epoch, members, at: round.at, why: round.why })
    }

    async fn round(&self, plan: &Plan) {
        let names: Vec<_> = plan.members.iter().map(Member::name).collect();
        tracing::info!(supervisor.name = %self.name(), members = ?names, why = %plan.why, "restarting in order");
        for member in plan.members.iter().rev() {
            self.park(member, &plan.why).await;
        }
        let until = self.micros_at(plan.at);
        for member in &plan.members {
            if let Member::Actor(entry) = member {
                entry.vital().parked_until(until);
            }
        }
        sleep_until(plan.at).await;
        for member in &plan.members {
            start(member).await;
        }
    }

    /// Returns when a later failure, a stop or the parent has put an end to the round of this epoch.
    async fn moved_on(&self, epoch: u64) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if lock(&self.0.book).epoch != epoch {
                return;
            }
            changed.await;
        }
    }

    fn park<'a>(&'a self, member: &'a Member, why: &'a Arc<str>) -> Doing<'a> {
        match member {
            Member::Actor(entry) => Box::pin(async move {
                let until = self.ask_to_park(entry.as_ref(), why);
                // one whose arbiter is held ends when that is free again: the next order says so
                let _ = timeout_at(until + CUT_OFF_SLACK, entry.vital().wait_parked()).await;
            }),
            Member::Supervisor(child) => Box::pin(child.park_all(why)),
        }
    }

    fn ask_to_park(&self, entry: &dyn Entry, why: &Arc<str>) -> Instant {
        let vital = entry.vital();
        let until = later(self.policy_of(vital).grace.duration());
        lock(&vital.life).restarts.clear();
        vital.command(Order::Park { until, why: Arc::clone(why) });
        until
    }

    async fn park_all(&self, why: &Arc<str>) {
        let members: Vec<Member> = {
            let mut book = lock(&self.0.book);
            self.end_rounds(&mut book);
            book.restarts.clear();
            book.parked = true;
            book.members.values().rev().cloned().collect()
        };
        if self.0.spec.stop_order == StopOrder::Together {
            for member in &members {
                if let Member::Actor(entry) = member {
                    self.ask_to_park(entry.as_ref(), why);
                }
            }
        }
        for member in &members {
            self.park(member, why).await;
        }
    }

    async fn start_all(&self) {
        let (epoch, members) = {
            let mut book = lock(&self.0.book);
            book.births += 1;
            book.begun = Instant::now();
            book.parked = false;
            book.until = None;
            (book.epoch, book.members.values().cloned().collect::<Vec<Member>>())
        };
        for member in &members {
            // a round that has begun meanwhile starts the rest
            if lock(&self.0.book).epoch != epoch {
                return;
            }
            start(member).await;
        }
    }
}

/// Whom a strategy restarts when these have failed.
fn concerned(book: &Book, strategy: Strategy, failed: &BTreeSet<u64>) -> Vec<u64> {
    let all = book.members.keys().copied();
    match (strategy, failed.first()) {
        (Strategy::OneForAll, _) => all.collect(),
        (Strategy::RestForOne, Some(first)) => all.filter(|id| id >= first).collect(),
        _ => failed.iter().copied().collect(),
    }
}

fn start(member: &Member) -> Doing<'_> {
    match member {
        Member::Actor(entry) => Box::pin(async move {
            let vital = entry.vital();
            vital.command(Order::Reborn(Instant::now()));
            let up = vital
                .wait_for(|state| state == State::Running || state == State::Stopping || state.is_final());
            if timeout(START_PATIENCE, up).await.is_err() {
                tracing::warn!(actor.name = %vital.name, "it does not run yet; the next in order is started all the same");
            }
        }),
        Member::Supervisor(child) => Box::pin(child.start_all()),
    }
}
