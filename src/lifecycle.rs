//! The life of a master: start in order, run, stop in two phases.
//!
//! A stop first ends the intake (no new requests are taken up), lets what runs drain within the grace period, then says by name
//! what was cut off. A second signal is hard.

use std::future::Future;
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use greenroom_config::{DatabaseUrl, LoadOptions, Loaded, LogStoreKind, Logs, Settings};
use greenroom_data::{Control, Ro};
use greenroom_db::{DatabaseOptions, S3Options, TextStore};
use greenroom_runtime::{AskError, Dice, Escalation, Front, Runtime};
use greenroom_status::Print;
use tokio::signal::unix::{self, Signal, SignalKind};
use tokio::sync::watch;

use crate::configurator::{Configurator, From, Reconfigure};
use crate::tree::Tree;

/// For tests: how long a master is taken for alive after it last told that it lives, in seconds, instead of
/// [`greenroom_db::LEASE`]. All masters of a database must have the same.
const LEASE: &str = "GREENROOM_LEASE";

/// How long a reload by a signal may take.
const RELOADED_WITHIN: Duration = Duration::from_secs(600);

/// What a master ends with when its root supervisor gave up: a fault of the program, not of how it was called.
pub const GAVE_UP: u8 = 70;

/// What a master ends with when another process has taken its place: it is well, and may be started again.
pub const TAKEN_OVER: u8 = 75;

/// Another process has taken this master's place.
#[derive(Debug, thiserror::Error)]
#[error("this master was taken over by another process: it was away for longer than its lease")]
struct TakenOver;

/// A master that runs.
#[derive(Clone)]
pub struct Running {
    tree: Arc<Tree>,
    page: String,
    signals: Signals,
}

/// What a master starts with, and where it finds another one when it is asked to reload.
pub struct Configured {
    /// The configuration.
    pub loaded: Loaded,
    /// The layers that it came from; none if it was not made of files.
    pub options: Option<LoadOptions>,
}

impl Running {
    /// Where its page is.
    pub fn page(&self) -> &str {
        &self.page
    }

    /// Reads its state.
    pub fn ro(&self) -> Ro {
        self.tree.ro()
    }

    /// Asks for acts.
    pub fn control(&self) -> Control {
        self.tree.control()
    }

    /// How long what runs may take to end, by the settings in force.
    fn grace(&self) -> Duration {
        self.tree.settings().supervision.grace.get()
    }

    /// Prints a line for every build that ends.
    pub fn tell_builds(&self, print: Print) {
        self.tree.add_console(print);
    }

    /// Waits until a signal says stop.
    pub async fn stop_asked(&self) {
        self.signals.heard(1).await;
    }

    /// The first phase of a stop: no build begins any more, and what runs may end within the grace period. Says what it does.
    /// It happens once; whoever ends without it gets it then.
    pub async fn drain(&self) {
        if let Some(running) = self.tree.begin_drain() {
            eprintln!(
                "stopping: no build begins any more, {running} still run; a second signal ends at once"
            );
            for cut_off in self.tree.drain(self.grace()).await {
                eprintln!("cut off: {cut_off}");
            }
        }
    }
}

