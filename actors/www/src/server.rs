//! The HTTP server around the edge: one port for the page, the API and workers.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use socket2::SockRef;

use crate::gate::Gate;
use crate::www::Www;

/// Further services on the same port, mounted before the edge's own; each worker thread of the server calls it
/// once. Whatever they do not match belongs to the edge.
pub type Extra = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// Time for a request's headers to arrive.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may be idle between requests.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A peer that acknowledges nothing of what was sent for so long is gone; its connection ends, whatever runs on it.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// Connections of one worker thread.
const MAX_CONNECTIONS: usize = 16_384;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[error("failed to serve on the listening socket")]
pub struct ServeError(#[from] io::Error);

/// The running server.
pub struct Serving {
    handle: ServerHandle,
    www: Www,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Serving {
    /// Stops: no new connections, event sockets are told to close, requests under way have `grace` to finish (it was
    /// set when the server was started).
    pub async fn stop(&self, graceful: bool) {
        self.www.say_goodbye();
        self.handle.stop(graceful).await;
    }
}

/// Serves `www` and `extra` on `listener` by `workers` threads. Also gives the future that drives the server: it ends
/// when the server has stopped, and must be polled (in an actix system).
///
/// # Errors
/// If the listener cannot be used. (A port that is in use is seen by whoever binds it.)
pub fn serve(
    listener: TcpListener,
    www: Www,
    extra: Option<Extra>,
    workers: usize,
    grace: Duration,
) -> Result<(Serving, impl Future<Output = io::Result<()>>), ServeError> {
    let address = listener.local_addr()?;
    let shared = www.clone();
    let server = HttpServer::new(move || {
        let (www, extra) = (shared.on_this_thread(), extra.clone());
        App::new().wrap(Gate(www.clone())).configure(move |app| {
            if let Some(extra) = &extra {
                extra(app);
            }
            www.configure(app);
        })
    })
    .workers(workers.max(1))
    .max_connections(MAX_CONNECTIONS)
    .client_request_timeout(HEADERS_WITHIN)
    .client_disconnect_timeout(Duration::from_secs(1))
    .keep_alive(KEEP_ALIVE)
    .tcp_nodelay(true)
    .shutdown_timeout(grace.as_secs().max(1))
    .disable_signals()
    .on_connect(drop_dead_peers)
    .listen(listener)?
    .run();
    let serving = Serving { handle: server.handle(), www, address };
    Ok((serving, server))
}

/// A peer that stops reading freezes whatever writes to it, timers included, so the system watches it instead.
fn drop_dead_peers(connection: &dyn std::any::Any, _: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() else { return };
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED)) {
        tracing::debug!(error = %error, "no limit for unacknowledged data");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (SockRef::from(stream), UNACKNOWLEDGED);
}
