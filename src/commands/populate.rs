//! `greenroom populate`: fills a stopped master's database with a history to measure on.
//!
//! The builds are made by the operations that real builds make, in the same order, but thousands in one commit
//! ([`greenroom_db::Filling`]): what they leave is what real builds leave.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use greenroom_db::{Filling, Store};
use greenroom_model::ids::IdKind;
use greenroom_model::write::*;
use greenroom_model::*;
use greenroom_runtime::Runtime;

use super::ConfigFiles;
use crate::lifecycle::database_url;

/// Changes and builds in one commit: so many that an fsync counts for nothing, and so few that they are held in memory with ease.
const ITEMS_A_COMMIT: i64 = 8_000;
/// The history ends so long ago, and is at most so long.
const ENDED_AGO: i64 = 60 * SECOND;
const LONGEST: i64 = 30 * 86_400 * SECOND;
/// From one build to the next, if that is not too long in all.
const PAUSE: i64 = 60 * SECOND;
const SECOND: i64 = 1_000_000;
/// How long the statements that gather a server's statistics may take.
const STATISTICS_WITHIN: std::time::Duration = std::time::Duration::from_secs(3_600);

/// How much.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    files: ConfigFiles,
    /// Finished builds.
    #[arg(long)]
    builds: u32,
    /// Steps of each.
    #[arg(long, default_value_t = 5)]
    steps: u16,
    /// Changes, which the builds are of by turns.
    #[arg(long, default_value_t = 1_000)]
    changes: u32,
    /// Logs of each step, empty.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    logs: u8,
}

impl Options {
    /// What must be the same when a filling that was broken off goes on.
    fn plan(&self) -> String {
        format!("b{} s{} c{} l{}", self.builds, self.steps, self.changes, self.logs)
    }

    fn items(&self) -> i64 {
        i64::from(self.changes) + i64::from(self.builds)
    }

    /// So many ids of each kind are needed.
    fn ids(&self) -> Vec<(IdKind, i64)> {
        let (builds, changes) = (i64::from(self.builds), i64::from(self.changes));
        let steps = builds * i64::from(self.steps);
        vec![
            (IdKind::Change, changes),
            (IdKind::SourceStamp, changes + 1),
            (IdKind::Buildset, builds),
            (IdKind::BuildRequest, builds),
            (IdKind::Build, builds),
            (IdKind::Step, steps),
            (IdKind::Log, steps * i64::from(self.logs)),
        ]
    }
}

/// Fills the database of a stopped master.
pub fn run(options: Options) -> Result<ExitCode> {
    crate::logging::start("warn");
    let Some(loaded) = options.files.clone().load()? else { return Ok(ExitCode::FAILURE) };
    let settings = loaded.settings;
    actix_rt::System::new().block_on(async move {
        let runtime = Runtime::builder().build();
        let now = || Timestamp(runtime.now_micros());
        let mut database = database_url(&settings)?;
        database.statement_timeout = STATISTICS_WITHIN;
        let name = settings.master.name.to_string();
        let store = Store::open(database, &settings.master.data_dir, &name, now()).await;
        let store = store.context("failed to open the database")?;
        let mut filling = Filling::begin(store, &options.plan(), options.items(), &options.ids()).await?;
        let configured = Op::Configure(Box::new(greenroom_process::configuration(&settings)));
        filling.commit(0, &[(now(), configured)], now()).await?;
        let begun = Instant::now();
        let missing = filling.left();
        fill(&options, &mut filling, &now).await?;
        filling.end(now()).await?;
        let rate = missing as f64 / begun.elapsed().as_secs_f64();
        println!(
            "{} builds of {} steps, {} changes; {rate:.0} of them a second",
            options.builds, options.steps, options.changes
        );
        Ok(ExitCode::SUCCESS)
    })
}

/// Does all that is left to do.
async fn fill(options: &Options, filling: &mut Filling, now: &impl Fn() -> Timestamp) -> Result<()> {
    let (builders, workers) = filling.configured().await?;
    if builders.is_empty() || workers.is_empty() {
        bail!("the configuration has no builder or no worker");
    }
    let pause = PAUSE.min(LONGEST / i64::from(options.builds).max(1));
    let history = History { options, builders, workers, end: now().0 - ENDED_AGO, pause };
    let mut ops = Vec::new();
    while filling.left() > 0 {
        let first = options.items() - filling.left();
        let count = filling.left().min(ITEMS_A_COMMIT);
        for item in first..first + count {
            history.item(item, filling, &mut ops)?;
        }
        filling.commit(count, &ops, now()).await?;
        ops.clear();
    }
    Ok(())
}

/// What is made: first the changes, then the builds, evenly over the time.
struct History<'a> {
    options: &'a Options,
    builders: Vec<BuilderId>,
    workers: Vec<WorkerId>,
    /// When the last build ends.
    end: i64,
    /// From one build to the next.
    pause: i64,
}

