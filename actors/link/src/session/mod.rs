//! One worker connection.
//!
//! Owner of: what runs on this connection and how it ended. A session is *temporary*: when its connection is over it
//! ends, and the worker comes back as a new one. It never blocks: a frame is read, its log text queued for the command's own
//! writer (`output`), its response handed to the socket; what bounds all that is the credit of the frame (`socket`).

mod arrivals;
mod commands;
mod connect;
mod output;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use actix_http::ws::{CloseCode, CloseReason};
use futures_util::stream::poll_fn;
use greenroom_config::mask::SharedMasks;
use greenroom_data::Rw;
use greenroom_model::{WorkerId, WorkerInfo};
use greenroom_protocol::{
    CommandId, DecodeError, Frame, MasterOp, Response, UpdateItem, Value, WorkerOp, decode_from_worker,
    encode,
};
use greenroom_runtime::{Birth, Front, Supervised, TaskEnd, TaskId, Tasks, complete};
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::command::{CommandEnd, LinkError};
use crate::directory::WorkerDirectory;
use crate::facts::WorkerFacts;
use crate::layer::Timing;
use crate::messages::*;
use crate::socket::{Credit, Gauge, Inbound, Outgoing, Socket};
use commands::{CommandTable, Inserted, NewOutput};
use connect::Newcomer;
pub(crate) use output::Written;

/// Requests that may wait for the worker's answer.
const MAX_UNANSWERED: usize = 8192;
/// After this long a closing session no longer waits for output that is being written.
const DRAIN: Duration = Duration::from_secs(10);
/// When the directory could not be told something, it is told again after this long.
const TELL_AGAIN: Duration = Duration::from_millis(200);
/// Strange messages of one worker that are logged one by one.
const LOGGED_ODDITIES: u64 = 20;

/// What a session is made of.
pub(crate) struct SessionSpec {
    pub(crate) worker: WorkerId,
    pub(crate) name: String,
    pub(crate) serial: Serial,
    pub(crate) directory: Front<WorkerDirectory>,
    pub(crate) rw: Rw,
    pub(crate) timing: Timing,
    /// What of the workers' words nobody may read.
    pub(crate) masks: SharedMasks,
    /// Commands of an earlier session that may still run.
    pub(crate) leftovers: BTreeSet<String>,
    /// Taken by the only birth.
    pub(crate) socket: Mutex<Option<Socket>>,
}

enum Waiting {
    Answer(oneshot::Sender<Result<Value, String>>),
    Start { command_id: String, reply: oneshot::Sender<Result<(), LinkError>> },
}

enum Phase {
    Connecting,
    Usable { facts: Arc<WorkerFacts>, info: WorkerInfo },
    Closing { unfinished: Vec<String> },
}

#[derive(Debug, Default)]
struct Counts {
    frames: u64,
    odd: u64,
    started: u64,
}

/// The master's side of one worker connection.
pub(crate) struct SessionActor {
    worker: WorkerId,
    name: String,
    serial: Serial,
    directory: Front<WorkerDirectory>,
    rw: Rw,
    timing: Timing,
    masks: SharedMasks,
    leftovers: BTreeSet<String>,
    front: Front<SessionActor>,
    tasks: Tasks<SessionActor>,
    socket: Option<Socket>,
    outbound: Option<UnboundedSender<Outgoing>>,
    gauge: Arc<Gauge>,
    next_seq: u64,
    waiting: HashMap<u64, Waiting>,
    commands: CommandTable,
    /// The tasks that write output, by command.
    writers: HashMap<String, TaskId>,
    phase: Phase,
    last_heard: Instant,
    pinged: Option<Instant>,
    is_responsive: bool,
    /// Output in batches was announced and enabled.
    takes_batches: bool,
    counts: Counts,
}

