//! Actors die, and are born again with their state from the data layer.

use std::time::Duration;

use greenroom_model::*;
use serde_json::json;

use crate::farm::{Farm, SIMPLE, change};
use crate::workers::{Play, words};

const THREE_STEPS: &str = r#"
[workers.w1]
password = "p"
max-builds = 4
[schedulers.force]
kind = "force"
builders = "*"
[builders.linux]
[[builders.linux.steps]]
run = "one"
[[builders.linux.steps]]
run = "two"
[[builders.linux.steps]]
run = "three"
always-run = true
"#;

#[actix_rt::test]
async fn a_build_goes_on_at_the_step_that_runs_and_nothing_runs_twice() {
    let mut farm = Farm::start(THREE_STEPS).await;
    farm.workers.play(|order| if words(order) == "two" { Play::Hang } else { Play::Exit(0) });
    farm.force_builder("linux").await;
    let build = farm.running("linux", 1).await;
    farm.panic(&format!("build/{}", build.id)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    farm.panic(&format!("build/{}", build.id)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(farm.hot().running_builds().next().is_some());
    farm.workers.end_all(0);
    let build = farm.finished("linux", 1).await;
    assert_eq!(build.results, Some(Results::Success));
    assert_eq!(farm.workers.words(), ["one", "two", "three"]);
    assert!(farm.workers.sent().iter().all(|it| it.sent_times == 1));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_command_that_ended_while_its_build_was_dead_is_not_run_again() {
    let mut farm = Farm::start(THREE_STEPS).await;
    farm.workers.play(|order| if words(order) == "two" { Play::Hang } else { Play::Exit(0) });
    farm.force_builder("linux").await;
    let build = farm.running("linux", 1).await;
    farm.panic(&format!("build/{}", build.id)).await;
    farm.workers.end_all(5);
    let build = farm.finished("linux", 1).await;
    assert_eq!(
        (build.results, build.state_string.as_str()),
        (Some(Results::Failure), "failed two (exit code 5)")
    );
    assert_eq!(farm.workers.words(), ["one", "two", "three"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_worker_lost_while_the_build_was_dead_makes_it_be_repeated() {
    let mut farm = Farm::start(THREE_STEPS).await;
    farm.workers.play(|_| Play::Hang);
    farm.force_builder("linux").await;
    let build = farm.running("linux", 1).await;
    farm.panic(&format!("build/{}", build.id)).await;
    farm.disconnect("w1").await;
    assert_eq!(farm.finished("linux", 1).await.results, Some(Results::Retry));
    farm.workers.play(|_| Play::Exit(0));
    farm.connect("w1").await;
    assert_eq!(farm.finished("linux", 2).await.results, Some(Results::Success));
    farm.finish().await;
}

#[actix_rt::test]
async fn the_distributor_finds_its_builds_again() {
    let mut farm = Farm::start(SIMPLE).await;
    farm.workers.play(|_| Play::Hang);
    farm.force_builder("linux").await;
    farm.running("linux", 1).await;
    farm.force_builder("linux").await;
    farm.panic("distributor").await;
    farm.settle().await;
    assert_eq!(farm.hot().builds.values().count(), 1, "the slot is still taken");
    farm.workers.end_all(0);
    farm.finished("linux", 1).await;
    farm.running("linux", 2).await;
    farm.workers.end_all(0);
    assert_eq!(farm.finished("linux", 2).await.results, Some(Results::Success));
    farm.finish().await;
}

#[actix_rt::test]
async fn the_control_desk_misses_no_act() {
    let mut farm = Farm::start(SIMPLE).await;
    for round in 1..=5 {
        farm.panic("control-desk").await;
        if round % 2 == 0 {
            farm.panic("scheduler/force").await;
        }
        farm.force_builder("linux").await;
    }
    farm.finished("linux", 5).await;
    farm.settle().await;
    assert_eq!(farm.hot().buildsets.values().count(), 5);
    farm.finish().await;
}

/// Every kind of actor dies again and again while changes come, requests are forced and builds run.
#[actix_rt::test]
async fn whoever_dies_under_load_nothing_is_lost_and_nothing_doubled() {
    let mut toml = String::from(
        "[schedulers.force]\nkind = \"force\"\nbuilders = \"*\"\n[schedulers.main]\nkind = \"single-branch\"\n\
         builders = [\"b1\"]\n[schedulers.calm]\nkind = \"any-branch\"\nbuilders = [\"b2\"]\ntree-stable-timer = \"3s\"\n",
    );
    for worker in 1..=2 {
        toml += &format!("[workers.w{worker}]\npassword = \"p\"\nmax-builds = 3\n");
    }
    for builder in 1..=4 {
        toml += &format!("[builders.b{builder}]\n");
        for step in 1..=2 {
            toml += &format!(
                "[[builders.b{builder}.steps]]\nname = \"s{step}\"\nrun = [\"b{builder}\", \"s{step}\"]\n"
            );
        }
    }
    let mut farm = Farm::start(&toml).await;
    farm.workers.play(|_| Play::Later(Duration::from_millis(300), 0));
    let permanent =
        ["distributor", "control-desk", "scheduler/main", "scheduler/calm", "scheduler/force", "builder/b1"];
    let mut killed_builds = 0;
    for round in 0..40_usize {
        farm.push("main", &format!("r{round}")).await;
        if round % 4 == 0 {
            let builder = farm.builder(["b1", "b2", "b3", "b4"][round / 4 % 4]);
            let answer = farm.force(json!({ "builderid": builder.0 })).await;
            assert!(matches!(answer, ControlAnswer::Done(_)), "{answer:?}");
        }
        farm.panic(permanent[round % permanent.len()]).await;
        let running = farm.hot().running_builds().map(|it| it.id).next();
        if let Some(id) = running.filter(|_| round % 3 == 0) {
            let name = format!("build/{id}");
            farm.world.expect_panic(&*name);
            killed_builds += usize::from(farm.world.inject_panic(&name));
        }
        // the intensity of a supervisor is not this story's business
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    assert!(killed_builds > 3, "{killed_builds}");
    farm.until("all requests to be done", |hot| {
        let open = hot.requests.values().any(|it| it.complete_at.is_none());
        (!open).then_some(())
    })
    .await;
    farm.settle().await;
    let hot = farm.hot();
    // 40 changes, each built by b1; by b2 each apart, since they are calm for longer than its timer; 10 forced
    assert_eq!(hot.total_buildsets, 90);
    assert!(
        hot.requests.values().all(|it| it.results == Some(Results::Success)),
        "every request was built in the end"
    );
    let sent = farm.workers.sent();
    assert!(sent.iter().all(|it| it.sent_times == 1), "no command was sent twice");
    for build in hot.builds.values() {
        assert!(matches!(build.results, Some(Results::Success | Results::Retry)));
    }
    farm.finish().await;
}

/// The data layer's own actors die while builds run: nobody's build is disturbed.
#[actix_rt::test]
async fn builds_do_not_notice_the_death_of_the_data_layers_actors() {
    let mut farm = Farm::start(THREE_STEPS).await;
    farm.workers.play(|_| Play::Later(Duration::from_millis(700), 0));
    let below = ["db-writer", "data", "log-writer", "db-reader", "broker", "hub/actors"];
    for (number, name) in (1_i64..).zip(below) {
        farm.force_builder("linux").await;
        farm.panic(name).await;
        let build = farm.finished("linux", number).await;
        assert_eq!(
            build.results,
            Some(Results::Success),
            "after the death of {name}: {}",
            build.state_string
        );
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    farm.settle().await;
    assert_eq!((farm.hot().total_builds, farm.workers.sent().len()), (6, 18));
    assert_eq!(farm.report("distributor").await.births, 1, "those above live on");
    farm.finish().await;
}

#[actix_rt::test]
async fn a_builder_whose_properties_cannot_be_evaluated_says_so_in_its_builds() {
    let toml = SIMPLE
        .replace("[builders.linux]\n", "[builders.linux]\nproperties = { x = \"${{ prop.missing }}\" }\n");
    let farm = Farm::start(&toml).await;
    farm.force_builder("linux").await;
    let build = farm.finished("linux", 1).await;
    assert_eq!(build.results, Some(Results::Exception));
    assert!(build.state_string.contains("there is no `missing`"), "{}", build.state_string);
    assert_eq!(farm.workers.sent().len(), 0);
    farm.finish().await;
}

/// A scheduler dies at every moment of judging changes by its condition, and the master stops in between.
#[actix_rt::test]
async fn a_scheduler_with_a_condition_that_dies_neither_skips_a_change_nor_builds_it_twice() {
    let condition = "change.files.exists(f, f == 'wanted') && change.properties.n >= 0";
    let toml = SIMPLE
        .replace(r#"branch = ["main"]"#, &format!(r#"branch = ["main"], condition = "{condition}""#))
        .replace("max-builds = 2", "max-builds = 50");
    let mut farm = Farm::start(&toml).await;
    let mut wanted = Vec::new();
    for round in 0..30_usize {
        let revision = format!("r{round}");
        let mut sent = change("main", &revision);
        // of six, three meet the condition, two do not, and for one it cannot be evaluated
        sent.files = vec![if round % 3 == 1 { "other" } else { "wanted" }.into()];
        if round % 6 != 5 {
            sent.properties.insert("n".into(), Property(json!(round), "Change".into()));
        }
        if round % 3 != 1 && round % 6 != 5 {
            wanted.push(revision);
        }
        farm.push_change(sent).await;
        for _ in 0..round % 10 {
            tokio::task::yield_now().await;
        }
        if round == 15 {
            farm.close(Duration::from_secs(1)).await;
            farm.open().await;
        } else {
            farm.panic("scheduler/main").await;
        }
        // the intensity of a supervisor is not this story's business
        if round % 3 == 2 {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    }
    farm.until("all changes to be built", |hot| (hot.total_buildsets >= 15).then_some(())).await;
    farm.settle().await;
    let hot = farm.hot();
    let built = hot.buildsets.values().flat_map(|it| it.sourcestamps.clone());
    let built: Vec<String> = built.filter_map(|it| it.revision.clone()).collect();
    assert_eq!(built, wanted, "each once and in order");
    farm.finish().await;
}