/// Runs a master as long as `body` does, then stops it. The code is what the process ends with: a failure when a
/// supervisor gave up.
pub fn run<F, Fut>(configured: Configured, body: F) -> Result<ExitCode>
where
    F: FnOnce(Running) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let outcome = actix_rt::System::new().block_on(async move {
        let signals = Signals::listen();
        // heard from now on: its default is to end the process
        let hangups = unix::signal(SignalKind::hangup());
        let listener = bind(&configured.loaded.settings)?;
        let address = listener.local_addr().context("failed to learn the address that was bound")?;
        let runtime = Runtime::builder()
            .group()
            .dice(Dice::from_os())
            .policies((&configured.loaded.settings.supervision).into())
            .build();
        crate::rehearse::begin(&runtime);
        let gave_up = async { anyhow::Error::new(runtime.escalation().await) };
        tokio::pin!(gave_up);
        let tree = tokio::select! {
            tree = Tree::raise(&runtime, configured, listener) => Arc::new(tree?),
            error = &mut gave_up => return Err(error),
            () = signals.heard(1) => bail!("stopped by a signal while starting"),
        };
        reload_on_hangup(hangups, tree.configurator());
        let running =
            Running { tree: tree.clone(), page: format!("http://{address}/"), signals: signals.clone() };
        let outcome = tokio::select! {
            outcome = body(running.clone()) => outcome,
            error = &mut gave_up => Err(error),
            // Nothing that it does is accepted any more, its own stop included: so it ends at once.
            () = tree.lost_place() => return Err(TakenOver.into()),
        };
        let hard = signals.count() + 1;
        tokio::select! {
            () = stop(&running) => {}
            () = tree.lost_place() => return Err(TakenOver.into()),
            () = signals.heard(hard.max(2)) => bail!("stopped hard by a second signal"),
        }
        outcome.map(|()| ExitCode::SUCCESS)
    });
    match outcome {
        Err(error) if error.is::<Escalation>() => {
            last_words(&error);
            Ok(ExitCode::from(GAVE_UP))
        }
        Err(error) if error.is::<TakenOver>() => {
            eprintln!("greenroom: {error}; it ends with code {TAKEN_OVER} and can be started again");
            Ok(ExitCode::from(TAKEN_OVER))
        }
        outcome => outcome,
    }
}

/// Says what the process dies of: which actor ended with what, how often, and whom that took along.
fn last_words(error: &anyhow::Error) {
    eprintln!("greenroom: a supervisor gave up, and the master ends with code {GAVE_UP}: {error}");
    let chain = error.downcast_ref::<Escalation>().map(|it| it.chain.as_slice()).unwrap_or_default();
    for (depth, line) in chain.iter().enumerate() {
        eprintln!("greenroom: {}{line}", "  ".repeat(depth + 1));
    }
}

/// Every SIGHUP asks for a reload; what comes of it stands in the log. Several that come at once are one.
fn reload_on_hangup(hangups: std::io::Result<Signal>, configurator: Front<Configurator>) {
    let Ok(mut hangups) = hangups else {
        return tracing::warn!("SIGHUP cannot be heard; use `greenroom reload`");
    };
    actix_rt::spawn(async move {
        while hangups.recv().await.is_some() {
            crate::systemd::reloading();
            let wish = Reconfigure { from: From::Files, dry_run: false, who: "signal".to_owned(), act: None };
            match configurator.ask_within(RELOADED_WITHIN, wish).await {
                // the configurator has logged it
                Ok(_) => {}
                Err(AskError::Stopped) => return,
                Err(error) => tracing::error!(%error, "the configuration was not reloaded"),
            }
            crate::systemd::reloaded();
        }
    });
}

/// Both phases.
async fn stop(running: &Running) {
    running.drain().await;
    for cut_off in running.tree.stop(running.grace()).await {
        eprintln!("cut off: {cut_off}");
    }
}

/// How often SIGINT or SIGTERM came. Heard from the start on, so that none is lost between two who wait.
#[derive(Clone)]
pub struct Signals(watch::Receiver<u32>);

impl Signals {
    /// Begins to listen, in an actix system.
    fn listen() -> Self {
        let (told, heard) = watch::channel(0);
        let Some(mut streams) = Streams::open() else { return Self(heard) };
        actix_rt::spawn(async move {
            while streams.next().await.is_some() {
                told.send_modify(|count| *count += 1);
            }
        });
        Self(heard)
    }

    fn count(&self) -> u32 {
        *self.0.borrow()
    }

    /// Waits until so many came.
    async fn heard(&self, count: u32) {
        if self.0.clone().wait_for(|heard| *heard >= count).await.is_err() {
            std::future::pending().await
        }
    }
}

