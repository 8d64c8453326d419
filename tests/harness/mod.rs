//! What the stories are told with: a farm of real processes, and the words of the field to act on it.

mod actors;
mod agent;
mod builds;
mod cluster;
mod farm;
mod feed;
#[allow(dead_code, reason = "shared with the guarantees, which use all of it")]
mod follower;
mod git;
mod irc;
mod process;
mod record;
mod rest;
#[allow(dead_code, reason = "shared with the tests of the status layer")]
mod sinks;
mod stock;
mod wait;

pub use agent::Agent;
pub use builds::{CANCELLED, EXCEPTION, FAILURE, RETRY, SUCCESS, WARNINGS, eight_builders, force_once};
pub use cluster::{member, mortal_member};
pub use farm::{Farm, Plan, binary, free_port};
pub use follower::{EVERYTHING, Follower};
pub use git::Repository;
pub use irc::{IrcServer, Reader};
pub use process::Process;
pub use record::Record;
pub use rest::Rest;
pub use sinks::{HttpSink, Reply, SmtpSink};
pub use stock::StockWorker;
pub use wait::{eventually, patience};
