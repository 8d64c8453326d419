//! Step `git`: a checkout by the worker's own `git`.
//!
//! Every command is an argument list, never shell text; what comes from outside stands behind `--` or is refused if it
//! begins with `-`. Each command is idempotent, so a step that is taken up again begins its sequence anew. A clone that an
//! earlier git left locked is freed first, and one that git cannot work with is made anew, so that neither fails a builder for ever.

use greenroom_config::{GitMethod, GitMode, GitStep, Step};
use greenroom_model::{Results, SourceStamp};
use serde_json::{Value, json};

use crate::builds::plan::Begun;
use crate::builds::run::{CommandResult, Result, Run};
use crate::properties::{builder_directory, source};
use crate::runner::{Execution, Finished, Program, WorkerCommand};
use crate::steps::{StepEnd, render, shell};

/// Bytes of output kept of `git rev-parse`.
const CAPTURE: usize = 4 * 1024;
/// How git ends when it gives up by itself.
const FATAL: i64 = 128;
/// What a git that was killed may leave behind; every later one would refuse to work beside it.
const LOCKS: [&str; 5] =
    [".git/index.lock", ".git/shallow.lock", ".git/HEAD.lock", ".git/config.lock", ".git/packed-refs.lock"];

/// What is to be checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    repository: String,
    branch: Option<String>,
    revision: Option<String>,
    workdir: Option<String>,
}

/// Runs the step.
pub(crate) async fn run(run: &mut Run, config: &Step, step: &GitStep, begun: &Begun) -> Result<StepEnd> {
    let wish = match wish(run, config, step).await {
        Ok(wish) => wish,
        Err(why) => {
            run.say(begun.log, &why).await?;
            return Ok(StepEnd::exception(why));
        }
    };
    let literal = shell::workdir_template(run, config).is_none_or(|it| it.as_literal().is_some());
    let workdir = match shell::workdir_path(run, wish.workdir.as_deref(), literal) {
        Ok(workdir) => workdir,
        Err(why) => return Ok(StepEnd::exception(why)),
    };
    let mut checkout = Checkout { run, config, begun, workdir, id: begun.command.clone() };
    if begun.perhaps_sent
        && let Err(end) = checkout.await_leftover().await?
    {
        return Ok(end);
    }
    match checkout.all(step, &wish).await? {
        Ok(revision) => {
            let value = got_revision(run, step, &revision);
            run.set_property("got_revision", value, source::GIT);
            let short: String = revision.chars().take(12).collect();
            Ok(StepEnd::new(Results::Success, format!("at {short}")))
        }
        Err(end) => Ok(end),
    }
}

/// A plain value for the default codebase, else a map by codebase.
fn got_revision(run: &Run, step: &GitStep, revision: &str) -> Value {
    if step.codebase.is_empty() {
        return json!(revision);
    }
    let mut known = match run.plan.properties.get("got_revision") {
        Some(greenroom_model::Property(Value::Object(map), _)) => map.clone(),
        _ => serde_json::Map::new(),
    };
    known.insert(step.codebase.clone(), json!(revision));
    Value::Object(known)
}

/// Renders the settings and lays the source stamp over them.
async fn wish(run: &Run, config: &Step, step: &GitStep) -> Result<Wish, String> {
    let workdir = shell::workdir_template(run, config);
    let settings = (step.repository.clone(), step.branch.clone(), step.revision.clone(), workdir);
    let render = move |scope: &greenroom_config::expr::Scope| {
        let (repository, branch, revision, workdir) = &settings;
        Ok(Wish {
            repository: repository.render_text(scope)?,
            branch: branch.as_ref().map(|it| it.render_text(scope)).transpose()?,
            revision: revision.as_ref().map(|it| it.render_text(scope)).transpose()?,
            workdir: workdir.as_ref().map(|it| it.render_text(scope)).transpose()?,
        })
    };
    let wish = render::evaluate(run.view(), render).await?;
    let stamp = run.plan.stamps.iter().find(|stamp| stamp.codebase == step.codebase);
    checked(over(wish, stamp.map(AsRef::as_ref)))
}

