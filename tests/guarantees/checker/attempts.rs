//! G3: of a request's attempts at most one is accepted, and no two run at the same time; G4's other half: a success really ended.

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

fn read(dir: &Path, findings: &mut Findings) -> BTreeMap<i64, Vec<Attempt>> {
    let mut of_jobs: BTreeMap<i64, Vec<Attempt>> = BTreeMap::new();
    each_line(dir, "attempts.jsonl", |line| {
        let number = |name: &str| line[name].as_i64().unwrap_or_else(|| panic!("no {name} in {line}"));
        let (job, build, at) = (number("job"), number("build"), number("at").unsigned_abs());
        let attempts = of_jobs.entry(job).or_default();
        match line["what"].as_str() {
            Some("start") => attempts.push(Attempt { build, start: at, end: None }),
            Some("end") => match attempts.iter_mut().rev().find(|it| it.build == build && it.end.is_none()) {
                Some(attempt) => attempt.end = Some(at),
                None => findings.fault("G3", format!("job {job}: build {build} ended without a start")),
            },
            _ => {
                let what =
                    format!("job {job}: when build {build} started, an earlier attempt held the job's lock");
                findings.fault("G3", what);
            }
        }
    });
    of_jobs
}

pub(super) fn judge(dir: &Path, state: &Final, findings: &mut Findings) {
    let of_jobs = read(dir, findings);
    let mut ended = BTreeSet::new();
    for (job, attempts) in &of_jobs {
        findings.attempts += attempts.len();
        let mut started = BTreeSet::new();
        for (nth, attempt) in attempts.iter().enumerate() {
            if attempt.end.is_some() {
                ended.insert(attempt.build);
            }
            if !started.insert(attempt.build) {
                findings.fault("G3", format!("job {job}: build {} ran its command twice", attempt.build));
            }
            let over = |earlier: &&Attempt| earlier.end.is_some_and(|end| end > attempt.start);
            if let Some(earlier) = attempts[..nth].iter().find(over) {
                let what =
                    format!("job {job}: builds {} and {} ran at the same time", earlier.build, attempt.build);
                findings.fault("G3", what);
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
