//! Real database servers, by `scripts/databases`. What is missing fails loudly.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn run(args: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.ancestors().map(|dir| dir.join("scripts/databases")).find(|file| file.is_file());
    let script = script.expect("scripts/databases above this crate");
    let answer =
        Command::new(&script).args(args).output().unwrap_or_else(|e| panic!("{}: {e}", script.display()));
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
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Not below a private directory: the server runs as another user.
        let dir = PathBuf::from(format!("/var/tmp/greenroom-{kind}-{}-{number}", std::process::id()));
        let url = run(&["start", kind, &dir.display().to_string()]);
        Self { kind, dir, url, runs: true }
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
