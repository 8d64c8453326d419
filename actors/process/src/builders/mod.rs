//! Builders and the distributor that pairs their requests with workers.
//!
//! - [`builder`]: an actor per builder, which owns its requests as far as people ask for things (rebuild, cancel);
//! - [`distributor`]: the one actor that claims; [`ready_queue`]: whom it takes next (no I/O).

pub(crate) mod builder;
pub(crate) mod distributor;
pub(crate) mod ready_queue;

pub use builder::BuilderActor;
pub use distributor::Distributor;
