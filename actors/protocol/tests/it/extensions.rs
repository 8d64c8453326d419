//! The bytes of our own extensions (`tests/golden/extensions.json`): written as they stand there, and read from there, for ever. A change of
//! these bytes is a new version of the extension.

use bytes::Bytes;
use greenroom_protocol::{
    Batch, Frame, MasterFrame, MasterOp, OUTPUT_BATCHES, OUTPUT_BATCHES_VERSION, Response, Settings, Source,
    Value, WorkerFrame, WorkerInfo, WorkerOp, decode_from_master, decode_from_worker, encode,
};
use serde_json::Value as Json;

use crate::wire::unpack;

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file() -> Vec<Json> {
    let all: Json = serde_json::from_str(include_str!("../golden/extensions.json")).unwrap();
    all["frames"].as_array().unwrap().clone()
}

/// All frames.
pub fn all() -> impl Iterator<Item = Vec<u8>> {
    file().into_iter().map(|frame| hex(frame["hex"].as_str().unwrap()).to_vec())
}

/// A frame of the golden file.
fn golden(name: &str) -> Bytes {
    let frames = file();
    let frame =
        frames.iter().find(|frame| frame["name"] == name).unwrap_or_else(|| panic!("no frame {name}"));
    hex(frame["hex"].as_str().unwrap())
}

#[track_caller]
fn is_golden(name: &str, written: &[u8]) {
    let golden = golden(name);
    assert_eq!(to_hex(written), to_hex(&golden), "{name}: {}", unpack(written));
}

fn info() -> WorkerInfo {
    WorkerInfo {
        system: "posix".into(),
        basedir: "/w".into(),
        numcpus: 2,
        version: "1".into(),
        extensions: [("agent".to_owned(), 1), (OUTPUT_BATCHES.to_owned(), OUTPUT_BATCHES_VERSION)].into(),
        ..WorkerInfo::default()
    }
}

fn batch() -> Batch {
    Batch::new(vec![
        (Source::Header, 0, Bytes::from_static(b"make\n")),
        (Source::Stdout, 70_000, Bytes::from_static(b"one\r\n\xff two")),
        (Source::Stderr, 0, Bytes::from_static(b"bad\n")),
        (Source::File("tests".into()), 1, Bytes::from_static(b"ok\n")),
        (Source::Stdout, 70_010, Bytes::new()),
    ])
}

#[test]
fn the_announcement_is_golden() {
    let frame: WorkerFrame = Frame::Response(Response::ok(1, info().to_value()));
    is_golden("announced", &encode(&frame));
    let Frame::Response(response) = decode_from_worker(&golden("announced")).unwrap() else { panic!() };
    assert_eq!(WorkerInfo::from_value(&response.result.unwrap()).unwrap(), info());
}

#[test]
fn enabling_is_golden_and_default_settings_do_not_enable() {
    let op = MasterOp::SetWorkerSettings(Settings::batched(1));
    let frame: MasterFrame = Frame::Request { seq: 3, op };
    is_golden("enabled", &encode(&frame));
    assert_eq!(decode_from_master(&golden("enabled")).unwrap(), frame);
    let plain: MasterFrame = Frame::Request { seq: 3, op: MasterOp::SetWorkerSettings(Settings::default()) };
    assert!(unpack(&encode(&plain))["args"].get("output_batches").is_none(), "as a stock master says it");
}

#[test]
fn a_plain_batch_is_golden() {
    let frame: WorkerFrame =
        Frame::Request { seq: 9, op: WorkerOp::Output { command_id: "m-7".into(), batch: batch() } };
    is_golden("plain batch", &encode(&frame));
    let Frame::Request { seq: 9, op: WorkerOp::Output { command_id, batch: read } } =
        decode_from_worker(&golden("plain batch")).unwrap()
    else {
        panic!("a batch")
    };
    assert_eq!((command_id.as_str(), &read), (Some("m-7"), &batch()));
    assert_eq!(&read.unpack().unwrap()[..], b"make\none\r\n\xff twobad\nok\n");
}

#[test]
fn a_compressed_batch_is_read_as_it_always_was() {
    // What a later zstd makes of the same text may differ in its bytes; what it reads may not.
    let Frame::Request { op: WorkerOp::Output { batch, .. }, .. } =
        decode_from_worker(&golden("compressed batch")).unwrap()
    else {
        panic!("a batch")
    };
    assert!(batch.is_packed());
    assert_eq!(batch.unpack().unwrap(), b"all work and no play\n".repeat(100));
    let chunk = &batch.chunks()[0];
    assert_eq!((&chunk.source, chunk.offset, chunk.length), (&Source::Stdout, 5_000_000_000, 2100));
}

#[test]
fn the_end_with_totals_is_golden() {
    let totals = Some(vec![(Source::Stdout, 5_000_002_100), (Source::File("tests".into()), 4)]);
    let op = WorkerOp::Complete { command_id: "m-7".into(), failure: None, totals };
    let frame: WorkerFrame = Frame::Request { seq: 300, op };
    is_golden("end", &encode(&frame));
    assert_eq!(decode_from_worker(&golden("end")).unwrap(), frame);
}

#[test]
fn an_answer_is_golden() {
    is_golden("answer", &encode::<MasterOp>(&Frame::Response(Response::ok(9, Value::Nil))));
}
