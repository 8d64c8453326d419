//! Schedulers that follow changes: single-branch (one timer) and any-branch (a timer per branch).
//!
//! Owner of: which changes have been taken. Its clock and what it has taken but not yet built are stored in the same
//! write as the buildsets that follow from them, so a crash neither skips a change nor builds it twice.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use greenroom_config::{ChangeScheduler as Settings, FilterInput};
use greenroom_data::DataError;
use greenroom_model::query::{Compare, Filter, Query};
use greenroom_model::write::{Duty, NewBuildset, SchedulerState, StampRef};
use greenroom_model::*;
use greenroom_runtime::{Birth, Supervised, TaskEnd, fail};
use serde_json::{Value, json};

use crate::claims::claim;
use crate::follow::{Events, FollowEnd, follow};
use crate::handles::Handles;
use crate::messages::{Act, Handled};
use crate::properties::source;
use crate::schedulers::judge::{Judgement, Unjudged, judge_all};
use crate::schedulers::pending::{Pending, Waiting};

/// Changes read at a time when the events are not kept any more.
const CATCH_UP: u64 = 200;
/// After so many changes that do not concern it, a scheduler stores its clock all the same.
const SKIPPED_STORED: u64 = 500;
/// So long after a change that did not concern it, it does so too: a restart with other settings must not look again.
const SKIPPED_STORED_WITHIN: Duration = Duration::from_secs(10);

/// How changes are grouped under timers.
pub trait Grouping: 'static + Unpin {
    /// The kind of actor.
    const KIND: &'static str;

    /// The timer of a change.
    fn timer(change: &Change) -> String;
}

/// One timer for all.
#[derive(Debug)]
pub struct OneTimer;

impl Grouping for OneTimer {
    const KIND: &'static str = "single-branch-scheduler";

    fn timer(_: &Change) -> String {
        String::new()
    }
}

/// A timer per codebase, project, repository and branch.
#[derive(Debug)]
pub struct TimerPerBranch;

impl Grouping for TimerPerBranch {
    const KIND: &'static str = "any-branch-scheduler";

    fn timer(change: &Change) -> String {
        json!([change.codebase, change.project, change.repository, change.branch]).to_string()
    }
}

/// Builds what passes its filter, under one timer.
pub type SingleBranch = ChangeScheduler<OneTimer>;
/// Builds what passes its filter, each branch under a timer of its own.
pub type AnyBranch = ChangeScheduler<TimerPerBranch>;

/// What a scheduler is, apart from its state.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub id: SchedulerId,
    pub name: String,
    pub builders: Vec<BuilderId>,
    pub config: Settings,
    /// It takes the place of one with other settings, which may have left a write under way.
    pub replaces: bool,
}

struct State {
    pending: Pending,
    clock: Clock,
    enabled: bool,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Loaded(TaskEnd<Result<State, DataError>>);

#[derive(Message)]
#[rtype(result = "()")]
struct FollowEnded(TaskEnd<FollowEnd>);

#[derive(Message)]
#[rtype(result = "()")]
struct StableTick;

#[derive(Message)]
#[rtype(result = "()")]
struct StoreTick;

/// A scheduler that follows changes.
pub struct ChangeScheduler<G: Grouping> {
    h: Handles,
    birth: Birth<Self>,
    identity: Arc<Identity>,
    state: Option<State>,
    timer: Option<SpawnHandle>,
    /// Set while changes were skipped and the clock after them is not stored.
    storing: Option<SpawnHandle>,
    /// A stop has begun: whatever is still looked at is stored at once.
    draining: bool,
    skipped: u64,
    taken: u64,
    buildsets: u64,
    /// How often the condition could not be evaluated in this birth, and the last time.
    condition_failures: u64,
    condition_failed: Option<(ChangeId, String)>,
    grouping: PhantomData<G>,
}

impl<G: Grouping> ChangeScheduler<G> {
    pub(crate) fn new(h: Handles, birth: Birth<Self>, identity: Arc<Identity>) -> Self {
        Self {
            h,
            birth,
            identity,
            state: None,
            timer: None,
            storing: None,
            draining: false,
            skipped: 0,
            taken: 0,
            buildsets: 0,
            condition_failures: 0,
            condition_failed: None,
            grouping: PhantomData,
        }
    }

    /// Whether a change is to be taken, as far as that is known without its condition.
    fn wants(&self, change: &Change) -> bool {
        if !self.state.as_ref().is_some_and(|state| state.enabled) {
            return false;
        }
        self.identity.config.filter.globs_match(&FilterInput {
            branch: change.branch.as_deref(),
            repository: &change.repository,
            project: &change.project,
            codebase: &change.codebase,
            category: change.category.as_deref(),
            files: &change.files,
        })
    }

