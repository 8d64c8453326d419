//! A farm for one test: data layer in memory, link layer, its door on a port; and a worker written by hand.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use greenroom_config::mask::SharedMasks;
use greenroom_config::values::Secret;
use greenroom_config::{Worker, WorkerKind};
use greenroom_data::{DataLayer, DataOptions, Rw};
use greenroom_link::{
    Command, CommandLine, CommandStart, LinkLayer, LinkOptions, Shell, Timing, WorkerFacts, Workers,
};
use greenroom_model::write::{Configuration, ConfiguredBuilder, NewBuild, NewBuildset};
use greenroom_model::*;
use greenroom_protocol::{
    CommandId, Frame, LogText, MasterFrame, MasterOp, Response, UpdateItem, Value,
    WorkerInfo as ProtocolInfo, WorkerOp, decode_from_master, encode,
};
use greenroom_runtime::TestWorld;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Longer than anything takes; what waits so long is not coming.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something, and fails with its name when it does not come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

pub struct Farm {
    pub world: TestWorld,
    pub data: DataLayer,
    pub link: LinkLayer,
    pub workers: Workers,
    pub address: SocketAddr,
    pub dir: tempfile::TempDir,
    server: ServerHandle,
}

pub fn timing() -> Timing {
    Timing { proof: Duration::from_millis(300), connect: Duration::from_secs(15), ..Timing::default() }
}

pub fn remote(password: &str) -> Worker {
    Worker {
        kind: WorkerKind::Remote,
        password: Some(Secret::new(password)),
        max_builds: std::num::NonZeroU32::MIN,
        properties: BTreeMap::new(),
        dir: None,
    }
}

pub fn local() -> Worker {
    Worker { kind: WorkerKind::Local, password: None, ..remote("") }
}

/// Starts the data layer in memory with workers `w1` (password `pw:1`), `w2` (`pw2`) and these.
pub async fn data(world: &TestWorld, dir: &Path, more: &[&str]) -> DataLayer {
    let options = DataOptions {
        database_url: "memory:".into(),
        data_dir: dir.to_owned(),
        bus: None,
        master_name: "main".into(),
    };
    let data = DataLayer::start(&world.root(), options).await.unwrap();
    let workers: Vec<String> = ["w1", "w2"].iter().chain(more).map(|name| (*name).to_owned()).collect();
    let builder = ConfiguredBuilder { name: "b".into(), workers: workers.clone(), ..Default::default() };
    let configuration = Configuration { builders: vec![builder], workers, ..Default::default() };
    data.rw().write(vec![Op::Configure(Box::new(configuration))]).await.unwrap();
    let rw = data.rw();
    eventually("the configuration", || rw.ro().hot().worker_named("w2").is_some()).await;
    data
}

/// Waits until a condition of the outside world holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub async fn serve(link: &LinkLayer) -> (SocketAddr, ServerHandle) {
    let link = link.clone();
    let app = move || {
        let link = link.clone();
        App::new().configure(|config| link.configure(config))
    };
    let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    (address, handle)
}

pub async fn farm_with(timing: Timing, locals: &[(&str, Worker)], agent: Option<&Path>) -> Farm {
    raised(timing, locals, agent, SharedMasks::default()).await
}

/// A farm whose logs are masked.
pub async fn farm_that_masks(masks: SharedMasks) -> Farm {
    raised(timing(), &[], None, masks).await
}

async fn raised(timing: Timing, locals: &[(&str, Worker)], agent: Option<&Path>, masks: SharedMasks) -> Farm {
    let world = TestWorld::in_real_time();
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<&str> = locals.iter().map(|(name, _)| *name).collect();
    let data = data(&world, dir.path(), &names).await;
    let mut workers = BTreeMap::from([("w1".to_owned(), remote("pw:1")), ("w2".to_owned(), remote("pw2"))]);
    workers.extend(locals.iter().map(|(name, worker)| ((*name).to_owned(), worker.clone())));
    let mut options = LinkOptions::new(data.rw(), workers, dir.path());
    options.timing = timing;
    options.agent = agent.map(Path::to_owned);
    options.masks = masks;
    let link = LinkLayer::start(&world.root(), options).await.unwrap();
    let (address, server) = serve(&link).await;
    Farm { world, data, workers: link.workers(), link, address, dir, server }
}

pub async fn farm() -> Farm {
    farm_with(timing(), &[], None).await
}

impl Farm {
    pub fn rw(&self) -> Rw {
        self.data.rw()
    }

    pub fn id(&self, name: &str) -> WorkerId {
        self.rw().ro().hot().worker_named(name).map(|worker| worker.id).unwrap()
    }

    pub fn is_usable(&self, name: &str) -> bool {
        self.workers.facts(self.id(name)).is_some()
    }

