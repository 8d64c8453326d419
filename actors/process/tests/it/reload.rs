//! Another configuration while the farm runs: what it names changes, everything else goes on undisturbed.

use std::time::Duration;

use greenroom_model::*;
use greenroom_process::messages::{Stranded, WhyWaiting};
use serde_json::{Value, json};

use crate::farm::{Farm, SIMPLE};
use crate::workers::{Play, words};

const TWO: &str = r#"
[workers.w1]
password = "p"
max-builds = 2
[workers.w2]
password = "p"
max-builds = 2
[schedulers.force]
kind = "force"
builders = "*"
[schedulers.calm]
kind = "any-branch"
builders = ["a"]
tree-stable-timer = "60s"
[change-sources.one]
kind = "git-poller"
repository = "/nowhere/one"
interval = "10s"
[change-sources.two]
kind = "git-poller"
repository = "/nowhere/two"
interval = "10s"
[builders.a]
workers = ["w1"]
[[builders.a.steps]]
run = "a1"
[[builders.a.steps]]
run = "a2"
[builders.b]
workers = ["w2"]
[[builders.b.steps]]
run = "b1"
"#;

const LAST_BUILDER: &str = "[builders.b]\nworkers = [\"w2\"]\n[[builders.b.steps]]\nrun = \"b1\"\n";

async fn number(farm: &Farm, build: &Build) -> Value {
    farm.properties(build.id).await["configuration"].clone()
}

