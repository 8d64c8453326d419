//! A disk that is full: writes are refused, nothing is corrupt, and it goes on by itself when there is space.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::bad_input::sqlite;
use crate::harness::{Plan, patience};

/// A small file system of its own.
struct Disk(PathBuf);

impl Disk {
    #[track_caller]
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).expect("a directory");
        run("mount", &["-t", "tmpfs", "-o", "size=6m", "greenroom-test", &at.display().to_string()]);
        Self(at.to_owned())
    }

    /// Takes all space that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("ballast")).expect("a file");
        for size in [65_536, 4_096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn relieve(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("the ballast is removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[track_caller]
fn run(program: &str, args: &[&str]) {
    let answer = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        answer.status.success(),
        "{program} {args:?}: {}\nThis test mounts a small file system. Run it as root: sudo make test",
        String::from_utf8_lossy(&answer.stderr)
    );
}

#[test]
fn a_full_disk_refuses_writes_and_goes_on_by_itself() {
    let place = tempfile::Builder::new().prefix("greenroom-disk-").tempdir().expect("a directory");
    let disk = Disk::mount(place.path());
    let mut farm = Plan::new("").data_dir(place.path()).lay_out();
    farm.start();
    let push = |revision: usize| {
        let body = json!({"author": "Ada", "revision": revision.to_string(), "comments": "x".repeat(20_000)});
        let headers = [("content-type", "application/json")];
        farm.rest()
            .try_post("/change_hook/base", &headers, body.to_string().as_bytes())
            .expect("an answer")
            .status
    };
    let total = || farm.rest().get("changes")["meta"]["total"].as_u64().expect("a number");

    assert_eq!(push(0), 200);
    disk.fill();
    // What the database has already reserved may still be used; then it is over.
    let mut accepted = 1;
    let refusal = (1..500).find_map(|revision| match push(revision) {
        200 => {
            accepted += 1;
            None
        }
        status => Some((revision, status)),
    });
    let (next, status) = refusal.expect("a full disk refuses");
    assert!([503, 507].contains(&status), "refused as {status}");
    for revision in next + 1..next + 4 {
        assert!([503, 507].contains(&push(revision)), "still refused");
    }
    assert_eq!(total(), accepted, "what was acknowledged is there, and reading goes on");

    disk.relieve();
    patience(Duration::from_secs(10), "an accepted write", || (push(1_000) == 200).then_some(()));
    let after = total();
    assert!(after > accepted, "{after} after {accepted}");
    farm.kill_master();
    assert_eq!(sqlite(&farm.data_dir().join("greenroom.db"), "PRAGMA integrity_check"), "ok");
    farm.start();
    assert_eq!(farm.rest().get("changes")["meta"]["total"], after, "and all of it survives the master");
}
