//! Servers that are away, deaths, bounds.

use std::time::Duration;

use greenroom_model::{DeliveryState, Results};
use greenroom_status::SendError;

use crate::farm::*;
use Results::*;

#[actix_rt::test]
async fn a_server_that_is_away_for_an_hour_gets_everything_in_order() {
    let mut farm = Farm::start(&machine("['all']", "")).await;
    farm.recorder.server().down = true;
    let begun = tokio::time::Instant::now();
    for i in 0..60 {
        farm.ends("linux", if i % 2 == 0 { Failure } else { Success }).await;
        farm.pass(Duration::from_secs(60)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(3_600));
    let tried = farm.recorder.server().attempts;
    assert!((10..100).contains(&tried), "{tried} attempts in an hour");
    assert_eq!(farm.in_state(DeliveryState::Waiting).await.len(), 60);
    farm.recorder.server().down = false;
    farm.until_taken(60).await;
    farm.settle().await;
    let taken = farm.recorder.server().taken.clone();
    let mut keys: Vec<String> = taken.iter().map(|(_, it)| it.dedup_key.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((taken.len(), keys.len()), (60, 60), "each once");
    // At most the message that was probed beside the first one may have overtaken it.
    let numbers: Vec<i64> = taken.iter().map(|(_, it)| of_build(it).number).collect();
    let overtaken = numbers.windows(2).filter(|it| it[0] > it[1]).count();
    assert!(overtaken <= 1, "{numbers:?}");
    farm.finish().await;
}

#[actix_rt::test]
async fn a_death_between_sending_and_recording_repeats_once() {
    let mut farm = Farm::start(&machine("['all']", "")).await;
    farm.recorder.server().script.push_back(Reply::TakeAndKill("notifier/x".into()));
    farm.ends("linux", Failure).await;
    farm.until_taken(2).await;
    farm.ends("linux", Success).await;
    farm.until_taken(3).await;
    farm.pass(Duration::from_secs(600)).await;
    let taken = farm.recorder.server().taken.clone();
    assert_eq!(taken.len(), 3);
    assert_eq!(taken[0].1.dedup_key, taken[1].1.dedup_key);
    assert_eq!((taken[0].1.attempt, taken[1].1.attempt), (1, 2), "it says that it may be a repetition");
    assert_ne!(taken[1].1.dedup_key, taken[2].1.dedup_key);
    farm.finish().await;
}

#[actix_rt::test]
async fn what_happened_while_the_notifier_was_dead_is_told_once() {
    let mut farm = Farm::start(&machine("['all']", "")).await;
    farm.ends("linux", Success).await;
    farm.until_taken(1).await;
    for _ in 0..5 {
        farm.world.runtime().kill("notifier/x");
        farm.ends("linux", Failure).await;
        farm.settle().await;
    }
    farm.end().await;
    farm.ends("linux", Success).await;
    farm.begin().await;
    farm.until_taken(7).await;
    farm.pass(Duration::from_secs(600)).await;
    let mut keys: Vec<String> =
        farm.recorder.server().taken.iter().map(|(_, it)| it.dedup_key.clone()).collect();
    assert_eq!(keys.len(), 7);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 7);
    farm.finish().await;
}

#[actix_rt::test]
async fn what_began_before_the_first_life_is_not_told() {
    let mut farm = Farm::quiet(&machine("['all']", "")).await;
    farm.ends("linux", Failure).await;
    farm.begin().await;
    farm.ends("linux", Success).await;
    farm.until_taken(1).await;
    farm.settle().await;
    assert_eq!(farm.recorder.subjects(), ["linux #2 success"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn more_than_the_bound_push_out_the_oldest_with_a_record() {
    let mut farm = Farm::start(&machine("['all']", "queue = 3")).await;
    farm.recorder.server().down = true;
    for _ in 0..5 {
        farm.ends("linux", Failure).await;
        farm.settle().await;
    }
    let dropped = farm.in_state(DeliveryState::Dropped).await;
    let reason = "more than 3 messages waited".to_owned();
    assert_eq!(
        dropped,
        [("linux #1 failure".to_owned(), reason.clone()), ("linux #2 failure".to_owned(), reason)]
    );
    farm.recorder.server().down = false;
    farm.until_taken(3).await;
    farm.settle().await;
    assert_eq!(farm.recorder.subjects().len(), 3);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_refused_message_is_recorded_and_the_next_one_goes_on() {
    let mut farm = Farm::start(&machine("['all']", "")).await;
    farm.recorder.server().script.push_back(Reply::Refuse(SendError::never("not for us")));
    farm.recorder.server().script.push_back(Reply::Refuse(SendError::Nobody { why: "nobody cares".into() }));
    for _ in 0..3 {
        farm.ends("linux", Failure).await;
    }
    farm.until_taken(1).await;
    farm.settle().await;
    assert_eq!(farm.recorder.subjects(), ["linux #3 failure"]);
    let failed = farm.in_state(DeliveryState::Failed).await;
    assert_eq!(failed, [("linux #1 failure".to_owned(), "not for us".to_owned())]);
    let silenced = farm.in_state(DeliveryState::Silenced).await;
    assert_eq!(silenced, [("linux #2 failure".to_owned(), "nobody cares".to_owned())]);
    farm.finish().await;
}

#[actix_rt::test]
async fn one_message_that_cannot_be_sent_does_not_hold_up_the_others() {
    let mut farm = Farm::start(&machine("['all']", "")).await;
    // The first one is put off for ever; the server is well.
    let put_off = || Reply::Refuse(SendError::later("greylisted"));
    farm.recorder.server().script.extend([put_off(), put_off(), put_off()]);
    for _ in 0..10 {
        farm.ends("linux", Failure).await;
    }
    farm.pass(Duration::from_secs(10)).await;
    assert!(farm.recorder.server().taken.len() >= 9, "{:?}", farm.recorder.subjects());
    farm.finish().await;
}

#[actix_rt::test]
async fn a_server_that_says_when_is_heeded() {
    let mut farm = Farm::start(&machine("['all']", "")).await;
    let asked = SendError::Later { why: "slow down".into(), retry_after: Some(Duration::from_secs(900)) };
    farm.recorder.server().script.push_back(Reply::Refuse(asked));
    farm.ends("linux", Failure).await;
    farm.ends("windows", Failure).await;
    farm.pass(Duration::from_secs(899)).await;
    assert_eq!(farm.recorder.server().attempts, 1);
    farm.until_taken(2).await;
    farm.finish().await;
}

#[actix_rt::test]
async fn what_cannot_be_sent_for_a_day_is_given_up() {
    let mut farm = Farm::start(&machine("['all']", "give-up-after = '2h'")).await;
    farm.recorder.server().down = true;
    farm.ends("linux", Failure).await;
    farm.pass(Duration::from_secs(3 * 3_600)).await;
    let failed = farm.in_state(DeliveryState::Failed).await;
    assert_eq!(failed.len(), 1);
    assert!(failed[0].1.starts_with("given up after"), "{failed:?}");
    farm.finish().await;
}

#[actix_rt::test]
async fn a_server_that_never_answers_is_tried_again() {
    let mut farm = Farm::start(&machine("['all']", "timeout = '20s'")).await;
    farm.recorder.server().script.push_back(Reply::Hang);
    farm.ends("linux", Failure).await;
    farm.until_taken(1).await;
    assert_eq!(farm.recorder.last().attempt, 2);
    farm.finish().await;
}

#[actix_rt::test]
async fn poisonous_messages_are_given_up_and_nobody_is_born_again_for_them() {
    let mut farm = Farm::start(&machine("['all']", "")).await;
    // More panics than any policy would suffer as deaths.
    farm.recorder.server().script.extend((0..50).map(|_| Reply::Panic));
    for _ in 0..10 {
        farm.ends("linux", Failure).await;
    }
    farm.until("the messages are given up", |farm| farm.recorder.server().script.is_empty()).await;
    farm.ends("windows", Failure).await;
    farm.until_taken(1).await;
    farm.settle().await;
    assert_eq!(farm.recorder.subjects(), ["windows #1 failure"]);
    let failed = farm.in_state(DeliveryState::Failed).await;
    assert_eq!(failed.len(), 10);
    for (_, reason) in &failed {
        assert_eq!(reason, "sending it panicked: a planned panic");
    }
    assert_eq!(farm.births(), 1, "its supervisor has no part in that");
    farm.finish().await;
}

#[actix_rt::test]
async fn the_record_is_bounded() {
    let mut farm = Farm::start(&machine("['failing']", "repeats = false")).await;
    // Half are told, half are silenced.
    for i in 0..300 {
        let step = if i / 2 % 2 == 0 { "a" } else { "b" };
        farm.build(Wish { step, ..wish("linux", Failure) }).await;
        farm.settle().await;
    }
    farm.settle().await;
    for state in [DeliveryState::Sent, DeliveryState::Silenced] {
        let kept = farm.in_state(state).await;
        assert!((50..=75).contains(&kept.len()), "{} {state:?}", kept.len());
    }
    assert!(farm.recorder.subjects().len() >= 149);
    farm.finish().await;
}
