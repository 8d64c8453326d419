//! What users do.

mod commands;
mod git;
mod metrics;
mod straight_line;
