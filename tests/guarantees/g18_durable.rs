//! G18: on SQLite an acknowledged write survives a kill, and it is on the disk before the answer is sent.

#[path = "g18/power.rs"]
mod power;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::Rng as _;

use crate::checker;
use crate::harness::{Farm, Plan, Process, Rest, patience};
use crate::history::History;
use crate::load::{Asked, Load};
use crate::run::Run;
use crate::sqlite::{FILES, copy, expect_whole, sqlite};
use power::Forgetful;

/// Clients that push at the same time, so that commits are shared.
const CLIENTS: usize = 3;
/// Pushes of which the order of calls is looked at.
const TRACED: usize = 20;

/// Pushes one change after the other until the master is gone; counts what was acknowledged.
fn push_on(load: &Load, rest: &Rest, acknowledged: &AtomicUsize) {
    while !load.is_stopped() {
        if load.ask(rest, &Asked::hook(load.number(), None)).is_some() {
            acknowledged.fetch_add(1, Ordering::SeqCst);
        } else {
            patience(Duration::from_secs(60), "a master", || {
                (load.is_stopped() || rest.try_get("/health").is_ok()).then_some(())
            });
        }
    }
}

/// Kills the master in the moment of an answer, again and again; `mishap` says what else befalls its files.
fn acknowledged_writes_survive(what: &str, kills: (usize, usize), mut farm: Farm, mishap: impl Fn(&Path)) {
    let mut run = Run::of("G18");
    let history = History::of(&run, what);
    let kills = run.figure(kills.0, kills.1);
    let (load, acknowledged) = (Load::new(&history), AtomicUsize::new(0));
    let (rest, looked_at) = (farm.rest().clone(), farm.path("looked-at"));
    std::fs::create_dir(&looked_at).expect("a directory");
    std::thread::scope(|scope| {
        let _lasts = load.while_it_lasts();
        for _ in 0..CLIENTS {
            scope.spawn(|| push_on(&load, &rest, &acknowledged));
        }
        for _ in 0..kills {
            // As soon as the n-th answer from now has come: the moment at which a promise has just been made.
            let seen = acknowledged.load(Ordering::SeqCst) + run.dice.random_range(1..12);
            patience(Duration::from_secs(60), "answers", || {
                (acknowledged.load(Ordering::SeqCst) >= seen).then_some(())
            });
            farm.kill_master();
            let promised = acknowledged.load(Ordering::SeqCst);
            mishap(farm.data_dir());
            // Who looks at a copy changes nothing.
            for file in FILES {
                copy(file, farm.data_dir(), &looked_at);
            }
            expect_whole(&looked_at);
            let stored = sqlite(&looked_at.join("greenroom.db"), "SELECT count(*) FROM changes");
            let stored: usize = stored.parse().expect("a number");
            assert!(stored >= promised, "{promised} were acknowledged, {stored} are there");
            farm.start();
        }
    });
    history.settle(&rest, false);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    run.kept(&format!(
        "{what}: {kills} kills, {} acknowledged, 0 lost, integrity ok each time",
        findings.acknowledged
    ));
}

#[test]
fn g18_acknowledged_writes_survive_kills_and_the_file_is_whole() {
    acknowledged_writes_survive("kills", (15, 1_000), Farm::raise(""), |_| ());
}

#[test]
fn g18_acknowledged_writes_survive_the_loss_of_all_that_was_not_synced() {
    let mut farm = Plan::new("").lay_out();
    let forgetful = Forgetful::built_in(&farm.path(""));
    farm.set_env("LD_PRELOAD", forgetful.path());
    farm.start();
    acknowledged_writes_survive("power", (10, 500), farm, power::lose);
}

/// Follows the calls of a running process to the kernel.
struct Tracer {
    process: Process,
    trace: std::path::PathBuf,
}

