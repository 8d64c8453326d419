//! The wire: recorded conversations, hostile bytes, everything there and back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod extensions;
mod golden;
mod hostile;
mod round_trip;
mod wire;
