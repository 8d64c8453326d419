//! What a repository is: where, on which branch, and what it is built with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{make, node, python};

/// The largest file that is looked into, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A git repository, and how to build it.
pub struct Project {
    /// The top of the work tree.
    pub top: PathBuf,
    /// The last part of `top`, with plain characters only.
    pub name: String,
    /// The branch that is checked out, if one is.
    pub branch: Option<String>,
    /// What to clone and to poll: the top, or the URL of the remote that was asked for.
    pub source: String,
    /// The URL of `origin` (or of the only remote), without a password.
    pub remote: Option<String>,
    /// A builder for each way to build it.
    pub recipes: Vec<Recipe>,
    /// Files of the recipes that are not in the last commit.
    pub uncommitted: Vec<&'static str>,
}

/// How to build one kind of project.
pub struct Recipe {
    /// The builder's name.
    pub builder: &'static str,
    /// The file that tells the kind; empty for none.
    pub found: &'static str,
    /// One line for the builder's page.
    pub description: &'static str,
    /// The environment of all steps.
    pub env: &'static [(&'static str, &'static str)],
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is called.
    pub name: String,
    /// What `sh -c` gets.
    pub run: String,
    /// Whether nothing after it makes sense when it fails.
    pub halts: bool,
    /// A regular expression for the lines that are warnings.
    pub warnings: Option<&'static str>,
}

impl Step {
    /// A command after whose failure the others run all the same.
    pub fn new(name: impl Into<String>, run: impl Into<String>) -> Self {
        Self { name: name.into(), run: run.into(), halts: false, warnings: None }
    }

    /// A command that the later ones need.
    pub fn first(name: impl Into<String>, run: impl Into<String>) -> Self {
        Self { halts: true, ..Self::new(name, run) }
    }

    /// Counts lines as warnings.
    pub fn warnings(self, regex: &'static str) -> Self {
        Self { warnings: Some(regex), ..self }
    }
}

/// The files at the top of a repository.
pub struct Files {
    top: PathBuf,
    names: BTreeSet<String>,
}

