//! A real object store, a fresh one a test: `scripts/s3` starts it on loopback over a directory of its own.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The bucket that is there, and both parts of its key.
pub const BUCKET: &str = "logs";
pub const KEY: &str = "S3RVER";

/// A running server, stopped hard when it is dropped.
pub struct ObjectServer {
    dir: tempfile::TempDir,
    /// Where it is reached.
    pub endpoint: String,
}

fn scripts() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = root.ancestors().map(|dir| dir.join("scripts/s3")).find(|file| file.is_file());
    found.expect("scripts/s3 above this crate")
}

fn run(verb: &str, dir: &Path) -> String {
    let output = Command::new(scripts()).arg(verb).arg(dir).output().expect("scripts/s3");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "scripts/s3 {verb}: {said}");
    String::from_utf8(output.stdout).expect("an endpoint").trim().to_owned()
}

impl ObjectServer {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let endpoint = run("start", dir.path());
        Self { dir, endpoint }
    }

    /// As by power loss.
    pub fn stop(&self) {
        run("stop", self.dir.path());
    }

    /// Again, at the same place.
    pub fn again(&self) {
        assert_eq!(run("start", self.dir.path()), self.endpoint);
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// The files that it keeps, each with its size.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        files(&self.dir.path().join("data"))
    }
}

/// The files below a directory, each with its size.
pub fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.map_while(Result::ok) {
        match entry.metadata() {
            Ok(it) if it.is_dir() => found.extend(files(&entry.path())),
            Ok(it) => found.push((entry.path(), it.len())),
            Err(_) => {}
        }
    }
    found
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        let _ = Command::new(scripts()).arg("stop").arg(self.dir.path()).output();
    }
}
