//! Transports with real servers and fakes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod irc_fake;
mod irc_ngircd;
mod irc_protocol;
mod irc_world;
