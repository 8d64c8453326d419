//! The agent: a worker of our own. It connects to a master, runs the commands it is told and streams their
//! output. No actix, no database.
//!
//! It speaks the protocol of stock workers (`greenroom_protocol`), so it works with any master that does.
//!
//! - `session`: one connection; requests in, responses and updates out.
//! - `outbox`: the bounded way to the socket; a slow master slows the programs, never fills the memory.
//! - `commands`: what a master can ask for. `process`: one running program. `report`: its updates.
//!
//! Owner of: the running processes. When the connection breaks, or the agent ends, their process groups are
//! killed; the master ends such builds as *retry*.

mod backoff;
mod commands;
mod info;
mod outbox;
mod process;
mod report;
mod session;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use greenroom_protocol::MAX_FRAME;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, error::UrlError};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use backoff::Backoff;
use process::Groups;

/// Time for connecting and the handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that held for so long was a good one.
const STABLE: Duration = Duration::from_secs(5);

/// Whether output is compressed on its way to a master that takes it in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compress {
    /// If the master is on another machine.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How an agent is set up.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Address of the master, `ws://HOST:PORT` with an optional path.
    pub master: String,
    /// Name of the worker; without a colon.
    pub name: String,
    /// Its password.
    pub password: SecretString,
    /// Its directory, made if missing. Files of `info/` in it are told to the master.
    pub dir: PathBuf,
    /// End when standard input does: for an agent that its master starts.
    pub end_with_stdin: bool,
    /// Version told to the master.
    pub version: String,
    /// Longest time between two attempts to connect.
    pub longest_backoff: Duration,
    /// Whether output is compressed on its way.
    pub compress: Compress,
}

impl AgentOptions {
    /// Options with everything else at its default.
    pub fn new(
        master: impl Into<String>,
        name: impl Into<String>,
        password: SecretString,
        dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            master: master.into(),
            name: name.into(),
            password,
            dir: dir.into(),
            end_with_stdin: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            longest_backoff: Duration::from_secs(10),
            compress: Compress::Auto,
        }
    }
}

/// Why an agent ended without a fault; its process exits with 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The master told it to.
    Shutdown,
    /// Its standard input ended.
    StdinEnded,
    /// The caller told it to.
    Stopped,
}

/// An agent that cannot be started. Nothing that happens later is an error: it connects again for ever.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The address is not usable.
    #[error("the master's address {url:?} is not usable: {problem}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The name is not usable.
    #[error("the worker's name {0:?} is empty or has a colon in it")]
    Name(String),
    /// A file or directory is not usable.
    #[error("failed to use {path}")]
    Path {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What stays the same over all connections.
pub(crate) struct Agent {
    pub(crate) basedir: PathBuf,
    pub(crate) version: String,
    pub(crate) groups: Groups,
    pub(crate) compress: Compress,
    request: Request,
    address: String,
    longest_backoff: Duration,
}

/// Reads a password from the first line of a file.
///
/// # Errors
/// If the file cannot be read as text.
pub fn read_password(path: &Path) -> Result<SecretString, AgentError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| AgentError::Path { path: path.to_owned(), source })?;
    Ok(SecretString::from(text.lines().next().unwrap_or_default().to_owned()))
}

/// Runs an agent until its master shuts it down, or its standard input ends if it is to end with that.
///
/// # Errors
/// If it cannot be started; see [`AgentError`].
pub async fn run(options: AgentOptions) -> Result<Ended, AgentError> {
    run_until(options, std::future::pending()).await
}

/// Runs an agent as [`run`] does, or until `stop` is ready. No command is left running.
///
/// # Errors
/// If it cannot be started; see [`AgentError`].
pub async fn run_until(options: AgentOptions, stop: impl Future<Output = ()>) -> Result<Ended, AgentError> {
    let end_with_stdin = options.end_with_stdin;
    let agent = Agent::new(options)?;
    let stdin_ends = async {
        match end_with_stdin {
            true => end_of_stdin().await,
            false => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        () = agent.serve_for_ever() => Ended::Shutdown,
        () = stdin_ends => Ended::StdinEnded,
        () = stop => Ended::Stopped,
    };
    // The tasks of the commands end a little later than this function; their programs end now.
    agent.groups.kill_all();
    tracing::info!(agent.ended = ?ended, "agent ends");
    Ok(ended)
}

impl Agent {
    fn new(options: AgentOptions) -> Result<Self, AgentError> {
        if options.name.is_empty() || options.name.contains(':') {
            return Err(AgentError::Name(options.name));
        }
        let in_dir = |source| AgentError::Path { path: options.dir.clone(), source };
        std::fs::create_dir_all(&options.dir).map_err(in_dir)?;
        let basedir = options.dir.canonicalize().map_err(in_dir)?;
        let fault = |problem: String| AgentError::Address { url: options.master.clone(), problem };
        let mut request =
            options.master.as_str().into_client_request().map_err(|error| fault(error.to_string()))?;
        let address = address(request.uri()).map_err(|error| fault(error.to_string()))?;
        let credentials = format!("{}:{}", options.name, options.password.expose_secret());
        let mut header = HeaderValue::from_str(&format!("Basic {}", BASE64.encode(credentials)))
            .map_err(|error| fault(error.to_string()))?;
        header.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, header);
        Ok(Self {
            basedir,
            version: options.version,
            groups: Groups::default(),
            compress: options.compress,
            request,
            address,
            longest_backoff: options.longest_backoff,
        })
    }

    /// Connects again and again. Returns when the master shut the agent down.
    async fn serve_for_ever(&self) {
        let first = Duration::from_millis(500).min(self.longest_backoff);
        let mut backoff = Backoff::new(first, self.longest_backoff);
        loop {
            match self.connect().await {
                Ok(socket) => {
                    tracing::info!(master.address = self.address, "connected");
                    let since = Instant::now();
                    let end = session::serve(socket, self).await;
                    // A master that closes at once does not want us at once; one that broke off has died, and its next
                    // start waits for us.
                    if since.elapsed() >= STABLE || matches!(end, session::End::Broken(_)) {
                        backoff.reset();
                    }
                    match end {
                        session::End::Shutdown => return,
                        end => tracing::warn!(master.address = self.address, reason = %end, "disconnected"),
                    }
                }
                Err(error) => {
                    tracing::warn!(master.address = self.address, %error, "failed to connect");
                }
            }
            let delay = backoff.next(rand::random());
            tracing::debug!(delay_ms = delay.as_millis() as u64, "connecting again later");
            tokio::time::sleep(delay).await;
        }
    }

    async fn connect(&self) -> Result<WebSocketStream<TcpStream>, WsError> {
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
        let connecting = async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            let (socket, _) = client_async_with_config(self.request.clone(), stream, Some(config)).await?;
            Ok(socket)
        };
        match timeout(CONNECT, connecting).await {
            Ok(result) => result,
            Err(_) => Err(WsError::Io(std::io::ErrorKind::TimedOut.into())),
        }
    }
}

/// `HOST:PORT` of an address.
fn address(uri: &Uri) -> Result<String, UrlError> {
    if uri.scheme_str() != Some("ws") {
        return Err(UrlError::UnsupportedUrlScheme);
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(UrlError::NoHostName)?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

/// Waits until standard input ends. On a thread of its own: the runtime would wait for a blocked read
/// when it is dropped.
async fn end_of_stdin() {
    let (ended, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // Nobody listens any more if the agent ended first.
        let _ = ended.send(());
    });
    let _ = wait.await;
}