    /// Finds out which changes are to be taken, then goes on with [`Self::take`]. Nothing else is handled meanwhile: what is
    /// looked at must be stored before what comes later.
    fn look_at(
        &mut self,
        changes: Vec<Arc<Change>>,
        clock: Clock,
        at_once: bool,
        ctx: &mut Context<Self>,
    ) -> Commit<Self> {
        let wanted: Vec<bool> = changes.iter().map(|it| self.wants(it)).collect();
        let condition = self.identity.config.filter.condition.clone();
        let Some(condition) = condition.filter(|_| wanted.contains(&true)) else {
            return self.take(&changes, &wanted, clock, at_once, ctx);
        };
        let asked = changes.iter().zip(&wanted).map(|(change, wanted)| wanted.then(|| Arc::clone(change)));
        let asked: Vec<_> = asked.collect();
        let judged = async move { judge_all(&condition, asked).await };
        Box::pin(judged.into_actor(self).then(move |judged, actor: &mut Self, ctx| {
            let wanted = actor.judged(&changes, judged);
            let taken = wanted.map(|wanted| actor.take(&changes, &wanted, clock, at_once, ctx));
            taken.unwrap_or_else(|error| {
                // born again, it looks at these changes anew
                fail(ctx, error);
                Box::pin(fut::ready(()))
            })
        }))
    }

    /// Which changes meet the condition. One for which it cannot be evaluated is left out, and that is said.
    fn judged(
        &mut self,
        changes: &[Arc<Change>],
        judged: Result<Vec<Judgement>, Unjudged>,
    ) -> Result<Vec<bool>, Unjudged> {
        let mut wanted = Vec::with_capacity(changes.len());
        for (change, judgement) in changes.iter().zip(judged?) {
            wanted.push(judgement == Judgement::Taken);
            if let Judgement::Failed(why) = judgement {
                tracing::warn!(
                    scheduler.name = %self.identity.name, change.id = change.id.0, %why,
                    "a change is left out: the condition of the filter cannot be evaluated",
                );
                self.condition_failures += 1;
                self.condition_failed = Some((change.id, why));
            }
        }
        Ok(wanted)
    }

    /// Takes the changes that are wanted; stores that, unless there are none and it is not to be done `at_once`.
    fn take(
        &mut self,
        changes: &[Arc<Change>],
        wanted: &[bool],
        clock: Clock,
        at_once: bool,
        ctx: &mut Context<Self>,
    ) -> Commit<Self> {
        let now = self.h.now();
        let (ready, pending, taken) = self.plan(changes, wanted, now);
        self.taken += taken;
        if at_once || taken > 0 || self.skipped >= SKIPPED_STORED || self.draining {
            return self.commit(ready, pending, clock);
        }
        if let Some(state) = &mut self.state {
            (state.pending, state.clock) = (pending, clock);
        }
        if self.skipped > 0 && self.storing.is_none() {
            self.storing = Some(ctx.notify_later(StoreTick, SKIPPED_STORED_WITHIN));
        }
        Box::pin(fut::ready(()))
    }

    /// What a batch of changes leads to: what is built now, and what waits.
    fn plan(
        &mut self,
        changes: &[Arc<Change>],
        wanted: &[bool],
        now: Timestamp,
    ) -> (Vec<Waiting>, Pending, u64) {
        let Some(state) = &self.state else { return (Vec::new(), Pending::default(), 0) };
        let mut pending = state.pending.clone();
        let (mut ready, mut taken) = (Vec::new(), 0);
        for (change, wanted) in changes.iter().zip(wanted) {
            pending.last_change = pending.last_change.max(Some(change.id));
            if !wanted {
                self.skipped += 1;
                continue;
            }
            taken += 1;
            match self.identity.config.tree_stable_timer {
                None => ready.push(Waiting::of(change)),
                Some(timer) => {
                    let micros = i64::try_from(timer.as_micros()).unwrap_or(i64::MAX);
                    pending.hold(G::timer(change), change, Timestamp(now.0.saturating_add(micros)));
                }
            }
        }
        (ready, pending, taken)
    }

