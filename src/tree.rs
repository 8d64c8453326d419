//! The supervision tree of a master: what runs, under whom, and what happens when it ends.
//!
//! [`TABLE`] is the tree at a glance, and a test holds the running tree against it. Intensity, backoff and grace are
//! settings (`[supervision]`); the restart type is what a child *is*. All supervisors are one-for-one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_rt::Arbiter;
use anyhow::{Context, Result};
use greenroom_config::mask::SharedMasks;
use greenroom_config::{MqUrl, Settings};
use greenroom_data::{Control, DataLayer, DataOptions, Ro};
use greenroom_link::{LinkLayer, LinkOptions};
use greenroom_mq::BusUrl;
use greenroom_process::{ProcessLayer, ProcessOptions};
use greenroom_runtime::{ChildSpec, Front, Runtime, Supervisor, SupervisorSpec};
use greenroom_status::{ConsoleListener, FarmCounters, FarmMetrics, Print, StatusLayer, StatusOptions};
use greenroom_www::{ConfigurationState, Serving, Www, WwwParts};
use tokio::sync::{Mutex, watch};

use crate::about::AboutMaster;
use crate::actor_acts::ActorActs;
use crate::acts::MasterActs;
use crate::configurator::{Configurator, Layers, Shared, Store};
use crate::janitor::{Janitor, SharedCounts};
use crate::lifecycle::{Configured, database_url};
use crate::metrics::Counters;

/// A row of the table.
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "for readers, and for the test that holds the tree against it")
)]
pub struct Row {
    /// The supervisor.
    pub supervisor: &'static str,
    /// The child's name; `*` stands for any name or number.
    pub child: &'static str,
    /// Its kind, as in `[supervision.kinds]`.
    pub kind: &'static str,
    /// `permanent`: always born again; `transient`: unless it completed; `temporary`: never.
    pub restart: &'static str,
}

const fn row(
    supervisor: &'static str,
    child: &'static str,
    kind: &'static str,
    restart: &'static str,
) -> Row {
    Row { supervisor, child, kind, restart }
}

/// The tree, in the order of starting. It stops from the end.
#[rustfmt::skip]
#[cfg_attr(not(test), allow(dead_code, reason = "for readers, and for the test that holds the tree against it"))]
pub const TABLE: &[Row] = &[
    //  supervisor        child               kind                       restart
    row("data-layer",     "broker",           "broker",                  "permanent"),
    row("data-layer",     "db-writer",        "db-writer",               "permanent"),
    row("data-layer",     "db-reader",        "db-reader",               "permanent"),
    row("data-layer",     "log-writer",       "log-writer",              "permanent"),
    row("data-layer",     "log-reader",       "log-reader",              "permanent"),
    row("data-layer",     "data",             "data",                    "permanent"),
    row("data-layer",     "hub/actors",       "hub",                     "permanent"),
    row("hubs/*",         "hub/*",            "hub",                     "permanent"),
    row("data-layer",     "bus-link",         "bus-link",                "permanent"),
    row("directory",      "worker-directory", "worker-directory",        "permanent"),
    row("sessions",       "session/*",        "worker-session",          "temporary"),
    row("local-workers",  "local-worker/*",   "local-worker",            "permanent"),
    row("builds",         "build/*",          "build",                   "transient"),
    row("builders",       "builder/*",        "builder",                 "permanent"),
    row("builders",       "distributor",      "distributor",             "permanent"),
    row("schedulers",     "scheduler/*",      "single-branch-scheduler", "permanent"),
    row("schedulers",     "scheduler/*",      "any-branch-scheduler",    "permanent"),
    row("schedulers",     "scheduler/*",      "force-scheduler",         "permanent"),
    row("change-sources", "change-source/*",  "git-poller",              "permanent"),
    row("process",        "control-desk",     "control-desk",            "permanent"),
    row("process",        "takeover",         "takeover",                "permanent"),
    row("root",           "configurator",     "configurator",            "permanent"),
    row("root",           "janitor",          "janitor",                 "permanent"),
    row("listeners",      "listener/*",       "listener",                "permanent"),
    row("notifiers/*",    "notifier/*",       "notifier",                "permanent"),
    row("notifiers/*",    "irc/*",            "irc-connection",          "permanent"),
];

/// Threads that answer HTTP.
fn web_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().min(4))
}

