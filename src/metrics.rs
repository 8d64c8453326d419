//! What `/metrics` shows, from all layers. The names are a promise: `docs/operator-guide/metrics.md` lists them.
//!
//! Counters and histograms are kept where things happen (`data`, `www`, the listener `metrics`); the rest is read when somebody
//! scrapes, from the published state and from what actors say of themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use greenroom_data::{DataLayer, Hot, Ro, Shown};
use greenroom_model::{BuildRequest, Timestamp};
use greenroom_runtime::{ActorReport, Restart, Runtime};
use greenroom_status::FarmCounters;
use greenroom_www::HttpCounters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use serde_json::Value;

/// Every name begins so.
const PREFIX: &str = "greenroom";

/// What is counted between two scrapes.
#[derive(Clone, Default)]
pub struct Counters {
    /// Builds, changes, acts.
    pub farm: FarmCounters,
    /// Requests.
    pub http: HttpCounters,
}

impl Counters {
    /// All of it under its names.
    pub fn registry(&self, data: &DataLayer, runtime: &Runtime) -> Arc<Registry> {
        let mut registry = Registry::with_prefix(PREFIX);
        self.farm.register(&mut registry);
        self.http.register(&mut registry);
        data.register(&mut registry);
        registry.register_collector(Box::new(Now { ro: data.ro(), runtime: runtime.clone() }));
        Arc::new(registry)
    }
}

/// What is read at the scrape.
struct Now {
    ro: Ro,
    runtime: Runtime,
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let actors = self.runtime.snapshot();
        let hot = self.ro.hot();
        let now = Timestamp(self.runtime.now_micros());
        let about = [("version", env!("CARGO_PKG_VERSION"))];
        family(&mut encoder, "build_info", "This program", MetricType::Gauge, &[(&about[..], 1.0)])?;
        farm(&mut encoder, &hot, now)?;
        let writable = f64::from(u8::from(self.ro.writable()));
        one(&mut encoder, "db_writable", "Whether the database takes writes", MetricType::Gauge, writable)?;
        tree(&mut encoder, &actors)?;
        notifiers(&mut encoder, &actors)?;
        for said in SAID {
            let found = actors.iter().find(|it| it.name == said.actor).map(|it| &it.observed[said.field]);
            if let Some(value) = found.and_then(number) {
                one(&mut encoder, said.name, said.help, said.of, value)?;
            }
        }
        Ok(())
    }
}

/// Yes is 1.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_bool().map(|yes| f64::from(u8::from(yes))))
}

/// A number that an actor says of itself.
struct Said {
    actor: &'static str,
    field: &'static str,
    name: &'static str,
    of: MetricType,
    help: &'static str,
}

const fn said(
    actor: &'static str,
    field: &'static str,
    name: &'static str,
    of: MetricType,
    help: &'static str,
) -> Said {
    Said { actor, field, name, of, help }
}

/// Counters of this table begin anew when their actor does.
#[rustfmt::skip]
const SAID: &[Said] = &[
    said("configurator", "number", "configuration_number", MetricType::Gauge, "The configuration that is in force"),
    said("configurator", "reloads", "configuration_reloads", MetricType::Counter, "Configurations that were put in force"),
    said("configurator", "refusals", "configuration_refusals", MetricType::Counter, "Configurations that were refused"),
    said("janitor", "looks", "retention_looks", MetricType::Counter, "Looks through the history for what may go"),
    said("janitor", "failures", "retention_failures", MetricType::Counter, "Looks through the history that broke off"),
    said("janitor", "builds_deleted", "retention_builds_deleted", MetricType::Counter, "Builds that were removed"),
    said("janitor", "logs_deleted", "retention_logs_deleted", MetricType::Counter, "Logs that were removed, with their builds or before them"),
    said("janitor", "changes_deleted", "retention_changes_deleted", MetricType::Counter, "Changes that were removed"),
    said("bus-link", "connected", "mq_connected", MetricType::Gauge, "Whether the bus between masters is there; absent without one"),
    said("db-writer", "queued", "db_queue", MetricType::Gauge, "Writes that wait for their commit"),
    said("db-writer", "events", "db_events", MetricType::Counter, "Events that were committed"),
    said("log-writer", "open", "logs_open", MetricType::Gauge, "Logs that are written to"),
    said("log-writer", "unstored-bytes", "log_unstored_bytes", MetricType::Gauge, "Log text that is not stored yet"),
    said("log-writer", "taken-bytes", "log_taken_bytes", MetricType::Counter, "Log text that was taken in"),
    said("broker", "published", "mq_published", MetricType::Counter, "Notices that went to the bus"),
    said("broker", "dropped", "mq_dropped", MetricType::Counter, "Notices that the bus could not hand on; the table of events makes them good"),
    said("data", "gaps", "data_gaps", MetricType::Counter, "Gaps in the feed that were fetched from the table of events"),
    said("data", "ring_bytes", "data_recent_bytes", MetricType::Gauge, "Memory of the newest events"),
    said("data", "builds_kept", "data_builds_kept", MetricType::Gauge, "Builds in the cache"),
    said("distributor", "waiting", "requests_queued", MetricType::Gauge, "Build requests that this master would start"),
    said("distributor", "builds_started", "builds_started", MetricType::Counter, "Builds that this master started"),
    said("distributor", "claims_lost", "claims_lost", MetricType::Counter, "Build requests that another master was faster with"),
    said("worker-directory", "usable", "workers_usable", MetricType::Gauge, "Workers connected to this master that can run builds"),
    said("worker-directory", "arrived", "worker_connects", MetricType::Counter, "Connections of workers that were taken"),
    said("worker-directory", "refused", "worker_refusals", MetricType::Counter, "Connections of workers that were refused"),
];

