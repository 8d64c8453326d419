//! The data layer: the current state plus every later update, exactly once.
//!
//! It owns caching and consistency. Below it are storage (`db`) and the bus (`mq`), which nobody above names; above it
//! everybody holds one of four facets, and having one is the permission:
//!
//! - [`Ro`] reads and subscribes;
//! - [`Control`] asks for what a user may ask for, each act a row;
//! - [`Rw`] changes state and announces it, in one method; only `process` and `link` hold it;
//! - [`ListenerState`] is a status listener's own clock and settings, nothing else.
//!
//! How an event travels: the DbWriter commits it with its state change and hands it to the bus; the [`DataActor`] takes it
//! from there (or from the database, when the bus lost it), puts it in order, applies it to the cache, publishes the
//! new [`Hot`] snapshot and passes it to the [`hub`]s, where subscriptions are found by topic.
//!
//! [`DataActor`]: actor::DataActor

pub mod actor;
pub mod builder_rows;
mod cache;
mod console;
pub mod control;
pub mod error;
pub mod error_line;
mod first_error;
pub mod frame;
pub mod hot;
pub mod hub;
pub mod journal;
pub mod listener;
pub mod merger;
pub mod retention;
pub mod ro;
pub mod rw;
pub mod search;
mod select;
pub mod start;
mod subscription;

pub use control::{BoundControl, Control, SentChange};
pub use error::DataError;
pub use first_error::FirstError;
pub use frame::{Delivered, Frame};
pub use greenroom_db::{BuildContext, ConsoleCell, ConsoleOf, ConsolePage, ConsoleRow, LatestBuild};
pub use hot::{Hot, Shown};
pub use hub::{Delivery, Ended, Run, Subscription};
pub use journal::Journal;
pub use listener::{Enqueued, KEPT_DELIVERIES, ListenerState, Settled};
pub use retention::Retention;
pub use ro::{LogLines, Ro, Snapshot};
pub use rw::{LogStream, Rw};
pub use search::{LogMatch, LogPattern, PatternError, Searched};
pub use start::{DataLayer, DataOptions};
