//! G23: without the bus, from the start or in the middle, two masters go on: no build is lost or waits for it, and nothing is missing
//! from the feed of either afterwards.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::buses;
use crate::checker;
use crate::databases;
use crate::harness::{EVERYTHING, Farm, Follower, member, patience};
use crate::history::History;
use crate::load::{Asked, Load};
use crate::run::Run;
use crate::storm::config;

/// A build begins so long after it was asked for, at whichever master. (Its worker is free.)
const BEGINS_WITHIN: Duration = Duration::from_secs(5);

fn now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970");
    u64::try_from(time.as_nanos()).expect("before 2554")
}

fn is_connected(farm: &Farm) -> Option<bool> {
    farm.actor("bus-link")?["observed"]["connected"].as_bool()
}

/// Forces builds at both masters in turn for so long; when each was asked for goes to `asked`.
fn force(masters: &[Farm], load: &Load, lasts: Duration, asked: &mut BTreeMap<u64, u64>) {
    let begun = Instant::now();
    while begun.elapsed() < lasts {
        let job = load.number();
        asked.insert(job, now());
        let what = Asked::force(job, &[format!("linux-{}", job % 8)], Some(format!("key-{job}")));
        load.insist(|| masters[job as usize % 2].rest().clone(), &what);
    }
}

/// The longest time between the asking for a job and its command's start.
fn longest_wait(history: &History, asked: &BTreeMap<u64, u64>) -> Duration {
    let attempts = std::fs::read_to_string(history.dir().join("attempts.jsonl")).expect("attempts");
    let lines = attempts.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line"));
    let starts = lines.filter(|it| it["what"] == "start").map(|it| {
        let (job, at) = (it["job"].as_u64().expect("a job"), it["at"].as_u64().expect("a time"));
        Duration::from_nanos(at.saturating_sub(asked[&job]))
    });
    starts.max().expect("attempts")
}

fn the_bus_goes(kind: &'static str, database: &str) {
    let run = Run::of("G23");
    let history = History::of(&run, kind);
    let bus = buses::Server::start(kind);
    bus.stop();
    let url = databases::fresh(database);
    let masters = [0, 1].map(|n| member(["one", "two"][n], &url, &bus.url, &config(&history, n, 1, "0.05")));
    let _agent = masters[0].agent("w1");
    let mut followers = masters.each_ref().map(|it| Follower::of(it.rest(), &EVERYTHING));
    let (load, mut asked) = (Load::new(&history), BTreeMap::new());
    let phase = Duration::from_secs(run.figure(3, 60) as u64);
    let connected = |wanted: bool| {
        for farm in &masters {
            let what = format!("a link that says connected: {wanted}");
            patience(Duration::from_secs(30), &what, || (is_connected(farm)? == wanted).then_some(()));
        }
    };
    connected(false);
    force(&masters, &load, phase, &mut asked);
    bus.again();
    connected(true);
    force(&masters, &load, phase / 3, &mut asked);
    bus.stop();
    force(&masters, &load, phase, &mut asked);
    connected(false);
    bus.again();
    connected(true);
    force(&masters, &load, phase / 3, &mut asked);
    patience(Duration::from_secs(20), "the end of every build request", || {
        let open = masters[1].rest().try_get("/api/v2/buildsets?complete=false&limit=1").ok()?;
        (open.status == 200 && open.json()["buildsets"].as_array()?.is_empty()).then_some(())
    });
    history.settle(masters[1].rest(), true);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    let builds = masters[0].rest().list("builds").len();
    assert_eq!((builds, findings.attempts), (asked.len(), asked.len()), "a build for each job");
    for follower in &mut followers {
        follower.until(Duration::from_secs(20), "all ends", |it| it.finished_builds().len() == builds);
        follower.judge(true);
    }
    let waited = longest_wait(&history, &asked);
    assert!(waited <= BEGINS_WITHIN, "a build waited {waited:?}");
    let figures = format!(
        "{kind} beside {database}: away at the start and later for {} s each; {builds} builds, 0 lost, begun after {} ms at most; \
         {} and {} events at the two masters, 0 missing",
        phase.as_secs(),
        waited.as_millis(),
        followers[0].events.len(),
        followers[1].events.len()
    );
    run.kept(&figures);
}

#[test]
fn g23_nats_goes() {
    the_bus_goes("nats", "postgres");
}

#[test]
fn g23_rabbitmq_goes() {
    the_bus_goes("amqp", "mariadb");
}

#[test]
fn g23_notify_goes() {
    the_bus_goes("postgres", "mariadb");
}
