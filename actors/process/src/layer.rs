//! Starting and stopping the layer: its supervision tree, recovery, and the two phases of a stop.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;
use greenroom_config::{ChangeSource, Scheduler, Settings};
use greenroom_data::{DataError, Hot, Rw};
use greenroom_model::*;
use greenroom_runtime::{ChildSpec, Front, Restart, StopOrder, Supervised, Supervisor, SupervisorSpec};
use tokio::time::{Instant, timeout, timeout_at};

use crate::builders::{BuilderActor, Distributor};
use crate::builds::{BuildActor, BuildBook};
use crate::change_sources::GitPoller;
use crate::change_sources::git_poller;
use crate::control_desk::{ControlDesk, Owners};
use crate::handles::{Handles, Inner, Recipe, WorkerSetup, settle};
use crate::messages::{AbandonBuild, StopClaiming};
use crate::outside::Outside;
use crate::properties::shelf::Shelf;
use crate::runner::CommandRunner;
use crate::schedulers::change_scheduler::Identity;
use crate::schedulers::{AnyBranch, ForceScheduler, SchedulerFront, SingleBranch, force};

/// Builds ended in one write when a master starts.
const RECOVERED_AT_ONCE: usize = 50;
/// How long the sources of work may take to stop, before builds are waited for.
const INTAKE_GRACE: Duration = Duration::from_secs(5);
/// How long builds that are given up may take to store that.
const ABANDON_GRACE: Duration = Duration::from_secs(5);

/// What the layer needs to start.
pub struct ProcessOptions {
    /// The configuration, stored already ([`configure`]).
    pub settings: Arc<Settings>,
    /// The way to the data layer.
    pub rw: Rw,
    /// The way to the workers.
    pub runner: Arc<dyn CommandRunner>,
    /// Who carries out acts on what lives outside this layer.
    pub outside: Arc<dyn Outside>,
    /// The supervisor that this layer's own supervisor becomes a child of.
    pub parent: Supervisor,
    /// Where pollers keep their mirrors.
    pub data_dir: PathBuf,
    /// Where pollers run: they wait for other systems, so not beside builds. None: where the parent's children run.
    pub polling: Option<ArbiterHandle>,
}

/// Why the layer could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The data layer.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Something of the configuration is not stored.
    #[error("the {what} `{name}` is not stored: the configuration must be stored before this layer starts")]
    NotStored {
        /// Which kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

/// A row of this layer's part of the supervision tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The supervisor.
    pub supervisor: &'static str,
    /// Names of its children; `*` stands for a name or number.
    pub name: &'static str,
    /// Their kind, as in `[supervision.kinds]`.
    pub kind: &'static str,
    /// When they are born again.
    pub restart: Restart,
}

/// The supervision tree of this layer, in the order of starting; it is stopped from the end.
pub const TREE: &[Row] = &[
    row::<BuildActor>("builds", "build/*", Restart::Transient),
    row::<BuilderActor>("builders", "builder/*", Restart::Permanent),
    row::<Distributor>("builders", "distributor", Restart::Permanent),
    row::<SingleBranch>("schedulers", "scheduler/*", Restart::Permanent),
    row::<AnyBranch>("schedulers", "scheduler/*", Restart::Permanent),
    row::<ForceScheduler>("schedulers", "scheduler/*", Restart::Permanent),
    row::<GitPoller>("change-sources", "change-source/*", Restart::Permanent),
    row::<ControlDesk>("process", "control-desk", Restart::Permanent),
];

const fn row<A: Supervised>(supervisor: &'static str, name: &'static str, restart: Restart) -> Row {
    Row { supervisor, name, kind: A::KIND, restart }
}

/// What a stop did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopSummary {
    /// Builds that ended by themselves within the grace.
    pub finished: usize,
    /// Builds that did not, by name; they end as retry.
    pub abandoned: Vec<String>,
    /// Actors that did not end in order.
    pub cut_off: Vec<String>,
}

/// The running layer.
pub struct ProcessLayer {
    h: Handles,
    supervisor: Supervisor,
    schedulers: Supervisor,
    sources: Supervisor,
    distributor: Front<Distributor>,
}