impl SessionActor {
    pub(crate) fn new(birth: &Birth<Self>, spec: &SessionSpec) -> Self {
        let mut socket = spec.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        Self {
            worker: spec.worker,
            name: spec.name.clone(),
            serial: spec.serial,
            directory: spec.directory.clone(),
            rw: spec.rw.clone(),
            timing: spec.timing,
            masks: spec.masks.clone(),
            leftovers: spec.leftovers.clone(),
            front: birth.front(),
            tasks: birth.tasks(),
            outbound: socket.as_ref().map(|socket| socket.outbound.clone()),
            gauge: socket.as_mut().map(|socket| Arc::clone(&socket.gauge)).unwrap_or_default(),
            socket,
            next_seq: 0,
            waiting: HashMap::new(),
            commands: CommandTable::new(spec.masks.clone()),
            writers: HashMap::new(),
            phase: Phase::Connecting,
            last_heard: Instant::now(),
            pinged: None,
            is_responsive: true,
            takes_batches: false,
            counts: Counts::default(),
        }
    }
}

impl Supervised for SessionActor {
    const KIND: &'static str = "worker-session";

    fn observe(&self) -> serde_json::Value {
        let (bytes_in, bytes_out) = self.gauge.bytes();
        json!({
            "worker": self.name,
            "phase": match self.phase {
                Phase::Connecting => "connecting",
                Phase::Usable { .. } => "usable",
                Phase::Closing { .. } => "closing",
            },
            "commands_open": self.commands.open(),
            "commands_started": self.counts.started,
            "ends_kept": self.commands.kept(),
            "unanswered": self.waiting.len(),
            "frames_in": self.counts.frames,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "odd_messages": self.counts.odd,
            "silent_ms": u64::try_from(self.last_heard.elapsed().as_millis()).unwrap_or(u64::MAX),
            "starved": self.gauge.is_starved(),
        })
    }

    fn drain(&mut self, ctx: &mut Context<Self>) {
        self.close(CloseCode::Away, "the master stops", ctx);
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some(socket) = self.socket.take() else {
            // A second birth has no socket; the worker comes back by itself.
            return complete(ctx);
        };
        tracing::debug!(worker.name = %self.name, worker.address = %socket.peer, "a worker connects");
        let mut inbound = socket.inbound;
        ctx.add_stream(poll_fn(move |cx| inbound.poll_recv(cx)));
        ctx.run_interval(self.timing.ping, Self::tick);
        let newcomer = Newcomer {
            worker: self.worker,
            name: self.name.clone(),
            leftovers: std::mem::take(&mut self.leftovers),
        };
        let sequence = connect::run(self.front.clone(), self.rw.clone(), newcomer);
        let within = self.timing.connect;
        let sequence = async move {
            let late =
                || Err(format!("it did not finish the connect sequence within {} s", within.as_secs_f32()));
            timeout(within, sequence).await.unwrap_or_else(|_| late())
        };
        self.tasks.spawn(sequence, ConnectEnded);
    }
}

impl SessionActor {
    /// Sends a request; the worker's response comes to `waiting`.
    fn request(&mut self, op: MasterOp, waiting: Waiting) -> Result<(), LinkError> {
        if self.waiting.len() >= MAX_UNANSWERED {
            return Err(LinkError::Busy);
        }
        let seq = self.next_seq;
        let bytes = encode(&Frame::Request { seq, op });
        if !self.send(Outgoing::Message { bytes, credit: None }) {
            return Err(LinkError::NotConnected);
        }
        self.next_seq += 1;
        self.waiting.insert(seq, waiting);
        Ok(())
    }

    fn ask(&mut self, op: MasterOp) -> Result<Answer, LinkError> {
        if let MasterOp::SetWorkerSettings(settings) = &op {
            self.takes_batches = settings.output_batches.is_some();
        }
        let (reply, answer) = oneshot::channel();
        self.request(op, Waiting::Answer(reply))?;
        Ok(answer)
    }

    fn send(&self, frame: Outgoing) -> bool {
        self.outbound.as_ref().is_some_and(|outbound| outbound.send(frame).is_ok())
    }

    fn respond(&self, response: Response, credit: Credit) {
        let bytes = encode::<MasterOp>(&Frame::Response(response));
        self.send(Outgoing::Message { bytes, credit: Some(credit) });
    }

