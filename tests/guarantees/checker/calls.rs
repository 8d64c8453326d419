//! G1: what was acknowledged is there. G2: one key, one buildset, one answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::{Final, Findings, each_line};

/// A call as its client saw it.
struct Call {
    does: String,
    mark: String,
    key: Option<String>,
    /// `ok`, `refused` or `unknown`.
    outcome: String,
    answer: Value,
}

fn read(dir: &Path) -> BTreeMap<u64, Call> {
    let mut calls = BTreeMap::new();
    each_line(dir, "calls.jsonl", |line| {
        let number = line["call"].as_u64().expect("the number of a call");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(asks) = line.get("asks") {
            let key = asks["key"].as_str().map(str::to_owned);
            let (does, mark) = (text(&asks["do"]), text(&asks["mark"]));
            calls.insert(number, Call { does, mark, key, outcome: "unknown".into(), answer: Value::Null });
        } else if let Some(call) = calls.get_mut(&number) {
            call.outcome = text(&line["outcome"]);
            call.answer = line["answer"].clone();
        }
    });
    calls
}

/// What the final state has, by marks and ids.
struct Stored {
    /// Mark → buildsets whose reason ends with it.
    sets: BTreeMap<String, BTreeSet<i64>>,
    set_ids: BTreeSet<i64>,
    requests: BTreeMap<i64, i64>,
    /// Revision → changes.
    changes: BTreeMap<String, BTreeSet<i64>>,
}

impl Stored {
    fn of(state: &Final) -> Self {
        let id = |row: &Value, name: &str| row[name].as_i64().expect("an id");
        let mut stored = Self {
            sets: BTreeMap::new(),
            set_ids: BTreeSet::new(),
            requests: BTreeMap::new(),
            changes: BTreeMap::new(),
        };
        for set in state.rows("buildsets") {
            let mark = set["reason"].as_str().and_then(|it| it.rsplit(' ').next()).unwrap_or_default();
            stored.sets.entry(mark.to_owned()).or_default().insert(id(set, "bsid"));
            stored.set_ids.insert(id(set, "bsid"));
        }
        for request in state.rows("buildrequests") {
            stored.requests.insert(id(request, "buildrequestid"), id(request, "buildsetid"));
        }
        for change in state.rows("changes") {
            let mark = change["revision"].as_str().unwrap_or_default().to_owned();
            stored.changes.entry(mark).or_default().insert(id(change, "changeid"));
        }
        stored
    }

    /// What a mark has become: buildsets or changes.
    fn of_mark(&self, call: &Call) -> BTreeSet<i64> {
        let place = if call.does == "hook" { &self.changes } else { &self.sets };
        place.get(&call.mark).cloned().unwrap_or_default()
    }

    /// Why an acknowledged call is not there.
    fn lacks(&self, call: &Call) -> Option<String> {
        if call.does == "hook" {
            return self.of_mark(call).is_empty().then(|| "there is no such change".to_owned());
        }
        let Some(set) = call.answer["bsid"].as_i64() else {
            return Some("the answer names no buildset".into());
        };
        let there = if call.does == "rebuild" {
            self.set_ids.contains(&set)
        } else {
            self.of_mark(call).contains(&set)
        };
        if !there {
            return Some(format!("buildset {set} is not there, or is another's"));
        }
        let requests = call.answer["requests"].as_array().map_or(&[][..], Vec::as_slice);
        let lost = requests.iter().filter_map(Value::as_i64).find(|it| self.requests.get(it) != Some(&set));
        lost.map(|request| format!("build request {request} of buildset {set} is not there"))
    }
}

pub(super) fn judge(dir: &Path, state: &Final, findings: &mut Findings) {
    let (calls, stored) = (read(dir), Stored::of(state));
    let mut by_mark: BTreeMap<(&str, &str), Vec<&Call>> = BTreeMap::new();
    let mut by_key: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for (number, call) in &calls {
        match call.outcome.as_str() {
            "ok" => {
                findings.acknowledged += 1;
                if let Some(why) = stored.lacks(call) {
                    let what = format!("call {number} ({} {}) was acknowledged: {why}", call.does, call.mark);
                    findings.fault("G1", what);
                }
            }
            "refused" => {}
            _ => findings.unknown += 1,
        }
        if call.does != "rebuild" {
            by_mark.entry((&call.does, &call.mark)).or_default().push(call);
        }
        if let Some(key) = &call.key {
            by_key.entry(key).or_default().push(call);
        }
    }
    for ((does, mark), calls) in by_mark {
        let (made, keyed) = (stored.of_mark(calls[0]), calls.iter().all(|it| it.key.is_some()));
        let may = calls.iter().filter(|it| it.outcome != "refused").count();
        let limit = if keyed { may.min(1) } else { may };
        if made.len() > limit {
            let guarantee = if limit == 0 { "G1" } else { "G2" };
            findings
                .fault(guarantee, format!("{does} {mark}: {} at the most, but there are {made:?}", limit));
        }
    }
    for (key, calls) in by_key {
        let answers: BTreeSet<String> =
            calls.iter().filter(|it| it.outcome == "ok").map(|it| it.answer.to_string()).collect();
        if answers.len() > 1 {
            findings.fault("G2", format!("key {key} was answered in different ways: {answers:?}"));
        }
    }
}
