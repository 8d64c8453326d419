//! Events: what changed, in the order in which each master committed it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::entities::*;
use crate::ids::{BuilderId, MasterId, WorkerId};
use crate::key;
use crate::time::Timestamp;
use crate::topic::{Element, Key};

/// One committed state change: the whole entity after it, and what happened to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The master that committed it.
    pub master: MasterId,
    /// Its number among that master's events: from 1, without gaps, in commit order.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub what: Happening,
}

/// What an event says, as stored: its kind, name and entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// What happened to it.
    pub name: EventName,
    /// The entity after it.
    pub record: Record,
}

/// The past-tense word that ends a routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the words are the contract's own
pub enum EventName {
    New,
    Update,
    Updated,
    Claimed,
    Unclaimed,
    Complete,
    Started,
    Stopped,
    Finished,
    Append,
    Connected,
    Disconnected,
    StateUpdated,
    /// A message waits no more.
    Settled,
    /// A control act was asked for.
    Requested,
    /// A control act was answered.
    Answered,
    /// It is gone from the history, by retention.
    Deleted,
}

impl EventName {
    /// The word in keys.
    pub fn word(self) -> &'static str {
        match self {
            EventName::New => "new",
            EventName::Update => "update",
            EventName::Updated => "updated",
            EventName::Claimed => "claimed",
            EventName::Unclaimed => "unclaimed",
            EventName::Complete => "complete",
            EventName::Started => "started",
            EventName::Stopped => "stopped",
            EventName::Finished => "finished",
            EventName::Append => "append",
            EventName::Connected => "connected",
            EventName::Disconnected => "disconnected",
            EventName::StateUpdated => "state_updated",
            EventName::Settled => "settled",
            EventName::Requested => "requested",
            EventName::Answered => "answered",
            EventName::Deleted => "deleted",
        }
    }
}

/// An entity of any kind, as carried by events and kept by the cache. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each variant is the entity of that name
pub enum Record {
    Master(Arc<Master>),
    Builder(Arc<Builder>),
    Worker(Arc<Worker>),
    Scheduler(Arc<Scheduler>),
    ChangeSource(Arc<ChangeSource>),
    Project(Arc<Project>),
    Change(Arc<Change>),
    Buildset(Arc<Buildset>),
    BuildRequest(Arc<BuildRequest>),
    Build(Arc<Build>),
    BuildProperties(Arc<BuildProperties>),
    /// A step, with what its keys need.
    Step(Arc<Step>),
    Log(Arc<Log>),
    Control(Arc<ControlAct>),
    Configuration(Arc<ConfigurationVersion>),
    Notifier(Arc<Notifier>),
    Delivery(Arc<Delivery>),
}

/// What identifies an entity over all kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityKey(pub &'static str, pub i64);

impl Record {
    /// Kind and id. A build's properties share the build's key, since they share its version.
    pub fn entity(&self) -> EntityKey {
        match self {
            Record::Master(e) => EntityKey("masters", e.id.0),
            Record::Builder(e) => EntityKey("builders", e.id.0),
            Record::Worker(e) => EntityKey("workers", e.id.0),
            Record::Scheduler(e) => EntityKey("schedulers", e.id.0),
            Record::ChangeSource(e) => EntityKey("changesources", e.id.0),
            Record::Project(e) => EntityKey("projects", e.id.0),
            Record::Change(e) => EntityKey("changes", e.id.0),
            Record::Buildset(e) => EntityKey("buildsets", e.id.0),
            Record::BuildRequest(e) => EntityKey("buildrequests", e.id.0),
            Record::Build(e) => EntityKey("builds", e.id.0),
            Record::BuildProperties(e) => EntityKey("builds", e.build.0),
            Record::Step(e) => EntityKey("steps", e.id.0),
            Record::Log(e) => EntityKey("logs", e.id.0),
            Record::Control(e) => EntityKey("control", e.id.0),
            Record::Configuration(e) => EntityKey("configurations", e.id.0),
            Record::Notifier(e) => EntityKey("notifiers", e.id.0),
            Record::Delivery(e) => EntityKey("deliveries", e.id.0),
        }
    }

    /// The entity's version after the change. Entities that never change stand at 1.
    pub fn version(&self) -> i64 {
        match self {
            Record::Master(e) => e.version,
            Record::Builder(e) => e.version,
            Record::Worker(e) => e.version,
            Record::Scheduler(e) => e.version,
            Record::ChangeSource(e) => e.version,
            Record::Project(e) => e.version,
            Record::Change(_) => 1,
            Record::Buildset(e) => e.version,
            Record::BuildRequest(e) => e.version,
            Record::Build(e) => e.version,
            Record::BuildProperties(e) => e.version,
            Record::Step(e) => e.version,
            Record::Log(e) => e.version,
            Record::Control(e) => e.version,
            Record::Configuration(_) => 1,
            Record::Notifier(e) => e.version,
            Record::Delivery(e) => e.version,
        }
    }
}

