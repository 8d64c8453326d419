//! What Greenroom promises, each promise with the test that could refute it (`docs/guarantees.md` lists them).
//!
//! One file a guarantee, named after its number. Each has two figures: a short one for every test run, and the full one of
//! `make faults`. A test draws its faults from a seed that it prints, records what happened outside of the system, and leaves
//! the judgement to a checker.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests; no arbiter runs here"
)]

#[allow(dead_code, reason = "shared with the other test programs")]
#[path = "../support/buses.rs"]
mod buses;
#[allow(dead_code, reason = "shared with the other test programs")]
#[path = "../support/databases.rs"]
mod databases;
#[allow(dead_code, unused_imports, reason = "shared with the other test programs")]
#[path = "../harness/mod.rs"]
mod harness;

#[allow(dead_code, reason = "each run uses what it needs")]
mod run;
