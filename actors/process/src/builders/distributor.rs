//! The distributor: pairs waiting requests with workers' free slots, claims, and gives each started build its actor.
//!
//! Owner of which slot is taken. It keeps a [`ReadyQueue`] by events and makes one decision after the other; the writes
//! that carry them out are under way together (they are committed in groups). Losing a claim is normal.
//! Born again, it builds the queue anew from a snapshot and finds actors for builds that have none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use greenroom_data::{DataError, Hot};
use greenroom_model::*;
use greenroom_runtime::{Birth, Supervised, TaskEnd, fail};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::builders::ready_queue::{Decision, Readiness, ReadyQueue};
use crate::builds::build_actor::FirstBirth;
use crate::builds::plan::{self, Plan, StartError};
use crate::follow::{Events, FollowEnd, follow};
use crate::handles::Handles;
use crate::messages::{Reconfigure, StopClaiming, Stranded, WhyWaiting};
use crate::setup::{Began, Setup};

/// What it follows.
const TOPICS: [&str; 4] = ["buildrequests/*/*", "workers/*/*", "builds/*/new", "builds/*/finished"];
/// How long a worker that turned out to be away, or a request that could not be claimed, is left alone.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// The same for a request whose build was refused for a reason that will hardly go away.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// How many waiting heads are shown.
const HEADS_SHOWN: usize = 20;

#[derive(Message)]
#[rtype(result = "()")]
struct Loaded(TaskEnd<Result<Arc<Hot>, DataError>>);

#[derive(Message)]
#[rtype(result = "()")]
struct FollowEnded(TaskEnd<FollowEnd>);

#[derive(Message)]
#[rtype(result = "()")]
struct StartEnded {
    build: BuildId,
    decision: Decision,
    end: TaskEnd<Result<Plan, StartError>>,
}

/// A request or a worker is looked at again.
#[derive(Message)]
#[rtype(result = "()")]
enum LookAgainTick {
    Pump,
    Request(BuildRequestId),
    Worker(WorkerId),
}

/// The actor that claims.
pub struct Distributor {
    h: Handles,
    birth: Birth<Self>,
    queue: ReadyQueue,
    /// Claims under way.
    flights: HashMap<BuildId, BuildRequestId>,
    /// An id that no decision has used yet.
    spare: Option<BuildId>,
    following: bool,
    stopped: bool,
    when_grounded: Vec<oneshot::Sender<()>>,
    started: u64,
    lost: u64,
}

impl Distributor {
    pub(crate) fn new(h: Handles, birth: Birth<Self>) -> Self {
        Self {
            h,
            birth,
            queue: ReadyQueue::default(),
            flights: HashMap::new(),
            spare: None,
            following: false,
            stopped: false,
            when_grounded: Vec::new(),
            started: 0,
            lost: 0,
        }
    }

    fn load(&mut self, hot: &Hot) {
        let setup = self.h.setup();
        self.queue = ReadyQueue::default().over(workers_of(&setup), builders_of(&setup));
        for build in hot.running_builds().filter(|it| it.master == self.h.me()) {
            self.queue.occupy(build.id, build.builder, build.worker);
            self.h.builds.ensure(&self.h, build.id, FirstBirth::FromRecords);
        }
        for worker in hot.workers.values() {
            self.queue.set_readiness(worker.id, self.readiness(worker));
            self.dismiss_if_idle(worker);
        }
        for request in hot.waiting_requests() {
            self.queue.add(request.id, request.builder, request.priority);
        }
        let gone = hot.workers.values().filter(|it| !self.queue.knows_worker(it.id)).map(|it| it.id);
        gone.for_each(|worker| self.part_if_idle(worker));
    }

    /// A worker that is not configured any more goes when the last build that runs on it has ended.
    fn part_if_idle(&self, worker: WorkerId) {
        if self.queue.knows_worker(worker) || !self.queue.is_idle(worker) {
            return;
        }
        let h = self.h.clone();
        let Some(name) = h.ro().hot().workers.get(&worker.0).map(|it| it.name.clone()) else { return };
        actix::spawn(async move { h.runner.part(worker, &name).await });
    }

    fn readiness(&self, worker: &Worker) -> Readiness {
        Readiness {
            connected: worker.connected_to.contains(&self.h.me()),
            paused: worker.paused,
            graceful: worker.graceful,
        }
    }

