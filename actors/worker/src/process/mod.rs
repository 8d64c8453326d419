//! Runs one program: its pipes, its limits, its end.

mod environ;
mod group;
mod kill;
mod lines;
mod logfiles;

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use greenroom_protocol::{LogText, Logfile, Source, UpdateItem};
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

pub(crate) use environ::{Changes, changes, first_invalid, own, own_all, whole};
use group::Group;
pub(crate) use group::{Groups, signal_by_name};
use kill::{Killer, Next};
use lines::LineBuffer;
pub(crate) use lines::{MAX_LINE, Taken};
use logfiles::Follower;

use crate::outbox::Gone;
use crate::report::{Report, unix_now};

/// Time between two looks at followed files.
const POLL_LOGFILES: Duration = Duration::from_secs(1);
/// A moment that never comes, for a timer with nothing to wait for.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// What to run and within which limits.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) workdir: PathBuf,
    /// Program and arguments; not empty.
    pub(crate) argv: Vec<String>,
    /// The command as a user would type it.
    pub(crate) display: String,
    pub(crate) env: Changes,
    pub(crate) want_stdout: bool,
    pub(crate) want_stderr: bool,
    pub(crate) logfiles: Vec<(String, Logfile)>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_time: Option<Duration>,
    pub(crate) max_lines: Option<u64>,
    pub(crate) sigterm_time: Option<Duration>,
    pub(crate) interrupt_signal: Signal,
    pub(crate) initial_stdin: Option<String>,
}

/// Tells a command to stop; closed without a message when nobody will.
pub(crate) type Interrupt = oneshot::Receiver<()>;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit status, -1 if a signal killed it.
    pub(crate) rc: i64,
    /// The master asked to stop it.
    pub(crate) interrupted: bool,
    /// It could not be ended; it still runs.
    pub(crate) failure: Option<String>,
}

/// Runs a program to its end. Everything it says is in `report` afterwards, or sent already; the caller adds
/// the `rc`.
pub(crate) async fn run(
    spec: &Spec,
    report: &mut Report,
    interrupt: &mut Interrupt,
    groups: &Groups,
) -> Result<Outcome, Gone> {
    let started = Instant::now();
    let mut followers = Vec::with_capacity(spec.logfiles.len());
    for (name, logfile) in &spec.logfiles {
        followers.push(Follower::new(name, logfile, &spec.workdir, report.is_raw()).await);
    }
    let mut child = match spawn(spec) {
        Ok(child) => child,
        Err(error) => {
            let text = format!("failed to run {}: {}\n", spec.argv[0], reason(&error));
            report.push(UpdateItem::Stderr(LogText::new(text, unix_now())));
            return Ok(Outcome { rc: 1, interrupted: false, failure: None });
        }
    };
    let group = groups.adopt(child.id().unwrap_or_default());
    let raw = report.is_raw();
    let stdout = Stream::new(child.stdout.take(), spec.want_stdout, Source::Stdout, raw);
    let stderr = Stream::new(child.stderr.take(), spec.want_stderr, Source::Stderr, raw);
    let killer = Killer::new(spec.interrupt_signal, spec.sigterm_time);
    let poll_at = if followers.is_empty() { None } else { Some(started + POLL_LOGFILES) };
    let run = Run {
        spec,
        report,
        group,
        killer,
        stdout,
        stderr,
        followers,
        started,
        last_output: started,
        poll_at,
        interrupted: false,
    };
    drive(run, child, interrupt).await
}

