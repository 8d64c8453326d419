//! The model test: real masters over one real database, through commits that are rolled back or whose outcome is unknown, a bus that
//! loses, doubles and reorders, clients that break off and resume by their clock, removed events, takeovers, and snapshots of old state.
//! Whatever the order, each client is told each event once, in order; each snapshot is the truth; what was acknowledged is there once.
//!
//! And the check of the check: with a known fault planted into the real code, the same plays fail.

mod farm;
mod restored;
mod steps;

use greenroom_db::Plant;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use self::farm::{Farm, Over};
use self::steps::{Lie, Step, steps};
use crate::judge::Broken;

fn play(over: Over, plant: Plant, steps: &[Step]) -> Vec<Broken> {
    let dir = tempfile::tempdir().expect("a directory");
    actix_rt::System::new().block_on(async {
        let mut farm = Farm::start(over, dir.path(), plant).await;
        for step in steps {
            farm.take(step).await;
        }
        farm.judge().await
    })
}

proptest! {
    #![proptest_config(Config { cases: 64, max_shrink_iters: 200, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_nothing_is_missed_doubled_or_out_of_order(steps in steps()) {
        let broken = play(Over::Memory, Plant::Nothing, &steps);
        prop_assert!(broken.is_empty(), "{broken:?}");
    }
}

/// Plays of a seed, which is always the same.
fn plays(seed: u8, count: usize) -> impl Iterator<Item = Vec<Step>> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(move |_| steps().new_tree(&mut runner).expect("a play").current())
}

fn on_a_real_database(over: Over) {
    for steps in plays(9, 3) {
        let broken = play(over, Plant::Nothing, &steps);
        assert!(broken.is_empty(), "{broken:?}\n{steps:?}");
    }
}

#[test]
fn whatever_happens_in_a_file_nothing_is_missed() {
    on_a_real_database(Over::File);
}

#[test]
fn whatever_happens_on_postgresql_nothing_is_missed() {
    on_a_real_database(Over::Server("postgres"));
}

#[test]
fn whatever_happens_on_mariadb_nothing_is_missed() {
    on_a_real_database(Over::Server("mariadb"));
}

/// With the fault planted some of the plays fail, and for the reason that is expected. Without it none of them does.
fn is_caught(plant: Plant, plays: impl Iterator<Item = Vec<Step>>, expected: impl Fn(&Broken) -> bool) {
    let (mut caught, mut all) = (0, 0);
    for steps in plays {
        all += 1;
        if play(Over::Memory, plant, &steps).iter().any(&expected) {
            caught += 1;
            let sound = play(Over::Memory, Plant::Nothing, &steps);
            assert!(sound.is_empty(), "without the fault: {sound:?}\n{steps:?}");
        }
        if caught == 3 {
            println!("{plant:?}: caught by {caught} of {all} plays");
            return;
        }
    }
    panic!("{plant:?} was planted, and only {caught} of {all} plays noticed");
}

#[test]
fn a_reader_of_whatever_is_newer_is_caught() {
    is_caught(Plant::AnythingNewer, plays(1, 60), |b| {
        matches!(b, Broken::Gap { .. } | Broken::Missed { .. })
    });
}

#[test]
fn a_skipped_version_is_caught() {
    is_caught(Plant::SkippedVersion, plays(2, 60), |b| matches!(b, Broken::Version { .. }));
}

#[test]
fn a_number_taken_before_the_commit_is_caught() {
    is_caught(Plant::NumberBeforeCommit, plays(3, 60), |b| matches!(b, Broken::Stalled(_)));
}

#[test]
fn an_event_told_before_its_commit_is_caught() {
    is_caught(Plant::ToldBeforeCommit, plays(4, 60), |b| {
        matches!(b, Broken::Version { .. } | Broken::Missed { .. })
    });
}

#[test]
fn a_write_that_is_done_again_is_caught() {
    let done_again = |b: &Broken| matches!(b, Broken::Doubled(_) | Broken::RefusedAndThere(_));
    is_caught(Plant::DoneAgain, plays(5, 60), done_again);
}

#[test]
fn a_master_that_writes_after_its_end_is_caught() {
    is_caught(Plant::NoFence, plays(6, 60), |b| matches!(b, Broken::WroteAfterItsEnd));
}

#[test]
fn a_subscriber_that_goes_on_across_a_gap_is_caught() {
    is_caught(Plant::AcrossGap, plays(7, 90), |b| matches!(b, Broken::Gap { .. } | Broken::Missed { .. }));
}

#[test]
fn events_forgotten_between_snapshot_and_subscription_are_caught() {
    is_caught(Plant::ForgetsBetween, plays(8, 60), |b| {
        matches!(b, Broken::Gap { .. } | Broken::Missed { .. })
    });
}

/// A client that was away while events were removed, and a master that has them in memory no more.
fn pruned_while_away(n: usize) -> Vec<Step> {
    let mut steps = vec![Step::Follow { client: 0, events: 9 }, Step::Break { client: 0, master: n % 3 }];
    (0..24).for_each(|i| steps.push(Step::Write { master: i % 3 }));
    steps.extend([Step::Bus(Lie::Nothing), Step::Pass(50)]);
    steps.extend((0..3).map(|master| Step::Prune { master }));
    steps.extend((0..3).map(|master| Step::Die { master, actor: 0 }));
    steps.extend([Step::Pass(500), Step::Follow { client: 0, events: 99 }]);
    steps
}

#[test]
fn a_resume_that_trusts_a_pruned_clock_is_caught() {
    let missed = |b: &Broken| matches!(b, Broken::Gap { .. } | Broken::Missed { .. });
    is_caught(Plant::TrustsPruned, (0..6).map(pruned_while_away), missed);
}
