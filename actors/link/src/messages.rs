//! What the actors of this layer say to each other.

use std::net::IpAddr;
use std::sync::Arc;

use actix::Message;
use greenroom_model::{WorkerId, WorkerInfo};
use greenroom_protocol::{MasterOp, Value};
use greenroom_runtime::TaskEnd;
use tokio::sync::{oneshot, watch};

use crate::command::{CommandEnd, CommandStart, LinkError};
use crate::facts::WorkerFacts;
use crate::session::Written;
use crate::socket::Socket;

/// Counts the sessions of this process; tells an old session of a worker from a new one.
pub(crate) type Serial = u64;

/// To the directory: somebody knocks with name and password and brings a socket.
#[derive(Message)]
#[rtype(result = "Result<(), Turned>")]
pub(crate) struct Arrive {
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) address: IpAddr,
    pub(crate) socket: Socket,
}

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Unknown name or wrong password.
    Unauthorized,
    /// Too many failures of this name from this address.
    TooManyFailures,
    /// The worker is not in the database yet.
    NotReady,
}

/// To the directory: the worker said what it is, and has nothing left over from before.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct Greeted {
    pub(crate) worker: WorkerId,
    pub(crate) serial: Serial,
    pub(crate) facts: Arc<WorkerFacts>,
    pub(crate) info: WorkerInfo,
}

/// To the directory: the session takes no more work. These commands may still run on the worker.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct Closing {
    pub(crate) worker: WorkerId,
    pub(crate) serial: Serial,
    pub(crate) unfinished: Vec<String>,
}

/// To the directory: the worker missed a ping, or was heard of again.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Responsive {
    pub(crate) worker: WorkerId,
    pub(crate) serial: Serial,
    pub(crate) responsive: bool,
}

/// To the directory: whether the worker has answered [`Prove`].
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Proved {
    pub(crate) worker: WorkerId,
    pub(crate) serial: Serial,
    pub(crate) alive: bool,
}

/// To a session: find out whether your worker lives.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Prove;

/// To a session: the directory was born again; tell it again what it may have missed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TellAgain;

/// The way of an answer of the worker.
pub(crate) type Answer = oneshot::Receiver<Result<Value, String>>;

/// To a session: send a request that belongs to no command.
#[derive(Message)]
#[rtype(result = "Result<Answer, LinkError>")]
pub(crate) struct AskWorker(pub(crate) MasterOp);

/// To a session: start a command. The answer comes when the worker has accepted it.
#[derive(Message)]
#[rtype(result = "Result<oneshot::Receiver<Result<(), LinkError>>, LinkError>")]
pub(crate) struct StartCommand(pub(crate) CommandStart);

/// To a session: let me watch for a command's end. None: unknown.
#[derive(Message)]
#[rtype(result = "Option<watch::Receiver<Option<CommandEnd>>>")]
pub(crate) struct WatchCommand(pub(crate) String);

/// To a session: kill a command. None: nothing of that name runs.
#[derive(Message)]
#[rtype(result = "Result<Option<Answer>, LinkError>")]
pub(crate) struct InterruptCommand {
    pub(crate) command_id: String,
    pub(crate) why: String,
}

/// To a session: nobody will ask for this command any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ForgetCommand(pub(crate) String);

/// A session's own: the connect sequence is over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ConnectEnded(pub(crate) TaskEnd<Result<(Arc<WorkerFacts>, WorkerInfo), String>>);

/// A session's own: the output of a command is written, as far as it could be.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OutputWritten {
    pub(crate) command_id: String,
    pub(crate) end: TaskEnd<Written>,
}

/// A session's own: the proof of life is there, or is not.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ProofEnded(pub(crate) TaskEnd<bool>);

/// The directory's own: a session has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SessionEnded {
    pub(crate) worker: WorkerId,
    pub(crate) serial: Serial,
}

/// The directory's own: the write that a worker is connected is over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Announced {
    pub(crate) worker: WorkerId,
    pub(crate) serial: Serial,
    pub(crate) end: TaskEnd<Result<(), String>>,
}

/// The directory's own: the write that a worker is no longer connected is over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Cleared {
    pub(crate) worker: WorkerId,
    pub(crate) serial: Serial,
}

/// To a session: the worker is not configured any more; close the connection.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Part;
