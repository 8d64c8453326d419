//! Workers of `kind = "local"`: our agent, a process of its own that the master starts and supervises.
//!
//! One actor a worker. Its birth starts the process; the process' end is the birth's end, and the supervisor's backoff
//! decides when the next one comes. The agent ends when its standard input does, so it never outlives the master.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use actix::prelude::*;
use greenroom_config::values::Secret;
use greenroom_runtime::{Birth, Supervised, TaskEnd, Tasks, fail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::json;
use tokio::process::{Child, ChildStdin, Command};

/// How long an agent may take to end by itself when its standard input is closed; then its group is killed.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// What a local worker gets of the master's environment, besides `LC_*`.
const PASSED_ON: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "SSH_AUTH_SOCK"];

/// How to start one local worker.
#[derive(Clone)]
pub(crate) struct LocalSpec {
    pub(crate) name: String,
    pub(crate) password: Secret,
    program: PathBuf,
    dir: PathBuf,
    password_file: PathBuf,
}

/// Makes the directory and the password's file, which only this user may read.
pub(crate) fn prepare(
    name: &str,
    program: PathBuf,
    dir: PathBuf,
    data_dir: &Path,
    password: String,
) -> Result<LocalSpec, (PathBuf, io::Error)> {
    fs::create_dir_all(&dir).map_err(|error| (dir.clone(), error))?;
    let secrets = data_dir.join("worker-passwords");
    fs::create_dir_all(&secrets).map_err(|error| (secrets.clone(), error))?;
    let password_file = secrets.join(name);
    write_secret(&password_file, &password).map_err(|error| (password_file.clone(), error))?;
    Ok(LocalSpec { name: name.to_owned(), password: Secret::new(password), program, dir, password_file })
}

fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    // A file that exists keeps its mode, whatever that is: so it is made anew.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())
}

/// Whether a local worker gets this variable of the master's environment.
fn is_passed_on(name: &OsStr) -> bool {
    PASSED_ON.iter().any(|passed| name == *passed) || name.as_bytes().starts_with(b"LC_")
}

/// The process of a local worker has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct ProcessEnded(TaskEnd<io::Result<ExitStatus>>);

/// See the module.
pub(crate) struct LocalWorker {
    spec: LocalSpec,
    master: String,
    tasks: Tasks<LocalWorker>,
    stdin: Option<ChildStdin>,
    group: Option<Pid>,
    is_stopping: bool,
}

impl LocalWorker {
    pub(crate) fn new(birth: &Birth<Self>, spec: LocalSpec, master: String) -> Self {
        Self { spec, master, tasks: birth.tasks(), stdin: None, group: None, is_stopping: false }
    }

    fn start_process(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.spec.program);
        command
            // Builds see the agent's environment, and the master's may hold secrets.
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)))
            .arg("worker")
            .args(["--master", &self.master])
            .args(["--name", &self.spec.name])
            .arg("--password-file")
            .arg(&self.spec.password_file)
            .arg("--dir")
            .arg(&self.spec.dir)
            .arg("--end-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Its own words go where ours go.
            .stderr(Stdio::inherit())
            // A Ctrl-C in the terminal is for the master, which ends it in order.
            .process_group(0)
            .kill_on_drop(true);
        command.spawn()
    }

    /// Kills whatever is left of the process group.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            // A group that is gone already is what is wanted.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Supervised for LocalWorker {
    const KIND: &'static str = "local-worker";

    fn observe(&self) -> serde_json::Value {
        json!({ "worker": self.spec.name, "pid": self.group.map(Pid::as_raw), "stopping": self.is_stopping })
    }

    fn drain(&mut self, _: &mut Context<Self>) {
        self.is_stopping = true;
        self.stdin = None;
    }
}

impl Actor for LocalWorker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let mut child = match self.start_process() {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(worker.name = %self.spec.name, program = %self.spec.program.display(), %error,
                    "cannot start a local worker");
                return fail(ctx, format_args!("cannot start {}: {error}", self.spec.program.display()));
            }
        };
        self.group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        self.stdin = child.stdin.take();
        tracing::info!(worker.name = %self.spec.name, process.id = child.id(), "started a local worker");
        self.tasks.spawn(async move { child.wait().await }, ProcessEnded);
    }

    fn stopping(&mut self, ctx: &mut Context<Self>) -> Running {
        if self.is_stopping && self.group.is_some() {
            ctx.run_later(GRACE, |act, ctx| {
                tracing::warn!(worker.name = %act.spec.name, "a local worker did not end by itself; it is killed");
                act.kill_group();
                ctx.stop();
            });
            return Running::Continue;
        }
        Running::Stop
    }
}

impl Handler<ProcessEnded> for LocalWorker {
    type Result = ();

    fn handle(&mut self, ProcessEnded(end): ProcessEnded, ctx: &mut Context<Self>) {
        // The process is reaped: its number may be another's by now, so the group is left alone.
        self.group = None;
        if self.is_stopping {
            return ctx.stop();
        }
        let how = match end {
            TaskEnd::Done(Ok(status)) => status.to_string(),
            TaskEnd::Done(Err(error)) => error.to_string(),
            TaskEnd::Panicked(why) => why,
        };
        tracing::warn!(worker.name = %self.spec.name, %how, "a local worker ended; it is started again");
        fail(ctx, format_args!("the process ended: {how}"));
    }
}

impl Drop for LocalWorker {
    /// However the birth ends, its process does not go on: a new birth starts a new one.
    fn drop(&mut self) {
        self.kill_group();
    }
}
