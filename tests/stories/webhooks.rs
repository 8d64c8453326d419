//! A program that is told by webhook: over a kill of the master, and while it is away.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{FAILURE, Farm, HttpSink, Plan, Reply, free_port, patience};

/// How long the server is away: a real minute.
const AWAY: Duration = Duration::from_secs(60);

fn plan(port: u16) -> Plan {
    Plan::new(&format!(
        "
[workers.w1]
password = 'pw'
[schedulers.force]
kind = 'force'
builders = '*'
[[builders.linux.steps]]
name = 'test'
run = 'exit 1'
[notifiers.hook]
kind = 'webhook'
url = 'http://127.0.0.1:{port}/in'
allow-private = true
"
    ))
}

fn deliveries(farm: &Farm) -> Vec<Value> {
    farm.rest().list("notifiers/hook/deliveries")
}

#[track_caller]
fn await_sent(farm: &Farm, count: usize) {
    patience(Duration::from_secs(150), &format!("{count} messages recorded as sent"), || {
        let all = deliveries(farm);
        (all.len() == count && all.iter().all(|it| it["state"] == "sent")).then_some(())
    });
}

#[track_caller]
fn fail(farm: &Farm) {
    let request = farm.force("linux", &json!({}));
    farm.expect_build(request, FAILURE);
}

#[test]
fn a_kill_between_sending_and_recording_repeats_a_request_once_under_the_same_key() {
    let sink = HttpSink::start();
    // The server takes the request and does not say so: the master cannot record that it is sent.
    sink.script([Reply::Hang]);
    let mut farm = plan(sink.port()).lay_out();
    farm.start();
    let _w1 = farm.agent("w1");
    fail(&farm);
    sink.expect(1);
    farm.kill_master();
    farm.start();
    await_sent(&farm, 1);
    let requests = sink.requests();
    assert_eq!(requests.len(), 2, "at most one repetition");
    assert_eq!(requests[0].header("greenroom-delivery"), requests[1].header("greenroom-delivery"));
    assert_eq!(requests[1].header("greenroom-attempt"), Some("2"), "it says that it is one");
    assert_eq!(requests[0].json(), requests[1].json());
    // What is recorded is not sent again.
    farm.kill_master();
    farm.start();
    farm.await_worker("w1");
    fail(&farm);
    await_sent(&farm, 2);
    assert_eq!(sink.requests().len(), 3);
}

#[test]
fn a_server_that_is_away_for_a_minute_gets_every_message_once() {
    let port = free_port();
    let mut farm = plan(port).lay_out();
    farm.start();
    let _w1 = farm.agent("w1");
    let gone = Instant::now();
    for _ in 0..3 {
        // A server that is away delays no build.
        fail(&farm);
    }
    patience(Duration::from_secs(20), "an attempt that failed", || {
        let all = deliveries(&farm);
        all.iter().any(|it| it["attempts"].as_i64() > Some(0) && it["reason"].is_string()).then_some(())
    });
    // The minute is a real one: what is tested is that the waits between attempts do not outgrow it.
    std::thread::sleep(AWAY.saturating_sub(gone.elapsed()));
    assert!(deliveries(&farm).iter().all(|it| it["state"] == "waiting"), "{:?}", deliveries(&farm));
    let sink = HttpSink::start_on(port);
    let back = Instant::now();
    await_sent(&farm, 3);
    println!("the last {:?} after the server was back", back.elapsed());
    let requests = sink.requests();
    let keys: BTreeSet<_> = requests.iter().map(|it| it.header("greenroom-delivery")).collect();
    assert_eq!((keys.len(), requests.len()), (3, 3), "each once");
    let numbers: Vec<Value> = requests.iter().map(|it| it.json()["build"]["number"].clone()).collect();
    assert_eq!(numbers.iter().filter_map(Value::as_i64).collect::<BTreeSet<_>>(), [1, 2, 3].into());
}
