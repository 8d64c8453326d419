//! The stock worker: Buildbot's own, unmodified.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::farm::Farm;
use super::process::Process;

/// The programs of the stock worker's virtual environment.
fn stock_bin() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let answer = Command::new(root.join("scripts/services")).arg("where").output().expect("scripts/services");
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let worker = text.lines().find_map(|line| line.strip_prefix("STOCK_WORKER="));
    let worker = PathBuf::from(worker.unwrap_or_else(|| panic!("scripts/services where says: {text}")));
    assert!(worker.exists(), "{} is missing. Run: scripts/services setup", worker.display());
    worker.parent().expect("a directory").to_owned()
}

/// A running stock worker.
pub struct StockWorker {
    process: Option<Process>,
    dir: PathBuf,
    log: PathBuf,
    mark: String,
}

impl Farm {
    /// Makes and starts a stock worker and waits until the master has it. Its password is `pw`.
    #[track_caller]
    pub fn stock_worker(&self, name: &str) -> StockWorker {
        let worker = self.launch_stock_worker(name, "pw", &format!("stock-{name}"));
        self.await_worker(name);
        worker
    }

    /// Makes and starts a stock worker in a directory of the farm, without waiting.
    #[track_caller]
    pub fn launch_stock_worker(&self, name: &str, password: &str, dir: &str) -> StockWorker {
        let dir = self.path(dir);
        let master = format!("127.0.0.1:{}", self.port());
        let made = Command::new(stock_bin().join("buildbot-worker"))
            .args(["create-worker", "--protocol=msgpack_experimental_v7"])
            .arg(&dir)
            .args([master.as_str(), name, password])
            .output()
            .expect("buildbot-worker runs");
        assert!(made.status.success(), "create-worker: {}", String::from_utf8_lossy(&made.stderr));
        let log = dir.with_extension("log");
        let mut worker = StockWorker { process: None, dir, log, mark: self.mark() };
        worker.start();
        worker
    }
}

impl StockWorker {
    /// Starts it, in the foreground.
    pub fn start(&mut self) {
        let mut command = Command::new(stock_bin().join("twistd"));
        command.args(["--nodaemon", "--no_save", "--pidfile=", "--logfile=-", "--python=buildbot.tac"]);
        command.current_dir(&self.dir).env("STORY_OF_GREENROOM", &self.mark);
        self.process = Some(Process::start(&mut command, &self.log));
    }

    /// Kills it as by power loss: what it runs is orphaned.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// What it has said.
    pub fn log(&self) -> String {
        let file = std::fs::read(self.dir.join("twistd.log")).unwrap_or_default();
        String::from_utf8_lossy(&file).into_owned()
    }

    /// Its base directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
