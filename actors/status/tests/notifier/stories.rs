//! What people are told, and when.

use std::time::Duration;

use greenroom_model::{DeliveryState, Op, Results, WorkerId};

use crate::farm::*;
use Results::*;

#[actix_rt::test]
async fn a_problem_is_told_once_and_its_end_too() {
    let mut farm = Farm::start(&people("['problem', 'change']", "")).await;
    for results in [Success, Failure, Failure, Success, Success, Failure] {
        farm.ends("linux", results).await;
    }
    farm.until_taken(3).await;
    farm.settle().await;
    assert_eq!(farm.recorder.subjects(), ["linux #2 failure", "linux #4 success", "linux #6 failure"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn branches_are_compared_with_themselves() {
    let mut farm = Farm::start(&people("['change']", "")).await;
    for (branch, results) in
        [("main", Success), ("next", Failure), ("main", Success), ("next", Failure), ("next", Success)]
    {
        farm.build(Wish { branch, ..wish("linux", results) }).await;
    }
    farm.until_taken(1).await;
    farm.settle().await;
    assert_eq!(farm.recorder.subjects(), ["linux #5 success"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_failure_like_the_one_before_is_silenced_with_a_record() {
    let mut farm = Farm::start(&people("['failing']", "")).await;
    farm.build(Wish { step: "compile", ..wish("linux", Failure) }).await;
    farm.build(Wish { step: "compile", ..wish("linux", Failure) }).await;
    farm.build(Wish { step: "test", ..wish("linux", Failure) }).await;
    farm.until_taken(2).await;
    farm.settle().await;
    assert_eq!(farm.recorder.subjects(), ["linux #1 failure", "linux #3 failure"]);
    let silenced = farm.in_state(DeliveryState::Silenced).await;
    let reason = "it fails in the step compile like build 1 before it".to_owned();
    assert_eq!(silenced, [("linux #2 failure".to_owned(), reason)]);
    farm.finish().await;
}

#[actix_rt::test]
async fn programs_hear_of_every_failure() {
    let mut farm = Farm::start(&machine("['failing']", "")).await;
    for _ in 0..3 {
        farm.ends("linux", Failure).await;
    }
    farm.until_taken(3).await;
    farm.finish().await;
}

#[actix_rt::test]
async fn filters_choose_builders_tags_branches_schedulers_and_conditions() {
    for (keys, told) in [
        ("builders = 'lin*'", vec!["linux #1 failure", "linux #2 failure"]),
        ("tags = ['fast']", vec!["linux #1 failure", "linux #2 failure"]),
        ("branches = 'rel/*'", vec!["linux #2 failure"]),
        ("schedulers = ['nightly']", vec!["windows #1 failure"]),
        ("condition = \"prop.kind == 'nightly'\"", vec!["windows #1 failure"]),
        ("condition = \"builder.name == 'linux' && src.branch == 'main'\"", vec!["linux #1 failure"]),
        ("condition = \"prop.nothing == 1\"", vec![]),
    ] {
        let mut farm = Farm::start(&machine("['failing']", keys)).await;
        farm.ends("linux", Failure).await;
        farm.build(Wish { branch: "rel/1", ..wish("linux", Failure) }).await;
        farm.build(Wish { scheduler: "nightly", ..wish("windows", Failure) }).await;
        farm.until_taken(told.len()).await;
        farm.settle().await;
        assert_eq!(farm.recorder.subjects(), told, "{keys}");
        farm.finish().await;
        // The next farm stops it again.
        tokio::time::resume();
    }
}

#[actix_rt::test]
async fn a_flake_is_not_told_and_neither_is_its_end() {
    let mut farm = Farm::start(&people("['failing', 'change']", "settle = '60s'")).await;
    farm.ends("linux", Success).await;
    // It fails, is tried again, fails once more, and is good: all within a minute.
    farm.ends("linux", Failure).await;
    farm.settle().await;
    farm.ends("linux", Failure).await;
    farm.settle().await;
    farm.ends("linux", Success).await;
    farm.settle().await;
    farm.pass(Duration::from_secs(120)).await;
    assert_eq!(farm.recorder.subjects(), Vec::<String>::new());
    assert_eq!(
        farm.in_state(DeliveryState::Silenced).await,
        [
            ("linux #2 failure", "build 4 was good before it was told"),
            ("linux #3 failure", "it fails in the step test like build 2 before it"),
            ("linux #4 success", "nobody was told of the failure of build 2 that it repairs"),
        ]
        .map(|(subject, reason)| (subject.to_owned(), reason.to_owned()))
    );
    // A failure that stands is told, and so is its end, also if the last failure was another one that had not settled.
    farm.ends("linux", Failure).await;
    farm.until_taken(1).await;
    farm.build(Wish { step: "lint", ..wish("linux", Failure) }).await;
    farm.settle().await;
    farm.ends("linux", Success).await;
    farm.until_taken(2).await;
    farm.pass(Duration::from_secs(120)).await;
    assert_eq!(farm.recorder.subjects(), ["linux #5 failure", "linux #7 success"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_fix_within_the_settle_time_silences_with_a_record() {
    let mut farm = Farm::start(&people("['problem']", "settle = '60s'")).await;
    farm.ends("linux", Success).await;
    farm.ends("linux", Failure).await;
    farm.settle().await;
    assert_eq!(farm.in_state(DeliveryState::Waiting).await.len(), 1);
    farm.pass(Duration::from_secs(30)).await;
    farm.ends("linux", Success).await;
    farm.pass(Duration::from_secs(120)).await;
    assert_eq!(farm.recorder.subjects(), Vec::<String>::new());
    let reason = "build 3 was good before it was told".to_owned();
    assert_eq!(farm.in_state(DeliveryState::Silenced).await, [("linux #2 failure".to_owned(), reason)]);
    // What stands is told, not before the time is over.
    farm.ends("linux", Failure).await;
    farm.pass(Duration::from_secs(59)).await;
    assert_eq!(farm.recorder.subjects(), Vec::<String>::new());
    farm.until_taken(1).await;
    assert_eq!(farm.recorder.subjects(), ["linux #4 failure"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_fix_of_another_builder_or_branch_silences_nothing() {
    let mut farm = Farm::start(&people("['problem']", "settle = '60s'")).await;
    farm.ends("linux", Failure).await;
    farm.ends("windows", Success).await;
    farm.build(Wish { branch: "next", ..wish("linux", Success) }).await;
    farm.until_taken(1).await;
    assert_eq!(farm.recorder.subjects(), ["linux #1 failure"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_thousand_failures_in_a_minute_give_a_person_a_digest() {
    let mut farm = Farm::start(&people("['failing']", "repeats = true\nmax-per-minute = 5")).await;
    let begun = tokio::time::Instant::now();
    for i in 0..1_000 {
        farm.ends(if i % 3 == 0 { "windows" } else { "linux" }, Failure).await;
        farm.pass(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() <= Duration::from_secs(61), "{:?}", begun.elapsed());
    farm.pass(Duration::from_secs(300)).await;
    let told = farm.recorder.server().taken.clone();
    let told: Vec<_> = told.into_iter().map(|(at, it)| (at, it.notice.clone())).collect();
    let digests: Vec<_> = told
        .iter()
        .filter_map(|(_, it)| match it {
            greenroom_status::Notice::Digest(it) => Some(it.clone()),
            _ => None,
        })
        .collect();
    let alone = told.len() - digests.len();
    let collected: u64 = digests.iter().map(|it| it.total).sum();
    assert_eq!(alone as u64 + collected, 1_000, "every failure is told, alone or in a digest");
    assert!(!digests.is_empty() && digests.len() <= 5, "{} digests", digests.len());
    // Never more than five within any minute.
    for window in told.windows(6) {
        assert!(window[5].0.micros_since(window[0].0) >= 60_000_000);
    }
    let biggest = digests.iter().max_by_key(|it| it.total).unwrap();
    assert_eq!(biggest.lines.len(), 2);
    assert_eq!(biggest.lines[0].name, "linux");
    assert_eq!(biggest.lines[0].worst, Some(Failure));
    assert_eq!(biggest.lines.iter().map(|it| it.messages).sum::<u64>(), biggest.total);
    assert_eq!(biggest.counts["failure"], biggest.total);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_configured_digest_collects_for_its_time() {
    let mut farm = Farm::start(&people("['failing']", "repeats = true\ndigest = '10m'")).await;
    for _ in 0..3 {
        farm.ends("linux", Failure).await;
        farm.pass(Duration::from_secs(100)).await;
    }
    assert_eq!(farm.recorder.subjects(), Vec::<String>::new());
    farm.until_taken(1).await;
    assert_eq!(farm.recorder.subjects(), ["digest of 3 messages"]);
    // One alone is told as itself.
    farm.ends("windows", Failure).await;
    farm.until_taken(2).await;
    assert_eq!(farm.recorder.subjects()[1], "windows #1 failure");
    farm.finish().await;
}

#[actix_rt::test]
async fn a_buildset_is_told_when_all_of_it_has_ended() {
    let mut farm = Farm::start(&people("['failing']", "per = 'buildset'")).await;
    farm.ends("linux", Success).await;
    farm.build(Wish { output: "x.c:1: error: no\n", ..wish("linux", Failure) }).await;
    farm.until_taken(1).await;
    farm.settle().await;
    let message = farm.recorder.last();
    let greenroom_status::Notice::Buildset(set) = &message.notice else { panic!("{message:?}") };
    assert_eq!((set.results, set.builds.len(), set.more_builds), (Failure, 1, 0));
    assert_eq!(set.builds[0].number, 2);
    assert_eq!(farm.recorder.subjects().len(), 1);
    farm.finish().await;
}

#[actix_rt::test]
async fn starts_are_told_when_wanted() {
    let mut farm = Farm::start(&machine("['started', 'passing']", "")).await;
    let wish = wish("linux", Success);
    let build = farm.begin_build(&wish).await;
    farm.until_taken(1).await;
    farm.end_build(build, &wish).await;
    farm.until_taken(2).await;
    assert_eq!(farm.recorder.subjects(), ["linux #1 started", "linux #1 success"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_worker_that_is_away_for_long_is_told_once() {
    let keys = machine("[]", "worker-missing = '10m'");
    let mut farm = Farm::start(&keys).await;
    let worker = farm.data.ro().hot().worker_named("w").map_or(WorkerId(0), |it| it.id);
    let rw = farm.data.rw();
    let leave = || Op::DisconnectWorker { worker };
    let come = || Op::ConnectWorker { worker, info: Default::default() };
    rw.write(vec![leave()]).await.unwrap();
    farm.pass(Duration::from_secs(300)).await;
    rw.write(vec![come()]).await.unwrap();
    farm.pass(Duration::from_secs(1_000)).await;
    assert_eq!(farm.recorder.subjects(), Vec::<String>::new());
    rw.write(vec![leave()]).await.unwrap();
    farm.pass(Duration::from_secs(599)).await;
    assert_eq!(farm.recorder.subjects(), Vec::<String>::new());
    farm.until_taken(1).await;
    assert_eq!(farm.recorder.subjects(), ["worker w is missing"]);
    // A new life of the notifier knows of it.
    farm.end().await;
    farm.begin().await;
    farm.pass(Duration::from_secs(3_000)).await;
    assert_eq!(farm.recorder.subjects().len(), 1);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_trial_message_goes_out_at_once() {
    let farm = Farm::start(&people("['failing']", "digest = '1h'")).await;
    let status = farm.status.clone().unwrap();
    status.test("x", "ada").await.unwrap();
    farm.until_taken(1).await;
    assert_eq!(farm.recorder.subjects(), ["test message asked for by ada"]);
    assert!(status.test("y", "ada").await.is_err());
    drop(status);
    farm.finish().await;
}

#[actix_rt::test]
async fn other_settings_start_the_notifier_anew_and_lose_nothing() {
    let mut farm = Farm::start(&people("['failing']", "settle = '60s'")).await;
    farm.ends("linux", Failure).await;
    farm.settle().await;
    farm.apply(&people("['failing']", "settle = '30s'")).await;
    farm.ends("windows", Failure).await;
    farm.until_taken(2).await;
    // Gone from the configuration: nothing more is told, and nobody runs it.
    farm.apply("").await;
    farm.ends("windows", Success).await;
    farm.build(Wish { step: "other", ..wish("windows", Failure) }).await;
    farm.pass(Duration::from_secs(100)).await;
    assert_eq!(farm.recorder.subjects().len(), 2);
    let rows = farm.data.ro().list::<greenroom_model::Notifier>(Default::default()).await.unwrap().value;
    assert_eq!(rows.items[0].master, None);
    farm.finish().await;
}
