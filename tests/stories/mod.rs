//! What users do.

mod commands;
mod git;
mod straight_line;
