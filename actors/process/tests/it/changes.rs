//! From changes to buildsets.

use std::time::Duration;

use greenroom_model::*;
use serde_json::json;

use crate::farm::{Farm, SIMPLE, change};

const ANY: &str = r#"
[workers.w1]
password = "p"
max-builds = 4
[schedulers.all]
kind = "any-branch"
builders = ["linux"]
tree-stable-timer = "10s"
filter = { branch = ["main", "release/*"], files = ["src/**"] }
properties = { nightly = false }
[builders.linux]
[[builders.linux.steps]]
run = "make"
"#;

fn stamps(farm: &Farm) -> Vec<(Option<String>, Option<String>)> {
    let hot = farm.hot();
    let stamps = hot.buildsets.values().flat_map(|it| it.sourcestamps.clone());
    stamps.map(|it| (it.branch.clone(), it.revision.clone())).collect()
}

fn stamp(branch: &str, revision: &str) -> (Option<String>, Option<String>) {
    (Some(branch.to_owned()), Some(revision.to_owned()))
}

#[actix_rt::test]
async fn without_a_timer_each_change_is_built() {
    let farm = Farm::start(SIMPLE).await;
    for revision in ["a", "b", "c"] {
        farm.push("main", revision).await;
    }
    farm.push("topic", "d").await;
    farm.finished("linux", 3).await;
    farm.settle().await;
    assert_eq!(stamps(&farm), [stamp("main", "a"), stamp("main", "b"), stamp("main", "c")]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_tree_is_built_once_it_is_stable_each_branch_for_itself() {
    let farm = Farm::start(ANY).await;
    farm.push("main", "m1").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    farm.push("release/1", "r1").await;
    farm.push("main", "m2").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(stamps(&farm), [], "not stable yet");
    farm.push("release/1", "r2").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stamps(&farm), [stamp("main", "m2")]);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(stamps(&farm), [stamp("main", "m2"), stamp("release/1", "r2")]);
    let build = farm.finished("linux", 1).await;
    let properties = farm.properties(build.id).await;
    assert_eq!((&properties["nightly"], &properties["scheduler"]), (&json!(false), &json!("all")));
    farm.finish().await;
}

#[actix_rt::test]
async fn changes_that_the_filter_refuses_are_not_built_nor_do_they_restart_the_timer() {
    let farm = Farm::start(ANY).await;
    farm.push("main", "m1").await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    let mut docs = change("main", "docs");
    docs.files = vec!["README".into()];
    farm.push_change(docs).await;
    farm.push("topic", "t").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stamps(&farm), [stamp("main", "m1")]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(stamps(&farm).len(), 1);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_scheduler_that_dies_while_it_waits_builds_once_all_the_same() {
    let mut farm = Farm::start(ANY).await;
    farm.push("main", "m1").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    farm.panic("scheduler/all").await;
    farm.push("main", "m2").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    farm.panic("scheduler/all").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stamps(&farm), [], "the timer was not forgotten, nor did it run out early");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(stamps(&farm), [stamp("main", "m2")]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_stop_and_a_start_of_the_master_skip_no_change_and_repeat_none() {
    let mut farm = Farm::start(ANY).await;
    farm.push("main", "m1").await;
    farm.until("the change to be taken", |hot| (hot.total_changes == 1).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    farm.close(Duration::from_secs(1)).await;
    farm.push("release/1", "while away").await;
    farm.open().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut built = stamps(&farm);
    built.sort();
    assert_eq!(built, [stamp("main", "m1"), stamp("release/1", "while away")]);
    farm.close(Duration::from_secs(1)).await;
    farm.open().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stamps(&farm).len(), 2);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_scheduler_switched_off_holds_back_what_it_has_and_takes_nothing() {
    let farm = Farm::start(ANY).await;
    let scheduler = ControlTarget::Scheduler(farm.scheduler("all"));
    farm.push("main", "m1").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answer = farm.ask(scheduler.clone(), "enable", json!({ "enabled": false })).await;
    assert_eq!(answer, ControlAnswer::Done(json!(null)));
    assert!(!farm.hot().scheduler_named("all").unwrap().enabled);
    farm.push("main", "while off").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stamps(&farm), []);
    farm.ask(scheduler.clone(), "enable", json!({ "enabled": true })).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stamps(&farm), [stamp("main", "m1")]);
    let answer = farm.ask(scheduler, "enable", json!({ "enabled": "perhaps" })).await;
    assert!(matches!(answer, ControlAnswer::Failed(_)), "{answer:?}");
    farm.finish().await;
}

#[actix_rt::test]
async fn properties_of_changes_reach_the_build_and_the_schedulers_win() {
    let toml = SIMPLE.replace("[schedulers.main]", "[schedulers.main]\nproperties = { a = 1 }");
    let farm = Farm::start(&toml).await;
    let mut sent = change("main", "abc");
    for (name, value) in [("a", json!(0)), ("b", json!("x")), ("buildername", json!("forged"))] {
        sent.properties.insert(name.into(), Property(value, "Change".into()));
    }
    farm.push_change(sent).await;
    let build = farm.finished("linux", 1).await;
    let properties = farm.properties(build.id).await;
    assert_eq!(
        [&properties["a"], &properties["b"], &properties["buildername"]],
        [&json!(1), &json!("x"), &json!("linux")]
    );
    farm.finish().await;
}

#[actix_rt::test]
async fn a_push_is_built_at_once() {
    let farm = Farm::start(SIMPLE).await;
    for number in 1..=5 {
        let begun = farm.world.now_micros();
        farm.push("main", &format!("r{number}")).await;
        farm.finished("linux", number).await;
        let took = farm.world.now_micros() - begun;
        assert!(took < 50_000, "nobody waits for a tick: build {number} took {took} µs");
        farm.settle().await;
    }
    farm.finish().await;
}

#[actix_rt::test]
async fn a_scheduler_whose_events_are_gone_lists_the_changes_instead() {
    let mut farm = Farm::start(SIMPLE).await;
    farm.push("main", "before").await;
    farm.finished("linux", 1).await;
    farm.close(Duration::from_secs(1)).await;
    for number in 0..450 {
        farm.push(if number % 10 == 0 { "main" } else { "topic" }, &format!("r{number}")).await;
    }
    // its clock is of another life of the database: what came after it is not kept
    let scheduler = farm.scheduler("main");
    let stored = farm.data.ro().scheduler_state(scheduler).await.unwrap().value;
    let state = write::SchedulerState { clock: Some(Clock::start(4711)), pending: stored.pending };
    // nobody runs it, and so nobody else may store what it has seen
    farm.write(vec![Op::Claim(write::Duty::Scheduler(scheduler)), Op::SaveScheduler { scheduler, state }])
        .await;
    farm.open().await;
    farm.finished("linux", 46).await;
    farm.push("main", "after").await;
    farm.finished("linux", 47).await;
    farm.settle().await;
    let revisions: Vec<String> = stamps(&farm).into_iter().filter_map(|it| it.1).collect();
    let missed = (0..450).step_by(10).map(|number| format!("r{number}"));
    let wanted: Vec<String> =
        ["before".to_owned()].into_iter().chain(missed).chain(["after".to_owned()]).collect();
    assert_eq!(revisions, wanted, "each once and in order");
    farm.finish().await;
}

/// Where a scheduler would begin if it were born again.
async fn stored_clock(farm: &Farm, name: &str) -> Option<Clock> {
    farm.data.ro().scheduler_state(farm.scheduler(name)).await.unwrap().value.clock
}

#[actix_rt::test]
async fn a_change_that_came_while_a_scheduler_was_off_is_not_built_after_a_restart() {
    let mut farm = Farm::start(SIMPLE).await;
    let scheduler = ControlTarget::Scheduler(farm.scheduler("main"));
    farm.ask(scheduler.clone(), "enable", json!({ "enabled": false })).await;
    farm.push("main", "while off").await;
    farm.settle().await;
    farm.ask(scheduler, "enable", json!({ "enabled": true })).await;
    farm.panic("scheduler/main").await;
    farm.push("main", "while on").await;
    farm.finished("linux", 1).await;
    farm.settle().await;
    assert_eq!(stamps(&farm), [stamp("main", "while on")]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_filter_that_is_edited_while_the_master_is_down_looks_at_no_old_change() {
    let mut farm = Farm::start(SIMPLE).await;
    farm.push("topic", "refused").await;
    farm.settle().await;
    farm.close(Duration::from_secs(1)).await;
    farm.edit(r#"branch = ["main"]"#, r#"branch = ["*"]"#);
    farm.open().await;
    farm.push("topic", "wanted").await;
    farm.finished("linux", 1).await;
    farm.settle().await;
    assert_eq!(stamps(&farm), [stamp("topic", "wanted")]);
    farm.finish().await;
}

#[actix_rt::test]
async fn the_clock_after_changes_that_were_skipped_is_stored_soon() {
    let farm = Farm::start(SIMPLE).await;
    farm.settle().await;
    let before = stored_clock(&farm, "main").await;
    farm.push("topic", "refused").await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_ne!(stored_clock(&farm, "main").await, before);
    farm.finish().await;
}

/// A scheduler that takes some changes of `main`.
fn choosy(condition: &str) -> String {
    SIMPLE.replace(r#"branch = ["main"]"#, &format!(r#"branch = ["main"], condition = "{condition}""#))
}

fn sent(revision: &str, author: &str, n: Option<i64>) -> greenroom_data::SentChange {
    let mut sent = change("main", revision);
    sent.author = author.into();
    if let Some(n) = n {
        sent.properties.insert("n".into(), Property(json!(n), "Change".into()));
    }
    sent
}

#[actix_rt::test]
async fn a_condition_chooses_changes_and_one_for_which_it_fails_is_left_out_alone() {
    let condition = "change.author.endsWith('@example.org') && change.files.exists(f, f.startsWith('src/')) \
                     && change.properties.n > 0";
    let mut farm = Farm::start(&choosy(condition)).await;
    farm.push_change(sent("a", "ann@example.org", Some(1))).await;
    farm.push_change(sent("other author", "eve@elsewhere.org", Some(1))).await;
    let failed = farm.push_change(sent("no property", "ann@example.org", None)).await;
    farm.push_change(sent("not enough", "ann@example.org", Some(0))).await;
    let mut docs = sent("other files", "ann@example.org", Some(1));
    docs.files = vec!["docs/a.md".into()];
    farm.push_change(docs).await;
    let mut topic = sent("other branch", "ann@example.org", Some(1));
    topic.branch = Some("topic".into());
    farm.push_change(topic).await;
    farm.push_change(sent("b", "bob@example.org", Some(2))).await;
    farm.finished("linux", 2).await;
    farm.settle().await;
    assert_eq!(stamps(&farm), [stamp("main", "a"), stamp("main", "b")]);
    let seen = farm.report("scheduler/main").await.observed;
    assert_eq!((&seen["changes_taken"], &seen["condition_failures"]), (&json!(2), &json!(1)), "{seen}");
    let why = format!("change {failed}: `{condition}`: there is no `n`");
    assert_eq!(seen["condition_failed"], json!(why));
    farm.panic("scheduler/main").await;
    farm.push_change(sent("c", "ann@example.org", Some(3))).await;
    farm.finished("linux", 3).await;
    farm.settle().await;
    assert_eq!(stamps(&farm).len(), 3, "what was left out is not looked at again");
    farm.finish().await;
}

#[actix_rt::test]
async fn a_condition_that_costs_too_much_for_a_change_leaves_it_out_and_goes_on() {
    let farm = Farm::start(&choosy("change.files.all(a, change.files.all(b, a + b != 'x'))")).await;
    for (revision, files) in [("a", 3), ("heavy", 1_000), ("endless", 1_001), ("b", 3)] {
        let mut it = change("main", revision);
        it.files = (0..files).map(|number| format!("src/f{number}")).collect();
        farm.push_change(it).await;
    }
    farm.finished("linux", 2).await;
    farm.settle().await;
    assert_eq!(stamps(&farm), [stamp("main", "a"), stamp("main", "b")]);
    let report = farm.report("scheduler/main").await;
    assert_eq!((report.births, &report.observed["condition_failures"]), (1, &json!(2)));
    let why = report.observed["condition_failed"].as_str().unwrap();
    assert!(why.ends_with("(its 1001 files are not shown to expressions, which see 1000 at most)"), "{why}");
    farm.finish().await;
}

#[actix_rt::test]
async fn a_condition_is_not_asked_while_its_scheduler_is_off() {
    let farm = Farm::start(&choosy("change.properties.n > 0")).await;
    let scheduler = ControlTarget::Scheduler(farm.scheduler("main"));
    farm.ask(scheduler.clone(), "enable", json!({ "enabled": false })).await;
    farm.push("main", "while off").await;
    farm.settle().await;
    farm.ask(scheduler, "enable", json!({ "enabled": true })).await;
    farm.push_change(sent("a", "ann", Some(1))).await;
    farm.finished("linux", 1).await;
    farm.settle().await;
    assert_eq!(stamps(&farm), [stamp("main", "a")]);
    assert_eq!(farm.report("scheduler/main").await.observed["condition_failures"], json!(null));
    farm.finish().await;
}

#[actix_rt::test]
async fn changes_that_are_listed_instead_meet_the_condition_too() {
    let mut farm = Farm::start(&choosy("change.properties.n > 0")).await;
    farm.push_change(sent("before", "ann", Some(1))).await;
    farm.finished("linux", 1).await;
    farm.close(Duration::from_secs(1)).await;
    for number in 0..250_i64 {
        let n = if number % 25 == 0 { Some(1) } else { Some(0) };
        farm.push_change(sent(&format!("r{number}"), "ann", n.filter(|_| number % 2 == 0))).await;
    }
    let scheduler = farm.scheduler("main");
    let stored = farm.data.ro().scheduler_state(scheduler).await.unwrap().value;
    let state = write::SchedulerState { clock: Some(Clock::start(4711)), pending: stored.pending };
    // nobody runs it, and so nobody else may store what it has seen
    farm.write(vec![Op::Claim(write::Duty::Scheduler(scheduler)), Op::SaveScheduler { scheduler, state }])
        .await;
    farm.open().await;
    farm.finished("linux", 6).await;
    farm.settle().await;
    let revisions: Vec<String> = stamps(&farm).into_iter().filter_map(|it| it.1).collect();
    assert_eq!(revisions, ["before", "r0", "r50", "r100", "r150", "r200"]);
    assert_eq!(farm.report("scheduler/main").await.observed["condition_failures"], json!(125));
    farm.finish().await;
}
