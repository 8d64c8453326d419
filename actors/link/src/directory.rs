//! Which session belongs to which worker.
//!
//! Owner of that truth, and of the writes that say who is connected. A worker has at most one session; a second
//! connection under its name waits until the first is proven dead *and its actor has ended*, so there is no instant at
//! which two could receive work. What the directory knows is published as an immutable board after each change; a new
//! birth takes the board up, and nobody's session ends because of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use actix::prelude::*;
use actix_http::ws::{CloseCode, CloseReason};
use arc_swap::ArcSwap;
use greenroom_data::{DataError, Rw};
use greenroom_model::{Op, WorkerId};
use greenroom_runtime::{Birth, ChildSpec, Front, Supervised, Supervisor, TaskEnd, Tasks};
use rpds::HashTrieMapSync;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::credentials::{Credentials, Limiter};
use crate::facts::WorkerFacts;
use crate::layer::Timing;
use crate::messages::*;
use crate::session::{SessionActor, SessionSpec};
use crate::socket::{Outgoing, Socket};

/// Commands of one lost worker that are remembered until it is back.
const MAX_LEFTOVERS: usize = 4096;

/// One worker's session as everybody may see it.
#[derive(Clone)]
pub(crate) struct Posted {
    pub(crate) name: Arc<str>,
    pub(crate) serial: Serial,
    pub(crate) session: Front<SessionActor>,
    /// There when the worker is usable.
    pub(crate) facts: Option<Arc<WorkerFacts>>,
    /// The last ping was answered in time.
    pub(crate) responsive: bool,
    /// The data layer may have been told that it is connected.
    announced: bool,
}

/// All sessions, by worker.
pub(crate) type Board = HashTrieMapSync<WorkerId, Posted>;

/// What the directory is made of; the same for every birth.
#[derive(Clone)]
pub(crate) struct DirectorySpec {
    pub(crate) rw: Rw,
    /// Those of the configuration in force.
    pub(crate) credentials: Arc<ArcSwap<Credentials>>,
    pub(crate) sessions: Supervisor,
    pub(crate) timing: Timing,
    pub(crate) masks: greenroom_config::mask::SharedMasks,
    pub(crate) board: Arc<watch::Sender<Board>>,
}

/// Where a worker's session is, as the directory acts on it.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The connect sequence runs.
    Connecting,
    /// The write that it is connected is under way.
    Announcing,
    /// It may be used.
    Usable,
    /// It takes no more work and ends soon.
    Closing,
    /// It has ended; the write that it is no longer connected is under way.
    Clearing,
}

struct Entry {
    posted: Posted,
    stage: Stage,
    facts: Option<Arc<WorkerFacts>>,
    /// A second connection, which waits for the end of the first.
    second: Option<Socket>,
}

/// See the module.
pub(crate) struct WorkerDirectory {
    spec: DirectorySpec,
    front: Front<WorkerDirectory>,
    tasks: Tasks<WorkerDirectory>,
    limiter: Limiter,
    ids: HashMap<String, WorkerId>,
    entries: HashMap<WorkerId, Entry>,
    /// Commands of sessions that ended, until a later session has interrupted them. Only the fast way to know: the
    /// same ids stand in the steps of the data layer.
    leftovers: HashMap<WorkerId, BTreeSet<String>>,
    next_serial: Serial,
    is_stopping: bool,
    arrived: u64,
    refused: u64,
    lost: u64,
}

impl WorkerDirectory {
    pub(crate) fn new(birth: &Birth<Self>, spec: DirectorySpec) -> Self {
        let board = spec.board.borrow().clone();
        let next_serial = board.values().map(|posted| posted.serial + 1).max().unwrap_or(1);
        Self {
            spec,
            front: birth.front(),
            tasks: birth.tasks(),
            limiter: Limiter::default(),
            ids: HashMap::new(),
            entries: HashMap::new(),
            leftovers: HashMap::new(),
            next_serial,
            is_stopping: false,
            arrived: 0,
            refused: 0,
            lost: 0,
        }
    }
}

impl Supervised for WorkerDirectory {
    const KIND: &'static str = "worker-directory";

    fn observe(&self) -> serde_json::Value {
        let count = |stage: Stage| self.entries.values().filter(|entry| entry.stage == stage).count();
        json!({
            "usable": count(Stage::Usable),
            "connecting": count(Stage::Connecting) + count(Stage::Announcing),
            "closing": count(Stage::Closing) + count(Stage::Clearing),
            "second_connections": self.entries.values().filter(|entry| entry.second.is_some()).count(),
            "arrived": self.arrived,
            "refused": self.refused,
            "lost": self.lost,
        })
    }

    fn drain(&mut self, _: &mut Context<Self>) {
        self.is_stopping = true;
        for entry in self.entries.values_mut() {
            if let Some(second) = entry.second.take() {
                refuse(&second, "the master stops");
            }
        }
    }
}

