//! G4: whatever goes wrong, every build ends, once, when it is calm again; and what was acknowledged is there (G1), runs once (G3)
//! and is told (G22).

use std::sync::Arc;
use std::time::Duration;

use crate::checker;
use crate::history::History;
use crate::load::{Load, dice_of};
use crate::run::Run;
use crate::storm::{Cluster, Fault, force_on};
use crate::watch::Watch;

/// Everything has its end so long after the last fault.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// Clients that force builds.
const CLIENTS: usize = 3;

/// What goes wrong on a cluster.
const ALL: [Fault; 6] =
    [Fault::Master, Fault::Master, Fault::Worker, Fault::Worker, Fault::Bus, Fault::Database];

fn every_build_ends(
    what: &'static str,
    seconds: (usize, usize),
    faults: &[Fault],
    raise: impl FnOnce(&History) -> Cluster,
) {
    let mut run = Run::of("G4");
    let history = Arc::new(History::of(&run, what));
    let lasts = Duration::from_secs(run.figure(seconds.0, seconds.1) as u64);
    let mut cluster = raise(&history);
    let load = Load::new(&history);
    let rests = cluster.rests();
    let followed = ["builds", "buildrequests", "buildsets"];
    let watch = Watch::begin(&cluster, &followed, 1, 2_000..8_000, &history, &mut run.dice);
    std::thread::scope(|scope| {
        let _lasts = load.while_it_lasts();
        for _ in 0..CLIENTS {
            let (load, rests, mut dice) = (&load, &rests, dice_of(&mut run.dice));
            scope.spawn(move || force_on(load, rests, &mut dice));
        }
        cluster.storm(faults, lasts, &history, &mut run.dice);
    });
    let calm = cluster.settle(ENDS_WITHIN);
    history.settle_all(&rests, true);
    watch.end(&cluster, &history);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    assert!(findings.attempts > 5, "the load was too small: {findings:?}");
    let figures = format!(
        "{what}: {} s, {}; {} acknowledged, {} attempts, all final {:.1} s after calm, 0 changed after their end",
        lasts.as_secs(),
        cluster.weather(),
        findings.acknowledged,
        findings.attempts,
        calm.as_secs_f64()
    );
    run.kept(&figures);
}

#[test]
fn g04_every_build_ends_once_on_postgresql() {
    every_build_ends("postgres", (18, 1_800), &ALL, |history| Cluster::raise("postgres", 2, history, "0.2"));
}

#[test]
fn g04_every_build_ends_once_on_mariadb() {
    every_build_ends("mariadb", (8, 600), &ALL, |history| Cluster::raise("mariadb", 2, history, "0.2"));
}

#[test]
fn g04_every_build_ends_once_on_sqlite_with_our_agent() {
    let faults = [Fault::Master, Fault::Master, Fault::Worker];
    every_build_ends("sqlite", (7, 300), &faults, |history| Cluster::alone(history, "0.3", false));
}

#[test]
fn g04_every_build_ends_once_on_sqlite_with_a_stock_worker() {
    every_build_ends("stock", (7, 300), &[Fault::Master], |history| Cluster::alone(history, "0.5", true));
}