    pub async fn usable(&self, name: &str) -> Arc<WorkerFacts> {
        eventually("the worker being usable", || self.is_usable(name)).await;
        self.workers.facts(self.id(name)).unwrap()
    }

    pub async fn unusable(&self, name: &str) {
        eventually("the worker being unusable", || !self.is_usable(name)).await;
    }

    /// Whether the data layer says that it is connected.
    pub fn is_connected(&self, name: &str) -> bool {
        let hot = self.rw().ro().hot();
        hot.worker_named(name).is_some_and(|worker| worker.connected_to == [self.rw().ro().me()])
    }

    /// A build with one running step and an empty log of standard streams.
    pub async fn build_on(&self, name: &str) -> (BuildId, StepId, LogId) {
        let rw = self.rw();
        let builder = rw.ro().hot().builder_named("b").map(|builder| builder.id).unwrap();
        let (request, build, step, log) =
            (rw.new_id().unwrap(), rw.new_id().unwrap(), rw.new_id().unwrap(), rw.new_id().unwrap());
        let buildset = NewBuildset {
            id: rw.new_id().unwrap(),
            requests: vec![(request, builder)],
            sourcestamps: vec![],
            reason: "test".into(),
            external_id: None,
            properties: Properties::new(),
            priority: 0,
            waited_for: false,
            scheduler: None,
            parent: None,
            rebuilt_build: None,
        };
        let new = NewBuild {
            id: build,
            request,
            worker: self.id(name),
            state_string: "running".into(),
            properties: Properties::new(),
        };
        let ops = vec![
            Op::AddBuildset(Box::new(buildset)),
            Op::StartBuild(Box::new(new)),
            Op::AddStep { id: step, build, number: 0, name: "shell".into(), hidden: false },
            Op::StartStep { step, state_string: "running".into() },
            Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio },
        ];
        rw.write(ops).await.unwrap();
        (build, step, log)
    }

    /// A shell command that logs to the log of a new build.
    pub async fn shell(&self, name: &str, script: &str) -> (CommandStart, LogId) {
        let (_, _, log) = self.build_on(name).await;
        let basedir = self.usable(name).await.basedir.clone();
        let mut shell = Shell::new(format!("{basedir}/b"), CommandLine::Shell(script.into()));
        shell.log_environ = false;
        let start = CommandStart {
            command_id: self.workers.new_command_id(),
            command: Command::Shell(Box::new(shell)),
            stdio: Some(log),
            logs: BTreeMap::new(),
            capture_stdout: None,
        };
        (start, log)
    }

    /// The text of a log after it is ended, a letter of its stream before each line.
    pub async fn text(&self, log: LogId) -> String {
        String::from_utf8(self.bytes(log).await).unwrap()
    }

    /// The same, of bytes that may be no text.
    pub async fn bytes(&self, log: LogId) -> Vec<u8> {
        self.rw().finish_log(log).await.unwrap();
        let ro = self.rw().ro().clone();
        let mut pieces = ro.log_text(log, 0..i64::MAX);
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await {
            text.extend_from_slice(&piece.unwrap());
        }
        text
    }

    /// Ends all builds well, so that nothing is left over for the next connection.
    pub async fn end_builds(&self) {
        let rw = self.rw();
        let open: Vec<_> = rw.ro().hot().running_builds().map(|build| build.id).collect();
        for build in open {
            let op = Op::FinishBuild { build, results: Results::Success, state_string: String::new() };
            rw.write(vec![op]).await.unwrap();
        }
        eventually("the builds' end", || rw.ro().hot().running_builds().next().is_none()).await;
    }

    pub async fn finish(self) {
        let report = soon("the stop of the layer", self.link.stop(None)).await;
        assert!(report.cut_off.is_empty(), "{report:?}");
        self.server.stop(false).await;
        self.world.finish().await;
    }
}

/// A worker that does only what it is told to do.
pub struct FakeWorker {
    socket: WebSocketStream<TcpStream>,
    next_seq: u64,
    /// Answers of the master, by number, that nobody has asked for yet.
    answers: HashMap<u64, Result<Value, String>>,
}

pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{name}:{password}")))
}

