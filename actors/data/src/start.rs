//! Starting the data layer: storage, bus and the DataActor under a supervisor of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use greenroom_db as db;
use greenroom_model::{Event, LogId, MasterId, Op, Timestamp};
use greenroom_mq::{Broker, BusLink, BusUrl, Notice, Publish};
use greenroom_runtime::{ChildSpec, Front, Runtime, StopReport, Supervisor, SupervisorSpec};
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep};

use crate::actor::{Below, DataActor, Published};
use crate::control::Control;
use crate::error::DataError;
use crate::listener::ListenerState;
use crate::retention::Retention;
use crate::ro::{Ro, Shared, spawn_hub};
use crate::rw::{Rw, new_write};

/// How long the start waits for the first snapshot.
const FIRST_SNAPSHOT_WITHIN: Duration = Duration::from_secs(60);

/// What the data layer needs to know to start.
#[derive(Debug, Clone)]
pub struct DataOptions {
    /// Which database, and how it is connected to; made of a url alone, too.
    pub database_url: db::DatabaseOptions,
    /// Where relative files go.
    pub data_dir: PathBuf,
    /// This master's name.
    pub master_name: String,
    /// The bus between the masters of the database; none: a master alone, or one that hears of others by polling.
    pub bus: Option<BusUrl>,
}

/// Why the data layer did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database could not be opened.
    #[error(transparent)]
    Open(#[from] db::OpenError),
    /// The state could not be loaded in time.
    #[error("failed to load the state: {0}")]
    Load(DataError),
}

/// The running data layer: the source of all facets.
#[derive(Clone)]
pub struct DataLayer {
    rw: Rw,
    supervisor: Supervisor,
    store: db::Store,
    generation: i64,
    epoch: i64,
}

/// The actors of this layer, by name; the supervision tree of the binary lists them.
pub const ACTORS: &[(&str, &str)] = &[
    ("broker", "the topic bus"),
    ("db-writer", "one transaction at a time"),
    ("db-reader", "snapshots with their clock"),
    ("log-writer", "log text into segments"),
    ("log-reader", "windows of logs"),
    ("data", "cache, order, published snapshots"),
    ("hub/actors", "subscriptions of actors"),
    ("bus-link", "heads of other masters, if there is a bus between them"),
];

impl DataLayer {
    /// Opens the store, takes this master's place and starts the layer's actors under `root`.
    ///
    /// # Errors
    /// As the store says (newer schema, second master, unwritable directory, …), or if the state cannot be loaded.
    pub async fn start(root: &Supervisor, options: DataOptions) -> Result<Self, StartError> {
        let runtime = root.runtime();
        let now = Timestamp(runtime.now_micros());
        let store =
            db::Store::open(options.database_url, &options.data_dir, &options.master_name, now).await?;
        let layer = Self::start_over(root, store, Self::to_bus).await?;
        if let Some(bus) = options.bus {
            layer.join_bus(bus);
        }
        Ok(layer)
    }

    /// As [`DataLayer::start`], over an opened store, with `hints` deciding how committed events reach the bus. For tests of
    /// what a lying bus does.
    pub async fn start_over(
        root: &Supervisor,
        store: db::Store,
        hints: impl FnOnce(Front<Broker>) -> db::EventSink,
    ) -> Result<Self, StartError> {
        let supervisor = root.supervisor(SupervisorSpec::new("data-layer").group());
        let (me, generation, epoch) = (store.master(), store.generation(), store.epoch());
        let broker = supervisor.spawn(bound("broker", 65_536), |_| Broker::default());
        let (s, sink) = (store.clone(), hints(broker.clone()));
        let writer =
            supervisor.spawn(bound("db-writer", 16_384), move |_| db::DbWriter::new(s.clone(), sink.clone()));
        let s = store.clone();
        let reader = supervisor.spawn(bound("db-reader", 4_096), move |_| db::DbReader::new(s.clone()));
        let (s, announce) = (store.clone(), announcer(writer.clone(), supervisor.runtime()));
        let log_writer = supervisor.spawn(bound("log-writer", 16_384), move |birth| {
            let writer = db::LogWriter::new(s.clone(), announce.clone());
            if birth.number() > 1 { writer.reborn() } else { writer }
        });
        let s = store.clone();
        let logs = supervisor.spawn(bound("log-reader", 4_096), move |_| db::LogReader::new(s.clone()));
        let published: Published = Arc::new(ArcSwapOption::empty());
        let below = Below {
            me,
            reader: reader.clone(),
            broker: broker.clone(),
            published: published.clone(),
            plant: store.plant(),
        };
        let data = supervisor.spawn(bound("data", 65_536), move |birth| DataActor::new(birth, below.clone()));
        let hub = spawn_hub(&supervisor, "hub/actors", data.clone());
        let ids = store.ids();
        let shared = Shared {
            me,
            supervisor: supervisor.clone(),
            published,
            data,
            reader,
            logs,
            writer,
            log_writer,
            ids,
            writable: AtomicBool::new(true),
            store: store.clone(),
            broker,
        };
        let rw = Rw { ro: Ro { shared: Arc::new(shared), hub } };
        let layer = Self { rw, supervisor, store, generation, epoch };
        layer.wait_loaded().await?;
        if layer.store.is_shared() {
            layer.tell_life();
        }
        Ok(layer)
    }

