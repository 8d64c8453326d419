//! G17: the answer of a COMMIT is lost, or the COMMIT itself, while builds run: every transition happens once, and nothing is stuck.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;

use crate::checker;
use crate::databases;
use crate::harness::{EVERYTHING, Follower, member, patience};
use crate::history::History;
use crate::load::{Load, dice_of};
use crate::proxy::{Cut, Proxy};
use crate::run::Run;
use crate::storm::{config, force_on};

/// Everything has its end so long after the last cut.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// Clients that force builds.
const CLIENTS: usize = 3;

/// One COMMIT of four is cut, of which most reach the server: at once, or after its client has looked whether they did.
fn cut(dice: &mut StdRng) -> Cut {
    match dice.random_range(0..16) {
        0 => Cut::Before,
        1 | 2 => Cut::After,
        3 => Cut::Late(Duration::from_millis(dice.random_range(1..200))),
        _ => Cut::Nothing,
    }
}

fn answers_are_lost(kind: &'static str, short: usize, full: usize) {
    let mut run = Run::of("G17");
    let history = History::of(&run, kind);
    let cuts = run.figure(short, full);
    let url = databases::fresh(kind);
    let cutting = Arc::new(AtomicBool::new(false));
    let (on, dice) = (Arc::clone(&cutting), Mutex::new(dice_of(&mut run.dice)));
    let proxy = Proxy::cutting(databases::address(&url), move |_| match on.load(Ordering::Relaxed) {
        true => cut(&mut dice.lock().expect("nobody panics here")),
        false => Cut::Nothing,
    });
    let through = databases::through(&url, proxy.address);
    let mut farm = member("one", &through, "local:", &config(&history, 0, 1, "0.05"));
    let _agent = farm.agent("w1");
    let mut follower = Follower::of(farm.rest(), &EVERYTHING);
    let (rests, load) = ([farm.rest().clone()], Load::new(&history));
    cutting.store(true, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (load, rests, mut dice) = (&load, &rests, dice_of(&mut run.dice));
            scope.spawn(move || force_on(load, rests, &mut dice));
        }
        patience(Duration::from_secs(1_800), "cuts", || {
            follower.poll("100ms");
            (proxy.cuts() >= cuts).then_some(())
        });
        cutting.store(false, Ordering::Relaxed);
        load.stop();
    });
    patience(ENDS_WITHIN, "the end of every build request", || {
        let open = farm.rest().try_get("/api/v2/buildsets?complete=false&limit=1").ok()?;
        (open.status == 200 && open.json()["buildsets"].as_array()?.is_empty()).then_some(())
    });
    history.settle(farm.rest(), true);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    let builds = farm.rest().list("builds");
    follower.until(Duration::from_secs(30), "all ends", |it| it.finished_builds().len() == builds.len());
    follower.judge(true);
    assert_eq!(findings.attempts, builds.len(), "each build ran its command once");
    assert!(farm.master().ended().is_none(), "the master ended");
    assert!(!farm.master_log().contains("panicked"), "a panic: see the log");
    let figures = format!(
        "{kind}: {} commits cut, {} acknowledged, {} builds, {} events told once and in order; 0 doubled transitions, 0 stuck",
        proxy.cuts(),
        findings.acknowledged,
        builds.len(),
        follower.events.len()
    );
    run.kept(&figures);
}

#[test]
fn g17_answers_of_commits_are_lost_on_postgresql() {
    answers_are_lost("postgres", 20, 1_000);
}

#[test]
fn g17_answers_of_commits_are_lost_on_mariadb() {
    answers_are_lost("mariadb", 20, 1_000);
}
