//! A real git repository, made on the spot: a small C project with several authors and branches, and a committer who
//! goes on working in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The files of the project.
const FILES: &[(&str, &str)] = &[
    ("Makefile", include_str!("project/Makefile")),
    ("src/calc.h", include_str!("project/calc.h")),
    ("src/vector.c", include_str!("project/vector.c")),
    ("src/text.c", include_str!("project/text.c")),
    ("src/stats.c", include_str!("project/stats.c")),
    ("src/main.c", include_str!("project/main.c")),
    ("tests/tests.c", include_str!("project/tests.c")),
    ("README", "calc: sums, words and statistics. The demo's project.\n"),
];

/// Who commits.
const AUTHORS: &[(&str, &str)] =
    &[("Ada", "ada@example.org"), ("Brook", "brook@example.org"), ("Casey", "casey@example.org")];

/// What a commit does to the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// One more check that holds.
    Check,
    /// A check that does not hold.
    Break,
    /// The broken check goes away.
    Mend,
    /// A variable that nobody uses: a warning.
    Sloppy,
    /// The warning goes away.
    Tidy,
}

/// What is done where, over and over.
const PLAN: &[(&str, Work)] = &[
    ("main", Work::Sloppy),
    ("main", Work::Break),
    ("feature/words", Work::Check),
    ("main", Work::Mend),
    ("release/1.0", Work::Check),
    ("main", Work::Tidy),
    ("feature/words", Work::Break),
    ("main", Work::Check),
    ("feature/words", Work::Mend),
    ("main", Work::Check),
];

const BROKEN: &str = "    CHECK(\"the mean of nothing is 1\", stats_mean(values, 0) == 1);\n";
const UNUSED: &str = "    int unused_so_far;\n";

/// The repository and the committer's own clone of it.
pub struct Repository {
    bare: PathBuf,
    clone: PathBuf,
    commits: usize,
}

impl Repository {
    /// Makes it under `dir`, with a first history on every branch.
    pub fn create(dir: &Path) -> Result<Self> {
        let (bare, clone) = (dir.join("calc.git"), dir.join("committer"));
        std::fs::create_dir_all(&clone).with_context(|| format!("failed to create {}", clone.display()))?;
        git(dir, &["init", "--quiet", "--bare", "--initial-branch=main", path(&bare)?])?;
        git(&clone, &["init", "--quiet", "--initial-branch=main"])?;
        git(&clone, &["remote", "add", "origin", path(&bare)?])?;
        for (name, text) in FILES {
            write(&clone.join(name), text)?;
        }
        write(&clone.join(".gitignore"), "build/\ndist/\n")?;
        let mut repository = Self { bare, clone, commits: 0 };
        repository.commit("Begin the project")?;
        git(&repository.clone, &["push", "--quiet", "origin", "main"])?;
        for branch in ["feature/words", "release/1.0"] {
            git(&repository.clone, &["branch", "--quiet", branch])?;
            git(&repository.clone, &["push", "--quiet", "origin", branch])?;
        }
        Ok(repository)
    }

    /// Where it can be fetched from.
    pub fn path(&self) -> &Path {
        &self.bare
    }

    /// Makes the next commit of the plan and pushes it. Tells what was done.
    pub fn work(&mut self) -> Result<String> {
        let (branch, work) = PLAN[(self.commits - 1) % PLAN.len()];
        git(&self.clone, &["checkout", "--quiet", branch])?;
        let message = self.edit(work)?;
        self.commit(&message)?;
        git(&self.clone, &["push", "--quiet", "origin", branch])?;
        Ok(format!("{branch}: {message}"))
    }

    fn edit(&self, work: Work) -> Result<String> {
        let n = self.commits;
        let tests = self.clone.join("tests/tests.c");
        let stats = self.clone.join("src/stats.c");
        let marker = "    /* MORE CHECKS */\n";
        Ok(match work {
            Work::Check => {
                let check =
                    format!("    CHECK(\"{n} words\", text_words(\"{}\") == {n});\n", "word ".repeat(n));
                replace(&tests, marker, &format!("{check}{marker}"))?;
                format!("Check texts of {n} words")
            }
            Work::Break => {
                replace(&tests, marker, &format!("{BROKEN}{marker}"))?;
                "Expect the mean of nothing to be 1".to_owned()
            }
            Work::Mend => {
                replace(&tests, BROKEN, "")?;
                append(&self.clone.join("README"), &format!("The mean of nothing is 0. ({n})\n"))?;
                "The mean of nothing is 0 after all".to_owned()
            }
            Work::Sloppy => {
                replace(&stats, "    double mean =", &format!("{UNUSED}    double mean ="))?;
                "Prepare a faster variance".to_owned()
            }
            Work::Tidy => {
                replace(&stats, UNUSED, "")?;
                append(&self.clone.join("README"), &format!("Tidied. ({n})\n"))?;
                "Tidy the variance".to_owned()
            }
        })
    }

    fn commit(&mut self, message: &str) -> Result<()> {
        let (name, email) = AUTHORS[self.commits % AUTHORS.len()];
        let author = format!("{name} <{email}>");
        git(&self.clone, &["add", "--all"])?;
        git(
            &self.clone,
            &[
                "-c",
                &format!("user.name={name}"),
                "-c",
                &format!("user.email={email}"),
                "-c",
                "commit.gpgsign=false",
                "commit",
                "--quiet",
                "--allow-empty",
                "--author",
                &author,
                "-m",
                message,
            ],
        )?;
        self.commits += 1;
        Ok(())
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not a path in UTF-8", path.display()))
}

fn git(dir: &Path, args: &[&str]) -> Result<()> {
    let done = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .context("failed to run git")?;
    if !done.status.success() {
        bail!("git {} failed: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    }
    std::fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}

fn replace(file: &Path, from: &str, to: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    write(file, &text.replacen(from, to, 1))
}

fn append(file: &Path, more: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    write(file, &(text + more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committer_can_go_on_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let mut repository = Repository::create(dir.path()).unwrap();
        for _ in 0..3 * PLAN.len() {
            repository.work().unwrap();
        }
        let log = Command::new("git")
            .args(["log", "--oneline", "main"])
            .current_dir(repository.path())
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&log.stdout).lines().count() > PLAN.len());
    }
}
