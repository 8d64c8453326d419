//! The life of a master: start in order, run, stop in two phases.
//!
//! A stop first ends the intake (no new requests are taken up), lets what runs drain within the grace period, then says by name
//! what was cut off. A second signal is hard.

use std::future::Future;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use greenroom_config::{DatabaseUrl, Settings};
use greenroom_data::{Control, Ro};
use greenroom_runtime::{Dice, Runtime};
use greenroom_status::Print;

use crate::tree::Tree;

/// A master that runs.
#[derive(Clone)]
pub struct Running {
    tree: Arc<Tree>,
    page: String,
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

    /// Prints a line for every build that ends.
    pub fn tell_builds(&self, print: Print) {
        self.tree.add_console(print);
    }
}

/// Runs a master as long as `body` does, then stops it. The code is what the process ends with: a failure when a
/// supervisor gave up.
pub fn run<F, Fut>(settings: Arc<Settings>, body: F) -> Result<ExitCode>
where
    F: FnOnce(Running) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    actix_rt::System::new().block_on(async move {
        let listener = bind(&settings)?;
        let address = listener.local_addr().context("failed to learn the address that was bound")?;
        let runtime = Runtime::builder().dice(Dice::from_os()).policies((&settings.supervision).into()).build();
        crate::rehearse::begin(&runtime);
        let tree = Arc::new(Tree::raise(&runtime, settings.clone(), listener).await?);
        let running = Running { tree: tree.clone(), page: format!("http://{address}/") };
        let outcome = tokio::select! {
            outcome = body(running) => outcome,
            escalation = runtime.escalation() => Err(anyhow::anyhow!("a supervisor gave up: {}", escalation.cause)),
        };
        tokio::select! {
            () = stop(&tree, settings.supervision.grace.get()) => {}
            () = signal() => bail!("stopped hard by a second signal"),
        }
        outcome.map(|()| ExitCode::SUCCESS)
    })
}

async fn stop(tree: &Tree, grace: Duration) {
    for cut_off in tree.stop(grace).await {
        eprintln!("cut off: {cut_off}");
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
pub fn database_url(settings: &Settings) -> Result<String> {
    Ok(match &settings.database.url {
        DatabaseUrl::Sqlite(path) => {
            let path = std::path::absolute(path).context("failed to find the database's file")?;
            format!("sqlite://{}", path.display())
        }
        DatabaseUrl::Memory => "memory:".to_owned(),
    })
}

/// Waits for the next SIGINT or SIGTERM.
pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        _ => {
            tracing::warn!("signals cannot be heard; only a hard kill will end this process");
            std::future::pending().await
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
        assert_eq!(database_url(&loaded.settings).unwrap(), wanted);
    }
}
