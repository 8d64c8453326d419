//! Writes: what a layer above asks the data layer to change.
//!
//! A [`Write`] is a list of operations that happen together or not at all. It carries its own id, so that asking again
//! after an unknown outcome gives the first outcome. Ids of new entities are allocated by the writer beforehand
//! (`Rw::new_id`), so nothing has to wait to learn them. *Operations are imperative; the events that they
//! cause are past tense.*

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Clock;
use crate::entities::*;
use crate::ids::*;
use crate::properties::Properties;
use crate::results::Results;
use crate::time::Timestamp;

/// The id of a write: 128 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WriteId(pub u128);

/// Operations that happen together or not at all, once however often they are asked for.
#[derive(Debug, Clone)]
pub struct Write {
    /// Kept with the outcome for at least an hour.
    pub id: WriteId,
    /// The time that new rows and changes bear.
    pub at: Timestamp,
    /// What to do, in order.
    pub ops: Vec<Op>,
}

/// The property of a build that was pinned: true, or false since it no longer is.
pub const PINNED: &str = "greenroom_pinned";

/// One operation.
#[derive(Debug, Clone)]
pub enum Op {
    /// Makes the stored builders, workers, schedulers, … of this master those of its configuration.
    Configure(Box<Configuration>),
    /// Numbers a configuration (beside `Configure` in the same write). Refused if this master has that number already.
    AddConfiguration(Box<NewConfiguration>),
    /// Adds a change, unless it is known already ([`ChangeOrigin`]); refused with [`Refusal::KeyUsed`] if its delivery brought another
    /// one. Outcome: [`Outcome::Change`].
    AddChange(Box<NewChange>),
    /// Adds a buildset with a request per builder. Outcome: [`Outcome::Buildset`].
    AddBuildset(Box<NewBuildset>),
    /// Stores a scheduler's state (beside `AddBuildset` in the same write: nothing is scheduled twice nor skipped). Refused with
    /// [`Refusal::Held`] unless this master has the scheduler.
    SaveScheduler {
        /** Whose. */
        scheduler: SchedulerId,
        /** The state. */
        state: SchedulerState,
    },
    /// Stores a change source's state, such as the tips that it has seen. Refused with [`Refusal::Held`] unless this master has it.
    SaveChangeSource {
        /** Whose. */
        source: ChangeSourceId,
        /** The state, its own business. */
        state: Value,
    },
    /// Switches a scheduler on or off.
    EnableScheduler {
        /** Which. */
        scheduler: SchedulerId,
        /** On or off. */
        enabled: bool,
    },
    /// Claims the request for this master and starts a build of it, both or neither: refused with
    /// [`Refusal::ClaimLost`] if the request is claimed or complete. Outcome: [`Outcome::Build`].
    StartBuild(Box<NewBuild>),
    /// Changes a running build's text.
    DescribeBuild {
        /** Which. */
        build: BuildId,
        /** The text. */
        state_string: String,
    },
    /// Adds or replaces properties of a build.
    SetProperties {
        /** Which. */
        build: BuildId,
        /** These. */
        properties: Properties,
    },
    /// Adds a pending step.
    AddStep {
        /** Its id. */
        id: StepId,
        /** Its build. */
        build: BuildId,
        /** Its number. */
        number: i64,
        /** Its name, already unique in the build. */
        name: String,
        /** Left out by pages. */
        hidden: bool,
    },
    /// Starts a pending step.
    StartStep {
        /** Which. */
        step: StepId,
        /** The text. */
        state_string: String,
    },
    /// Persists the id of the worker command that the step is about to run.
    SetStepCommand {
        /** Which. */
        step: StepId,
        /** The worker command's id. */
        command: String,
    },
    /// Changes a running step's text or adds links.
    DescribeStep {
        /** Which. */
        step: StepId,
        /** The text, if it changes. */
        state_string: Option<String>,
        /** More links. */
        urls: Vec<Url>,
    },
    /// Ends a step. Refused if it has ended.
    FinishStep {
        /** Which. */
        step: StepId,
        /** How. */
        results: Results,
        /** The text. */
        state_string: String,
        /** Left out by pages. */
        hidden: bool,
    },
    /// Adds an empty log to a step.
    AddLog {
        /** Its id. */
        id: LogId,
        /** Its step. */
        step: StepId,
        /** Its name; the slug follows from it. */
        name: String,
        /** How to read it. */
        kind: LogKind,
    },
    /// Announces that a log has grown to so many stored lines; never shrinks it.
    GrowLog {
        /** Which. */
        log: LogId,
        /** Lines now. */
        num_lines: i64,
    },
    /// Ends a log.
    FinishLog {
        /** Which. */
        log: LogId,
        /** Lines in all. */
        num_lines: i64,
    },
    /// Ends a build. With `Retry` its request becomes free again, at most [`MAX_RETRIES`] times, then it ends as exception;
    /// else the request and, with its last request, the buildset are completed too. Steps and logs that are
    /// still open are ended with it. Refused with [`Refusal::Final`] if the build has ended.
    FinishBuild {
        /** Which. */
        build: BuildId,
        /** How. */
        results: Results,
        /** The text. */
        state_string: String,
    },
    /// Keeps a build whatever retention says, or leaves it to retention again; ended builds, too. Its property
    /// [`PINNED`] says so.
    PinBuild {
        /** Which. */
        build: BuildId,
        /** Keep it or not. */
        pinned: bool,
        /** Who says so. */
        by: String,
    },
    /// Completes an unclaimed request as cancelled; refused with [`Refusal::ClaimLost`] if claimed, [`Refusal::Final`] if complete.
    CancelRequest {
        /** Which. */
        request: BuildRequestId,
    },
    /// A worker is connected to this master.
    ConnectWorker {
        /** Which. */
        worker: WorkerId,
        /** What it told. */
        info: WorkerInfo,
    },
    /// A worker is no longer connected to this master.
    DisconnectWorker {
        /** Which. */
        worker: WorkerId,
    },
    /// Pauses or resumes a worker.
    PauseWorker {
        /** Which. */
        worker: WorkerId,
        /** Paused or not. */
        paused: bool,
        /** Why. */
        reason: Option<String>,
    },
    /// Asks a worker to stop when its builds are done, or takes that back.
    SetWorkerGraceful {
        /** Which. */
        worker: WorkerId,
        /** Asked or not. */
        graceful: bool,
    },
    /// Adds a control act, unless its identity used its key before to ask for the same; refused with [`Refusal::KeyUsed`] if
    /// that was something else. Outcome: [`Outcome::Control`].
    AskControl(Box<NewControl>),
    /// Answers a control act (beside the effect, in the same write). Refused with [`Refusal::Final`] if it is answered: what
    /// stands beside it in the write has been done before.
    AnswerControl {
        /** Which. */
        act: ControlId,
        /** The answer. */
        answer: ControlAnswer,
    },
    /// Stores a status listener's clock and settings.
    SaveListener {
        /** Its name. */
        name: String,
        /** Its state. */
        state: ListenerRecord,
    },
    /// This master has the duty from now on. Refused with [`Refusal::Held`] while another master that is active has it.
    Claim(Duty),
    /// This master does not have the duty any more. Nothing happens if it did not.
    Release(Duty),
    /// Puts a message into a notifier's outbox (or into its record at once), unless its key is known there.
    AddDelivery(Box<NewDelivery>),
    /// A message could not be sent and will be tried again. Nothing happens to one that is settled.
    RetryDelivery {
        /** Which. */
        delivery: DeliveryId,
        /** When. */
        due_at: Timestamp,
        /** Why it could not be sent. */
        reason: String,
    },
    /// A message waits no more. Nothing happens to one that is settled.
    SettleDelivery {
        /** Which. */
        delivery: DeliveryId,
        /** Anything but waiting. */
        state: DeliveryState,
        /** Whether this was an attempt to send it. */
        attempted: bool,
        /** To whom it was sent. */
        target: Option<String>,
        /** Why. */
        reason: Option<String>,
    },
    /// Forgets the oldest settled messages of a notifier; of those that were silenced and of the others, each, so many stay.
    PruneDeliveries {
        /** Whose. */
        notifier: String,
        /** How many. */
        keep: u64,
    },
    /// Proves that this master runs (`last_active`).
    Heartbeat,
    /// This master stops in good order: it is no longer active, and has no duties.
    StopMaster,
    /// Takes the place of a master whose lease is over from it: it can write nothing any more, is not active, has no duties and
    /// no workers. Refused with [`Refusal::Held`] while its lease lasts, or if somebody else was faster.
    TakeOver {
        /** Which. */
        master: MasterId,
    },
    /// Ends builds of a master that is not active as retry, oldest first. Refused with [`Refusal::Held`] if it is active.
    /// Outcome: [`Outcome::Ended`].
    EndBuilds {
        /** Whose. */
        master: MasterId,
        /** At most so many. */
        limit: u64,
    },
}

