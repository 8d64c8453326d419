//! Stories of this layer, over the real data layer in memory and scripted workers.

mod farm;
mod workers;

mod builds;
mod changes;
mod control;
mod deaths;
mod git_poller;
mod queue;
mod steps;
