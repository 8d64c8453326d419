//! The conformance suite of storage: what every engine must do, run over each.
//!
//! A test is a function over a [`World`](world::World); `both!` runs it over the in-memory engine and over a SQLite file.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failed helper fails the test

mod builds;
mod changes;
mod configuration;
mod control;
mod groups;
mod logs;
mod outage;
mod reads;
mod sqlite;
mod world;
