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

fn every_build_ends(kind: &'static str, short: usize, full: usize) {
    let mut run = Run::of("G4");
    let history = Arc::new(History::of(&run, kind));
    let lasts = Duration::from_secs(run.figure(short, full) as u64);
    let mut cluster = Cluster::raise(kind, 2, &history, "0.2");
    let load = Load::new(&history);
    let rests = cluster.rests();
    let watch = Watch::begin(
        &cluster,
        &["builds", "buildrequests", "buildsets"],
        1,
        2_000..8_000,
        &history,
        &mut run.dice,
    );
    std::thread::scope(|scope| {
        let _lasts = load.while_it_lasts();
        for _ in 0..CLIENTS {
            let (load, rests, mut dice) = (&load, &rests, dice_of(&mut run.dice));
            scope.spawn(move || force_on(load, rests, &mut dice));
        }
        let faults =
            [Fault::Master, Fault::Master, Fault::Worker, Fault::Worker, Fault::Bus, Fault::Database];
        cluster.storm(&faults, lasts, &mut run.dice);
    });
    let calm = cluster.settle(ENDS_WITHIN);
    history.settle_all(&rests, true);
    watch.end(&cluster, &history);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    assert!(findings.attempts > 20, "the load was too small: {findings:?}");
    let figures = format!(
        "{kind}: {} s, {}; {} acknowledged, {} attempts, all final {:.1} s after calm, 0 changed after their end",
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
    every_build_ends("postgres", 18, 1_800);
}
