//! What users ask for.

use std::time::Duration;

use greenroom_model::*;
use serde_json::{Value, json};

use crate::farm::{Farm, SIMPLE};
use crate::workers::{Play, words};

const DONE: ControlAnswer = ControlAnswer::Done(Value::Null);

const CLEANING: &str = r#"
[workers.w1]
password = "p"
max-builds = 2
[schedulers.force]
kind = "force"
builders = "*"
parameters = [{ name = "target", required = true, default = "all", regex = "[a-z]+" }]
[builders.linux]
[[builders.linux.steps]]
name = "compile"
run = "make"
[[builders.linux.steps]]
name = "test"
run = "test"
[[builders.linux.steps]]
name = "clean"
run = "clean"
always-run = true
[builders.mac]
[[builders.mac.steps]]
run = "make mac"
"#;

#[actix_rt::test]
async fn a_forced_build_is_told_by_its_numbers() {
    let farm = Farm::start(CLEANING).await;
    let answer =
        farm.force(json!({ "reason": "try it", "branch": "topic", "priority": 3, "target": "x" })).await;
    let ControlAnswer::Done(told) = &answer else { panic!("{answer:?}") };
    let (linux, mac) = (farm.builder("linux"), farm.builder("mac"));
    let request = BuildRequestId(told[1][linux.0.to_string()].as_i64().unwrap());
    assert!(told[1][mac.0.to_string()].is_i64(), "every builder of the scheduler");
    let hot = farm.hot();
    let buildset = hot.buildsets.get(&told[0].as_i64().unwrap()).unwrap();
    assert_eq!(buildset.reason, "A build was forced by 'ann': try it");
    assert_eq!(hot.requests.get(&request.0).unwrap().priority, 3);
    let build = farm.finished("linux", 1).await;
    let properties = farm.properties(build.id).await;
    for (name, value) in
        [("owner", "ann"), ("reason", "try it"), ("target", "x"), ("branch", "topic"), ("scheduler", "force")]
    {
        assert_eq!(properties[name], json!(value), "{name}");
    }
    assert_eq!(properties["owners"], json!(["ann"]));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_form_with_faults_builds_nothing() {
    let farm = Farm::start(CLEANING).await;
    let answer = farm.force(json!({ "target": "ABC", "priority": "high" })).await;
    let ControlAnswer::Invalid(faults) = &answer else { panic!("{answer:?}") };
    assert_eq!(faults.as_object().unwrap().keys().collect::<Vec<_>>(), ["priority", "target"]);
    let answer = farm.force(json!({ "builderid": 4711 })).await;
    assert!(matches!(&answer, ControlAnswer::Failed(why) if why.contains("4711")), "{answer:?}");
    let unknown = ControlTarget::ForceScheduler("nobody".into());
    assert!(matches!(farm.ask(unknown, "force", json!({})).await, ControlAnswer::Failed(_)));
    assert_eq!(farm.hot().buildsets.values().count(), 0);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_stopped_build_is_cancelled_after_it_has_cleaned_up() {
    let farm = Farm::start(CLEANING).await;
    farm.workers.play(|order| if words(order) == "make" { Play::Hang } else { Play::Exit(0) });
    farm.force_builder("linux").await;
    let build = farm.running("linux", 1).await;
    let stop = ControlTarget::Build(build.id);
    assert_eq!(farm.ask(stop.clone(), "stop", json!({ "reason": "wrong branch" })).await, DONE);
    let build = farm.finished("linux", 1).await;
    assert_eq!(
        (build.results, build.state_string.as_str()),
        (Some(Results::Cancelled), "cancelled: wrong branch")
    );
    assert_eq!(farm.workers.words(), ["make", "clean"]);
    assert_eq!(farm.workers.sent()[0].interrupted.as_deref(), Some("wrong branch"));
    let steps = farm.steps(build.id).await;
    assert_eq!(steps[1], ("compile".into(), Some(Results::Cancelled), "stopped: wrong branch".into()));
    assert_eq!((steps[2].1, steps[3].1), (Some(Results::Skipped), Some(Results::Success)));
    assert_eq!(farm.hot().requests.get(&build.request.0).unwrap().results, Some(Results::Cancelled));
    assert_eq!(farm.ask(stop, "stop", json!({})).await, DONE, "a finished one");
    assert_eq!(
        farm.ask(ControlTarget::Build(BuildId(4711)), "stop", json!({})).await,
        DONE,
        "an unknown one"
    );
    farm.finish().await;
}

#[actix_rt::test]
async fn a_command_that_ignores_its_interrupt_does_not_hold_the_build_for_ever() {
    let farm = Farm::start(SIMPLE).await;
    farm.workers.play(|_| Play::Stubborn);
    farm.force_builder("linux").await;
    let build = farm.running("linux", 1).await;
    farm.ask(ControlTarget::Build(build.id), "stop", json!({})).await;
    assert_eq!(farm.finished("linux", 1).await.results, Some(Results::Cancelled));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_stop_outlives_the_build_actor() {
    let mut farm = Farm::start(CLEANING).await;
    farm.workers.play(|order| if words(order) == "clean" { Play::Hang } else { Play::Stubborn });
    farm.force_builder("linux").await;
    let build = farm.running("linux", 1).await;
    farm.ask(ControlTarget::Build(build.id), "stop", json!({ "reason": "enough" })).await;
    farm.panic(&format!("build/{}", build.id)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    farm.workers.end_all(0);
    farm.until("the clean-up", |_| farm.workers.words().contains(&"clean".to_owned()).then_some(())).await;
    farm.workers.end_all(0);
    let build = farm.finished("linux", 1).await;
    assert_eq!((build.results, build.state_string.as_str()), (Some(Results::Cancelled), "cancelled: enough"));
    assert_eq!(farm.workers.words(), ["make", "clean"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_waiting_request_is_cancelled_and_one_that_is_built_is_stopped() {
    let farm = Farm::start(SIMPLE).await;
    farm.workers.play(|_| Play::Hang);
    let first = farm.force_builder("linux").await;
    farm.running("linux", 1).await;
    let second = farm.force_builder("linux").await;
    assert_eq!(farm.ask(ControlTarget::BuildRequest(second), "cancel", json!({})).await, DONE);
    assert_eq!(farm.hot().requests.get(&second.0).unwrap().results, Some(Results::Cancelled));
    assert_eq!(farm.ask(ControlTarget::BuildRequest(first), "cancel", json!({ "reason": "no" })).await, DONE);
    assert_eq!(farm.finished("linux", 1).await.state_string, "cancelled: no");
    assert_eq!(farm.ask(ControlTarget::BuildRequest(first), "cancel", json!({})).await, DONE);
    farm.settle().await;
    assert_eq!(farm.hot().builds.values().count(), 1, "the cancelled request was not built");
    farm.finish().await;
}

#[actix_rt::test]
async fn a_rebuild_asks_for_the_same_again() {
    let farm = Farm::start(CLEANING).await;
    farm.force(json!({ "builderNames": ["linux"], "branch": "topic", "revision": "abc", "target": "x" }))
        .await;
    let first = farm.finished("linux", 1).await;
    let answer = farm.ask(ControlTarget::Build(first.id), "rebuild", json!({})).await;
    let ControlAnswer::Done(told) = &answer else { panic!("{answer:?}") };
    let second = farm.finished("linux", 2).await;
    assert_eq!(told[1][first.builder.0.to_string()], json!(second.request.0));
    let hot = farm.hot();
    let buildset = hot.buildsets.get(&told[0].as_i64().unwrap()).unwrap();
    assert_eq!((buildset.reason.as_str(), buildset.rebuilt_build), ("rebuild", Some(first.id)));
    let properties = farm.properties(second.id).await;
    assert_eq!([&properties["target"], &properties["revision"]], [&json!("x"), &json!("abc")]);
    let unknown = farm.ask(ControlTarget::Build(BuildId(4711)), "rebuild", json!({})).await;
    assert!(matches!(unknown, ControlAnswer::Failed(_)));
    farm.finish().await;
}

#[actix_rt::test]
async fn the_same_key_forces_once() {
    let farm = Farm::start(SIMPLE).await;
    let force = || {
        let target = ControlTarget::ForceScheduler("force".into());
        let control = farm.data.control().bind("ann");
        async move { control.act(target, "force", json!({}), Some("k1".into())).await.unwrap() }
    };
    let (one, two) = (force().await, force().await);
    assert_eq!(one, two);
    farm.settle().await;
    assert_eq!(farm.hot().buildsets.values().count(), 1);
    farm.finish().await;
}

#[actix_rt::test]
async fn workers_are_paused_and_sent_away_when_they_are_done() {
    let farm = Farm::start(SIMPLE).await;
    farm.workers.play(|_| Play::Hang);
    let worker = farm.worker("w1");
    let target = ControlTarget::Worker(worker);
    assert_eq!(farm.ask(target.clone(), "pause", json!({ "reason": "maintenance" })).await, DONE);
    let paused = farm.hot().workers.get(&worker.0).unwrap().entity.clone();
    assert_eq!((paused.paused, paused.pause_reason.as_deref()), (true, Some("maintenance")));
    farm.force_builder("linux").await;
    farm.settle().await;
    assert_eq!(farm.hot().running_builds().count(), 0);
    farm.ask(target.clone(), "unpause", json!({})).await;
    farm.running("linux", 1).await;
    assert_eq!(farm.ask(target.clone(), "stop", json!({})).await, DONE);
    farm.settle().await;
    assert_eq!(farm.workers.shut_down_workers(), [], "it still builds");
    farm.workers.end_all(0);
    farm.finished("linux", 1).await;
    farm.until("the worker to be sent away", |_| {
        (!farm.workers.shut_down_workers().is_empty()).then_some(())
    })
    .await;
    assert_eq!(farm.workers.shut_down_workers(), [worker]);
    farm.disconnect("w1").await;
    farm.until("the wish to be fulfilled", |hot| (!hot.workers.get(&worker.0)?.graceful).then_some(())).await;
    farm.workers.play(|_| Play::Exit(0));
    farm.connect("w1").await;
    farm.force_builder("linux").await;
    assert_eq!(farm.finished("linux", 2).await.results, Some(Results::Success));
    assert!(matches!(farm.ask(target, "dance", json!({})).await, ControlAnswer::Failed(_)));
    farm.finish().await;
}

#[actix_rt::test]
async fn what_was_asked_while_nobody_was_there_is_answered_at_the_start() {
    let mut farm = Farm::start(SIMPLE).await;
    farm.close(Duration::from_secs(1)).await;
    let control = farm.data.control().bind("ann");
    let target = ControlTarget::ForceScheduler("force".into());
    let unanswered = control.act(target.clone(), "force", json!({}), Some("k".into())).await;
    assert!(unanswered.is_err(), "{unanswered:?}");
    farm.open().await;
    let answer = control.act(target, "force", json!({}), Some("k".into())).await.unwrap();
    assert!(matches!(answer, ControlAnswer::Done(_)), "{answer:?}");
    farm.finished("linux", 1).await;
    assert_eq!(farm.hot().buildsets.values().count(), 1);
    farm.finish().await;
}

#[actix_rt::test]
async fn what_is_asked_of_a_master_itself_is_carried_out_outside_this_layer_and_answered() {
    let farm = Farm::start(SIMPLE).await;
    let me = farm.hot().masters.values().next().unwrap().id;
    let reload = farm.ask(ControlTarget::Master(me), "reload", json!({})).await;
    assert_eq!(reload, ControlAnswer::Done(json!("reload")));
    let test = farm.ask(ControlTarget::Notifier("team".into()), "test", json!({})).await;
    assert_eq!(test, ControlAnswer::Done(json!("test")));
    farm.finish().await;
}
