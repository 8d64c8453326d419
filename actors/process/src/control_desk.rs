//! The control desk: hands what users ask for to the actor that owns the target.
//!
//! Acts are rows; the owner's effect and the answer are one write, so an act whose handling died half-way is simply
//! handed over again: either nothing of it has happened, or it is answered. What has no owner any more is answered here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwap;
use greenroom_data::DataError;
use greenroom_model::*;
use greenroom_runtime::{AskError, Birth, Front, Supervised, TaskEnd, fail};
use serde_json::{Value, json};

use crate::builders::BuilderActor;
use crate::builders::builder::{cancel, reason};
use crate::follow::{Events, FollowEnd, follow};
use crate::handles::Handles;
use crate::messages::{Act, Handled, StopBuild};
use crate::schedulers::SchedulerFront;

/// Acts handled at the same time; more wait as rows.
const AT_ONCE: usize = 256;
/// How often one act is tried before it is left for the next look.
const TRIES: u32 = 40;
/// After so many tries in a row that found nobody who runs a scheduler, the act is refused: somebody may be about to.
const UNOWNED_TRIES: u32 = 30;
/// Pause between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// How often acts that nobody answered are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Who owns what, as the configuration in force has it.
#[derive(Default)]
pub(crate) struct Owners {
    pub builders: HashMap<BuilderId, Front<BuilderActor>>,
    pub schedulers: HashMap<SchedulerId, SchedulerFront>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Loaded(TaskEnd<Result<Clock, DataError>>);

#[derive(Message)]
#[rtype(result = "()")]
struct FollowEnded(TaskEnd<FollowEnd>);

#[derive(Message)]
#[rtype(result = "()")]
struct ActEnded(ControlId, TaskEnd<()>);

#[derive(Message)]
#[rtype(result = "()")]
struct LookTick;

/// The control desk.
pub struct ControlDesk {
    h: Handles,
    birth: Birth<Self>,
    owners: Arc<ArcSwap<Owners>>,
    doing: HashSet<ControlId>,
    handled: u64,
}

impl ControlDesk {
    pub(crate) fn new(h: Handles, birth: Birth<Self>, owners: Arc<ArcSwap<Owners>>) -> Self {
        Self { h, birth, owners, doing: HashSet::new(), handled: 0 }
    }

    fn take(&mut self, act: &Arc<ControlAct>) {
        if self.doing.len() >= AT_ONCE || !self.doing.insert(act.id) {
            return;
        }
        self.handled += 1;
        let (h, owners, id, act) = (self.h.clone(), self.owners.clone(), act.id, Arc::clone(act));
        self.birth.tasks().spawn(see_to(h, owners, act), move |end| ActEnded(id, end));
    }

    /// Whatever waits for an answer.
    fn look(&mut self) {
        let hot = self.h.ro().hot();
        for act in hot.controls.values() {
            self.take(act);
        }
    }
}

impl Supervised for ControlDesk {
    const KIND: &'static str = "control-desk";

    fn observe(&self) -> Value {
        json!({ "acts_under_way": self.doing.len(), "acts_taken": self.handled })
    }
}

impl Actor for ControlDesk {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (h, again) = (self.h.clone(), self.birth.number() > 1);
        let load = async move {
            if again {
                h.barrier().await?;
            }
            Ok(h.ro().hot().clock.clone())
        };
        self.birth.tasks().spawn(load, Loaded);
        ctx.run_interval(LOOK_EVERY, |_, ctx| ctx.notify(LookTick));
    }
}

impl Handler<Loaded> for ControlDesk {
    type Result = ();

    fn handle(&mut self, Loaded(end): Loaded, ctx: &mut Context<Self>) {
        let clock = match end {
            TaskEnd::Done(Ok(clock)) => clock,
            TaskEnd::Done(Err(error)) => return fail(ctx, error),
            TaskEnd::Panicked(why) => return fail(ctx, why),
        };
        // first those that wait already; what came after this clock comes by the feed
        self.look();
        let patterns = vec![Pattern::parse("control/*/*/*")];
        let (ro, front) = (self.h.ro().clone(), self.birth.front());
        self.birth.tasks().spawn(follow(ro, front, patterns, clock), FollowEnded);
    }
}

impl Handler<FollowEnded> for ControlDesk {
    type Result = ();