/// What one master at a time does for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Duty {
    /// Running a scheduler.
    Scheduler(SchedulerId),
    /// Running a change source.
    ChangeSource(ChangeSourceId),
    /// Running a notifier.
    Notifier {
        /** Its name. */
        name: String,
        /** For a claim: the id that it gets if it is new, and the word of its kind. */
        new: Option<(NotifierId, String)>,
    },
}

/// The part of a master's configuration that the database knows. Names are unique within their list; ids of new ones are
/// allocated by the data layer.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// The builders.
    pub builders: Vec<ConfiguredBuilder>,
    /// The workers' names.
    pub workers: Vec<String>,
    /// The schedulers' names.
    pub schedulers: Vec<String>,
    /// The change sources' names.
    pub change_sources: Vec<String>,
    /// The projects: name and description.
    pub projects: Vec<(String, Option<String>)>,
}

/// A version of the configuration to add.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the fields of [`ConfigurationVersion`]
pub struct NewConfiguration {
    pub id: ConfigurationId,
    pub number: i64,
    pub digest: String,
    pub cause: ConfigurationCause,
    pub restores: Option<i64>,
    pub who: String,
    pub difference: Value,
    pub act: Option<ControlId>,
}

/// A builder of the configuration.
#[derive(Debug, Clone, Default)]
pub struct ConfiguredBuilder {
    /// Its name.
    pub name: String,
    /// A text for people.
    pub description: Option<String>,
    /// Its project's name.
    pub project: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The workers that may run it, by name.
    pub workers: Vec<String>,
}

