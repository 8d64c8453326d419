//! G3: a master that is paused for longer than its lease and wakes up again has nothing accepted of what it does.
//!
//! The fault is SIGSTOP for twice the lease, under load, with builds running; another master takes over meanwhile. Judged by the
//! survivor's clock and feed, and by what the commands themselves have written down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenroom_model::{Clock, MasterId};
use nix::sys::signal::Signal;
use rand::Rng as _;
use serde_json::Value;

use crate::harness::{
    Farm, Follower, RETRY, Record, Rest, SUCCESS, eight_builders, force_once, mortal_member, patience,
};
use crate::run::Run;
use crate::{buses, databases};

/// In seconds: the pauses are as long as the lease makes them, so a short one makes many pauses.
const LEASE: f64 = 2.0;
/// What a master ends with that finds its place taken.
const TAKEN_OVER: i32 = 75;
/// How soon a master that wakes up knows.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Two masters with the same schedulers and builders, each with a worker of its own.
fn config(record: &Record) -> String {
    let steps = format!("[[steps]]\nname = 'work'\nrun = '''\n{}'''\n", record.script("0.4"));
    let builders =
        eight_builders(&steps).replace("BUILD = \"${{ build.number }}\"", "BUILD = \"${{ build.id }}\"");
    let workers =
        "[workers.w1]\npassword = 'pw'\nmax-builds = 4\n[workers.w2]\npassword = 'pw'\nmax-builds = 4\n";
    workers.to_owned() + &builders.replace("workers = [\"w1\"]", "workers = [\"w1\", \"w2\"]")
}

fn master(rest: &Rest, name: &str) -> Option<Value> {
    let answer = rest.try_get("/api/v2/masters").ok().filter(|it| it.status == 200)?;
    answer.json()["masters"].as_array()?.iter().find(|it| it["name"] == name).cloned()
}

fn clock(rest: &Rest) -> Clock {
    let answer = rest.try_get("/api/v2/masters").expect("masters");
    answer.header("greenroom-clock").expect("a clock").parse().expect("a clock")
}

/// Pauses a master for twice its lease and lets it wake up; gives how long the takeover took.
fn pause(paused: &mut Farm, survivor: &Rest, name: &str) -> Duration {
    let begun = Instant::now();
    paused.signal(Signal::SIGSTOP);
    let taken = patience(Duration::from_secs_f64(LEASE + 20.0), "the paused master to be taken over", || {
        master(survivor, name).filter(|it| it["active"] == false).map(|_| begun.elapsed())
    });
    // The rest of the pause is the fault itself.
    std::thread::sleep(Duration::from_secs_f64(2.0 * LEASE).saturating_sub(begun.elapsed()));
    let id = MasterId(master(survivor, name).expect("a master")["masterid"].as_i64().expect("an id"));
    let fenced = clock(survivor).head(id);
    paused.signal(Signal::SIGCONT);
    let status = paused.ended_within(ENDS_WITHIN);
    assert_eq!(status.code(), Some(TAKEN_OVER), "{}", paused.master_log());
    let said = paused.master_log();
    assert!(said.contains("this master was taken over by another process"), "it says why it ends: {said}");
    assert_eq!(clock(survivor).head(id), fenced, "an event of the old epoch was accepted");
    taken
}

