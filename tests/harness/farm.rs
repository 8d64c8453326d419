//! A farm: a master with its configuration, its data and its port, that can be killed and started again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::process::{self, Process};
use super::rest::Rest;
use super::wait::patience;

/// The program under test. `GREENROOM_BINARY` names another one: a copy that no build replaces while a long run goes on.
pub fn binary() -> Command {
    let given = std::env::var_os("GREENROOM_BINARY");
    Command::new(given.unwrap_or_else(|| env!("CARGO_BIN_EXE_greenroom").into()))
}

/// A port that nobody listens on, below those that the kernel gives to clients: so it stays free while its master is dead.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 8_000).expect("small");
    for _ in 0..2_000 {
        let port = 20_000 + (first + NEXT.fetch_add(7, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// What a farm is made of, before it runs.
pub struct Plan {
    config: String,
    data_dir: Option<PathBuf>,
}

impl Plan {
    /// With this configuration; the sections `master` and `www` are written by the farm.
    pub fn new(config: &str) -> Self {
        Self { config: config.to_owned(), data_dir: None }
    }

    /// Keeps its data there.
    pub fn data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = Some(dir.to_owned());
        self
    }

    /// Lays it out; nothing runs yet.
    pub fn lay_out(self) -> Farm {
        let dir = tempfile::Builder::new().prefix("greenroom-").tempdir().expect("a directory");
        let port = free_port();
        let data = self.data_dir.unwrap_or_else(|| dir.path().join("data"));
        let head = format!(
            "[master]\ndata-dir = {:?}\n[www]\nlisten = \"127.0.0.1:{port}\"\nchange-hooks = [\"base\"]\n",
            data.display().to_string()
        );
        std::fs::write(dir.path().join("farm.toml"), head + &self.config)
            .expect("the configuration is written");
        Farm { rest: Rest::new(port), master: None, dir, data, port, env: Vec::new() }
    }
}

/// A master and what belongs to it. Everything is killed and removed when it is dropped.
pub struct Farm {
    rest: Rest,
    master: Option<Process>,
    dir: tempfile::TempDir,
    data: PathBuf,
    port: u16,
    env: Vec<(String, String)>,
}

impl Farm {
    /// Starts a farm with this configuration.
    #[track_caller]
    pub fn raise(config: &str) -> Self {
        let mut farm = Plan::new(config).lay_out();
        farm.start();
        farm
    }

    /// Adds to the configuration; the master reads it when it starts.
    pub fn add_config(&self, more: &str) {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().append(true).open(self.path("farm.toml"));
        file.expect("the configuration").write_all(more.as_bytes()).expect("the configuration is written");
    }

    /// How its master is started.
    pub fn command(&self) -> Command {
        let mut command = binary();
        command.args(["master", "--config"]).arg(self.path("farm.toml"));
        command.env("GREENROOM_REHEARSE", self.rehearsal()).env("RUST_BACKTRACE", "1");
        command
            .env("STORY_OF_GREENROOM", self.mark())
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Its master is started with this in its environment from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    fn rehearsal(&self) -> PathBuf {
        self.path("rehearsal")
    }

    /// Starts the master and waits until it serves.
    #[track_caller]
    pub fn start(&mut self) {
        self.launch();
        self.await_serving();
    }

    /// Starts the master without waiting.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.master.is_none(), "the master runs already");
        let process = Process::start(&mut self.command(), &self.path("master.log"));
        self.master = Some(process);
    }

    /// Waits until the master serves.
    #[track_caller]
    pub fn await_serving(&mut self) {
        let rest = self.rest.clone();
        let master = self.master.as_mut().expect("a master");
        patience(Duration::from_secs(20), "a master that serves", || {
            if let Some(status) = master.ended() {
                panic!("the master ended ({status}): {}", master.output());
            }
            rest.try_get("/health").ok().filter(|answer| answer.status == 200)
        });
    }

    /// Kills the master as by power loss.
    pub fn kill_master(&mut self) {
        if let Some(mut master) = self.master.take() {
            master.kill();
        }
    }

    /// Sends the master a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.master.as_ref().expect("a master").signal(signal);
    }

    /// Waits for the master's end.
    #[track_caller]
    pub fn ended_within(&mut self, time: Duration) -> ExitStatus {
        let status = self.master.as_mut().expect("a master").end_within(time);
        self.master = None;
        status
    }

    /// The running master.
    pub fn master(&mut self) -> &mut Process {
        self.master.as_mut().expect("a master")
    }

    /// The process id of the running master.
    pub fn pid(&self) -> i32 {
        self.master.as_ref().expect("a master").pid()
    }

    /// What all its masters have said.
    pub fn master_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("master.log")).unwrap_or_default()).into_owned()
    }

    /// Panics the actor of this name in the running master.
    pub fn panic_actor(&self, name: &str) {
        self.rehearse(&format!("panic {name}"));
    }

    /// Has the running master carry out a line of trouble, such as `hang NAME`.
    pub fn rehearse(&self, line: &str) {
        use std::io::Write;
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(self.rehearsal()).expect("the script");
        writeln!(file, "{line}").expect("a line");
    }

    /// The port of page, API and workers.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// REST of its master.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Something in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where its master keeps its data.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// What all its processes carry in their environment.
    pub fn mark(&self) -> String {
        self.dir.path().display().to_string()
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.kill_master();
        process::sweep(&format!("STORY_OF_GREENROOM={}", self.mark()));
        if std::thread::panicking() {
            self.print_logs();
        }
    }
}

impl Farm {
    /// The ends of all logs, for the message of a failure.
    fn print_logs(&self) {
        let files = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten().map(|it| it.path());
        for path in files.filter(|it| it.extension().is_some_and(|it| it == "log")) {
            let log = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            eprintln!("--- the end of {} ---", path.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
