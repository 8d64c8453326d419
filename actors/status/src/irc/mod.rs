//! Announcements in IRC channels, and commands from there.
//!
//! A notifier of this kind is two actors: the notifier itself, which decides, waits and records as for every kind, and sends through
//! [`IrcTransport`]; and its [`IrcConnection`], which keeps the connection and answers commands. The protocol has no receipt: a
//! message counts as delivered when the server has answered a PING that was sent after it.
//!
//! | file | what it is about |
//! |---|---|
//! | `text.rs`, `names.rs`, `wire.rs` | harmless text, lines that fit, nicks and channels, the codec |
//! | `flood.rs`, `backoff.rs`, `outbox.rs` | how fast we write, how soon we come again, what waits to be sent |
//! | `session.rs`, `registration.rs`, `channels.rs`, `accounts.rs` | the conversation with the server, without I/O |
//! | `connect.rs`, `driver.rs`, `connection.rs` | sockets and TLS, the life of a connection, its actor |
//! | `commands/`, `authz.rs` | what people ask for, and who may |
//! | `announce.rs`, `events.rs`, `wishes.rs`, `watcher.rs`, `transport.rs` | what is told, to whom, and what they wished |
//!
//! Everything that comes over the connection is somebody else's text. It becomes a command only when it is addressed to us, and one
//! that changes something only when the server has told the sender's account; a nick proves nothing.

mod accounts;
mod announce;
mod authz;
mod backoff;
mod channels;
mod commands;
mod connect;
mod connection;
mod driver;
mod events;
mod flood;
mod names;
mod outbox;
mod registration;
mod session;
mod start;
mod text;
mod transport;
mod watcher;
mod wire;
mod wishes;

pub use connection::IrcConnection;
pub(crate) use start::start;
pub use transport::IrcTransport;