    /// Ends the session with a closing frame.
    fn close(&mut self, code: CloseCode, why: &str, ctx: &mut Context<Self>) {
        self.send(Outgoing::Close(CloseReason { code, description: Some(why.to_owned()) }));
        self.end(why.to_owned(), ctx);
    }

    /// The connection is over: nothing can be started, what runs is lost, what is written is waited for.
    fn end(&mut self, why: String, ctx: &mut Context<Self>) {
        if matches!(self.phase, Phase::Closing { .. }) {
            return;
        }
        let (unfinished, pieces) = self.commands.lose_all(&why);
        for (id, pieces) in pieces {
            self.start_output(&id, Some(pieces));
        }
        match (&self.phase, unfinished.len()) {
            (Phase::Connecting, _) => {
                tracing::warn!(worker.name = %self.name, %why, "a worker was lost while it connected");
            }
            (_, 0) => tracing::info!(worker.name = %self.name, %why, "a worker disconnected"),
            (_, commands) => tracing::warn!(worker.name = %self.name, %why, commands, "a worker was lost"),
        }
        self.phase = Phase::Closing { unfinished };
        self.outbound = None;
        // Dropping the ways of the answers tells whoever waits.
        self.waiting.clear();
        self.tell_state(ctx);
        if self.commands.open() == 0 {
            return complete(ctx);
        }
        ctx.run_later(DRAIN, |act, ctx| {
            tracing::warn!(worker.name = %act.name, commands = act.commands.open(), "output of a lost worker is given up");
            complete(ctx);
        });
    }

    /// After the end of the connection: all is over once nothing is being written any more.
    fn end_if_written(&self, ctx: &mut Context<Self>) {
        if matches!(self.phase, Phase::Closing { .. }) && self.commands.open() == 0 {
            complete(ctx);
        }
    }

    /// Tells the directory where this session is; again later if it cannot hear.
    fn tell_state(&mut self, ctx: &mut Context<Self>) {
        let (worker, serial) = (self.worker, self.serial);
        let told = match &self.phase {
            Phase::Connecting => Ok(()),
            Phase::Usable { facts, info } => {
                let (facts, info) = (Arc::clone(facts), info.clone());
                self.directory.tell(Greeted { worker, serial, facts, info })
            }
            Phase::Closing { unfinished } => {
                self.directory.tell(Closing { worker, serial, unfinished: unfinished.clone() })
            }
        };
        if told.is_err() {
            ctx.run_later(TELL_AGAIN, Self::tell_state);
        }
    }

    fn set_responsive(&mut self, responsive: bool) {
        if self.is_responsive == responsive || !matches!(self.phase, Phase::Usable { .. }) {
            return;
        }
        let news = Responsive { worker: self.worker, serial: self.serial, responsive };
        // If it cannot be told now, the next tick or sign of life tries again.
        if self.directory.tell(news).is_ok() {
            self.is_responsive = responsive;
        }
    }

