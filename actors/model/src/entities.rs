//! The entities: what the database holds and what events carry, whole.
//!
//! Each has a `version`, raised by every write that changes it. What the public API shows of an entity is
//! [`crate::wire`]'s business; these are the domain's own shapes (and, as JSON, the bodies of stored events:
//! add fields with `#[serde(default)]`, never rename).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::*;
use crate::properties::Properties;
use crate::results::Results;
use crate::time::Timestamp;

/// One buildmaster process, over its restarts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Master {
    /// Its id.
    pub id: MasterId,
    /// Its configured name, unique.
    pub name: String,
    /// Whether it runs.
    pub active: bool,
    /// When it last proved that.
    pub last_active: Timestamp,
    /// Raised at each start and takeover; only fences.
    pub epoch: i64,
    /// Raised by each change.
    pub version: i64,
}

/// A named recipe with its workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Builder {
    /// Its id, kept over restarts by its name.
    pub id: BuilderId,
    /// Its unique name.
    pub name: String,
    /// A text for people.
    pub description: Option<String>,
    /// The project it belongs to.
    pub project: Option<ProjectId>,
    /// Tags for grouping.
    pub tags: Vec<String>,
    /// The masters that have it configured; none: it is gone from the configuration.
    pub masters: Vec<MasterId>,
    /// Raised by each change.
    pub version: i64,
}

/// What a worker tells of itself and the API shows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Who cares for it.
    pub admin: Option<String>,
    /// A description of the host.
    pub host: Option<String>,
    /// A link to it.
    pub access_uri: Option<String>,
    /// The version of its program.
    pub version: Option<String>,
}

/// A remote process that runs commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its id, kept over restarts by its name.
    pub id: WorkerId,
    /// Its unique name.
    pub name: String,
    /// What it told of itself, if it was ever connected.
    pub info: Option<WorkerInfo>,
    /// Whether it gets no new builds.
    pub paused: bool,
    /// Why.
    pub pause_reason: Option<String>,
    /// Whether it stops when its builds are done.
    pub graceful: bool,
    /// The masters it is connected to (one at most, in truth).
    pub connected_to: Vec<MasterId>,
    /// Which builders of which masters may use it.
    pub configured_on: Vec<(MasterId, BuilderId)>,
    /// When it last connected or was lost.
    #[serde(default)]
    pub changed_at: Option<Timestamp>,
    /// Raised by each change.
    pub version: i64,
}

/// What turns changes, time or a request into buildsets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scheduler {
    /// Its id, kept over restarts by its name.
    pub id: SchedulerId,
    /// Its unique name.
    pub name: String,
    /// Whether it acts.
    pub enabled: bool,
    /// The master on which it is active.
    pub master: Option<MasterId>,
    /// Raised by each change.
    pub version: i64,
}

/// An actor that finds changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeSource {
    /// Its id, kept over restarts by its name.
    pub id: ChangeSourceId,
    /// Its unique name.
    pub name: String,
    /// The master on which it is active.
    pub master: Option<MasterId>,
    /// Raised by each change.
    pub version: i64,
}

/// A group of builders and codebases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its unique name.
    pub name: String,
    /// A text for people.
    pub description: Option<String>,
    /// Raised by each change.
    pub version: i64,
}

/// A patch to apply over a revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Patch {
    /// Its id.
    pub id: PatchId,
    /// How many path elements to strip.
    pub level: i64,
    /// Where to apply it.
    pub subdir: String,
    /// Who sent it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// The patch itself.
    pub body: String,
}

/// An exact revision (with patch) of one codebase. Never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceStamp {
    /// Its id.
    pub id: SourceStampId,
    /// The branch; none is the default branch.
    pub branch: Option<String>,
    /// The revision; none is the newest.
    pub revision: Option<String>,
    /// The project's name.
    pub project: String,
    /// Where the source comes from.
    pub repository: String,
    /// Which named source tree.
    pub codebase: String,
    /// When it was first used.
    pub created_at: Timestamp,
    /// A patch over the revision.
    pub patch: Option<Patch>,
}