fn bind(settings: &Settings) -> Result<TcpListener> {
    let address = settings.www.listen.0;
    let listener = TcpListener::bind(address).with_context(|| {
        format!("failed to listen on {address} (set www.listen to another port, or 0 for any)")
    })?;
    listener.set_nonblocking(true).context("failed to prepare the listening socket")?;
    Ok(listener)
}

/// The database of a configuration, as the storage layer wants it. The configuration's path has the data directory in it
/// already; made absolute, it is not looked for under that directory once more.
pub fn database_url(settings: &Settings) -> Result<DatabaseOptions> {
    let database = &settings.database;
    let url = |url: &DatabaseUrl| -> Result<String> {
        Ok(match url {
            DatabaseUrl::Sqlite(path) => {
                let path = std::path::absolute(path).context("failed to find the database's file")?;
                format!("sqlite://{}", path.display())
            }
            DatabaseUrl::Memory => "memory:".to_owned(),
            DatabaseUrl::Server(url) => url.expose().to_owned(),
        })
    };
    let mut options = DatabaseOptions::from(url(&database.url)?);
    options.read_url = database.read_url.as_ref().map(url).transpose()?;
    options.password = database.password.as_ref().map(|it| it.expose().to_owned());
    options.read_connections = database.read_connections.map_or(options.read_connections, NonZeroU32::get);
    for (set, time) in [
        (database.connect_timeout, &mut options.connect_timeout),
        (database.statement_timeout, &mut options.statement_timeout),
        (database.lock_timeout, &mut options.lock_timeout),
        (database.idle_transaction_timeout, &mut options.idle_transaction_timeout),
    ] {
        *time = set.map_or(*time, |it| it.get());
    }
    options.text = text_store(&settings.logs)?;
    if let Some(seconds) = std::env::var(LEASE).ok().and_then(|it| it.parse().ok()) {
        options.lease = Duration::from_secs_f64(f64::clamp(seconds, 0.5, 60.0));
    }
    Ok(options)
}

/// Where text of logs goes, as the storage layer wants it.
fn text_store(logs: &Logs) -> Result<TextStore> {
    let shown =
        |secret: &Option<greenroom_config::values::Secret>| secret.as_ref().map(|it| it.expose().to_owned());
    Ok(match logs.store {
        LogStoreKind::Database => TextStore::Database,
        LogStoreKind::Directory => TextStore::Directory(
            std::path::absolute(&logs.directory).context("failed to find the directory of logs")?,
        ),
        LogStoreKind::S3 => TextStore::S3(S3Options {
            bucket: logs.bucket.clone().unwrap_or_default(),
            prefix: logs.prefix.clone(),
            endpoint: logs.endpoint.as_ref().map(|it| it.as_str().to_owned()),
            region: logs.region.clone(),
            keys: shown(&logs.access_key).zip(shown(&logs.secret_key)),
        }),
    })
}

/// Waits for one SIGINT or SIGTERM; for programs that end at the first.
pub async fn signal() {
    let heard = match Streams::open() {
        Some(mut streams) => streams.next().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending().await
    }
}

/// The two signals that say stop.
struct Streams {
    interrupt: Signal,
    terminate: Signal,
}

impl Streams {
    fn open() -> Option<Self> {
        match (unix::signal(SignalKind::interrupt()), unix::signal(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => Some(Self { interrupt, terminate }),
            _ => {
                tracing::warn!("signals cannot be heard; only a hard kill will end this process");
                None
            }
        }
    }

    async fn next(&mut self) -> Option<()> {
        tokio::select! {
            heard = self.interrupt.recv() => heard,
            heard = self.terminate.recv() => heard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_data_directory_is_named_once() {
        let text = "[master]\ndata-dir = 'farm'\n[database]\nurl = 'sqlite://green.db'\n";
        let loaded = greenroom_config::load_text(text, std::path::Path::new(""))
            .unwrap_or_else(|f| panic!("{}", f.render(false)));
        let here = std::env::current_dir().unwrap();
        let wanted = format!("sqlite://{}", here.join("farm/green.db").display());
        assert_eq!(database_url(&loaded.settings).unwrap().url, wanted);
    }
}