    /// Stores `pending` and `clock` with the buildsets that `ready` becomes; then they are this birth's state.
    fn commit(&self, ready: Vec<Waiting>, pending: Pending, clock: Clock) -> Commit<Self> {
        let (h, identity) = (self.h.clone(), Arc::clone(&self.identity));
        let stored = (pending.clone(), clock.clone());
        let write = async move {
            let mut ops = Vec::with_capacity(ready.len() + 1);
            for waiting in &ready {
                ops.push(buildset(&h, &identity, waiting).await?);
            }
            let (pending, clock) = stored;
            let pending = serde_json::to_value(&pending).map_err(DataError::unavailable)?;
            let state = SchedulerState { clock: Some(clock), pending };
            let save = Op::SaveScheduler { scheduler: identity.id, state };
            ops.push(save.clone());
            match h.persist(ops).await {
                Err(DataError::Refused(refusal)) => {
                    // it would be refused for ever, and must not keep what comes later from being built
                    tracing::error!(scheduler.name = %identity.name, %refusal, "builds could not be asked for");
                    h.persist(vec![save]).await?;
                    Ok(0)
                }
                other => other.map(|_| ready.len()),
            }
        };
        let done = move |written: Result<usize, DataError>, actor: &mut Self, ctx: &mut Context<Self>| match (
            written,
            &mut actor.state,
        ) {
            (Ok(built), Some(state)) => {
                (state.pending, state.clock) = (pending, clock);
                actor.buildsets += u64::try_from(built).unwrap_or(0);
                actor.stored(ctx);
                actor.arm(ctx);
            }
            (Ok(_), None) => {}
            (Err(error), _) => fail(ctx, error),
        };
        Box::pin(write.into_actor(self).map(done))
    }

    /// The clock is stored: nothing skipped would be looked at again.
    fn stored(&mut self, ctx: &mut Context<Self>) {
        self.skipped = 0;
        if let Some(storing) = self.storing.take() {
            ctx.cancel_future(storing);
        }
    }

    /// Stores the clock, if changes were skipped since it was stored last.
    fn store_skipped(&mut self, ctx: &mut Context<Self>) {
        if let Some(state) = self.state.as_ref().filter(|_| self.skipped > 0) {
            let commit = self.commit(Vec::new(), state.pending.clone(), state.clock.clone());
            ctx.wait(commit);
        }
    }

    /// The operation that stores what this birth has in memory; none while it is still loading.
    fn save(&self) -> Result<Option<Op>, DataError> {
        let Some(state) = &self.state else { return Ok(None) };
        let pending = serde_json::to_value(&state.pending).map_err(DataError::unavailable)?;
        let state = SchedulerState { clock: Some(state.clock.clone()), pending };
        Ok(Some(Op::SaveScheduler { scheduler: self.identity.id, state }))
    }

    /// Sets the timer for what is due next.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let longest = self.identity.config.tree_stable_timer.map_or(Duration::ZERO, |it| it.get());
        let now = self.h.now();
        if let Some(state) = self.state.as_mut().filter(|state| state.enabled)
            && let Some(wait) = state.pending.next_due(now, longest)
        {
            // a little later than the clock says, so that it is due for certain
            self.timer = Some(ctx.notify_later(StableTick, wait + Duration::from_millis(1)));
        }
    }

    fn follow(&self, since: Clock) {
        let patterns = vec![Pattern::parse("changes/*/new")];
        let (ro, front) = (self.h.ro().clone(), self.birth.front());
        self.birth.tasks().spawn(follow(ro, front, patterns, since), FollowEnded);
    }
}

type Commit<A> = std::pin::Pin<Box<dyn ActorFuture<A, Output = ()>>>;

/// The operation that asks for builds of what waited.
async fn buildset(h: &Handles, identity: &Identity, waiting: &Waiting) -> Result<Op, DataError> {
    let mut requests = Vec::with_capacity(identity.builders.len());
    for builder in &identity.builders {
        requests.push((h.new_id().await?, *builder));
    }
    let mut properties = waiting.buildset_properties();
    properties.extend(configured(&identity.config.properties));
    let (id, reason) = (h.new_id().await?, identity.config.reason.clone());
    h.properties.put(id, &properties);
    Ok(Op::AddBuildset(Box::new(NewBuildset {
        id,
        requests,
        sourcestamps: waiting.newest.values().map(|(_, stamp)| StampRef::Existing(*stamp)).collect(),
        reason: reason
            .unwrap_or_else(|| format!("scheduler '{}' saw {}", identity.name, counted(waiting.changes))),
        external_id: None,
        properties,
        priority: 0,
        waited_for: false,
        scheduler: Some(identity.name.clone()),
        parent: None,
        rebuilt_build: None,
    })))
}

