//! Notifiers over the real data layer in memory, on paused time, with a transport that records.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod about;
mod commit_states;
mod farm;
mod outbox;
mod stories;
mod words;
