//! The topic bus between masters (and between the layers of one): what it carries are *hints*.
//!
//! The truth is the database. Lost, doubled or reordered notices change nothing but latency, so the bus may be as simple as it
//! is fast. Here: the in-process [`Broker`], and the [`TopicIndex`] by which subscribers are found.
//! To add a bus (NATS, AMQP): an actor that takes [`Publish`] and forwards what it hears to the Broker.

mod broker;
mod topic_index;

pub use broker::{Broker, Notice, Publish, Subscribe};
pub use topic_index::TopicIndex;