/// Makes the stored builders, workers, schedulers and change sources those of the configuration, and waits until
/// everybody can read that. To be called before anything that looks for their ids.
///
/// # Errors
/// Those of the data layer.
pub async fn configure(rw: &Rw, settings: &Settings) -> Result<(), DataError> {
    let builders = settings.builders.iter().map(|(name, builder)| write::ConfiguredBuilder {
        name: name.clone(),
        description: builder.options.description.clone(),
        project: builder.options.project.clone(),
        tags: builder.options.tags.clone(),
        workers: settings.workers_of(builder).into_iter().map(str::to_owned).collect(),
    });
    let mut projects: Vec<(String, Option<String>)> =
        settings.builders.values().filter_map(|it| Some((it.options.project.clone()?, None))).collect();
    projects.sort();
    projects.dedup();
    let configuration = write::Configuration {
        builders: builders.collect(),
        workers: settings.workers.keys().cloned().collect(),
        schedulers: settings.schedulers.keys().cloned().collect(),
        change_sources: settings.change_sources.keys().cloned().collect(),
        projects,
    };
    let committed = rw.write(vec![Op::Configure(Box::new(configuration))]).await?;
    settle(rw.ro(), &committed).await
}

impl ProcessLayer {
    /// Ends what an earlier life of this master left unfinished, then starts every actor of the layer.
    ///
    /// # Errors
    /// When the data layer fails, or the configuration is not stored.
    pub async fn start(options: ProcessOptions) -> Result<Self, StartupError> {
        let ProcessOptions { settings, rw, runner, outside, parent, data_dir, polling } = options;
        let hot = rw.ro().hot();
        let workers = workers(&settings, &hot)?;
        let recipes = recipes(&settings, &hot, &workers)?;
        let (runtime, builds, properties) = (parent.runtime(), BuildBook::default(), Shelf::default());
        let h = Handles::new(Inner { rw, runner, outside, runtime, settings, recipes, workers, builds, properties });
        recover(&h).await?;

        let supervisor = parent.supervisor(SupervisorSpec::new("process"));
        let builds = SupervisorSpec::new("builds").stop_order(StopOrder::Together);
        h.builds.set_supervisor(supervisor.supervisor(builds.intensity(100, Duration::from_secs(60))));
        let builders = supervisor.supervisor(SupervisorSpec::new("builders"));
        let owners_of_builders = start_builders(&h, &builders);
        let for_distributor = h.clone();
        let distributor = builders.spawn(ChildSpec::new("distributor"), move |birth| {
            Distributor::new(for_distributor.clone(), birth.clone())
        });
        let together = |name: &str| SupervisorSpec::new(name).stop_order(StopOrder::Together);
        let schedulers = supervisor.supervisor(together("schedulers"));
        let owners_of_schedulers = start_schedulers(&h, &hot, &schedulers)?;
        let mut sources = together("change-sources");
        if let Some(polling) = polling {
            sources = sources.arbiter(polling);
        }
        let sources = supervisor.supervisor(sources);
        start_sources(&h, &hot, &sources, &data_dir)?;
        let owners = Owners { builders: owners_of_builders, schedulers: owners_of_schedulers };
        let for_desk = h.clone();
        supervisor.spawn(ChildSpec::new("control-desk"), move |birth| {
            ControlDesk::new(for_desk.clone(), birth.clone(), owners.clone())
        });
        Ok(Self { h, supervisor, schedulers, sources, distributor })
    }

    /// The distributor, to be asked why a request waits.
    pub fn distributor(&self) -> Front<Distributor> {
        self.distributor.clone()
    }

