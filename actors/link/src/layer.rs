//! Starting the layer, and giving it another configuration: the directory, the sessions' supervisor and the local workers
//! under one supervisor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::web::ServiceConfig;
use arc_swap::ArcSwap;
use greenroom_config::mask::SharedMasks;
use greenroom_config::{Worker, WorkerKind};
use greenroom_data::{DataError, Rw};
use greenroom_model::Op;
use greenroom_runtime::{ChildSpec, Front, StopOrder, StopReport, Supervisor, SupervisorSpec};
use tokio::sync::watch;

use crate::credentials::Credentials;
use crate::directory::{Board, DirectorySpec, WorkerDirectory};
use crate::door;
use crate::local::{self, LocalSpec};
use crate::locals::Locals;
use crate::workers::Workers;

/// Patience with workers.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Time between two pings.
    pub ping: Duration,
    /// A worker that was silent for so long is lost; at least twice `ping`.
    pub silence: Duration,
    /// Time for the first connection of a name to prove that it lives when a second one comes.
    pub proof: Duration,
    /// Time for the whole connect sequence.
    pub connect: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            proof: Duration::from_secs(10),
            connect: Duration::from_secs(60),
        }
    }
}

/// What the layer needs to know to start.
pub struct LinkOptions {
    /// The data layer; its configuration (`Op::Configure`) is written.
    pub rw: Rw,
    /// `[workers.NAME]`.
    pub workers: BTreeMap<String, Worker>,
    /// Where generated passwords and the directories of local workers go. Absolute.
    pub data_dir: PathBuf,
    /// The program that is the agent when called as `PROGRAM worker …`; this one if none is given.
    pub agent: Option<PathBuf>,
    /// Patience with workers.
    pub timing: Timing,
    /// What of the workers' words nobody may read.
    pub masks: SharedMasks,
}

impl LinkOptions {
    /// Options with everything else at its default.
    pub fn new(rw: Rw, workers: BTreeMap<String, Worker>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            rw,
            workers,
            data_dir: data_dir.into(),
            agent: None,
            timing: Timing::default(),
            masks: SharedMasks::default(),
        }
    }
}