fn counted(changes: u64) -> String {
    if changes == 1 { "a change".to_owned() } else { format!("{changes} changes") }
}

/// The properties that a scheduler's settings give.
pub(crate) fn configured(properties: &BTreeMap<String, Value>) -> Properties {
    let given = properties.iter();
    given.map(|(name, value)| (name.clone(), Property(value.clone(), source::SCHEDULER.to_owned()))).collect()
}

/// The stored state; at its first birth a scheduler begins now.
async fn load(h: &Handles, identity: &Identity) -> Result<State, DataError> {
    let stored = h.ro().scheduler_state(identity.id).await?;
    let enabled = h.ro().hot().schedulers.get(&identity.id.0).is_none_or(|it| it.enabled);
    let pending = match stored.value.pending {
        Value::Null => Pending::default(),
        value => serde_json::from_value(value).unwrap_or_else(|error| {
            tracing::error!(scheduler.name = %identity.name, %error, "what waited cannot be read and is forgotten");
            Pending::default()
        }),
    };
    let clock = match stored.value.clock {
        Some(clock) => clock,
        None => {
            let state = SchedulerState { clock: Some(stored.clock.clone()), pending: Value::Null };
            h.persist(vec![Op::SaveScheduler { scheduler: identity.id, state }]).await?;
            stored.clock
        }
    };
    Ok(State { pending, clock, enabled })
}

/// The changes after the last one looked at, and the clock at which there were no more.
async fn missed(h: &Handles, last: Option<ChangeId>) -> Result<(Vec<Arc<Change>>, Clock), DataError> {
    let mut after = last.map_or(0, |it| it.0);
    let mut changes = Vec::new();
    loop {
        let newer = Filter { field: "changeid", compare: Compare::Gt, values: vec![after.into()] };
        let query =
            Query { filters: vec![newer], ..Query::default() }.order_by("changeid", false).limit(CATCH_UP);
        let page = h.ro().list::<Change>(query).await?;
        let items = page.value.items;
        let full = u64::try_from(items.len()).unwrap_or(0) >= CATCH_UP;
        after = items.iter().map(|it| it.id.0).max().unwrap_or(after);
        changes.extend(items.into_iter().map(|it| it.entity));
        if !full {
            return Ok((changes, page.clock));
        }
    }
}

impl<G: Grouping> Supervised for ChangeScheduler<G> {
    const KIND: &'static str = G::KIND;

    fn observe(&self) -> Value {
        let Some(state) = &self.state else { return json!({ "loading": true }) };
        let waiting = state.pending.waiting.values();
        let stable_at: Vec<i64> = waiting.take(20).map(|it| it.stable_at.seconds()).collect();
        let mut seen = json!({
            "enabled": state.enabled, "changes_taken": self.taken, "buildsets": self.buildsets,
            "trees_waiting": state.pending.waiting.len(), "stable_at": stable_at,
        });
        if let Some((change, why)) = &self.condition_failed {
            seen["condition_failures"] = self.condition_failures.into();
            seen["condition_failed"] = format!("change {change}: {why}").into();
        }
        seen
    }

    /// The next start may have another filter: what this one refused is not to be looked at again.
    fn drain(&mut self, ctx: &mut Context<Self>) {
        self.draining = true;
        self.store_skipped(ctx);
    }
}

impl<G: Grouping> Actor for ChangeScheduler<G> {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let (h, identity) = (self.h.clone(), Arc::clone(&self.identity));
        let again = identity.replaces || self.birth.number() > 1;
        let load = async move {
            claim(&h, &Duty::Scheduler(identity.id), &identity.name).await?;
            if again {
                h.barrier().await?;
            }
            load(&h, &identity).await
        };
        self.birth.tasks().spawn(load, Loaded);
    }
}

impl<G: Grouping> Handler<Loaded> for ChangeScheduler<G> {
    type Result = ();

    fn handle(&mut self, Loaded(end): Loaded, ctx: &mut Context<Self>) {
        let state = match end {
            TaskEnd::Done(Ok(state)) => state,
            TaskEnd::Done(Err(error)) => return fail(ctx, error),
            TaskEnd::Panicked(why) => return fail(ctx, why),
        };
        let since = state.clock.clone();
        self.state = Some(state);
        self.arm(ctx);
        self.follow(since);
    }
}

impl<G: Grouping> Handler<FollowEnded> for ChangeScheduler<G> {
    type Result = ();

