//! A master for tests: starts commands, answers every request, collects what is reported.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use greenroom_protocol::{
    Batch, Command, CommandId, CommandLine, Frame, MAX_FRAME, MasterOp, Response, Settings, Shell, Source,
    UpdateItem, Value, WorkerFrame, WorkerOp, decode_from_worker, encode,
};
use greenroom_worker::{AgentError, AgentOptions, Ended, run_until};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response as HttpResponse};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// A test that waits longer than this for anything has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// `base64("w1:pw1")`, as the agent of the tests must send it.
pub const CREDENTIALS: &str = "Basic dzE6cHcx";

/// Fails the test when something does not happen in time.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// A listening master and an agent that connects to it.
pub struct World {
    pub listener: TcpListener,
    pub dir: TempDir,
    pub agent: JoinHandle<Result<Ended, AgentError>>,
    pub stop: Option<oneshot::Sender<()>>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A world whose agent is set up otherwise.
    pub async fn with(change: impl FnOnce(&mut AgentOptions)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let mut options = AgentOptions::new(url, "w1", String::from("pw1").into(), dir.path());
        options.longest_backoff = Duration::from_millis(20);
        options.version = "0.1.0-test".to_owned();
        change(&mut options);
        let (stop, stopped) = oneshot::channel::<()>();
        let agent = tokio::spawn(run_until(options, async {
            let _ = stopped.await;
        }));
        Self { listener, dir, agent, stop: Some(stop) }
    }

    /// A world whose agent is connected.
    pub async fn connected() -> (Self, Master) {
        let world = Self::new().await;
        let master = world.accept().await;
        (world, master)
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// A path in the agent's directory, as text.
    pub fn at(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }

    /// Takes the agent's next connection and accepts its credentials.
    pub async fn accept(&self) -> Master {
        self.accept_with(CREDENTIALS).await.expect("the handshake failed")
    }

    /// Takes the agent's next connection; refuses it unless it sends these credentials.
    #[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
    pub async fn accept_with(&self, credentials: &'static str) -> Option<Master> {
        let (stream, _) = within("a connection", self.listener.accept()).await.unwrap();
        let check = |request: &Request, response: HttpResponse| {
            let sent =
                request.headers().get("authorization").map(|header| header.to_str().unwrap().to_owned());
            if sent.as_deref() == Some(credentials) {
                return Ok(response);
            }
            let mut refusal = ErrorResponse::new(None);
            *refusal.status_mut() = StatusCode::UNAUTHORIZED;
            Err(refusal)
        };
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
        let accepting = tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config));
        let socket = within("the handshake", accepting).await.ok()?;
        Some(Master { socket, seq: 0, runs: HashMap::new(), responses: HashMap::new(), next_seq: 0 })
    }
}

/// What one command reported.
#[derive(Debug, Default, Clone)]
pub struct Run {
    pub items: Vec<UpdateItem>,
    pub updates: usize,
    /// Bytes that came in batches, by source, and how many batches those were, packed ones among them.
    pub raw: Vec<(Source, Vec<u8>)>,
    pub batches: usize,
    pub packed: usize,
    pub totals: Option<Vec<(Source, u64)>>,
    pub complete: Option<Option<String>>,
}

impl Run {
    fn batch(&mut self, batch: &Batch) {
        self.batches += 1;
        self.packed += usize::from(batch.is_packed());
        let mut bytes = batch.unpack().unwrap();
        for chunk in batch.chunks() {
            let known = self.raw.iter().position(|(source, _)| *source == chunk.source);
            let index = known.unwrap_or_else(|| {
                self.raw.push((chunk.source.clone(), Vec::new()));
                self.raw.len() - 1
            });
            let so_far = &mut self.raw[index].1;
            assert_eq!(so_far.len() as u64, chunk.offset, "no gap, nothing twice");
            so_far.extend_from_slice(&bytes.split_to(chunk.length));
        }
    }

    /// What came in batches from a source.
    pub fn bytes(&self, source: &Source) -> &[u8] {
        self.raw.iter().find(|(known, _)| known == source).map_or(&[], |(_, bytes)| bytes)
    }

    fn text(&self, pick: impl Fn(&UpdateItem) -> Option<&str>) -> String {
        self.items.iter().filter_map(pick).collect()
    }

    pub fn stdout(&self) -> String {
        self.text(|item| if let UpdateItem::Stdout(text) = item { Some(text) } else { None })
    }

    pub fn stderr(&self) -> String {
        self.text(|item| if let UpdateItem::Stderr(text) = item { Some(text) } else { None })
    }

    pub fn header(&self) -> String {
        self.text(|item| if let UpdateItem::Header(text) = item { Some(text) } else { None })
    }

    pub fn log(&self, wanted: &str) -> String {
        self.text(|item| match item {
            UpdateItem::Log { name, text } if &**name == wanted => Some(text),
            _ => None,
        })
    }

    pub fn rc(&self) -> Option<i64> {
        self.items.iter().find_map(|item| if let UpdateItem::Rc(rc) = item { Some(*rc) } else { None })
    }

    pub fn has_elapsed(&self) -> bool {
        self.items.iter().any(|item| matches!(item, UpdateItem::Elapsed(seconds) if *seconds >= 0.0))
    }

    pub fn failure_reason(&self) -> Option<&str> {
        self.items.iter().find_map(|item| match item {
            UpdateItem::FailureReason(reason) => Some(reason.as_str()),
            _ => None,
        })
    }

