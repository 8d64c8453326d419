//! Status listeners: consumers of events that tell people or other systems.
//!
//! A listener is a plain consumer with a stored clock: it holds `Ro` and its own [`greenroom_data::ListenerState`], so after a
//! crash it goes on where it stopped and never delays a build. *To add one*: a file with an actor after the model of
//! [`console`], its messages to people as pure functions with plain tests.

pub mod console;

pub use console::{ConsoleListener, Print};
