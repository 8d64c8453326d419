//! G19: a full disk: nothing is corrupt, nothing is falsely acknowledged, and it goes on by itself when there is space.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::checker;
use crate::harness::{Farm, Plan, Rest, SUCCESS, patience};
use crate::history::{History, Outcome};
use crate::run::Run;
use crate::sqlite::{expect_whole, sqlite};

/// What a disk holds.
const SIZE: &str = "size=64m";
/// Writes are accepted again so soon after there is space.
const ACCEPTS_WITHIN: Duration = Duration::from_secs(10);

/// While the disk is known to be full a write is refused so soon.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// A small file system of its own.
struct Disk(PathBuf);

impl Disk {
    #[track_caller]
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "greenroom-test"]).arg(at);
        let answer = mount.output().expect("mount");
        assert!(
            answer.status.success(),
            "{mount:?}: {}\nThis test mounts a small file system. Run it as root: sudo make test",
            String::from_utf8_lossy(&answer.stderr)
        );
        Self(at.to_owned())
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let mut file =
            std::fs::File::options().create(true).append(true).open(self.0.join("ballast")).expect("a file");
        for size in [1 << 20, 65_536, 4_096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn relieve(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("the ballast is removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Pushes changes of 20 kB and writes down what was answered.
struct Pusher<'a> {
    rest: &'a Rest,
    history: &'a History,
    next: AtomicUsize,
}

impl Pusher<'_> {
    /// Gives the status and the words.
    fn push(&self) -> (u16, String) {
        let mark = format!("r{}", self.next.fetch_add(1, Ordering::Relaxed));
        let body = json!({"author": "Ada", "revision": mark, "comments": "x".repeat(20_000)}).to_string();
        let call = self.history.begin(&json!({"do": "hook", "mark": mark}));
        let headers = [("content-type", "application/json")];
        let answer = self.rest.try_post("/change_hook/base", &headers, body.as_bytes()).expect("an answer");
        call.end(Outcome::of(answer.status), Some(answer.status), &json!(answer.text));
        (answer.status, answer.text)
    }

    /// Pushes until it is refused as it should be. The first waits ten seconds for better times; the others are told at once.
    #[track_caller]
    fn until_refused(&self) {
        let refusal = (0..500).map(|_| self.push()).find(|(status, _)| *status != 200);
        refused_well(&refusal.expect("a full disk refuses"));
        for _ in 0..4 {
            let begun = Instant::now();
            refused_well(&self.push());
            assert!(begun.elapsed() < TOLD_WITHIN, "told after {:?}", begun.elapsed());
        }
    }
}

/// 507 or 503, in words that an operator understands.
#[track_caller]
fn refused_well((status, words): &(u16, String)) {
    assert!([503, 507].contains(status), "{status} {words}");
    assert!(["full", "space", "disk"].iter().any(|it| words.contains(it)), "{status} {words}");
}

/// Full, and not full again, several times; then the file is looked at.
fn writes_are_refused_and_accepted_again(what: &str, lay_out: impl FnOnce(&Path) -> Farm) {
    let run = Run::of("G19");
    let history = History::of(&run, what);
    let times = run.figure(1, 10);
    let place = tempfile::Builder::new().prefix("greenroom-disk-").tempdir().expect("a directory");
    let disk = Disk::mount(place.path());
    let mut farm = lay_out(place.path());
    farm.start();
    let (pid, rest) = (farm.pid(), farm.rest().clone());
    let pusher = Pusher { rest: &rest, history: &history, next: AtomicUsize::new(0) };
    assert_eq!(pusher.push().0, 200);
    let mut slowest = Duration::ZERO;
    for _ in 0..times {
        disk.fill();
        pusher.until_refused();
        assert!(rest.get("changes")["meta"]["total"].as_u64() > Some(0), "reading goes on");
        disk.relieve();
        let relieved = Instant::now();
        patience(ACCEPTS_WITHIN, "an accepted write", || (pusher.push().0 == 200).then_some(()));
        slowest = slowest.max(relieved.elapsed());
    }
    assert_eq!((farm.pid(), farm.master().ended()), (pid, None), "nobody restarted it");
    history.settle(&rest, false);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    let total = rest.get("changes")["meta"]["total"].clone();
    farm.kill_master();
    let database = if what == "database" { place.path() } else { farm.data_dir() };
    assert_eq!(sqlite(&database.join("greenroom.db"), "PRAGMA integrity_check"), "ok");
    farm.start();
    assert_eq!(rest.get("changes")["meta"]["total"], total, "and all of it survives the master");
    let figures = format!(
        "{what}: full {times} times, {} acknowledged, 0 lost, accepted again after {} ms",
        findings.acknowledged,
        slowest.as_millis()
    );
    run.kept(&figures);
}

#[test]
fn g19_a_full_disk_of_the_database() {
    writes_are_refused_and_accepted_again("database", |disk| {
        Plan::new(&format!("[database]\nurl = 'sqlite://{}/greenroom.db'\n", disk.display())).lay_out()
    });
}

#[test]
fn g19_a_full_disk_of_the_data_directory() {
    writes_are_refused_and_accepted_again("data directory", |disk| Plan::new("").data_dir(disk).lay_out());
}

/// What a noisy build prints.
const LINES: usize = 2_000_000;

const NOISE: &str = r"
[workers.w1]
password = 'pw'
max-builds = 4
[schedulers.force]
kind = 'force'
builders = '*'
parameters = [{ name = 'job', kind = 'int' }]
[builders.noise]
workers = ['w1']
[[builders.noise.steps]]
name = 'noise'
run = 'seq 2000000'
[builders.quiet]
workers = ['w1']
[[builders.quiet.steps]]
name = 'quiet'
run = 'echo hello'
";

/// The text of logs alone has no space: what is acknowledged still is, and no log is silently short.
#[test]
fn g19_a_full_disk_of_the_logs() {
    let run = Run::of("G19");
    let place = tempfile::Builder::new().prefix("greenroom-disk-").tempdir().expect("a directory");
    let disk = Disk::mount(place.path());
    let mut farm = Plan::new(NOISE).lay_out();
    std::fs::create_dir_all(farm.data_dir()).expect("a directory");
    // SQLite keeps the files of its own beside the file that a link names.
    std::os::unix::fs::symlink(
        place.path().join("greenroom.logs.db"),
        farm.data_dir().join("greenroom.logs.db"),
    )
    .expect("a link");
    farm.start();
    let pid = farm.pid();
    let _agent = farm.agent("w1");
    let first = farm.force("noise", &json!({"job": "1"}));
    farm.expect_build(first, SUCCESS);
    disk.fill();
    let noisy = farm.force("noise", &json!({"job": "2"}));
    farm.await_running(noisy, "noise");
    // Until it shows: text waits, or its build has ended without it.
    patience(Duration::from_secs(30), "a log that cannot be written", || {
        let ended = farm.request(noisy)["complete"] == true;
        (ended || farm.master_log().contains("failed to store log text")).then_some(())
    });
    // The state has another disk: it goes on.
    farm.push_change("main", "while the logs are full");
    assert_eq!(farm.rest().list("changes").len(), 1);
    disk.relieve();
    let ended = farm.await_request_within(noisy, Duration::from_secs(60));
    let build = farm.builds_of(noisy).pop().expect("a build");
    let lines = farm.lines(&build, "noise", 'o');
    let whole =
        lines.len() == LINES && lines.iter().enumerate().all(|(n, line)| *line == (n + 1).to_string());
    let says = farm.log(&build, "noise").contains("lost");
    println!("{}", farm.master_log());
    assert!(whole || says, "{ended}: silently short: {} lines", lines.len());
    let relieved = Instant::now();
    let quiet = farm.force("quiet", &json!({"job": "3"}));
    let build = farm.expect_build(quiet, SUCCESS);
    assert!(relieved.elapsed() < ACCEPTS_WITHIN, "{:?}", relieved.elapsed());
    assert_eq!(farm.lines(&build, "quiet", 'o'), ["hello"]);
    assert_eq!((farm.pid(), farm.master().ended()), (pid, None), "nobody restarted it");
    farm.kill_master();
    expect_whole(farm.data_dir());
    let result = &ended["results"];
    run.kept(&format!(
        "logs: a build that wrote into a full disk ended as {result}, its log {}",
        if whole { "whole" } else { "says what is missing" }
    ));
}
