//! G3: of a request's attempts at most one is accepted, and no two run at the same time; G4's other half: a success really ended.
//!
//! What a worker's death has orphaned may run on until it ends by itself or its worker is back, and overlap with the next attempt; it
//! is never accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::{Final, Findings, each_line};

const SUCCESS: i64 = 0;
const RETRY: i64 = 5;

/// One run of a build's command.
struct Attempt {
    build: i64,
    start: u64,
    /// None: it was killed.
    end: Option<u64>,
}

/// What was written down outside.
#[derive(Default)]
struct Record {
    of_jobs: BTreeMap<i64, Vec<Attempt>>,
    /// Job, build and when: it started while the kernel held the job's lock for an earlier one.
    overlaps: Vec<(i64, i64, u64)>,
    /// When workers were killed.
    kills: Vec<u64>,
    /// Builds whose result is that they are repeated.
    repeated: BTreeSet<i64>,
}

/// From when a worker begins a command to when that writes down its start, in nanoseconds.
const SPAWNED_WITHIN: u64 = 500_000_000;

impl Record {
    fn read(dir: &Path, state: &Final, findings: &mut Findings) -> Self {
        let mut record = Self::default();
        each_line(dir, "attempts.jsonl", |line| record.take(&line, findings));
        let repeated = state.rows("builds").iter().filter(|it| it["results"] == RETRY);
        record.repeated = repeated.filter_map(|it| it["buildid"].as_i64()).collect();
        record
    }

    fn take(&mut self, line: &Value, findings: &mut Findings) {
        let number = |name: &str| line[name].as_i64().unwrap_or_else(|| panic!("no {name} in {line}"));
        let at = number("at").unsigned_abs();
        if line["what"] == "worker killed" {
            return self.kills.push(at);
        }
        let (job, build) = (number("job"), number("build"));
        let attempts = self.of_jobs.entry(job).or_default();
        match line["what"].as_str() {
            Some("start") => attempts.push(Attempt { build, start: at, end: None }),
            Some("end") => match attempts.iter_mut().rev().find(|it| it.build == build && it.end.is_none()) {
                Some(attempt) => attempt.end = Some(at),
                None => findings.fault("G3", format!("job {job}: build {build} ended without a start")),
            },
            _ => self.overlaps.push((job, build, at)),
        }
    }

    /// Whether a worker died under an attempt before another one began: it is an orphan, and not accepted. A command that was begun writes down
    /// its start a moment later.
    fn is_orphan(&self, attempt: &Attempt, later: u64) -> bool {
        let begun = attempt.start.saturating_sub(SPAWNED_WITHIN);
        self.repeated.contains(&attempt.build) && self.kills.iter().any(|it| (begun..later).contains(it))
    }

    fn judge_overlaps(&self, findings: &mut Findings) {
        for (job, build, at) in &self.overlaps {
            let earlier = self.of_jobs.get(job).map_or(&[][..], Vec::as_slice);
            if !earlier.iter().any(|it| it.build != *build && self.is_orphan(it, *at)) {
                let what =
                    format!("job {job}: when build {build} started, an earlier attempt held the job's lock");
                findings.fault("G3", what);
            }
        }
        for (job, attempts) in &self.of_jobs {
            for (nth, attempt) in attempts.iter().enumerate() {
                let over = |earlier: &&Attempt| {
                    earlier.end.is_some_and(|end| end > attempt.start)
                        && !self.is_orphan(earlier, attempt.start)
                };
                if let Some(earlier) = attempts[..nth].iter().find(over) {
                    let builds = (earlier.build, attempt.build);
                    let what =
                        format!("job {job}: builds {} and {} ran at the same time", builds.0, builds.1);
                    findings.fault("G3", what);
                }
            }
        }
    }
}

pub(super) fn judge(dir: &Path, state: &Final, findings: &mut Findings) {
    let record = Record::read(dir, state, findings);
    record.judge_overlaps(findings);
    let of_jobs = &record.of_jobs;
    let mut ended = BTreeSet::new();
    for (job, attempts) in of_jobs {
        findings.attempts += attempts.len();
        let mut started = BTreeSet::new();
        for attempt in attempts {
            if attempt.end.is_some() {
                ended.insert(attempt.build);
            }
            if !started.insert(attempt.build) {
                findings.fault("G3", format!("job {job}: build {} ran its command twice", attempt.build));
            }
        }
    }
    let mut accepted: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for build in state.rows("builds") {
        let number = |name: &str| build[name].as_i64().unwrap_or_default();
        if build["complete"] != true || number("results") == RETRY {
            continue;
        }
        accepted.entry(number("buildrequestid")).or_default().push(number("buildid"));
        if number("results") == SUCCESS && !of_jobs.is_empty() && !ended.contains(&number("buildid")) {
            let what = format!("build {} succeeded, but its command never ended", number("buildid"));
            findings.fault("G4", what);
        }
    }
    for (request, builds) in accepted.iter().filter(|(_, builds)| builds.len() > 1) {
        findings.fault("G3", format!("request {request} has several results, by builds {builds:?}"));
    }
    let known: BTreeSet<i64> =
        state.rows("builds").iter().filter_map(|it: &Value| it["buildid"].as_i64()).collect();
    for attempt in of_jobs.values().flatten().filter(|it| !known.contains(&it.build)) {
        findings.fault("G3", format!("build {} ran, but there is no such build", attempt.build));
    }
}
