//! What happened, written down outside of the system as it happens: append-only files of JSON lines, and the final state.
//!
//! | file | a line is |
//! |---|---|
//! | `calls.jsonl` | the begin or the end of a client's call: what was asked, under which key, the outcome, the answer |
//! | `attempts.jsonl` | what a build's own command says: `start`, `end`, or `overlap` when the kernel says that another attempt of its job still runs; `worker killed` |
//! | `feed.jsonl` | what a client of the feed was told: its snapshot, each event with the clock after it, each resumption |
//! | `final.json` | the state when it was over, by REST |
//!
//! The directory is judged by [`super::checker`], now or later: a run that fails keeps it and says where.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{Rest, patience};
use crate::run::Run;

/// How a call ended, as its client can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered 2xx: it is acknowledged.
    Ok,
    /// Answered 4xx: it was not carried out and never will be.
    Refused,
    /// No answer, or one that says that it may still happen.
    Unknown,
}

impl Outcome {
    /// Of an answer's status.
    pub fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            400..=499 => Self::Refused,
            _ => Self::Unknown,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// A history that is being written.
pub struct History {
    dir: PathBuf,
    repeat: String,
    calls: Mutex<File>,
    attempts: Mutex<File>,
    feed: Mutex<File>,
    next: AtomicU64,
}

impl History {
    /// Begins one in `target/histories`.
    pub fn of(run: &Run, what: &str) -> Self {
        let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/histories");
        std::fs::create_dir_all(&parent).expect("a directory for histories");
        let name = format!("{}-{what}-", run.guarantee());
        let dir = tempfile::Builder::new().prefix(&name).tempdir_in(parent).expect("a directory").keep();
        std::fs::create_dir(dir.join("locks")).expect("a directory");
        let calls = Mutex::new(append(&dir.join("calls.jsonl")));
        let feed = Mutex::new(append(&dir.join("feed.jsonl")));
        let attempts = Mutex::new(append(&dir.join("attempts.jsonl")));
        Self { dir, repeat: run.repeat(), calls, attempts, feed, next: AtomicU64::new(1) }
    }

    /// Where it is written.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A call begins: `asks` has `do` (`force`, `hook`, `rebuild`), `mark` (what finds it in the final state) and perhaps `key`.
    pub fn begin(&self, asks: &Value) -> Call<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        line(&self.calls, json!({"call": number, "asks": asks}));
        Call { history: self, number }
    }

    /// A worker is about to be killed: what it runs is orphaned.
    pub fn worker_killed(&self) {
        line(&self.attempts, json!({"what": "worker killed"}));
    }

    /// A line about the feed.
    pub fn fed(&self, what: Value) {
        line(&self.feed, what);
    }

    /// [`History::settle`] by the first of several masters, when it knows all that the others know.
    #[track_caller]
    pub fn settle_all(&self, masters: &[Rest], settled: bool) {
        let rest = &masters[0];
        for other in &masters[1..] {
            let clock = other.try_get("/api/v2/masters").expect("an answer");
            let clock = clock.header("greenroom-clock").expect("a clock").to_owned();
            patience(Duration::from_secs(20), "a master that knows what the others know", || {
                let answer = rest.try_get(&format!("/api/v2/masters?after={clock}")).ok()?;
                (answer.status == 200).then_some(())
            });
        }
        self.settle(rest, settled);
    }

    /// Writes down the final state; `settled`: everything that was asked for must have ended by now.
    #[track_caller]
    pub fn settle(&self, rest: &Rest, settled: bool) {
        let list = |what: &str, order: &str| Value::from(rest.list(&format!("{what}?order={order}")));
        let state = json!({
            "settled": settled, "buildsets": list("buildsets", "bsid"), "changes": list("changes", "changeid"),
            "buildrequests": list("buildrequests", "buildrequestid"), "builds": list("builds", "buildid"),
        });
        std::fs::write(self.dir.join("final.json"), state.to_string()).expect("the final state is written");
    }

    /// The command of a step that writes down when it starts and ends. `JOB`, `BUILD` (its id) and `MASTER` are in its environment.
    ///
    /// The kernel judges overlaps: a job's lock is held by the shell and all that it starts, and free when the last of them is gone.
    pub fn script(&self, seconds: &str) -> String {
        let dir = self.dir.display();
        format!(
            r#"exec 9>{dir}/locks/$JOB
say() {{ echo "{{\"at\":$(date +%s%N),\"what\":\"$1\",\"job\":$JOB,\"build\":$BUILD,\"master\":\"$MASTER\"}}" >> {dir}/attempts.jsonl; }}
flock -n 9 || say overlap
say start
sleep {seconds}
say end
"#
        )
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("GREENROOM_KEEP").is_some() {
            eprintln!("the history is kept in {} ({})", self.dir.display(), self.repeat);
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// A call that has begun. One that is dropped has an unknown outcome.
pub struct Call<'a> {
    history: &'a History,
    number: u64,
}

impl Call<'_> {
    /// It ended; `answer` is what the client may rely on from now on.
    pub fn end(self, outcome: Outcome, status: Option<u16>, answer: &Value) {
        let told =
            json!({"call": self.number, "outcome": outcome.word(), "status": status, "answer": answer});
        line(&self.history.calls, told);
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("a file of the history")
}

fn line(file: &Mutex<File>, mut what: Value) {
    what["at"] = now().into();
    let text = format!("{what}\n");
    file.lock().expect("nobody panics here").write_all(text.as_bytes()).expect("a line of the history");
}

/// Nanoseconds since 1970, as `date +%s%N` has them.
fn now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970");
    u64::try_from(time.as_nanos()).expect("before 2554")
}

/// A check of the check: two attempts of one job at the same time are seen, two after each other are none.
#[test]
fn the_history_sees_overlaps() {
    let history = History::of(&Run::of("G3"), "overlaps");
    let attempt = |build: &str, seconds: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &history.script(seconds)]).env("JOB", "1").env("BUILD", build).env("MASTER", "one");
        shell.spawn().expect("sh runs")
    };
    let said = |what: &str| {
        let text = std::fs::read_to_string(history.dir().join("attempts.jsonl")).unwrap_or_default();
        text.matches(&format!("\"{what}\"")).count()
    };
    attempt("1", "0").wait().expect("it ends");
    let mut first = attempt("2", "1");
    patience(Duration::from_secs(20), "the second attempt", || (said("start") == 2).then_some(()));
    assert_eq!(said("overlap"), 0, "one after the other");
    attempt("3", "0").wait().expect("it ends");
    first.wait().expect("it ends");
    assert_eq!((said("overlap"), said("end")), (1, 3), "at the same time");
}
