//! The git poller against real repositories.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use greenroom_runtime::TestWorld;
use serde_json::Value;

use crate::farm::Farm;

const PATIENCE: Duration = Duration::from_secs(60);

/// A repository on this machine.
struct Repository {
    dir: tempfile::TempDir,
    count: std::cell::Cell<u32>,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { dir: tempfile::tempdir().unwrap(), count: std::cell::Cell::new(0) };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let config = ["-c", "user.name=Ann", "-c", "user.email=ann@x.org", "-c", "commit.gpgsign=false"];
        let output =
            Command::new("git").current_dir(self.path()).args(config).args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A commit on the branch that is checked out; its name.
    fn commit(&self, message: &str) -> String {
        self.count.set(self.count.get() + 1);
        std::fs::write(self.path().join(format!("file{}", self.count.get())), message).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}

fn toml(repository: &str, more: &str) -> String {
    let repository = toml_text(repository);
    format!(
        "[workers.w1]\npassword = \"p\"\n[builders.linux]\n[[builders.linux.steps]]\nrun = \"make\"\n\
         [change-sources.repo]\nkind = \"git-poller\"\nrepository = {repository}\ninterval = \"30ms\"\n{more}\n"
    )
}

fn toml_text(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

async fn farm(repository: &Repository, more: &str) -> Farm {
    let farm =
        Farm::start_in(TestWorld::in_real_time(), &toml(&repository.path().display().to_string(), more))
            .await;
    polled(&farm).await;
    farm
}

async fn observed(farm: &Farm) -> Value {
    farm.report("change-source/repo").await.observed
}

/// Waits until a whole poll has begun and ended from now on.
async fn polled(farm: &Farm) {
    let polls = |it: &Value| it["polls"].as_u64().unwrap_or(0);
    let target = polls(&observed(farm).await) + 2;
    let begun = Instant::now();
    while polls(&observed(farm).await) < target {
        assert!(begun.elapsed() < PATIENCE, "no poll: {}", observed(farm).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// All changes so far, oldest first: branch and first word of the message.
fn changes(farm: &Farm) -> Vec<(String, String)> {
    let hot = farm.hot();
    let told = hot.changes.values().map(|it| {
        let word = it.comments.split_whitespace().next().unwrap_or_default();
        (it.branch.clone().unwrap_or_default(), word.to_owned())
    });
    told.collect()
}

fn told(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(branch, word)| ((*branch).to_owned(), (*word).to_owned())).collect()
}

#[actix_rt::test]
async fn what_was_there_before_is_not_built_and_what_comes_is() {
    let repository = Repository::new();
    repository.commit("old");
    let farm = farm(&repository, "project = \"p\"\ncategory = \"c\"").await;
    assert_eq!(changes(&farm), []);
    let one = repository.commit("one");
    repository.commit("two");
    polled(&farm).await;
    assert_eq!(changes(&farm), told(&[("main", "one"), ("main", "two")]));
    let hot = farm.hot();
    let change = hot.changes.values().next().unwrap();
    assert_eq!((change.author.as_str(), change.revision.as_deref()), ("Ann <ann@x.org>", Some(one.as_str())));
    assert_eq!((change.project.as_str(), change.category.as_deref()), ("p", Some("c")));
    assert_eq!(change.files, ["file2"]);
    assert_eq!(change.repository, repository.path().display().to_string());
    polled(&farm).await;
    assert_eq!(changes(&farm).len(), 2, "nothing is told twice");
    farm.finish().await;
}

#[actix_rt::test]
async fn branches_are_chosen_and_a_new_one_is_one_change() {
    let repository = Repository::new();
    repository.commit("old");
    let farm = farm(&repository, "branches = [\"main\", \"release/*\"]").await;
    repository.git(&["checkout", "--quiet", "-b", "release/1"]);
    repository.commit("r1");
    repository.commit("r2");
    repository.git(&["checkout", "--quiet", "-b", "topic"]);
    repository.commit("t1");
    polled(&farm).await;
    assert_eq!(changes(&farm), told(&[("release/1", "r2")]));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_branch_forced_there_and_back_and_there_again_is_told_each_time() {
    let repository = Repository::new();
    repository.commit("base");
    let a = repository.commit("a");
    let farm = farm(&repository, "").await;
    repository.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    let b = repository.commit("b");
    polled(&farm).await;
    repository.git(&["reset", "--quiet", "--hard", &a]);
    polled(&farm).await;
    repository.git(&["reset", "--quiet", "--hard", &b]);
    polled(&farm).await;
    repository.git(&["reset", "--quiet", "--hard", &format!("{a}~1")]);
    polled(&farm).await;
    let wanted = [("main", "b"), ("main", "a"), ("main", "b"), ("main", "base")];
    assert_eq!(changes(&farm), told(&wanted));
    farm.finish().await;
}

#[actix_rt::test]
async fn a_deleted_branch_is_no_change_and_comes_again_as_a_new_one() {
    let repository = Repository::new();
    repository.commit("base");
    repository.git(&["branch", "topic"]);
    let farm = farm(&repository, "").await;
    repository.git(&["branch", "-D", "topic"]);
    polled(&farm).await;
    assert_eq!(changes(&farm), []);
    for _ in 0..2 {
        repository.git(&["branch", "topic"]);
        polled(&farm).await;
        repository.git(&["branch", "-D", "topic"]);
        polled(&farm).await;
    }
    // also one whose old name is a directory now
    repository.git(&["branch", "topic/sub"]);
    polled(&farm).await;
    assert_eq!(changes(&farm), told(&[("topic", "base"), ("topic", "base"), ("topic/sub", "base")]));
    assert_eq!(observed(&farm).await["error"], Value::Null);
    farm.finish().await;
}

#[actix_rt::test]
async fn many_commits_at_once_are_all_told_in_order() {
    let repository = Repository::new();
    repository.commit("base");
    let farm = farm(&repository, "").await;
    let tree = repository.git(&["rev-parse", "HEAD^{tree}"]);
    let mut tip = repository.git(&["rev-parse", "HEAD"]);
    for number in 0..150 {
        tip = repository.git(&["commit-tree", &tree, "-p", &tip, "-m", &format!("c{number}")]);
    }
    repository.git(&["update-ref", "refs/heads/main", &tip]);
    polled(&farm).await;
    let words: Vec<String> = changes(&farm).into_iter().map(|it| it.1).collect();
    assert_eq!(words, (0..150).map(|number| format!("c{number}")).collect::<Vec<_>>());
    farm.finish().await;
}

#[actix_rt::test]
async fn a_merge_tells_what_the_branch_did_not_have() {
    let repository = Repository::new();
    repository.commit("base");
    repository.git(&["checkout", "--quiet", "-b", "topic"]);
    repository.commit("t1");
    repository.git(&["checkout", "--quiet", "main"]);
    let farm = farm(&repository, "branches = [\"main\"]").await;
    repository.commit("m1");
    repository.git(&["merge", "--quiet", "--no-ff", "-m", "merged", "topic"]);
    polled(&farm).await;
    let mut words: Vec<String> = changes(&farm).into_iter().map(|it| it.1).collect();
    assert_eq!(words.pop().as_deref(), Some("merged"));
    words.sort();
    assert_eq!(words, ["m1", "t1"]);
    let hot = farm.hot();
    assert_eq!(
        hot.changes.values().next_back().unwrap().files,
        ["file2"],
        "what the merge brought to its branch"
    );
    farm.finish().await;
}

#[actix_rt::test]
async fn a_poller_that_dies_or_is_stopped_goes_on_where_it_was() {
    let repository = Repository::new();
    repository.commit("base");
    let mut farm = farm(&repository, "").await;
    for number in 0..5 {
        repository.commit(&format!("c{number}"));
        farm.panic("change-source/repo").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    farm.close(Duration::from_secs(5)).await;
    repository.commit("while-away");
    farm.open().await;
    polled(&farm).await;
    let words: Vec<String> = changes(&farm).into_iter().map(|it| it.1).collect();
    assert_eq!(words, ["c0", "c1", "c2", "c3", "c4", "while-away"]);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_repository_that_is_not_there_is_an_error_that_can_be_seen_and_that_passes() {
    let repository = Repository::new();
    repository.commit("base");
    let farm = farm(&repository, "").await;
    let (here, away) = (repository.path().join(".git"), repository.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let begun = Instant::now();
    while observed(&farm).await["error"].is_null() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(observed(&farm).await["error"].as_str().unwrap().contains("ls-remote"));
    std::fs::rename(&away, &here).unwrap();
    repository.commit("after");
    while changes(&farm).is_empty() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(changes(&farm), told(&[("main", "after")]));
    polled(&farm).await;
    assert_eq!(observed(&farm).await["error"], Value::Null);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_remote_that_hangs_is_given_up_in_time() {
    // a server that accepts and says nothing
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://127.0.0.1:{}/r", listener.local_addr().unwrap().port());
    let farm = Farm::start_in(TestWorld::in_real_time(), &toml(&url, "timeout = \"300ms\"")).await;
    let begun = Instant::now();
    while observed(&farm).await["failures_in_a_row"].as_u64().unwrap_or(0) < 2 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = observed(&farm).await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("did not end within 300ms"), "{error}");
    farm.finish().await;
    drop(listener);
}
