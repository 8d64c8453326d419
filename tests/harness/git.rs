//! A real bare repository, and somebody who works in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::farm::Farm;

/// A bare repository with a clone to push from.
pub struct Repository {
    bare: PathBuf,
    clone: PathBuf,
}

impl Repository {
    /// With one commit on `main`.
    pub fn new(farm: &Farm) -> Self {
        Self::at(&farm.path("repository"))
    }

    pub fn at(dir: &Path) -> Self {
        let this = Self { bare: dir.join("bare.git"), clone: dir.join("clone") };
        std::fs::create_dir_all(&this.clone).expect("a directory");
        this.run(dir, &["init", "--quiet", "--bare", "--initial-branch=main", "bare.git"]);
        this.git(&["init", "--quiet", "--initial-branch=main"]);
        this.git(&["remote", "add", "origin", &this.url()]);
        this.commit("begin");
        this.push("main");
        this
    }

    /// What a configuration says.
    pub fn url(&self) -> String {
        self.bare.display().to_string()
    }

    /// Commits a file of this name and content; gives the revision.
    pub fn commit(&self, name: &str) -> String {
        std::fs::write(self.clone.join(name), name).expect("a file");
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "-m", name]);
        self.head()
    }

    /// The revision that is checked out.
    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Begins a branch at what is checked out.
    pub fn branch(&self, name: &str) {
        self.git(&["checkout", "--quiet", "-b", name]);
    }

    /// Makes the branch forget its last commit.
    pub fn forget_last(&self) {
        self.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    }

    /// Pushes a branch, by force if it must.
    pub fn push(&self, branch: &str) {
        self.git(&["push", "--quiet", "--force", "origin", branch]);
    }

    fn git(&self, args: &[&str]) -> String {
        self.run(&self.clone, args)
    }

    #[track_caller]
    fn run(&self, dir: &Path, args: &[&str]) -> String {
        let answer = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
            .args(args)
            .current_dir(dir)
            .output()
            .expect("git runs");
        assert!(answer.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }
}