    /// Time for a ping: the worker may have missed the last one, or be silent for too long.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        for (id, pieces) in self.commands.lose_patience() {
            tracing::warn!(worker.name = %self.name, command.id = %id, "output of a worker did not come");
            self.start_output(&id, Some(pieces));
        }
        let now = Instant::now();
        if self.gauge.is_starved() {
            self.last_heard = now;
        }
        if self.pinged.is_some_and(|pinged| pinged > self.last_heard) {
            self.set_responsive(false);
        }
        let silent = now.saturating_duration_since(self.last_heard);
        if silent + self.timing.ping > self.timing.silence {
            ctx.run_later(self.timing.silence.saturating_sub(silent), Self::judge_silence);
        }
        if self.pinged.is_none_or(|pinged| pinged <= self.last_heard) {
            self.pinged = Some(now);
        }
        self.send(Outgoing::Ping);
    }

    fn judge_silence(&mut self, ctx: &mut Context<Self>) {
        if !self.gauge.is_starved() && self.last_heard.elapsed() >= self.timing.silence {
            self.end(format!("silent for {} s", self.timing.silence.as_secs_f32()), ctx);
        }
    }

    fn start_output(&mut self, command_id: &str, pieces: NewOutput) {
        let Some(pieces) = pieces else { return };
        let id = command_id.to_owned();
        let write = output::write(self.rw.clone(), self.masks.current(), pieces);
        let task = self.tasks.spawn(write, move |end| OutputWritten { command_id: id, end });
        self.writers.insert(command_id.to_owned(), task);
    }

    fn message(&mut self, frame: Frame<WorkerOp>, credit: Credit) {
        match frame {
            Frame::Response(Response { seq, result }) => self.response(seq, result),
            Frame::Request { seq, op } => {
                let response = self.operation(seq, op, &credit);
                self.respond(response, credit);
            }
        }
    }

    fn response(&mut self, seq: u64, result: Result<Value, String>) {
        match self.waiting.remove(&seq) {
            Some(Waiting::Answer(reply)) => {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(result);
            }
            Some(Waiting::Start { command_id, reply }) => {
                let result = result.map(drop).map_err(|text| {
                    self.commands.refuse(&command_id, &text);
                    LinkError::Refused(self.masks.current().mask(&text).into_owned())
                });
                let _ = reply.send(result);
            }
            None => self.odd(format_args!("a response to request {seq}, which is not open")),
        }
    }

    /// Does what the worker asks, and says what to answer.
    fn operation(&mut self, seq: u64, op: WorkerOp, credit: &Credit) -> Response {
        match op {
            WorkerOp::Update { command_id, items } => self.update(&command_id, items, credit),
            WorkerOp::Complete { command_id, failure, totals } => {
                let complete = |id| Some((id, self.commands.complete(id, failure, totals)?));
                let done = command_id.as_str().and_then(complete);
                match done {
                    Some((id, pieces)) => self.start_output(id, pieces),
                    None => {
                        self.odd(format_args!("the end of command {command_id}, which does not run here"))
                    }
                }
            }
            WorkerOp::UploadFileClose { .. }
            | WorkerOp::ReadFileClose { .. }
            | WorkerOp::UploadFileUtime { .. } => {}
            WorkerOp::Output { command_id, batch } if self.takes_batches => {
                let credit = credit.clone();
                let output = |id| Some((id, self.commands.output(id, batch, credit)?));
                match command_id.as_str().and_then(output) {
                    Some((id, pieces)) => self.start_output(id, pieces),
                    None => self.odd(format_args!("output of command {command_id}, which does not run here")),
                }
            }
            WorkerOp::Output { .. } => {
                self.odd(format_args!("output in batches, which nobody asked for"));
                return Response::error(seq, "this master did not ask for output in batches");
            }
            WorkerOp::UploadFileWrite { .. }
            | WorkerOp::UploadDirectoryWrite { .. }
            | WorkerOp::UploadDirectoryUnpack { .. }
            | WorkerOp::ReadFile { .. } => {
                self.odd(format_args!("a transfer that nobody asked for"));
                return Response::error(seq, "this master asked for no transfer");
            }
            WorkerOp::Unknown { op } => {
                self.odd(format_args!("the unknown operation {op:?}"));
                return Response::error(seq, format!("operation {op} does not exist"));
            }
        }
        Response::nil(seq)
    }

    fn update(&mut self, command_id: &CommandId, items: Vec<UpdateItem>, credit: &Credit) {
        let taken = command_id.as_str().and_then(|id| Some((id, self.commands.update(id, items, credit)?)));
        match taken {
            Some((id, pieces)) => self.start_output(id, pieces),
            None => self.odd(format_args!("an update of command {command_id}, which does not run here")),
        }
    }

    fn undecodable(&mut self, error: &DecodeError, credit: Credit, ctx: &mut Context<Self>) {
        match error.seq() {
            Some(seq) => {
                self.odd(format_args!("a request that cannot be read: {error}"));
                self.respond(Response::error(seq, error.to_string()), credit);
            }
            None => self.close(CloseCode::Unsupported, &format!("a frame could not be read: {error}"), ctx),
        }
    }

    /// A frame past the limit: its command fails and is killed. If it cannot be told whose it was, all fail.
    fn oversize(
        &mut self,
        length: u64,
        envelope: crate::oversize::Envelope,
        credit: Credit,
        ctx: &mut Context<Self>,
    ) {
        let limit = greenroom_protocol::MAX_FRAME >> 20;
        let failure = format!("the worker sent a message of {length} bytes; at most {limit} MiB are taken");
        tracing::warn!(worker.name = %self.name, bytes = length, command.id = ?envelope.command_id,
            "a worker sent a message past the limit");
        let known = envelope.command_id.filter(|id| self.commands.is_running(id));
        match (known, envelope.seq) {
            (Some(id), Some(seq)) => {
                self.respond(Response::nil(seq), credit);
                self.commands.fail(&id, &failure);
                self.kill(&id, &failure);
            }
            _ => {
                for id in self.commands.running_ids() {
                    self.commands.fail(&id, &failure);
                }
                self.close(CloseCode::Size, &failure, ctx);
            }
        }
    }

    fn kill(&mut self, id: &str, why: &str) {
        if self.commands.interrupt(id) {
            let op = MasterOp::InterruptCommand { command_id: CommandId::from(id), why: why.to_owned() };
            // Its end comes as usual, or the connection is over.
            let _ = self.ask(op);
        }
    }

    /// Something that no worker should send: of no effect, but worth a line.
    fn odd(&mut self, what: std::fmt::Arguments<'_>) {
        self.counts.odd += 1;
        if self.counts.odd <= LOGGED_ODDITIES {
            tracing::warn!(worker.name = %self.name, "ignored {what}");
        }
    }
}

