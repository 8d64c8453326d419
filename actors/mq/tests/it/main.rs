//! One conformance suite over real servers: NATS, RabbitMQ and PostgreSQL.

mod conformance;
mod masters;
mod proxy;
mod servers;
