//! A child process that does not outlive its story.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::patience;

/// A process with its output in a file. Killed when dropped.
pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts it; both its outputs are appended to the file `output`.
    #[track_caller]
    pub fn start(command: &mut Command, output: &Path) -> Self {
        let open = || -> File {
            OpenOptions::new().create(true).append(true).open(output).expect("a file for the output")
        };
        let child = command.stdin(Stdio::null()).stdout(open()).stderr(open()).spawn();
        let child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child, output: output.to_owned() }
    }

    /// Everything that it and its predecessors with the same file have printed.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap_or_else(|e| panic!("{signal}: {e}"));
    }

    /// Kills it, as by power loss, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end_within(&mut self, time: Duration) -> ExitStatus {
        patience(time, "the end of a process", || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills every process that carries `mark` in its environment: commands whose worker was killed.
pub fn sweep(mark: &str) {
    for pid in carrying(mark) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The live processes, other than this one, that carry `mark` in their environment.
pub fn carrying(mark: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).ok();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| Some(*pid) != own)
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| all.windows(mark.len()).any(|part| part == mark.as_bytes()))
        })
        .collect()
}
