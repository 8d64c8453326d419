//! Bytes that mean harm: an error, at once, without much memory, never a panic.

use std::time::{Duration, Instant};

use bytes::Bytes;
use greenroom_protocol::{
    MAX_BATCH, Problem, UpdateItem, WorkerFrame, WorkerOp, decode_from_master, decode_from_worker,
};
use proptest::prelude::*;

use crate::golden::frames;
use crate::wire::pack;

fn problem(bytes: &[u8]) -> Problem {
    decode_from_worker(&Bytes::copy_from_slice(bytes)).unwrap_err().problem().clone()
}

/// A response whose result is `value`.
fn response(value: &[u8]) -> Vec<u8> {
    [b"\x83\xa2op\xa8response\xaaseq_number\x00\xa6result".as_slice(), value].concat()
}

/// An update with these arguments.
fn update(args: &[u8]) -> Vec<u8> {
    [b"\x84\xa2op\xa6update\xaaseq_number\x00\xaacommand_id\xa11\xa4args".as_slice(), args].concat()
}

#[test]
fn lengths_beyond_the_frame_fail() {
    for value in [
        b"\xdb\xff\xff\xff\xff".as_slice(),
        b"\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xdf\x80\x00\x00\x00",
    ] {
        assert!(matches!(problem(&response(value)), Problem::LengthBeyondFrame(_)), "{value:?}");
        assert!(matches!(problem(&update(value)), Problem::LengthBeyondFrame(_)), "{value:?}");
    }
    assert_eq!(problem(b""), Problem::Truncated);
    assert_eq!(problem(b"\xc1"), Problem::ReservedByte);
    assert_eq!(problem(b"\x80\x80"), Problem::TrailingBytes);
}

#[test]
fn nesting_is_no_stack_overflow() {
    // Ten million open arrays: more than any stack has room for.
    let mut deep = vec![0x91; 10_000_000];
    deep.push(0xc0);
    let started = Instant::now();
    assert_eq!(problem(&response(&deep)), Problem::TooDeep);
    let ignored = [b"\x81\xa1x".as_slice(), &deep].concat();
    assert_eq!(problem(&ignored), Problem::Missing("op"), "skipped, however deep");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn many_tiny_elements_do_not_fill_the_memory() {
    let count = 8_000_000_u32;
    let list =
        |element: u8| [b"\xdd".as_slice(), &count.to_be_bytes(), &vec![element; count as usize]].concat();
    assert_eq!(problem(&response(&list(0xc0))), Problem::TooManyItems);
    assert_eq!(problem(&update(&list(0x90))), Problem::TooManyItems);
    let files = [b"\x91\x92\xa5files".as_slice(), &list(0xa0)].concat();
    assert_eq!(problem(&update(&files)), Problem::TooManyItems);
}

#[test]
fn text_that_is_not_utf8_is_refused_and_the_rest_is_not_copied() {
    let args = b"\x91\x92\xa6stdout\x93\xa2\xff\n\x90\x90";
    assert_eq!(problem(&update(args)), Problem::NotUtf8);
    let frame = Bytes::from(update(
        b"\x91\x92\xa6stdout\x93\xa6plain\n\x91\x05\x91\xcb\x40\x00\x00\x00\x00\x00\x00\x00",
    ));
    let WorkerFrame::Request { op: WorkerOp::Update { items, .. }, .. } = decode_from_worker(&frame).unwrap()
    else {
        panic!("an update")
    };
    let UpdateItem::Stdout(text) = &items[0] else { panic!("{items:?}") };
    assert_eq!((text.as_str(), text.received_at()), ("plain\n", 2.0));
    assert!(frame.as_ptr_range().contains(&text.as_bytes().as_ptr()), "a slice of the frame");
}

#[test]
fn numbers_that_are_none_are_refused() {
    let elapsed = [b"\x91\x92\xa7elapsed\xcb".as_slice(), &f64::NAN.to_be_bytes()].concat();
    assert_eq!(problem(&update(&elapsed)), Problem::OutOfRange);
}

/// A batch with these values of its keys.
fn batch(chunks: &[u8], size: &[u8], encoding: &[u8], data: &[u8]) -> Vec<u8> {
    let begin = b"\x87\xa2op\xa6output\xaaseq_number\x05\xaacommand_id\xa11\xa6chunks".as_slice();
    [begin, chunks, b"\xa4size", size, b"\xa8encoding", encoding, b"\xa4data", data].concat()
}

#[test]
fn a_batch_that_says_it_is_larger_than_allowed_is_refused_unread() {
    let huge = b"\xcf\x00\x00\x00\xff\xff\xff\xff\xff";
    let chunk = [b"\x91\x93\x00\x00".as_slice(), huge].concat();
    let error = decode_from_worker(&Bytes::from(batch(&chunk, huge, b"\xa4zstd", b"\xc4\x01x"))).unwrap_err();
    let most = MAX_BATCH as u64;
    assert_eq!(error.problem(), &Problem::TooLarge { found: 0xff_ffff_ffff, most });
    assert_eq!((error.path(), error.seq()), ("size", Some(5)), "it is answered, the connection stays");
    let one_more = [b"\xce".as_slice(), &(MAX_BATCH as u32 + 1).to_be_bytes()].concat();
    let chunk = [b"\x91\x93\x00\x00".as_slice(), &one_more].concat();
    assert!(matches!(
        problem(&batch(&chunk, &one_more, b"\xa4zstd", b"\xc4\x01x")),
        Problem::TooLarge { .. }
    ));
}

#[test]
fn a_batch_that_unpacks_to_more_than_it_says_is_refused_within_what_it_says() {
    // A gigabyte of zeros in a few dozen kilobytes.
    let mut bomb = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..1024).for_each(|_| std::io::Write::write_all(&mut bomb, &zeros).unwrap());
    let bomb = bomb.finish().unwrap();
    let size = (MAX_BATCH as u32).to_be_bytes();
    let size = [b"\xce".as_slice(), &size].concat();
    let chunk = [b"\x91\x93\x00\x00".as_slice(), &size].concat();
    let data = [b"\xc6".as_slice(), &(bomb.len() as u32).to_be_bytes(), &bomb].concat();
    let frame = Bytes::from(batch(&chunk, &size, b"\xa4zstd", &data));
    let before = most_resident();
    let WorkerFrame::Request { op: WorkerOp::Output { batch, .. }, .. } = decode_from_worker(&frame).unwrap()
    else {
        panic!("a batch")
    };
    assert!(batch.unpack().is_err());
    let grown = most_resident() - before;
    assert!(grown < 64 << 10, "{grown} KiB more were used");
}

