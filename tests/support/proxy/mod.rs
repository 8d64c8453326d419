//! The fault proxy: stands between a program and a server and does to their connection what networks do.
//!
//! It cuts, stalls and throttles any TCP connection; it knows a COMMIT of PostgreSQL and MariaDB, so that it can lose the answer of
//! one; and it knows the messages of NATS, AMQP and PostgreSQL's NOTIFY, so that it can drop, double and reorder those that a
//! bus delivers. All chance comes from a seed. It runs on a thread of its own until it is dropped.

#![allow(dead_code, reason = "not every test program uses all of it")]

mod frames;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use frames::Frames;
pub use frames::Protocol;

/// The most that is passed on at once, in bytes.
const PIECE: usize = 16 * 1024;
/// After so long without another message one that was held back is let go.
const LET_GO: Duration = Duration::from_millis(100);
/// How long a server has to read what came before the end of a connection.
const LINGER: Duration = Duration::from_millis(200);

/// What the proxy does with all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It passes everything on.
    Pass,
    /// It ends every connection, and each new one at once.
    Cut,
    /// It takes connections and passes nothing on, either way.
    Stall,
}

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

/// How the messages that a bus delivers are treated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lies {
    /// This share of them is lost.
    pub dropped: f64,
    /// This share comes twice.
    pub doubled: f64,
    /// So many of them may be held back, to come in any order.
    pub window: usize,
    /// After this share of them nothing passes for `stall`.
    pub stalled: f64,
    /// For how long.
    pub stall: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    mood: Mood,
    bytes_per_second: Option<u64>,
    lies: Option<Lies>,
}

/// A running proxy; it and its connections end when it is dropped.
pub struct Proxy {
    /// Where to connect to.
    pub address: SocketAddr,
    settings: watch::Sender<Settings>,
    shared: Arc<Shared>,
}

/// Decides about the n-th COMMIT.
type Plan = Box<dyn Fn(u64) -> Cut + Send + Sync>;

struct Shared {
    server: String,
    protocol: Protocol,
    seed: u64,
    plan: Plan,
    /// When the next byte may pass, to the server and to the client.
    free: [Mutex<Instant>; 2],
    commits: AtomicU64,
    cuts: AtomicUsize,
    connections: AtomicUsize,
    delivered: AtomicUsize,
    dropped: AtomicUsize,
    doubled: AtomicUsize,
    reordered: AtomicUsize,
}

impl Proxy {
    /// To a server (`host:port`), whatever it speaks.
    pub fn to(server: &str) -> Self {
        Self::start(server, Protocol::Bytes, 0, Box::new(|_| Cut::Nothing))
    }

    /// To a database server; `plan` says what becomes of the n-th COMMIT.
    pub fn cutting(server: &str, plan: impl Fn(u64) -> Cut + Send + Sync + 'static) -> Self {
        Self::start(server, Protocol::Bytes, 0, Box::new(plan))
    }

    /// To a bus, whose messages are known.
    pub fn to_bus(server: &str, protocol: Protocol, seed: u64) -> Self {
        Self::start(server, protocol, seed, Box::new(|_| Cut::Nothing))
    }

    fn start(server: &str, protocol: Protocol, seed: u64, plan: Plan) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("an address");
        let settings = watch::Sender::new(Settings { mood: Mood::Pass, bytes_per_second: None, lies: None });
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            protocol,
            seed,
            plan,
            free: [Mutex::new(Instant::now()), Mutex::new(Instant::now())],
            commits: AtomicU64::new(0),
            cuts: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            delivered: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
            doubled: AtomicUsize::new(0),
            reordered: AtomicUsize::new(0),
        });
        let (on, its) = (settings.subscribe(), Arc::clone(&shared));
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(listen(listener, on, its));
        });
        Self { address, settings, shared }
    }

    /// Treats all connections so from now on.
    pub fn set(&self, mood: Mood) {
        self.settings.send_modify(|it| it.mood = mood);
    }

    /// Passes at most so many bytes a second, each way, over all connections together; none: as fast as it can.
    pub fn throttle(&self, bytes_per_second: Option<u64>) {
        self.settings.send_modify(|it| it.bytes_per_second = bytes_per_second);
    }

    /// Treats the bus's messages so from now on; none: passes them on.
    pub fn lie(&self, lies: Option<Lies>) {
        self.settings.send_modify(|it| it.lies = lies);
    }

    /// How many connections were cut at a COMMIT.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// What became of the bus's messages: passed on, dropped, doubled, passed on after a later one.
    pub fn messages(&self) -> [usize; 4] {
        let all =
            [&self.shared.delivered, &self.shared.dropped, &self.shared.doubled, &self.shared.reordered];
        all.map(|it| it.load(Ordering::Relaxed))
    }
}

/// Takes connections until the proxy is dropped.
async fn listen(
    listener: std::net::TcpListener,
    mut settings: watch::Receiver<Settings>,
    shared: Arc<Shared>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        tokio::select! {
            client = listener.accept() => if let Ok((client, _)) = client {
                let number = shared.connections.fetch_add(1, Ordering::Relaxed) as u64;
                tokio::spawn(serve(client, settings.clone(), Arc::clone(&shared), number));
            },
            changed = settings.changed() => if changed.is_err() { return },
        }
    }
}

