//! Handshake, connect sequence, leftovers, duplicates.

use greenroom_link::CommandEnd;
use greenroom_model::{Op, Results};
use greenroom_protocol::{CommandId, MasterOp, Value};

use crate::support::*;

#[actix_web::test]
async fn strangers_are_refused_as_stock_workers_expect() {
    let farm = farm().await;
    for (header, status) in [
        (None, 401),
        (Some(basic("w1", "wrong")), 401),
        (Some(basic("nobody", "pw:1")), 401),
        (Some("Basic !!!".to_owned()), 400),
        (Some("Basic bm9jb2xvbg==".to_owned()), 400),
        (Some("Bearer dzE6cHcx".to_owned()), 400),
    ] {
        let refused = handshake(farm.address, "/", header.as_deref()).await.err();
        assert_eq!(refused, Some(status), "{header:?}");
    }
    for path in ["/ws", "/ws/x", "/api/v2"] {
        let refused = handshake(farm.address, path, Some(&basic("w1", "pw:1"))).await.err();
        assert_eq!(refused, Some(404), "{path} is not ours");
    }
    assert!(handshake(farm.address, "/any/path", Some(&basic("w2", "pw2"))).await.is_ok());
    farm.finish().await;
}

#[actix_web::test]
async fn failures_are_limited_and_do_not_harm_other_names() {
    let farm = farm().await;
    for _ in 0..10 {
        assert_eq!(handshake(farm.address, "/", Some(&basic("w1", "wrong"))).await.err(), Some(401));
    }
    assert_eq!(handshake(farm.address, "/", Some(&basic("w1", "wrong"))).await.err(), Some(429));
    assert!(handshake(farm.address, "/", Some(&basic("w2", "pw2"))).await.is_ok());
    farm.finish().await;
}

#[actix_web::test]
async fn a_worker_is_usable_only_after_the_whole_sequence() {
    let farm = farm().await;
    let mut worker = FakeWorker::open(&farm, "w1").await;
    let mut requests = Vec::new();
    for _ in 0..3 {
        requests.push(worker.request().await);
    }
    let MasterOp::SetWorkerSettings(settings) = &requests[2].1 else { panic!("{requests:?}") };
    assert!(matches!(&requests[0].1, MasterOp::Print { message } if message == "attached"));
    assert_eq!((settings.max_line_length, settings.buffer_timeout), (1 << 30, 0.2));
    assert!(!farm.is_usable("w1"));
    // In any order.
    for (seq, op) in requests.iter().rev() {
        assert!(!farm.is_usable("w1"));
        worker.greeting(*seq, op).await;
    }
    let facts = farm.usable("w1").await;
    assert_eq!((facts.name.as_str(), facts.basedir.as_str(), facts.numcpus), ("w1", "/srv/worker", 2));
    assert_eq!(facts.environ["SECRET"], "s3cret");
    assert!(!format!("{facts:?}").contains("s3cret"), "debug output ends in logs");
    eventually("the data layer knowing", || farm.is_connected("w1")).await;
    let hot = farm.rw().ro().hot();
    let info = hot.worker_named("w1").unwrap().info.clone().unwrap();
    assert_eq!(info.admin.as_deref(), Some("A <a@example.org>\n"));
    assert!(!serde_json::to_string(&info).unwrap().contains("s3cret"));
    drop(worker);
    farm.unusable("w1").await;
    eventually("the data layer knowing", || !farm.is_connected("w1")).await;
    farm.finish().await;
}

#[actix_web::test]
async fn a_worker_with_nonsense_for_info_is_dropped() {
    let farm = farm().await;
    let mut worker = FakeWorker::open(&farm, "w1").await;
    for _ in 0..3 {
        let (seq, _) = worker.request().await;
        worker.answer(seq, Ok(Value::Nil)).await;
    }
    worker.ended().await;
    assert!(!farm.is_usable("w1"));
    farm.finish().await;
}

