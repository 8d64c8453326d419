//! G14: a log is byte for byte what the step wrote, or it says that it is incomplete, and after which byte. It is never silently short, and
//! nothing stands in it twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};
use serde_json::{Value, json};

use crate::harness::{Farm, Plan, RETRY, SUCCESS, patience};
use crate::run::Run;
use crate::wire::Wire;

const CONFIG: &str = r#"
[workers.w1]
password = "pw"
[schedulers.force]
kind = "force"
builders = "*"
[builders.both]
[[builders.both.steps]]
name = "print"
run = "cat DIR/large.bin; cat DIR/small.bin >&2"
[builders.cut]
[[builders.cut.steps]]
name = "print"
run = "cat DIR/small.bin"
[builders.halves]
[[builders.halves.steps]]
name = "print"
run = "cat DIR/small.bin; until [ -e DIR/go ]; do sleep 0.02; done; cat DIR/small.bin"
"#;

/// Bytes as programs write them: lines, long lines, carriage returns, colours, what is no text; without a newline at the end.
fn output(dice: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 4096);
    let mut noise = [0; 3000];
    while bytes.len() < length {
        match dice.random_range(0..12) {
            0 => {
                dice.fill_bytes(&mut noise);
                let taken = dice.random_range(0..noise.len());
                bytes.extend_from_slice(&noise[..taken]);
            }
            1 => bytes.extend_from_slice(b"progress 10%\rprogress 20%\r\xff\xfe\0\x1b[31mred\x1b[0m\r\n"),
            2 => bytes.extend_from_slice("Übergröße 😀\r\n\n\n".as_bytes()),
            3 => bytes.extend_from_slice(&b"long ".repeat(dice.random_range(1..2000))),
            _ => {
                let number: u32 = dice.random();
                bytes.extend_from_slice(format!("[{number}] cc -O2 -c file-{number}.c\n").as_bytes());
            }
        }
    }
    bytes.truncate(length);
    bytes.extend_from_slice(b"no end");
    bytes
}

fn write(path: PathBuf, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a file");
}

fn log_of(farm: &Farm, build: &Value) -> i64 {
    let step = farm.step(build, "print");
    farm.rest().list(&format!("steps/{}/logs", step["stepid"]))[0]["logid"].as_i64().expect("an id")
}

fn stream(farm: &Farm, log: i64, name: &str) -> Vec<u8> {
    farm.rest().bytes(&format!("/api/v2/logs/{log}/raw?stream={name}"))
}

#[track_caller]
fn is_same(found: &[u8], expected: &[u8], what: &str) {
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!((found.len(), differs), (expected.len(), None), "{what}: length and first difference");
}

/// What a log that was broken off holds of `written`: a prefix, and the place where it says that it ends.
#[track_caller]
fn is_marked(farm: &Farm, log: i64, written: &[u8], marks: &[&str]) -> usize {
    let header = String::from_utf8_lossy(&stream(farm, log, "header")).into_owned();
    let mark = header.lines().find(|line| line.starts_with("This log is incomplete after "));
    let mark = mark.unwrap_or_else(|| panic!("log {log} is silent about its end: {header}")).to_owned();
    assert!(marks.iter().any(|it| mark.contains(it)), "{mark}");
    let mut found = stream(farm, log, "stdout");
    if let Some(place) = mark.split("byte ").nth(1) {
        let bytes: usize = place.split(' ').next().and_then(|it| it.parse().ok()).expect("a number of bytes");
        // A line that was open has been ended.
        if found.len() == bytes + 1 && found.last() == Some(&b'\n') {
            found.pop();
        }
        assert_eq!(found.len(), bytes, "{mark}");
    }
    is_same(&found, &written[..found.len().min(written.len())], "what came before the end");
    found.len()
}

