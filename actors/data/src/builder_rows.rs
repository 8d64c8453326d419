//! A row for each builder: its last builds however old, what runs, its queue, its usual duration and its streak. Begun with what the
//! storage reads of each builder ([`BuilderHistory`]), then kept by events.

use std::sync::{Arc, OnceLock};

use greenroom_db::{
    Before, BuilderHistory, LONGEST_STREAK, RECENT_OF_BUILDER, Source, Streak, Verdict, took, verdict,
};
use greenroom_model::{Build, BuildId, BuildRequest, Results, Timestamp, wire};
use rpds::RedBlackTreeMapSync;
use serde::Serialize;

use crate::hot::{Readable, Shown, show};

/// A build with where it comes from.
#[derive(Debug, Clone)]
pub struct Line {
    /// The build.
    pub build: Shown<Build>,
    /// Where it comes from.
    pub source: Arc<Source>,
}

/// The row of a builder.
#[derive(Debug)]
pub struct BuilderRow {
    /// The last finished builds, newest (by number) first.
    pub(crate) recent: Vec<Line>,
    /// What runs, by number.
    pub(crate) running: Vec<Line>,
    /// The last successes, newest first: number, and microseconds.
    successes: Vec<(i64, i64)>,
    /// What precedes the recent builds.
    before: Tail,
    /// Requests that nobody has claimed: when each was submitted.
    pub(crate) waiting: RedBlackTreeMapSync<i64, Timestamp>,
    /// How many workers it has, and how many of these are connected.
    pub(crate) workers: (i64, i64),
    /// How many builds it has in all.
    pub(crate) total_builds: u64,
    /// How many requests.
    pub(crate) total_requests: u64,
    /// Rendered when it is asked for first.
    summary: OnceLock<Arc<str>>,
}

impl Clone for BuilderRow {
    /// For a change: what was rendered is left behind.
    fn clone(&self) -> Self {
        Self {
            recent: self.recent.clone(),
            running: self.running.clone(),
            successes: self.successes.clone(),
            before: self.before,
            waiting: self.waiting.clone(),
            workers: self.workers,
            total_builds: self.total_builds,
            total_requests: self.total_requests,
            summary: OnceLock::new(),
        }
    }
}

/// What precedes the recent builds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tail {
    /// Not known but for what the last one says, if even that.
    Unknown(Option<Verdict>),
    /// Nothing that says anything.
    Nothing,
    Row(Streak),
}

impl Tail {
    fn then(self, build: &Build) -> Self {
        let Some(says) = verdict(build.results) else { return self };
        let first = Streak { verdict: says, count: 1, since: (build.number, build.id) };
        match self {
            Tail::Row(row) if row.verdict == says => {
                Tail::Row(Streak { count: (row.count + 1).min(LONGEST_STREAK), ..row })
            }
            Tail::Unknown(None) => Tail::Unknown(Some(says)),
            Tail::Unknown(Some(last)) if last == says => self,
            Tail::Unknown(Some(_)) | Tail::Nothing | Tail::Row(_) => Tail::Row(first),
        }
    }
}

impl BuilderRow {
    /// The row of a new builder.
    pub(crate) fn new() -> Self {
        Self {
            recent: Vec::new(),
            running: Vec::new(),
            successes: Vec::new(),
            before: Tail::Nothing,
            waiting: RedBlackTreeMapSync::new_sync(),
            workers: (0, 0),
            total_builds: 0,
            total_requests: 0,
            summary: OnceLock::new(),
        }
    }

    /// Takes over what was read of the builder's builds, and what has happened since: what is known here of newer builds.
    /// `gone` have been removed since.
    pub(crate) fn adopt(&mut self, history: BuilderHistory, gone: &dyn Fn(BuildId) -> bool) {
        let line = |(build, source): (Arc<Build>, Arc<Source>)| {
            let json = build.render(&wire::NoLookup);
            Line { build: show(build, json), source }
        };
        let known = std::mem::take(&mut self.recent);
        let was_running = std::mem::take(&mut self.running);
        self.recent = history.recent.into_iter().map(line).collect();
        self.successes = history.successes;
        self.before = match history.before {
            Before::Unknown => Tail::Unknown(None),
            Before::Nothing => Tail::Nothing,
            Before::Row(row) => Tail::Row(row),
        };
        self.recent.retain(|line| !gone(line.build.id));
        for line in known.into_iter().rev() {
            if !self.recent.iter().any(|other| other.build.id == line.build.id) {
                self.finish(line);
            }
        }
        let read: Vec<Line> = history.running.into_iter().map(line).collect();
        // What ran when it was read may have ended since, and other builds may have begun.
        self.running = was_running
            .into_iter()
            .map(|old| match read.iter().find(|new| new.build.id == old.build.id) {
                Some(new) => Line { source: new.source.clone(), ..old },
                None => old,
            })
            .collect();
        self.summary = OnceLock::new();
    }