/// The running tree.
pub struct Tree {
    data: DataLayer,
    link: LinkLayer,
    process: Arc<Mutex<Option<ProcessLayer>>>,
    configuration: Arc<Shared>,
    configurator: Front<Configurator>,
    listeners: Supervisor,
    status: StatusLayer,
    serving: Serving,
    /// Where links, listeners and polling run, apart from data and process.
    edge: Arbiter,
}

impl Tree {
    /// Starts everything from the bottom up. The port is open when it returns.
    pub async fn raise(runtime: &Runtime, configured: Configured, listener: TcpListener) -> Result<Self> {
        let Configured { loaded, options } = configured;
        let settings = loaded.settings.clone();
        let root = runtime.root();
        let edge = Arbiter::new();
        let data_dir = settings.master.data_dir.clone();
        let data = DataLayer::start(
            &root,
            DataOptions {
                database_url: database_url(&settings)?,
                data_dir: data_dir.clone(),
                bus: bus(&settings)?,
                master_name: settings.master.name.to_string(),
            },
        )
        .await
        .context("failed to start the data layer")?;
        let store = Store::open(&data_dir, data.rw())?;
        let version = store.begin(loaded).await?;
        let (settings, number) = (Arc::clone(&version.settings), version.number);
        tracing::info!(configuration.number = number, "the configuration is in force");
        let masks = crate::logging::masks();
        masks.add(&settings.secrets);

        let at_edge = root.supervisor(SupervisorSpec::new("edge").arbiter(edge.handle()));
        let data_dir = std::path::absolute(&data_dir).context("failed to find the data directory")?;
        let mut options_of_link = LinkOptions::new(data.rw(), settings.workers.clone(), &data_dir);
        options_of_link.masks = masks.clone();
        let link =
            LinkLayer::start(&at_edge, options_of_link).await.context("failed to start the worker link")?;
        let for_acts = Arc::new(OnceLock::new());
        let notifiers = Arc::new(OnceLock::new());
        let of_history = Arc::new(OnceLock::new());
        let process = ProcessLayer::start(ProcessOptions {
            settings: Arc::clone(&settings),
            configuration: number,
            rw: data.rw(),
            runner: Arc::new(link.workers()),
            outside: Arc::new(MasterActs {
                actors: ActorActs::new(runtime.clone()),
                configurator: Arc::clone(&for_acts),
                status: Arc::clone(&notifiers),
                janitor: Arc::clone(&of_history),
            }),
            parent: root.clone(),
            data_dir,
            polling: Some(edge.handle()),
        })
        .await
        .context("failed to start schedulers and builders")?;
        let listeners = at_edge.supervisor(SupervisorSpec::new("listeners"));
        let counters = Counters::default();
        count_farm(&listeners, data.ro(), counters.farm.clone());
        let about = Arc::new(AboutMaster::new(Arc::clone(&settings), process.distributor()));
        let status = start_status(&data, &at_edge, &masks, &about, &settings).await;
        drop(notifiers.set(status.clone()));

        let state = ConfigurationState { number, ..ConfigurationState::default() };
        let (serving, www) = serve(&data, &link, runtime, (settings, state), &counters, listener)?;
        link.start_local_workers(&format!("ws://{}", reachable(serving.address)));
        let process = Arc::new(Mutex::new(Some(process)));
        let layers = Layers {
            runtime: runtime.clone(),
            ro: data.ro(),
            masks,
            link: link.clone(),
            process: Arc::clone(&process),
            status: status.clone(),
            about,
            www,
        };
        let configuration = Arc::new(Shared::new(store, options, layers, version));
        let shared = Arc::clone(&configuration);
        let configurator = root.spawn(ChildSpec::new("configurator").permanent(), move |birth| {
            Configurator::new(birth, Arc::clone(&shared))
        });
        drop(for_acts.set(configurator.clone()));
        drop(of_history.set(start_janitor(&root, &data, &configuration)));
        Ok(Self { data, link, process, configuration, configurator, listeners, status, serving, edge })
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.configuration.current().settings)
    }

    /// Who puts another configuration in force.
    pub fn configurator(&self) -> Front<Configurator> {
        self.configurator.clone()
    }

    /// Reads the state.
    pub fn ro(&self) -> Ro {
        self.data.ro()
    }

    /// Answers when another process has taken this master's place.
    pub async fn lost_place(&self) {
        self.data.lost_place().await;
    }

    /// Asks for acts.
    pub fn control(&self) -> Control {
        self.data.control()
    }

    /// Adds the listener that prints a line for every build that ends.
    pub fn add_console(&self, print: Print) {
        let (ro, state) = (self.data.ro(), self.data.listener_state("console"));
        self.listeners.spawn(ChildSpec::new("listener/console").permanent(), move |birth| {
            ConsoleListener::new(birth, ro.clone(), state.clone(), print.clone())
        });
    }

    /// How many builds run, if a drain is still to be done.
    pub fn begin_drain(&self) -> Option<usize> {
        // held: a reload is under way, so there was no drain yet
        let pending = self.process.try_lock().map_or(true, |process| process.is_some());
        pending.then(|| self.data.ro().hot().running_builds().count())
    }

    /// The first phase of a stop: no build begins any more, and what runs may end. Says by name what was cut off.
    pub async fn drain(&self, grace: Duration) -> Vec<String> {
        self.configurator.request_stop(grace);
        let Some(process) = self.process.lock().await.take() else { return Vec::new() };
        let summary = process.stop(grace).await;
        tracing::info!(finished = summary.finished, "builds drained");
        let abandoned = summary.abandoned.into_iter().map(|build| format!("{build}, to be built again"));
        abandoned.chain(summary.cut_off).collect()
    }

    /// The second phase, after a drain: everything else ends, from the top down. Says by name what was cut off.
    pub async fn stop(&self, grace: Duration) -> Vec<String> {
        let mut cut_off = self.drain(grace).await;
        // Workers first: the server waits for connections that are open, and theirs do not end by themselves.
        cut_off.extend(self.status.stop(Some(grace)).await.into_iter().map(|it| it.name));
        let top = [self.listeners.stop(Some(grace)).await, self.link.stop(Some(grace)).await];
        self.serving.stop(true).await;
        let rest = top.into_iter().chain([self.data.stop(grace).await]);
        cut_off.extend(rest.flat_map(|report| report.cut_off).map(|c| c.name));
        self.edge.stop();
        cut_off
    }
}

