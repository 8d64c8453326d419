//! What Greenroom promises, each promise with the test that could refute it (`docs/guarantees.md` lists them).
//!
//! One file a guarantee, named after its number. Each has two figures: a short one for every test run, and the full one of
//! `make faults`. A test draws its faults from a seed that it prints, records what happened outside of the system (`history.rs`), and
//! leaves the judgement to a checker (`checker.rs`) that knows nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests; no arbiter runs here"
)]

#[path = "../support/buses.rs"]
mod buses;
#[path = "../support/databases.rs"]
mod databases;
#[allow(dead_code, unused_imports, reason = "shared with the other test programs")]
#[path = "../harness/mod.rs"]
mod harness;

#[path = "../support/proxy/mod.rs"]
mod proxy;
#[allow(dead_code, reason = "each run uses what it needs")]
mod run;

mod checker;
#[allow(dead_code, reason = "each run uses what it needs")]
mod follower;
mod history;
#[allow(dead_code, reason = "each run uses what it needs")]
mod load;
mod sqlite;
mod storm;
mod watch;
#[allow(dead_code, reason = "each run uses what it needs")]
mod wire;

mod g01_submissions;
mod g02_keys;
mod g03_fenced;
mod g04_ends;
mod g05_takeover;
mod g14_log_bytes;
mod g15_log_pressure;
mod g16_database_restarts;
mod g17_lost_answers;
mod g18_durable;
mod g19_full_disk;
mod g20_replica;
mod g21_migrations;
mod g22_feed;
mod g23_bus_down;
mod g24_bus_lies;
mod g25_stuck_clients;
mod g26_gone;
