//! From a push to a result.

use std::time::Duration;

use greenroom_model::*;
use serde_json::json;

use crate::farm::{Farm, SIMPLE};
use crate::workers::Play;

#[actix_rt::test]
async fn a_push_becomes_a_result() {
    let farm = Farm::start(SIMPLE).await;
    farm.push("main", "abc").await;
    let build = farm.finished("linux", 1).await;
    assert_eq!((build.results, build.state_string.as_str()), (Some(Results::Success), "build successful"));
    let steps = farm.steps(build.id).await;
    let told: Vec<(&str, Option<Results>)> = steps.iter().map(|it| (it.0.as_str(), it.1)).collect();
    assert_eq!(told, [("worker_preparation", Some(Results::Success)), ("compile", Some(Results::Success))]);
    assert_eq!(farm.workers.words(), ["make"]);
    let hot = farm.hot();
    let request = &hot.requests.get(&build.request.0).unwrap();
    assert_eq!(request.results, Some(Results::Success));
    assert_eq!(hot.buildsets.get(&request.buildset.0).unwrap().results, Some(Results::Success));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_build_knows_where_it_comes_from_and_where_it_runs() {
    let farm = Farm::start(SIMPLE).await;
    farm.push("main", "abc").await;
    let build = farm.finished("linux", 1).await;
    let properties = farm.properties(build.id).await;
    let worker = farm.worker("w1");
    for (name, value) in [
        ("buildername", json!("linux")),
        ("builderid", json!(build.builder.0)),
        ("buildnumber", json!(1)),
        ("workername", json!("w1")),
        ("basedir", json!(format!("/w/{worker}"))),
        ("builddir", json!(format!("/w/{worker}/linux"))),
        ("branch", json!("main")),
        ("revision", json!("abc")),
        ("repository", json!("https://x.org/r")),
        ("codebase", json!("")),
        ("project", json!("")),
        ("scheduler", json!("main")),
        ("owners", json!(["Bob <bob@x.org>"])),
        ("reason", json!("scheduler 'main' saw a change")),
    ] {
        assert_eq!(properties.get(name), Some(&value), "{name}");
    }
    farm.finish().await;
}

const FLAGS: &str = r#"
[workers.w1]
password = "p"
[schedulers.force]
kind = "force"
builders = "*"
[builders.linux]
[[builders.linux.steps]]
name = "lint"
run = "lint"
warn-on-failure = true
flunk-on-failure = false
[[builders.linux.steps]]
name = "compile"
run = "compile"
halt-on-failure = true
[[builders.linux.steps]]
name = "test"
run = "test"
[[builders.linux.steps]]
name = "clean up"
run = "clean"
always-run = true
"#;

#[actix_rt::test]
async fn a_halting_failure_skips_what_follows_but_not_what_always_runs() {
    let farm = Farm::start(FLAGS).await;
    farm.workers.play(|order| match crate::workers::words(order).as_str() {
        "compile" => Play::Exit(2),
        _ => Play::Exit(0),
    });
    farm.force_builder("linux").await;
    let build = farm.finished("linux", 1).await;
    assert_eq!(build.results, Some(Results::Failure));
    assert_eq!(build.state_string, "failed compile (exit code 2)");
    assert_eq!(farm.workers.words(), ["lint", "compile", "clean"]);
    let steps = farm.steps(build.id).await;
    assert_eq!(steps[3], ("test".into(), Some(Results::Skipped), "not run".into()));
    assert_eq!((steps[4].0.as_str(), steps[4].1), ("clean_up", Some(Results::Success)));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_failure_may_only_warn() {
    let farm = Farm::start(FLAGS).await;
    farm.workers.play(|order| match crate::workers::words(order).as_str() {
        "lint" => Play::Exit(1),
        _ => Play::Exit(0),
    });
    farm.force_builder("linux").await;
    let build = farm.finished("linux", 1).await;
    assert_eq!(
        (build.results, build.state_string.as_str()),
        (Some(Results::Warnings), "warnings lint (exit code 1)")
    );
    assert_eq!(farm.workers.words().len(), 4);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_lost_worker_makes_the_build_be_repeated_and_no_more_than_three_times() {
    let farm = Farm::start(SIMPLE).await;
    farm.workers.play(|_| Play::Hang);
    let request = farm.force_builder("linux").await;
    for number in 1..=4 {
        farm.running("linux", number).await;
        farm.disconnect("w1").await;
        let build = farm.finished("linux", number).await;
        let wanted = if number < 4 { Results::Retry } else { Results::Exception };
        assert_eq!(build.results, Some(wanted), "attempt {number}");
        farm.connect("w1").await;
    }
    let request = farm.until("the request's end", |hot| {
        let request = hot.requests.get(&request.0)?;
        request.complete_at.map(|_| request.entity.clone())
    });
    assert_eq!(request.await.results, Some(Results::Exception));
    farm.settle().await;
    assert_eq!(farm.hot().builds.values().count(), 4);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_build_that_takes_too_long_is_stopped_and_cleans_up() {
    let toml = FLAGS.replace("[builders.linux]\n", "[builders.linux]\nmax-time = \"1h\"\n");
    let farm = Farm::start(&toml).await;
    farm.workers.play(|order| match crate::workers::words(order).as_str() {
        "compile" => Play::Hang,
        _ => Play::Exit(0),
    });
    farm.force_builder("linux").await;
    // the story's own patience is shorter than the build's
    farm.running("linux", 1).await;
    tokio::time::sleep(Duration::from_secs(3590)).await;
    assert!(farm.hot().running_builds().next().is_some(), "not yet");
    let build = farm.finished("linux", 1).await;
    assert_eq!(build.results, Some(Results::Failure));
    assert_eq!(build.state_string, "failed took longer than max-time");
    assert_eq!(farm.workers.words(), ["lint", "compile", "clean"]);
    assert!(farm.workers.sent()[1].interrupted.is_some());
    farm.finish().await;
}

#[actix_rt::test]
async fn stopping_the_master_waits_for_builds_and_names_those_it_cuts_off() {
    let toml = format!("{SIMPLE}[builders.other]\n[[builders.other.steps]]\nrun = \"slow\"\n");
    let mut farm = Farm::start(&toml).await;
    farm.workers.play(|order| match crate::workers::words(order).as_str() {
        "make" => Play::Later(Duration::from_secs(5), 0),
        _ => Play::Hang,
    });
    farm.force_builder("linux").await;
    farm.force_builder("other").await;
    farm.until("both to run", |hot| {
        (hot.running_builds().count() == 2 && farm.workers.running() == 2).then_some(())
    })
    .await;
    let summary = farm.close(Duration::from_secs(30)).await;
    assert_eq!((summary.finished, summary.abandoned.as_slice()), (1, ["other #1".to_owned()].as_slice()));
    assert_eq!(farm.finished("linux", 1).await.results, Some(Results::Success));
    assert_eq!(farm.finished("other", 1).await.results, Some(Results::Retry));
    let waiting = farm.hot().waiting_requests().count();
    assert_eq!(waiting, 1, "its request is free again");
    farm.finish().await;
}

#[actix_rt::test]
async fn what_an_earlier_life_left_running_is_repeated() {
    let world = greenroom_runtime::TestWorld::new();
    let mut farm = Farm::without_process(world, SIMPLE).await;
    let rw = farm.data.rw();
    let builder = farm.builder("linux");
    let mut running = Vec::new();
    for _ in 0..120 {
        let (set, request, build) = (rw.new_id().unwrap(), rw.new_id().unwrap(), rw.new_id().unwrap());
        let buildset = write::NewBuildset {
            id: set,
            requests: vec![(request, builder)],
            sourcestamps: vec![],
            reason: "test".into(),
            external_id: None,
            properties: Properties::new(),
            priority: 0,
            waited_for: false,
            scheduler: None,
            parent: None,
            rebuilt_build: None,
        };
        let new = write::NewBuild {
            id: build,
            request,
            worker: farm.worker("w1"),
            state_string: "building".into(),
            properties: Properties::new(),
        };
        farm.write(vec![Op::AddBuildset(Box::new(buildset)), Op::StartBuild(Box::new(new))]).await;
        running.push((build, request));
    }
    farm.open().await;
    for (build, _) in &running {
        let ended = farm.hot().builds.get(&build.0).unwrap().entity.clone();
        assert_eq!(ended.results, Some(Results::Retry));
    }
    farm.connect("w1").await;
    farm.until("every request to be built", |hot| hot.waiting_requests().next().is_none().then_some(()))
        .await;
    farm.settle().await;
    for (_, request) in running {
        assert_eq!(farm.hot().requests.get(&request.0).unwrap().results, Some(Results::Success));
    }
    farm.finish().await;
}

#[actix_rt::test]
async fn a_trivial_build_costs_two_writes_beside_those_that_asked_for_it() {
    let farm = Farm::start(SIMPLE).await;
    farm.force_builder("linux").await;
    farm.finished("linux", 1).await;
    farm.settle().await;
    let before = farm.report("db-writer").await.observed;
    let hot = farm.hot();
    let events = hot.clock.head(farm.data.me());
    farm.force_builder("linux").await;
    farm.finished("linux", 2).await;
    farm.settle().await;
    let after = farm.report("db-writer").await.observed;
    let commits = after["commits"].as_u64().unwrap() - before["commits"].as_u64().unwrap();
    assert_eq!(commits, 4, "the wish; buildset and answer; claim and begin; the end of everything");
    let events = farm.hot().clock.head(farm.data.me()) - events;
    assert!(events <= 20, "{events} events");
    farm.finish().await;
}

#[actix_rt::test]
async fn what_a_build_learns_is_seen_while_a_longer_command_runs() {
    let farm = Farm::start(SIMPLE).await;
    farm.workers.play(|_| Play::Hang);
    farm.force_builder("linux").await;
    let build = farm.running("linux", 1).await.id;
    let number =
        |hot: &greenroom_data::Hot| hot.properties.get(&build)?.get("buildnumber").map(|it| it.0.clone());
    assert_eq!(farm.until("its number", number).await, json!(1));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_build_that_somebody_else_has_ended_is_left_alone() {
    let farm = Farm::start(SIMPLE).await;
    farm.workers.play(|_| Play::Hang);
    farm.force_builder("linux").await;
    let build = farm.running("linux", 1).await.id;
    let (results, state_string) = (Results::Exception, "ended by hand".to_owned());
    farm.write(vec![Op::FinishBuild { build, results, state_string }]).await;
    farm.workers.end_all(0);
    farm.settle().await;
    assert_eq!(farm.finished("linux", 1).await.state_string, "ended by hand");
    assert!(!farm.world.live().contains(&format!("build/{build}")), "its actor has ended");
    farm.finish().await;
}