/// One connection.
async fn serve(
    mut client: TcpStream,
    mut settings: watch::Receiver<Settings>,
    shared: Arc<Shared>,
    number: u64,
) {
    if settings.borrow().mood == Mood::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(&shared.server).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let found = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let lane = |direction| Lane { shared: &shared, settings: settings.clone(), direction };
        let dice = StdRng::seed_from_u64(shared.seed ^ number);
        let (up, down) = (lane(0), lane(1));
        tokio::select! {
            found = up.carry(&mut from_client, &mut to_server) => found,
            () = down.deliver(&mut from_server, &mut to_client, dice) => None,
            _ = settings.wait_for(|it| it.mood == Mood::Cut) => None,
        }
    };
    // From here on no answer gets through any more.
    let Some((commit, cut)) = found else { return };
    shared.cuts.fetch_add(1, Ordering::Relaxed);
    match cut {
        Cut::Nothing | Cut::Before => return,
        Cut::After => {}
        Cut::Late(time) => {
            drop(client);
            sleep(time).await;
        }
    }
    // The server reads it before it hears that we are gone.
    let _ = server.write_all(&commit).await;
    let _ = server.shutdown().await;
    sleep(LINGER).await;
}

/// Whether this is a COMMIT of its own, in PostgreSQL's framing or MariaDB's. Both clients send it in one piece, alone.
fn is_commit(bytes: &[u8]) -> bool {
    bytes == b"Q\0\0\0\x0bCOMMIT\0" || bytes == b"\x07\0\0\0\x03COMMIT"
}

/// One direction of a connection: 0 to the server, 1 to the client.
struct Lane<'a> {
    shared: &'a Shared,
    settings: watch::Receiver<Settings>,
    direction: usize,
}

impl Lane<'_> {
    /// Writes, when and as fast as it may; none: the connection is over.
    async fn write(&mut self, to: &mut WriteHalf<'_>, bytes: &[u8]) -> Option<()> {
        self.settings.wait_for(|it| it.mood != Mood::Stall).await.ok()?;
        let Some(rate) = self.settings.borrow().bytes_per_second else {
            return to.write_all(bytes).await.ok();
        };
        // Small, so that connections share the line as packets do.
        let piece = usize::try_from(rate / 500).unwrap_or(PIECE).clamp(1, PIECE);
        for piece in bytes.chunks(piece) {
            let passes = {
                let mut free =
                    self.shared.free[self.direction].lock().unwrap_or_else(PoisonError::into_inner);
                let time = Duration::from_secs_f64(piece.len() as f64 / rate.max(1) as f64);
                *free = (*free).max(Instant::now()) + time;
                *free
            };
            sleep_until(passes).await;
            to.write_all(piece).await.ok()?;
        }
        Some(())
    }

    /// From the client to the server, until the connection ends or a COMMIT is to be cut.
    async fn carry(mut self, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Option<(Vec<u8>, Cut)> {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = from.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
            let bytes = &buffer[..read];
            if is_commit(bytes) {
                let cut = (self.shared.plan)(self.shared.commits.fetch_add(1, Ordering::Relaxed));
                if cut != Cut::Nothing {
                    return Some((bytes.to_vec(), cut));
                }
            }
            self.write(to, bytes).await?;
        }
    }

    /// From the server to the client, with lies.
    async fn deliver(mut self, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, dice: StdRng) {
        let mut buffer = vec![0; PIECE];
        let mut frames = Frames::of(self.shared.protocol);
        let mut held = Held { shared: self.shared, messages: Vec::new(), next: 0, dice };
        loop {
            let waits = !held.messages.is_empty();
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                () = sleep(LET_GO), if waits => {
                    let message = held.any();
                    if self.write(to, &message).await.is_none() { return }
                    continue;
                }
            };
            let Some(read) = read.ok().filter(|read| *read > 0) else { return };
            for frame in frames.feed(&buffer[..read]) {
                let lies = self.settings.borrow().lies;
                let (Some(lies), true) = (lies, frame.is_message) else {
                    if self.write(to, &frame.bytes).await.is_none() {
                        return;
                    }
                    continue;
                };
                for message in held.take(frame.bytes, &lies) {
                    if self.write(to, &message).await.is_none() {
                        return;
                    }
                }
                if held.dice.random_bool(lies.stalled) {
                    sleep(lies.stall).await;
                }
            }
        }
    }
}

/// Messages that are held back, with their numbers.
struct Held<'a> {
    shared: &'a Shared,
    messages: Vec<(u64, Vec<u8>)>,
    next: u64,
    dice: StdRng,
}

impl Held<'_> {
    /// Takes a message; gives those that pass now.
    fn take(&mut self, message: Vec<u8>, lies: &Lies) -> Vec<Vec<u8>> {
        let count = |of: &AtomicUsize| of.fetch_add(1, Ordering::Relaxed);
        if self.dice.random_bool(lies.dropped) {
            count(&self.shared.dropped);
        } else {
            if self.dice.random_bool(lies.doubled) {
                count(&self.shared.doubled);
                self.messages.push((self.next, message.clone()));
            }
            self.messages.push((self.next, message));
            self.next += 1;
        }
        let keep = self.dice.random_range(0..=lies.window);
        let mut pass = Vec::new();
        while self.messages.len() > keep {
            pass.push(self.any());
        }
        pass
    }

    /// Any of them; there is one.
    fn any(&mut self) -> Vec<u8> {
        let place = self.dice.random_range(0..self.messages.len());
        let (number, message) = self.messages.swap_remove(place);
        self.shared.delivered.fetch_add(1, Ordering::Relaxed);
        if self.messages.iter().any(|(other, _)| *other < number) {
            self.shared.reordered.fetch_add(1, Ordering::Relaxed);
        }
        message
    }
}
