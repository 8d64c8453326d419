//! The farm in numbers: a listener that counts what this master does, for `/metrics`.
//!
//! It begins with its birth and stores no clock: whoever scrapes knows what to do about counters that begin anew with the process.
//! The counters live outside the actor, so that its death loses none of them.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use greenroom_data::{DataError, Delivery, Ended, Ro, Subscription};
use greenroom_model::{
    Build, BuildRequestId, Clock, ControlAnswer, DeliveryState, EventName, Happening, Pattern, Record,
    Timestamp,
};
use greenroom_runtime::{Birth, Supervised, TaskEnd, Tasks, fail};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;
use tokio::time::sleep;

/// How long to wait before trying again what the data layer could not do.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// From a tenth of a second to about seven hours, by factors of four.
const DURATIONS: [f64; 10] = [0.1, 0.4, 1.6, 6.4, 25.6, 102.4, 409.6, 1638.4, 6553.6, 26214.4];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBuilder {
    builder: String,
    results: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResults {
    results: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAct {
    action: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfNotifier {
    notifier: String,
    state: &'static str,
}

/// What is counted. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct FarmCounters {
    builds: Family<OfBuilder, Counter>,
    buildsets: Family<OfResults, Counter>,
    changes: Counter,
    workers_lost: Counter,
    acts: Family<OfAct, Counter>,
    messages: Family<OfNotifier, Counter>,
    durations: Histogram,
    waits: Histogram,
    delays: Histogram,
}

impl Default for FarmCounters {
    fn default() -> Self {
        Self {
            builds: Family::default(),
            buildsets: Family::default(),
            changes: Counter::default(),
            workers_lost: Counter::default(),
            acts: Family::default(),
            messages: Family::default(),
            durations: Histogram::new(DURATIONS),
            waits: Histogram::new(DURATIONS),
            delays: Histogram::new(DURATIONS),
        }
    }
}

impl FarmCounters {
    /// Names them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("builds", "Builds that ended on this master", self.builds.clone());
        registry.register("buildsets", "Buildsets that this master completed", self.buildsets.clone());
        registry.register("changes", "Changes that this master stored", self.changes.clone());
        let lost = "Connections of workers to this master that ended";
        registry.register("worker_disconnects", lost, self.workers_lost.clone());
        registry.register("control_acts", "What users asked of this master's components", self.acts.clone());
        let took = "How long builds ran that ended on this master";
        registry.register_with_unit("build_duration", took, Unit::Seconds, self.durations.clone());
        let waited = "How long build requests waited for their build";
        registry.register_with_unit("build_wait", waited, Unit::Seconds, self.waits.clone());
        let told = "What became of the messages of this master's notifiers";
        registry.register("notifications", told, self.messages.clone());
        let late =
            "How long messages took that were sent, from the event to the answer of whoever takes them";
        registry.register_with_unit("notification_delay", late, Unit::Seconds, self.delays.clone());
    }

    fn count(&self, ro: &Ro, what: &Happening) {
        match (&what.record, what.name) {
            (Record::Build(build), EventName::New) => self.begun(ro, build),
            (Record::Build(build), EventName::Finished) => self.ended(ro, build),
            (Record::Buildset(set), EventName::Complete) => {
                let results = set.results.map_or("unknown", |it| it.word());
                self.buildsets.get_or_create(&OfResults { results }).inc();
            }
            (Record::Change(_), EventName::New) => drop(self.changes.inc()),
            (Record::Worker(_), EventName::Disconnected) => drop(self.workers_lost.inc()),
            (Record::Control(act), EventName::Answered) => {
                let outcome = match &act.answer {
                    Some(ControlAnswer::Done(_)) => "done",
                    Some(ControlAnswer::Invalid(_)) => "invalid",
                    Some(ControlAnswer::Failed(_)) | None => "failed",
                };
                self.acts.get_or_create(&OfAct { action: act.action.clone(), outcome }).inc();
            }
            (Record::Delivery(message), EventName::Settled) => {
                let state = message.state.word();
                self.messages.get_or_create(&OfNotifier { notifier: message.notifier.clone(), state }).inc();
                if let (DeliveryState::Sent, Some(settled)) = (message.state, message.settled_at) {
                    self.delays.observe(seconds(settled, message.created_at));
                }
            }
            _ => {}
        }
    }

    fn begun(&self, ro: &Ro, build: &Build) {
        let BuildRequestId(request) = build.request;
        if let Some(request) = ro.hot().requests.get(&request) {
            self.waits.observe(seconds(build.started_at, request.submitted_at));
        }
    }

    fn ended(&self, ro: &Ro, build: &Build) {
        let hot = ro.hot();
        let builder = hot.builders.get(&build.builder.0).map(|it| it.name.clone());
        let builder = builder.unwrap_or_else(|| build.builder.to_string());
        let results = build.results.map_or("unknown", |it| it.word());
        self.builds.get_or_create(&OfBuilder { builder, results }).inc();
        self.durations.observe(seconds(build.complete_at.unwrap_or(build.started_at), build.started_at));
    }
}

fn seconds(later: Timestamp, earlier: Timestamp) -> f64 {
    later.micros_since(earlier).max(0) as f64 / 1e6
}

/// See the module.
pub struct FarmMetrics {
    ro: Ro,
    counters: FarmCounters,
    /// Everything up to here is counted. It outlives the actor.
    counted: Arc<watch::Sender<Option<Clock>>>,
    tasks: Tasks<Self>,
}

impl FarmMetrics {
    /// A new birth; `counted` is kept by whoever makes births, so that none counts an event twice.
    pub fn new(
        birth: &Birth<Self>,
        ro: Ro,
        counters: FarmCounters,
        counted: Arc<watch::Sender<Option<Clock>>>,
    ) -> Self {
        Self { ro, counters, counted, tasks: birth.tasks() }
    }
}

impl Actor for FarmMetrics {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let (ro, counters, counted) = (self.ro.clone(), self.counters.clone(), Arc::clone(&self.counted));
        self.tasks.spawn(
            async move {
                loop {
                    let Err(error) = follow(&ro, &counters, &counted).await;
                    tracing::warn!(error = %error, "counting for /metrics will be tried again");
                    sleep(AGAIN_AFTER).await;
                }
            },
            CountingEnded,
        );
    }
}