/// Tries a handshake with this header; gives the status if it is refused.
pub async fn handshake(
    address: SocketAddr,
    path: &str,
    authorization: Option<&str>,
) -> Result<WebSocketStream<TcpStream>, u16> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    if let Some(value) = authorization {
        request.headers_mut().insert("authorization", value.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    let mut config = WebSocketConfig::default();
    config.max_frame_size = None;
    config.max_message_size = None;
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

pub fn stdout(text: &str) -> UpdateItem {
    UpdateItem::Stdout(LogText::new(text.to_owned(), 1.0))
}

impl FakeWorker {
    /// The handshake only.
    pub async fn open(farm: &Farm, name: &str) -> Self {
        let password = if name == "w1" { "pw:1" } else { "pw2" };
        let socket = handshake(farm.address, "/", Some(&basic(name, password))).await.unwrap();
        Self { socket, next_seq: 0, answers: HashMap::new() }
    }

    /// Connected and usable.
    pub async fn connect(farm: &Farm, name: &str) -> Self {
        let mut worker = Self::open(farm, name).await;
        worker.greet().await;
        farm.usable(name).await;
        worker
    }

    /// Answers the connect sequence up to the settings; gives the commands that were interrupted meanwhile.
    pub async fn greet(&mut self) {
        for _ in 0..3 {
            let (seq, op) = self.request().await;
            self.greeting(seq, &op).await;
        }
    }

    /// Answers one request of the connect sequence.
    pub async fn greeting(&mut self, seq: u64, op: &MasterOp) {
        let value = match op {
            MasterOp::Print { .. } | MasterOp::SetWorkerSettings(_) => Value::Nil,
            MasterOp::GetWorkerInfo => info().to_value(),
            other => panic!("unexpected {other:?}"),
        };
        self.answer(seq, Ok(value)).await;
    }

    pub async fn send_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.socket.send(Message::Binary(bytes.into())).await.unwrap();
    }

    /// Bytes straight onto the connection, past the WebSocket.
    pub fn raw(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    pub async fn answer(&mut self, seq: u64, result: Result<Value, String>) {
        let frame: Frame<WorkerOp> = Frame::Response(Response { seq, result });
        self.send_bytes(encode(&frame)).await;
    }

    /// Sends a request; gives its number.
    pub async fn send(&mut self, op: WorkerOp) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.send_bytes(encode(&Frame::Request { seq, op })).await;
        seq
    }

    pub async fn update(&mut self, id: &CommandId, items: Vec<UpdateItem>) -> u64 {
        self.send(WorkerOp::Update { command_id: id.clone(), items }).await
    }

    pub async fn complete(&mut self, id: &CommandId, failure: Option<&str>) -> u64 {
        self.send(WorkerOp::Complete {
            command_id: id.clone(),
            failure: failure.map(str::to_owned),
            totals: None,
        })
        .await
    }

    /// The next frame of the master; none when the connection is over.
    async fn frame(&mut self) -> Option<MasterFrame> {
        // The patience is for the whole: pings come for ever.
        soon("a frame of the master", async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Binary(bytes))) => return Some(decode_from_master(&bytes).unwrap()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(other)) => panic!("unexpected {other:?}"),
                }
            }
        })
        .await
    }

    /// The next request of the master.
    pub async fn request(&mut self) -> (u64, MasterOp) {
        self.request_or_end().await.expect("the connection is over")
    }

    /// The next request of the master; none when the connection is over.
    pub async fn request_or_end(&mut self) -> Option<(u64, MasterOp)> {
        loop {
            match self.frame().await? {
                Frame::Request { seq, op } => return Some((seq, op)),
                Frame::Response(response) => self.keep(response),
            }
        }
    }

    /// The next request, which starts a command: its number and id.
    pub async fn started(&mut self) -> (u64, CommandId) {
        match self.request().await {
            (seq, MasterOp::StartCommand { command_id, .. }) => (seq, command_id),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn keep(&mut self, response: Response) {
        let twice = self.answers.insert(response.seq, response.result);
        assert_eq!(twice, None, "request {} was answered twice", response.seq);
    }

    /// The master's answer to a request.
    pub async fn answer_to(&mut self, seq: u64) -> Result<Value, String> {
        while !self.answers.contains_key(&seq) {
            match self.frame().await.expect("the connection is over") {
                Frame::Response(response) => self.keep(response),
                Frame::Request { op, .. } => panic!("unexpected {op:?}"),
            }
        }
        self.answers.remove(&seq).unwrap()
    }

    /// Waits until the master ends the connection; requests and responses on the way are dropped.
    pub async fn ended(&mut self) {
        while self.frame().await.is_some() {}
    }
}

/// What the worker written by hand says of itself.
pub fn info() -> ProtocolInfo {
    ProtocolInfo {
        texts: BTreeMap::from([
            ("admin".into(), "A <a@example.org>\n".into()),
            ("os_id".into(), "debian".into()),
        ]),
        environ: BTreeMap::from([("SECRET".into(), "s3cret".into())]),
        system: "posix".into(),
        basedir: "/srv/worker".into(),
        numcpus: 2,
        version: "4.3.0".into(),
        worker_commands: BTreeMap::from([("shell".into(), "3.3".into())]),
        ..ProtocolInfo::default()
    }
}
