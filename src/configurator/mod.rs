//! The configurator: owner of which version of the configuration is in force.
//!
//! One wish after the other: it loads the files on a thread for blocking work, compares, stores the layers in files, writes
//! the number beside what the database knows of the configuration in one write, and brings the settings to the layers. A
//! fault anywhere before the write changes nothing. Whatever dies after it, the write says what is in force: another birth
//! finishes it, another process loads its files and finds the number, or gives them the next one.

mod layers;
mod outcome;
mod store;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use greenroom_config::{Faults, LoadOptions, Loaded, Settings};
use greenroom_data::DataError;
use greenroom_model::{ConfigurationCause, ControlId};
use greenroom_runtime::{Birth, Supervised};
use greenroom_www::ConfigurationState;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

pub use layers::Layers;
pub use outcome::{Outcome, Told};
use store::{KEPT, Reason, environment};
pub use store::{Store, Version};

/// Where a wish finds its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The files that the master was started with.
    Files,
    /// An earlier version; the one before that in force, if none is named.
    Version(Option<i64>),
}

/// Asks for another configuration.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Outcome")]
pub struct Reconfigure {
    /// Which.
    pub from: From,
    /// Only say what would change.
    pub dry_run: bool,
    /// Who asks.
    pub who: String,
    /// By which act; it is carried out once.
    pub act: Option<ControlId>,
}

/// What outlives a birth.
pub struct Shared {
    pub store: Store,
    /// How the master was started; none if not by files.
    pub options: Option<LoadOptions>,
    pub layers: Layers,
    /// The settings that the process began with: what cannot be changed while it runs is compared with these.
    pub boot: Arc<Settings>,
    state: Mutex<State>,
}

struct State {
    current: Arc<Version>,
    /// Its write may have happened.
    pending: Option<Arc<Version>>,
    refused_at: Option<i64>,
    /// The faults of that.
    refusal: Option<Arc<str>>,
    /// Keys whose values in force take effect at the next start.
    next_start: Vec<String>,
    reloads: u64,
    refusals: u64,
}

impl Shared {
    /// With the version that the master started with.
    pub fn new(store: Store, options: Option<LoadOptions>, layers: Layers, first: Version) -> Self {
        let boot = Arc::clone(&first.settings);
        let current = Arc::new(first);
        let state = State {
            current,
            pending: None,
            refused_at: None,
            refusal: None,
            next_start: Vec::new(),
            reloads: 0,
            refusals: 0,
        };
        Self { store, options, layers, boot, state: Mutex::new(state) }
    }

