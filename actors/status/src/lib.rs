//! Status listeners: consumers of events that tell people or other systems.
//!
//! A listener is a plain consumer with a stored clock: it holds `Ro` and its own [`greenroom_data::ListenerState`], so after a
//! crash it goes on where it stopped and never delays a build. *To add one*: a file with an actor after the model of
//! [`console`], its messages to people as pure functions with plain tests.

pub mod commit_status;
pub mod console;
#[cfg(test)]
mod examples;
pub mod farm_metrics;
mod http;
pub mod irc;
mod kinds;
pub mod layer;
pub mod mail;
pub mod notice;
pub mod notifier;
mod payload;
#[cfg(test)]
#[path = "../../../tests/harness/sinks.rs"]
#[allow(
    clippy::disallowed_methods,
    dead_code,
    reason = "shared with the system's tests; no arbiter runs in its threads"
)]
mod sinks;
pub mod transport;
pub mod webhook;

pub use console::{ConsoleListener, Print};
pub use farm_metrics::{FarmCounters, FarmMetrics};
pub use layer::{AboutFarm, MakeState, StatusLayer, StatusOptions, TestError, TestTransports};
pub use notice::{BuildNotice, Notice};
pub use transport::{Farm, MakeTransport, Outgoing, SendError, Sent, Transport};