/// Operations with their times.
type Ops = Vec<(Timestamp, Op)>;

impl History<'_> {
    fn item(&self, item: i64, filling: &Filling, ops: &mut Ops) -> Result<()> {
        let changes = i64::from(self.options.changes);
        match item - changes {
            before if before < 0 => self.change(item, filling, ops),
            build => self.build(build, filling, ops),
        }
    }

    /// When a build of a number is asked for; below 0: before the first.
    fn time(&self, build: i64) -> i64 {
        let whole = 2 + 2 * i64::from(self.options.steps);
        self.end - whole * SECOND - (i64::from(self.options.builds) - build) * self.pause
    }

    fn stamp(&self, n: i64) -> NewSourceStamp {
        NewSourceStamp {
            branch: Some("main".into()),
            revision: (self.options.changes > 0).then(|| format!("{n:040x}")),
            repository: "https://example.org/repository".into(),
            ..NewSourceStamp::default()
        }
    }

    fn change(&self, n: i64, filling: &Filling, ops: &mut Ops) -> Result<()> {
        let at = Timestamp(self.time(n - i64::from(self.options.changes)));
        let NewSourceStamp { branch, revision, repository, codebase, project, .. } = self.stamp(n);
        let change = NewChange {
            id: filling.id()?,
            origin: ChangeOrigin::Manual,
            author: "Ada <ada@example.org>".into(),
            committer: None,
            comments: format!("Change {n}"),
            branch,
            revision,
            revlink: None,
            when: at,
            category: None,
            repository,
            codebase,
            project,
            files: vec![format!("src/file{}.c", n % 100)],
            properties: Properties::new(),
        };
        ops.push((at, Op::AddChange(Box::new(change))));
        Ok(())
    }

    fn build(&self, n: i64, filling: &Filling, ops: &mut Ops) -> Result<()> {
        let at = self.time(n);
        let pick = usize::try_from(n).unwrap_or_default();
        let builder = self.builders[pick % self.builders.len()];
        let worker = self.workers[pick % self.workers.len()];
        let (request, build): (_, BuildId) = (filling.id()?, filling.id()?);
        let stamp = self.stamp(n % i64::from(self.options.changes).max(1));
        let text = |value: &str, source: &str| Property(value.into(), source.to_owned());
        let properties = Properties::from([
            ("branch".to_owned(), text("main", "Build")),
            ("revision".to_owned(), text(stamp.revision.as_deref().unwrap_or_default(), "Build")),
            ("owner".to_owned(), text("ada@example.org", "Force Build Form")),
        ]);
        let set = NewBuildset {
            id: filling.id()?,
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
        };
        ops.push((Timestamp(at), Op::AddBuildset(Box::new(set))));
        let started = Timestamp(at + SECOND);
        let state_string = "building".to_owned();
        let new = NewBuild { id: build, request, worker, state_string, properties };
        ops.push((started, Op::StartBuild(Box::new(new))));
        // One in ten fails, so that lists look like lists.
        let results = if n % 10 == 9 { Results::Failure } else { Results::Success };
        let ended = self.steps(build, results, started.0, filling, ops)?;
        let state_string = match results {
            Results::Success => "build successful".to_owned(),
            other => format!("failed ({other})"),
        };
        ops.push((ended, Op::FinishBuild { build, results, state_string }));
        Ok(())
    }

    /// The steps of a build one after the other, of which the last has its result; answers when it ends.
    fn steps(
        &self,
        build: BuildId,
        results: Results,
        started: i64,
        filling: &Filling,
        ops: &mut Ops,
    ) -> Result<Timestamp> {
        let steps = i64::from(self.options.steps);
        let ids = (0..steps).map(|_| Ok(filling.id()?)).collect::<Result<Vec<StepId>>>()?;
        for (number, id) in (0..).zip(&ids) {
            let (id, name) = (*id, format!("step{number}"));
            ops.push((Timestamp(started), Op::AddStep { id, build, number, name, hidden: false }));
        }
        let mut at = Timestamp(started);
        for (number, step) in (0..).zip(ids) {
            ops.push((at, Op::StartStep { step, state_string: "running".into() }));
            let log = if self.options.logs > 0 { Some(filling.id()?) } else { None };
            if let Some(id) = log {
                ops.push((at, Op::AddLog { id, step, name: "stdio".into(), kind: LogKind::Stdio }));
                ops.push((at, Op::SetStepCommand { step, command: format!("{:032x}", id.0) }));
            }
            at = Timestamp(at.0 + 2 * SECOND);
            if let Some(log) = log {
                ops.push((at, Op::FinishLog { log, num_lines: 0 }));
            }
            let results = if number + 1 == steps { results } else { Results::Success };
            let state_string = format!("'true' ({results})");
            ops.push((at, Op::FinishStep { step, results, state_string, hidden: false }));
        }
        Ok(at)
    }
}