/// Where a change comes from; decides whether it is one already known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeOrigin {
    /// A hook request; the same delivery id of the same source is the same change.
    Hook {
        /** The source, such as `base`. */
        source: String,
        /** The delivery id, if the source gives one. */
        delivery: Option<String>,
    },
    /// A poller saw a branch's tip move; the same move is the same change (a branch may return to an old commit).
    Poll {
        /** The poller's name. */
        source: String,
        /** The tip before, none for a new branch. */
        old_tip: Option<String>,
        /** The tip after. */
        new_tip: String,
    },
    /// Sent by hand; never merged.
    Manual,
}

/// A change to add.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the fields of [`Change`]
pub struct NewChange {
    pub id: ChangeId,
    pub origin: ChangeOrigin,
    pub author: String,
    pub committer: Option<String>,
    pub comments: String,
    pub branch: Option<String>,
    pub revision: Option<String>,
    pub revlink: Option<String>,
    pub when: Timestamp,
    pub category: Option<String>,
    pub repository: String,
    pub codebase: String,
    pub project: String,
    pub files: Vec<String>,
    pub properties: Properties,
}

/// A source stamp to use: an equal one is reused.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs)] // the fields of [`SourceStamp`]
pub struct NewSourceStamp {
    pub branch: Option<String>,
    pub revision: Option<String>,
    pub project: String,
    pub repository: String,
    pub codebase: String,
    pub patch: Option<NewPatch>,
}

/// A patch to store.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the fields of [`Patch`]
pub struct NewPatch {
    pub level: i64,
    pub subdir: String,
    pub author: String,
    pub comment: String,
    pub body: String,
}

/// A source stamp of a new buildset.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one or two of them live as long as a write")]
pub enum StampRef {
    /// One that exists.
    Existing(SourceStampId),
    /// One by value.
    New(NewSourceStamp),
}

