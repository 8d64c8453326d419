//! Output in batches: from a worker that announces them, and from one that does not.

use greenroom_config::mask::SharedMasks;
use greenroom_link::{CommandEnd, CommandStart};
use greenroom_protocol::{
    Batch, CommandId, MasterOp, OUTPUT_BATCHES, Packer, Source, UpdateItem, Value, WorkerOp,
};

use crate::support::*;

impl FakeWorker {
    /// Connects as our agent would; gives what it was told to do about batches.
    async fn agent(farm: &Farm) -> (Self, Option<i64>) {
        let mut worker = Self::open(farm, "w1").await;
        let mut enabled = None;
        // Settings come once as to anybody, and again when it is known what it can do.
        for _ in 0..4 {
            let (seq, op) = worker.request().await;
            let value = match &op {
                MasterOp::GetWorkerInfo => {
                    let mut info = info();
                    info.extensions.insert(OUTPUT_BATCHES.to_owned(), 1);
                    info.to_value()
                }
                MasterOp::SetWorkerSettings(settings) => {
                    enabled = settings.output_batches;
                    Value::Nil
                }
                _ => Value::Nil,
            };
            worker.answer(seq, Ok(value)).await;
        }
        farm.usable("w1").await;
        (worker, enabled)
    }

    async fn batch(&mut self, id: &CommandId, pieces: &[(Source, u64, &'static [u8])]) -> u64 {
        let piece = |(source, offset, bytes): &(Source, u64, &'static [u8])| {
            (source.clone(), *offset, bytes::Bytes::from_static(bytes))
        };
        let batch = Packer::default().pack(Batch::new(pieces.iter().map(piece).collect()));
        self.send(WorkerOp::Output { command_id: id.clone(), batch }).await
    }

    async fn out(&mut self, id: &CommandId, offset: u64, bytes: &'static [u8]) -> u64 {
        self.batch(id, &[(Source::Stdout, offset, bytes)]).await
    }

    async fn end(&mut self, id: &CommandId, totals: &[(Source, u64)]) {
        self.update(id, vec![UpdateItem::Rc(0)]).await;
        let totals = Some(totals.to_vec());
        self.send(WorkerOp::Complete { command_id: id.clone(), failure: None, totals }).await;
    }
}

/// Has the worker start a command; gives its id on the wire.
async fn begin(farm: &Farm, worker: &mut FakeWorker, start: CommandStart) -> CommandId {
    let accept = async {
        let (seq, id) = worker.started().await;
        worker.answer(seq, Ok(Value::Nil)).await;
        id
    };
    let (started, id) = tokio::join!(farm.workers.start(farm.id("w1"), start), accept);
    started.unwrap();
    id
}

#[actix_web::test]
async fn what_was_announced_is_enabled_and_bytes_stay_as_they_were_written() {
    let farm = farm().await;
    let (mut worker, enabled) = FakeWorker::agent(&farm).await;
    assert_eq!(enabled, Some(1));
    let (mut start, log) = farm.shell("w1", "x").await;
    start.capture_stdout = Some(9);
    let command_id = start.command_id.clone();
    let id = begin(&farm, &mut worker, start).await;
    worker.batch(&id, &[(Source::Header, 0, b"sh -c x\n"), (Source::Stdout, 0, b"one\r\ntw")]).await;
    // Too early, twice, in part known, and what was missing.
    worker.out(&id, 10, b"\xff\n").await;
    worker.out(&id, 0, b"one\r\ntw").await;
    worker.batch(&id, &[(Source::Stdout, 5, b"two\rx"), (Source::Stderr, 0, b"bad\n")]).await;
    worker.batch(&id, &[(Source::Stdout, 12, b"open"), (Source::Stdout, 16, b"")]).await;
    worker.end(&id, &[(Source::Header, 8), (Source::Stdout, 16), (Source::Stderr, 4)]).await;
    let end = soon("the end", farm.workers.wait(farm.id("w1"), &command_id)).await;
    let CommandEnd::Finished { rc: Some(0), captured, failure: None, .. } = end else { panic!("{end:?}") };
    assert_eq!(captured, "one\ntwo\n", "as lines of text");
    let expected: [&[u8]; 7] = [
        b"hsh -c x\n",
        b"oone\r\n",
        b"ebad\n",
        b"otwo\rx\xff\n",
        b"oopen\n",
        b"hstandard output ends without a newline\n",
        b"hprogram finished with exit code 0\n",
    ];
    assert_eq!(farm.bytes(log).await, expected.concat());
    farm.finish().await;
}

#[actix_web::test]
async fn a_stock_worker_is_not_asked_for_batches_and_none_are_taken_from_it() {
    let farm = farm().await;
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let (start, log) = farm.shell("w1", "x").await;
    let command_id = start.command_id.clone();
    let id = begin(&farm, &mut worker, start).await;
    let seq = worker.out(&id, 0, b"forged\n").await;
    assert!(worker.answer_to(seq).await.is_err());
    worker.update(&id, vec![stdout("text\n"), UpdateItem::Rc(0)]).await;
    worker.complete(&id, None).await;
    let end = soon("the end", farm.workers.wait(farm.id("w1"), &command_id)).await;
    assert!(matches!(end, CommandEnd::Finished { rc: Some(0), failure: None, .. }), "{end:?}");
    assert_eq!(farm.text(log).await, "otext\nhprogram finished with exit code 0\n");
    farm.finish().await;
}

#[actix_web::test]
async fn a_secret_is_masked_over_the_border_of_batches() {
    let masks = SharedMasks::default();
    let text = "[workers.w1]\npassword = \"hunter2-hunter2\"\n";
    masks.add(&greenroom_config::load_text(text, std::path::Path::new("/")).unwrap().settings.secrets);
    let farm = farm_that_masks(masks).await;
    let (mut worker, _) = FakeWorker::agent(&farm).await;
    let (start, log) = farm.shell("w1", "x").await;
    let command_id = start.command_id.clone();
    let id = begin(&farm, &mut worker, start).await;
    worker.out(&id, 0, b"a hunter2").await;
    worker.batch(&id, &[(Source::Stderr, 0, b"between\n"), (Source::Stdout, 9, b"-hun")]).await;
    worker.out(&id, 13, b"ter2 b\n").await;
    worker.end(&id, &[(Source::Stdout, 20), (Source::Stderr, 8)]).await;
    soon("the end", farm.workers.wait(farm.id("w1"), &command_id)).await;
    assert_eq!(farm.text(log).await, "ebetween\noa *** b\nhprogram finished with exit code 0\n");
    farm.finish().await;
}

#[actix_web::test]
async fn what_is_damaged_fails_its_command_and_is_not_logged() {
    let farm = farm().await;
    let (mut worker, _) = FakeWorker::agent(&farm).await;
    let (start, log) = farm.shell("w1", "x").await;
    let command_id = start.command_id.clone();
    let id = begin(&farm, &mut worker, start).await;
    worker.out(&id, 0, b"good\n").await;
    // Says that it is larger than it is: a chunk of 100 bytes, packed data that are none.
    let text = id.as_str().unwrap();
    let head = b"\x87\xa2op\xa6output\xaaseq_number\xcd\x10\x00\xaacommand_id".as_slice();
    let chunks = b"\xa6chunks\x91\x93\x00\x05\x64\xa4size\x64\xa8encoding\xa4zstd\xa4data\xc4\x03xyz";
    let name = [&[0xd9, u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    worker.send_bytes([head, &name, chunks].concat()).await;
    worker.end(&id, &[(Source::Stdout, 105)]).await;
    let end = soon("the end", farm.workers.wait(farm.id("w1"), &command_id)).await;
    let CommandEnd::Finished { failure: Some(failure), .. } = end else { panic!("{end:?}") };
    assert!(failure.contains("could not be read"), "{failure}");
    assert_eq!(farm.text(log).await, "ogood\n");
    farm.finish().await;
}

#[actix_web::test]
async fn a_log_that_is_broken_off_says_after_which_byte() {
    for batched in [true, false] {
        let farm = farm().await;
        let mut worker = match batched {
            true => FakeWorker::agent(&farm).await.0,
            false => FakeWorker::connect(&farm, "w1").await,
        };
        let (start, log) = farm.shell("w1", "x").await;
        let command_id = start.command_id.clone();
        let id = begin(&farm, &mut worker, start).await;
        let seq = match batched {
            true => worker.out(&id, 0, b"one\ntw").await,
            false => worker.update(&id, vec![stdout("one\n")]).await,
        };
        worker.answer_to(seq).await.unwrap();
        drop(worker);
        let end = soon("the end", farm.workers.wait(farm.id("w1"), &command_id)).await;
        assert!(matches!(end, CommandEnd::Lost { .. }), "{end:?}");
        let text = farm.text(log).await;
        let (kept, bytes) = if batched { ("oone\notw\n", 6) } else { ("oone\n", 4) };
        let words = format!("{kept}hThis log is incomplete after byte {bytes} of standard output: ");
        assert!(text.starts_with(&words), "{text}");
        farm.unusable("w1").await;
        farm.finish().await;
    }
}
