//! Tests of the edge from outside: a real server over the real data layer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod additions;
mod client;
mod contract;
mod control;
#[path = "../../../../tests/support/databases.rs"]
mod databases;
mod events;
mod feed;
mod hooks;
mod http;
mod logs;
mod plans;
mod security;
mod seed;
mod world;
