//! G5: what a dead master leaves is taken over by another: begun within 20 s of its death, done within 30 s.
//!
//! `kill -9` of a master with builds that run, and it does not come back. Its lease is what every master has: 15 s.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Farm, RETRY, member, patience};
use crate::run::Run;
use crate::{buses, databases};

const BEGUN_WITHIN: Duration = Duration::from_secs(20);
const DONE_WITHIN: Duration = Duration::from_secs(30);
/// A worker runs one build of a builder at a time.
const BUILDERS: usize = 50;

/// So many builds can run at once, all of them for longer than the test lasts.
fn config(builds: usize) -> String {
    let workers: Vec<String> = (0..builds.div_ceil(BUILDERS)).map(|n| format!("\"w{n}\"")).collect();
    let sections =
        workers.iter().map(|it| format!("[workers.{it}]\npassword = \"pw\"\nmax-builds = {BUILDERS}\n"));
    let builders = (0..BUILDERS.min(builds)).map(|n| {
        let workers = workers.join(", ");
        format!("[builders.b{n}]\nworkers = [{workers}]\n[[builders.b{n}.steps]]\nname = \"work\"\nrun = \"sleep 600\"\n")
    });
    let schedulers = "[schedulers.force]\nkind = \"force\"\nbuilders = \"*\"\n[schedulers.push]\nkind = \"any-branch\"\nbuilders = [\"b0\"]\n";
    sections.chain(builders).collect::<String>() + schedulers
}

fn count(farm: &Farm, path: &str) -> usize {
    farm.rest().list(path).len()
}

fn takeover(kind: &'static str, short: usize, full: usize) {
    let run = Run::of("G5");
    let builds = run.figure(short, full);
    let (bus, database) = (buses::Server::start("nats"), databases::fresh(kind));
    let raise = |name| member(name, &database, &bus.url, &config(builds));
    let (mut one, two, _three) = (raise("one"), raise("two"), raise("three"));
    let agents: Vec<_> =
        (0..builds.div_ceil(BUILDERS)).map(|n| one.launch_agent(&format!("w{n}"), "pw")).collect();
    (0..agents.len()).for_each(|n| one.await_worker(&format!("w{n}")));
    for _ in 0..agents.len() {
        one.rest().call("forceschedulers/force", "force", &json!({"reason": "load"}));
    }
    patience(Duration::from_secs(120), "all builds to run", || {
        (count(&two, "builds?complete=false") == builds).then_some(())
    });
    let begun = Instant::now();
    one.kill_master();
    let seen = |what: &str, within, wanted: usize| {
        patience(within, what, || (count(&two, "builds?complete=true") >= wanted).then(|| begun.elapsed()))
    };
    let first = seen("the takeover to begin", BEGUN_WITHIN, 1);
    let last = seen("the takeover to be done", DONE_WITHIN, builds);
    patience(BEGUN_WITHIN, "the schedulers to move", || {
        let schedulers = two.rest().list("schedulers");
        schedulers
            .iter()
            .all(|it| ["two", "three"].iter().any(|name| it["master"]["name"] == *name))
            .then_some(())
    });
    let moved = begun.elapsed();
    let ended = two.rest().list("builds");
    assert!(
        ended.iter().all(|it| it["results"] == RETRY),
        "{:?}",
        ended.iter().find(|it| it["results"] != RETRY)
    );
    assert_eq!(
        count(&two, "buildrequests?claimed=false&complete=false"),
        builds,
        "every request is free again"
    );
    for build in ended.iter().take(20) {
        for step in two.steps(build) {
            assert_eq!(step["complete"], true, "nothing is stuck: {step}");
            let logs = two.rest().list(&format!("steps/{}/logs", step["stepid"]));
            assert!(logs.iter().all(|it| it["complete"] == true), "nothing is stuck: {logs:?}");
        }
    }
    let counted: Vec<Value> = two.rest().list("masters");
    assert_eq!(counted.iter().filter(|it| it["active"] == true).count(), 2, "{counted:?}");
    let second = |time: Duration| time.as_secs_f64();
    run.kept(&format!(
        "{kind}: {builds} builds of a killed master: takeover begun after {:.1} s, done after {:.1} s, its schedulers run elsewhere \
         after {:.1} s",
        second(first),
        second(last),
        second(moved)
    ));
}

#[test]
fn g05_a_dead_master_is_taken_over() {
    let run = Run::of("G5");
    for kind in if run.is_full() { &["postgres", "mariadb"][..] } else { &["postgres"] } {
        takeover(kind, 20, 1_000);
    }
}
