//! One connection to a master, from the handshake to its end.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use greenroom_protocol::{
    Command, CommandId, DecodeError, Frame, MasterOp, Packer, Problem, Response, Settings, WorkerOp,
    decode_from_master, encode_request, encode_response,
};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::commands;
use crate::outbox::{Gone, Outbox, OutboxReader, Outgoing};
use crate::report::Report;
use crate::{Agent, Compress};

/// Time between our pings; a stock master sends none.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A master that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Most commands at once; each needs a few file descriptors.
const MOST_COMMANDS: usize = 256;

type Socket = WebSocketStream<TcpStream>;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The master told the agent to end.
    #[error("the master shut the agent down")]
    Shutdown,
    /// The master closed the connection.
    #[error("the master closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] WsError),
    /// Nothing came for a minute.
    #[error("the master is silent")]
    Silent,
    /// The master does not speak the protocol.
    #[error("the master sent what is no message: {0}")]
    Garbage(DecodeError),
}

/// Serves a master until the connection ends. Commands still running then are killed.
pub(crate) async fn serve(socket: Socket, agent: &Agent) -> End {
    let packer = packs(&socket, agent.compress).then(Packer::default);
    let (sink, stream) = socket.split();
    let (outbox, reader) = Outbox::new();
    let mut session = Session {
        agent,
        outbox,
        settings: Settings::default(),
        tasks: JoinSet::new(),
        running: HashMap::new(),
        by_task: HashMap::new(),
    };
    let end = tokio::select! {
        end = session.read(stream) => end,
        end = write(sink, reader, packer) => end,
    };
    // Dropping a command's task kills its process group.
    session.tasks.shutdown().await;
    end
}

/// Whether batches of output are compressed on this connection. Within one machine that costs more than it saves.
fn packs(socket: &Socket, compress: Compress) -> bool {
    match compress {
        Compress::Always => true,
        Compress::Never => false,
        Compress::Auto => {
            socket.get_ref().peer_addr().is_ok_and(|peer| !peer.ip().to_canonical().is_loopback())
        }
    }
}

struct Session<'a> {
    agent: &'a Agent,
    outbox: Outbox,
    settings: Settings,
    tasks: JoinSet<()>,
    running: HashMap<CommandId, Option<oneshot::Sender<()>>>,
    by_task: HashMap<Id, CommandId>,
}

