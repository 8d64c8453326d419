//! What users do.

mod actors;
mod commands;
mod copies;
mod git;
mod init;
mod irc;
mod logs;
mod mail;
mod metrics;
mod populate;
mod reload;
mod retention;
mod secrets;
mod straight_line;
mod webhooks;
