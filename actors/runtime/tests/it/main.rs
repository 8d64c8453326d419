//! The runtime from outside: what a child, a caller, an operator and a test see.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod births;
mod fronts;
mod group;
mod hangs;
mod intensity;
mod probe;
mod reports;
mod stopping;
mod storm;
mod tasks;
mod worlds;
