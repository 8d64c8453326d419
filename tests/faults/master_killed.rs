//! kill -9 of the master at random instants under load: what it acknowledged is kept, and nothing runs twice at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::harness::{EXCEPTION, Farm, RETRY, Record, Rest, SUCCESS, eight_builders, eventually, force_once};

fn config(record: &Record, seconds: &str) -> String {
    let steps = format!("[[steps]]\nname = 'work'\nrun = '''\n{}'''\n", record.script(seconds));
    "[workers.w1]\npassword = 'pw'\nmax-builds = 8\n".to_owned() + &eight_builders(&steps)
}

/// A client that forces a build for one job after the other and asks again, with the same key, until it is answered.
fn force_all(rest: &Rest, jobs: usize, pending: &AtomicUsize, stop: &AtomicBool) -> BTreeMap<u64, i64> {
    let mut acknowledged = BTreeMap::new();
    for job in 0..jobs as u64 {
        while pending.load(Ordering::Relaxed) == 0 && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(2));
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        pending.fetch_sub(1, Ordering::Relaxed);
        acknowledged.insert(job, force_once(rest, job));
    }
    acknowledged
}

/// Kills the master `kills` times while a client keeps it loaded; waits until all that was acknowledged has ended.
fn kill_under_load(
    farm: &mut Farm,
    seed: u64,
    kills: usize,
    uptime: std::ops::Range<u64>,
) -> BTreeMap<u64, i64> {
    let mut dice = StdRng::seed_from_u64(seed);
    let (rest, stop) = (farm.rest().clone(), AtomicBool::new(false));
    // How many jobs the client may still force: a few after each start, so that there is always load and never a flood.
    let pending = AtomicUsize::new(8);
    let acknowledged = thread::scope(|scope| {
        let client = scope.spawn(|| force_all(&rest, usize::MAX, &pending, &stop));
        for _ in 0..kills {
            thread::sleep(Duration::from_millis(dice.random_range(uptime.clone())));
            farm.kill_master();
            farm.launch();
            pending.store(6, Ordering::Relaxed);
        }
        stop.store(true, Ordering::Relaxed);
        farm.await_serving();
        client.join().expect("the client")
    });
    for request in acknowledged.values() {
        farm.await_request_within(*request, Duration::from_secs(120));
    }
    acknowledged
}

/// Compares what REST says with what the commands themselves wrote down.
fn judge(farm: &Farm, record: &Record, acknowledged: &BTreeMap<u64, i64>) {
    let requests: BTreeMap<i64, Value> = by_id(farm.rest().list("buildrequests"), "buildrequestid");
    let distinct: BTreeSet<_> = acknowledged.values().copied().collect();
    assert_eq!(distinct.len(), acknowledged.len(), "two jobs were given the same request");
    assert_eq!(requests.keys().copied().collect::<BTreeSet<_>>(), distinct, "requests = acknowledged jobs");

    let mut builds: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
    for build in farm.rest().list("builds?order=buildid") {
        assert_eq!(build["complete"], true, "{build}");
        builds.entry(build["buildrequestid"].as_i64().expect("a request")).or_default().push(build);
    }
    let entries = record.entries();
    let overlaps: Vec<_> = entries.iter().filter(|it| it.what == "overlap").collect();
    assert!(overlaps.is_empty(), "two attempts ran at the same time: {overlaps:?}");

    let mut successes = 0;
    for (job, request) in acknowledged {
        let of_request = builds.get(request).map(Vec::as_slice).unwrap_or_default();
        let numbers: BTreeSet<u64> = of_request.iter().filter_map(|it| it["number"].as_u64()).collect();
        let outside = |what: &str| -> Vec<u64> {
            entries.iter().filter(|it| it.what == what && it.job == *job).map(|it| it.build).collect()
        };
        let (starts, ends) = (outside("start"), outside("end"));
        let started: BTreeSet<u64> = starts.iter().copied().collect();
        assert_eq!(started.len(), starts.len(), "job {job}: a build ran its step twice: {starts:?}");
        assert!(started.is_subset(&numbers), "job {job}: started {starts:?}, by REST {numbers:?}");

        let (last, earlier) = of_request.split_last().expect("a build");
        let request = &requests[request];
        assert_eq!(request["results"], last["results"], "job {job}: {request} {last}");
        for build in earlier {
            assert_eq!(build["results"], RETRY, "job {job}: {build}");
        }
        match request["results"].as_i64() {
            Some(SUCCESS) => {
                let number = last["number"].as_u64().expect("a number");
                assert!(ends.contains(&number), "job {job}: success, but outside only {ends:?} ended");
                successes += 1;
            }
            // The first attempt and three retries, all lost.
            Some(EXCEPTION) => assert_eq!(of_request.len(), 4, "job {job}: {of_request:?}"),
            other => panic!("job {job} ended as {other:?}"),
        }
    }
    println!(
        "{} jobs, {successes} successes, {} builds",
        acknowledged.len(),
        builds.values().flatten().count()
    );
    assert!(
        successes * 2 > acknowledged.len(),
        "most jobs come through: {successes} of {}",
        acknowledged.len()
    );
    assert!(
        entries.iter().filter(|it| it.what == "start").count() > acknowledged.len(),
        "kills cut builds off"
    );
}

fn by_id(rows: Vec<Value>, key: &str) -> BTreeMap<i64, Value> {
    rows.into_iter().map(|row| (row[key].as_i64().expect("an id"), row)).collect()
}

fn farm_with_record(seconds: &str) -> (Farm, Record) {
    let mut farm = crate::harness::Plan::new("").lay_out();
    let record = Record::new(&farm);
    farm.add_config(&config(&record, seconds));
    farm.start();
    (farm, record)
}

fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|it| it.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    seed
}

#[test]
fn fifty_kills_lose_nothing_and_run_nothing_twice_with_our_agent() {
    let (mut farm, record) = farm_with_record("0.3");
    let _agent = farm.agent("w1");
    let acknowledged = kill_under_load(&mut farm, seed(), 50, 200..1_000);
    assert!(acknowledged.len() >= 100, "the load was too small: {}", acknowledged.len());
    judge(&farm, &record, &acknowledged);
}

#[test]
fn fifty_kills_lose_nothing_and_run_nothing_twice_with_a_stock_worker() {
    let (mut farm, record) = farm_with_record("1");
    let _worker = farm.stock_worker("w1");
    let acknowledged = kill_under_load(&mut farm, seed(), 50, 300..2_500);
    judge(&farm, &record, &acknowledged);
}

/// A check of the check: two attempts of one job at the same time are seen, two after each other are none.
#[test]
fn the_record_sees_overlaps() {
    let farm = crate::harness::Plan::new("").lay_out();
    let record = Record::new(&farm);
    let attempt = |build: &str, seconds: &str| {
        let script = record.script(seconds);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).env("JOB", "1").env("BUILD", build).spawn().expect("sh runs")
    };
    attempt("1", "0").wait().expect("it ends");
    let mut first = attempt("2", "1");
    eventually("the second attempt", || (record.count("start") == 2).then_some(()));
    assert_eq!(record.count("overlap"), 0, "one after the other");
    attempt("3", "0").wait().expect("it ends");
    first.wait().expect("it ends");
    assert_eq!(record.count("overlap"), 1, "at the same time");
}
