//! Change sources: actors that find changes by looking.
//!
//! *To add one*: its settings in `config`, an actor here, an arm in `layer.rs`. What it has seen is stored in the same
//! write as the changes that follow from it.

pub(crate) mod git_poller;
pub(crate) mod git_program;
pub(crate) mod git_text;

pub use git_poller::GitPoller;
