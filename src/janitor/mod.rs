//! The janitor: keeps the history as long as `[retention]` says.
//!
//! It wakes on a schedule, walks through the history by reads, and asks the writer for small removals one after the other. It keeps
//! nothing: a birth in the middle of a look begins the next look later.

mod policy;
mod run;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use greenroom_config::Retention as Section;
use greenroom_data::DataError;
use greenroom_data::retention::{Removed, Retention};
use greenroom_model::ControlAnswer;
use greenroom_runtime::{AskError, Birth, Front, Supervised, TaskEnd};
use serde_json::{Value, json};

use run::Report;

/// The first look comes so long after the start at the latest: a master that starts has other things to do.
const FIRST_LOOK: Duration = Duration::from_secs(300);
/// How often it is looked whether the pause between two looks is over: it may be changed by a reload.
const LOOK_AT_THE_CLOCK: Duration = Duration::from_secs(10);
/// How long a dry run may take.
const DRY_RUN_WITHIN: Duration = Duration::from_secs(600);

/// What is in force of `[retention]`.
pub type InForce = Arc<dyn Fn() -> Section + Send + Sync>;

/// What outlives a birth.
#[derive(Default)]
struct Counts {
    removed: Removed,
    texts: u64,
    looks: u64,
    failures: u64,
    last_look_at: Option<i64>,
}

/// The counts, over births.
#[derive(Clone, Default)]
pub struct SharedCounts(Arc<Mutex<Counts>>);

impl SharedCounts {
    fn with<T>(&self, f: impl FnOnce(&mut Counts) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, more: &Removed) {
        self.with(|it| {
            let sum = &mut it.removed;
            sum.builds += more.builds;
            sum.builds_without_logs += more.builds_without_logs;
            sum.steps += more.steps;
            sum.logs += more.logs;
            sum.requests += more.requests;
            sum.buildsets += more.buildsets;
            sum.changes += more.changes;
            sum.sourcestamps += more.sourcestamps;
            sum.acts += more.acts;
        });
    }
}

/// Asks for a look now. Answers whether one begins; false: one is under way.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "bool")]
pub struct LookNow;

/// Asks what would go.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Report, DataError>")]
pub struct WouldGo;

#[derive(Message)]
#[rtype(result = "()")]
struct Tick;

#[derive(Message)]
#[rtype(result = "()")]
struct Looked(TaskEnd<Result<Report, DataError>>);

/// The janitor.
pub struct Janitor {
    birth: Birth<Self>,
    data: Retention,
    in_force: InForce,
    counts: SharedCounts,
    looking: bool,
    next: tokio::time::Instant,
}

impl Janitor {
    /// A birth of it.
    pub fn new(birth: &Birth<Self>, data: Retention, in_force: InForce, counts: SharedCounts) -> Self {
        let next = tokio::time::Instant::now() + FIRST_LOOK.min(in_force().every.get());
        Self { birth: birth.clone(), data, in_force, counts, looking: false, next }
    }

    fn look(&mut self) -> bool {
        if self.looking {
            return false;
        }
        self.looking = true;
        let (data, section, counts) = (self.data.clone(), (self.in_force)(), self.counts.clone());
        let look = async move {
            let report = run::run(&data, &section, false, &|removed| counts.add(removed)).await?;
            let texts = run::sweep(&data).await?;
            counts.with(|it| it.texts += texts);
            Ok(report)
        };
        self.birth.tasks().spawn(look, Looked);
        true
    }
}

impl Supervised for Janitor {
    const KIND: &'static str = "janitor";

    fn observe(&self) -> Value {
        self.counts.with(|it| {
            json!({
                "looking": self.looking, "looks": it.looks, "failures": it.failures,
                "last_look_at": it.last_look_at.map(|at| at.div_euclid(1_000_000)),
                "builds_deleted": it.removed.builds, "logs_deleted": it.removed.logs,
                "builds_without_logs": it.removed.builds_without_logs, "steps_deleted": it.removed.steps,
                "requests_deleted": it.removed.requests, "buildsets_deleted": it.removed.buildsets,
                "changes_deleted": it.removed.changes, "sourcestamps_deleted": it.removed.sourcestamps,
                "texts_deleted": it.texts, "audit_entries_deleted": it.removed.acts,
            })
        })
    }
}

impl Actor for Janitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(LOOK_AT_THE_CLOCK, |_, ctx| ctx.notify(Tick));
    }
}

impl Handler<Tick> for Janitor {
    type Result = ();

    fn handle(&mut self, _: Tick, _: &mut Context<Self>) {
        let now = tokio::time::Instant::now();
        // a shorter pause that was put in force meanwhile holds at once
        self.next = self.next.min(now + (self.in_force)().every.get());
        if now >= self.next {
            self.look();
        }
    }
}

impl Handler<Looked> for Janitor {
    type Result = ();

    fn handle(&mut self, Looked(end): Looked, _: &mut Context<Self>) {
        self.looking = false;
        self.next = tokio::time::Instant::now() + (self.in_force)().every.get();
        let now = self.data.now().0;
        self.counts.with(|it| {
            it.looks += 1;
            it.last_look_at = Some(now);
        });
        let why = match end {
            TaskEnd::Done(Ok(report)) => {
                let builds: u64 = report.builders.values().map(|it| it.builds).sum();
                let logs: u64 = report.builders.values().map(|it| it.logs_of_builds).sum();
                if report != Report::default() {
                    tracing::info!(
                        retention.builds = builds,
                        retention.logs_of_builds = logs,
                        retention.changes = report.changes,
                        "old history was removed"
                    );
                }
                return;
            }
            TaskEnd::Done(Err(error)) => error.to_string(),
            TaskEnd::Panicked(why) => why.to_string(),
        };
        self.counts.with(|it| it.failures += 1);
        tracing::warn!(error = %why, "old history could not be removed; the next look goes on");
    }
}

impl Handler<LookNow> for Janitor {
    type Result = bool;

    fn handle(&mut self, _: LookNow, _: &mut Context<Self>) -> bool {
        self.look()
    }
}

impl Handler<WouldGo> for Janitor {
    type Result = ResponseFuture<Result<Report, DataError>>;

    fn handle(&mut self, _: WouldGo, _: &mut Context<Self>) -> Self::Result {
        let (data, section) = (self.data.clone(), (self.in_force)());
        Box::pin(async move { run::run(&data, &section, true, &|_| ()).await })
    }
}

/// Carries out the act `gc`. None when the janitor is away: it is asked again.
pub async fn act(janitor: &Front<Janitor>, dry_run: bool) -> Option<ControlAnswer> {
    let answer = if dry_run {
        janitor.ask_within(DRY_RUN_WITHIN, WouldGo).await.map(|report| match report {
            Ok(report) => ControlAnswer::Done(json!({ "dry_run": true, "goes": report.json() })),
            Err(error) => ControlAnswer::Failed(error.to_string()),
        })
    } else {
        let begun = janitor.ask(LookNow).await;
        begun.map(|begun| ControlAnswer::Done(json!({ "dry_run": false, "begun": begun })))
    };
    match answer {
        Ok(answer) => Some(answer),
        Err(AskError::Stopped) => Some(ControlAnswer::Failed("the master is stopping".to_owned())),
        Err(error) => {
            tracing::warn!(%error, "the janitor is asked again");
            None
        }
    }
}
