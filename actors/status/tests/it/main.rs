//! Transports with real servers and fakes.

mod irc_fake;
mod irc_ngircd;
mod irc_protocol;
mod irc_world;
