//! The whole configuration, typed and checked.

use std::collections::BTreeMap;

use crate::secrets::Secrets;
use crate::sections::builders::Builder;
use crate::sections::change_sources::ChangeSource;
use crate::sections::database::Database;
use crate::sections::logs::Logs;
use crate::sections::master::Master;
use crate::sections::mq::Mq;
use crate::sections::notifiers::Notifier;
use crate::sections::retention::Retention;
use crate::sections::schedulers::Scheduler;
use crate::sections::supervision::Supervision;
use crate::sections::workers::Worker;
use crate::sections::www::Www;
use crate::values::Secret;

/// The whole configuration. Comes from [`load`](crate::load) only, so what it holds has passed every check.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `[master]`
    pub master: Master,
    /// `[database]`
    pub database: Database,
    /// `[mq]`
    pub mq: Mq,
    /// `[www]`
    pub www: Www,
    /// `[supervision]`
    pub supervision: Supervision,
    /// `[logs]`
    pub logs: Logs,
    /// `[retention]`
    pub retention: Retention,
    /// `[workers.NAME]`
    pub workers: BTreeMap<String, Worker>,
    /// `[change-sources.NAME]`
    pub change_sources: BTreeMap<String, ChangeSource>,
    /// `[schedulers.NAME]`
    pub schedulers: BTreeMap<String, Scheduler>,
    /// `[builders.NAME]`
    pub builders: BTreeMap<String, Builder>,
    /// `[notifiers.NAME]`
    pub notifiers: BTreeMap<String, Notifier>,
    /// Every secret anywhere in the settings, for masking.
    pub secrets: Secrets,
}

impl Settings {
    /// The names of the workers that may run a builder's builds.
    pub fn workers_of<'a>(&'a self, builder: &'a Builder) -> Vec<&'a str> {
        match &builder.options.workers {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => self.workers.keys().map(String::as_str).collect(),
        }
    }

    /// The secrets that a builder's steps need, by name.
    pub fn secrets_of(&self, builder: &Builder) -> Vec<(String, Secret)> {
        let secret = |name: &str| Some((name.to_owned(), self.secrets.named(name)?.clone()));
        builder.secrets().into_iter().filter_map(secret).collect()
    }

    /// The names of the builders that a scheduler asks.
    pub fn builders_of<'a>(&'a self, scheduler: &'a Scheduler) -> Vec<&'a str> {
        match scheduler.builders() {
            crate::values::NameList::All => self.builders.keys().map(String::as_str).collect(),
            crate::values::NameList::Some(names) => names.iter().map(String::as_str).collect(),
        }
    }
}
