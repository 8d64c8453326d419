//! What users do.

mod actors;
mod commands;
mod git;
mod init;
mod irc;
mod mail;
mod metrics;
mod reload;
mod secrets;
mod straight_line;
