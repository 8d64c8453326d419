//! A TCP proxy that breaks connections where it hurts: at a COMMIT.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It passes.
    Nothing,
    /// It never reaches the server.
    Before,
    /// It reaches the server; the answer never comes.
    After,
    /// The client is cut off at once; the COMMIT reaches the server so much later.
    Late(Duration),
}

/// A running proxy. It ends with the runtime that it was started in.
pub struct Proxy {
    /// Where to connect to.
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    /// The cut of the n-th COMMIT.
    plan: Box<dyn Fn(u64) -> Cut + Send + Sync>,
    commits: AtomicU64,
    cuts: AtomicUsize,
    connections: AtomicUsize,
}

impl Proxy {
    /// Starts a proxy to a server; `plan` says what becomes of the n-th COMMIT.
    pub async fn start(server: &str, plan: impl Fn(u64) -> Cut + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            plan: Box::new(plan),
            commits: AtomicU64::new(0),
            cuts: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let (server, shared) = (server.to_owned(), Arc::clone(&state));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(pass(client, server.clone(), Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::Relaxed)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }
}

/// Whether this is a COMMIT of its own, in PostgreSQL's framing or MariaDB's. Both clients send it in one piece, alone.
fn is_commit(bytes: &[u8]) -> bool {
    bytes == b"Q\0\0\0\x0bCOMMIT\0" || bytes == b"\x07\0\0\0\x03COMMIT"
}

async fn pass(client: TcpStream, server: String, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(&server).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from_client.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        let cut = match is_commit(&buffer[..read]) {
            true => (state.plan)(state.commits.fetch_add(1, Ordering::Relaxed)),
            false => Cut::Nothing,
        };
        if cut != Cut::Nothing {
            state.cuts.fetch_add(1, Ordering::Relaxed);
            // No answer gets through any more.
            back.abort();
            let _ = back.await;
            match cut {
                Cut::Nothing | Cut::Before => {}
                Cut::After => drop(to_server.write_all(&buffer[..read]).await),
                Cut::Late(time) => {
                    drop(from_client);
                    tokio::time::sleep(time).await;
                    drop(to_server.write_all(&buffer[..read]).await);
                }
            }
            if cut != Cut::Before {
                // The server reads it before it hears that we are gone.
                let _ = to_server.shutdown().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            return;
        }
        if to_server.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    back.abort();
}