/// The most memory that this process has had so far, in KiB.
fn most_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn batches_whose_lengths_do_not_agree_are_refused() {
    let three = b"\xc4\x03abc".as_slice();
    let agree: [&[u8]; 4] = [b"\x91\x93\x00\x00\x03", b"\x03", b"\xc0", three];
    assert!(decode_from_worker(&Bytes::from(batch(agree[0], agree[1], agree[2], agree[3]))).is_ok());
    let faulty: [[&[u8]; 4]; 8] = [
        [b"\x91\x93\x00\x00\x02", b"\x03", b"\xc0", three],
        [b"\x92\x93\x00\x00\x02\x93\x00\x02\x02", b"\x03", b"\xc0", three],
        [b"\x91\x93\x00\x00\x04", b"\x04", b"\xc0", three],
        [b"\x91\x93\x00\x00\x03", b"\x03", b"\xa4zstd", three],
        [b"\x90", b"\x03", b"\xc0", three],
        [b"\x90", b"\x00", b"\xc0", three],
        [b"\x91\x93\x00\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\x03", b"\xc0", three],
        [b"\x92\x93\x00\x00\x01\x93\x00\x01\xcd\xff\xff", b"\x03", b"\xc0", three],
    ];
    for [chunks, size, encoding, data] in faulty {
        assert_eq!(problem(&batch(chunks, size, encoding, data)), Problem::WrongSize, "{chunks:?} {size:?}");
    }
    let far = b"\x91\x93\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x03";
    assert_eq!(
        problem(&batch(far, b"\x03", b"\xc0", three)),
        Problem::OutOfRange,
        "an offset that overflows"
    );
    assert_eq!(
        problem(&batch(b"\x91\x93\x03\x00\x03", b"\x03", b"\xc0", three)),
        Problem::OutOfRange,
        "a source"
    );
    assert_eq!(problem(&batch(agree[0], b"\x03", b"\xa3lzx", three)), Problem::UnknownEncoding);
    let many = [b"\xdc\xff\xff".as_slice(), &b"\x93\x00\x00\x00".repeat(0xffff)].concat();
    assert_eq!(problem(&batch(&many, b"\x00", b"\xc0", b"\xc4\x00")), Problem::TooManyItems);
}

/// All recorded frames, as bytes.
fn recorded() -> Vec<Vec<u8>> {
    let stock =
        frames("worker").into_iter().chain(frames("master")).map(|(_, message)| pack(&message).to_vec());
    stock.chain(crate::extensions::all()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = decode_from_worker(&bytes);
        let _ = decode_from_master(&bytes);
    }

    #[test]
    fn mutated_frames_never_panic(
        choice in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in prop::option::of(any::<prop::sample::Index>()),
    ) {
        use std::sync::OnceLock;
        static RECORDED: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        let mut bytes = choice.get(RECORDED.get_or_init(recorded)).clone();
        for (place, byte) in changes {
            let length = bytes.len();
            bytes[place.index(length)] = byte;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        let bytes = Bytes::from(bytes);
        if let Ok(WorkerFrame::Request { op: WorkerOp::Output { batch, .. }, .. }) = decode_from_worker(&bytes) {
            let unpacked = batch.unpack();
            prop_assert!(unpacked.is_err() || unpacked.is_ok_and(|bytes| bytes.len() == batch.size()));
        }
        // Whatever is still understood can be written and understood again.
        if let Ok(frame) = decode_from_worker(&bytes) {
            let again = decode_from_worker(&greenroom_protocol::encode(&frame)).unwrap();
            let same_kind = std::mem::discriminant(&frame) == std::mem::discriminant(&again);
            prop_assert!(same_kind);
        }
        let _ = decode_from_master(&bytes);
    }
}
