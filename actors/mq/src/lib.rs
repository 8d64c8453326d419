//! The topic bus between masters (and between the layers of one): what it carries are *hints*.
//!
//! The truth is the database. Lost, doubled or reordered notices change nothing but latency, so the bus may be as simple as it
//! is fast. In a master: the [`Broker`], and the [`TopicIndex`] by which subscribers are found. Between masters: the [`BusLink`]
//! over NATS, AMQP or PostgreSQL.
//! *To add a bus*: a file with a `serve` after the model of `nats.rs`, a variant of [`BusUrl`], a server in the conformance suite
//! `tests/it/`.

mod amqp;
mod broker;
mod bus;
mod nats;
mod postgres;
mod topic_index;
mod url;

pub use broker::{Broker, Notice, Publish, Subscribe};
pub use bus::BusLink;
pub use topic_index::TopicIndex;
pub use url::{BusUrl, UnknownBus};
