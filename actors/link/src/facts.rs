//! What a connected worker said of itself.

use std::collections::BTreeMap;

use greenroom_model::WorkerId;
use greenroom_protocol::WorkerInfo;

/// Facts of a connected worker, as it told them when it connected.
#[derive(Clone, PartialEq)]
pub struct WorkerFacts {
    /// Which worker.
    pub worker: WorkerId,
    /// Its name.
    pub name: String,
    /// Its absolute directory; every path sent to it is built from this.
    pub basedir: String,
    /// `posix` or `nt`: which rules its paths follow.
    pub system: String,
    /// Processors it may use.
    pub numcpus: i64,
    /// Version of its program.
    pub version: String,
    /// Its environment. May hold secrets: never to be published.
    pub environ: BTreeMap<String, String>,
    /// Version of each command that it knows.
    pub commands: BTreeMap<String, String>,
    /// Extensions of our agent, by name with their version; empty for a stock worker.
    pub extensions: BTreeMap<String, i64>,
}

impl WorkerFacts {
    pub(crate) fn new(worker: WorkerId, name: &str, info: WorkerInfo) -> Self {
        Self {
            worker,
            name: name.to_owned(),
            basedir: info.basedir,
            system: info.system,
            numcpus: info.numcpus,
            version: info.version,
            environ: info.environ,
            commands: info.worker_commands,
            extensions: info.extensions,
        }
    }
}

/// Without the environment: debug output ends in logs.
impl std::fmt::Debug for WorkerFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerFacts")
            .field("worker", &self.worker)
            .field("name", &self.name)
            .field("basedir", &self.basedir)
            .field("system", &self.system)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
