//! Stopping in two phases.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Farm, Plan, RETRY, Record, SUCCESS, eight_builders, eventually, force_once};

fn config(script: &str, grace: &str) -> String {
    format!("[workers.w1]\npassword = 'pw'\nmax-builds = 4\n[supervision]\ngrace = '{grace}'\n")
        + &eight_builders(&format!("[[steps]]\nname = 'work'\nrun = '''\n{script}'''\n"))
}

fn farm(script: impl FnOnce(&Farm, &Record) -> String, grace: &str) -> (Farm, Record) {
    let mut farm = Plan::new("").lay_out();
    let record = Record::new(&farm);
    farm.add_config(&config(&script(&farm, &record), grace));
    farm.start();
    (farm, record)
}

/// Runs for a minute, or ends at once when the farm's file `go` is there.
fn until_go(farm: &Farm, record: &Record) -> String {
    let quick = record.script("0.1");
    format!(
        "if [ ! -e {} ]; then echo \"start $JOB $BUILD\" >> {}; sleep 60; fi\n{quick}",
        farm.path("go").display(),
        record.file().display()
    )
}

#[test]
fn sigterm_lets_running_builds_end_and_starts_no_others() {
    let (mut farm, record) = farm(|_, record| record.script("1"), "20s");
    let _agent = farm.agent("w1");
    let requests: Vec<_> = (0..12).map(|job| force_once(farm.rest(), job)).collect();
    eventually("four running builds", || (record.count("start") == 4).then_some(()));
    farm.signal(Signal::SIGTERM);
    let status = farm.ended_within(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "a stop that drains is a success");
    assert_eq!(
        (record.count("start"), record.count("end")),
        (4, 4),
        "what ran has ended, and nothing else began"
    );
    assert!(!farm.master_log().contains("cut off"), "nothing was cut off");

    farm.start();
    for request in requests {
        farm.expect_build(request, SUCCESS);
        assert_eq!(farm.builds_of(request).len(), 1, "built once");
    }
    assert_eq!((record.count("start"), record.count("overlap")), (12, 0));
}

#[test]
fn an_idle_master_with_clients_stops_at_once() {
    let (mut farm, _record) = farm(|_, record| record.script("1"), "20s");
    let _agent = farm.agent("w1");
    let _feed = farm.listen("builds/*/*");
    let start = Instant::now();
    farm.signal(Signal::SIGINT);
    let status = farm.ended_within(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
}

#[test]
fn what_outlasts_the_grace_is_cut_off_by_name_and_built_again() {
    let (mut farm, record) = farm(until_go, "1s");
    let _agent = farm.agent("w1");
    let request = force_once(farm.rest(), 1);
    eventually("the build to run", || (record.count("start") == 1).then_some(()));
    farm.signal(Signal::SIGTERM);
    let status = farm.ended_within(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0));
    assert!(farm.master_log().contains("to be built again"), "what was cut off is said by name");
    is_built_again(farm, request);
}

#[test]
fn a_second_signal_is_hard_and_loses_nothing() {
    let (mut farm, record) = farm(until_go, "60s");
    let _agent = farm.agent("w1");
    let request = force_once(farm.rest(), 1);
    eventually("the build to run", || (record.count("start") == 1).then_some(()));
    farm.signal(Signal::SIGTERM);
    eventually("the first phase", || {
        // A draining master takes up nothing: so far can be told from outside only by the signal it has taken.
        std::fs::read_to_string(format!("/proc/{}/status", farm.master().pid()))
            .ok()
            .filter(|status| status.lines().any(|line| line.starts_with("SigPnd:\t0000000000000000")))
    });
    let start = Instant::now();
    let status = eventually("the end", || {
        if farm.master().ended().is_none() {
            farm.signal(Signal::SIGTERM);
        }
        farm.master().ended()
    });
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    assert_ne!(status.code(), Some(0), "cut off by force is no success");
    farm.kill_master();
    is_built_again(farm, request);
}

fn is_built_again(mut farm: Farm, request: i64) {
    std::fs::write(farm.path("go"), "").expect("a file");
    farm.start();
    farm.expect_build(request, SUCCESS);
    let builds = farm.builds_of(request);
    assert_eq!(builds.len(), 2, "{builds:?}");
    assert_eq!(builds[0]["results"], RETRY);
}