/// The stamp's branch wins over the step's (which stands in where it has none); the step's revision over the stamp's.
fn over(wish: Wish, stamp: Option<&SourceStamp>) -> Wish {
    let said = |text: Option<String>| text.filter(|it| !it.is_empty());
    let branch = stamp.and_then(|it| said(it.branch.clone())).or(said(wish.branch));
    let revision = said(wish.revision).or_else(|| stamp.and_then(|it| said(it.revision.clone())));
    Wish { branch, revision, ..wish }
}

/// Refuses what `git` could take for an option, or a reference for something else.
fn checked(wish: Wish) -> Result<Wish, String> {
    if wish.repository.is_empty() {
        return Err("the repository is empty".to_owned());
    }
    let named = [("branch", wish.branch.as_deref()), ("revision", wish.revision.as_deref())];
    for (what, value) in [("repository", Some(wish.repository.as_str()))].into_iter().chain(named) {
        let Some(value) = value else { continue };
        if value.starts_with('-') {
            return Err(format!("the {what} `{value}` begins with `-`, which git would take for an option"));
        }
        if value.contains(['\0', '\n', '\r']) {
            return Err(format!("the {what} holds a character that it cannot hold"));
        }
    }
    for (what, value) in named {
        if value
            .is_some_and(|it| it.contains([' ', ':', '^', '~', '?', '*', '[', '\\']) || it.starts_with('+'))
        {
            return Err(format!("the {what} `{}` is no name of a {what}", value.unwrap_or_default()));
        }
    }
    Ok(wish)
}

struct Checkout<'a> {
    run: &'a mut Run,
    config: &'a Step,
    begun: &'a Begun,
    workdir: String,
    /// The id of the next command, if it is stored already.
    id: Option<String>,
}

/// How a command of git failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It was stopped, or its worker was lost.
    Broken,
    /// Git, or what it spoke with, said no.
    Exit,
    /// Git gave up, and the clone is why.
    Fatal,
}

struct Failed {
    how: How,
    end: StepEnd,
}

type Ended<T> = Result<std::result::Result<T, StepEnd>>;