impl Files {
    /// Whether this file is there.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The text of a file; empty when it is not there, too large or not readable.
    pub fn text(&self, name: &str) -> String {
        let path = self.top.join(name);
        let small = std::fs::metadata(&path).is_ok_and(|it| it.is_file() && it.len() <= MAX_FILE);
        let bytes =
            if small && self.has(name) { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Project {
    /// Looks at the repository around `dir`.
    pub fn find(dir: &Path, remote: Option<&str>) -> Result<Self> {
        let top = match git(dir, &["rev-parse", "--show-toplevel"])? {
            Ok(top) if !top.is_empty() => PathBuf::from(top),
            Ok(_) => bail!("{} is in no work tree of a git repository", dir.display()),
            Err(why) => bail!("{} is in no git repository: `git init` makes one ({why})", dir.display()),
        };
        let names =
            git(&top, &["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ":(glob)*"])?;
        let names = names.map_err(|why| anyhow::anyhow!("failed to list the repository's files: {why}"))?;
        let files = Files { top: top.clone(), names: split(&names) };
        let committed = split(&git(&top, &["ls-tree", "-z", "--name-only", "HEAD"])?.unwrap_or_default());
        let recipes = recipes(&files);
        let uncommitted = recipes
            .iter()
            .map(|it| it.found)
            .filter(|it| !it.is_empty() && !committed.contains(*it))
            .collect();
        let path =
            top.to_str().with_context(|| format!("{} is not a path in UTF-8", top.display()))?.to_owned();
        let source = match remote {
            Some(name) => match git(&top, &["remote", "get-url", name])? {
                Ok(url) => without_password(&url),
                Err(why) => bail!("there is no remote `{name}` ({why})"),
            },
            None => path,
        };
        let branch =
            git(&top, &["symbolic-ref", "--quiet", "--short", "HEAD"])?.ok().filter(|it| !it.is_empty());
        Ok(Project {
            name: plain_name(&top),
            branch,
            source,
            remote: first_remote(&top)?,
            recipes,
            uncommitted,
            top,
        })
    }
}

/// Runs git. The inner error is what git says against it.
fn git(dir: &Path, args: &[&str]) -> Result<std::result::Result<String, String>> {
    let output = Command::new("git").arg("-C").arg(dir).args(args).output();
    let output = output.context("failed to run git: is it installed?")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

fn split(list: &str) -> BTreeSet<String> {
    list.split('\0').filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// The URL of `origin`, or of the first remote.
fn first_remote(top: &Path) -> Result<Option<String>> {
    let remotes = git(top, &["remote"])?.unwrap_or_default();
    let name = remotes.lines().find(|it| *it == "origin").or(remotes.lines().next());
    let Some(name) = name else { return Ok(None) };
    Ok(git(top, &["remote", "get-url", name])?.ok().map(|url| without_password(&url)))
}

/// A URL as it may be written down: `https://ann:secret@host/` without the secret.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            let at = if user.is_empty() { "" } else { "@" };
            format!("{scheme}://{user}{at}{host}{path}")
        }
        None => url.to_owned(),
    }
}

fn plain_name(top: &Path) -> String {
    let name = top.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String = name
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() || "._-".contains(it) { it } else { '-' })
        .collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "repository".to_owned() } else { name.to_owned() }
}

/// A recipe for each kind that is found; one that only shows the last commit when none is.
fn recipes(files: &Files) -> Vec<Recipe> {
    let mut found: Vec<Recipe> = [
        cargo(files),
        node::recipe(files),
        python::recipe(files),
        go(files),
        cmake(files),
        make::recipe(files),
    ]
    .into_iter()
    .flatten()
    .collect();
    if found.is_empty() {
        found.push(Recipe {
            builder: "hello",
            found: "",
            description: "Shows the last commit",
            env: &[],
            steps: vec![Step::new("show", "git log -1 --stat")],
        });
    }
    found
}

fn cargo(files: &Files) -> Option<Recipe> {
    let found = "Cargo.toml";
    if !files.has(found) {
        return None;
    }
    let workspace = files.text(found).lines().any(|it| it.trim_start().starts_with("[workspace"));
    let mut flags = String::new();
    for (flag, on) in [(" --workspace", workspace), (" --locked", files.has("Cargo.lock"))] {
        flags.push_str(if on { flag } else { "" });
    }
    Some(Recipe {
        builder: "cargo",
        found,
        description: "Compiles and tests the Rust crates",
        env: &[("CARGO_TERM_COLOR", "never"), ("CARGO_INCREMENTAL", "0")],
        steps: vec![
            Step::first("compile", format!("cargo build --all-targets{flags}")).warnings("^warning"),
            Step::new("test", format!("cargo test{flags}")),
        ],
    })
}

fn go(files: &Files) -> Option<Recipe> {
    files.has("go.mod").then(|| Recipe {
        builder: "go",
        found: "go.mod",
        description: "Compiles, examines and tests the Go packages",
        env: &[],
        steps: vec![
            Step::first("compile", "go build ./..."),
            Step::new("vet", "go vet ./..."),
            Step::new("test", "go test ./..."),
        ],
    })
}

fn cmake(files: &Files) -> Option<Recipe> {
    let found = "CMakeLists.txt";
    if !files.has(found) {
        return None;
    }
    let text = files.text(found).to_lowercase();
    let mut steps = vec![
        Step::first("configure", "cmake -S . -B _build"),
        Step::first("compile", "cmake --build _build --parallel 2").warnings("warning:"),
    ];
    if text.contains("enable_testing") || text.contains("include(ctest)") || text.contains("add_test") {
        steps.push(Step::new("test", "cd _build && ctest --output-on-failure"));
    }
    Some(Recipe {
        builder: "cmake",
        found,
        description: "Configures, compiles and tests by CMake",
        env: &[],
        steps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_remotes_are_not_written_down() {
        for (url, written) in [
            ("https://ann:secret@x.org/r.git", "https://ann@x.org/r.git"),
            ("https://:secret@x.org/r.git", "https://x.org/r.git"),
            ("https://x.org/r.git", "https://x.org/r.git"),
            ("ssh://git@x.org:22/a@b", "ssh://git@x.org:22/a@b"),
            ("git@x.org:a/r.git", "git@x.org:a/r.git"),
            ("/srv/r.git", "/srv/r.git"),
        ] {
            assert_eq!(without_password(url), written);
        }
    }

    #[test]
    fn names_are_plain() {
        for (path, name) in
            [("/a/hello", "hello"), ("/a/my app", "my-app"), ("/a/.x", "x"), ("/", "repository")]
        {
            assert_eq!(plain_name(Path::new(path)), name);
        }
    }
}
