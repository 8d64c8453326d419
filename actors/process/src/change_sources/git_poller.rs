//! The git poller: asks a repository for its branches at an interval and adds a change for each new commit.
//!
//! Owner of: which tips have been seen. They are stored in the same write as the changes that follow from them. An idle
//! poll is one `ls-remote`; only when a tip has moved are commits fetched, into a bare mirror below the data directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use greenroom_config::GitPoller as Settings;
use greenroom_data::DataError;
use greenroom_model::write::{ChangeOrigin, Duty, NewChange, Outcome};
use greenroom_model::*;
use greenroom_runtime::{Birth, Supervised, TaskEnd, fail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::change_sources::git_program::{Git, GitError};
use crate::change_sources::git_text::{self, Commit, LOG_FORMAT};
use crate::claims::claim;
use crate::handles::Handles;

/// Where the mirror keeps the branches that it has fetched.
const MIRRORED: &str = "refs/heads/";
/// The most commits of one move of a branch that become changes; of a longer one the newest do.
const MOST_COMMITS: usize = 1_000;
/// The most files named by one change.
const MOST_FILES: usize = 10_000;
/// The most deleted branches remembered.
const MOST_DELETED: usize = 1_000;
/// The longest wait after errors.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);
/// The longest message of a change, in bytes.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// What a poller is, apart from its state.
#[derive(Debug)]
pub(crate) struct Identity {
    pub id: ChangeSourceId,
    pub name: String,
    pub config: Settings,
    pub mirror: PathBuf,
    /// It takes the place of one with other settings, which may have left a write under way.
    pub replaces: bool,
}

/// What a poller has seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Seen {
    branches: BTreeMap<String, Branch>,
}

/// What it has seen of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Branch {
    /// None: the branch is gone.
    tip: Option<String>,
    /// How often it was rewritten or deleted. A branch that goes A → B → A → B makes the same move twice; this tells them
    /// apart, while a move that is stored twice (after a crash) stays one.
    #[serde(default)]
    rewrites: u64,
}

#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("the mirror: {0}")]
    Mirror(#[from] std::io::Error),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("the state cannot be stored: {0}")]
    State(#[from] serde_json::Error),
}

#[derive(Message)]
#[rtype(result = "()")]
struct Loaded(TaskEnd<Result<Option<Seen>, PollError>>);

#[derive(Message)]
#[rtype(result = "()")]
struct PollTick;

#[derive(Message)]
#[rtype(result = "()")]
struct Polled(TaskEnd<Result<Report, PollError>>);

/// What one poll found.
#[derive(Debug)]
struct Report {
    seen: Seen,
    changes: usize,
}

/// The git poller.
pub struct GitPoller {
    h: Handles,
    birth: Birth<Self>,
    identity: Arc<Identity>,
    /// None until the repository was seen for the first time.
    seen: Option<Seen>,
    polls: u64,
    changes: u64,
    failures: u32,
    error: Option<String>,
    last_poll: Option<Timestamp>,
}

impl GitPoller {
    pub(crate) fn new(h: Handles, birth: Birth<Self>, identity: Arc<Identity>) -> Self {
        let (seen, error, last_poll) = (None, None, None);
        Self { h, birth, identity, seen, polls: 0, changes: 0, failures: 0, error, last_poll }
    }

    /// The interval, doubled with each failure in a row, with a jitter so that many pollers do not ask at once.
    fn wait(&self) -> Duration {
        let interval = self.identity.config.interval.get();
        let longest = LONGEST_BACKOFF.max(interval);
        let wait = interval.saturating_mul(1 << self.failures.min(10)).min(longest);
        let jitter = if self.failures == 0 { 0.0 } else { self.h.runtime.dice().fraction() / 5.0 };
        wait.mul_f64(1.0 + jitter)
    }
}

impl Supervised for GitPoller {
    const KIND: &'static str = "git-poller";

    fn observe(&self) -> Value {
        let live = self.seen.iter().flat_map(|it| it.branches.values()).filter(|it| it.tip.is_some()).count();
        json!({
            "polls": self.polls, "changes": self.changes, "branches": live, "failures_in_a_row": self.failures,
            "error": self.error, "last_poll": self.last_poll.map(Timestamp::seconds),
        })
    }
}

impl Actor for GitPoller {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let (h, identity) = (self.h.clone(), Arc::clone(&self.identity));
        let again = identity.replaces || self.birth.number() > 1;
        let load = async move {
            claim(&h, &Duty::ChangeSource(identity.id), &identity.name).await?;
            if again {
                h.barrier().await?;
            }
            let stored = h.ro().change_source_state(identity.id).await?.value;
            Ok(serde_json::from_value(stored).unwrap_or_else(|error| {
                tracing::error!(change_source.name = %identity.name, %error,
                    "the stored state cannot be read; the repository is looked at as for the first time");
                None
            }))
        };
        self.birth.tasks().spawn(load, Loaded);
    }
}