#[actix_web::test]
async fn leftovers_are_interrupted_before_the_worker_is_usable_again() {
    let farm = farm().await;
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let id = farm.id("w1");
    // One that the session knows, one of a lost build, one of a build that is not ended yet, and one that succeeded.
    let (start, _) = farm.shell("w1", "sleep 100").await;
    let known = start.command_id.clone();
    let workers = farm.workers.clone();
    let starting = actix_web::rt::spawn(async move { workers.start(id, start).await });
    let (seq, _) = worker.started().await;
    worker.answer(seq, Ok(Value::Nil)).await;
    starting.await.unwrap().unwrap();
    let rw = farm.rw();
    let mut builds = Vec::new();
    for command in ["lost", "open", "done"] {
        let (build, step, _) = farm.build_on("w1").await;
        rw.write(vec![Op::SetStepCommand { step, command: command.into() }]).await.unwrap();
        builds.push((build, step));
    }
    let finish_step =
        |step, results| Op::FinishStep { step, results, state_string: String::new(), hidden: false };
    let finish_build = |build, results| Op::FinishBuild { build, results, state_string: String::new() };
    rw.write(vec![finish_build(builds[0].0, Results::Retry)]).await.unwrap();
    rw.write(vec![finish_step(builds[2].1, Results::Success), finish_build(builds[2].0, Results::Success)])
        .await
        .unwrap();
    drop(worker);
    let end = soon("the end", farm.workers.wait(id, &known)).await;
    assert!(matches!(end, CommandEnd::Lost { .. }), "{end:?}");
    farm.unusable("w1").await;

    let mut again = FakeWorker::open(&farm, "w1").await;
    again.greet().await;
    let mut interrupted = Vec::new();
    for _ in 0..3 {
        let (seq, MasterOp::InterruptCommand { command_id, .. }) = again.request().await else {
            panic!("no interrupt")
        };
        interrupted.push((seq, command_id));
    }
    interrupted.sort_by(|a, b| a.1.cmp(&b.1));
    let ids: Vec<&CommandId> = interrupted.iter().map(|(_, id)| id).collect();
    let mut expected = [known.as_str(), "lost", "open"].map(CommandId::from);
    expected.sort();
    assert_eq!(ids, expected.iter().collect::<Vec<_>>());
    for (seq, _) in &interrupted {
        assert!(!farm.is_usable("w1"));
        again.answer(*seq, Ok(Value::Nil)).await;
    }
    farm.usable("w1").await;
    assert_eq!(farm.workers.wait(id, &known).await, CommandEnd::Unknown);
    farm.finish().await;
}

#[actix_web::test]
async fn leftovers_are_looked_for_in_the_newest_builds_only() {
    let farm = farm().await;
    let rw = farm.rw();
    let mut ended = Vec::new();
    // Builds of another worker do not count.
    for (worker, count) in [("w1", 65), ("w2", 65)] {
        for number in 0..count {
            let (build, step, _) = farm.build_on(worker).await;
            let results = if number < 2 { Results::Retry } else { Results::Success };
            let command = format!("{worker}-{number}");
            ended.push(Op::SetStepCommand { step, command });
            ended.push(Op::FinishBuild { build, results, state_string: String::new() });
        }
    }
    let at = rw.write(ended).await.unwrap().at;
    eventually("the hot state", || rw.ro().hot().clock.contains(at.0, at.1)).await;
    let mut worker = FakeWorker::open(&farm, "w1").await;
    worker.greet().await;
    // The 64 newest begin with the second one; the first is history.
    let (seq, op) = worker.request().await;
    assert!(
        matches!(&op, MasterOp::InterruptCommand { command_id, .. } if *command_id == CommandId::from("w1-1")),
        "{op:?}"
    );
    worker.answer(seq, Ok(Value::Nil)).await;
    farm.usable("w1").await;
    farm.finish().await;
}

