//! Starting the layer: the directory, the sessions' supervisor and the local workers under one supervisor.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::ServiceConfig;
use greenroom_config::{Worker, WorkerKind};
use greenroom_data::{DataError, Rw};
use greenroom_model::Op;
use greenroom_runtime::{ChildSpec, Front, StopOrder, StopReport, Supervisor, SupervisorSpec};
use tokio::sync::watch;

use crate::credentials::Credentials;
use crate::directory::{Board, DirectorySpec, WorkerDirectory};
use crate::door;
use crate::local::{self, LocalSpec, LocalWorker};
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
}

impl LinkOptions {
    /// Options with everything else at its default.
    pub fn new(rw: Rw, workers: BTreeMap<String, Worker>, data_dir: impl Into<PathBuf>) -> Self {
        Self { rw, workers, data_dir: data_dir.into(), agent: None, timing: Timing::default() }
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
    local_supervisor: Supervisor,
    locals: Arc<Vec<LocalSpec>>,
}

impl LinkLayer {
    /// Starts the layer under `parent`. First it is written that no worker is connected to this master.
    ///
    /// # Errors
    /// See [`LinkStartError`].
    pub async fn start(parent: &Supervisor, options: LinkOptions) -> Result<Self, LinkStartError> {
        disconnect_all(&options.rw).await.map_err(LinkStartError::Disconnect)?;
        let locals = local_specs(&options)?;
        let credentials = Arc::new(credentials(&options.workers, &locals)?);
        let supervisor = parent.supervisor(SupervisorSpec::new("link"));
        // Children stop last first: local workers, then sessions, then the directory, which writes who is gone.
        let board = Arc::new(watch::Sender::new(Board::new_sync()));
        let workers = Workers::new(board.subscribe(), hex(&random::<8>()?));
        let sessions_supervisor = |link: &Supervisor| {
            link.supervisor(SupervisorSpec::new("sessions").stop_order(StopOrder::Together))
        };
        let (rw, timing) = (options.rw, options.timing);
        let directory_supervisor = supervisor.supervisor(SupervisorSpec::new("directory"));
        let sessions = sessions_supervisor(&supervisor);
        let spec = DirectorySpec { rw, credentials, sessions, timing, board };
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
        Ok(Self { workers, directory, supervisor, local_supervisor, locals: Arc::new(locals) })
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
        for spec in self.locals.iter() {
            let (spec, master) = (spec.clone(), master.to_owned());
            let child = ChildSpec::new(format!("local-worker/{}", spec.name))
                .permanent()
                .backoff(Duration::from_millis(500), Duration::from_secs(30))
                .grace(local::GRACE + Duration::from_secs(2));
            self.local_supervisor
                .spawn(child, move |birth| LocalWorker::new(birth, spec.clone(), master.clone()));
        }
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

fn credentials(
    workers: &BTreeMap<String, Worker>,
    locals: &[LocalSpec],
) -> Result<Credentials, LinkStartError> {
    let remote = workers.iter().filter(|(_, worker)| worker.kind == WorkerKind::Remote);
    let remote =
        remote.filter_map(|(name, worker)| Some((name.as_str(), worker.password.as_ref()?.expose())));
    let local = locals.iter().map(|local| (local.name.as_str(), local.password.expose()));
    Ok(Credentials::new(remote.chain(local), random()?))
}

fn local_specs(options: &LinkOptions) -> Result<Vec<LocalSpec>, LinkStartError> {
    let local = options.workers.iter().filter(|(_, worker)| worker.kind == WorkerKind::Local);
    local
        .map(|(name, worker)| {
            let program = match &options.agent {
                Some(program) => program.clone(),
                None => std::env::current_exe().map_err(LinkStartError::Program)?,
            };
            let dir = worker.dir.clone().unwrap_or_else(|| options.data_dir.join("workers").join(name));
            let password = hex(&random::<32>()?);
            local::prepare(name, program, dir, &options.data_dir, password)
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
