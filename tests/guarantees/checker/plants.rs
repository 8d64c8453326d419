//! A check of the check: a history without fault, and one of each kind of fault planted into it.

use std::path::Path;

use greenroom_model::{Clock, MasterId};
use serde_json::{Value, json};

use super::judge;

/// The files of a history as values.
struct Planted {
    calls: Vec<Value>,
    attempts: Vec<Value>,
    feed: Vec<Value>,
    state: Value,
}

fn clock(one: i64, two: i64) -> String {
    let mut clock = Clock::start(7);
    clock.set(MasterId(1), one);
    clock.set(MasterId(2), two);
    clock.to_string()
}

fn build(id: i64, request: i64, results: Value) -> Value {
    let complete = !results.is_null();
    json!({"buildid": id, "number": id, "buildrequestid": request, "complete": complete, "results": results, "complete_at": complete.then_some(9)})
}

fn event(client: i64, key: &str, row: &Value, clock: String) -> Value {
    json!({"client": client, "k": key, "m": row, "clock": clock})
}

/// Two forces (one asked for twice under a key) and a change; the first's build was lost once; a client followed the builds.
fn good() -> Planted {
    let force = |mark: &str, key: Value| json!({"do": "force", "mark": mark, "key": key});
    let set = |id: i64, mark: &str| json!({"bsid": id, "reason": format!("forced: {mark}"), "complete": true, "results": 0, "complete_at": 9});
    let request = |id: i64| json!({"buildrequestid": id, "buildsetid": id, "complete": true, "results": 0});
    let attempt = |at: u64, what: &str, job: i64, build: i64| json!({"at": at, "what": what, "job": job, "build": build});
    let events = [
        ("builds/2/new", build(2, 1, Value::Null), clock(4, 1)),
        ("builds/2/finished", build(2, 1, json!(0)), clock(5, 1)),
        ("builds/3/new", build(3, 2, Value::Null), clock(5, 2)),
        ("builds/3/finished", build(3, 2, json!(0)), clock(6, 2)),
    ];
    let lost = build(1, 1, json!(5));
    let mut feed =
        vec![json!({"client": 1, "snapshot": "builds", "clock": clock(3, 1), "rows": {"1": lost}})];
    feed.extend(events.iter().map(|(key, row, clock)| event(1, key, row, clock.clone())));
    feed.insert(3, json!({"client": 1, "resumed": "sse", "clock": clock(5, 1)}));
    feed.push(json!({"client": 1, "idle": clock(7, 2)}));
    feed.push(json!({"client": 1, "over": true}));
    let reference = |(key, row, _): &(&str, Value, String)| json!({"reference": "builds", "since": clock(3, 1), "k": key, "m": row});
    feed.extend(events.iter().map(reference));
    let (second, third) = (build(2, 1, json!(0)), build(3, 2, json!(0)));
    feed.push(json!({"fresh": "builds", "rows": {"1": lost, "2": second, "3": third}}));
    let answer = |set: i64| json!({"bsid": set, "requests": [set]});
    Planted {
        calls: vec![
            json!({"call": 1, "asks": force("job-1", json!("k1"))}),
            json!({"call": 2, "asks": force("job-1", json!("k1"))}),
            json!({"call": 2, "outcome": "ok", "status": 200, "answer": answer(1)}),
            json!({"call": 3, "asks": force("job-2", Value::Null)}),
            json!({"call": 3, "outcome": "ok", "status": 200, "answer": answer(2)}),
            json!({"call": 4, "asks": {"do": "hook", "mark": "r1", "key": null}}),
            json!({"call": 4, "outcome": "ok", "status": 200, "answer": null}),
            json!({"call": 5, "asks": {"do": "hook", "mark": "r2", "key": null}}),
            json!({"call": 5, "outcome": "refused", "status": 400, "answer": null}),
        ],
        attempts: vec![
            attempt(10, "start", 1, 1),
            attempt(20, "start", 1, 2),
            attempt(30, "end", 1, 2),
            attempt(31, "start", 2, 3),
            attempt(40, "end", 2, 3),
        ],
        feed,
        state: json!({
            "settled": true, "buildsets": [set(1, "job-1"), set(2, "job-2")], "buildrequests": [request(1), request(2)],
            "builds": [lost, second, third], "changes": [{"changeid": 1, "revision": "r1"}],
        }),
    }
}

fn write(dir: &Path, planted: &Planted) {
    let lines = |name: &str, lines: &[Value]| {
        let text: String = lines.iter().map(|it| format!("{it}\n")).collect();
        std::fs::write(dir.join(name), text).expect("a file");
    };
    lines("calls.jsonl", &planted.calls);
    lines("attempts.jsonl", &planted.attempts);
    lines("feed.jsonl", &planted.feed);
    std::fs::write(dir.join("final.json"), planted.state.to_string()).expect("a file");
}

/// What is found when `plant` has been at the good history.
fn found(plant: impl FnOnce(&mut Planted)) -> Vec<String> {
    let mut planted = good();
    plant(&mut planted);
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), &planted);
    judge(dir.path()).violations.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn finds(guarantee: &str, words: &str, plant: impl FnOnce(&mut Planted)) {
    let found = found(plant);
    let wanted = format!("{guarantee}: ");
    assert!(
        found.iter().any(|it| it.starts_with(&wanted) && it.contains(words)),
        "{guarantee} {words}: {found:?}"
    );
}

