//! `greenroom populate`: a history to measure on, made through the same writes that real builds make.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use greenroom_data::{DataError, DataLayer, DataOptions, Rw};
use greenroom_model::write::*;
use greenroom_model::*;
use greenroom_runtime::{Dice, Runtime};
use tokio::time::sleep;

use super::ConfigFiles;
use crate::lifecycle::database_url;

/// Builds in one write.
const BUILDS_A_WRITE: u64 = 10;
/// Writes under way at once.
const WRITES_AT_ONCE: usize = 8;

/// How much.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    files: ConfigFiles,
    /// Finished builds.
    #[arg(long)]
    builds: u64,
    /// Steps of each, with an empty log each.
    #[arg(long, default_value_t = 5)]
    steps: u64,
    /// Changes.
    #[arg(long, default_value_t = 1_000)]
    changes: u64,
}

/// Fills the database of a stopped master.
pub fn run(options: Options) -> Result<ExitCode> {
    crate::logging::start("warn");
    let Some(loaded) = options.files.clone().load()? else { return Ok(ExitCode::FAILURE) };
    let settings = loaded.settings;
    actix_rt::System::new().block_on(async move {
        let runtime = Runtime::builder().dice(Dice::from_os()).build();
        let data = DataOptions {
            database_url: database_url(&settings)?,
            data_dir: settings.master.data_dir.clone(),
            bus: None,
            master_name: settings.master.name.to_string(),
        };
        let layer =
            DataLayer::start(&runtime.root(), data).await.context("failed to start the data layer")?;
        greenroom_process::configure(&layer.rw(), &settings)
            .await
            .context("failed to store the configuration")?;
        let filler = Filler::new(layer.rw(), options.steps)?;
        let changes = stream::iter(0..options.changes).map(|n| filler.change(n));
        changes.buffer_unordered(64).try_collect::<()>().await?;
        let writes = (0..options.builds).step_by(BUILDS_A_WRITE as usize);
        let writes = stream::iter(writes).map(|n| filler.builds(n, BUILDS_A_WRITE.min(options.builds - n)));
        writes.buffer_unordered(WRITES_AT_ONCE).try_collect::<()>().await?;
        println!("{} builds of {} steps, {} changes", options.builds, options.steps, options.changes);
        layer.stop(Duration::from_secs(30)).await;
        Ok(ExitCode::SUCCESS)
    })
}

struct Filler {
    rw: Rw,
    steps: u64,
    builders: Vec<BuilderId>,
    workers: Vec<WorkerId>,
}

impl Filler {
    fn new(rw: Rw, steps: u64) -> Result<Self> {
        let hot = rw.ro().hot();
        let builders: Vec<_> = hot.builders.values().map(|b| b.id).collect();
        let workers: Vec<_> = hot.workers.values().map(|w| w.id).collect();
        if builders.is_empty() || workers.is_empty() {
            bail!("the configuration has no builder or no worker");
        }
        Ok(Self { rw, steps, builders, workers })
    }

    /// A new id; ids come in blocks, which are used up faster here than anywhere else.
    async fn id<I: AllocatedId>(&self) -> Result<I> {
        loop {
            match self.rw.new_id() {
                Ok(id) => return Ok(id),
                Err(DataError::Unavailable { .. }) => sleep(Duration::from_millis(1)).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn change(&self, n: u64) -> Result<()> {
        let change = NewChange {
            id: self.id().await?,
            origin: ChangeOrigin::Manual,
            author: "Ada <ada@example.org>".into(),
            committer: None,
            comments: format!("Change {n}"),
            branch: Some("main".into()),
            revision: Some(format!("{n:040x}")),
            revlink: None,
            when: self.rw.now(),
            category: None,
            repository: "https://example.org/repository".into(),
            codebase: String::new(),
            project: String::new(),
            files: vec![format!("src/file{}.c", n % 100)],
            properties: Properties::new(),
        };
        self.rw.write(vec![Op::AddChange(Box::new(change))]).await?;
        Ok(())
    }

    async fn builds(&self, first: u64, count: u64) -> Result<()> {
        let mut ops = Vec::new();
        for n in first..first + count {
            self.build(n, &mut ops).await?;
        }
        self.rw.write(ops).await?;
        Ok(())
    }

    async fn build(&self, n: u64, ops: &mut Vec<Op>) -> Result<()> {
        let builder = self.builders[n as usize % self.builders.len()];
        let worker = self.workers[n as usize % self.workers.len()];
        let (request, build) = (self.id().await?, self.id().await?);
        let text = |value: &str, source: &str| Property(value.into(), source.to_owned());
        let properties = Properties::from([
            ("branch".to_owned(), text("main", "Build")),
            ("revision".to_owned(), text(&format!("{n:040x}"), "Build")),
            ("owner".to_owned(), text("ada@example.org", "Force Build Form")),
        ]);
        let stamp = NewSourceStamp { branch: Some("main".into()), ..NewSourceStamp::default() };
        ops.push(Op::AddBuildset(Box::new(NewBuildset {
            id: self.id().await?,
            requests: vec![(request, builder)],
            sourcestamps: vec![StampRef::New(stamp)],
            reason: format!("populated {n}"),
            external_id: None,
            properties: Properties::new(),
            priority: 0,
            waited_for: false,
            scheduler: Some("force".into()),
            parent: None,
            rebuilt_build: None,
        })));
        let state_string = "starting".to_owned();
        ops.push(Op::StartBuild(Box::new(NewBuild { id: build, request, worker, state_string, properties })));
        for number in 0..self.steps as i64 {
            let (step, log) = (self.id().await?, self.id().await?);
            ops.push(Op::AddStep { id: step, build, number, name: format!("step{number}"), hidden: false });
            ops.push(Op::StartStep { step, state_string: "running".into() });
            ops.push(Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio });
            ops.push(Op::FinishLog { log, num_lines: 0 });
            ops.push(Op::FinishStep {
                step,
                results: Results::Success,
                state_string: "done".into(),
                hidden: false,
            });
        }
        // One in ten fails, so that lists look like lists.
        let results = if n % 10 == 9 { Results::Failure } else { Results::Success };
        ops.push(Op::FinishBuild { build, results, state_string: format!("build {results}") });
        Ok(())
    }
}
