//! G22: a snapshot and the stream after it make a fresh snapshot, through any number of broken connections, at any master, while
//! masters, bus and database server die.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::checker;
use crate::follower::COLLECTIONS;
use crate::history::History;
use crate::load::{Asked, Load, dice_of};
use crate::run::Run;
use crate::storm::{Cluster, Fault, force_on};
use crate::watch::Watch;

/// Requests that were made must have ended by then.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

fn the_feed_is_exact(
    kind: &'static str,
    masters: (usize, usize),
    resumptions: (usize, usize),
    each: (usize, usize),
) {
    let mut run = Run::of("G22");
    let history = Arc::new(History::of(&run, kind));
    let masters = run.figure(masters.0, masters.1);
    let (wanted, each) = (run.figure(resumptions.0, resumptions.1), run.figure(each.0, each.1));
    let mut cluster = Cluster::raise(kind, masters, &history, "0.05");
    let load = Load::new(&history);
    let rests = cluster.rests();
    let watch = Watch::begin(&cluster, &COLLECTIONS, each, 50..1_500, &history, &mut run.dice);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let _lasts = load.while_it_lasts();
        for _ in 0..2 {
            let (load, rests, mut dice) = (&load, &rests, dice_of(&mut run.dice));
            scope.spawn(move || force_on(load, rests, &mut dice));
        }
        let (load_of_changes, rests) = (&load, &rests);
        scope.spawn(move || push_on(load_of_changes, rests));
        let faults = [Fault::Master, Fault::Master, Fault::Bus, Fault::Database];
        while watch.resumptions() < wanted {
            cluster.storm(&faults, Duration::from_secs(4), &history, &mut run.dice);
            assert!(
                begun.elapsed().as_secs() < 60 + wanted as u64,
                "only {} resumptions",
                watch.resumptions()
            );
        }
    });
    cluster.settle(ENDS_WITHIN);
    history.settle_all(&rests, true);
    watch.end(&cluster, &history);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    assert!(findings.events > wanted / 2, "too little happened: {findings:?}");
    let figures = format!(
        "{kind}: {masters} masters, {} clients, {} resumptions, {}; {} events told, 0 missing, 0 twice, 0 differences",
        each * COLLECTIONS.len(),
        findings.resumptions,
        cluster.weather(),
        findings.events
    );
    run.kept(&figures);
}

/// A client that pushes changes.
fn push_on(load: &Load, rests: &[crate::harness::Rest]) {
    while !load.is_stopped() {
        let number = load.number();
        let asked = Asked::hook(number, Some(format!("delivery-{number}")));
        let turn = std::cell::Cell::new(number as usize);
        let whom = || {
            turn.set(turn.get() + 1);
            rests[turn.get() % rests.len()].clone()
        };
        load.insist(whom, &asked);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn g22_snapshot_and_stream_are_exact_on_postgresql() {
    the_feed_is_exact("postgres", (2, 4), (120, 10_000), (3, 10));
}

#[test]
fn g22_snapshot_and_stream_are_exact_on_mariadb() {
    the_feed_is_exact("mariadb", (2, 2), (60, 2_000), (2, 10));
}
