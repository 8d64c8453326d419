//! What a message says: everything that its renderers want to know, gathered before it is stored.
//!
//! Notices are stored as JSON while they wait, so fields may be added with a default, never renamed. Texts that come from
//! builds are bounded and have had their secrets masked, but are otherwise as they came: whoever shows them escapes them.

use std::collections::BTreeMap;

use greenroom_config::Mode;
use greenroom_model::{
    BuildId, BuilderId, BuildsetId, ChangeId, LogId, Results, StepId, Timestamp, WorkerId,
};
use serde::{Deserialize, Serialize};

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Notice {
    /// A build has begun or ended.
    Build(Box<BuildNotice>),
    /// All builds of a buildset have ended.
    Buildset(Box<BuildsetNotice>),
    /// Many messages in one.
    Digest(DigestNotice),
    /// A worker has been away for long.
    WorkerMissing(WorkerNotice),
    /// Somebody wants to see that it works.
    Test(TestNotice),
}

/// A point in a build's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildEvent {
    /// It runs.
    Started,
    /// It has ended.
    Finished,
}

/// One build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildNotice {
    /// Whether it began or ended.
    pub event: BuildEvent,
    /// The build.
    pub build: BuildId,
    /// Its number among its builder's.
    pub number: i64,
    /// Its page.
    pub url: String,
    /// Its builder.
    pub builder: BuilderId,
    /// The builder's name.
    pub builder_name: String,
    /// The builder's page.
    pub builder_url: String,
    /// The builder's tags.
    pub tags: Vec<String>,
    /// The builder's project.
    pub project: Option<String>,
    /// The worker's name.
    pub worker: String,
    /// How it ended.
    pub results: Option<Results>,
    /// Which modes it fits, of all there are.
    pub modes: Vec<Mode>,
    /// A short text for people, such as `make test failed`.
    pub state_string: String,
    /// The build before on the same builder and branch that says something of the code (not skipped, repeated or cancelled).
    pub previous: Option<BuildRef>,
    /// The last one that was a success, or had only warnings, if it is among the last hundred.
    pub last_good: Option<BuildRef>,
    /// The first that failed since then; the build itself if it is the first. None if it did not fail.
    pub first_failure: Option<BuildRef>,
    /// What is the same for all messages of one failure and its repair, and no other's.
    pub thread: String,
    /// The source, one a codebase.
    pub sources: Vec<SourceNotice>,
    /// The buildset.
    pub buildset: BuildsetId,
    /// Why it was asked for.
    pub reason: String,
    /// Which scheduler asked.
    pub scheduler: Option<String>,
    /// Who asked, if a person did.
    pub owners: Vec<String>,
    /// The changes that came in since the last good build (or with this build, if it did not fail), newest first.
    pub changes: Vec<ChangeNotice>,
    /// How many more there are.
    pub more_changes: usize,
    /// The authors of all of these, each once: who may have broken it.
    pub blame: Vec<String>,
    /// The first step that made it fail, if one did.
    pub step: Option<StepNotice>,
    /// Its properties, as far as they are short.
    pub properties: BTreeMap<String, serde_json::Value>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub complete_at: Option<Timestamp>,
}