#[actix_rt::test]
async fn a_running_build_keeps_the_recipe_that_it_began_with_over_its_actors_deaths() {
    let mut farm = Farm::start(TWO).await;
    farm.workers.play(|order| if words(order) == "a1" { Play::Hang } else { Play::Exit(0) });
    farm.force_builder("a").await;
    let old = farm.running("a", 1).await;
    farm.edit("run = \"a2\"", "run = \"other\"\n[[builders.a.steps]]\nrun = \"third\"");
    farm.reload().await;
    farm.panic(&format!("build/{}", old.id)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // more versions than are kept whole: the build keeps its own
    for round in 0..8 {
        farm.edit("run = \"third\"", &format!("run = \"third\" # {round}\ntimeout = \"{round}5s\""));
        farm.reload().await;
        farm.edit(&format!("\ntimeout = \"{round}5s\""), "");
    }
    farm.panic(&format!("build/{}", old.id)).await;
    farm.workers.end_all(0);
    let old = farm.finished("a", 1).await;
    assert_eq!(old.results, Some(Results::Success));
    assert_eq!(number(&farm, &old).await, json!(1));
    assert_eq!(farm.workers.words(), ["a1", "a2"]);

    farm.workers.play(|_| Play::Exit(0));
    farm.force_builder("a").await;
    let new = farm.finished("a", 2).await;
    assert_eq!(farm.workers.words()[2..], ["a1", "other", "third"]);
    assert_eq!(number(&farm, &new).await, json!(10));
    assert!(farm.workers.sent().iter().all(|it| it.sent_times == 1));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_build_whose_start_was_under_way_is_found_with_its_own_version() {
    let mut farm = Farm::start(TWO).await;
    farm.workers.play(|order| if words(order) == "a1" { Play::Hang } else { Play::Exit(0) });
    farm.force_builder("a").await;
    farm.running("a", 1).await;
    farm.edit("run = \"a2\"", "run = \"other\"");
    farm.reload().await;
    farm.panic("distributor").await;
    farm.settle().await;
    farm.workers.end_all(0);
    assert_eq!(farm.finished("a", 1).await.results, Some(Results::Success));
    assert_eq!(farm.workers.words(), ["a1", "a2"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_removed_builder_finishes_its_builds_and_keeps_its_requests() {
    let mut farm = Farm::start(TWO).await;
    farm.workers.play(|_| Play::Hang);
    farm.force_builder("b").await;
    let running = farm.running("b", 1).await;
    let waiting = farm.force_builder("b").await;
    let given_up = farm.force_builder("b").await;
    farm.edit(LAST_BUILDER, "");
    let applied = farm.reload().await;
    assert_eq!(applied.stranded, [Stranded { builder: farm.builder("b"), requests: 2 }]);
    let why = farm.process().distributor().ask(WhyWaiting(waiting)).await.unwrap();
    assert_eq!(why.as_deref(), Some("its builder is not configured on this master (any more)"));
    assert!(farm.world.live().iter().all(|name| name != "builder/b"));
    let heads = farm.report("distributor").await.observed["heads"].to_string();
    assert!(heads.contains("not configured on this master"), "{heads}");

    // also over the death of whoever explains it
    farm.panic("distributor").await;
    farm.panic(&format!("build/{}", running.id)).await;
    farm.settle().await;
    farm.workers.end_all(0);
    assert_eq!(farm.finished("b", 1).await.results, Some(Results::Success));
    farm.settle().await;
    assert_eq!(farm.hot().builds.values().count(), 1, "nothing of a removed builder begins");

    // what waits can be cancelled, a build cannot be repeated
    let answer = farm.ask(ControlTarget::BuildRequest(given_up), "cancel", json!({})).await;
    assert_eq!(answer, ControlAnswer::Done(Value::Null));
    let answer = farm.ask(ControlTarget::Build(running.id), "rebuild", json!({})).await;
    assert!(matches!(&answer, ControlAnswer::Failed(why) if why.contains("not configured")), "{answer:?}");

    farm.append(LAST_BUILDER);
    farm.workers.play(|_| Play::Exit(0));
    assert_eq!(farm.reload().await.stranded, []);
    assert_eq!(farm.finished("b", 2).await.request, waiting);
    farm.settle().await;
    assert_eq!(farm.hot().builds.values().count(), 2);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_new_builder_and_a_new_worker_get_work_at_once() {
    let mut farm = Farm::start(TWO).await;
    farm.append("[workers.w3]\npassword = \"p\"\n[builders.c]\nworkers = [\"w3\"]\n[[builders.c.steps]]\nrun = \"c1\"\n");
    farm.reload().await;
    farm.workers.play(|_| Play::Exit(0));
    let request = farm.force_builder("c").await;
    farm.settle().await;
    let why = farm.process().distributor().ask(WhyWaiting(request)).await.unwrap();
    assert_eq!(why.as_deref(), Some("no worker is connected (w3)"));
    farm.connect("w3").await;
    let build = farm.finished("c", 1).await;
    assert_eq!((build.results, build.worker), (Some(Results::Success), farm.worker("w3")));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_worker_with_more_slots_takes_what_waits_and_one_with_fewer_takes_no_more() {
    let mut farm = Farm::start(&SIMPLE.replace("max-builds = 2", "max-builds = 1")).await;
    farm.append("[builders.mac]\n[[builders.mac.steps]]\nrun = \"mac\"\n[builders.bsd]\n[[builders.bsd.steps]]\nrun = \"bsd\"\n");
    farm.reload().await;
    farm.workers.play(|_| Play::Hang);
    for builder in ["linux", "mac", "bsd"] {
        farm.force_builder(builder).await;
    }
    farm.settle().await;
    assert_eq!(farm.workers.running(), 1);
    farm.edit("max-builds = 1", "max-builds = 2");
    farm.reload().await;
    farm.settle().await;
    assert_eq!(farm.workers.running(), 2, "without waiting for anything else");
    farm.edit("max-builds = 2", "max-builds = 1");
    farm.reload().await;
    farm.settle().await;
    assert_eq!(farm.workers.running(), 2, "what runs goes on");
    farm.workers.end_all(0);
    farm.settle().await;
    assert_eq!(farm.workers.running(), 1);
    farm.workers.end_all(0);
    assert_eq!(farm.finished("bsd", 1).await.results, Some(Results::Success));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_removed_worker_finishes_its_builds_and_goes() {
    let mut farm = Farm::start(TWO).await;
    farm.workers.play(|_| Play::Hang);
    farm.force_builder("b").await;
    farm.running("b", 1).await;
    let (w1, w2) = (farm.worker("w1"), farm.worker("w2"));
    farm.edit("[workers.w2]\npassword = \"p\"\nmax-builds = 2\n", "");
    farm.edit("workers = [\"w2\"]", "workers = [\"w1\"]");
    farm.reload().await;
    farm.settle().await;
    assert_eq!((farm.workers.running(), farm.workers.parted_workers()), (1, vec![]), "it still builds");
    let request = farm.force_builder("b").await;
    farm.until("a build elsewhere", |hot| {
        hot.builds.values().find(|it| it.request == request && it.worker == w1).map(|_| ())
    })
    .await;
    farm.panic("distributor").await;
    farm.settle().await;
    farm.workers.end_all(0);
    assert_eq!(farm.finished("b", 1).await.results, Some(Results::Success));
    farm.finished("b", 2).await;
    farm.settle().await;
    assert_eq!(farm.workers.parted_workers(), [w2]);
    farm.finish().await;
}

/// The births of actors that a reload leaves alone, as numbers that only grow while an actor lives.
async fn handled(farm: &Farm, name: &str) -> u64 {
    farm.report(name).await.handled
}

#[actix_rt::test]
async fn only_what_changed_restarts_and_nothing_that_waits_is_lost() {
    let mut farm = Farm::start(TWO).await;
    farm.workers.play(|_| Play::Exit(0));
    farm.push("main", "r1").await;
    // Each has looked more than once; the tree is not stable yet.
    let mut before = (0, 0);
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        before = (handled(&farm, "change-source/one").await, handled(&farm, "change-source/two").await);
        if before.0 > 2 && before.1 > 2 {
            break;
        }
    }
    let force = handled(&farm, "scheduler/force").await;
    assert!(before.0 > 2 && before.1 > 2, "{before:?}");

    farm.edit("tree-stable-timer = \"60s\"", "tree-stable-timer = \"60s\"\nreason = \"calm\"");
    farm.edit("repository = \"/nowhere/two\"", "repository = \"/elsewhere/two\"");
    farm.edit("run = \"b1\"", "run = \"b2\"");
    farm.reload().await;
    let (one, two) = (handled(&farm, "change-source/one").await, handled(&farm, "change-source/two").await);
    assert!(one >= before.0 && two < before.1, "{before:?} → {:?}", (one, two));
    assert_eq!(handled(&farm, "scheduler/force").await, force);
    assert_eq!(farm.report("distributor").await.births, 1);
    assert_eq!(farm.report("builder/b").await.births, 1);

    // what waited for its timer still does, and is built once, by the new settings
    let build = farm.finished("a", 1).await;
    let buildset = farm.hot().buildsets.values().next().unwrap().entity.clone();
    assert_eq!(buildset.reason, "calm");
    farm.settle().await;
    assert_eq!(farm.hot().builds.values().count(), 1, "{build:?}");
    farm.finish().await;
}

#[actix_rt::test]
async fn changes_that_come_during_a_hundred_reloads_are_each_built_once() {
    let mut farm = Farm::start(SIMPLE).await;
    farm.workers.play(|_| Play::Exit(0));
    let mut reason = "# 0".to_owned();
    farm.edit("kind = \"single-branch\"", &format!("kind = \"single-branch\" {reason}"));
    for round in 1..=100 {
        farm.push("main", &format!("r{round}")).await;
        let next = format!("\nreason = \"{round}\" # 0");
        farm.edit(&reason, &next);
        reason = next;
        if round % 10 == 0 {
            farm.world.expect_panic("scheduler/main");
            // dead or alive, it is replaced
            farm.world.inject_panic("scheduler/main");
        }
        farm.reload().await;
    }
    farm.until("a hundred builds", |hot| {
        let done = hot.builds.values().filter(|it| it.complete_at.is_some()).count();
        (done == 100).then_some(())
    })
    .await;
    farm.settle().await;
    let hot = farm.hot();
    assert_eq!(hot.builds.values().count(), 100);
    let mut revisions: Vec<_> =
        hot.buildsets.values().map(|it| it.sourcestamps[0].revision.clone()).collect();
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len(), 100);
    farm.finish().await;
}

#[actix_rt::test]
async fn schedulers_come_and_go() {
    let mut farm = Farm::start(TWO).await;
    farm.workers.play(|_| Play::Exit(0));
    farm.append("[schedulers.quick]\nkind = \"any-branch\"\nbuilders = [\"b\"]\n");
    farm.reload().await;
    farm.settle().await;
    farm.push("main", "r1").await;
    farm.finished("b", 1).await;
    farm.edit("[schedulers.quick]\nkind = \"any-branch\"\nbuilders = [\"b\"]\n", "");
    farm.reload().await;
    farm.push("main", "r2").await;
    farm.settle().await;
    assert_eq!(farm.hot().builds.values().filter(|it| it.builder == farm.builder("b")).count(), 1);
    let quick = farm.scheduler("quick");
    let answer = farm.ask(ControlTarget::Scheduler(quick), "enable", json!({ "enabled": false })).await;
    assert!(matches!(answer, ControlAnswer::Failed(_)), "{answer:?}");
    // "*" is whatever builders there are
    farm.append("[builders.c]\n[[builders.c.steps]]\nrun = \"c\"\n");
    farm.reload().await;
    farm.force_builder("c").await;
    farm.finished("c", 1).await;
    farm.finish().await;
}

#[actix_rt::test]
async fn an_apply_that_was_broken_off_is_finished_by_another() {
    let mut farm = Farm::start(TWO).await;
    farm.workers.play(|_| Play::Exit(0));
    farm.append("[builders.c]\n[[builders.c.steps]]\nrun = \"c\"\n");
    farm.edit("tree-stable-timer = \"60s\"", "tree-stable-timer = \"1s\"");
    for polls in [1, 2, 3, 5, 8] {
        farm.reload_broken_off(polls).await;
    }
    farm.reload().await;
    farm.push("main", "r1").await;
    farm.finished("a", 1).await;
    farm.force_builder("c").await;
    farm.finished("c", 1).await;
    farm.finish().await;
}
