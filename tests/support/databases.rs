//! Real database servers, by `scripts/databases`. What is missing fails loudly.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn run(args: &[&str]) -> String {
    run_with(args, &[])
}

fn run_with(args: &[&str], settings: &[(&str, &str)]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.ancestors().map(|dir| dir.join("scripts/databases")).find(|file| file.is_file());
    let script = script.expect("scripts/databases above this crate");
    let answer = Command::new(&script).args(args).envs(settings.iter().copied()).output();
    let answer = answer.unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(answer.status.success(), "scripts/databases {args:?}: {said}");
    String::from_utf8_lossy(&answer.stdout).trim().to_owned()
}

/// The url of a new, empty database on the shared server of this kind (`postgres`, `mariadb`).
pub fn fresh(kind: &str) -> String {
    run(&["fresh", kind])
}

/// Host and port of a url.
pub fn address(url: &str) -> &str {
    let rest = url.split_once('@').expect("a user in the url").1;
    rest.split('/').next().expect("a host")
}

/// The same database through another address.
pub fn through(url: &str, other: std::net::SocketAddr) -> String {
    url.replacen(address(url), &other.to_string(), 1)
}

/// A server of its own, which a test may stop and start. Stopped and removed when dropped.
pub struct Server {
    kind: &'static str,
    dir: PathBuf,
    /// Where its database is.
    pub url: String,
    runs: bool,
}

impl Server {
    /// A new server.
    pub fn start(kind: &'static str) -> Self {
        let dir = Self::place(kind);
        let url = run(&["start", kind, &dir.display().to_string()]);
        Self { kind, dir, url, runs: true }
    }

    /// A new server that can have replicas.
    pub fn start_primary(kind: &'static str) -> Self {
        let dir = Self::place(kind);
        let url = run_with(&["start", kind, &dir.display().to_string()], &[("REPLICATED", "1")]);
        Self { kind, dir, url, runs: true }
    }

    /// A new replica of this server, so many seconds behind it.
    pub fn replica(&self, seconds: u32) -> Self {
        let (kind, dir) = (self.kind, Self::place(self.kind));
        let (own, of) = (dir.display().to_string(), self.dir.display().to_string());
        let url = run(&["replica", kind, &own, &of, &seconds.to_string()]);
        Self { kind, dir, url, runs: true }
    }

    /// Not below a private directory: the server runs as another user.
    fn place(kind: &str) -> PathBuf {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        PathBuf::from(format!("/var/tmp/greenroom-{kind}-{}-{number}", std::process::id()))
    }

    /// Stops it as by power loss.
    pub fn stop(&mut self) {
        run(&["stop", self.kind, &self.dir.display().to_string()]);
        self.runs = false;
    }

    /// Starts it again.
    pub fn resume(&mut self) {
        run(&["start", self.kind, &self.dir.display().to_string()]);
        self.runs = true;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.runs {
            self.stop();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        let _ = std::fs::remove_file(format!("{}.lock", self.dir.display()));
    }
}