fn spawn(spec: &Spec) -> std::io::Result<Child> {
    let mut command = Command::new(&spec.argv[0]);
    command.args(&spec.argv[1..]).current_dir(&spec.workdir).process_group(0);
    for (name, value) in &spec.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(if spec.initial_stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn()
}

/// The text of a system error without its number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// One of the program's output streams.
struct Stream<R> {
    pipe: Option<R>,
    wanted: bool,
    lines: LineBuffer,
    source: Source,
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn new(pipe: Option<R>, wanted: bool, source: Source, raw: bool) -> Self {
        Self { pipe, wanted, lines: LineBuffer::new(raw), source }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Reads once; 0 at the end, which a broken pipe counts as. Loses nothing if given up.
    async fn read(&mut self) -> usize {
        match &mut self.pipe {
            Some(pipe) => pipe.read_buf(self.lines.room()).await.unwrap_or(0),
            None => 0,
        }
    }

    /// Takes note of what [`Stream::read`] returned. False at the end of the stream.
    fn filled(&mut self, read: usize) -> bool {
        if read == 0 {
            self.pipe = None;
            return false;
        }
        if self.wanted {
            self.lines.filled(unix_now());
        } else {
            self.lines.clear();
        }
        true
    }

    fn settle(&mut self, report: &mut Report) {
        if let Some(taken) = self.lines.take_ready() {
            report.output(&self.source, taken);
        }
    }

    fn finish(&mut self, report: &mut Report) {
        if let Some(taken) = self.lines.take_rest() {
            report.output(&self.source, taken);
        }
        report.ended(&self.source);
    }
}

/// A running program.
struct Run<'a> {
    spec: &'a Spec,
    report: &'a mut Report,
    group: Group,
    killer: Killer,
    stdout: Stream<tokio::process::ChildStdout>,
    stderr: Stream<tokio::process::ChildStderr>,
    followers: Vec<Follower>,
    started: Instant,
    last_output: Instant,
    poll_at: Option<Instant>,
    interrupted: bool,
}

/// Why the loop went round.
enum Event {
    Interrupt(bool),
    Room(crate::outbox::Slot),
    Stdout(usize),
    Stderr(usize),
    Exit(std::io::Result<ExitStatus>),
    StdinDone,
    Timer,
}

/// Waits for whatever comes first until the program has ended. Given up, it kills the group.
async fn drive(run: Run<'_>, child: Child, interrupt: &mut Interrupt) -> Result<Outcome, Gone> {
    let mut child = child;
    // Declared after the child so that it is dropped before it: the group is killed while the leader is not
    // reaped yet.
    let mut run = run;
    let stdin = child.stdin.take().zip(run.spec.initial_stdin.as_ref());
    let mut feeding = stdin.is_some();
    let feed = async move {
        if let Some((mut pipe, text)) = stdin {
            // A program that does not read its input is no fault.
            let _ = pipe.write_all(text.as_bytes()).await;
        }
    };
    tokio::pin!(feed);
    let timer = tokio::time::sleep(NEVER);
    tokio::pin!(timer);
    let mut listening = true;
    loop {
        let buffered = run.stdout.lines.ready() + run.stderr.lines.ready();
        let due = run.report.is_due(buffered);
        let draining = run.stdout.is_open() || run.stderr.is_open();
        run.set_timer(timer.as_mut(), due);
        let event = tokio::select! {
            stop = &mut *interrupt, if listening => Event::Interrupt(stop.is_ok()),
            slot = run.report.reserve(buffered), if due => Event::Room(slot?),
            read = run.stdout.read(), if run.stdout.is_open() && !due => Event::Stdout(read),
            read = run.stderr.read(), if run.stderr.is_open() && !due => Event::Stderr(read),
            // Not reaped before the pipes end: until then its group's number stays ours.
            status = child.wait(), if !draining => Event::Exit(status),
            () = &mut feed, if feeding => Event::StdinDone,
            () = timer.as_mut() => Event::Timer,
        };
        match event {
            Event::Interrupt(stop) => {
                listening = false;
                if stop {
                    run.interrupted = true;
                    run.stop("command interrupted");
                }
            }
            Event::Room(slot) => run.send(slot)?,
            Event::Stdout(read) => run.read_stdout(read),
            Event::Stderr(read) => run.read_stderr(read),
            Event::Exit(status) => return run.end(status).await,
            Event::StdinDone => feeding = false,
            Event::Timer => {
                if let Some(outcome) = run.on_timer(&mut child).await? {
                    return Ok(outcome);
                }
            }
        }
    }
}

impl Run<'_> {
    fn set_timer(&self, timer: std::pin::Pin<&mut Sleep>, due: bool) {
        // While output waits for the master, the program is silent by our doing.
        let limits = [
            self.silence_deadline().filter(|_| !due),
            self.time_deadline(),
            self.killer.deadline(),
            self.poll_at.filter(|_| !due),
            self.report.flush_at().filter(|_| !due),
        ];
        let next = limits.into_iter().flatten().min().unwrap_or(self.started + NEVER);
        if timer.deadline() != next {
            timer.reset(next);
        }
    }

    fn silence_deadline(&self) -> Option<Instant> {
        self.spec.timeout.filter(|_| !self.killer.has_begun()).map(|timeout| self.last_output + timeout)
    }

    fn time_deadline(&self) -> Option<Instant> {
        self.spec.max_time.filter(|_| !self.killer.has_begun()).map(|time| self.started + time)
    }

    fn read_stdout(&mut self, read: usize) {
        if self.stdout.filled(read) {
            self.stderr.settle(self.report);
            self.after_read();
        }
    }

    fn read_stderr(&mut self, read: usize) {
        if self.stderr.filled(read) {
            self.stdout.settle(self.report);
            self.after_read();
        }
    }

    fn after_read(&mut self) {
        self.last_output = Instant::now();
        if self.stdout.lines.ready() + self.stderr.lines.ready() > 0 {
            self.report.touch();
        }
        let Some(allowed) = self.spec.max_lines else { return };
        self.settle();
        let written = self.stdout.lines.lines() + self.stderr.lines.lines();
        if written > allowed && !self.killer.has_begun() {
            self.report.push(UpdateItem::FailureReason("max_lines_failure".to_owned()));
            self.stop(&format!("command exceeds max lines: {written}/{allowed} written/allowed"));
        }
    }

    fn settle(&mut self) {
        self.stdout.settle(self.report);
        self.stderr.settle(self.report);
    }

    fn send(&mut self, slot: crate::outbox::Slot) -> Result<(), Gone> {
        self.settle();
        self.last_output = Instant::now().max(self.last_output);
        self.report.send(slot)
    }

    fn stop(&mut self, why: &str) {
        if !self.killer.has_begun() {
            self.settle();
            self.report.header(&format!("\n{why}, attempting to kill\n"));
            self.killer.begin(&self.group);
        }
    }

    fn limit(&mut self, failure: &str, why: &str) {
        self.settle();
        self.report.push(UpdateItem::FailureReason(failure.to_owned()));
        self.stop(&format!("command timed out: {why} running {}", self.spec.display));
    }

    async fn on_timer(&mut self, child: &mut Child) -> Result<Option<Outcome>, Gone> {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.killer.deadline()) {
            match self.killer.advance(&self.group) {
                Next::Wait => {}
                Next::Escalated(signal) => {
                    self.settle();
                    self.report
                        .header(&format!("{} failed to kill process, using SIGKILL\n", signal.as_str()));
                }
                Next::GiveUp => return self.give_up(child).await.map(Some),
            }
        } else if due(self.time_deadline()) {
            let seconds = self.spec.max_time.unwrap_or_default().as_secs_f64();
            self.limit("timeout", &format!("{seconds} seconds elapsed"));
        } else if due(self.silence_deadline()) {
            let seconds = self.spec.timeout.unwrap_or_default().as_secs_f64();
            self.limit("timeout_without_output", &format!("{seconds} seconds without output"));
        } else if due(self.poll_at) {
            self.poll_logfiles().await?;
            self.poll_at = Some(Instant::now() + POLL_LOGFILES);
        }
        Ok(None)
    }

    async fn poll_logfiles(&mut self) -> Result<(), Gone> {
        for index in 0..self.followers.len() {
            while let Some(taken) = self.followers[index].poll().await {
                self.last_output = Instant::now();
                self.settle();
                self.report.output(&self.followers[index].source, taken);
                if self.report.is_due(0) {
                    self.report.flush().await?;
                }
            }
        }
        Ok(())
    }

    /// The pipes are still open some time after SIGKILL.
    async fn give_up(&mut self, child: &mut Child) -> Result<Outcome, Gone> {
        if let Ok(Some(status)) = child.try_wait() {
            // Someone outside the group holds the pipes; the program itself is gone.
            return self.end(Ok(status)).await;
        }
        self.report_rest().await?;
        self.report.header("SIGKILL failed to kill process\nusing fake rc=-1\n");
        let failure = Some("the process could not be killed".to_owned());
        Ok(Outcome { rc: -1, interrupted: self.interrupted, failure })
    }

    async fn end(&mut self, status: std::io::Result<ExitStatus>) -> Result<Outcome, Gone> {
        self.group.release();
        self.report_rest().await?;
        let (rc, failure) = match status {
            Ok(status) => (self.exit_code(status), None),
            Err(error) => (-1, Some(format!("failed to wait for the process: {}", reason(&error)))),
        };
        Ok(Outcome { rc, interrupted: self.interrupted, failure })
    }

    async fn report_rest(&mut self) -> Result<(), Gone> {
        self.stdout.finish(self.report);
        self.stderr.finish(self.report);
        self.poll_logfiles().await?;
        for follower in &mut self.followers {
            if let Some(taken) = follower.rest() {
                self.report.output(&follower.source, taken);
            }
            self.report.ended(&follower.source);
        }
        Ok(())
    }

    fn exit_code(&mut self, status: ExitStatus) -> i64 {
        use std::os::unix::process::ExitStatusExt;
        match status.signal() {
            Some(signal) => {
                self.report.header(&format!("process killed by signal {signal}\n"));
                -1
            }
            None => i64::from(status.code().unwrap_or(-1)),
        }
    }
}
