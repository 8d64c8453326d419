//! Status listeners: consumers of events that tell people or other systems.
//!
//! A listener is a plain consumer with a stored clock: it holds `Ro` and its own [`greenroom_data::ListenerState`], so after a
//! crash it goes on where it stopped and never delays a build. *To add one*: a file with an actor after the model of
//! [`console`], its messages to people as pure functions with plain tests.

pub mod console;
pub mod farm_metrics;
pub mod notice;
pub mod transport;

pub use console::{ConsoleListener, Print};
pub use farm_metrics::{FarmCounters, FarmMetrics};
pub use notice::{BuildNotice, Notice};
pub use transport::{Farm, MakeTransport, Outgoing, SendError, Sent, Transport};