impl Supervised for FarmMetrics {
    const KIND: &'static str = "listener";
}

/// The counting task ended, which it never does by itself.
#[derive(Message)]
#[rtype(result = "()")]
struct CountingEnded(TaskEnd<()>);

impl Handler<CountingEnded> for FarmMetrics {
    type Result = ();

    fn handle(&mut self, CountingEnded(end): CountingEnded, ctx: &mut Context<Self>) {
        fail(ctx, format!("counting ended: {end:?}"));
    }
}

async fn follow(
    ro: &Ro,
    counters: &FarmCounters,
    counted: &watch::Sender<Option<Clock>>,
) -> Result<std::convert::Infallible, DataError> {
    let since = counted.borrow().clone();
    let mut events = subscribe(ro, since).await?;
    loop {
        match events.next().await {
            Delivery::Event(event) => {
                // Each master counts what it committed itself, so that sums over masters are right.
                if event.frame.event.master == ro.me() {
                    counters.count(ro, &event.frame.event.what);
                }
                counted.send_replace(Some(events.clock()));
            }
            Delivery::Ended(Ended::Lagging) => events = subscribe(ro, Some(events.clock())).await?,
            Delivery::Ended(Ended::Gone) => events = subscribe(ro, None).await?,
        }
    }
}

async fn subscribe(ro: &Ro, since: Option<Clock>) -> Result<Subscription, DataError> {
    let topics = [
        "builds/*/new",
        "builds/*/finished",
        "buildsets/*/complete",
        "changes/*/new",
        "workers/*/disconnected",
        "control/acts/*/answered",
        "deliveries/*/settled",
    ];
    let patterns = || topics.iter().map(|it| Pattern::parse(it)).collect();
    match ro.subscribe(patterns(), since).await {
        Err(DataError::Gone) => ro.subscribe(patterns(), None).await,
        other => other,
    }
}