/// A buildset to add.
#[derive(Debug, Clone)]
pub struct NewBuildset {
    /// Its id.
    pub id: BuildsetId,
    /// Its requests: id and builder.
    pub requests: Vec<(BuildRequestId, BuilderId)>,
    /// On which source stamps, one a codebase.
    pub sourcestamps: Vec<StampRef>,
    /// Why.
    pub reason: String,
    /// A name given from outside.
    pub external_id: Option<String>,
    /// The properties of its builds.
    pub properties: Properties,
    /// Higher goes first.
    pub priority: i64,
    /// Whether a build waits for it.
    pub waited_for: bool,
    /// The scheduler that asks.
    pub scheduler: Option<String>,
    /// The build that triggers it, and how it is related.
    pub parent: Option<(BuildId, String)>,
    /// The build that it repeats.
    pub rebuilt_build: Option<BuildId>,
}

/// A build to start.
#[derive(Debug, Clone)]
pub struct NewBuild {
    /// Its id.
    pub id: BuildId,
    /// The request that it answers.
    pub request: BuildRequestId,
    /// The worker that it runs on.
    pub worker: WorkerId,
    /// A short text for people.
    pub state_string: String,
    /// Its first properties (those of its buildset are added by the caller).
    pub properties: Properties,
}

/// A control act to ask for.
#[derive(Debug, Clone)]
pub struct NewControl {
    /// Its id.
    pub id: ControlId,
    /// Who asks.
    pub identity: String,
    /// The idempotency key.
    pub key: Option<String>,
    /// What it is aimed at.
    pub target: ControlTarget,
    /// What is asked.
    pub action: String,
    /// The action's parameters.
    pub params: Value,
    /// The address that it is asked from, if it is known.
    pub came_from: Option<String>,
}

/// A message to put into a notifier's outbox.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the fields of [`Delivery`]
pub struct NewDelivery {
    pub id: DeliveryId,
    pub notifier: String,
    pub due_at: Timestamp,
    pub dedup_key: String,
    pub subject: String,
    pub build: Option<BuildId>,
    pub notice: Value,
    /// Why it will not be sent, if that is certain already: it is silenced.
    pub silenced: Option<String>,
}

/// What a scheduler must remember over a crash.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SchedulerState {
    /// Every change contained in this clock has been taken; none: it has never run.
    pub clock: Option<Clock>,
    /// What was taken but not yet built; its own business.
    pub pending: Value,
}

/// What a status listener must remember over a crash.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ListenerRecord {
    /// Every event contained in this clock has been handled.
    pub clock: Option<Clock>,
    /// Its settings.
    pub settings: Value,
}

/// What an operation gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is done.
    Done,
    /// The change's id: the given one, or the known one's.
    Change {
        /** Which. */
        id: ChangeId,
        /** Whether it was added now. */
        new: bool,
    },
    /// The buildset and its requests.
    Buildset {
        /** Which. */
        id: BuildsetId,
        /** Request of each builder. */
        requests: Vec<(BuilderId, BuildRequestId)>,
    },
    /// The started build.
    Build(Arc<Build>),
    /// The control act: the given one, or the one that used the same key first, perhaps answered.
    Control(Arc<ControlAct>),
    /// So many builds were ended.
    Ended(u64),
}

/// Why a write certainly did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Somebody else has the request. Normal.
    #[error("the build request is claimed or complete")]
    ClaimLost,
    /// Another master has it. Normal.
    #[error("{0}")]
    Held(String),
    /// It has ended, and what has ended never changes.
    #[error("{0} has ended already")]
    Final(String),
    /// There is no such thing.
    #[error("there is no {0}")]
    NotFound(String),
    /// The idempotency key stands for another act (a delivery's id: for another change).
    #[error("the idempotency key {0:?} was used before, to ask for something else: take a new one")]
    KeyUsed(String),
    /// The values are unacceptable.
    #[error("{0}")]
    Invalid(String),
}

/// The answer to a write that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// One outcome per operation.
    pub outcomes: Vec<Outcome>,
    /// This master and the number of its last event of the write's transaction: a clock at or past it contains the write.
    pub at: (MasterId, i64),
}
