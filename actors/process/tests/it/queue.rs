//! Whom the distributor takes next.

use greenroom_model::*;
use greenroom_process::messages::WhyWaiting;
use serde_json::json;

use crate::farm::Farm;
use crate::workers::{Play, words};

const TWO: &str = r#"
[workers.w1]
password = "p"
[workers.w2]
password = "p"
[schedulers.force]
kind = "force"
builders = "*"
[builders.a]
workers = ["w1"]
[[builders.a.steps]]
run = "a"
[builders.b]
workers = ["w1"]
[[builders.b.steps]]
run = "b"
[builders.any]
[[builders.any.steps]]
run = "any"
"#;

#[actix_rt::test]
async fn a_slot_goes_to_the_highest_priority_and_the_reason_to_wait_is_told() {
    let farm = Farm::start(TWO).await;
    farm.disconnect("w1").await;
    farm.workers.play(|_| Play::Hang);
    let a = farm.force_builder("a").await;
    let builder = farm.builder("b");
    farm.force(json!({ "builderid": builder.0, "priority": 9 })).await;
    farm.settle().await;
    let why = farm.process().distributor().ask(WhyWaiting(a)).await.unwrap();
    assert_eq!(why.as_deref(), Some("no worker is connected (w1)"));
    farm.connect("w1").await;
    farm.running("b", 1).await;
    let why = farm.process().distributor().ask(WhyWaiting(a)).await.unwrap();
    assert_eq!(why.as_deref(), Some("all slots are busy (w1)"));
    farm.workers.end_all(0);
    farm.running("a", 1).await;
    assert_eq!(farm.workers.words(), ["b", "a"]);
    assert_eq!(farm.process().distributor().ask(WhyWaiting(a)).await.unwrap(), None);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_builder_is_built_on_its_own_workers_only() {
    let farm = Farm::start(TWO).await;
    farm.workers.play(|order| if words(order) == "any" { Play::Exit(0) } else { Play::Hang });
    farm.force_builder("a").await;
    farm.running("a", 1).await;
    for _ in 0..3 {
        farm.force_builder("any").await;
    }
    farm.force_builder("b").await;
    farm.finished("any", 3).await;
    let w2 = farm.worker("w2");
    let sent = farm.workers.sent();
    assert!(sent.iter().filter(|it| words(&it.order) == "any").all(|it| it.worker == w2));
    assert!(!farm.workers.words().contains(&"b".to_owned()), "w1 is busy, and w2 may not");
    farm.finish().await;
}

#[actix_rt::test]
async fn claims_that_others_won_are_no_error() {
    let farm = Farm::start(TWO).await;
    farm.disconnect("w1").await;
    let request = farm.force_builder("a").await;
    // in one instant the worker comes and somebody cancels the request behind the distributor's back
    let worker = farm.worker("w1");
    farm.workers.set_connected(worker, true);
    let ops = vec![Op::ConnectWorker { worker, info: WorkerInfo::default() }, Op::CancelRequest { request }];
    farm.write(ops).await;
    farm.force_builder("b").await;
    farm.finished("b", 1).await;
    assert!(!farm.workers.words().contains(&"a".to_owned()));
    farm.finish().await;
}

#[actix_rt::test]
async fn many_requests_are_all_built_and_never_more_at_once_than_there_are_slots() {
    let mut toml = String::from("[schedulers.force]\nkind = \"force\"\nbuilders = \"*\"\n");
    for worker in 1..=4 {
        toml += &format!("[workers.w{worker}]\npassword = \"p\"\nmax-builds = 4\n");
    }
    for builder in 1..=20 {
        toml += &format!("[builders.b{builder}]\n[[builders.b{builder}.steps]]\nrun = [\"true\"]\n");
    }
    let farm = Farm::start(&toml).await;
    let workers = farm.workers.clone();
    farm.workers.play(move |_| Play::Later(std::time::Duration::from_millis(20), 0));
    for _ in 0..10 {
        farm.force(json!({})).await;
    }
    let mut most = 0;
    while farm.hot().builds.values().filter(|it| it.complete_at.is_some()).count() < 200 {
        most = most.max(workers.running());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(most <= 16, "{most} at once");
    assert!(most >= 8, "only {most} at once");
    let hot = farm.hot();
    assert!(hot.builds.values().all(|it| it.results == Some(Results::Success)));
    assert_eq!((hot.builds.values().count(), farm.workers.sent().len()), (200, 200));
    assert!(farm.workers.sent().iter().all(|it| it.forgotten), "ended commands are forgotten");
    farm.finish().await;
}
