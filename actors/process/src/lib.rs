//! From changes to results: change sources, schedulers, builders, builds, steps and properties as actors.
//!
//! It knows state only through the data layer's `Rw`, and workers only through [`CommandRunner`]. Owner of: which change
//! becomes which buildset (schedulers), which request is built next and where (the distributor), how far a build is
//! (its actor). Every one of these is stored by whoever decides it before anything follows from it, so that each actor
//! can die between any two messages and be born again from the records.
//!
//! A push becomes a result: a poller (or a hook) adds a change → a scheduler follows `changes` and adds a buildset with
//! its clock → the distributor hears of the request, claims it and starts a build in one write → the build's actor
//! runs the steps' commands on the worker → one write ends step, build, request and buildset.

mod builders;
mod builds;
mod change_sources;
mod claims;
mod components;
mod control_desk;
mod follow;
mod handles;
mod layer;
mod lost_logs;
pub mod messages;
mod outside;
mod properties;
mod recovery;
pub mod runner;
mod runner_link;
mod schedulers;
mod setup;
mod steps;
mod takeover;

pub use builders::{BuilderActor, Distributor};
pub use builds::BuildActor;
pub use change_sources::GitPoller;
pub use control_desk::ControlDesk;
pub use layer::{Applied, ProcessLayer, ProcessOptions, Row, StartupError, StopSummary, TREE};
pub use messages::WhyWaiting;
pub use outside::Outside;
pub use runner::CommandRunner;
pub use schedulers::{AnyBranch, ChangeScheduler, ForceScheduler, SingleBranch};
pub use setup::{configuration, configure, configure_with};
pub use takeover::Takeover;