/// Why the layer did not start.
#[derive(Debug, thiserror::Error)]
pub enum LinkStartError {
    /// The workers of a former run of this master could not be disconnected.
    #[error("failed to write that no worker is connected yet")]
    Disconnect(#[source] DataError),
    /// A file or directory of a local worker could not be made.
    #[error("failed to prepare {path} for a local worker")]
    Local {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The operating system gives no random numbers.
    #[error("failed to get random numbers: {0}")]
    Random(String),
    /// The preparation of local workers broke off.
    #[error("the preparation of local workers broke off")]
    BrokenOff,
    /// The path of this program is not known.
    #[error("failed to find this program's own file")]
    Program(#[source] std::io::Error),
}

/// The actors of this layer, by name; the supervision tree of the binary lists them.
pub const ACTORS: &[(&str, &str)] = &[
    ("worker-directory", "which session belongs to which worker"),
    ("session/NAME", "one worker connection, temporary"),
    ("local-worker/NAME", "the process of a local worker"),
];

/// The running layer. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct LinkLayer {
    workers: Workers,
    directory: Front<WorkerDirectory>,
    supervisor: Supervisor,
    shared: Arc<Shared>,
}

/// The workers of another configuration, ready to be put in force by [`LinkLayer::apply`].
pub struct Prepared {
    workers: BTreeMap<String, Worker>,
    specs: Vec<LocalSpec>,
    later: Vec<String>,
}

impl Prepared {
    /// The keys whose new values take effect at the next start.
    pub fn later(&self) -> &[String] {
        &self.later
    }
}

/// What a new configuration changes.
struct Shared {
    credentials: Arc<ArcSwap<Credentials>>,
    locals: Arc<Locals>,
    /// The workers as they are in force.
    workers: Mutex<BTreeMap<String, Worker>>,
    data_dir: PathBuf,
    agent: Option<PathBuf>,
}

impl LinkLayer {
    /// Starts the layer under `parent`. First it is written that no worker is connected to this master.
    ///
    /// # Errors
    /// See [`LinkStartError`].
    pub async fn start(parent: &Supervisor, options: LinkOptions) -> Result<Self, LinkStartError> {
        disconnect_all(&options.rw).await.map_err(LinkStartError::Disconnect)?;
        let specs = local_specs(&options.workers, &options.data_dir, options.agent.as_deref(), &|_| None)?;
        let credentials = Credentials::new(passwords(&options.workers, &specs), random()?);
        let credentials = Arc::new(ArcSwap::from_pointee(credentials));
        let supervisor = parent.supervisor(SupervisorSpec::new("link").group());
        // Children stop last first: local workers, then sessions, then the directory, which writes who is gone.
        let board = Arc::new(watch::Sender::new(Board::new_sync()));
        let sessions_supervisor = |link: &Supervisor| {
            link.supervisor(SupervisorSpec::new("sessions").stop_order(StopOrder::Together))
        };
        let (rw, timing, masks) = (options.rw, options.timing, options.masks);
        let directory_supervisor = supervisor.supervisor(SupervisorSpec::new("directory"));
        let sessions = sessions_supervisor(&supervisor);
        let facing = board.subscribe();
        let spec =
            DirectorySpec { rw, credentials: Arc::clone(&credentials), sessions, timing, board, masks };
        let directory = directory_supervisor.spawn(
            ChildSpec::new("worker-directory")
                .permanent()
                .mailbox_bound(16_384)
                .ask_deadline(Duration::from_secs(4)),
            move |birth| WorkerDirectory::new(birth, spec.clone()),
        );
        // A local worker that keeps dying is tried again for ever, ever more slowly; it takes nobody with it.
        let local_supervisor = supervisor.supervisor(
            SupervisorSpec::new("local-workers")
                .stop_order(StopOrder::Together)
                .intensity(1000, Duration::from_secs(60)),
        );
        let locals = Arc::new(Locals::new(local_supervisor));
        locals.put(&specs);
        let workers =
            Workers::new(facing, hex(&random::<8>()?), Arc::clone(&credentials), Arc::clone(&locals));
        let (data_dir, agent) = (options.data_dir, options.agent);
        let shared =
            Arc::new(Shared { credentials, locals, workers: Mutex::new(options.workers), data_dir, agent });
        Ok(Self { workers, directory, supervisor, shared })
    }

    /// Prepares the workers of another configuration, without letting them in yet: a new local worker needs a directory and a
    /// password.
    ///
    /// # Errors
    /// If one cannot be prepared.
    pub async fn prepare(&self, workers: &BTreeMap<String, Worker>) -> Result<Prepared, LinkStartError> {
        let (mut workers, mut later) = (workers.clone(), Vec::new());
        {
            let before = self.shared.workers.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, worker) in &mut workers {
                let Some(old) = before.get(name) else { continue };
                if old.kind != worker.kind {
                    later.push(format!("workers.{name}.kind"));
                    *worker = old.clone();
                } else if old.kind == WorkerKind::Local && old.dir != worker.dir {
                    later.push(format!("workers.{name}.dir"));
                    worker.dir.clone_from(&old.dir);
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        // Directories and password files are made.
        let prepared = tokio::task::spawn_blocking(move || {
            let known = |name: &str| shared.locals.find(name);
            let specs = local_specs(&workers, &shared.data_dir, shared.agent.as_deref(), &known);
            specs.map(|specs| Prepared { workers, specs, later })
        });
        prepared.await.map_err(|_| LinkStartError::BrokenOff)?
    }

    /// Makes the workers those that were prepared. New ones are let in, and started if they are local; passwords count
    /// from the next connection on, so sessions go on; workers that are gone are not let in again, and go by
    /// [`Workers::part`] when nothing runs on them.
    pub fn apply(&self, prepared: Prepared) {
        let Prepared { workers, specs, .. } = prepared;
        let credentials = self.shared.credentials.load().replaced(passwords(&workers, &specs));
        self.shared.credentials.store(Arc::new(credentials));
        self.shared.locals.put(&specs);
        *self.shared.workers.lock().unwrap_or_else(PoisonError::into_inner) = workers;
    }

    /// The facet for `process`.
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }

    /// Puts the workers' door onto the shared port: every WebSocket upgrade outside `/ws` and `/api`. To be called
    /// before other services are added to the app.
    pub fn configure(&self, config: &mut ServiceConfig) {
        door::configure(&self.directory, config);
    }

    /// Starts the local workers of the configuration; they connect to `master`, such as `ws://127.0.0.1:8010`. To be
    /// called once, when the port is open.
    pub fn start_local_workers(&self, master: &str) {
        self.shared.locals.open(master);
    }

    /// Stops the layer: local workers end, sessions close, what runs is lost.
    pub async fn stop(&self, within: Option<Duration>) -> StopReport {
        self.supervisor.stop(within).await
    }
}

/// Writes at once that no worker is connected to this master: a former run may not have come to it.
async fn disconnect_all(rw: &Rw) -> Result<(), DataError> {
    let (hot, me) = (rw.ro().hot(), rw.ro().me());
    let connected = hot.workers.values().filter(|worker| worker.connected_to.contains(&me));
    let ops: Vec<Op> = connected.map(|worker| Op::DisconnectWorker { worker: worker.id }).collect();
    if ops.is_empty() { Ok(()) } else { rw.write(ops).await.map(drop) }
}

/// The names and passwords of all workers.
fn passwords<'a>(
    workers: &'a BTreeMap<String, Worker>,
    locals: &'a [LocalSpec],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let remote = workers.iter().filter(|(_, worker)| worker.kind == WorkerKind::Remote);
    let remote =
        remote.filter_map(|(name, worker)| Some((name.as_str(), worker.password.as_ref()?.expose())));
    remote.chain(locals.iter().map(|local| (local.name.as_str(), local.password.expose())))
}

/// How to start each local worker; one that is `known` stays as it is.
fn local_specs(
    workers: &BTreeMap<String, Worker>,
    data_dir: &Path,
    agent: Option<&Path>,
    known: &dyn Fn(&str) -> Option<LocalSpec>,
) -> Result<Vec<LocalSpec>, LinkStartError> {
    let local = workers.iter().filter(|(_, worker)| worker.kind == WorkerKind::Local);
    local
        .map(|(name, worker)| {
            if let Some(spec) = known(name) {
                return Ok(spec);
            }
            let program = match agent {
                Some(program) => program.to_owned(),
                None => std::env::current_exe().map_err(LinkStartError::Program)?,
            };
            let dir = worker.dir.clone().unwrap_or_else(|| data_dir.join("workers").join(name));
            let password = hex(&random::<32>()?);
            local::prepare(name, program, dir, data_dir, password)
                .map_err(|(path, source)| LinkStartError::Local { path, source })
        })
        .collect()
}

fn random<const N: usize>() -> Result<[u8; N], LinkStartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| LinkStartError::Random(error.to_string()))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
