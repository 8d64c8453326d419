//! Builds: each is an actor that runs its recipe's steps in order on one worker.
//!
//! - [`plan`]: what a build is made of, and the one write that starts it;
//! - [`run`]: the run itself, one straight line from the first step to the stored result;
//! - [`tally`]: how results of steps make the result of a build (no I/O);
//! - [`resume`]: taking a build up again from its records;
//! - [`build_actor`]: the supervised shell around a run; [`book`]: where live ones are found.
//!
//! **What a trivial build costs**: two awaited writes. The id of a step's worker command must be durable before the command is
//! sent (else a crash would leave a command that nobody knows and that would be run twice). For the first command that
//! write is the one that starts the build, so it waits for nothing more; for later ones it is the write that ends the step
//! before. The last step ends in the write that ends the build.

pub(crate) mod book;
pub(crate) mod build_actor;
pub(crate) mod plan;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod tally;

pub(crate) use book::BuildBook;
pub use build_actor::BuildActor;