#[actix_web::test]
async fn workers_of_a_former_run_are_disconnected_at_the_start() {
    let farm = farm().await;
    let worker = FakeWorker::connect(&farm, "w1").await;
    eventually("the data layer knowing", || farm.is_connected("w1")).await;
    // A second layer over the same data is what a restarted master has.
    let options = greenroom_link::LinkOptions::new(farm.rw(), Default::default(), farm.dir.path());
    let second = greenroom_link::LinkLayer::start(&farm.world.root(), options).await.unwrap();
    eventually("the data layer knowing", || !farm.is_connected("w1")).await;
    second.stop(None).await;
    drop(worker);
    farm.finish().await;
}

#[actix_web::test]
async fn a_second_connection_is_refused_while_the_first_lives() {
    let farm = farm().await;
    let mut first = FakeWorker::connect(&farm, "w1").await;
    let mut second = FakeWorker::open(&farm, "w1").await;
    let (seq, op) = first.request().await;
    assert!(matches!(&op, MasterOp::Print { message } if message.contains("duplicate")), "{op:?}");
    // While the first is asked, a third finds the place of the second taken.
    let mut third = FakeWorker::open(&farm, "w1").await;
    third.ended().await;
    first.answer(seq, Ok(Value::Nil)).await;
    second.ended().await;
    assert!(farm.is_usable("w1"));
    let facts = farm.workers.facts(farm.id("w1")).unwrap();
    assert_eq!(facts.name, "w1");
    farm.finish().await;
}

#[actix_web::test]
async fn a_second_connection_replaces_a_dead_first_and_never_both_are_used() {
    let farm = farm().await;
    let id = farm.id("w1");
    let mut first = FakeWorker::connect(&farm, "w1").await;
    let (start, _) = farm.shell("w1", "sleep 100").await;
    let command = start.command_id.clone();
    let workers = farm.workers.clone();
    let starting = actix_web::rt::spawn(async move { workers.start(id, start).await });
    let (seq, _) = first.started().await;
    first.answer(seq, Ok(Value::Nil)).await;
    starting.await.unwrap().unwrap();

    // The first reads but never answers the proof.
    let mut second = FakeWorker::open(&farm, "w1").await;
    let greeting = async {
        second.greet().await;
        let (seq, op) = second.request().await;
        assert!(matches!(op, MasterOp::InterruptCommand { .. }), "{op:?}");
        assert!(!farm.is_usable("w1"), "the second is usable before the leftovers are gone");
        second.answer(seq, Ok(Value::Nil)).await;
    };
    let ((), ()) = tokio::join!(greeting, first.ended());
    farm.usable("w1").await;
    let end = farm.workers.wait(id, &command).await;
    assert_eq!(end, CommandEnd::Unknown, "the second session knows nothing of it");
    farm.finish().await;
}

#[actix_web::test]
async fn of_many_connections_at_once_exactly_one_is_used() {
    let farm = farm().await;
    let mut changes = farm.workers.changes();
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(FakeWorker::open(&farm, "w1").await);
    }
    let serving = open.into_iter().map(|mut worker| {
        actix_web::rt::spawn(async move {
            // A good worker: answers everything until it is turned away.
            let mut served = 0;
            while let Some((seq, op)) = worker.request_or_end().await {
                worker.greeting(seq, &op).await;
                served += 1;
            }
            served
        })
    });
    let serving: Vec<_> = serving.collect();
    soon("a change", changes.changed()).await;
    farm.usable("w1").await;
    eventually("the end of the others", || serving.iter().filter(|task| task.is_finished()).count() == 7)
        .await;
    assert!(farm.is_usable("w1"));
    let mut served = Vec::new();
    farm.finish().await;
    for task in serving {
        served.push(soon("the end", task).await.unwrap());
    }
    served.sort_unstable();
    assert_eq!(served[..7], [0; 7], "nobody but one was asked anything");
    assert!(served[7] >= 3, "the one was asked whether it lives, too");
}
