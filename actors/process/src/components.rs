//! The actors that the configuration names: builders, schedulers, change sources. A start and a reload are the same thing:
//! what is wanted is compared with what runs, and only what differs is stopped or started.
//!
//! Builders hold nothing of their configuration, so a changed one goes on. Schedulers and change sources are started
//! again from what they have stored, after a barrier: a write that the stopped one had left under way comes before it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use greenroom_config::{ChangeSource, Scheduler};
use greenroom_data::Hot;
use greenroom_model::*;
use greenroom_runtime::{ChildSpec, Front, Supervisor};
use tokio::sync::Mutex;

use crate::builders::BuilderActor;
use crate::change_sources::{GitPoller, git_poller};
use crate::control_desk::Owners;
use crate::handles::Handles;
use crate::layer::StartupError;
use crate::schedulers::change_scheduler::Identity;
use crate::schedulers::{AnyBranch, ForceScheduler, SchedulerFront, SingleBranch, force};
use crate::setup::{Setup, not_stored};
use crate::steps::names::directory;

/// How long one that is replaced or removed may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// What a scheduler is made of.
#[derive(Debug, Clone, PartialEq)]
struct SchedulerSpec {
    id: SchedulerId,
    builders: Vec<BuilderId>,
    config: Scheduler,
}

/// What a change source is made of.
#[derive(Debug, Clone, PartialEq)]
struct SourceSpec {
    id: ChangeSourceId,
    config: ChangeSource,
}

/// What a version of the configuration wants to run.
pub(crate) struct Wanted {
    builders: BTreeMap<BuilderId, String>,
    schedulers: BTreeMap<String, SchedulerSpec>,
    sources: BTreeMap<String, SourceSpec>,
}

impl Wanted {
    /// # Errors
    /// If something of the settings is not stored.
    pub fn of(setup: &Setup, hot: &Hot) -> Result<Self, StartupError> {
        let builders: BTreeMap<BuilderId, String> =
            setup.recipes.values().map(|it| (it.id, it.name.clone())).collect();
        let ids: HashMap<&str, BuilderId> = builders.iter().map(|(id, name)| (name.as_str(), *id)).collect();
        let stored: HashMap<&str, SchedulerId> =
            hot.schedulers.values().map(|it| (it.name.as_str(), it.id)).collect();
        let mut schedulers = BTreeMap::new();
        for (name, config) in &setup.settings.schedulers {
            let id = *stored.get(name.as_str()).ok_or_else(|| not_stored("scheduler", name))?;
            let asked = setup.settings.builders_of(config);
            let builders = asked.into_iter().filter_map(|it| ids.get(it).copied()).collect();
            schedulers.insert(name.clone(), SchedulerSpec { id, builders, config: config.clone() });
        }
        let stored: HashMap<&str, ChangeSourceId> =
            hot.change_sources.values().map(|it| (it.name.as_str(), it.id)).collect();
        let mut sources = BTreeMap::new();
        for (name, config) in &setup.settings.change_sources {
            let id = *stored.get(name.as_str()).ok_or_else(|| not_stored("change source", name))?;
            sources.insert(name.clone(), SourceSpec { id, config: config.clone() });
        }
        Ok(Self { builders, schedulers, sources })
    }
}

#[derive(Default)]
struct Running {
    builders: HashMap<BuilderId, Front<BuilderActor>>,
    schedulers: HashMap<String, (SchedulerSpec, SchedulerFront)>,
    sources: HashMap<String, (SourceSpec, Front<GitPoller>)>,
}

/// The supervisors of the components, and what runs below them.
pub(crate) struct Components {
    pub builders: Supervisor,
    pub schedulers: Supervisor,
    pub sources: Supervisor,
    /// Where pollers keep their mirrors.
    pub data_dir: PathBuf,
    /// Who answers acts, for the control desk.
    pub owners: Arc<ArcSwap<Owners>>,
    running: Mutex<Running>,
}

impl Components {
    pub fn new(builders: Supervisor, schedulers: Supervisor, sources: Supervisor, data_dir: PathBuf) -> Self {
        let (owners, running) = (Arc::default(), Mutex::default());
        Self { builders, schedulers, sources, data_dir, owners, running }
    }

    /// Starts the builders that do not run.
    pub async fn start_builders(&self, h: &Handles, wanted: &Wanted) {
        let mut running = self.running.lock().await;
        for (id, name) in &wanted.builders {
            if running.builders.get(id).is_some_and(|front| !front.state().is_final()) {
                continue;
            }
            let (h, id, spec) = (h.clone(), *id, ChildSpec::new(format!("builder/{name}")));
            running.builders.insert(id, self.builders.spawn(spec, move |_| BuilderActor::new(h.clone(), id)));
        }
        self.publish(&running);
    }

