//! Real servers, a fresh one a test: `scripts/buses` starts them on loopback with a directory of their own.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running server, stopped hard when it is dropped.
pub struct Server {
    kind: &'static str,
    dir: tempfile::TempDir,
    /// Where it is reached.
    pub url: String,
}

fn scripts() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = root.ancestors().map(|dir| dir.join("scripts/buses")).find(|file| file.is_file());
    found.expect("scripts/buses above this crate")
}

fn run(verb: &str, kind: &str, dir: &Path) -> String {
    let output = Command::new(scripts()).args([verb, kind]).arg(dir).output().expect("scripts/buses");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "scripts/buses {verb} {kind}: {said}");
    String::from_utf8(output.stdout).expect("a url").trim().to_owned()
}

impl Server {
    pub fn start(kind: &'static str) -> Self {
        // PostgreSQL runs as a user of its own, who must get in.
        let open = std::fs::Permissions::from_mode(0o711);
        let dir = tempfile::Builder::new().permissions(open).tempdir().expect("a directory");
        let url = run("start", kind, dir.path());
        Self { kind, dir, url }
    }

    /// As by power loss.
    pub fn stop(&self) {
        run("stop", self.kind, self.dir.path());
    }

    /// Again, at the same place.
    pub fn again(&self) {
        assert_eq!(run("start", self.kind, self.dir.path()), self.url);
    }

    /// `host:port` of the url.
    pub fn address(&self) -> &str {
        let rest = self.url.split_once("://").expect("a url").1;
        let rest = rest.rsplit_once('@').map_or(rest, |it| it.1);
        rest.split('/').next().expect("an address")
    }

    /// The url with another address.
    pub fn url_at(&self, address: &str) -> String {
        self.url.replacen(self.address(), address, 1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(scripts()).args(["stop", self.kind]).arg(self.dir.path()).output();
    }
}
