//! `greenroom demo`: a live farm, with everything real but its owner.

mod repository;
mod summary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use greenroom_config::LoadOptions;
use greenroom_model::restart::Span;
use greenroom_model::{ControlAnswer, ControlTarget};
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::lifecycle::{self, Configured, Running};
use repository::Repository;

/// How the demo runs.
#[derive(Args)]
pub struct Options {
    /// End by itself after so long (`30s`, `5m`); else Ctrl-C ends it.
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    run_for: Option<Duration>,
    /// The page's port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8010)]
    port: u16,
    /// Where to work; a temporary directory, removed at the end, if it is left out.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How often somebody pushes a commit.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = length)]
    every: Duration,
}

fn length(text: &str) -> Result<Duration, String> {
    Span::parse(text).map(Span::duration).map_err(|error| error.to_string())
}

/// Runs it.
pub fn run(options: Options) -> Result<ExitCode> {
    crate::logging::start("warn");
    let kept = options.dir.is_some();
    let temporary =
        if kept { None } else { Some(tempfile::tempdir().context("failed to make a directory")?) };
    let dir = match (&options.dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => bail!("there is no directory to work in"),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
    let dir = dir.canonicalize().with_context(|| format!("failed to use {}", dir.display()))?;
    let demo = dir.join("repository");
    if demo.exists() {
        bail!("{} has a demo in it already: remove it, or name another directory", dir.display());
    }
    std::fs::create_dir(&demo).with_context(|| format!("failed to create {}", demo.display()))?;
    println!("making a repository in {}", demo.display());
    let repository = Repository::create(&demo)?;
    let config = write_config(&dir, repository.path(), options.port)?;
    let layers = LoadOptions { files: vec![config], ..LoadOptions::default() };
    let loaded = match greenroom_config::load(&layers) {
        Ok(loaded) => loaded,
        Err(faults) => bail!("the demo's configuration is wrong:\n{}", faults.render(false)),
    };
    let configured = Configured { loaded, options: Some(layers) };
    lifecycle::run(configured, move |master| play(master, repository, options))
}

/// Fills in what only this run knows.
fn write_config(dir: &Path, repository: &Path, port: u16) -> Result<PathBuf> {
    let text = |path: &Path| -> Result<String> {
        let text = path.to_str().with_context(|| format!("{} is not a path in UTF-8", path.display()))?;
        // Inside a TOML basic string.
        Ok(text.replace('\\', "\\\\").replace('"', "\\\""))
    };
    let config = include_str!("farm.toml")
        .replace("{repository}", &text(repository)?)
        .replace("{data-dir}", &text(&dir.join("data"))?)
        .replace("{listen}", &format!("127.0.0.1:{port}"));
    let file = dir.join("greenroom.toml");
    std::fs::write(&file, config).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(file)
}

/// Commits now and then until it is over, then says what happened.
async fn play(master: Running, mut repository: Repository, options: Options) -> Result<()> {
    println!("the farm is live: {}\n", master.page());
    if options.run_for.is_none() {
        println!("somebody pushes a commit every {} s; Ctrl-C ends the demo\n", options.every.as_secs());
    }
    master.tell_builds(Arc::new(|line: &str| println!("{line}")));
    // Something to look at at once: one build of every builder.
    let all = ControlTarget::ForceScheduler("force".to_owned());
    let params = json!({"reason": "the demo begins", "branch": "main"});
    let forced = master.control().bind("demo").act(all, "force", params, None).await?;
    if let ControlAnswer::Invalid(why) = forced {
        bail!("the first builds were refused: {why}");
    }
    let ends = options.run_for.map(|d| Instant::now() + d);
    // The first commit comes at once, when the poller has seen where the branches stand.
    let mut next = Instant::now() + first_commit_after(options.every);
    loop {
        tokio::select! {
            () = sleep_until(next) => {
                let (repo, done) = spawn_blocking(move || { let done = repository.work(); (repository, done) })
                    .await
                    .context("the committer failed")?;
                repository = repo;
                println!("→ pushed to {}", done?);
                next = Instant::now() + options.every;
            }
            () = async { match ends { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => break,
            () = master.stop_asked() => break,
        }
    }
    println!();
    master.drain().await;
    println!("{}", summary::of(&master).await?);
    Ok(())
}

fn first_commit_after(every: Duration) -> Duration {
    every.min(Duration::from_secs(4))
}
