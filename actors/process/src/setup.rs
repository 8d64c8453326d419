//! The configuration as this layer uses it, by stored identity, one value for each version of it.
//!
//! A reload puts another version in force at once for everybody who asks. Builds keep the recipe that they began with, so
//! nothing here is ever changed: what a new version leaves alone it shares with the one before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use greenroom_config::Settings;
use greenroom_config::values::Secret;
use greenroom_data::{DataError, Hot, Rw};
use greenroom_model::*;

use crate::handles::settle;
use crate::layer::StartupError;

/// Versions kept whole besides the one in force: for a build whose start was under way when its successor came.
const EARLIER: usize = 4;

/// A builder of the configuration with its stored identity.
#[derive(Debug, PartialEq)]
pub(crate) struct Recipe {
    pub id: BuilderId,
    pub name: String,
    pub config: greenroom_config::Builder,
    /// The workers that may run it.
    pub workers: Vec<WorkerId>,
    /// The secrets that its steps need.
    pub secrets: Vec<(String, Secret)>,
}

/// A worker of the configuration with its stored identity.
#[derive(Debug, PartialEq)]
pub(crate) struct WorkerSetup {
    pub id: WorkerId,
    pub name: String,
    pub config: greenroom_config::Worker,
}

/// One version.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The number of the configuration.
    pub number: i64,
    pub settings: Arc<Settings>,
    pub recipes: HashMap<BuilderId, Arc<Recipe>>,
    pub workers: HashMap<WorkerId, Arc<WorkerSetup>>,
}

/// What a build began with, and keeps.
#[derive(Debug, Clone)]
pub(crate) struct Began {
    /// The number of the configuration.
    pub configuration: i64,
    pub recipe: Arc<Recipe>,
    pub worker: Arc<WorkerSetup>,
}

impl Setup {
    /// The version of these settings; what is as in `before` is shared with it.
    ///
    /// # Errors
    /// If something of the settings is not stored.
    pub fn new(
        number: i64,
        settings: Arc<Settings>,
        hot: &Hot,
        before: Option<&Setup>,
    ) -> Result<Self, StartupError> {
        let stored: HashMap<&str, WorkerId> =
            hot.workers.values().map(|it| (it.name.as_str(), it.id)).collect();
        let mut workers = HashMap::with_capacity(settings.workers.len());
        let mut ids = HashMap::with_capacity(settings.workers.len());
        for (name, config) in &settings.workers {
            let id = *stored.get(name.as_str()).ok_or_else(|| not_stored("worker", name))?;
            let known = before.and_then(|it| it.workers.get(&id)).filter(|it| it.config == *config);
            let made = || Arc::new(WorkerSetup { id, name: name.clone(), config: config.clone() });
            workers.insert(id, known.cloned().unwrap_or_else(made));
            ids.insert(name.as_str(), id);
        }
        let stored: HashMap<&str, BuilderId> =
            hot.builders.values().map(|it| (it.name.as_str(), it.id)).collect();
        let mut recipes = HashMap::with_capacity(settings.builders.len());
        for (name, config) in &settings.builders {
            let id = *stored.get(name.as_str()).ok_or_else(|| not_stored("builder", name))?;
            let allowed = settings.workers_of(config).into_iter();
            let allowed: Vec<WorkerId> = allowed.filter_map(|it| ids.get(it).copied()).collect();
            let known = before.and_then(|it| it.recipes.get(&id));
            let secrets = settings.secrets_of(config);
            let known =
                known.filter(|it| it.workers == allowed && it.config == *config && it.secrets == secrets);
            let recipe = match known {
                Some(recipe) => Arc::clone(recipe),
                None => {
                    let (name, config) = (name.clone(), config.clone());
                    Arc::new(Recipe { id, name, config, workers: allowed, secrets })
                }
            };
            recipes.insert(id, recipe);
        }
        Ok(Self { number, settings, recipes, workers })
    }

    /// The builder of that name.
    pub fn recipe_named(&self, name: &str) -> Option<&Arc<Recipe>> {
        self.recipes.values().find(|it| it.name == name)
    }
}

pub(crate) fn not_stored(what: &'static str, name: &str) -> StartupError {
    StartupError::NotStored { what, name: name.to_owned() }
}

/// The version in force, and a few before it.
#[derive(Debug)]
pub(crate) struct Setups {
    current: ArcSwap<Setup>,
    earlier: Mutex<VecDeque<Arc<Setup>>>,
}

impl Setups {
    pub fn new(first: Setup) -> Self {
        Self { current: ArcSwap::from_pointee(first), earlier: Mutex::default() }
    }

    /// The version in force.
    pub fn now(&self) -> Arc<Setup> {
        self.current.load_full()
    }

    /// Puts a version in force.
    pub fn replace(&self, new: Setup) {
        let before = self.current.swap(Arc::new(new));
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.push_back(before);
        if earlier.len() > EARLIER {
            earlier.pop_front();
        }
    }

    /// What a build of that version began with; none if the version is not kept any more or knows nothing of them.
    pub fn began(&self, number: i64, builder: BuilderId, worker: WorkerId) -> Option<Began> {
        let now = self.now();
        let setup = if now.number == number {
            now
        } else {
            let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(earlier.iter().rev().find(|it| it.number == number)?)
        };
        let (recipe, worker) = (setup.recipes.get(&builder)?, setup.workers.get(&worker)?);
        Some(Began { configuration: number, recipe: Arc::clone(recipe), worker: Arc::clone(worker) })
    }
}

/// The part of a configuration that the database knows.
pub fn configuration(settings: &Settings) -> write::Configuration {
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
    write::Configuration {
        builders: builders.collect(),
        workers: settings.workers.keys().cloned().collect(),
        schedulers: settings.schedulers.keys().cloned().collect(),
        change_sources: settings.change_sources.keys().cloned().collect(),
        projects,
    }
}

/// Makes the stored builders, workers, schedulers and change sources those of the configuration, and waits until
/// everybody can read that. To be called before anything that looks for their ids.
///
/// # Errors
/// Those of the data layer.
pub async fn configure(rw: &Rw, settings: &Settings) -> Result<(), DataError> {
    configure_with(rw, settings, Vec::new()).await
}

/// As [`configure`], with more that belongs to the same write, such as the number of the configuration.
///
/// # Errors
/// Those of the data layer.
pub async fn configure_with(rw: &Rw, settings: &Settings, more: Vec<Op>) -> Result<(), DataError> {
    let mut ops = vec![Op::Configure(Box::new(configuration(settings)))];
    ops.extend(more);
    let committed = rw.write(ops).await?;
    settle(rw.ro(), &committed).await
}