    /// Renews this master's lease while nothing else is written: others may wait for its place.
    fn tell_life(&self) {
        let (writer, runtime) = (self.rw.ro.shared.writer.clone(), self.supervisor.runtime());
        // Two may be lost.
        let every = self.store.lease() / 3;
        actix::spawn(async move {
            while !writer.state().is_final() {
                sleep(every).await;
                let _ = writer.tell(db::Commit(new_write(&runtime, vec![Op::Heartbeat])));
            }
        });
    }

    /// Answers when another process has taken this master's place: nothing that it does is accepted any more, so it must end.
    pub async fn lost_place(&self) {
        self.store.lost_place().await;
    }

    /// Links this master to the bus between masters. Whether and when that succeeds decides latency, nothing else.
    fn join_bus(&self, url: BusUrl) {
        let shared = &self.rw.ro.shared;
        let (farm, me, broker) = (self.generation, shared.me, shared.broker.clone());
        self.supervisor.spawn(ChildSpec::new("bus-link").permanent(), move |birth| {
            BusLink::new(birth, url.clone(), farm, me, broker.clone())
        });
    }

    /// Committed events go to the bus. A bus that cannot take them loses a hint, no more.
    pub fn to_bus(broker: Front<Broker>) -> db::EventSink {
        Arc::new(move |events: Arc<[Event]>| {
            let _ = broker.tell(Publish(Notice::Events(events)));
        })
    }

    async fn wait_loaded(&self) -> Result<(), StartError> {
        let deadline = Instant::now() + FIRST_SNAPSHOT_WITHIN;
        while self.rw.ro.shared.published.load().is_none() {
            if Instant::now() > deadline {
                return Err(StartError::Load(DataError::unavailable("no snapshot in time")));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Names what this layer measures.
    pub fn register(&self, registry: &mut Registry) {
        self.store.metrics().register(registry);
    }

    /// This master.
    pub fn me(&self) -> MasterId {
        self.rw.ro.me()
    }

    /// Which life of the database.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// Counts the starts and takeovers of this master.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The facet that reads and subscribes.
    pub fn ro(&self) -> Ro {
        self.rw.ro.clone()
    }

    /// The facet that changes state.
    pub fn rw(&self) -> Rw {
        self.rw.clone()
    }

    /// The facet for users' acts.
    pub fn control(&self) -> Control {
        Control { rw: self.rw.clone() }
    }

    /// The facet of whoever keeps the history short.
    pub fn retention(&self) -> Retention {
        Retention { rw: self.rw.clone() }
    }

    /// The facet of the status listener of that name.
    pub fn listener_state(&self, name: &str) -> ListenerState {
        ListenerState { rw: self.rw.clone(), key: name.to_owned(), name: name.to_owned() }
    }

    /// The facet of the notifier of that name, which has messages too.
    pub fn notifier_state(&self, name: &str) -> ListenerState {
        ListenerState { rw: self.rw.clone(), key: format!("notifier/{name}"), name: name.to_owned() }
    }

    /// Removes events of this master that are older than `older_than` and not among its newest `keep`. The DbWriter does so by
    /// itself (an hour, a million); this is for whoever wants less. Gives the number up to which events are gone.
    ///
    /// # Errors
    /// If the database cannot do it now.
    pub async fn prune_events(&self, older_than: Timestamp, keep: i64) -> Result<i64, DataError> {
        let pruned = self.rw.ro.shared.writer.ask(db::Prune { older_than, keep }).await?;
        pruned.map(|p| p.floor).map_err(DataError::unavailable)
    }

    /// Stops in good order: stores all log text, says that this master is no longer active, ends the actors.
    pub async fn stop(&self, grace: Duration) -> StopReport {
        if let Err(error) = self.rw.ro.shared.log_writer.ask_within(grace, db::FlushLogs).await {
            tracing::warn!(error = %error, "log text could not be flushed at the stop");
        }
        if let Err(error) = self.rw.write_for(vec![Op::StopMaster], grace).await {
            tracing::warn!(error = %error, "the stop of this master could not be recorded");
        }
        self.supervisor.stop(Some(grace)).await
    }
}

/// These actors stand behind their Fronts for everybody: they take long queues and are back at once.
fn bound(name: &str, letters: u32) -> ChildSpec {
    ChildSpec::new(name)
        .permanent()
        .mailbox_bound(letters)
        .backoff(Duration::from_millis(10), Duration::from_secs(5))
}

/// Stored log text is announced by an event; a lost announcement is made good by the next, or by the log's end.
fn announcer(writer: Front<db::DbWriter>, runtime: Runtime) -> db::LogAnnouncer {
    Arc::new(move |log: LogId, num_lines: i64| {
        let _ = writer.tell(db::Commit(new_write(&runtime, vec![Op::GrowLog { log, num_lines }])));
    })
}