    fn handle(&mut self, FollowEnded(end): FollowEnded, ctx: &mut Context<Self>) {
        match end {
            TaskEnd::Done(FollowEnd::OwnerStopped) => {}
            TaskEnd::Done(FollowEnd::Gone) => {
                tracing::warn!(scheduler.name = %self.identity.name, "events were missed; the changes are listed instead");
                let (h, last) = (self.h.clone(), self.state.as_ref().and_then(|it| it.pending.last_change));
                let listed = async move { missed(&h, last).await };
                let taken = |listed, actor: &mut Self, ctx: &mut Context<Self>| match listed {
                    Ok((changes, clock)) => actor.catch_up(changes, clock, ctx),
                    Err(error) => fail(ctx, error),
                };
                ctx.wait(listed.into_actor(self).map(taken));
            }
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

impl<G: Grouping> ChangeScheduler<G> {
    fn catch_up(&mut self, changes: Vec<Arc<Change>>, clock: Clock, ctx: &mut Context<Self>) {
        // one that has never looked at a change begins now
        let known = self.state.as_ref().is_some_and(|it| it.pending.last_change.is_some());
        let since = clock.clone();
        let taken = self.look_at(if known { changes } else { Vec::new() }, clock, true, ctx);
        ctx.wait(taken.map(move |(), actor: &mut Self, _| actor.follow(since)));
    }
}

impl<G: Grouping> Handler<Events> for ChangeScheduler<G> {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, batch: Events, ctx: &mut Context<Self>) -> Self::Result {
        let changes: Vec<Arc<Change>> = batch
            .events
            .iter()
            .filter_map(|it| match &it.frame.event.what.record {
                Record::Change(change) => Some(Arc::clone(change)),
                _ => None,
            })
            .collect();
        AtomicResponse::new(self.look_at(changes, batch.clock, false, ctx))
    }
}

impl<G: Grouping> Handler<StableTick> for ChangeScheduler<G> {
    type Result = ();

    fn handle(&mut self, _: StableTick, ctx: &mut Context<Self>) {
        self.timer = None;
        let now = self.h.now();
        let Some(state) = self.state.as_ref().filter(|state| state.enabled) else { return };
        let (mut pending, clock) = (state.pending.clone(), state.clock.clone());
        let ready = pending.due(now);
        if ready.is_empty() {
            self.arm(ctx);
        } else {
            let commit = self.commit(ready, pending, clock);
            ctx.wait(commit);
        }
    }
}

impl<G: Grouping> Handler<StoreTick> for ChangeScheduler<G> {
    type Result = ();

    fn handle(&mut self, _: StoreTick, ctx: &mut Context<Self>) {
        self.storing = None;
        self.store_skipped(ctx);
    }
}

impl<G: Grouping> Handler<Act> for ChangeScheduler<G> {
    type Result = AtomicResponse<Self, Result<Handled, DataError>>;

    /// Switched off it takes no changes, and holds back what it has taken; switched on it goes on with that. The clock is
    /// stored with the switch, so that each change is judged by what was so when it came, also after a restart.
    fn handle(&mut self, Act(act): Act, _: &mut Context<Self>) -> Self::Result {
        let (h, scheduler, enabled) =
            (self.h.clone(), self.identity.id, act.params.get("enabled").and_then(Value::as_bool));
        let save = self.save();
        let write = async move { enable(&h, scheduler, &act, enabled, save?).await };
        AtomicResponse::new(Box::pin(write.into_actor(self).map(move |handled, actor: &mut Self, ctx| {
            if let (Ok(_), Some(enabled), Some(state)) = (&handled, enabled, &mut actor.state) {
                state.enabled = enabled;
                actor.stored(ctx);
                actor.arm(ctx);
            }
            handled
        })))
    }
}

/// Switches a scheduler on or off, stores its state in the same write, and answers.
pub(crate) async fn enable(
    h: &Handles,
    scheduler: SchedulerId,
    act: &ControlAct,
    enabled: Option<bool>,
    save: Option<Op>,
) -> Result<Handled, DataError> {
    let mut ops = Vec::with_capacity(3);
    let answer = match (act.action.as_str(), enabled) {
        ("enable", Some(enabled)) => {
            ops.extend(save);
            ops.push(Op::EnableScheduler { scheduler, enabled });
            ControlAnswer::Done(Value::Null)
        }
        ("enable", None) => ControlAnswer::Failed("`enabled` must be true or false".to_owned()),
        (other, _) => ControlAnswer::Failed(format!("action: {other} is not supported")),
    };
    ops.push(Op::AnswerControl { act: act.id, answer });
    h.rw.write(ops).await?;
    Ok(Handled::Answered)
}