    /// What pages and probes are told.
    fn told(&self) -> ConfigurationState {
        let state = self.state();
        ConfigurationState {
            number: state.current.number,
            refused_at: state.refused_at,
            refusal: state.refusal.clone(),
            next_start: state.next_start.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version in force.
    pub fn current(&self) -> Arc<Version> {
        Arc::clone(&self.state().current)
    }
}

/// The configurator.
pub struct Configurator {
    shared: Arc<Shared>,
}

impl Configurator {
    /// A birth of it.
    pub fn new(_: &Birth<Self>, shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Supervised for Configurator {
    const KIND: &'static str = "configurator";

    fn observe(&self) -> Value {
        let state = self.shared.state();
        json!({
            "number": state.current.number, "unfinished": state.pending.as_ref().map(|it| it.number),
            "reloads": state.reloads, "refusals": state.refusals,
            "refused_at": state.refused_at.map(|at| at.div_euclid(1_000_000)),
        })
    }
}

impl Actor for Configurator {
    type Context = Context<Self>;

    /// What an earlier birth left half done comes first.
    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.shared.state().pending.is_some() {
            let shared = Arc::clone(&self.shared);
            let finish = async move {
                if let Err(why) = finish(&shared).await {
                    tracing::error!(%why, "a configuration is not in force everywhere; the next reload tries again");
                }
            };
            ctx.wait(finish.into_actor(self));
        }
    }
}

impl Handler<Reconfigure> for Configurator {
    type Result = AtomicResponse<Self, Outcome>;

    fn handle(&mut self, wish: Reconfigure, _: &mut Context<Self>) -> Self::Result {
        let shared = Arc::clone(&self.shared);
        let (who, looks) = (wish.who.clone(), wish.dry_run);
        let work = async move {
            let outcome = match reconfigure(&shared, wish).await {
                Ok(outcome) => outcome,
                Err(why) => Outcome::Failed(format!("{why:#}")),
            };
            if !looks {
                outcome.log(&who);
            }
            outcome
        };
        AtomicResponse::new(Box::pin(work.into_actor(self)))
    }
}

async fn reconfigure(shared: &Shared, wish: Reconfigure) -> anyhow::Result<Outcome> {
    finish(shared).await?;
    if let Some(act) = wish.act
        && let Some(done) = shared.store.of_act(act).await?
    {
        return Ok(Outcome::carried_out(&done));
    }
    let current = shared.current();
    let (loaded, restores) = match wish.from {
        From::Files => (load_files(shared).await, None),
        From::Version(number) => {
            let number = number.unwrap_or(current.number - 1);
            if number < 1 || number >= current.number {
                let why = format!("there is no version {number} before {}", current.number);
                return Ok(Outcome::Failed(why));
            }
            (load_version(shared, number).await, Some(number))
        }
    };
    let loaded = match loaded {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(faults)) => {
            if restores.is_none() && !wish.dry_run {
                note_refusal(shared, &faults);
            }
            return Ok(Outcome::refused(&faults));
        }
        Err(why) => return Ok(Outcome::Failed(why)),
    };
    let mut told = Told {
        number: current.number,
        previous: current.number,
        dry_run: wish.dry_run,
        difference: current.difference(&loaded),
        next_start: next_start(&shared.boot, &loaded.settings),
        warnings: if loaded.warnings.is_empty() { String::new() } else { warnings(&loaded) },
        ..Told::default()
    };
    if restores.is_some() {
        told.notes
            .push("the files on disk are not changed: a reload or a restart loads what they say".to_owned());
    }
    if wish.dry_run {
        return Ok(Outcome::Told(Box::new(told)));
    }
    if told.difference.is_empty() {
        note_success(shared, restores.is_none());
        return Ok(Outcome::Told(Box::new(told)));
    }
    put_in_force(shared, wish, restores, loaded, told).await
}

/// Everything from the files of a version to the layers.
async fn put_in_force(
    shared: &Shared,
    wish: Reconfigure,
    restores: Option<i64>,
    loaded: Loaded,
    mut told: Told,
) -> anyhow::Result<Outcome> {
    let prepared = match shared.layers.prepare(&loaded.settings).await {
        Ok(prepared) => prepared,
        Err(error) => {
            return Ok(Outcome::Failed(format!("{:#}; nothing was changed", anyhow::Error::new(error))));
        }
    };
    told.next_start.extend(prepared.later().iter().cloned());
    let digest = shared.store.digest(&loaded);
    let last = shared.store.last().await?.map_or(0, |it| it.number);
    let version = Arc::new(Version::new(last + 1, loaded));
    shared.store.keep(version.number, version.layers.clone()).await?;
    let cause = if restores.is_some() { ConfigurationCause::Rollback } else { ConfigurationCause::Reload };
    let why = Reason { cause, restores, who: wish.who, act: wish.act };
    let difference = serde_json::to_value(&told.difference)?;
    shared.state().pending = Some(Arc::clone(&version));
    match shared.store.commit(&version, digest, difference, why).await {
        Ok(()) => {}
        Err(DataError::Refused(refusal)) => {
            shared.state().pending = None;
            return Ok(Outcome::Failed(format!("{refusal}; nothing was changed")));
        }
        // whether it is in force is looked up before the next wish, or by whoever comes after
        Err(error) => {
            finish(shared).await.map_err(|_| error)?;
            if shared.current().number != version.number {
                return Ok(Outcome::Failed("the database did not take it; nothing was changed".to_owned()));
            }
        }
    }
    let applied = apply(shared, &version, prepared).await?;
    note_success(shared, restores.is_none());
    let hot = shared.layers.ro.hot();
    for stranded in applied.stranded {
        let name = hot.builders.get(&stranded.builder.0).map_or("?", |it| it.name.as_str());
        let (count, verb) = if stranded.requests == 1 {
            ("1 request".to_owned(), "waits")
        } else {
            (format!("{} requests", stranded.requests), "wait")
        };
        told.notes.push(format!(
            "{count} of the builder `{name}` {verb}: it is not configured any more; they go on when it is configured again, \
             and can be cancelled"
        ));
    }
    (told.previous, told.number) = (told.number, version.number);
    Ok(Outcome::Told(Box::new(told)))
}

async fn apply(
    shared: &Shared,
    version: &Arc<Version>,
    prepared: greenroom_link::Prepared,
) -> anyhow::Result<greenroom_process::Applied> {
    let mut later = next_start(&shared.boot, &version.settings);
    later.extend(prepared.later().iter().cloned());
    let state = ConfigurationState { number: version.number, next_start: later.clone(), ..shared.told() };
    let applied = shared.layers.apply(&version.settings, prepared, state).await?;
    let mut state = shared.state();
    state.current = Arc::clone(version);
    state.pending = None;
    state.next_start = later;
    Ok(applied)
}

/// Finishes what was broken off: a version whose write has happened is brought to the layers, another one is forgotten.
async fn finish(shared: &Shared) -> anyhow::Result<()> {
    let Some(pending) = shared.state().pending.clone() else { return Ok(()) };
    shared.store.barrier().await?;
    if shared.store.last().await?.is_none_or(|last| last.number != pending.number) {
        shared.state().pending = None;
        return Ok(());
    }
    tracing::info!(
        configuration.number = pending.number,
        "a configuration that is stored is brought to all layers"
    );
    let prepared = shared.layers.prepare(&pending.settings).await?;
    apply(shared, &pending, prepared).await.map(drop)
}

type Load = Result<Result<Loaded, Faults>, String>;

async fn load_files(shared: &Shared) -> Load {
    let Some(options) = shared.options.clone() else {
        return Err("this master was not started with files".to_owned());
    };
    let loaded = spawn_blocking(move || greenroom_config::load(&options)).await;
    loaded.map_err(|_| "loading was broken off".to_owned())
}

async fn load_version(shared: &Shared, number: i64) -> Load {
    let layers = shared.store.layers(number).await.map_err(|error| {
        format!("version {number} cannot be taken back ({error:#}); the newest {KEPT} are kept")
    })?;
    let loaded = spawn_blocking(move || greenroom_config::load_layers(&layers, &environment())).await;
    loaded.map_err(|_| "loading was broken off".to_owned())
}

fn warnings(loaded: &Loaded) -> String {
    loaded.warnings.iter().map(|it| it.render(false) + "\n\n").collect()
}

fn note_refusal(shared: &Shared, faults: &Faults) {
    {
        let mut state = shared.state();
        state.refused_at = Some(shared.layers.runtime.now_micros());
        state.refusal = Some(outcome::text(faults).into());
        state.refusals += 1;
    }
    shared.layers.tell(&shared.current().settings, shared.told());
}

/// A good configuration; only the files' own say that a restart would be good too.
fn note_success(shared: &Shared, of_files: bool) {
    {
        let mut state = shared.state();
        state.reloads += 1;
        if of_files {
            (state.refused_at, state.refusal) = (None, None);
        }
    }
    shared.layers.tell(&shared.current().settings, shared.told());
}

/// The keys that differ from what the process began with, and take effect when it starts again.
fn next_start(boot: &Settings, new: &Settings) -> Vec<String> {
    let differ = [
        ("master.name", boot.master.name != new.master.name),
        ("master.data-dir", boot.master.data_dir != new.master.data_dir),
        ("database", boot.database != new.database),
        ("mq", boot.mq != new.mq),
        ("logs", boot.logs != new.logs),
        ("www.listen", boot.www.listen != new.www.listen),
    ];
    differ.into_iter().filter(|(_, it)| *it).map(|(key, _)| key.to_owned()).collect()
}
