//! The runtime from outside: what a child, a caller, an operator and a test see.

mod births;
mod fronts;
mod intensity;
mod probe;
mod reports;
mod stopping;
mod tasks;
mod worlds;