/// Starts who keeps the history short, by what is in force at each look.
fn start_janitor(root: &Supervisor, data: &DataLayer, configuration: &Arc<Shared>) -> Front<Janitor> {
    let (data, configuration, counts) =
        (data.retention(), Arc::clone(configuration), SharedCounts::default());
    root.spawn(ChildSpec::new("janitor").permanent(), move |birth| {
        let configuration = Arc::clone(&configuration);
        let in_force = Arc::new(move || configuration.current().settings.retention.clone());
        Janitor::new(birth, data.clone(), in_force, counts.clone())
    })
}

/// Starts the notifiers, beside the other listeners.
async fn start_status(
    data: &DataLayer,
    at_edge: &Supervisor,
    masks: &SharedMasks,
    about: &Arc<AboutMaster>,
    settings: &Settings,
) -> StatusLayer {
    let (outboxes, others) = (data.clone(), data.clone());
    let options = StatusOptions {
        ro: data.ro(),
        control: data.control(),
        state: Arc::new(move |name| outboxes.notifier_state(name)),
        own_state: Arc::new(move |name| others.listener_state(name)),
        masks: masks.clone(),
        about: about.clone(),
        parent: at_edge.clone(),
    };
    StatusLayer::start(options, settings).await
}

/// Adds the listener that counts for `/metrics`.
fn count_farm(listeners: &Supervisor, ro: Ro, counters: FarmCounters) {
    let counted = Arc::new(watch::Sender::new(None));
    listeners.spawn(ChildSpec::new("listener/metrics").permanent(), move |birth| {
        FarmMetrics::new(birth, ro.clone(), counters.clone(), Arc::clone(&counted))
    });
}

/// The bus between the masters of the database, if there is one.
fn bus(settings: &Settings) -> Result<Option<BusUrl>> {
    match &settings.mq.url {
        MqUrl::Local => Ok(None),
        MqUrl::Bus(url) => Ok(Some(BusUrl::parse(url.expose())?)),
    }
}

