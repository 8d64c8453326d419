//! Stories of this layer, over the real data layer in memory and scripted workers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod farm;
mod workers;

mod builds;
mod changes;
mod control;
mod deaths;
mod git_poller;
mod queue;
mod reload;
mod steps;
