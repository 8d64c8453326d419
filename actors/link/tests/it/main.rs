//! The layer over the real data layer and real sockets: with a hand-written worker for what no good worker does, and
//! with our own agent.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod agent;
mod batches;
mod commands;
mod connecting;
mod faults;
mod local;
mod reload;
mod support;