#[test]
fn the_checker_finds_nothing_where_nothing_is_wrong() {
    assert_eq!(found(|_| {}), Vec::<String>::new());
    // A line that was cut off with its writer is none.
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), &good());
    let path = dir.path().join("calls.jsonl");
    let whole = std::fs::read_to_string(&path).expect("the file");
    std::fs::write(&path, format!("{whole}{{\"call\": 6, \"as")).expect("a file");
    let findings = judge(dir.path());
    findings.expect_none();
    assert_eq!((findings.acknowledged, findings.unknown, findings.attempts), (3, 1, 3));
    assert_eq!((findings.events, findings.resumptions), (4, 1));
}

#[test]
fn the_checker_finds_what_was_acknowledged_and_lost() {
    let gone = |it: &mut Planted, what: &str| drop(it.state[what].as_array_mut().expect("rows").remove(0));
    finds("G1", "buildset 1 is not there", |it| gone(it, "buildsets"));
    finds("G1", "build request 1 of buildset 1", |it| gone(it, "buildrequests"));
    finds("G1", "no such change", |it| gone(it, "changes"));
    finds("G1", "is another's", |it| it.calls[2]["answer"]["bsid"] = json!(2));
    finds("G1", "hook r2: 0 at the most", |it| {
        it.state["changes"].as_array_mut().expect("rows").push(json!({"changeid": 2, "revision": "r2"}));
    });
}

#[test]
fn the_checker_finds_what_was_done_twice() {
    finds("G2", "force job-1: 1 at the most", |it| {
        it.state["buildsets"][1]["reason"] = json!("forced: job-1")
    });
    finds("G2", "key k1 was answered in different ways", |it| {
        it.calls.insert(
            2,
            json!({"call": 1, "outcome": "ok", "status": 200, "answer": {"bsid": 2, "requests": [2]}}),
        );
    });
}

#[test]
fn the_checker_finds_attempts_that_overlap() {
    finds("G3", "builds 1 and 2 ran at the same time", |it| {
        it.attempts.insert(2, json!({"at": 25, "what": "end", "job": 1, "build": 1}));
    });
    finds("G3", "an earlier attempt held", |it| it.attempts[1]["what"] = json!("overlap"));
    // Unless its worker was killed; then it is an orphan.
    let orphan = |it: &mut Planted| {
        it.attempts[0]["at"] = json!(5);
        it.attempts.insert(1, json!({"at": 15, "what": "worker killed"}));
        it.attempts.insert(2, json!({"at": 20, "what": "overlap", "job": 1, "build": 2}));
        it.attempts.insert(4, json!({"at": 25, "what": "end", "job": 1, "build": 1}));
    };
    assert_eq!(found(orphan), Vec::<String>::new());
    finds("G3", "several results", |it| {
        orphan(it);
        it.state["builds"][0]["results"] = json!(0);
    });
    finds("G3", "build 2 ran its command twice", |it| it.attempts[0]["build"] = json!(2));
    finds("G3", "request 1 has several results", |it| it.state["builds"][0]["results"] = json!(2));
    finds("G3", "there is no such build", |it| it.attempts[0]["build"] = json!(77));
}

#[test]
fn the_checker_finds_what_has_no_end_or_another() {
    finds("G4", "has no end", |it| it.state["buildrequests"][1]["complete"] = json!(false));
    finds("G4", "has no end", |it| it.state["builds"][2]["results"] = Value::Null);
    finds("G4", "request 2 ended as 2", |it| it.state["buildrequests"][1]["results"] = json!(2));
    finds("G4", "its command never ended", |it| drop(it.attempts.pop()));
    finds("G4", "changed after its end", |it| {
        it.feed.insert(3, event(1, "builds/2/finished", &build(2, 1, json!(2)), clock(5, 1)));
    });
    finds("G4", "was told of the end", |it| {
        it.state["builds"][2]["results"] = json!(1);
        it.state["buildrequests"][1]["results"] = json!(1);
    });
}

#[test]
fn the_checker_finds_gaps_and_doubles_in_the_feed() {
    finds("G22", "was told builds/2/new 0 times", |it| drop(it.feed.remove(1)));
    finds("G22", "two events have the clock", |it| it.feed.insert(2, it.feed[1].clone()));
    finds("G22", "builds/2/new 2 times", |it| {
        it.feed.insert(2, event(1, "builds/2/new", &build(2, 1, Value::Null), clock(5, 1)));
    });
    finds("G22", "the clock goes back", |it| it.feed.swap(1, 2));
    finds("G22", "never heard of", |it| drop(it.feed.drain(4..6)));
    finds("G22", "events that are not stored", |it| it.feed[1]["m"]["results"] = json!(3));
    finds("G22", "with results = 0, but it is 2", |it| {
        it.feed.last_mut().expect("the fresh snapshot")["rows"]["3"]["results"] = json!(2);
    });
    finds("G22", "which is no more", |it| {
        let last = it.feed.last_mut().expect("the fresh snapshot");
        last["rows"].as_object_mut().expect("rows").remove("3");
    });
    finds("G22", "its clock is gone", |it| it.feed.insert(2, json!({"client": 1, "gone": true})));
}
