//! What the edge is made of: the facets it reads and acts by, and what it shows of the configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use actix_web::web::{self, ServiceConfig};
use arc_swap::ArcSwap;
use greenroom_config::Settings;
use greenroom_data::{Control, Ro};
use greenroom_runtime::Runtime;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, watch};

use crate::feed::sse;
use crate::metrics::HttpCounters;
use crate::origin::Origins;
use crate::{api, avatar, frontend, health, hook, metrics, page, schema, ws};

/// What the binary hands over.
pub struct WwwParts {
    /// Reads and subscribes.
    pub ro: Ro,
    /// Asks for acts.
    pub control: Control,
    /// Whose tree `/api/v2/actors` shows.
    pub runtime: Runtime,
    /// The configuration.
    pub settings: Arc<Settings>,
    /// Its number, and how reloads went.
    pub configuration: ConfigurationState,
    /// Programs and their versions, for the About page and `/config`.
    pub versions: Vec<(String, String)>,
    /// What `/metrics` shows.
    pub metrics: Arc<Registry>,
    /// What is counted of requests, named in `metrics`.
    pub counters: HttpCounters,
    /// The port that was bound (it differs from the setting when that is 0).
    pub port: u16,
}

/// Which configuration is in force, and how the last reload went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigurationState {
    /// Its number.
    pub number: i64,
    /// When the last reload was refused, if that was after the last good one: microseconds UTC.
    pub refused_at: Option<i64>,
    /// The faults that it was refused for, as `greenroom check` shows them.
    pub refusal: Option<Arc<str>>,
    /// Keys whose values in force take effect at the next start.
    pub next_start: Vec<String>,
}

/// What a reload changes.
pub(crate) struct Configured {
    pub(crate) settings: Arc<Settings>,
    pub(crate) origins: Origins,
    pub(crate) state: ConfigurationState,
}

impl Configured {
    fn of(settings: Arc<Settings>, state: ConfigurationState) -> Self {
        Self { origins: Origins::new(&settings.master.url), settings, state }
    }
}

/// The edge. Cheap to clone; all that is not tied to a thread is shared.
#[derive(Clone)]
pub struct Www {
    inner: Arc<Inner>,
    /// Reads and subscribes; on a thread of the server by that thread's own hub.
    pub(crate) ro: Ro,
}

/// What is shared by all threads of the server.
pub struct Inner {
    pub(crate) control: Control,
    pub(crate) runtime: Runtime,
    configured: ArcSwap<Configured>,
    pub(crate) versions: Vec<(String, String)>,
    pub(crate) port: u16,
    pub(crate) metrics: Arc<Registry>,
    pub(crate) counters: HttpCounters,
    /// Open streams of `/sse`.
    pub(crate) streams: sse::Streams,
    /// Places for searches of logs.
    pub(crate) searches: Arc<Semaphore>,
    /// Open connections to the feed.
    pub(crate) sockets: AtomicUsize,
    /// Threads of the server so far, for the names of their hubs.
    threads: AtomicUsize,
    /// Whether a health probe of the database runs.
    pub(crate) probing: AtomicBool,
    /// Becomes true when the server stops: event sockets say goodbye.
    pub(crate) stopping: watch::Sender<bool>,
}

impl std::ops::Deref for Www {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Www {
    /// The edge over these parts.
    pub fn new(parts: WwwParts) -> Self {
        let ro = parts.ro;
        let inner = Arc::new(Inner {
            configured: ArcSwap::from_pointee(Configured::of(parts.settings, parts.configuration)),
            control: parts.control,
            metrics: parts.metrics,
            counters: parts.counters,
            runtime: parts.runtime,
            versions: parts.versions,
            port: parts.port,
            streams: sse::Streams::default(),
            searches: Arc::new(Semaphore::new(api::log_search::AT_ONCE)),
            sockets: AtomicUsize::new(0),
            probing: AtomicBool::new(false),
            threads: AtomicUsize::new(0),
            stopping: watch::Sender::new(false),
        });
        Self { inner, ro }
    }

    /// Puts another configuration in force, for all threads of the server at once.
    pub fn apply(&self, settings: Arc<Settings>, state: ConfigurationState) {
        self.configured.store(Arc::new(Configured::of(settings, state)));
    }

    /// The configuration in force.
    pub(crate) fn configured(&self) -> Arc<Configured> {
        self.configured.load_full()
    }

    /// The same edge for the calling thread of the server: an event crosses over to it once, however many of its sockets
    /// want it.
    pub(crate) fn on_this_thread(&self) -> Self {
        let number = self.threads.fetch_add(1, Ordering::Relaxed) + 1;
        Self { inner: self.inner.clone(), ro: self.ro.on_own_hub(&format!("www-{number}")) }
    }

    /// Mounts every path of the edge. Call it last: what is not found elsewhere belongs to the page.
    pub fn configure(&self, app: &mut ServiceConfig) {
        app.app_data(web::Data::new(self.clone()))
            .route("/ws", web::route().to(ws::upgrade))
            .route("/sse/{tail:.*}", web::get().to(sse::serve))
            .route("/config", web::route().to(frontend::config))
            .route("/health", web::route().to(health::health))
            .route("/metrics", web::route().to(metrics::metrics))
            .route("/avatar", web::route().to(avatar::avatar))
            .route("/change_hook", web::route().to(hook::base))
            .route("/change_hook/{dialect}", web::route().to(hook::dialect))
            .route("/api/v2/schema/config", web::get().to(schema::config))
            .route("/api", web::route().to(api::versions))
            .route("/api/{tail:.*}", web::route().to(api::serve))
            .default_service(web::route().to(page::serve));
    }

    /// Tells open event sockets to close, so that a graceful stop does not wait for them.
    pub(crate) fn say_goodbye(&self) {
        self.stopping.send_replace(true);
    }
}