fn farm(encoder: &mut DescriptorEncoder<'_>, hot: &Hot, now: Timestamp) -> fmt::Result {
    let connected = hot.workers.values().filter(|it| !it.connected_to.is_empty()).count();
    let paused = hot.workers.values().filter(|it| it.paused).count();
    let missing =
        hot.workers.values().filter(|it| !it.configured_on.is_empty() && it.connected_to.is_empty());
    let waits = |it: &&Shown<BuildRequest>| it.complete_at.is_none() && it.claimed_at.is_none();
    let waiting = hot.requests.values().filter(waits).count();
    let oldest = hot.requests.values().filter(waits).map(|it| it.submitted_at).min();
    let running = hot.running_builds().count();
    let longest = hot.running_builds().map(|it| it.started_at).min();
    let age = |since: Option<Timestamp>| since.map_or(0.0, |it| now.micros_since(it).max(0) as f64 / 1e6);
    let gauges = [
        ("builders", "Builders", hot.builders.size() as f64),
        ("workers", "Workers", hot.workers.size() as f64),
        ("workers_connected", "Workers connected to any master", connected as f64),
        ("workers_paused", "Workers that are paused", paused as f64),
        ("workers_missing", "Workers that are configured and not connected", missing.count() as f64),
        ("builds_running", "Builds that run", running as f64),
        ("build_longest_seconds", "Age of the oldest build that runs", age(longest)),
        ("requests_waiting", "Build requests that no master has claimed", waiting as f64),
        ("request_oldest_seconds", "Age of the oldest build request that waits", age(oldest)),
        ("control_acts_open", "Acts that nobody has answered yet", hot.controls.size() as f64),
    ];
    gauges.iter().try_for_each(|(name, help, value)| one(encoder, name, help, MetricType::Gauge, *value))
}

/// What is summed up of one kind of actors.
#[derive(Default)]
struct OfKind {
    live: f64,
    restarts: f64,
    handled: f64,
    stalls: f64,
    queued: f64,
}

/// The tree by kind. What is counted is that of permanent actors: others take their counts with them when they end.
fn tree(encoder: &mut DescriptorEncoder<'_>, actors: &[ActorReport]) -> fmt::Result {
    let mut kinds: BTreeMap<&str, OfKind> = BTreeMap::new();
    for actor in actors.iter().filter(|it| it.kind != "supervisor") {
        let sums = kinds.entry(actor.kind).or_default();
        sums.live += 1.0;
        sums.queued += actor.queue_depth as f64;
        if actor.policy.is_some_and(|it| it.restart == Restart::Permanent) {
            sums.restarts += actor.births.saturating_sub(1) as f64;
            sums.handled += actor.handled as f64;
            sums.stalls += actor.stalls as f64;
        }
    }
    let labels: Vec<[(&str, &str); 1]> = kinds.keys().map(|kind| [("kind", *kind)]).collect();
    let mut each = |name, help, of, value: fn(&OfKind) -> f64| {
        let rows: Vec<_> = labels.iter().map(|it| &it[..]).zip(kinds.values().map(value)).collect();
        family(encoder, name, help, of, &rows)
    };
    each("actors", "Actors in the tree", MetricType::Gauge, |it| it.live)?;
    each("actor_queue", "Letters that no handler has begun", MetricType::Gauge, |it| it.queued)?;
    each("actor_restarts", "Restarts of permanent actors", MetricType::Counter, |it| it.restarts)?;
    each("actor_letters", "Letters that permanent actors handled", MetricType::Counter, |it| it.handled)?;
    each("actor_stalls", "Times that a handler held its thread for over 100 ms", MetricType::Counter, |it| {
        it.stalls
    })
}

/// What waits to be sent, by notifier.
fn notifiers(encoder: &mut DescriptorEncoder<'_>, actors: &[ActorReport]) -> fmt::Result {
    let named = actors.iter().filter_map(|it| Some((it.name.strip_prefix("notifier/")?, it)));
    let waiting: Vec<_> =
        named.filter_map(|(name, it)| Some((name, it.observed["waiting"].as_f64()?))).collect();
    let labels: Vec<[(&str, &str); 1]> = waiting.iter().map(|it| [("notifier", it.0)]).collect();
    let rows: Vec<_> = labels.iter().map(|it| &it[..]).zip(waiting.iter().map(|it| it.1)).collect();
    let help = "Messages that wait to be sent";
    family(encoder, "notifications_waiting", help, MetricType::Gauge, &rows)
}

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    of: MetricType,
    value: f64,
) -> fmt::Result {
    Number { of, value }.encode(encoder.encode_descriptor(name, help, None, of)?)
}

/// A labelled set with its value.
type Sample<'a> = (&'a [(&'a str, &'a str)], f64);

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    of: MetricType,
    samples: &[Sample<'_>],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, of)?;
    for (labels, value) in samples {
        let number = Number { of, value: *value };
        number.encode(metric.encode_family(labels)?)?;
    }
    Ok(())
}

/// A value that was read, whatever it is of.
struct Number {
    of: MetricType,
    value: f64,
}

impl EncodeMetric for Number {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self.of {
            MetricType::Counter => encoder.encode_counter::<NoLabelSet, f64, u64>(&self.value, None),
            _ => encoder.encode_gauge(&self.value),
        }
    }

    fn metric_type(&self) -> MetricType {
        self.of
    }
}
