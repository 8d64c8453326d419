//! The real agent against a small master, over a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod batches;
mod connection;
mod files;
mod limits;
mod master;
mod output;
mod shell;
