//! G15: a step that writes more than the log store takes is held back: the master's memory is bounded, other builds are not delayed, and
//! nothing is lost.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::RngCore as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::databases;
use crate::harness::{Farm, SUCCESS, member, patience};
use crate::proxy::Proxy;
use crate::run::Run;

/// What the way to the database lets through in a second, as long as it is slow.
const SLOW: u64 = 1_000_000;
/// So much more memory a master may take.
const GROWTH: u64 = 64 << 20;
/// So much longer another build may take.
const DELAY: Duration = Duration::from_secs(1);
/// A log is cut here, with a record.
const MOST: usize = 1 << 30;

const CONFIG: &str = r#"
[workers.w1]
password = "pw"
[workers.w2]
password = "pw"
[schedulers.force]
kind = "force"
builders = "*"
[builders.loud]
workers = ["w1"]
[[builders.loud.steps]]
name = "print"
run = "cat FILE"
[builders.quiet]
workers = ["w2"]
[[builders.quiet.steps]]
name = "work"
run = "echo done"
"#;

/// What no compression makes smaller: what is stored is as much as what is written.
fn noise(dice: &mut StdRng, path: &Path, length: usize) {
    let mut file = File::create(path).expect("a file");
    let mut piece = vec![0; 1 << 20];
    for _ in 0..length / piece.len() {
        dice.fill_bytes(&mut piece);
        file.write_all(&piece).expect("room on the disk");
    }
}

fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a master that runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// How long a build of another builder takes.
fn quiet(farm: &Farm) -> Duration {
    let begun = Instant::now();
    let request = farm.force("quiet", &json!({}));
    let row = farm.await_request_within(request, Duration::from_secs(30));
    assert_eq!(row["results"], SUCCESS, "{row}");
    begun.elapsed()
}

/// The log of the loud step, and whether all of the file is in it: else what is there is the file's begin and the log says that it was cut.
fn judge(farm: &Farm, build: &Value, file: &Path, length: usize) {
    let step = farm.step(build, "print");
    let log = farm.rest().list(&format!("steps/{}/logs", step["stepid"]))[0].clone();
    let path = format!("/api/v2/logs/{}/raw", log["logid"]);
    let mut header = String::new();
    farm.rest().reader(&format!("{path}?stream=header")).read_to_string(&mut header).expect("a text");
    let mut written = BufReader::new(File::open(file).expect("the file"));
    let mut stored = farm.rest().reader(&format!("{path}?stream=stdout"));
    let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut same = 0;
    loop {
        let read = stored.read(&mut ours).expect("the log");
        if read == 0 {
            break;
        }
        written.read_exact(&mut theirs[..read]).expect("no more than was written");
        assert!(ours[..read] == theirs[..read], "the log differs after byte {same}");
        same += read;
    }
    if header.contains("The log is cut here") {
        assert!(length * 101 / 100 > MOST, "cut at {same} bytes: {header}");
    } else {
        assert_eq!(same, length, "all of it: {header}");
    }
}

/// Ends the one that looks at the memory, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn g15_a_loud_step_is_held_back_and_harms_nobody() {
    let mut run = Run::of("G15");
    let (length, slow_for) = (run.figure(64 << 20, 1 << 30), run.figure(6, 60) as u64);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("noise.bin");
    noise(&mut run.dice, &file, length);
    let url = databases::fresh("postgres");
    let proxy = Proxy::to(databases::address(&url));
    let config = CONFIG.replace("FILE", &file.display().to_string());
    let farm = member("main", &databases::through(&url, proxy.address), "local:", &config);
    let (_loud, _quiet) = (farm.agent("w1"), farm.agent("w2"));
    quiet(&farm);
    let (memory, most, stop) = (resident(farm.pid()), AtomicU64::new(0), AtomicBool::new(false));

    proxy.throttle(Some(SLOW));
    // The slow way itself costs every build something; what counts is what the loud one adds.
    let before = (0..3).map(|_| quiet(&farm)).max().expect("three");
    let request = farm.force("loud", &json!({}));
    let pid = farm.pid();
    let slowest = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(resident(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let _stop = Stop(&stop);
        let until = Instant::now() + Duration::from_secs(slow_for);
        let mut slowest = Duration::ZERO;
        while Instant::now() < until {
            slowest = slowest.max(quiet(&farm));
        }
        assert_eq!(farm.request(request)["complete"], false, "it is held back");
        proxy.throttle(None);
        patience(Duration::from_secs(600), "the end of the loud build", || {
            Some(farm.request(request)).filter(|it| it["complete"] == true)
        });
        slowest
    });
    let growth = most.load(Ordering::Relaxed).saturating_sub(memory);
    let build = farm.expect_build(request, SUCCESS);
    judge(&farm, &build, &file, length);
    let (grown, megabytes) = (growth >> 20, length >> 20);
    let figures = format!(
        "{megabytes} MiB, {slow_for} s at 1 MB/s: {grown} MiB more, a build {slowest:?} (before: {before:?}), nothing lost"
    );
    assert!(growth <= GROWTH && slowest <= before + DELAY, "{figures}");
    run.kept(&figures);
}
