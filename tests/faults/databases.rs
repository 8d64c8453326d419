//! The whole program on PostgreSQL and MariaDB: builds, a kill of the master, half a minute without the server.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::databases::{self, Server};
use crate::harness::{Farm, Plan, RETRY, SUCCESS, patience};

const BUILDER: &str = r#"
[workers.w1]
password = "pw"
max-builds = 4
[schedulers.force]
kind = "force"
builders = "*"
parameters = [{ name = "job", kind = "int" }]
[builders.b]
workers = ["w1"]
[[builders.b.steps]]
name = "work"
run = "echo job $JOB; sleep 0.3; echo done"
env = { JOB = "${{ prop.job }}" }
"#;

fn config(url: &str) -> String {
    format!("[database]\nurl = \"{url}\"\n{BUILDER}")
}

fn a_master_builds_is_killed_and_loses_nothing(kind: &str) {
    let mut farm = Farm::raise(&config(&databases::fresh(kind)));
    let _agent = farm.agent("w1");
    let first = farm.force("b", &json!({"job": "1"}));
    assert_eq!(farm.await_request(first)["results"], SUCCESS);
    let mut requests = vec![first];
    for round in 0..3 {
        for job in 0..4 {
            requests.push(farm.force("b", &json!({"job": (round * 4 + job).to_string()})));
        }
        // In the middle of it; its place on the server is free at once.
        farm.kill_master();
        farm.start();
    }
    for request in &requests {
        assert_eq!(farm.await_request(*request)["results"], SUCCESS, "request {request}");
        let builds = farm.builds_of(*request);
        let (last, earlier) = builds.split_last().expect("a build");
        assert!(earlier.iter().all(|build| build["results"] == RETRY), "{builds:?}");
        assert!(farm.log(last, "work").contains("done"), "{last}");
    }
    assert_eq!(farm.rest().list("buildrequests").len(), requests.len());
    assert!(!farm.master_log().contains("greenroom:"), "no password in the log");
}

#[test]
fn a_master_on_postgresql_builds_is_killed_and_loses_nothing() {
    a_master_builds_is_killed_and_loses_nothing("postgres");
}

#[test]
fn a_master_on_mariadb_builds_is_killed_and_loses_nothing() {
    a_master_builds_is_killed_and_loses_nothing("mariadb");
}

fn ask_under_a_key(farm: &Farm) -> (u16, Value) {
    let params = json!({"builderNames": ["b"], "job": "100"});
    let answer =
        farm.rest().try_call("forceschedulers/force", "force", &params, Some("a key")).expect("an answer");
    (answer.status, answer.json())
}

/// Writes wait for better times, and are then refused: the one that is under way when the server goes, and those after it.
fn writes_are_refused(farm: &Farm) {
    let (status, refused) = ask_under_a_key(farm);
    assert_eq!(status, 503, "{refused}");
    let body = json!({"author": "Ada", "branch": "main", "revision": "refused", "comments": ""}).to_string();
    let headers = [("content-type", "application/json")];
    let refused = farm.rest().try_post("/change_hook/base", &headers, body.as_bytes()).expect("an answer");
    assert_eq!(refused.status, 503, "{}", refused.text);
}

/// The server is killed and comes back half a minute later, while a build runs and clients push and ask.
fn half_a_minute_without_the_server_costs_nothing_but_time(kind: &'static str) {
    let mut server = Server::start(kind);
    let mut farm = Plan::new(&config(&server.url)).lay_out();
    farm.start();
    let _agent = farm.agent("w1");
    let pid = farm.pid();
    let before: Vec<i64> = (0..6).map(|job| farm.force("b", &json!({"job": job.to_string()}))).collect();
    farm.push_change("main", "acknowledged");
    server.stop();
    let away = Instant::now();
    patience(Duration::from_secs(10), "/health that says it", || {
        farm.rest().try_get("/health").ok().filter(|it| it.status == 503)
    });
    // What is hot is still served, and says that it may be stale; history is refused at once, with a time to come back.
    let hot = farm.rest().try_get("/api/v2/builders").expect("an answer");
    assert_eq!(hot.status, 200, "{}", hot.text);
    assert!(hot.header("greenroom-stale").is_some(), "{hot:?}");
    let asked = Instant::now();
    let cold = farm.rest().try_get("/api/v2/sourcestamps").expect("an answer");
    assert_eq!(cold.status, 503, "{}", cold.text);
    assert!(cold.header("retry-after").is_some(), "{cold:?}");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    writes_are_refused(&farm);
    patience(Duration::from_secs(60), "half a minute", || {
        (away.elapsed() > Duration::from_secs(30)).then_some(())
    });
    server.resume();
    patience(Duration::from_secs(15), "a master that serves again", || {
        farm.rest().try_get("/health").ok().filter(|it| it.status == 200)
    });
    assert_eq!(farm.pid(), pid);
    assert!(farm.master().ended().is_none(), "no restart was needed");
    for request in before {
        assert_eq!(farm.await_request(request)["results"], SUCCESS);
    }
    let changes = farm.rest().list("changes");
    assert!(changes.iter().any(|change| change["revision"] == "acknowledged"), "{changes:?}");
    let forced =
        [ask_under_a_key(&farm), ask_under_a_key(&farm)].map(|(_, answer)| answer["result"][0].clone());
    assert!(forced[0].is_i64() && forced[0] == forced[1], "refused twice, then done once: {forced:?}");
    let after = farm.force("b", &json!({"job": "99"}));
    assert_eq!(farm.await_request(after)["results"], SUCCESS);
    patience(Duration::from_secs(5), "replies that are not stale", || {
        farm.rest().try_get("/api/v2/builders").ok().filter(|it| it.header("greenroom-stale").is_none())
    });
}

#[test]
fn half_a_minute_without_postgresql_costs_nothing_but_time() {
    half_a_minute_without_the_server_costs_nothing_but_time("postgres");
}

#[test]
fn half_a_minute_without_mariadb_costs_nothing_but_time() {
    half_a_minute_without_the_server_costs_nothing_but_time("mariadb");
}