impl Happening {
    /// The entity's version that this event brings. What never changes but for its end has 1, and 2 at that.
    pub fn version(&self) -> i64 {
        match (&self.record, self.name) {
            (Record::Change(_), EventName::Deleted) => 2,
            (record, _) => record.version(),
        }
    }

    /// The canonical topic, as stored beside the event: its first routing key.
    pub fn topic(&self) -> Key {
        self.keys().swap_remove(0)
    }

    /// All routing keys of the contract, at least one.
    pub fn keys(&self) -> Vec<Key> {
        let name = self.name.word();
        match &self.record {
            Record::Master(e) => vec![key!["masters", e.id.0, name]],
            Record::Builder(e) => vec![key!["builders", e.id.0, name]],
            Record::Worker(e) => vec![key!["workers", e.id.0, name]],
            Record::Scheduler(e) => vec![key!["schedulers", e.id.0, name]],
            Record::ChangeSource(e) => vec![key!["changesources", e.id.0, name]],
            Record::Project(e) => vec![key!["projects", e.id.0, name]],
            Record::Change(e) => vec![key!["changes", e.id.0, name]],
            Record::Buildset(e) => vec![key!["buildsets", e.id.0, name]],
            Record::BuildRequest(e) => {
                let (set, builder, id) = (e.buildset.0, e.builder.0, e.id.0);
                vec![
                    key!["buildsets", set, "builders", builder, "buildrequests", id, name],
                    key!["buildrequests", id, name],
                    key!["builders", builder, "buildrequests", id, name],
                ]
            }
            Record::Build(e) => build_keys(e.builder, e.number, e.id.0, e.worker, name),
            Record::BuildProperties(e) => vec![key!["builds", e.build.0, "properties", name]],
            Record::Step(e) => {
                vec![key!["builds", e.build.0, "steps", e.id.0, name], key!["steps", e.id.0, name]]
            }
            Record::Log(e) => {
                let slug = Element::parse(&e.slug);
                vec![
                    key!["logs", e.id.0, name],
                    Key(vec!["steps".into(), e.step.0.into(), "logs".into(), slug, name.into()]),
                ]
            }
            Record::Control(e) => vec![control_key(e, self.name)],
            Record::Configuration(e) => vec![
                key!["configurations", e.id.0, name],
                key!["masters", e.master.0, "configurations", e.number, name],
            ],
            Record::Notifier(e) => vec![
                key!["notifiers", e.id.0, name],
                Key(vec!["notifiers".into(), Element::parse(&e.name), name.into()]),
            ],
            Record::Delivery(e) => {
                let notifier = Element::parse(&e.notifier);
                vec![
                    Key(vec!["notifiers".into(), notifier, "deliveries".into(), e.id.0.into(), name.into()]),
                    key!["deliveries", e.id.0, name],
                ]
            }
        }
    }
}

fn build_keys(builder: BuilderId, number: i64, id: i64, worker: WorkerId, name: &'static str) -> Vec<Key> {
    vec![
        key!["builders", builder.0, "builds", number, name],
        key!["builds", id, name],
        key!["workers", worker.0, "builds", id, name],
    ]
}

/// `control/builds/N/stop` and the like; an answered act is `control/acts/N/answered`.
fn control_key(act: &ControlAct, name: EventName) -> Key {
    if name == EventName::Answered {
        return key!["control", "acts", act.id.0, "answered"];
    }
    let (kind, id) = match &act.target {
        ControlTarget::Build(id) => ("builds", Element::Number(id.0)),
        ControlTarget::BuildRequest(id) => ("buildrequests", Element::Number(id.0)),
        ControlTarget::Worker(id) => ("worker", Element::Number(id.0)),
        ControlTarget::Scheduler(id) => ("schedulers", Element::Number(id.0)),
        ControlTarget::ForceScheduler(name) => ("forceschedulers", Element::parse(name)),
        ControlTarget::Master(id) => ("masters", Element::Number(id.0)),
        ControlTarget::Notifier(name) => ("notifiers", Element::parse(name)),
    };
    Key(vec!["control".into(), kind.into(), id, Element::parse(&act.action)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::*;

    #[test]
    fn a_build_is_announced_under_its_three_keys() {
        let build = Build {
            id: BuildId(17),
            number: 4,
            builder: BuilderId(3),
            request: BuildRequestId(9),
            worker: WorkerId(2),
            master: MasterId(1),
            started_at: Timestamp(0),
            complete_at: None,
            locks_duration_s: 0,
            results: None,
            state_string: "starting".into(),
            version: 1,
        };
        let event = Happening { name: EventName::New, record: Record::Build(Arc::new(build)) };
        let keys: Vec<String> = event.keys().iter().map(ToString::to_string).collect();
        assert_eq!(keys, ["builders/3/builds/4/new", "builds/17/new", "workers/2/builds/17/new"]);
        let stored = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Happening>(&stored).unwrap(), event);
    }
}