    /// Stops in two phases: nothing new is taken in or claimed; builds that run have `grace` to end; those that do not are
    /// interrupted and end as retry, and are named.
    pub async fn stop(self, grace: Duration) -> StopSummary {
        let until = Instant::now() + grace;
        let mut summary = StopSummary::default();
        for intake in [&self.sources, &self.schedulers] {
            let report = intake.stop(Some(INTAKE_GRACE)).await;
            summary.cut_off.extend(report.cut_off.into_iter().map(|it| it.name));
        }
        if let Err(error) = self.distributor.ask_within(INTAKE_GRACE, StopClaiming).await {
            tracing::debug!(%error, "the distributor is gone before the stop");
        }
        let running = self.h.builds.all();
        let mut left = Vec::new();
        for (id, front) in running {
            match timeout_at(until, front.wait_ended()).await {
                Ok(_) => summary.finished += 1,
                Err(_) => left.push((id, front)),
            }
        }
        for (id, front) in &left {
            summary.abandoned.push(self.name_of(*id));
            if let Err(error) = front.tell(AbandonBuild { why: "the master stops".to_owned() }) {
                tracing::debug!(build.id = id.0, %error, "a build ended before it was given up");
            }
        }
        let until = Instant::now() + ABANDON_GRACE;
        for (_, front) in &left {
            // one that does not store its end in time is ended at the next start
            let _ = timeout_at(until, front.wait_ended()).await;
        }
        let report = self.supervisor.stop(Some(INTAKE_GRACE)).await;
        summary.cut_off.extend(report.cut_off.into_iter().map(|it| it.name));
        summary
    }

    fn name_of(&self, id: BuildId) -> String {
        let hot = self.h.ro().hot();
        let build = hot.builds.get(&id.0);
        let builder = build.and_then(|it| self.h.recipes.get(&it.builder));
        match (build, builder) {
            (Some(build), Some(builder)) => format!("{} #{}", builder.name, build.number),
            _ => format!("build {id}"),
        }
    }
}

fn not_stored(what: &'static str, name: &str) -> StartupError {
    StartupError::NotStored { what, name: name.to_owned() }
}

fn workers(settings: &Settings, hot: &Hot) -> Result<HashMap<WorkerId, Arc<WorkerSetup>>, StartupError> {
    let stored: HashMap<&str, WorkerId> = hot.workers.values().map(|it| (it.name.as_str(), it.id)).collect();
    let mut workers = HashMap::with_capacity(settings.workers.len());
    for (name, config) in &settings.workers {
        let id = *stored.get(name.as_str()).ok_or_else(|| not_stored("worker", name))?;
        workers.insert(id, Arc::new(WorkerSetup { id, name: name.clone(), config: config.clone() }));
    }
    Ok(workers)
}

fn recipes(
    settings: &Settings,
    hot: &Hot,
    workers: &HashMap<WorkerId, Arc<WorkerSetup>>,
) -> Result<HashMap<BuilderId, Arc<Recipe>>, StartupError> {
    let stored: HashMap<&str, BuilderId> =
        hot.builders.values().map(|it| (it.name.as_str(), it.id)).collect();
    let by_name: HashMap<&str, WorkerId> = workers.values().map(|it| (it.name.as_str(), it.id)).collect();
    let mut recipes = HashMap::with_capacity(settings.builders.len());
    for (name, config) in &settings.builders {
        let id = *stored.get(name.as_str()).ok_or_else(|| not_stored("builder", name))?;
        let allowed = settings.workers_of(config);
        let workers = allowed.into_iter().filter_map(|it| by_name.get(it).copied()).collect();
        recipes.insert(id, Arc::new(Recipe { id, name: name.clone(), config: config.clone(), workers }));
    }
    Ok(recipes)
}