impl Tracer {
    #[track_caller]
    fn attach(farm: &Farm) -> Self {
        let (trace, log) = (farm.path("trace"), farm.path("strace.log"));
        let there = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
        assert!(there.is_ok_and(|it| it.success()), "strace is missing. Run: scripts/services setup");
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-y",
            "-s",
            "200",
            "-e",
            "trace=fsync,fdatasync,read,recvfrom,write,writev,sendto",
        ]);
        command.arg("-o").arg(&trace).args(["-p", &farm.pid().to_string()]);
        let mut process = Process::start(&mut command, &log);
        patience(Duration::from_secs(20), "strace to attach", || {
            let said = process.output();
            assert!(process.ended().is_none(), "strace cannot attach (it needs ptrace): {said}");
            said.contains("attached").then_some(())
        });
        Self { process, trace }
    }

    /// What it saw, up to now.
    fn lines(mut self, until: &str, times: usize) -> Vec<String> {
        let read = || String::from_utf8_lossy(&std::fs::read(&self.trace).unwrap_or_default()).into_owned();
        patience(Duration::from_secs(20), "the whole trace", || {
            (read().matches(until).count() >= times).then_some(())
        });
        self.process.signal(nix::sys::signal::Signal::SIGINT);
        self.process.end_within(Duration::from_secs(20));
        read().lines().map(str::to_owned).collect()
    }
}

/// Where in the trace a sync of the write-ahead log has come back, with the thread's number to join the halves of calls.
fn synced(lines: &[String]) -> Vec<usize> {
    let mut pending = std::collections::BTreeSet::new();
    let mut done = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let thread = line.split(' ').next().unwrap_or_default();
        let is_sync = line.contains("fdatasync(") || line.contains("fsync(");
        if is_sync && line.contains("greenroom.db-wal") {
            if line.contains("<unfinished") {
                pending.insert(thread);
            } else if line.ends_with("= 0") {
                done.push(at);
            }
        } else if line.contains("sync resumed>") && pending.remove(thread) && line.ends_with("= 0") {
            done.push(at);
        }
    }
    done
}

/// For each push: was the log synced after the request was read and before the answer was begun?
fn in_order(lines: &[String]) -> usize {
    let synced = synced(lines);
    let mut asked = None;
    let mut answered = 0;
    for (at, line) in lines.iter().enumerate() {
        if line.contains("\"POST /change_hook") {
            asked = Some(at);
        } else if line.contains("\"HTTP/1.1 200")
            && let Some(from) = asked.take()
        {
            let between = synced.iter().any(|it| (from..at).contains(it));
            assert!(between, "an answer without a sync:\n{}", lines[from..=at].join("\n"));
            answered += 1;
        }
    }
    answered
}

#[test]
fn g18_the_disk_has_it_before_the_answer_is_sent() {
    let run = Run::of("G18");
    let farm = Farm::raise("");
    let tracer = Tracer::attach(&farm);
    for number in 0..TRACED {
        farm.push_change("main", &number.to_string());
    }
    let lines = tracer.lines("HTTP/1.1 200", TRACED);
    assert_eq!(in_order(&lines), TRACED, "every push is in the trace");
    run.kept(&format!("{TRACED} pushes traced: each synced before its answer"));
}

/// A check of the check: an answer that comes before the sync is found.
#[test]
#[should_panic(expected = "an answer without a sync")]
fn g18_an_early_answer_is_found() {
    let line = |text: &str| text.to_owned();
    let trace = [
        line(r#"7 recvfrom(9<socket>, "POST /change_hook/base HTTP/1.1", 8192) = 31"#),
        line(r"8 fdatasync(5</data/greenroom.db-wal> <unfinished ...>"),
        line(r#"7 writev(9<socket>, [{iov_base="HTTP/1.1 200 OK"}], 1) = 15"#),
        line(r"8 <... fdatasync resumed>) = 0"),
    ];
    assert_eq!(synced(&trace), [3]);
    in_order(&trace);
}