/// Each request has one result, of a build that ran once outside and to its end; what was final stayed as it was.
fn judge(rest: &Rest, record: &Record, jobs: &BTreeMap<u64, i64>, follower: &mut Follower) -> usize {
    let entries = record.entries();
    let outside = |what: &str, build: i64| {
        entries.iter().filter(|it| it.what == what && it.build as i64 == build).count()
    };
    let mut lost = 0;
    let distinct: BTreeSet<i64> = jobs.values().copied().collect();
    assert_eq!(distinct.len(), jobs.len(), "two jobs were given one request");
    for (job, request) in jobs {
        let builds = rest.list(&format!("builds?buildrequestid={request}&order=number"));
        let (last, earlier) = builds.split_last().expect("a build");
        assert_eq!(last["results"], SUCCESS, "job {job}: {last}");
        for build in earlier {
            assert_eq!(build["results"], RETRY, "job {job}: {build}");
        }
        lost += earlier.len();
        let id = last["buildid"].as_i64().expect("an id");
        assert_eq!(
            (outside("start", id), outside("end", id)),
            (1, 1),
            "job {job}: the accepted attempt, outside"
        );
    }
    let builds = rest.list("builds").len();
    follower
        .until(Duration::from_secs(30), "the ends of all builds", |it| it.finished_builds().len() == builds);
    follower.judge(false);
    let mut ended = BTreeSet::new();
    for event in &follower.events {
        let build = event["m"]["buildid"].as_i64();
        assert!(!build.is_some_and(|it| ended.contains(&it)), "it changed after its end: {event}");
        ended.extend(build.filter(|_| event["m"]["complete"] == true));
    }
    lost
}

fn a_paused_master_has_nothing_accepted(kind: &'static str, short: usize, full: usize) {
    let mut run = Run::of("G3");
    let pauses = run.figure(short, full);
    let (bus, database) = (buses::Server::start("nats"), databases::fresh(kind));
    let plan = crate::harness::Plan::new("").lay_out();
    let record = Record::new(&plan);
    let raise = |name: &str| mortal_member(name, &database, &bus.url, &config(&record), LEASE);
    let mut masters = [raise("one"), raise("two")];
    let _agents = [masters[0].agent("w1"), masters[1].agent("w2")];
    let rests = [masters[0].rest().clone(), masters[1].rest().clone()];
    let mut follower = Follower::of(&rests[0], &["builds/*/*"]);
    let stop = AtomicBool::new(false);
    let (mut longest, mut jobs) = (Duration::ZERO, BTreeMap::new());
    std::thread::scope(|scope| {
        let clients = [0, 1].map(|n| {
            let (rest, stop) = (&rests[n], &stop);
            scope.spawn(move || force_until(stop, rest, n as u64))
        });
        for _ in 0..pauses {
            let which = run.dice.random_range(0..2);
            let name = ["one", "two"][which];
            patience(Duration::from_secs(20), "a build of the master that is to be paused", || {
                let id = master(&rests[which], name)?["masterid"].clone();
                let running = rests[which].list("builds?complete=false");
                running.iter().any(|it| it["masterid"] == id).then_some(())
            });
            longest = longest.max(pause(&mut masters[which], &rests[1 - which], name));
            masters[which].start();
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| jobs.extend(client.join().expect("a client")));
    });
    for request in jobs.values() {
        masters[0].await_request_within(*request, Duration::from_secs(60));
    }
    let lost = judge(&rests[0], &record, &jobs, &mut follower);
    assert!(lost > 0, "no build was lost: the pauses hit nothing");
    run.kept(&format!(
        "{kind}: {pauses} pauses of {} s at a lease of {LEASE} s, {} jobs, {lost} builds lost and repeated; 0 stale writes \
         accepted; taken over within {:.1} s",
        2.0 * LEASE,
        jobs.len(),
        longest.as_secs_f64()
    ));
}

/// A client of one master: one build after the other, each asked for again under its key until it is answered.
fn force_until(stop: &AtomicBool, rest: &Rest, first: u64) -> BTreeMap<u64, i64> {
    let mut jobs = BTreeMap::new();
    for job in (first..).step_by(2) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        jobs.insert(job, force_once(rest, job));
        std::thread::sleep(Duration::from_millis(150));
    }
    jobs
}

#[test]
fn g03_a_paused_master_has_nothing_accepted_on_postgresql() {
    a_paused_master_has_nothing_accepted("postgres", 2, 400);
}

#[test]
fn g03_a_paused_master_has_nothing_accepted_on_mariadb() {
    a_paused_master_has_nothing_accepted("mariadb", 1, 100);
}
