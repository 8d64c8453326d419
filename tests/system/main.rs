//! The whole program, from outside: the real binary, real workers, real repositories, real signals.
//!
//! `stories` tell what users do, `faults` what goes wrong, `wire` what arrives at the port. All of them start processes of
//! their own in directories of their own; nothing is shared but the machine.

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
#[path = "../harness/mod.rs"]
mod harness;

#[path = "../faults/mod.rs"]
mod faults;
#[path = "../stories/mod.rs"]
mod stories;
#[path = "../wire/mod.rs"]
mod wire;