impl Actor for WorkerDirectory {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let board = self.spec.board.borrow().clone();
        for (worker, posted) in &board {
            let stage = if posted.facts.is_some() { Stage::Usable } else { Stage::Connecting };
            self.follow(*worker, posted.serial, posted.session.clone());
            let _ = posted.session.tell(TellAgain);
            let facts = posted.facts.clone();
            let entry = Entry { posted: posted.clone(), stage, facts, second: None };
            self.entries.insert(*worker, entry);
        }
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        // Sessions have ended before; what is left are the writes that say so.
        if self.is_stopping && !self.entries.is_empty() { Running::Continue } else { Running::Stop }
    }
}

impl WorkerDirectory {
    fn post(&self, worker: WorkerId) {
        let posted = self.entries.get(&worker).map(|entry| entry.posted.clone());
        self.spec.board.send_modify(|board| match posted {
            Some(posted) => board.insert_mut(worker, posted),
            None => {
                board.remove_mut(&worker);
            }
        });
    }

    /// Hears of the end of a session, however it ends.
    fn follow(&self, worker: WorkerId, serial: Serial, session: Front<SessionActor>) {
        self.tasks.spawn(async move { session.wait_ended().await }, move |_| SessionEnded { worker, serial });
    }

    fn entry(&mut self, worker: WorkerId, serial: Serial) -> Option<&mut Entry> {
        self.entries.get_mut(&worker).filter(|entry| entry.posted.serial == serial)
    }

    /// The id of a worker's name, as the data layer has it.
    fn id_of(&mut self, name: &str) -> Option<WorkerId> {
        if let Some(id) = self.ids.get(name) {
            return Some(*id);
        }
        let id = self.spec.rw.ro().hot().worker_named(name).map(|worker| worker.id)?;
        self.ids.insert(name.to_owned(), id);
        Some(id)
    }

    fn open_session(&mut self, worker: WorkerId, name: &str, socket: Socket) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let spec = SessionSpec {
            worker,
            name: name.to_owned(),
            serial,
            directory: self.front.clone(),
            rw: self.spec.rw.clone(),
            timing: self.spec.timing,
            masks: self.spec.masks.clone(),
            leftovers: self.leftovers.get(&worker).cloned().unwrap_or_default(),
            socket: Mutex::new(Some(socket)),
        };
        let child = ChildSpec::new(format!("session/{name}")).temporary();
        let session = self.spec.sessions.spawn(child, move |birth| SessionActor::new(birth, &spec));
        self.follow(worker, serial, session.clone());
        let posted = Posted {
            name: Arc::from(name),
            serial,
            session,
            facts: None,
            responsive: true,
            announced: false,
        };
        let entry = Entry { posted, stage: Stage::Connecting, facts: None, second: None };
        self.entries.insert(worker, entry);
        self.post(worker);
    }

    /// A second connection under a name that has one.
    fn second_connection(&mut self, worker: WorkerId, socket: Socket) {
        let Some(entry) = self.entries.get_mut(&worker) else { return };
        if entry.second.as_ref().is_some_and(|second| !second.outbound.is_closed()) {
            self.refused += 1;
            tracing::warn!(worker.name = %entry.posted.name, worker.address = %socket.peer, "a third connection was refused");
            return refuse(&socket, "two connections of this worker are open");
        }
        tracing::info!(worker.name = %entry.posted.name, worker.address = %socket.peer,
            "a second connection under this name; asking the first whether it lives");
        entry.second = Some(socket);
        if matches!(entry.stage, Stage::Connecting | Stage::Announcing | Stage::Usable) {
            // One that cannot be told is ending, which will be heard.
            let _ = entry.posted.session.tell(Prove);
        }
    }

    /// Writes that a worker is no longer connected, until it is written: a new session begins only then.
    fn clear(&mut self, worker: WorkerId) {
        let Some(entry) = self.entries.get_mut(&worker) else { return };
        entry.stage = Stage::Clearing;
        entry.posted.facts = None;
        let (serial, announced) = (entry.posted.serial, entry.posted.announced);
        self.post(worker);
        let rw = self.spec.rw.clone();
        let write = async move {
            if announced {
                write_gone(&rw, worker).await;
            }
        };
        self.tasks.spawn(write, move |_| Cleared { worker, serial });
    }
}

/// Writes that a worker is no longer connected; again and again while the data layer is away.
async fn write_gone(rw: &Rw, worker: WorkerId) {
    loop {
        match rw.write(vec![Op::DisconnectWorker { worker }]).await {
            Ok(_) => return,
            Err(DataError::Unavailable { retry_after, .. }) => sleep(retry_after).await,
            Err(error) => {
                tracing::warn!(worker.id = worker.0, %error, "cannot write that a worker is gone");
                return;
            }
        }
    }
}

/// Turns a connection away after its handshake.
fn refuse(socket: &Socket, why: &str) {
    let reason = CloseReason { code: CloseCode::Normal, description: Some(why.to_owned()) };
    // One that is gone already needs no closing.
    let _ = socket.outbound.send(Outgoing::Close(reason));
}

impl Handler<Arrive> for WorkerDirectory {
    type Result = Result<(), Turned>;