    /// Begins with what was read.
    pub(crate) fn begin(history: BuilderHistory) -> Self {
        let mut row = Self::new();
        let running = history.running.clone();
        row.adopt(history, &|_| false);
        for (build, source) in running {
            let json = build.render(&wire::NoLookup);
            row.put_running(Line { build: show(build, json), source });
        }
        row
    }

    /// A build that runs, as it is now.
    pub(crate) fn put_running(&mut self, line: Line) {
        match self.running.binary_search_by_key(&line.build.number, |other| other.build.number) {
            Ok(at) => self.running[at] = line,
            Err(at) => self.running.insert(at, line),
        }
    }

    /// Where a build comes from, if it is known here.
    pub(crate) fn source_of(&self, build: BuildId) -> Option<Arc<Source>> {
        let line = self.running.iter().chain(&self.recent).find(|line| line.build.id == build);
        line.map(|line| line.source.clone())
    }

    /// A build has ended.
    pub(crate) fn finish(&mut self, line: Line) {
        self.running.retain(|other| other.build.id != line.build.id);
        let number = line.build.number;
        if let Some(at) = self.recent.iter().position(|other| other.build.id == line.build.id) {
            self.recent[at] = line;
            return;
        }
        if line.build.results == Some(Results::Success) {
            let at = self.successes.iter().position(|(other, _)| *other < number);
            let at = at.unwrap_or(self.successes.len());
            self.successes.insert(at, (number, took(&line.build)));
            self.successes.truncate(RECENT_OF_BUILDER);
        }
        let at = self.recent.iter().position(|other| other.build.number < number);
        let at = at.unwrap_or(self.recent.len());
        if at == RECENT_OF_BUILDER {
            // It was older than all that are shown: the row before them is not what was thought.
            self.before = Tail::Unknown(None);
            return;
        }
        self.recent.insert(at, line);
        if self.recent.len() > RECENT_OF_BUILDER
            && let Some(dropped) = self.recent.pop()
        {
            self.before = self.before.then(&dropped.build);
        }
    }

    /// A build was removed. Answers whether what precedes the others must be read again.
    pub(crate) fn remove(&mut self, build: &Build) -> bool {
        self.running.retain(|other| other.build.id != build.id);
        let before = (self.recent.len(), self.successes.len());
        self.recent.retain(|other| other.build.id != build.id);
        self.successes.retain(|(number, _)| *number != build.number);
        if (self.recent.len(), self.successes.len()) != before {
            return true;
        }
        let of_row = matches!(self.before, Tail::Row(row) if row.since.0 <= build.number);
        of_row && verdict(build.results).is_some()
    }

    /// A request as it is now.
    pub(crate) fn put_request(&mut self, request: &BuildRequest) {
        if request.claimed_at.is_none() && request.complete_at.is_none() {
            self.waiting.insert_mut(request.id.0, request.submitted_at);
        } else {
            self.waiting.remove_mut(&request.id.0);
        }
    }

    /// How many of the newest builds say the same, and whether that is exact.
    pub(crate) fn streak(&self) -> (Option<Streak>, bool) {
        match self.recent.iter().rev().fold(self.before, |row, line| row.then(&line.build)) {
            Tail::Row(row) => (Some(row), true),
            Tail::Nothing => (None, true),
            Tail::Unknown(None) => (None, false),
            Tail::Unknown(Some(_)) => {
                let shown = self.recent.iter().rev().fold(Tail::Nothing, |row, line| row.then(&line.build));
                (if let Tail::Row(row) = shown { Some(row) } else { None }, false)
            }
        }
    }