/// All of a large log through a proxy that doubles and reorders.
fn lied_to(farm: &Farm, wire: &Wire, large: &[u8], small: &[u8]) {
    wire.lie(true);
    let request = farm.force("both", &json!({}));
    farm.await_request_within(request, Duration::from_secs(300));
    wire.lie(false);
    let build = farm.expect_build(request, SUCCESS);
    let log = log_of(farm, &build);
    is_same(&stream(farm, log, "stdout"), large, "standard output");
    is_same(&stream(farm, log, "stderr"), small, "standard error");
    let header = String::from_utf8_lossy(&stream(farm, log, "header")).into_owned();
    assert!(!header.contains("incomplete"), "{header}");
}

/// A connection that is cut within a log. Gives how much of the log there was.
fn cut_off(farm: &Farm, wire: &Wire, small: &[u8], dice: &mut StdRng) -> usize {
    let cuts = wire.cuts();
    wire.cut_after(dice.random_range(0..small.len() as u64 / 6));
    let request = farm.force("cut", &json!({}));
    let build = farm.expect_build(request, SUCCESS);
    assert_eq!(wire.cuts(), cuts + 1, "the connection was cut");
    let builds = farm.builds_of(request);
    assert_eq!((builds.len(), builds[0]["results"].as_i64()), (2, Some(RETRY)), "{builds:?}");
    is_same(&stream(farm, log_of(farm, &build), "stdout"), small, "the repeated build");
    is_marked(farm, log_of(farm, &builds[0]), small, &["of standard output"])
}

/// A master that is killed within a log.
fn killed(farm: &mut Farm, small: &[u8], dir: &Path, dice: &mut StdRng) {
    let request = farm.force("halves", &json!({}));
    let build = farm.await_running(request, "print");
    let wanted = dice.random_range(1..small.len() / 200) as i64;
    patience(Duration::from_secs(30), "some lines of the log", || {
        let lines = farm.rest().list(&format!("logs/{}", log_of(farm, &build)))[0]["num_lines"].as_i64();
        lines.filter(|lines| *lines >= wanted.min(1000))
    });
    farm.kill_master();
    write(dir.join("go"), b"");
    farm.start();
    let whole = farm.expect_build(request, SUCCESS);
    let builds = farm.builds_of(request);
    assert_eq!((builds.len(), builds[0]["results"].as_i64()), (2, Some(RETRY)), "{builds:?}");
    let written = [small, small].concat();
    let known = is_marked(farm, log_of(farm, &builds[0]), &written, &["the master was restarted"]);
    assert!(known > 0, "what was shown is kept");
    is_same(&stream(farm, log_of(farm, &whole), "stdout"), &written, "the repeated build");
    std::fs::remove_file(dir.join("go")).expect("the file");
}

#[test]
fn g14_a_log_is_byte_for_byte_what_the_step_wrote_or_says_where_it_ends() {
    let mut run = Run::of("G14");
    let (length, cuts, kills) = (run.figure(10 << 20, 100 << 20), run.figure(4, 200), run.figure(1, 10));
    let dir = tempfile::tempdir().expect("a directory");
    let large = output(&mut run.dice, length);
    let small = output(&mut run.dice, 1 << 20);
    write(dir.path().join("large.bin"), &large);
    write(dir.path().join("small.bin"), &small);
    let mut farm = Plan::new(&CONFIG.replace("DIR", &dir.path().display().to_string())).lay_out();
    farm.start();
    let wire = Wire::to(farm.port(), run.dice.random());
    let _agent = farm.launch_agent_at("w1", "pw", wire.port, &["--compress", "always"]);
    farm.await_worker("w1");

    lied_to(&farm, &wire, &large, &small);
    let (doubled, reordered) = wire.lies_told();
    assert!(doubled > 0 && reordered > 0, "{doubled} batches came twice, {reordered} too late");
    let kept: usize = (0..cuts).map(|_| cut_off(&farm, &wire, &small, &mut run.dice)).sum();
    for _ in 0..kills {
        killed(&mut farm, &small, dir.path(), &mut run.dice);
    }
    let megabytes = length >> 20;
    run.kept(&format!(
        "{megabytes} MiB with {doubled} batches doubled and {reordered} reordered, the same bytes; {cuts} connections cut after \
         {kept} bytes and {kills} masters killed, marked"
    ));
}