impl StreamHandler<Inbound> for SessionActor {
    fn handle(&mut self, inbound: Inbound, ctx: &mut Context<Self>) {
        if matches!(self.phase, Phase::Closing { .. }) {
            return;
        }
        self.last_heard = Instant::now();
        if !self.is_responsive {
            self.set_responsive(true);
        }
        match inbound {
            Inbound::Message { bytes, credit } => {
                self.counts.frames += 1;
                match decode_from_worker(&bytes) {
                    Ok(frame) => self.message(frame, credit),
                    Err(error) => self.undecodable(&error, credit, ctx),
                }
            }
            Inbound::Alive(_) => {}
            Inbound::Oversize { length, envelope, credit } => self.oversize(length, envelope, credit, ctx),
            Inbound::Gone(why) => self.end(why, ctx),
        }
    }

    fn finished(&mut self, ctx: &mut Context<Self>) {
        self.end("the connection is over".to_owned(), ctx);
    }
}

impl Handler<AskWorker> for SessionActor {
    type Result = Result<Answer, LinkError>;

    fn handle(&mut self, AskWorker(op): AskWorker, _: &mut Context<Self>) -> Self::Result {
        self.ask(op)
    }
}

impl Handler<StartCommand> for SessionActor {
    type Result = Result<oneshot::Receiver<Result<(), LinkError>>, LinkError>;

    fn handle(&mut self, StartCommand(start): StartCommand, _: &mut Context<Self>) -> Self::Result {
        if !matches!(self.phase, Phase::Usable { .. }) {
            return Err(LinkError::NotConnected);
        }
        let (reply, answer) = oneshot::channel();
        let (command_id, command) = (start.command_id.clone(), start.command.clone());
        match self.commands.insert(start) {
            Inserted::Known => {
                // Started before, by a build that has been born again since.
                let _ = reply.send(Ok(()));
                return Ok(answer);
            }
            Inserted::Full => return Err(LinkError::Busy),
            Inserted::New => {}
        }
        let op = MasterOp::StartCommand { command_id: CommandId::from(command_id.as_str()), command };
        if let Err(error) = self.request(op, Waiting::Start { command_id: command_id.clone(), reply }) {
            self.commands.refuse(&command_id, "it could not be sent");
            return Err(error);
        }
        self.counts.started += 1;
        Ok(answer)
    }
}