    pub fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = self
            .items
            .iter()
            .filter_map(|item| if let UpdateItem::Files(files) = item { Some(files) } else { None })
            .flatten()
            .map(ToString::to_string)
            .collect();
        files.sort();
        files
    }

    /// The text of the failure of the command itself.
    pub fn failure(&self) -> Option<&str> {
        self.complete.as_ref().and_then(Option::as_deref)
    }
}

/// The master's side of one connection.
pub struct Master {
    pub socket: WebSocketStream<TcpStream>,
    seq: u64,
    next_seq: u64,
    runs: HashMap<CommandId, Run>,
    responses: HashMap<u64, Result<Value, String>>,
}

impl Master {
    /// Sends a request and returns its number.
    pub async fn send(&mut self, op: MasterOp) -> u64 {
        let seq = self.seq;
        self.seq += 1;
        self.raw(encode(&Frame::Request { seq, op })).await;
        seq
    }

    pub async fn raw(&mut self, bytes: Bytes) {
        within("room to send", self.socket.send(Message::Binary(bytes))).await.unwrap();
    }

    /// Receives and files one message; requests are answered with nil at once. False when the connection ended.
    pub async fn step(&mut self) -> bool {
        let message = within("a message", self.socket.next()).await;
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
            Some(Ok(_)) => return true,
        };
        match decode_from_worker(&bytes).unwrap() {
            WorkerFrame::Response(Response { seq, result }) => {
                assert!(seq < self.seq, "an answer to a request that was never sent");
                assert!(self.responses.insert(seq, result).is_none(), "request {seq} was answered twice");
            }
            WorkerFrame::Request { seq, op } => {
                assert_eq!(seq, self.next_seq, "requests are numbered from 0 without gaps");
                self.next_seq += 1;
                self.file(op);
                self.raw(encode::<MasterOp>(&Frame::Response(Response::nil(seq)))).await;
            }
        }
        true
    }

    fn file(&mut self, op: WorkerOp) {
        let run = self.runs.entry(op.command_id().unwrap().clone()).or_default();
        assert!(run.complete.is_none(), "{op:?} came after complete");
        match op {
            WorkerOp::Update { items, .. } => {
                run.updates += 1;
                run.items.extend(items);
            }
            WorkerOp::Complete { failure, totals, .. } => {
                run.complete = Some(failure);
                run.totals = totals;
            }
            WorkerOp::Output { batch, .. } => run.batch(&batch),
            other => panic!("unexpected {other:?}"),
        }
    }

    /// The answer to a request.
    pub async fn response(&mut self, seq: u64) -> Result<Value, String> {
        while !self.responses.contains_key(&seq) {
            assert!(self.step().await, "the connection ended before the answer");
        }
        self.responses.remove(&seq).unwrap()
    }

    /// Whether a request is answered before the connection ends.
    pub async fn answers(&mut self, seq: u64) -> bool {
        while !self.responses.contains_key(&seq) {
            if !self.step().await {
                return false;
            }
        }
        self.responses.remove(&seq).is_some()
    }

    pub async fn ask(&mut self, op: MasterOp) -> Result<Value, String> {
        let seq = self.send(op).await;
        self.response(seq).await
    }

    pub async fn settings(&mut self, settings: Settings) {
        assert_eq!(self.ask(MasterOp::SetWorkerSettings(settings)).await, Ok(Value::Nil));
    }

    /// Starts a command and checks that it was accepted.
    pub async fn start(&mut self, id: &str, command: Command) {
        let op = MasterOp::StartCommand { command_id: id.into(), command };
        assert_eq!(self.ask(op).await, Ok(Value::Nil));
    }

    /// Waits until the reports of a command satisfy a condition.
    pub async fn until(&mut self, id: &str, what: &str, condition: impl Fn(&Run) -> bool) -> Run {
        let id = CommandId::from(id);
        loop {
            if let Some(run) = self.runs.get(&id) {
                if condition(run) {
                    return run.clone();
                }
                assert!(run.complete.is_none(), "{what} did not come: {run:?}");
            }
            assert!(self.step().await, "the connection ended before {what}");
        }
    }

    /// Waits for the end of a command and forgets it.
    pub async fn end_of(&mut self, id: &str) -> Run {
        let run = self.until(id, "its end", |run| run.complete.is_some()).await;
        self.runs.remove(&CommandId::from(id));
        run
    }

    /// Runs a command to its end.
    pub async fn run(&mut self, id: &str, command: Command) -> Run {
        self.start(id, command).await;
        self.end_of(id).await
    }

    pub async fn interrupt(&mut self, id: &str) {
        let op = MasterOp::InterruptCommand { command_id: id.into(), why: "test".to_owned() };
        assert_eq!(self.ask(op).await, Ok(Value::Nil));
    }
}

/// Arguments for `/bin/sh -c` in a directory.
pub fn sh(dir: &Path, script: &str) -> Shell {
    let mut shell = Shell::new(dir.to_str().unwrap(), CommandLine::Shell(script.to_owned()));
    shell.log_environ = false;
    shell
}

pub fn shell(args: Shell) -> Command {
    Command::Shell(Box::new(args))
}

/// Whether a process exists and is not a zombie.
pub fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// Waits until a process is gone; asks again and again, since nobody tells.
pub async fn gone(pid: &str) {
    within("a process to end", async {
        while is_alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