/// Builds of this master that nobody runs any more end as retry: their requests are free again (or end as exception, when
/// that happened too often).
async fn recover(h: &Handles) -> Result<(), DataError> {
    let hot = h.ro().hot();
    let left: Vec<BuildId> = hot.running_builds().filter(|it| it.master == h.me()).map(|it| it.id).collect();
    let mut last = None;
    for some in left.chunks(RECOVERED_AT_ONCE) {
        let ended = |build: &BuildId| Op::FinishBuild {
            build: *build,
            results: Results::Retry,
            state_string: "lost: the master was restarted".to_owned(),
        };
        match h.persist(some.iter().map(ended).collect()).await {
            Ok(committed) => last = Some(committed),
            Err(DataError::Refused(_)) => {
                // one of them spoils the others: each alone
                for build in some {
                    match h.persist(vec![ended(build)]).await {
                        Ok(committed) => last = Some(committed),
                        Err(DataError::Refused(refusal)) => {
                            tracing::debug!(build.id = build.0, %refusal, "a build had ended already");
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    if !left.is_empty() {
        tracing::info!(
            builds = left.len(),
            "builds of an earlier life of this master were ended; they are repeated"
        );
    }
    match last {
        Some(committed) => timeout(Duration::from_secs(60), h.settle(&committed))
            .await
            .unwrap_or_else(|_| Err(DataError::unavailable("recovery is not published"))),
        None => Ok(()),
    }
}

fn start_builders(h: &Handles, supervisor: &Supervisor) -> Arc<HashMap<BuilderId, Front<BuilderActor>>> {
    let start = |recipe: &Arc<Recipe>| {
        let (h, recipe, id) = (h.clone(), Arc::clone(recipe), recipe.id);
        let spec = ChildSpec::new(format!("builder/{}", recipe.name));
        (id, supervisor.spawn(spec, move |_| BuilderActor::new(h.clone(), Arc::clone(&recipe))))
    };
    Arc::new(h.recipes.values().map(start).collect())
}

fn start_schedulers(
    h: &Handles,
    hot: &Hot,
    supervisor: &Supervisor,
) -> Result<Arc<HashMap<SchedulerId, SchedulerFront>>, StartupError> {
    let by_name: HashMap<&str, BuilderId> = h.recipes.values().map(|it| (it.name.as_str(), it.id)).collect();
    let mut fronts = HashMap::new();
    for (name, config) in &h.settings.schedulers {
        let id = hot.scheduler_named(name).map(|it| it.id).ok_or_else(|| not_stored("scheduler", name))?;
        let asked = h.settings.builders_of(config);
        let builders = asked.into_iter().filter_map(|it| by_name.get(it).copied()).collect();
        let (h, name, spec) = (h.clone(), name.clone(), ChildSpec::new(format!("scheduler/{name}")));
        let front = match config.clone() {
            Scheduler::SingleBranch(config) => {
                let identity = Arc::new(Identity { id, name, builders, config });
                SchedulerFront::SingleBranch(supervisor.spawn(spec, move |birth| {
                    SingleBranch::new(h.clone(), birth.clone(), Arc::clone(&identity))
                }))
            }
            Scheduler::AnyBranch(config) => {
                let identity = Arc::new(Identity { id, name, builders, config });
                SchedulerFront::AnyBranch(supervisor.spawn(spec, move |birth| {
                    AnyBranch::new(h.clone(), birth.clone(), Arc::clone(&identity))
                }))
            }
            Scheduler::Force(config) => {
                let identity = Arc::new(force::Identity { id, name, builders, config });
                let factory = move |_: &_| ForceScheduler::new(h.clone(), Arc::clone(&identity));
                SchedulerFront::Force(supervisor.spawn(spec, factory))
            }
        };
        fronts.insert(id, front);
    }
    Ok(Arc::new(fronts))
}

fn start_sources(
    h: &Handles,
    hot: &Hot,
    supervisor: &Supervisor,
    data_dir: &std::path::Path,
) -> Result<(), StartupError> {
    for (name, config) in &h.settings.change_sources {
        let stored = hot.change_sources.values().find(|it| it.name == *name);
        let id = stored.map(|it| it.id).ok_or_else(|| not_stored("change source", name))?;
        let (h, spec) = (h.clone(), ChildSpec::new(format!("change-source/{name}")));
        match config.clone() {
            ChangeSource::GitPoller(config) => {
                let mirror = data_dir.join("git-poller").join(crate::steps::names::directory(name));
                let identity = Arc::new(git_poller::Identity { id, name: name.clone(), config, mirror });
                supervisor.spawn(spec, move |birth| {
                    GitPoller::new(h.clone(), birth.clone(), Arc::clone(&identity))
                });
            }
        }
    }
    Ok(())
}