/// Another build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildRef {
    /// Which.
    pub build: BuildId,
    /// Its number among its builder's.
    pub number: i64,
    /// Its page.
    pub url: String,
    /// How it ended.
    pub results: Results,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceNotice {
    /// Which named source tree; empty is the default one.
    pub codebase: String,
    /// Where it comes from.
    pub repository: String,
    /// The project's name.
    pub project: String,
    /// The branch.
    pub branch: Option<String>,
    /// The revision that was asked for, or that was found out (`got_revision`).
    pub revision: Option<String>,
    /// Whether a patch lay over it.
    pub patched: bool,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeNotice {
    /// Which.
    pub change: ChangeId,
    /// Who wrote it.
    pub author: String,
    /// Who committed it.
    pub committer: Option<String>,
    /// The message, at most 4 KiB.
    pub comments: String,
    /// The revision.
    pub revision: Option<String>,
    /// A link to it.
    pub revlink: Option<String>,
    /// The branch.
    pub branch: Option<String>,
    /// Files that it touches, at most 50.
    pub files: Vec<String>,
    /// When it was made.
    pub when: Timestamp,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepNotice {
    /// Which.
    pub step: StepId,
    /// Its number in the build.
    pub number: i64,
    /// Its name.
    pub name: String,
    /// A short text for people.
    pub state_string: String,
    /// How it ended.
    pub results: Option<Results>,
    /// Its log, if it has one.
    pub log: Option<LogNotice>,
    /// The first line of the log's end that looks like an error.
    pub first_error: Option<String>,
    /// The last lines of the log, at most 100 of at most 1,000 characters.
    pub tail: Vec<String>,
}

/// A log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogNotice {
    /// Which.
    pub log: LogId,
    /// Its name.
    pub name: String,
    /// Its name in URLs.
    pub slug: String,
    /// How many lines it has.
    pub num_lines: i64,
    /// Its page.
    pub url: String,
}

/// A buildset whose builds have all ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildsetNotice {
    /// Which.
    pub buildset: BuildsetId,
    /// The worst of its builds' results.
    pub results: Results,
    /// Which modes any of its builds fits.
    pub modes: Vec<Mode>,
    /// Why it was asked for.
    pub reason: String,
    /// Which scheduler asked.
    pub scheduler: Option<String>,
    /// The source, one a codebase.
    pub sources: Vec<SourceNotice>,
    /// Its builds that the notifier tells of, worst first, at most 50.
    pub builds: Vec<BuildNotice>,
    /// How many more there are.
    pub more_builds: usize,
    /// When it was asked for.
    pub submitted_at: Timestamp,
    /// When it was complete.
    pub complete_at: Option<Timestamp>,
}

/// Many messages in one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DigestNotice {
    /// The first of them was due.
    pub since: Timestamp,
    /// The last of them was due.
    pub until: Timestamp,
    /// How many they were.
    pub total: u64,
    /// How many builds ended with each result, by its word.
    pub counts: BTreeMap<String, u64>,
    /// One line a builder, the one with most messages first, at most 100.
    pub lines: Vec<DigestLine>,
    /// How many more builders there are.
    pub more_lines: usize,
    /// Why they were collected: because it is configured, or because they were too many.
    pub reason: String,
    /// Where all of it can be seen.
    pub url: String,
}

/// What a digest says of one builder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DigestLine {
    /// The builder's name (or a worker's, that is missing).
    pub name: String,
    /// Its page.
    pub url: String,
    /// How many messages.
    pub messages: u64,
    /// The worst result among them.
    pub worst: Option<Results>,
    /// The last build.
    pub last: Option<BuildRef>,
    /// The step that made the last one fail.
    pub step: Option<String>,
    /// Who may have broken it, at most 10.
    pub blame: Vec<String>,
}

/// A worker that is away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerNotice {
    /// Which.
    pub worker: WorkerId,
    /// Its name.
    pub name: String,
    /// Its page.
    pub url: String,
    /// Since when.
    pub since: Timestamp,
    /// Who cares for it, as it told.
    pub admin: Option<String>,
    /// Its host, as it told.
    pub host: Option<String>,
}

/// A trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestNotice {
    /// Who wants it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Notice {
    /// A line for lists of deliveries, such as `linux #42 failure`.
    pub fn subject(&self) -> String {
        match self {
            Notice::Build(it) => it.subject(),
            Notice::Buildset(it) => format!("buildset {} {}", it.buildset, it.results),
            Notice::Digest(it) => format!("digest of {} messages", it.total),
            Notice::WorkerMissing(it) => format!("worker {} is missing", it.name),
            Notice::Test(it) => format!("test message asked for by {}", it.by),
        }
    }

    /// The build that it is about, if it is about one.
    pub fn build(&self) -> Option<&BuildNotice> {
        match self {
            Notice::Build(it) => Some(it),
            _ => None,
        }
    }
}

impl BuildNotice {
    /// A line such as `linux #42 failure`.
    pub fn subject(&self) -> String {
        let word = match (self.event, self.results) {
            (BuildEvent::Started, _) => "started",
            (BuildEvent::Finished, results) => results.map_or("finished", Results::word),
        };
        format!("{} #{} {word}", self.builder_name, self.number)
    }

    /// The first source, which for most farms is the only one.
    pub fn source(&self) -> Option<&SourceNotice> {
        self.sources.first()
    }

    /// How long it took, in microseconds.
    pub fn duration_us(&self) -> Option<i64> {
        self.complete_at.map(|at| at.micros_since(self.started_at))
    }
}

impl ChangeNotice {
    /// The first line of the message.
    pub fn subject(&self) -> &str {
        self.comments.lines().next().unwrap_or("").trim()
    }
}