/// Where this machine itself reaches what listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Opens the port: the page, the API and workers share it.
fn serve(
    data: &DataLayer,
    link: &LinkLayer,
    runtime: &Runtime,
    (settings, configuration): (Arc<Settings>, ConfigurationState),
    counters: &Counters,
    listener: TcpListener,
) -> Result<(Serving, Www)> {
    let port = listener.local_addr().context("failed to learn the port")?.port();
    let www = Www::new(WwwParts {
        ro: data.ro(),
        control: data.control(),
        runtime: runtime.clone(),
        settings,
        configuration,
        versions: vec![("Greenroom".to_owned(), env!("CARGO_PKG_VERSION").to_owned())],
        metrics: counters.registry(data, runtime),
        counters: counters.http.clone(),
        port,
    });
    let door = link.clone();
    let extra: greenroom_www::Extra = Arc::new(move |app| door.configure(app));
    let (serving, server) =
        greenroom_www::serve(listener, www.clone(), Some(extra), web_threads(), Duration::from_secs(5))?;
    actix_rt::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(error = %error, "the HTTP server ended");
        }
    });
    Ok((serving, www))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r##"
        [database]
        url = "memory:"
        [www]
        listen = "127.0.0.1:0"
        [workers.w1]
        password = "secret"
        [change-sources.repo]
        kind = "git-poller"
        repository = "/nowhere/at/all.git"
        branches = "*"
        [schedulers.one]
        kind = "single-branch"
        builders = ["b"]
        filter = { branch = ["main"] }
        [schedulers.any]
        kind = "any-branch"
        builders = ["b"]
        [schedulers.force]
        kind = "force"
        builders = "*"
        [builders.b]
        [[builders.b.steps]]
        run = "true"
        [notifiers.hook]
        kind = "webhook"
        url = "https://example.org/hook"
        [notifiers.team]
        kind = "irc"
        server = "127.0.0.1:1"
        nick = "greenroom"
        channels = ["#b"]
    "##;

    /// Children that come and go with work.
    const PASSING: &[&str] = &["build/*", "session/*", "local-worker/*", "hubs/*", "hub/*", "bus-link"];

    fn fits(pattern: &str, name: &str) -> bool {
        pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
    }

    #[test]
    fn a_local_worker_is_told_an_address_that_it_can_reach() {
        for (bound, told) in [
            ("127.0.0.1:8010", "127.0.0.1:8010"),
            ("[::1]:8010", "[::1]:8010"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("192.0.2.7:1", "192.0.2.7:1"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()).to_string(), told);
        }
    }

    /// What `[supervision]` can name and the tree are the same.
    fn settings_can_name(live: &[greenroom_runtime::ActorReport]) {
        use greenroom_config::supervised::{KINDS, SUPERVISORS};
        for row in TABLE {
            let known = KINDS.iter().any(|it| it.kind == row.kind && fits(it.names, row.child));
            assert!(known, "{} ({}) is not in greenroom_config::supervised", row.child, row.kind);
        }
        for supervisor in live.iter().filter(|it| it.kind == "supervisor") {
            let known = SUPERVISORS.iter().find(|(name, _)| fits(name, &supervisor.name));
            let group = supervisor.strategy.is_some();
            assert_eq!(known.map(|(_, group)| *group), Some(group), "{}", supervisor.name);
        }
    }

    #[test]
    fn the_running_tree_is_that_of_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let loaded =
            greenroom_config::load_text(CONFIG, dir.path()).unwrap_or_else(|f| panic!("{}", f.render(false)));
        actix_rt::System::new().block_on(async {
            let runtime = Runtime::builder().group().build();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let tree = Tree::raise(&runtime, Configured { loaded, options: None }, listener).await.unwrap();
            tree.add_console(Arc::new(|_: &str| {}));
            let live = runtime.reports().await;
            settings_can_name(&live);
            for actor in live.iter().filter(|a| a.kind != "supervisor") {
                let parent = actor.parent.as_deref().unwrap_or_default();
                let known = TABLE.iter().any(|row| {
                    let restart = actor.policy.map(|p| format!("{:?}", p.restart).to_lowercase());
                    fits(row.child, &actor.name)
                        && fits(row.supervisor, parent)
                        && row.kind == actor.kind
                        && restart.as_deref() == Some(row.restart)
                });
                assert!(
                    known,
                    "not in the table: {} ({}) under {parent}: {:?}",
                    actor.name, actor.kind, actor.policy
                );
            }
            for row in TABLE.iter().filter(|row| !PASSING.contains(&row.child)) {
                assert!(
                    live.iter().any(|a| fits(row.child, &a.name)),
                    "in the table, and not running: {}",
                    row.child
                );
            }
            assert_eq!(tree.stop(Duration::from_secs(10)).await, Vec::<String>::new());
        });
    }
}