impl Handler<Loaded> for GitPoller {
    type Result = ();

    fn handle(&mut self, Loaded(end): Loaded, ctx: &mut Context<Self>) {
        match end {
            TaskEnd::Done(Ok(seen)) => {
                self.seen = seen;
                ctx.notify(PollTick);
            }
            TaskEnd::Done(Err(error)) => fail(ctx, error),
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

impl Handler<PollTick> for GitPoller {
    type Result = ();

    fn handle(&mut self, _: PollTick, _: &mut Context<Self>) {
        let poll = Poll { h: self.h.clone(), identity: Arc::clone(&self.identity), seen: self.seen.clone() };
        self.birth.tasks().spawn(poll.once(), Polled);
    }
}

impl Handler<Polled> for GitPoller {
    type Result = ();

    fn handle(&mut self, Polled(end): Polled, ctx: &mut Context<Self>) {
        (self.polls, self.last_poll) = (self.polls + 1, Some(self.h.now()));
        match end {
            TaskEnd::Done(Ok(report)) => {
                self.seen = Some(report.seen);
                self.changes += u64::try_from(report.changes).unwrap_or(0);
                (self.failures, self.error) = (0, None);
            }
            // another master polls, and has stored what it has seen
            TaskEnd::Done(Err(PollError::Data(
                error @ (DataError::Fenced | DataError::Refused(Refusal::Held(_))),
            ))) => return fail(ctx, error),
            TaskEnd::Done(Err(error)) => {
                self.failures = self.failures.saturating_add(1);
                let text = error.to_string();
                if self.error.as_ref() != Some(&text) {
                    tracing::warn!(change_source.name = %self.identity.name, %error, "a repository could not be polled");
                }
                self.error = Some(text);
            }
            TaskEnd::Panicked(why) => return fail(ctx, why),
        }
        ctx.notify_later(PollTick, self.wait());
    }
}

/// One poll.
struct Poll {
    h: Handles,
    identity: Arc<Identity>,
    seen: Option<Seen>,
}

impl Poll {
    async fn once(self) -> Result<Report, PollError> {
        let remote = self.remote_tips().await?;
        let Some(seen) = &self.seen else {
            // what was there before us is not built
            let tips = remote.into_iter().map(|(name, tip)| (name, Branch { tip: Some(tip), rewrites: 0 }));
            let seen = Seen { branches: tips.collect() };
            self.store(Vec::new(), &seen).await?;
            return Ok(Report { seen, changes: 0 });
        };
        let moved: Vec<&String> = remote
            .iter()
            .filter(|(name, tip)| seen.branches.get(*name).and_then(|it| it.tip.as_ref()) != Some(*tip))
            .map(|(name, _)| name)
            .collect();
        let deleted: Vec<String> = seen
            .branches
            .iter()
            .filter(|(name, branch)| branch.tip.is_some() && !remote.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        if moved.is_empty() && deleted.is_empty() {
            return Ok(Report { seen: seen.clone(), changes: 0 });
        }
        let mut next = seen.clone();
        for name in deleted {
            let rewrites = next.branches.get(&name).map_or(0, |it| it.rewrites) + 1;
            next.branches.insert(name, Branch { tip: None, rewrites });
        }
        let mut changes = Vec::new();
        if !moved.is_empty() {
            let fetched = self.fetch(&moved).await?;
            for name in moved {
                // it may have been deleted, or moved on, between the look and the fetch
                let Some(tip) = fetched.get(name) else { continue };
                let branch = next.branches.entry(name.clone()).or_default();
                changes.extend(self.moves(name, branch, tip).await?);
            }
        }
        forget_deleted(&mut next);
        let added = self.store(changes, &next).await?;
        Ok(Report { seen: next, changes: added })
    }

    fn git(&self, in_mirror: bool) -> Git {
        let dir = in_mirror.then(|| self.identity.mirror.clone());
        Git { dir, timeout: self.identity.config.timeout.get() }
    }

    async fn remote_tips(&self) -> Result<BTreeMap<String, String>, PollError> {
        let repository = &self.identity.config.repository;
        let output = self.git(false).run(&["ls-remote", "--heads", "--", repository]).await?;
        let mut tips = git_text::tips(&output, "refs/heads/");
        tips.retain(|name, _| self.identity.config.branches.matches(name));
        Ok(tips)
    }

    /// Fetches branches into the mirror, and says where they are now.
    async fn fetch(&self, branches: &[&String]) -> Result<BTreeMap<String, String>, PollError> {
        let mirror = &self.identity.mirror;
        if !tokio::fs::try_exists(mirror.join("HEAD")).await? {
            tokio::fs::create_dir_all(mirror).await?;
            self.git(true).run(&["init", "--quiet", "--bare"]).await?;
        }
        let refspecs: String =
            branches.iter().map(|it| format!("+refs/heads/{it}:{MIRRORED}{it}\n")).collect();
        // a branch `a` that became `a/b` needs its old name out of the way
        let local = git_text::tips(
            &self.git(true).run(&["for-each-ref", "--format=%(objectname) %(refname)"]).await?,
            MIRRORED,
        );
        let in_the_way = local.keys().filter(|old| branches.iter().any(|new| stands_in_the_way(old, new)));
        for old in in_the_way {
            self.git(true).run(&["update-ref", "-d", &format!("{MIRRORED}{old}")]).await?;
        }
        let command =
            ["fetch", "--quiet", "--force", "--no-tags", "--stdin", "--", &self.identity.config.repository];
        match self.git(true).run_with(&command, refspecs.into_bytes()).await {
            Ok(_) => {}
            // one that was deleted since makes git refuse all: each alone then
            Err(GitError::Failed { .. }) if branches.len() > 1 => {
                for branch in branches {
                    let refspec = format!("+refs/heads/{branch}:{MIRRORED}{branch}\n");
                    match self.git(true).run_with(&command, refspec.into_bytes()).await {
                        Ok(_) => {}
                        Err(GitError::Failed { said, .. }) if said.contains("couldn't find remote ref") => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(GitError::Failed { said, .. }) if said.contains("couldn't find remote ref") => {
                return Ok(BTreeMap::new());
            }
            Err(error) => return Err(error.into()),
        }
        let output = self.git(true).run(&["for-each-ref", "--format=%(objectname) %(refname)"]).await?;
        let mut tips = git_text::tips(&output, MIRRORED);
        tips.retain(|name, _| branches.contains(&name));
        Ok(tips)
    }

    /// The changes that a branch's move to `tip` means; moves `branch` there.
    async fn moves(&self, name: &str, branch: &mut Branch, tip: &str) -> Result<Vec<NewChange>, PollError> {
        let old = branch.tip.replace(tip.to_owned());
        let ids = match &old {
            Some(old) if old == tip => return Ok(Vec::new()),
            Some(old) if self.has(old).await? => {
                let ancestor = self.git(true).answers(&["merge-base", "--is-ancestor", old, tip]).await? == 0;
                if !ancestor {
                    branch.rewrites += 1;
                }
                self.between(old, tip).await?
            }
            // rewritten beyond what the mirror still has
            Some(_) => {
                branch.rewrites += 1;
                vec![tip.to_owned()]
            }
            None => vec![tip.to_owned()],
        };
        let mut changes = Vec::with_capacity(ids.len());
        let mut before = mark(old.as_deref(), branch.rewrites);
        for commit in self.commits(&ids).await? {
            let after = commit.id.clone();
            changes.push(self.change(name, commit, before).await?);
            before = mark(Some(&after), branch.rewrites);
        }
        Ok(changes)
    }

    async fn has(&self, commit: &str) -> Result<bool, PollError> {
        Ok(self.git(true).answers(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).await? == 0)
    }

    /// The commits that `tip` has and `old` had not, oldest first; the tip itself if there is none (the branch went back).
    async fn between(&self, old: &str, tip: &str) -> Result<Vec<String>, PollError> {
        let most = format!("--max-count={MOST_COMMITS}");
        let output =
            self.git(true).run(&["rev-list", "--topo-order", &most, tip, &format!("^{old}"), "--"]).await?;
        let mut ids: Vec<String> = String::from_utf8_lossy(&output).lines().map(str::to_owned).collect();
        ids.reverse();
        if ids.len() >= MOST_COMMITS {
            tracing::warn!(change_source.name = %self.identity.name, commits = MOST_COMMITS,
                "a branch moved by very many commits; only the newest become changes");
        }
        if ids.is_empty() {
            ids.push(tip.to_owned());
        }
        Ok(ids)
    }

    async fn commits(&self, ids: &[String]) -> Result<Vec<Commit>, PollError> {
        let input = ids.iter().flat_map(|id| [id.as_bytes(), b"\n"].concat()).collect::<Vec<u8>>();
        let log = ["log", "--no-walk=unsorted", "--stdin", "-z", "--encoding=UTF-8", LOG_FORMAT];
        let mut commits = git_text::commits(&self.git(true).run_with(&log, input.clone()).await?);
        let files = [
            "diff-tree",
            "--stdin",
            "-r",
            "--root",
            "--always",
            "--name-only",
            "-z",
            "--diff-merges=first-parent",
        ];
        git_text::add_files(&mut commits, &self.git(true).run_with(&files, input).await?, MOST_FILES);
        Ok(commits)
    }

    async fn change(
        &self,
        branch: &str,
        commit: Commit,
        before: Option<String>,
    ) -> Result<NewChange, PollError> {
        let Identity { name, config, .. } = &*self.identity;
        let mut comments = commit.message;
        if comments.len() > LONGEST_MESSAGE {
            let end = (0..=LONGEST_MESSAGE).rev().find(|at| comments.is_char_boundary(*at)).unwrap_or(0);
            comments.truncate(end);
        }
        Ok(NewChange {
            id: self.h.new_id().await?,
            origin: ChangeOrigin::Poll { source: name.clone(), old_tip: before, new_tip: commit.id.clone() },
            author: commit.author,
            committer: Some(commit.committer),
            comments,
            branch: Some(branch.to_owned()),
            revision: Some(commit.id),
            revlink: None,
            when: Timestamp::from_seconds(commit.time),
            category: config.category.clone(),
            repository: config.repository.clone(),
            codebase: config.codebase.clone(),
            project: config.project.clone(),
            files: commit.files,
            properties: Properties::new(),
        })
    }

    /// Stores what was seen with the changes that follow from it; says how many were new.
    async fn store(&self, changes: Vec<NewChange>, seen: &Seen) -> Result<usize, PollError> {
        let mut ops: Vec<Op> = changes.into_iter().map(|it| Op::AddChange(Box::new(it))).collect();
        ops.push(Op::SaveChangeSource { source: self.identity.id, state: serde_json::to_value(seen)? });
        let committed = self.h.persist(ops).await?;
        Ok(committed.outcomes.iter().filter(|it| matches!(it, Outcome::Change { new: true, .. })).count())
    }
}

/// A tip as a change's origin names it: with the number of rewrites before it, if there were any.
fn mark(tip: Option<&str>, rewrites: u64) -> Option<String> {
    match (tip, rewrites) {
        (tip, 0) => tip.map(str::to_owned),
        (tip, rewrites) => Some(format!("{}~{rewrites}", tip.unwrap_or("none"))),
    }
}

/// Whether both cannot be branches of one repository: one is the other's directory.
fn stands_in_the_way(old: &str, new: &str) -> bool {
    let below = |a: &str, b: &str| b.strip_prefix(a).is_some_and(|rest| rest.starts_with('/'));
    below(old, new) || below(new, old)
}

fn forget_deleted(seen: &mut Seen) {
    let mut deleted = seen.branches.values().filter(|it| it.tip.is_none()).count();
    seen.branches.retain(|_, branch| {
        let forget = branch.tip.is_none() && deleted > MOST_DELETED;
        deleted -= usize::from(forget);
        !forget
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_made_again_after_a_rewrite_is_another_move() {
        assert_eq!(mark(Some("a"), 0), Some("a".into()));
        assert_eq!(mark(None, 0), None);
        assert_ne!(mark(Some("a"), 1), mark(Some("a"), 3));
        assert_ne!(mark(None, 1), mark(None, 0));
    }

    #[test]
    fn a_branch_stands_in_the_way_of_those_below_it() {
        assert!(stands_in_the_way("a", "a/b") && stands_in_the_way("a/b", "a"));
        assert!(!stands_in_the_way("a", "ab") && !stands_in_the_way("a/b", "a/c"));
    }

    #[test]
    fn deleted_branches_are_forgotten_some_time() {
        let gone = (0..1_500).map(|n| (format!("b{n}"), Branch::default()));
        let mut seen = Seen { branches: gone.collect() };
        seen.branches.insert("main".into(), Branch { tip: Some("x".into()), rewrites: 0 });
        forget_deleted(&mut seen);
        assert_eq!(seen.branches.len(), MOST_DELETED + 1);
        assert!(seen.branches.contains_key("main"));
    }
}
