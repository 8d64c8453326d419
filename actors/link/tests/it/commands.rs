//! Commands, as a worker may report them.

use greenroom_link::{Command, CommandEnd, CommandStart, LinkError};
use greenroom_protocol::{CommandId, FileStat, LogText, MasterOp, UpdateItem, Value, WorkerOp};

use crate::support::*;

fn nil() -> Result<Value, String> {
    Ok(Value::Nil)
}

fn simple(farm: &Farm, command: Command) -> CommandStart {
    let command_id = farm.workers.new_command_id();
    CommandStart { command_id, command, stdio: None, logs: Default::default(), capture_stdout: None }
}

#[actix_web::test]
async fn updates_and_the_end_may_come_before_the_answer_to_the_start() {
    let farm = farm().await;
    let id = farm.id("w1");
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let (mut start, log) = farm.shell("w1", "x").await;
    start.capture_stdout = Some(100);
    let command_id = start.command_id.clone();
    let play = async {
        let (seq, id) = worker.started().await;
        let header = UpdateItem::Header(LogText::new("sh -c x\n", 1.0));
        let stderr = UpdateItem::Stderr(LogText::new("bad\n", 1.0));
        let first = worker.update(&id, vec![header, stdout("one\n"), stderr]).await;
        let items = vec![UpdateItem::Rc(2), UpdateItem::Elapsed(0.5), stdout("tail\n")];
        let second = worker.update(&id, items).await;
        let third = worker.complete(&id, None).await;
        // The last one first: in any order.
        for seq in [third, second, first] {
            assert_eq!(worker.answer_to(seq).await, nil());
        }
        worker.answer(seq, nil()).await;
        // Twice is ignored.
        worker.answer(seq, nil()).await;
        worker
    };
    let (started, _worker) = tokio::join!(farm.workers.start(id, start.clone()), play);
    started.unwrap();
    let end = soon("the end", farm.workers.wait(id, &command_id)).await;
    let CommandEnd::Finished { rc, captured, elapsed, failure, .. } = &end else { panic!("{end:?}") };
    assert_eq!((*rc, captured.as_str(), *elapsed, failure), (Some(2), "one\ntail\n", Some(0.5), &None));
    assert_eq!(farm.workers.start(id, start).await, Ok(()), "known: not started again");
    assert_eq!(farm.workers.wait(id, &command_id).await, end, "kept for a build that is born again");
    farm.workers.forget(id, &command_id);
    assert_eq!(farm.workers.wait(id, &command_id).await, CommandEnd::Unknown);
    let expected = "hsh -c x\noone\nebad\notail\nhprogram finished with exit code 2\n";
    assert_eq!(farm.text(log).await, expected);
    farm.finish().await;
}

#[actix_web::test]
async fn answers_of_stat_and_listdir_come_with_the_end() {
    let farm = farm().await;
    let id = farm.id("w1");
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let start = simple(&farm, Command::Stat { path: "/srv".into() });
    let command_id = start.command_id.clone();
    let stat = FileStat { mode: 0o100_644, size: 9, ..FileStat::default() };
    let play = async {
        let (seq, id) = worker.started().await;
        let items =
            vec![UpdateItem::Stat(stat), UpdateItem::Files(vec!["a".into(), "b".into()]), UpdateItem::Rc(0)];
        worker.update(&id, items).await;
        worker.complete(&id, None).await;
        worker.answer(seq, nil()).await;
    };
    let (started, ()) = tokio::join!(farm.workers.start(id, start), play);
    started.unwrap();
    let end = soon("the end", farm.workers.wait(id, &command_id)).await;
    let CommandEnd::Finished { rc: Some(0), files, stat: told, .. } = end else { panic!("{end:?}") };
    assert_eq!((files, told), (vec!["a".to_owned(), "b".to_owned()], Some(stat)));
    farm.finish().await;
}

#[actix_web::test]
async fn a_command_that_breaks_has_failed_without_an_exit_status() {
    let farm = farm().await;
    let id = farm.id("w1");
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let start = simple(&farm, Command::Rmfile { path: "/x".into() });
    let command_id = start.command_id.clone();
    let play = async {
        let (seq, id) = worker.started().await;
        worker.answer(seq, nil()).await;
        worker.complete(&id, Some("Traceback: boom")).await;
    };
    let (started, ()) = tokio::join!(farm.workers.start(id, start), play);
    started.unwrap();
    let end = soon("the end", farm.workers.wait(id, &command_id)).await;
    assert_eq!(end, CommandEnd::failed("Traceback: boom"));
    farm.finish().await;
}

#[actix_web::test]
async fn a_refused_start_is_an_error_and_leaves_nothing() {
    let farm = farm().await;
    let id = farm.id("w1");
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let start = simple(&farm, Command::Unknown { name: "levitate".into() });
    let command_id = start.command_id.clone();
    let play = async {
        let (seq, _) = worker.started().await;
        worker.answer(seq, Err("unknown command".into())).await;
    };
    let (started, ()) = tokio::join!(farm.workers.start(id, start), play);
    assert_eq!(started, Err(LinkError::Refused("unknown command".into())));
    assert_eq!(farm.workers.wait(id, &command_id).await, CommandEnd::Unknown);
    farm.finish().await;
}

#[actix_web::test]
async fn a_worker_that_is_not_connected_gets_nothing() {
    let farm = farm().await;
    let id = farm.id("w1");
    let start = simple(&farm, Command::Stat { path: "/".into() });
    let command_id = start.command_id.clone();
    assert_eq!(farm.workers.start(id, start).await, Err(LinkError::NotConnected));
    assert_eq!(farm.workers.interrupt(id, &command_id, "x").await, Err(LinkError::NotConnected));
    assert_eq!(farm.workers.shutdown(id).await, Err(LinkError::NotConnected));
    assert!(matches!(farm.workers.wait(id, &command_id).await, CommandEnd::Lost { .. }));
    farm.finish().await;
}

