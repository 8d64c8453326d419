//! One conformance suite over real servers: NATS, RabbitMQ and PostgreSQL.

#![allow(clippy::expect_used)]

mod conformance;
mod masters;
#[path = "../../../../tests/support/proxy/mod.rs"]
mod proxy;
#[path = "../../../../tests/support/buses.rs"]
mod servers;
