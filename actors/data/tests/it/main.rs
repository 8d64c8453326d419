//! Tests of the data layer from outside: the feed against models, real stores, lying buses, panics and kills.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod console;
#[path = "../../../../tests/support/databases.rs"]
mod databases;
mod far_behind;
mod feed;
mod judge;
mod kill;
mod merge_model;
mod model;
mod rows;
mod world;