impl Checkout<'_> {
    /// Updates what is there; a clone that git cannot work with is made anew, once.
    async fn all(&mut self, step: &GitStep, wish: &Wish) -> Ended<String> {
        let clobber = step.mode == GitMode::Full && step.method == GitMethod::Clobber;
        let ready = if clobber { self.remove_all().await? } else { self.remove_locks().await? };
        if let Err(end) = ready {
            return Ok(Err(end));
        }
        let Err(failed) = self.update(step, wish).await? else { return self.revision().await };
        if failed.how != How::Fatal || clobber || !self.owned() {
            return Ok(Err(failed.end));
        }
        self.run.say(self.begun.log, "git cannot work with this clone: a fresh one is made").await?;
        if let Err(end) = self.remove_all().await? {
            return Ok(Err(end));
        }
        match self.update(step, wish).await? {
            Ok(()) => self.revision().await,
            Err(failed) => Ok(Err(failed.end)),
        }
    }

    /// A builder's directory has one build at a time, so that whatever is locked here is nobody's any more.
    async fn remove_locks(&mut self) -> Ended<()> {
        let place = &self.run.plan.place;
        let locks = LOCKS.iter().map(|it| place.join(&self.workdir, it)).collect();
        // one that resists is git's to complain about
        Ok(self.send(WorkerCommand::RemoveDirectories(locks), None).await?.map(|_| ()))
    }

    async fn remove_all(&mut self) -> Ended<()> {
        self.must(WorkerCommand::RemoveDirectories(vec![self.workdir.clone()])).await
    }

    /// Whether the directory is below the builder's own, and nobody else's.
    fn owned(&self) -> bool {
        let base = builder_directory(&self.run.plan.recipe, &self.run.plan.place);
        let below = self.workdir.strip_prefix(&base);
        below.is_some_and(|it| (it.is_empty() || it.starts_with(['/', '\\'])) && !it.contains(".."))
    }

    async fn update(&mut self, step: &GitStep, wish: &Wish) -> Result<std::result::Result<(), Failed>> {
        let init = ["init", "--quiet"].map(str::to_owned).to_vec();
        if let Err(failed) = self.attempt(init).await? {
            return Ok(Err(failed));
        }
        if let Err(failed) = self.attempt(fetch(step, wish, wish.branch.as_deref())).await? {
            // a remote that is away, or has no such branch, says nothing about the clone
            let answers = if failed.how == How::Fatal { self.remote_answers(wish).await? } else { Ok(true) };
            return Ok(Err(match answers {
                Ok(true) => failed,
                Ok(false) => Failed { how: How::Exit, ..failed },
                Err(end) => Failed { how: How::Broken, end },
            }));
        }
        match (self.attempt(checkout(&target(wish))).await?, &wish.revision) {
            (Ok(()), _) => {}
            // a shallow or rewritten branch may lack the revision: ask for it by name
            (Err(failed), Some(revision)) if failed.how != How::Broken => {
                if let Err(failed) = self.attempt(fetch(step, wish, Some(revision))).await? {
                    // most likely there is no such revision
                    return Ok(Err(Failed { how: How::Exit, ..failed }));
                }
                if let Err(failed) = self.attempt(checkout(revision)).await? {
                    return Ok(Err(failed));
                }
            }
            (Err(failed), _) => return Ok(Err(failed)),
        }
        if step.mode == GitMode::Full {
            let what = if step.method == GitMethod::Clean { "-ffd" } else { "-ffdx" };
            return self.attempt(vec!["clean".into(), "--quiet".into(), what.into()]).await;
        }
        Ok(Ok(()))
    }

    /// Whether the remote has what is to be fetched.
    async fn remote_answers(&mut self, wish: &Wish) -> Ended<bool> {
        let mut command: Vec<String> =
            ["ls-remote", "--quiet", "--exit-code", "--"].map(str::to_owned).to_vec();
        let what = match wish.branch.as_deref() {
            None => "HEAD".to_owned(),
            Some(name) if name.starts_with("refs/") => name.to_owned(),
            Some(branch) => format!("refs/heads/{branch}"),
        };
        command.extend([wish.repository.clone(), what]);
        Ok(self.try_git(command, None).await?.map(|finished| finished.rc == Some(0)))
    }

    async fn attempt(&mut self, arguments: Vec<String>) -> Result<std::result::Result<(), Failed>> {
        Ok(match self.try_git(arguments, None).await? {
            Err(end) => Err(Failed { how: How::Broken, end }),
            Ok(finished) => {
                let end = shell::judge(&finished, &Default::default());
                let how = if finished.rc == Some(FATAL) { How::Fatal } else { How::Exit };
                if end.results == Results::Success { Ok(()) } else { Err(Failed { how, end }) }
            }
        })
    }

    async fn revision(&mut self) -> Ended<String> {
        let command = ["rev-parse", "--verify", "HEAD"].map(str::to_owned).to_vec();
        Ok(self.git(command, Some(CAPTURE)).await?.and_then(|finished| {
            let revision = String::from_utf8_lossy(&finished.captured.unwrap_or_default()).trim().to_owned();
            if revision.is_empty() { Err(StepEnd::exception("git told no revision")) } else { Ok(revision) }
        }))
    }

    async fn git(&mut self, arguments: Vec<String>, capture: Option<usize>) -> Ended<Finished> {
        let done = self.try_git(arguments, capture).await?;
        Ok(done.and_then(|finished| {
            let end = shell::judge(&finished, &Default::default());
            if end.results == Results::Success { Ok(finished) } else { Err(end) }
        }))
    }

    async fn try_git(&mut self, arguments: Vec<String>, capture: Option<usize>) -> Ended<Finished> {
        let argv = std::iter::once("git".to_owned()).chain(arguments).collect();
        let options = &self.config.options;
        let command = WorkerCommand::Execute(Execution {
            workdir: self.workdir.clone(),
            program: Program::Argv(argv),
            env: vec![("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned())],
            timeout_s: options.timeout.map(|it| it.get().as_secs_f64()),
            max_time_s: options.max_time.map(|it| it.get().as_secs_f64()),
        });
        self.send(command, capture).await
    }

    async fn must(&mut self, command: WorkerCommand) -> Ended<()> {
        Ok(self.send(command, None).await?.and_then(|finished| {
            let end = shell::judge(&finished, &Default::default());
            if end.results == Results::Success { Ok(()) } else { Err(end) }
        }))
    }

    async fn send(&mut self, command: WorkerCommand, capture: Option<usize>) -> Ended<Finished> {
        let id = match self.id.take() {
            Some(id) => id,
            None => self.run.next_command(self.begun).await?,
        };
        match self.run.command(id, command, self.begun.log, capture, false).await? {
            CommandResult::Finished(finished) => Ok(Ok(finished)),
            other => Ok(Err(self.run.broken_off(other))),
        }
    }

    /// An earlier birth may have left a command running; two at once in one directory would disturb each other.
    async fn await_leftover(&mut self) -> Ended<()> {
        let Some(id) = self.id.take() else { return Ok(Ok(())) };
        let nothing = WorkerCommand::Execute(Execution {
            workdir: self.workdir.clone(),
            program: Program::Argv(vec!["git".into(), "--version".into()]),
            env: Vec::new(),
            timeout_s: None,
            max_time_s: None,
        });
        match self.run.command(id, nothing, self.begun.log, None, true).await? {
            CommandResult::Finished(_) => Ok(Ok(())),
            other => Ok(Err(self.run.broken_off(other))),
        }
    }
}

/// What is checked out after the fetch.
fn target(wish: &Wish) -> String {
    wish.revision.clone().unwrap_or_else(|| "FETCH_HEAD".to_owned())
}

fn fetch(step: &GitStep, wish: &Wish, what: Option<&str>) -> Vec<String> {
    let mut command: Vec<String> = ["fetch", "--quiet", "--force", "--no-tags"].map(str::to_owned).to_vec();
    if let Some(depth) = step.shallow {
        command.push(format!("--depth={depth}"));
    }
    command.extend(["--".to_owned(), wish.repository.clone()]);
    command.push(match what {
        None => "HEAD".to_owned(),
        Some(name) if name.starts_with("refs/") || Some(name) == wish.revision.as_deref() => name.to_owned(),
        // kept under a name, so that later fetches send only what is new
        Some(branch) => format!("+refs/heads/{branch}:refs/remotes/origin/{branch}"),
    });
    command
}

fn checkout(target: &str) -> Vec<String> {
    ["checkout", "--quiet", "--force", "--detach", target, "--"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish_for(branch: &str, revision: &str) -> Wish {
        let some = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
        Wish {
            repository: "https://x/r".into(),
            branch: some(branch),
            revision: some(revision),
            workdir: None,
        }
    }

    #[test]
    fn nothing_from_outside_becomes_an_option_or_a_second_reference() {
        assert!(checked(wish_for("main", "abc")).is_ok());
        for (branch, revision) in [
            ("--upload-pack=touch x", ""),
            ("", "-f"),
            ("a:refs/heads/b", ""),
            ("", "HEAD~1 x"),
            ("a\nb", ""),
            ("+main", ""),
        ] {
            assert!(checked(wish_for(branch, revision)).is_err(), "{branch} {revision}");
        }
        assert!(checked(Wish { repository: "--upload-pack=x".into(), ..wish_for("", "") }).is_err());
    }

    #[test]
    fn the_stamp_says_the_branch_and_the_step_stands_in() {
        let stamp = SourceStamp {
            id: 1.into(),
            branch: Some("topic".into()),
            revision: Some("abc".into()),
            project: String::new(),
            repository: String::new(),
            codebase: String::new(),
            created_at: greenroom_model::Timestamp(0),
            patch: None,
        };
        assert_eq!(over(wish_for("main", ""), Some(&stamp)).branch.as_deref(), Some("topic"));
        assert_eq!(over(wish_for("main", ""), None).branch.as_deref(), Some("main"));
        assert_eq!(over(wish_for("", "fixed"), Some(&stamp)).revision.as_deref(), Some("fixed"));
    }
}