    /// Stops the builders that are not wanted. Their builds are not theirs, and go on.
    pub async fn stop_builders(&self, wanted: &Wanted) {
        let mut running = self.running.lock().await;
        let gone: Vec<BuilderId> =
            running.builders.keys().copied().filter(|id| !wanted.builders.contains_key(id)).collect();
        let gone: Vec<_> = gone.into_iter().filter_map(|id| running.builders.remove(&id)).collect();
        self.publish(&running);
        join_all(gone.iter().map(|front| front.stop(GRACE))).await;
    }

    /// Makes the schedulers those that are wanted.
    pub async fn put_schedulers(&self, h: &Handles, wanted: &Wanted) {
        let mut running = self.running.lock().await;
        let stays = |name: &String, spec: &SchedulerSpec| wanted.schedulers.get(name) == Some(spec);
        let gone: Vec<String> = running
            .schedulers
            .iter()
            .filter(|(n, (spec, _))| !stays(n, spec))
            .map(|(n, _)| n.clone())
            .collect();
        let gone: Vec<_> =
            gone.into_iter().filter_map(|name| running.schedulers.remove_entry(&name)).collect();
        join_all(gone.iter().map(|(_, (_, front))| front.stop(GRACE))).await;
        for (name, spec) in &wanted.schedulers {
            if !running.schedulers.contains_key(name) {
                let replaces = gone.iter().any(|(it, _)| it == name);
                let front = self.start_scheduler(h, name, spec.clone(), replaces);
                running.schedulers.insert(name.clone(), (spec.clone(), front));
            }
        }
        self.publish(&running);
    }

    fn start_scheduler(
        &self,
        h: &Handles,
        name: &str,
        spec: SchedulerSpec,
        replaces: bool,
    ) -> SchedulerFront {
        let SchedulerSpec { id, builders, config } = spec;
        let (h, name, child) = (h.clone(), name.to_owned(), ChildSpec::new(format!("scheduler/{name}")));
        match config {
            Scheduler::SingleBranch(config) => {
                let identity = Arc::new(Identity { id, name, builders, config, replaces });
                SchedulerFront::SingleBranch(self.schedulers.spawn(child, move |birth| {
                    SingleBranch::new(h.clone(), birth.clone(), Arc::clone(&identity))
                }))
            }
            Scheduler::AnyBranch(config) => {
                let identity = Arc::new(Identity { id, name, builders, config, replaces });
                SchedulerFront::AnyBranch(self.schedulers.spawn(child, move |birth| {
                    AnyBranch::new(h.clone(), birth.clone(), Arc::clone(&identity))
                }))
            }
            Scheduler::Force(config) => {
                let identity = Arc::new(force::Identity { id, name, builders, config });
                SchedulerFront::Force(self.schedulers.spawn(child, move |birth| {
                    ForceScheduler::new(h.clone(), birth.clone(), Arc::clone(&identity))
                }))
            }
        }
    }

    /// Makes the change sources those that are wanted.
    pub async fn put_sources(&self, h: &Handles, wanted: &Wanted) {
        let mut running = self.running.lock().await;
        let stays = |name: &String, spec: &SourceSpec| wanted.sources.get(name) == Some(spec);
        let gone: Vec<String> =
            running.sources.iter().filter(|(n, (spec, _))| !stays(n, spec)).map(|(n, _)| n.clone()).collect();
        let gone: Vec<_> = gone.into_iter().filter_map(|name| running.sources.remove_entry(&name)).collect();
        join_all(gone.iter().map(|(_, (_, front))| front.stop(GRACE))).await;
        for (name, spec) in &wanted.sources {
            if !running.sources.contains_key(name) {
                let replaces = gone.iter().any(|(it, _)| it == name);
                let front = self.start_source(h, name, spec.clone(), replaces);
                running.sources.insert(name.clone(), (spec.clone(), front));
            }
        }
    }

    fn start_source(&self, h: &Handles, name: &str, spec: SourceSpec, replaces: bool) -> Front<GitPoller> {
        let (h, child) = (h.clone(), ChildSpec::new(format!("change-source/{name}")));
        match spec.config {
            ChangeSource::GitPoller(config) => {
                let mirror = self.data_dir.join("git-poller").join(directory(name));
                let (id, name) = (spec.id, name.to_owned());
                let identity = Arc::new(git_poller::Identity { id, name, config, mirror, replaces });
                self.sources.spawn(child, move |birth| {
                    GitPoller::new(h.clone(), birth.clone(), Arc::clone(&identity))
                })
            }
        }
    }

    fn publish(&self, running: &Running) {
        let schedulers = running.schedulers.values().map(|(spec, front)| (spec.id, front.clone()));
        let owners = Owners { builders: running.builders.clone(), schedulers: schedulers.collect() };
        self.owners.store(Arc::new(owners));
    }
}