    fn handle(&mut self, FollowEnded(end): FollowEnded, ctx: &mut Context<Self>) {
        match end {
            TaskEnd::Done(FollowEnd::OwnerStopped) => {}
            TaskEnd::Done(FollowEnd::Gone) => fail(ctx, "the events are gone: a new snapshot is needed"),
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

impl Handler<Events> for ControlDesk {
    type Result = ();

    fn handle(&mut self, batch: Events, _: &mut Context<Self>) {
        for event in &batch.events {
            if let Happening { name: EventName::Requested, record: Record::Control(act) } =
                &event.frame.event.what
            {
                self.take(act);
            }
        }
    }
}

impl Handler<ActEnded> for ControlDesk {
    type Result = ();

    fn handle(&mut self, ActEnded(id, end): ActEnded, _: &mut Context<Self>) {
        let was_full = self.doing.len() >= AT_ONCE;
        self.doing.remove(&id);
        if let TaskEnd::Panicked(why) = end {
            tracing::error!(control.id = id.0, panic = %why, "handling a control act panicked");
        } else if was_full {
            self.look();
        }
    }
}

impl Handler<LookTick> for ControlDesk {
    type Result = ();

    fn handle(&mut self, _: LookTick, _: &mut Context<Self>) {
        self.look();
    }
}

/// Why a try did not settle an act.
enum Failed {
    Data(DataError),
    Owner(AskError),
}

impl From<DataError> for Failed {
    fn from(error: DataError) -> Self {
        Failed::Data(error)
    }
}

/// Tries until the act is answered.
async fn see_to(h: Handles, owners: Arc<ArcSwap<Owners>>, act: Arc<ControlAct>) {
    let mut unowned = 0;
    for _ in 0..TRIES {
        if !h.ro().hot().controls.contains_key(&act.id.0) {
            return;
        }
        // each try asks whoever is the owner by now
        match try_once(&h, &owners.load_full(), &act).await {
            Ok(Tried::Is(Handled::Answered)) => return,
            Ok(Tried::Is(Handled::NotMine)) => unowned = 0,
            Ok(Tried::Unowned(why)) => {
                unowned += 1;
                if unowned >= UNOWNED_TRIES {
                    let answer = ControlAnswer::Failed(why);
                    let _ = h.persist(vec![Op::AnswerControl { act: act.id, answer }]).await;
                    return;
                }
            }
            Err(Failed::Owner(error)) if error.outcome_is_unknown() => {
                // what the dead owner may have left under way has happened after this, or never will
                if h.barrier().await.is_err() {
                    return;
                }
                continue;
            }
            Err(Failed::Owner(error)) => {
                tracing::debug!(control.id = act.id.0, %error, "the owner of an act is away");
            }
            Err(Failed::Data(DataError::Fenced)) => return,
            Err(Failed::Data(DataError::Refused(refusal))) => {
                let answer = ControlAnswer::Failed(refusal.to_string());
                let _ = h.persist(vec![Op::AnswerControl { act: act.id, answer }]).await;
                return;
            }
            Err(Failed::Data(error)) => {
                tracing::warn!(control.id = act.id.0, %error, "a control act is tried again");
            }
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// What came of one try.
enum Tried {
    Is(Handled),
    /// No master runs the scheduler now, and this is why it would be refused.
    Unowned(String),
}

async fn try_once(h: &Handles, owners: &Owners, act: &Arc<ControlAct>) -> Result<Tried, Failed> {
    match (&act.target, act.action.as_str()) {
        (ControlTarget::Scheduler(id), "enable") => {
            scheduler(h, owners, Some(*id), act, format!("no master runs the scheduler {id}")).await
        }
        (ControlTarget::ForceScheduler(name), "force") => {
            let id = h.ro().hot().scheduler_named(name).map(|it| it.id);
            scheduler(
                h,
                owners,
                id,
                act,
                format!("there is no force scheduler `{name}` on any master that runs"),
            )
            .await
        }
        _ => try_other(h, owners, act).await.map(Tried::Is),
    }
}

/// What is asked of a scheduler is done by the one master that runs it.
async fn scheduler(
    h: &Handles,
    owners: &Owners,
    id: Option<SchedulerId>,
    act: &Arc<ControlAct>,
    nobody: String,
) -> Result<Tried, Failed> {
    let Some(id) = id else { return refuse(h, act, nobody).await.map(Tried::Is) };
    let holder = h.ro().hot().schedulers.get(&id.0).and_then(|it| it.master);
    if elsewhere(h, holder) {
        return Ok(Tried::Is(Handled::NotMine));
    }
    let mine = owners.schedulers.get(&id).filter(|_| holder == Some(h.me()));
    match mine {
        Some(owner) => {
            owner.act(Arc::clone(act)).await.map_err(Failed::Owner)?.map(Tried::Is).map_err(Failed::Data)
        }
        None => Ok(Tried::Unowned(nobody)),
    }
}

async fn try_other(h: &Handles, owners: &Owners, act: &Arc<ControlAct>) -> Result<Handled, Failed> {
    match (&act.target, act.action.as_str()) {
        (ControlTarget::Build(id), "stop") => stop_build(h, *id, act).await,
        (ControlTarget::Build(id), "rebuild") => {
            let Some(build) = h.ro().get::<Build>(id.0).await?.value else {
                return refuse(h, act, format!("there is no build {id}")).await;
            };
            to_builder(h, owners, build.builder, act).await
        }
        (ControlTarget::Build(id), "pin" | "unpin") => {
            let (pinned, by) = (act.action == "pin", act.identity.clone());
            let pin = Op::PinBuild { build: *id, pinned, by };
            answer(h, act, ControlAnswer::Done(Value::Null), Some(pin)).await
        }
        (ControlTarget::BuildRequest(id), "cancel") => {
            let Some(request) = h.ro().get::<BuildRequest>(id.0).await?.value else {
                return refuse(h, act, format!("there is no build request {id}")).await;
            };
            if elsewhere(h, request.claimed_by) {
                return Ok(Handled::NotMine);
            }
            if owners.builders.contains_key(&request.builder) {
                return to_builder(h, owners, request.builder, act).await;
            }
            // what waits for a builder that is gone from the configuration can still be given up
            Ok(cancel(h, *id, act).await?)
        }
        (ControlTarget::Worker(id), _) => worker(h, *id, act).await,
        (ControlTarget::Master(id), _) if *id != h.me() => Ok(Handled::NotMine),
        (ControlTarget::Master(_) | ControlTarget::Notifier(_), _) => {
            match h.outside.act(Arc::clone(act)).await {
                Some(done) => answer(h, act, done, None).await,
                None => Ok(Handled::NotMine),
            }
        }
        (_, action) => refuse(h, act, format!("action: {action} is not supported")).await,
    }
}

/// Whether one of these masters is another one that is active: it owns the target, and its desk answers. Where several own it,
/// all may act: the answer is given once, and with it the effect.
fn elsewhere(h: &Handles, masters: impl IntoIterator<Item = MasterId>) -> bool {
    let hot = h.ro().hot();
    let active = |id: MasterId| hot.masters.get(&id.0).is_some_and(|it| it.active);
    masters.into_iter().any(|id| id != h.me() && active(id))
}

/// Whether the worker's connection, if it has one, is with this master.
fn worker_is_here(h: &Handles, id: WorkerId) -> bool {
    let hot = h.ro().hot();
    let connected = hot.workers.get(&id.0).map(|it| it.connected_to.clone()).unwrap_or_default();
    connected.contains(&h.me()) || !elsewhere(h, connected)
}

/// A build that runs is stopped by its actor; with one that has ended, or never was, there is nothing to do.
async fn stop_build(h: &Handles, id: BuildId, act: &Arc<ControlAct>) -> Result<Handled, Failed> {
    if let Some(front) = h.builds.get(id) {
        let stop = StopBuild { act: act.id, reason: reason(act) };
        let handled = front.ask(stop).await.map_err(Failed::Owner)??;
        if handled == Handled::Answered {
            return Ok(handled);
        }
    }
    let build = h.ro().get::<Build>(id.0).await?.value;
    match build {
        Some(build) if build.complete_at.is_none() => Ok(Handled::NotMine),
        _ => answer(h, act, ControlAnswer::Done(Value::Null), None).await,
    }
}

async fn to_builder(
    h: &Handles,
    owners: &Owners,
    builder: BuilderId,
    act: &Arc<ControlAct>,
) -> Result<Handled, Failed> {
    let Some(front) = owners.builders.get(&builder) else {
        let hot = h.ro().hot();
        if elsewhere(h, hot.builders.get(&builder.0).iter().flat_map(|it| it.masters.iter().copied())) {
            return Ok(Handled::NotMine);
        }
        return refuse(h, act, "the builder is not configured any more".to_owned()).await;
    };
    Ok(front.ask(Act(Arc::clone(act))).await.map_err(Failed::Owner)??)
}

async fn worker(h: &Handles, id: WorkerId, act: &Arc<ControlAct>) -> Result<Handled, Failed> {
    if h.ro().get::<Worker>(id.0).await?.value.is_none() {
        return refuse(h, act, format!("there is no worker {id}")).await;
    }
    if act.action == "kill" && !worker_is_here(h, id) {
        return Ok(Handled::NotMine);
    }
    let said = Some(reason(act)).filter(|it| !it.is_empty());
    let effect = match act.action.as_str() {
        "pause" => Some(Op::PauseWorker { worker: id, paused: true, reason: said }),
        "unpause" => Some(Op::PauseWorker { worker: id, paused: false, reason: None }),
        // the distributor sends it away when its builds are done
        "stop" => Some(Op::SetWorkerGraceful { worker: id, graceful: true }),
        "kill" => None,
        other => return refuse(h, act, format!("action: {other} is not supported")).await,
    };
    if effect.is_none() {
        h.runner.shut_down(id, "killed by a user").await;
    }
    answer(h, act, ControlAnswer::Done(Value::Null), effect).await
}

async fn refuse(h: &Handles, act: &ControlAct, why: String) -> Result<Handled, Failed> {
    answer(h, act, ControlAnswer::Failed(why), None).await
}

async fn answer(
    h: &Handles,
    act: &ControlAct,
    answer: ControlAnswer,
    effect: Option<Op>,
) -> Result<Handled, Failed> {
    let ops = effect.into_iter().chain([Op::AnswerControl { act: act.id, answer }]).collect();
    h.rw.write(ops).await?;
    Ok(Handled::Answered)
}