    /// The builds of which nothing newer is missing, newest first; whether that is all the builder has.
    pub(crate) fn newest(&self) -> (Vec<&Shown<Build>>, bool) {
        let whole = self.recent.len() < RECENT_OF_BUILDER;
        let oldest = if whole { i64::MIN } else { self.recent.last().map_or(i64::MAX, |l| l.build.number) };
        let running = self.running.iter().map(|l| &l.build).filter(|b| b.number > oldest);
        let mut all: Vec<&Shown<Build>> = self.recent.iter().map(|l| &l.build).chain(running).collect();
        all.sort_unstable_by_key(|b| std::cmp::Reverse(b.number));
        (all, whole && all_known(self.total_builds, self.recent.len() + self.running.len()))
    }

    /// Its public form, as JSON text.
    pub fn summary(&self) -> Arc<str> {
        self.summary.get_or_init(|| wire::to_json(&self.form()).into()).clone()
    }

    /// How many builds the builder has in all.
    pub fn total_builds(&self) -> u64 {
        self.total_builds
    }

    /// The usual duration, as JSON text.
    pub fn durations(&self) -> String {
        wire::to_json(&self.durations_form())
    }

    fn durations_form(&self) -> Durations {
        let mut took: Vec<i64> = self.successes.iter().map(|(_, micros)| *micros).collect();
        took.sort_unstable();
        let of = took.len();
        let median = (of > 0).then(|| {
            let (low, high) = (took[(of - 1) / 2], took[of / 2]);
            low + (high - low) / 2
        });
        let p95 = (of > 0).then(|| took[(of * 95).div_ceil(100) - 1]);
        Durations { median: median.map(seconds), of, p95: p95.map(seconds) }
    }

    fn form(&self) -> Summary<'_> {
        let (streak, exact) = self.streak();
        Summary {
            durations: self.durations_form(),
            queue: Queue {
                oldest: self.waiting.values().min().map(|at| at.seconds()),
                waiting: self.waiting.size(),
            },
            recent: self.recent.iter().map(line_form).collect(),
            running: self.running.iter().map(line_form).collect(),
            streak: streak.map(|row| StreakForm {
                at_least: !exact || row.count == LONGEST_STREAK,
                broken: row.verdict == Verdict::Broken,
                count: row.count,
                since: Since { buildid: row.since.1.0, number: row.since.0 },
            }),
            workers: Workers { configured: self.workers.0, connected: self.workers.1 },
        }
    }
}

fn all_known(total: u64, known: usize) -> bool {
    total == known as u64
}

/// Seconds with three places.
#[allow(clippy::cast_precision_loss, reason = "years fit")]
pub(crate) fn seconds(micros: i64) -> f64 {
    (micros as f64 / 1_000.0).round() / 1_000.0
}

// Fields in the order of their names, as everywhere in replies.

#[derive(Serialize)]
struct Summary<'a> {
    durations: Durations,
    queue: Queue,
    recent: Vec<LineForm<'a>>,
    running: Vec<LineForm<'a>>,
    streak: Option<StreakForm>,
    workers: Workers,
}

#[derive(Serialize)]
struct Durations {
    median: Option<f64>,
    of: usize,
    p95: Option<f64>,
}

#[derive(Serialize)]
struct Queue {
    oldest: Option<i64>,
    waiting: usize,
}

#[derive(Serialize)]
struct StreakForm {
    at_least: bool,
    broken: bool,
    count: u64,
    since: Since,
}

#[derive(Serialize)]
struct Since {
    buildid: i64,
    number: i64,
}

#[derive(Serialize)]
struct Workers {
    configured: i64,
    connected: i64,
}

#[derive(Serialize)]
struct LineForm<'a> {
    author: Option<&'a str>,
    branch: Option<&'a str>,
    buildid: i64,
    changeid: Option<i64>,
    complete_at: Option<i64>,
    duration: Option<f64>,
    number: i64,
    results: Option<i64>,
    revision: Option<&'a str>,
    started_at: i64,
    state_string: &'a str,
    waited: f64,
    what: &'a str,
    workerid: i64,
}

fn line_form(Line { build, source }: &Line) -> LineForm<'_> {
    LineForm {
        author: source.author.as_deref(),
        branch: source.branch.as_deref(),
        buildid: build.id.0,
        changeid: source.change.map(|c| c.0),
        complete_at: build.complete_at.map(Timestamp::seconds),
        duration: build.complete_at.map(|_| seconds(took(build))),
        number: build.number,
        results: build.results.map(Results::code),
        revision: source.revision.as_deref(),
        started_at: build.started_at.seconds(),
        state_string: &build.state_string,
        waited: seconds(build.started_at.micros_since(source.submitted_at).max(0)),
        what: &source.what,
        workerid: build.worker.0,
    }
}
