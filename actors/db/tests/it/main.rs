//! The conformance suite of storage: what every engine must do, run over each.
//!
//! A test is a function over a [`World`](world::World); `both!` runs it over every engine: memory, a SQLite file, PostgreSQL and
//! MariaDB, which `scripts/databases` starts.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failed helper fails the test

mod builds;
mod changes;
mod configuration;
mod control;
mod copies;
#[path = "../../../../tests/support/databases.rs"]
mod databases;
mod fill;
mod groups;
mod history;
mod log_objects;
mod log_windows;
mod logs;
mod masters;
mod migrations;
mod notifiers;
#[path = "../../../../tests/support/objects.rs"]
mod objects;
mod outage;
#[path = "../../../../tests/support/proxy/mod.rs"]
mod proxy;
mod reads;
mod replicas;
mod retention;
mod servers;
mod sqlite;
mod versions;
mod views;
mod world;