/// One commit-like event of a codebase. Never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Its id, in the order of arrival.
    pub id: ChangeId,
    /// Who wrote it.
    pub author: String,
    /// Who committed it.
    pub committer: Option<String>,
    /// The message.
    pub comments: String,
    /// The branch.
    pub branch: Option<String>,
    /// The revision.
    pub revision: Option<String>,
    /// A link to it.
    pub revlink: Option<String>,
    /// When it was made.
    pub when: Timestamp,
    /// A free category.
    pub category: Option<String>,
    /// The changes before it on its branch.
    pub parents: Vec<ChangeId>,
    /// Where the source comes from.
    pub repository: String,
    /// Which named source tree.
    pub codebase: String,
    /// The project's name.
    pub project: String,
    /// The files it touches.
    pub files: Vec<String>,
    /// Properties for the builds it causes.
    pub properties: Properties,
    /// The source stamp it stands for.
    pub sourcestamp: Arc<SourceStamp>,
}

/// One asking for a set of builds on given source stamps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Buildset {
    /// Its id.
    pub id: BuildsetId,
    /// A name given from outside.
    pub external_id: Option<String>,
    /// Why it was asked for.
    pub reason: String,
    /// When.
    pub submitted_at: Timestamp,
    /// When it was completed.
    pub complete_at: Option<Timestamp>,
    /// The worst of its requests' results, when complete.
    pub results: Option<Results>,
    /// The build that triggered it.
    pub parent_build: Option<BuildId>,
    /// How that build is related.
    pub parent_relationship: Option<String>,
    /// The build that it repeats.
    pub rebuilt_build: Option<BuildId>,
    /// The scheduler that asked.
    pub scheduler: Option<String>,
    /// On which source stamps, one a codebase.
    pub sourcestamps: Vec<Arc<SourceStamp>>,
    /// Raised by each change.
    pub version: i64,
}

/// One builder's share of a buildset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// Its id.
    pub id: BuildRequestId,
    /// Its buildset.
    pub buildset: BuildsetId,
    /// Its builder.
    pub builder: BuilderId,
    /// Higher goes first.
    pub priority: i64,
    /// When it was claimed.
    pub claimed_at: Option<Timestamp>,
    /// By which master.
    pub claimed_by: Option<MasterId>,
    /// When it was completed.
    pub complete_at: Option<Timestamp>,
    /// How, when complete.
    pub results: Option<Results>,
    /// When it was asked for.
    pub submitted_at: Timestamp,
    /// Whether a build waits for it.
    pub waited_for: bool,
    /// How many of its builds were lost and are repeated.
    #[serde(default)]
    pub retries: i64,
    /// Raised by each change.
    pub version: i64,
}

/// The most times that a request is built again after its build was lost.
pub const MAX_RETRIES: i64 = 3;

/// One run of a builder. Its properties are an entity-like part of their own ([`BuildProperties`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Its id over all builders.
    pub id: BuildId,
    /// Its number among its builder's builds, from 1.
    pub number: i64,
    /// Its builder.
    pub builder: BuilderId,
    /// The request it answers.
    pub request: BuildRequestId,
    /// The worker it runs on.
    pub worker: WorkerId,
    /// The master that runs it.
    pub master: MasterId,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub complete_at: Option<Timestamp>,
    /// Seconds that it waited for locks.
    pub locks_duration_s: i64,
    /// How it ended.
    pub results: Option<Results>,
    /// A short text for people.
    pub state_string: String,
    /// Raised by each change, of its properties too.
    pub version: i64,
}

/// Some or all properties of a build, as changed by one write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildProperties {
    /// The build.
    pub build: BuildId,
    /// The changed ones.
    pub changed: Properties,
    /// The build's version after the change.
    pub version: i64,
}

/// A link shown on a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Url {
    /// Its text.
    pub name: String,
    /// Its target.
    pub url: String,
}