    /// Makes decisions until none is left.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        while self.following && !self.stopped {
            let id = match self.spare.take().map_or_else(|| self.h.rw.new_id(), Ok) {
                Ok(id) => id,
                Err(error) => {
                    tracing::debug!(%error, "the distributor waits for ids");
                    ctx.notify_later(LookAgainTick::Pump, Duration::from_millis(2));
                    return;
                }
            };
            let Some(decision) = self.queue.decide(id) else {
                self.spare = Some(id);
                return;
            };
            self.start(id, decision, ctx);
        }
    }

    fn start(&mut self, id: BuildId, decision: Decision, ctx: &mut Context<Self>) {
        let hot = self.h.ro().hot();
        let request = hot.requests.get(&decision.request.0).map(|it| it.entity.clone());
        let setup = self.h.setup();
        let (recipe, worker) = (setup.recipes.get(&decision.builder), setup.workers.get(&decision.worker));
        let (Some(request), Some(recipe), Some(worker)) = (request, recipe, worker) else {
            self.queue.release(id);
            ctx.notify_later(LookAgainTick::Request(decision.request), TRY_AGAIN);
            return;
        };
        self.flights.insert(id, decision.request);
        let (h, recipe, worker) = (self.h.clone(), Arc::clone(recipe), Arc::clone(worker));
        let began = Began { configuration: setup.number, recipe, worker };
        let start = async move { plan::start_build(&h, id, &request, began).await };
        self.birth.tasks().spawn(start, move |end| StartEnded { build: id, decision, end });
    }

    fn take(&mut self, event: &Happening) {
        match &event.record {
            Record::BuildRequest(request) => {
                if request.complete_at.is_some() || request.claimed_at.is_some() {
                    self.queue.remove(request.id);
                } else if !self.flights.values().any(|it| *it == request.id) {
                    self.queue.add(request.id, request.builder, request.priority);
                }
            }
            Record::Worker(worker) => {
                self.queue.set_readiness(worker.id, self.readiness(worker));
                self.dismiss_if_idle(worker);
            }
            Record::Build(build) if build.complete_at.is_some() => {
                let freed = self.queue.release(build.id);
                let hot = self.h.ro().hot();
                if let Some(worker) = freed.and_then(|id| hot.workers.get(&id.0)) {
                    self.dismiss_if_idle(worker);
                    self.part_if_idle(worker.id);
                }
            }
            Record::Build(build) if build.master == self.h.me() && !self.is_known(build.id) => {
                // started by an earlier birth, or by a write whose answer was lost
                self.queue.occupy(build.id, build.builder, build.worker);
                self.h.builds.ensure(&self.h, build.id, FirstBirth::FromRecords);
            }
            _ => {}
        }
    }

    /// Whether a build has its slot, or is about to get its actor.
    fn is_known(&self, build: BuildId) -> bool {
        self.flights.contains_key(&build) || self.queue.holds_slot(build)
    }

    /// A worker that was asked to stop when it is done, and is: it is sent away. Once it is gone the wish is fulfilled, so that
    /// it is welcome when somebody starts it again.
    fn dismiss_if_idle(&self, worker: &Worker) {
        if !worker.graceful {
            return;
        }
        let (h, id) = (self.h.clone(), worker.id);
        if worker.connected_to.is_empty() {
            actix::spawn(async move {
                if let Err(error) =
                    h.persist(vec![Op::SetWorkerGraceful { worker: id, graceful: false }]).await
                {
                    tracing::warn!(worker.id = id.0, %error, "a worker that went stays asked to stop");
                }
            });
        } else if worker.connected_to.contains(&h.me()) && self.queue.used(id) == 0 {
            actix::spawn(async move { h.runner.shut_down(id, "asked to stop when idle").await });
        }
    }

    fn land(&mut self, build: BuildId) {
        self.flights.remove(&build);
        if self.flights.is_empty() {
            for waiter in self.when_grounded.drain(..) {
                // nobody may wait any more
                let _ = waiter.send(());
            }
        }
    }
}

impl Supervised for Distributor {
    const KIND: &'static str = "distributor";

    fn observe(&self) -> Value {
        let heads: Vec<Value> = self
            .queue
            .heads(HEADS_SHOWN)
            .into_iter()
            .map(|(builder, request, why)| json!({ "builderid": builder.0, "buildrequestid": request.0, "why": why }))
            .collect();
        json!({
            "waiting": self.queue.waiting(), "running": self.queue.running(), "claims_under_way": self.flights.len(),
            "builds_started": self.started, "claims_lost": self.lost, "stopped": self.stopped, "heads": heads,
        })
    }

    fn drain(&mut self, _: &mut Context<Self>) {
        self.stopped = true;
    }
}

impl Actor for Distributor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let (h, again) = (self.h.clone(), self.birth.number() > 1);
        let load = async move {
            if again {
                h.barrier().await?;
            }
            Ok(h.ro().hot())
        };
        self.birth.tasks().spawn(load, Loaded);
    }
}

impl Handler<Loaded> for Distributor {
    type Result = ();

    fn handle(&mut self, Loaded(end): Loaded, ctx: &mut Context<Self>) {
        let hot = match end {
            TaskEnd::Done(Ok(hot)) => hot,
            TaskEnd::Done(Err(error)) => return fail(ctx, error),
            TaskEnd::Panicked(why) => return fail(ctx, why),
        };
        self.load(&hot);
        self.following = true;
        let patterns = TOPICS.map(Pattern::parse).to_vec();
        let (ro, front) = (self.h.ro().clone(), self.birth.front());
        self.birth.tasks().spawn(follow(ro, front, patterns, hot.clock.clone()), FollowEnded);
        self.pump(ctx);
    }
}

impl Handler<FollowEnded> for Distributor {
    type Result = ();

