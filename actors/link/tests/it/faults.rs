//! Loss, silence, garbage, frames past the limit, actors that die.

use std::time::Duration;

use greenroom_link::{CommandEnd, Timing};
use greenroom_protocol::{CommandId, MAX_FRAME, MasterOp, UpdateItem, Value};
use tokio::io::AsyncWriteExt;

use crate::support::*;

/// Starts a shell command that the worker accepts; gives its id.
async fn running(farm: &Farm, name: &str, worker: &mut FakeWorker) -> (String, CommandId) {
    let (start, _) = farm.shell(name, "sleep 100").await;
    let command_id = start.command_id.clone();
    let accept = async {
        let (seq, id) = worker.started().await;
        worker.answer(seq, Ok(Value::Nil)).await;
        id
    };
    let (started, id) = tokio::join!(farm.workers.start(farm.id(name), start), accept);
    started.unwrap();
    (command_id, id)
}

#[actix_web::test]
async fn garbage_ends_the_connection_and_the_commands_are_lost() {
    let farm = farm().await;
    for garbage in [&b"\xc1"[..], b"", b"\x81\xa2op\xa6update", b"\x80", b"\xdf\xff\xff\xff\xff", b"hello"] {
        let mut worker = FakeWorker::connect(&farm, "w1").await;
        let (command, _) = running(&farm, "w1", &mut worker).await;
        worker.send_bytes(garbage.to_vec()).await;
        let end = soon("the end", farm.workers.wait(farm.id("w1"), &command)).await;
        assert!(matches!(end, CommandEnd::Lost { .. }), "{garbage:?}: {end:?}");
        worker.ended().await;
        farm.unusable("w1").await;
        // The next one deals with what was left over.
        let mut next = FakeWorker::open(&farm, "w1").await;
        next.greet().await;
        while !farm.is_usable("w1") {
            let next_request = tokio::time::timeout(Duration::from_millis(20), next.request());
            if let Ok((seq, MasterOp::InterruptCommand { .. })) = next_request.await {
                next.answer(seq, Ok(Value::Nil)).await;
            }
        }
        drop(next);
        farm.unusable("w1").await;
        farm.end_builds().await;
    }
    farm.finish().await;
}

#[actix_web::test]
async fn broken_websocket_frames_end_the_connection() {
    let farm = farm().await;
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    worker.raw().write_all(b"\x82\x02hi").await.unwrap();
    worker.ended().await;
    farm.unusable("w1").await;
    farm.finish().await;
}

#[actix_web::test]
async fn a_frame_of_40_mib_fails_its_command_alone() {
    let farm = farm().await;
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let (large, large_id) = running(&farm, "w1", &mut worker).await;
    let (other, other_id) = running(&farm, "w1", &mut worker).await;
    let seq = worker.update(&large_id, vec![stdout(&"x".repeat(40 << 20))]).await;
    let (interrupt, op) = worker.request().await;
    assert!(
        matches!(&op, MasterOp::InterruptCommand { command_id, .. } if *command_id == large_id),
        "{op:?}"
    );
    assert_eq!(worker.answer_to(seq).await, Ok(Value::Nil));
    worker.answer(interrupt, Ok(Value::Nil)).await;
    worker.update(&large_id, vec![UpdateItem::Rc(-1)]).await;
    worker.complete(&large_id, None).await;
    worker.update(&other_id, vec![UpdateItem::Rc(0)]).await;
    worker.complete(&other_id, None).await;
    let id = farm.id("w1");
    let end = soon("the end", farm.workers.wait(id, &large)).await;
    let CommandEnd::Finished { failure: Some(failure), .. } = &end else { panic!("{end:?}") };
    assert!(failure.contains("at most 32 MiB"), "{failure}");
    let end = soon("the end", farm.workers.wait(id, &other)).await;
    assert!(matches!(end, CommandEnd::Finished { rc: Some(0), failure: None, .. }), "{end:?}");
    assert!(farm.is_usable("w1"));
    farm.finish().await;
}