    fn handle(&mut self, arrive: Arrive, _: &mut Context<Self>) -> Self::Result {
        let Arrive { name, password, address, socket } = arrive;
        let now = Instant::now();
        if self.is_stopping {
            return Err(Turned::NotReady);
        }
        if !self.limiter.allows(&name, address, now) {
            self.refused += 1;
            return Err(Turned::TooManyFailures);
        }
        if !self.spec.credentials.load().check(&name, &password) {
            self.refused += 1;
            if self.limiter.failed(&name, address, now) {
                tracing::warn!(worker.name = %name, worker.address = %address, "a worker has an unknown name or wrong password");
            }
            return Err(Turned::Unauthorized);
        }
        self.limiter.succeeded(&name, address);
        let worker = self.id_of(&name).ok_or(Turned::NotReady)?;
        self.arrived += 1;
        if self.entries.contains_key(&worker) {
            self.second_connection(worker, socket);
        } else {
            self.open_session(worker, &name, socket);
        }
        Ok(())
    }
}

impl Handler<Greeted> for WorkerDirectory {
    type Result = ();

    fn handle(&mut self, greeted: Greeted, _: &mut Context<Self>) {
        let Greeted { worker, serial, facts, info } = greeted;
        let rw = self.spec.rw.clone();
        let Some(entry) = self.entry(worker, serial).filter(|entry| entry.stage == Stage::Connecting) else {
            return;
        };
        entry.stage = Stage::Announcing;
        entry.facts = Some(facts);
        entry.posted.announced = true;
        self.leftovers.remove(&worker);
        self.post(worker);
        let write = async move {
            let written = rw.write(vec![Op::ConnectWorker { worker, info }]).await;
            written.map(drop).map_err(|error| error.to_string())
        };
        self.tasks.spawn(write, move |end| Announced { worker, serial, end });
    }
}

impl Handler<Announced> for WorkerDirectory {
    type Result = ();

    fn handle(&mut self, Announced { worker, serial, end }: Announced, _: &mut Context<Self>) {
        let Some(entry) = self.entry(worker, serial).filter(|entry| entry.stage == Stage::Announcing) else {
            return;
        };
        match end {
            TaskEnd::Done(Ok(())) => {
                entry.stage = Stage::Usable;
                entry.posted.facts = entry.facts.clone();
                tracing::info!(worker.name = %entry.posted.name, worker.id = worker.0, "a worker is connected");
                self.post(worker);
            }
            TaskEnd::Done(Err(why)) | TaskEnd::Panicked(why) => {
                tracing::warn!(worker.name = %entry.posted.name, %why, "cannot write that a worker is connected; it is dropped");
                entry.stage = Stage::Closing;
                entry.posted.session.halt();
            }
        }
    }
}

impl Handler<Responsive> for WorkerDirectory {
    type Result = ();

    fn handle(&mut self, news: Responsive, _: &mut Context<Self>) {
        let Some(entry) = self.entry(news.worker, news.serial) else { return };
        entry.posted.responsive = news.responsive;
        if !news.responsive {
            tracing::warn!(worker.name = %entry.posted.name, "a worker missed a ping; it gets no work until it is heard of");
        }
        self.post(news.worker);
    }
}

impl Handler<Closing> for WorkerDirectory {
    type Result = ();

    fn handle(&mut self, closing: Closing, _: &mut Context<Self>) {
        let Some(entry) = self.entry(closing.worker, closing.serial) else { return };
        if entry.stage == Stage::Clearing {
            return;
        }
        entry.stage = Stage::Closing;
        entry.posted.facts = None;
        if !closing.unfinished.is_empty() {
            let leftovers = self.leftovers.entry(closing.worker).or_default();
            let room = MAX_LEFTOVERS.saturating_sub(leftovers.len());
            leftovers.extend(closing.unfinished.into_iter().take(room));
        }
        self.post(closing.worker);
    }
}

impl Handler<Proved> for WorkerDirectory {
    type Result = ();

    fn handle(&mut self, proved: Proved, _: &mut Context<Self>) {
        let Some(entry) = self.entry(proved.worker, proved.serial) else { return };
        if !proved.alive {
            return;
        }
        if let Some(second) = entry.second.take() {
            tracing::warn!(worker.name = %entry.posted.name, worker.address = %second.peer,
                "a second connection was refused: the first lives");
            refuse(&second, "this worker is connected already");
            self.refused += 1;
        }
    }
}

impl Handler<SessionEnded> for WorkerDirectory {
    type Result = ();

    fn handle(&mut self, SessionEnded { worker, serial }: SessionEnded, _: &mut Context<Self>) {
        if self.entry(worker, serial).is_some() {
            self.lost += 1;
            self.clear(worker);
        }
    }
}

impl Handler<Cleared> for WorkerDirectory {
    type Result = ();

    fn handle(&mut self, Cleared { worker, serial }: Cleared, ctx: &mut Context<Self>) {
        if self.entry(worker, serial).is_none() {
            return;
        }
        let Some(entry) = self.entries.remove(&worker) else { return };
        let second = entry.second.filter(|second| !second.outbound.is_closed() && !self.is_stopping);
        match second {
            Some(socket) => self.open_session(worker, &entry.posted.name, socket),
            None => self.post(worker),
        }
        if self.is_stopping && self.entries.is_empty() {
            ctx.stop();
        }
    }
}