/// One part of a build with its own logs and result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// Its number in the build, from 0.
    pub number: i64,
    /// Its name, unique in the build, an identifier of at most 50 characters.
    pub name: String,
    /// Its build.
    pub build: BuildId,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it had its locks.
    pub locks_acquired_at: Option<Timestamp>,
    /// When it ended.
    pub complete_at: Option<Timestamp>,
    /// How it ended.
    pub results: Option<Results>,
    /// A short text for people.
    pub state_string: String,
    /// Links.
    pub urls: Vec<Url>,
    /// Whether pages leave it out.
    pub hidden: bool,
    /// The id of the worker command that it runs or ran last; persisted before the command is sent, so that it can be
    /// interrupted after a crash.
    #[serde(default)]
    pub command: Option<String>,
    /// Raised by each change.
    pub version: i64,
}

/// How a log's text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogKind {
    /// Standard streams: each line begins with `o`, `e` or `h`.
    #[serde(rename = "s")]
    Stdio,
    /// Plain text.
    #[serde(rename = "t")]
    Text,
    /// HTML (shown as text by our page).
    #[serde(rename = "h")]
    Html,
}

impl LogKind {
    /// The letter of the public API.
    pub fn letter(self) -> &'static str {
        match self {
            LogKind::Stdio => "s",
            LogKind::Text => "t",
            LogKind::Html => "h",
        }
    }

    /// The kind of a letter.
    pub fn from_letter(letter: &str) -> Option<Self> {
        [LogKind::Stdio, LogKind::Text, LogKind::Html].into_iter().find(|k| k.letter() == letter)
    }
}

/// A step's named output; its text is in the log store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// Its id.
    pub id: LogId,
    /// Its name.
    pub name: String,
    /// Its name as an identifier, unique in the step.
    pub slug: String,
    /// Its step.
    pub step: StepId,
    /// How to read it.
    pub kind: LogKind,
    /// How many lines are stored and announced.
    pub num_lines: i64,
    /// Whether no more will come.
    pub complete: bool,
    /// Raised by each change.
    pub version: i64,
}

/// Why a version of the configuration came into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigurationCause {
    /// A master started with it.
    Start,
    /// It was reloaded.
    Reload,
    /// An earlier version was taken back.
    Rollback,
}

impl ConfigurationCause {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            ConfigurationCause::Start => "start",
            ConfigurationCause::Reload => "reload",
            ConfigurationCause::Rollback => "rollback",
        }
    }

    /// The cause of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        use ConfigurationCause::{Reload, Rollback, Start};
        [Start, Reload, Rollback].into_iter().find(|it| it.word() == word)
    }
}

/// One version of a master's configuration, numbered from 1. Never changes; the newest one is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigurationVersion {
    /// Its id over all masters.
    pub id: ConfigurationId,
    /// Whose.
    pub master: MasterId,
    /// Its number among that master's.
    pub number: i64,
    /// Tells its content apart from others', without telling it.
    pub digest: String,
    /// Why it came into force.
    pub cause: ConfigurationCause,
    /// The number of the version that was taken back.
    pub restores: Option<i64>,
    /// Who wanted it: a user, `signal`, or the master itself.
    pub who: String,
    /// When it came into force.
    pub created_at: Timestamp,
    /// What it changed of the one before, for people and programs; secrets are only named.
    pub difference: Value,
    /// The control act that asked for it, so that it is done once however often it is handed over.
    pub act: Option<ControlId>,
}

/// A status listener that tells people or other systems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notifier {
    /// Its id, kept over restarts by its name.
    pub id: NotifierId,
    /// Its unique name.
    pub name: String,
    /// The word of its `kind` in the configuration.
    pub kind: String,
    /// The master that runs it; none: it is gone from the configuration.
    pub master: Option<MasterId>,
    /// Raised by each change.
    pub version: i64,
}

/// What has become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryState {
    /// It is to be sent.
    Waiting,
    /// It was sent.
    Sent,
    /// It was refused, or given up after trying for long.
    Failed,
    /// It made room for newer ones while it waited.
    Dropped,
    /// It was not worth sending, for the reason that stands beside it.
    Silenced,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [DeliveryState; 5] = [
        DeliveryState::Waiting,
        DeliveryState::Sent,
        DeliveryState::Failed,
        DeliveryState::Dropped,
        DeliveryState::Silenced,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            DeliveryState::Waiting => "waiting",
            DeliveryState::Sent => "sent",
            DeliveryState::Failed => "failed",
            DeliveryState::Dropped => "dropped",
            DeliveryState::Silenced => "silenced",
        }
    }

    /// The state of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

