//! What goes wrong: processes that die, actors that panic, input that is wrong, disks that are full.

mod bad_input;
mod databases;
mod deaths;
mod masters;
mod stops;
mod worker_lost;