    fn handle(&mut self, FollowEnded(end): FollowEnded, ctx: &mut Context<Self>) {
        match end {
            TaskEnd::Done(FollowEnd::OwnerStopped) => {}
            TaskEnd::Done(FollowEnd::Gone) => fail(ctx, "the events are gone: a new snapshot is needed"),
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

impl Handler<Events> for Distributor {
    type Result = ();

    fn handle(&mut self, batch: Events, ctx: &mut Context<Self>) {
        for event in &batch.events {
            self.take(&event.frame.event.what);
        }
        self.pump(ctx);
    }
}

impl Handler<StartEnded> for Distributor {
    type Result = ();

    fn handle(&mut self, msg: StartEnded, ctx: &mut Context<Self>) {
        let StartEnded { build, decision, end } = msg;
        self.land(build);
        let again = |ctx: &mut Context<Self>| {
            ctx.notify_later(LookAgainTick::Request(decision.request), TRY_AGAIN);
        };
        match end {
            TaskEnd::Done(Ok(plan)) => {
                self.started += 1;
                self.h.builds.ensure(&self.h, build, FirstBirth::Fresh(Box::new(plan)));
                return;
            }
            TaskEnd::Done(Err(StartError::ClaimLost)) => self.lost += 1,
            TaskEnd::Done(Err(StartError::WorkerGone)) => {
                // its connection is announced before it can be used, or it is just being lost
                self.queue.set_readiness(decision.worker, Readiness::default());
                ctx.notify_later(LookAgainTick::Worker(decision.worker), TRY_AGAIN);
                again(ctx);
            }
            TaskEnd::Done(Err(StartError::Data(DataError::Fenced))) => return fail(ctx, DataError::Fenced),
            TaskEnd::Done(Err(StartError::Data(error))) => {
                tracing::warn!(buildrequest.id = decision.request.0, %error, "a build could not be started");
                if matches!(error, DataError::Refused(_)) {
                    ctx.notify_later(LookAgainTick::Request(decision.request), REFUSED_PAUSE);
                } else {
                    again(ctx);
                }
            }
            TaskEnd::Panicked(why) => return fail(ctx, format!("starting a build panicked: {why}")),
        }
        self.queue.release(build);
        self.pump(ctx);
    }
}

impl Handler<LookAgainTick> for Distributor {
    type Result = ();

    fn handle(&mut self, tick: LookAgainTick, ctx: &mut Context<Self>) {
        let hot = self.h.ro().hot();
        match tick {
            LookAgainTick::Pump => {}
            LookAgainTick::Request(id) => {
                let waits = |it: &BuildRequest| it.claimed_at.is_none() && it.complete_at.is_none();
                if let Some(request) = hot.requests.get(&id.0).filter(|it| waits(it)) {
                    self.queue.add(request.id, request.builder, request.priority);
                }
            }
            LookAgainTick::Worker(id) => {
                if let Some(worker) = hot.workers.get(&id.0) {
                    self.queue.set_readiness(id, self.readiness(worker));
                }
            }
        }
        self.pump(ctx);
    }
}

fn workers_of(setup: &Setup) -> impl Iterator<Item = (WorkerId, String, u32)> {
    setup.workers.values().map(|it| (it.id, it.name.clone(), it.config.max_builds.get()))
}

fn builders_of(setup: &Setup) -> impl Iterator<Item = (BuilderId, Vec<WorkerId>)> {
    setup.recipes.values().map(|it| (it.id, it.workers.clone()))
}

impl Handler<Reconfigure> for Distributor {
    type Result = MessageResult<Reconfigure>;

    fn handle(&mut self, _: Reconfigure, ctx: &mut Context<Self>) -> Self::Result {
        if !self.following {
            // it is just being born, and will find the configuration that is in force then
            return MessageResult(Vec::new());
        }
        let (setup, hot) = (self.h.setup(), self.h.ro().hot());
        let before: Vec<WorkerId> = self.queue.workers().collect();
        self.queue = std::mem::take(&mut self.queue).over(workers_of(&setup), builders_of(&setup));
        for worker in hot.workers.values().filter(|it| !before.contains(&it.id)) {
            self.queue.set_readiness(worker.id, self.readiness(worker));
        }
        before.into_iter().for_each(|worker| self.part_if_idle(worker));
        self.pump(ctx);
        let stranded = self.queue.stranded().into_iter();
        MessageResult(stranded.map(|(builder, requests)| Stranded { builder, requests }).collect())
    }
}

impl Handler<StopClaiming> for Distributor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopClaiming, _: &mut Context<Self>) -> Self::Result {
        self.stopped = true;
        if self.flights.is_empty() {
            return Box::pin(std::future::ready(()));
        }
        let (grounded, wait) = oneshot::channel();
        self.when_grounded.push(grounded);
        Box::pin(async move {
            // a dead distributor claims nothing either
            let _ = wait.await;
        })
    }
}

impl Handler<WhyWaiting> for Distributor {
    type Result = Option<String>;

    fn handle(&mut self, WhyWaiting(request): WhyWaiting, _: &mut Context<Self>) -> Option<String> {
        if self.stopped {
            return Some("this master is stopping".to_owned());
        }
        self.queue.why(request)
    }
}