/// A message of a notifier: a row of its outbox, and after that of its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The notifier's name.
    pub notifier: String,
    /// When there was something to tell.
    pub created_at: Timestamp,
    /// Not to be sent (or tried again) before.
    pub due_at: Timestamp,
    /// Unique per notifier: the same event gives the same key, so that it is told once.
    pub dedup_key: String,
    /// What it is about, for people.
    pub subject: String,
    /// The build that it is about, if it is about one.
    pub build: Option<BuildId>,
    /// What is needed to write it, the notifier's own business; null once it is settled.
    pub notice: Value,
    /// What has become of it.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i64,
    /// To whom it was sent.
    pub target: Option<String>,
    /// Why it is where it is: the last error, or why it was silenced.
    pub reason: Option<String>,
    /// Since when it waits no more.
    pub settled_at: Option<Timestamp>,
    /// Raised by each change.
    pub version: i64,
}

/// What a control act is aimed at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "id")]
pub enum ControlTarget {
    /// A build.
    Build(BuildId),
    /// A build request.
    BuildRequest(BuildRequestId),
    /// A worker.
    Worker(WorkerId),
    /// A scheduler.
    Scheduler(SchedulerId),
    /// A force scheduler, by name.
    ForceScheduler(String),
    /// A master itself: its configuration, its actors.
    Master(MasterId),
    /// A notifier, by name; answered by the master that runs it.
    Notifier(String),
}

impl ControlTarget {
    /// Its path below `/api/v2`: `builds/7`, `forceschedulers/nightly`.
    pub fn path(&self) -> String {
        match self {
            ControlTarget::Build(id) => format!("builds/{id}"),
            ControlTarget::BuildRequest(id) => format!("buildrequests/{id}"),
            ControlTarget::Worker(id) => format!("workers/{id}"),
            ControlTarget::Scheduler(id) => format!("schedulers/{id}"),
            ControlTarget::ForceScheduler(name) => format!("forceschedulers/{name}"),
            ControlTarget::Master(id) => format!("masters/{id}"),
            ControlTarget::Notifier(name) => format!("notifiers/{name}"),
        }
    }

    /// What a path of [`ControlTarget::path`] names.
    pub fn of_path(path: &str) -> Option<Self> {
        let (kind, id) = path.split_once('/')?;
        let number = || id.parse::<i64>().ok();
        Some(match kind {
            "builds" => ControlTarget::Build(BuildId(number()?)),
            "buildrequests" => ControlTarget::BuildRequest(BuildRequestId(number()?)),
            "workers" => ControlTarget::Worker(WorkerId(number()?)),
            "schedulers" => ControlTarget::Scheduler(SchedulerId(number()?)),
            "masters" => ControlTarget::Master(MasterId(number()?)),
            "forceschedulers" => ControlTarget::ForceScheduler(id.to_owned()),
            "notifiers" => ControlTarget::Notifier(id.to_owned()),
            _ => return None,
        })
    }

    /// As it is stored.
    pub fn stored(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Something that a user asked for: a row that the owner of the target answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlAct {
    /// Its id.
    pub id: ControlId,
    /// Who asks.
    pub identity: String,
    /// The idempotency key, unique per identity: the same key gets the first act's answer.
    pub key: Option<String>,
    /// What it is aimed at.
    pub target: ControlTarget,
    /// What is asked: `stop`, `rebuild`, `cancel`, `pause`, `unpause`, `enable`, `force`, …
    pub action: String,
    /// The action's parameters.
    pub params: Value,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// The owner's answer.
    pub answer: Option<ControlAnswer>,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// Raised by each change.
    pub version: i64,
    /// The address that it was asked from, if it is known.
    #[serde(default)]
    pub came_from: Option<String>,
}

/// The owner's answer to a control act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlAnswer {
    /// Done; the result for the caller.
    Done(Value),
    /// The parameters are wrong: a message, or a map of field → message.
    Invalid(Value),
    /// Refused or failed, with a reason.
    Failed(String),
}