#[actix_web::test]
async fn a_large_frame_of_nobody_fails_all_and_ends_the_connection() {
    let farm = farm().await;
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let (command, _) = running(&farm, "w1", &mut worker).await;
    worker.send_bytes(vec![0; MAX_FRAME + 1]).await;
    let end = soon("the end", farm.workers.wait(farm.id("w1"), &command)).await;
    assert!(matches!(end, CommandEnd::Finished { failure: Some(_), .. }), "not to be retried: {end:?}");
    worker.ended().await;
    farm.finish().await;
}

#[actix_web::test]
async fn a_silent_worker_gets_no_work_and_is_lost() {
    let timing = Timing { ping: Duration::from_millis(100), silence: Duration::from_secs(1), ..timing() };
    let farm = farm_with(timing, &[], None).await;
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let (command, _) = running(&farm, "w1", &mut worker).await;
    // It answers pings only while it reads, and it does not read now.
    farm.unusable("w1").await;
    assert!(farm.is_connected("w1"), "not lost yet, only left alone");
    let end = soon("the end", farm.workers.wait(farm.id("w1"), &command)).await;
    assert!(matches!(&end, CommandEnd::Lost { why } if why.contains("silent")), "{end:?}");
    eventually("the data layer knowing", || !farm.is_connected("w1")).await;
    farm.finish().await;
}

#[actix_web::test]
async fn a_worker_that_missed_a_ping_is_used_again_when_it_is_heard_of() {
    let timing = Timing { ping: Duration::from_millis(100), silence: Duration::from_secs(15), ..timing() };
    let farm = farm_with(timing, &[], None).await;
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    farm.unusable("w1").await;
    // Reading, it answers the pings that wait.
    let reading = actix_web::rt::spawn(async move { worker.ended().await });
    farm.usable("w1").await;
    reading.abort();
    farm.finish().await;
}

#[actix_web::test]
async fn the_death_of_the_directory_disturbs_no_session() {
    let mut farm = farm().await;
    farm.world.expect_panic("worker-directory");
    let id = farm.id("w1");
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let (command, command_id) = running(&farm, "w1", &mut worker).await;
    assert!(farm.world.inject_panic("worker-directory"));
    let reborn = || {
        let reports = farm.world.snapshot();
        reports.iter().any(|report| report.name == "worker-directory" && report.births > 1)
    };
    eventually("the new birth", reborn).await;
    assert!(farm.is_usable("w1"));
    worker.update(&command_id, vec![UpdateItem::Rc(0)]).await;
    worker.complete(&command_id, None).await;
    let end = soon("the end", farm.workers.wait(id, &command)).await;
    assert!(matches!(end, CommandEnd::Finished { rc: Some(0), .. }), "{end:?}");
    // The new birth knows the session: a second connection is checked against it, and its end is written.
    let mut second = FakeWorker::open(&farm, "w1").await;
    let (seq, op) = worker.request().await;
    assert!(matches!(op, MasterOp::Print { .. }), "{op:?}");
    worker.answer(seq, Ok(Value::Nil)).await;
    second.ended().await;
    drop(worker);
    farm.unusable("w1").await;
    eventually("the data layer knowing", || !farm.is_connected("w1")).await;
    farm.finish().await;
}

#[actix_web::test]
async fn the_death_of_a_session_loses_its_commands_and_the_worker_comes_back() {
    let mut farm = farm().await;
    farm.world.expect_panic("session/w1");
    let id = farm.id("w1");
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let mut other = FakeWorker::connect(&farm, "w2").await;
    let (command, _) = running(&farm, "w1", &mut worker).await;
    let (others, others_id) = running(&farm, "w2", &mut other).await;
    let waiting = farm.workers.clone();
    let lost = actix_web::rt::spawn(async move { waiting.wait(id, &command).await });
    assert!(farm.world.inject_panic("session/w1"));
    let end = soon("the end", lost).await.unwrap();
    assert!(matches!(end, CommandEnd::Lost { .. }), "{end:?}");
    worker.ended().await;
    farm.unusable("w1").await;
    farm.end_builds().await;
    let _again = FakeWorker::connect(&farm, "w1").await;
    other.complete(&others_id, None).await;
    let end = soon("the end", farm.workers.wait(farm.id("w2"), &others)).await;
    assert!(matches!(end, CommandEnd::Finished { .. }), "{end:?}");
    farm.finish().await;
}
