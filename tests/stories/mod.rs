//! What users do.

mod actors;
mod commands;
mod git;
mod init;
mod metrics;
mod reload;
mod straight_line;
