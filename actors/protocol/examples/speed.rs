//! How fast log text is decoded and encoded: `cargo run --release -p greenroom-protocol --example speed`.

use std::time::Instant;

use greenroom_protocol::{Frame, LogText, UpdateItem, WorkerOp, decode_from_worker, encode};

/// Frames measured; each has one update.
const FRAMES: usize = 20_000;

fn main() {
    for (name, line) in [("80 characters", 80), ("20 characters", 20)] {
        let text = format!("{}\n", "x".repeat(line - 1)).repeat(64 * 1024 / line);
        let megabytes = (text.len() * FRAMES) as f64 / 1e6;
        let items = vec![UpdateItem::Stdout(LogText::new(text, 1_795_301_656.5))];
        let frame = Frame::Request { seq: 7, op: WorkerOp::Update { command_id: "42".into(), items } };

        let started = Instant::now();
        let bytes = (0..FRAMES).map(|_| encode(std::hint::black_box(&frame))).last().unwrap_or_default();
        let encoding = megabytes / started.elapsed().as_secs_f64();

        let started = Instant::now();
        let understood =
            (0..FRAMES).filter(|_| decode_from_worker(std::hint::black_box(&bytes)).is_ok()).count();
        let decoding = megabytes / started.elapsed().as_secs_f64();
        println!(
            "lines of {name}: {encoding:.0} MB/s encoded, {decoding:.0} MB/s decoded ({understood} frames)"
        );
    }
}