impl Session<'_> {
    async fn read(&mut self, mut stream: SplitStream<Socket>) -> End {
        let mut heard = Instant::now();
        loop {
            let handled = tokio::select! {
                message = stream.next() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Binary(bytes))) => self.receive(bytes).await,
                        Some(Ok(Message::Text(_))) => {
                            tracing::warn!("the master sent a text message; ignored");
                            Ok(())
                        }
                        Some(Ok(Message::Close(_))) | None => Err(End::Closed),
                        // Pings are answered by the socket itself.
                        Some(Ok(_)) => Ok(()),
                        Some(Err(error)) => Err(End::Broken(error)),
                    }
                }
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended).await.map_err(Into::into),
                () = sleep_until(heard + SILENCE) => Err(End::Silent),
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    async fn receive(&mut self, bytes: Bytes) -> Result<(), End> {
        match decode_from_master(&bytes) {
            Ok(Frame::Request { seq, op }) => self.request(seq, op).await.map_err(Into::into),
            Ok(Frame::Response(response)) => {
                if let Err(error) = response.result {
                    tracing::warn!(request.seq = response.seq, error, "the master refused a message");
                }
                Ok(())
            }
            Err(error) => match error.seq() {
                Some(seq) => Ok(self.outbox.respond(Response::error(seq, error.to_string())).await?),
                None if matches!(error.problem(), Problem::Missing("op" | "seq_number")) => {
                    tracing::warn!(%error, "the master sent an incomplete message; ignored");
                    Ok(())
                }
                None => Err(End::Garbage(error)),
            },
        }
    }

    async fn request(&mut self, seq: u64, op: MasterOp) -> Result<(), Gone> {
        let response = match op {
            MasterOp::Print { message } => {
                tracing::info!(message, "message of the master");
                Response::nil(seq)
            }
            MasterOp::Keepalive => Response::nil(seq),
            MasterOp::GetWorkerInfo => self.info(seq).await,
            MasterOp::SetWorkerSettings(settings) => {
                self.settings = settings;
                Response::nil(seq)
            }
            MasterOp::StartCommand { command_id, command } => {
                return self.start(seq, command_id, command).await;
            }
            MasterOp::InterruptCommand { command_id, why } => {
                self.interrupt(&command_id, &why);
                Response::nil(seq)
            }
            MasterOp::Shutdown => {
                self.outbox.respond(Response::nil(seq)).await?;
                return self.outbox.close().await;
            }
            MasterOp::Unknown { op } => Response::error(seq, format!("Command {op} does not exist.")),
        };
        self.outbox.respond(response).await
    }

    async fn info(&self, seq: u64) -> Response {
        let (basedir, version) = (self.agent.basedir.clone(), self.agent.version.clone());
        let gathered = tokio::task::spawn_blocking(move || crate::info::gather(&basedir, &version)).await;
        match gathered {
            Ok(info) => Response::ok(seq, info.to_value()),
            Err(error) => Response::error(seq, format!("failed to gather the worker's info: {error}")),
        }
    }

    async fn start(&mut self, seq: u64, id: CommandId, command: Command) -> Result<(), Gone> {
        let refusal = if !commands::is_known(&command) {
            Some(format!("(command {id}): unrecognized command '{}'", command.name()))
        } else if self.running.contains_key(&id) {
            Some(format!("(command {id}): a command with this id is running"))
        } else if self.running.len() >= MOST_COMMANDS {
            Some(format!("(command {id}): {MOST_COMMANDS} commands are running"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.outbox.respond(Response::error(seq, refusal)).await;
        }
        self.outbox.respond(Response::nil(seq)).await?;
        let id = id.detached();
        tracing::debug!(command.id = %id, command.name = command.name(), "command starts");
        let (stop, interrupt) = oneshot::channel();
        let report = Report::new(id.clone(), self.outbox.clone(), &self.settings);
        let (basedir, groups) = (self.agent.basedir.clone(), self.agent.groups.clone());
        let task = self.tasks.spawn(async move {
            // With the connection gone there is nobody left to tell.
            let _ = commands::run(command, &basedir, report, interrupt, &groups).await;
        });
        self.by_task.insert(task.id(), id.clone());
        self.running.insert(id, Some(stop));
        Ok(())
    }

    fn interrupt(&mut self, id: &CommandId, why: &str) {
        match self.running.get_mut(id).and_then(Option::take) {
            Some(stop) => {
                tracing::info!(command.id = %id, why, "command is interrupted");
                // It may have ended just now.
                let _ = stop.send(());
            }
            None => tracing::info!(command.id = %id, why, "nothing to interrupt"),
        }
    }

    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>) -> Result<(), Gone> {
        let task = match &ended {
            Ok((task, ())) => *task,
            Err(error) => error.id(),
        };
        let Some(id) = self.by_task.remove(&task) else { return Ok(()) };
        self.running.remove(&id);
        let Err(error) = ended else { return Ok(()) };
        tracing::error!(command.id = %id, %error, "a command's task broke");
        let failure = Some(format!("the agent's task for this command broke: {error}"));
        // In a task of its own: output of others may fill the outbox just now.
        let outbox = self.outbox.clone();
        self.tasks.spawn(async move {
            if let Ok(slot) = outbox.reserve(0).await {
                let _ = slot.send(WorkerOp::Complete { command_id: id, failure, totals: None });
            }
        });
        Ok(())
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        End::Closed
    }
}

/// Numbers, encodes and writes what the outbox holds, flushing when nothing more waits.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut outbox: OutboxReader,
    mut packer: Option<Packer>,
) -> End {
    let mut seq = 0;
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let written = tokio::select! {
            next = outbox.next() => match next {
                Some(first) => write_all(&mut sink, first, &mut outbox, &mut seq, &mut packer).await,
                None => Err(End::Closed),
            },
            _ = pings.tick() => sink.send(Message::Ping(Bytes::new())).await.map_err(End::Broken),
        };
        if let Err(end) = written {
            return end;
        }
    }
}

/// Writes `first` and whatever else waits, then flushes once. The socket itself writes out what grows
/// past its buffer.
async fn write_all(
    sink: &mut SplitSink<Socket, Message>,
    first: Outgoing,
    outbox: &mut OutboxReader,
    seq: &mut u64,
    packer: &mut Option<Packer>,
) -> Result<(), End> {
    let mut next = Some(first);
    while let Some(outgoing) = next {
        let (bytes, _room) = match outgoing {
            Outgoing::Request(op, room) => {
                let op = match (op, packer.as_mut()) {
                    (WorkerOp::Output { command_id, batch }, Some(packer)) => {
                        WorkerOp::Output { command_id, batch: packer.pack(batch) }
                    }
                    (op, _) => op,
                };
                let bytes = encode_request(*seq, &op);
                *seq += 1;
                (bytes, room)
            }
            Outgoing::Response(response) => (encode_response(&response), None),
            Outgoing::Close => {
                // The agent ends whether or not the master hears of it.
                let _ = sink.close().await;
                return Err(End::Shutdown);
            }
        };
        sink.feed(Message::Binary(bytes)).await?;
        next = outbox.try_next();
    }
    Ok(sink.flush().await?)
}
