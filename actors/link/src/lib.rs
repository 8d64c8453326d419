//! The master's side of worker connections: one session actor each.
//!
//! [`LinkLayer::start`] starts the layer, [`LinkLayer::configure`] puts its door onto the shared port, and [`Workers`] is
//! what `process` uses: start, wait for, interrupt a command. Output goes straight from the session to the log store
//! (`Rw::append_log`), so a build may die and be born again without losing any of it.
//!
//! | file | what it is about |
//! |---|---|
//! | `door.rs`, `credentials.rs` | the handshake: name, password, limits |
//! | `socket.rs`, `oversize.rs` | the WebSocket as two thin pumps, and the credit that bounds it |
//! | `directory.rs` | which session belongs to which worker; who is written as connected |
//! | `session/` | one connection: connect sequence, commands, output |
//! | `local.rs` | workers that the master starts itself |
//! | `workers.rs`, `command.rs`, `facts.rs` | the facet for `process` |
//!
//! Invariants: a worker has at most one session, and a second one begins only when the actor of the first has ended. A
//! worker is offered only when everything that may run on it from before has been interrupted. A command's end is
//! reported only when all its output was accepted. A session touches only logs and commands that were started on it.

mod command;
mod credentials;
mod directory;
mod door;
mod facts;
mod layer;
mod local;
mod locals;
mod messages;
mod oversize;
mod session;
mod socket;
mod workers;

pub use command::{CommandEnd, CommandStart, LinkError};
pub use facts::WorkerFacts;
pub use greenroom_protocol::{
    Command, CommandLine, Cpdir, DownloadFile, EnvValue, FileStat, Logfile, Rmdir, Shell, UploadDirectory,
    UploadFile,
};
pub use layer::{ACTORS, LinkLayer, LinkOptions, LinkStartError, Prepared, Timing};
pub use workers::{WorkerChanges, Workers};