impl Handler<WatchCommand> for SessionActor {
    type Result = Option<watch::Receiver<Option<CommandEnd>>>;

    fn handle(&mut self, WatchCommand(id): WatchCommand, _: &mut Context<Self>) -> Self::Result {
        self.commands.watch(&id)
    }
}

impl Handler<InterruptCommand> for SessionActor {
    type Result = Result<Option<Answer>, LinkError>;

    fn handle(&mut self, msg: InterruptCommand, _: &mut Context<Self>) -> Self::Result {
        if !self.commands.interrupt(&msg.command_id) {
            return Ok(None);
        }
        let command_id = CommandId::from(msg.command_id);
        self.ask(MasterOp::InterruptCommand { command_id, why: msg.why }).map(Some)
    }
}

impl Handler<ForgetCommand> for SessionActor {
    type Result = ();

    fn handle(&mut self, ForgetCommand(id): ForgetCommand, ctx: &mut Context<Self>) {
        self.commands.forget(&id);
        // Nobody wants its output any more, and its logs may have been ended: what is queued must not hold the rest up.
        if let Some(writer) = self.writers.remove(&id) {
            self.tasks.cancel(writer);
            self.commands.written(&id, Written::default());
            self.end_if_written(ctx);
        }
    }
}

impl Handler<ConnectEnded> for SessionActor {
    type Result = ();

    fn handle(&mut self, ConnectEnded(end): ConnectEnded, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Connecting) {
            return;
        }
        match end {
            TaskEnd::Done(Ok((facts, info))) => {
                self.phase = Phase::Usable { facts, info };
                self.tell_state(ctx);
            }
            TaskEnd::Done(Err(why)) | TaskEnd::Panicked(why) => self.close(CloseCode::Protocol, &why, ctx),
        }
    }
}

impl Handler<OutputWritten> for SessionActor {
    type Result = ();

    fn handle(&mut self, OutputWritten { command_id, end }: OutputWritten, ctx: &mut Context<Self>) {
        let written = match end {
            TaskEnd::Done(written) => written,
            TaskEnd::Panicked(why) => Written {
                trouble: Some(format!("its output could not be stored: {why}")),
                ..Written::default()
            },
        };
        self.writers.remove(&command_id);
        self.commands.written(&command_id, written);
        self.end_if_written(ctx);
    }
}

impl Handler<Prove> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Prove, _: &mut Context<Self>) {
        let answer = self.ask(MasterOp::Print { message: "master got a duplicate connection".to_owned() });
        let within = self.timing.proof;
        let proof = async move {
            match answer {
                Ok(answer) => matches!(timeout(within, answer).await, Ok(Ok(_))),
                Err(_) => false,
            }
        };
        self.tasks.spawn(proof, ProofEnded);
    }
}

impl Handler<ProofEnded> for SessionActor {
    type Result = ();

    fn handle(&mut self, ProofEnded(end): ProofEnded, ctx: &mut Context<Self>) {
        let alive = end == TaskEnd::Done(true) && !matches!(self.phase, Phase::Closing { .. });
        if alive {
            // If the directory cannot hear, it was born again and has dropped the second connection.
            let _ = self.directory.tell(Proved { worker: self.worker, serial: self.serial, alive });
        } else {
            self.end("a second connection came and this one did not answer".to_owned(), ctx);
        }
    }
}

impl Handler<TellAgain> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: TellAgain, ctx: &mut Context<Self>) {
        self.tell_state(ctx);
        // What the board says of this may be older than what this session told last.
        let responsive = self.is_responsive;
        let news = Responsive { worker: self.worker, serial: self.serial, responsive };
        // A directory that cannot hear this was born again, and will ask again.
        let _ = self.directory.tell(news);
    }
}

impl Handler<Part> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Part, ctx: &mut Context<Self>) {
        self.close(CloseCode::Normal, "this worker is not configured any more", ctx);
    }
}