#[actix_web::test]
async fn an_interrupt_reaches_the_worker_and_the_end_follows() {
    let farm = farm().await;
    let id = farm.id("w1");
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let (start, _) = farm.shell("w1", "sleep 100").await;
    let command_id = start.command_id.clone();
    let play = async {
        let (seq, id) = worker.started().await;
        worker.answer(seq, nil()).await;
        let (seq, op) = worker.request().await;
        assert_eq!(op, MasterOp::InterruptCommand { command_id: id.clone(), why: "enough".into() });
        worker.answer(seq, nil()).await;
        worker.update(&id, vec![UpdateItem::Rc(-1)]).await;
        worker.complete(&id, None).await;
    };
    let ask = async {
        farm.workers.start(id, start).await.unwrap();
        farm.workers.interrupt(id, &command_id, "enough").await.unwrap();
        farm.workers.wait(id, &command_id).await
    };
    let (end, ()) = soon("the end", async { tokio::join!(ask, play) }).await;
    assert!(matches!(end, CommandEnd::Finished { rc: Some(-1), failure: None, .. }), "{end:?}");
    assert_eq!(
        farm.workers.interrupt(id, &command_id, "again").await,
        Ok(()),
        "nothing runs: nothing is sent"
    );
    farm.finish().await;
}

#[actix_web::test]
async fn thousands_of_updates_are_logged_in_order() {
    let farm = farm().await;
    let id = farm.id("w1");
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let (start, log) = farm.shell("w1", "yes").await;
    let command_id = start.command_id.clone();
    let play = async {
        let (seq, id) = worker.started().await;
        worker.answer(seq, nil()).await;
        // More frames than the session has credit for, and more bytes.
        for number in 0..6000 {
            let text = format!("{number} {}\n", "x".repeat(1500));
            worker.update(&id, vec![stdout(&text)]).await;
        }
        let last = worker.complete(&id, None).await;
        assert_eq!(worker.answer_to(last).await, nil());
    };
    let (started, ()) = soon("the flood", async { tokio::join!(farm.workers.start(id, start), play) }).await;
    started.unwrap();
    let end = soon("the end", farm.workers.wait(id, &command_id)).await;
    assert!(matches!(end, CommandEnd::Finished { failure: None, .. }), "{end:?}");
    let text = farm.text(log).await;
    let numbers: Vec<usize> =
        text.lines().map(|line| line[1..].split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..6000).collect::<Vec<_>>());
    farm.finish().await;
}

#[actix_web::test]
async fn a_worker_cannot_touch_commands_of_another() {
    let farm = farm().await;
    let id = farm.id("w1");
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let mut intruder = FakeWorker::connect(&farm, "w2").await;
    let (start, log) = farm.shell("w1", "x").await;
    let command_id = start.command_id.clone();
    let play = async {
        let (seq, id) = worker.started().await;
        worker.answer(seq, nil()).await;
        for op in [
            WorkerOp::Update { command_id: id.clone(), items: vec![stdout("forged\n"), UpdateItem::Rc(0)] },
            WorkerOp::Complete { command_id: id.clone(), failure: None, totals: None },
            WorkerOp::Complete { command_id: CommandId::Int(7), failure: None, totals: None },
            WorkerOp::UploadFileClose { command_id: id.clone() },
        ] {
            let seq = intruder.send(op).await;
            assert_eq!(intruder.answer_to(seq).await, nil(), "ignored");
        }
        for op in [
            WorkerOp::ReadFile { command_id: id.clone(), length: 10 },
            WorkerOp::UploadFileWrite { command_id: id.clone(), block: "x".into() },
            WorkerOp::Unknown { op: "levitate".into() },
        ] {
            let seq = intruder.send(op).await;
            assert!(intruder.answer_to(seq).await.is_err());
        }
        // A request whose contents are nonsense: an update without a command.
        intruder.send_bytes(b"\x83\xa2op\xa6update\xaaseq_number\xcd\x10\x00\xa4args\x90".to_vec()).await;
        assert!(intruder.answer_to(4096).await.is_err());
        worker.update(&id, vec![stdout("mine\n"), UpdateItem::Rc(1)]).await;
        worker.complete(&id, None).await;
    };
    let (started, ()) = soon("the play", async { tokio::join!(farm.workers.start(id, start), play) }).await;
    started.unwrap();
    let end = soon("the end", farm.workers.wait(id, &command_id)).await;
    assert!(matches!(end, CommandEnd::Finished { rc: Some(1), .. }), "{end:?}");
    assert_eq!(farm.text(log).await, "omine\nhprogram finished with exit code 1\n");
    assert!(farm.is_usable("w2"), "a worker that talks nonsense is told so and stays");
    farm.finish().await;
}

#[actix_web::test]
async fn shutdown_is_sent_and_the_worker_may_go_without_an_answer() {
    let farm = farm().await;
    let id = farm.id("w1");
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let play = async {
        let (_, op) = worker.request().await;
        assert_eq!(op, MasterOp::Shutdown);
        drop(worker);
    };
    let (answer, ()) = soon("the shutdown", async { tokio::join!(farm.workers.shutdown(id), play) }).await;
    assert_eq!(answer, Ok(()));
    farm.unusable("w1").await;
    farm.finish().await;
}
