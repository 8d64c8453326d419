//! Starting the data layer: storage, bus and the DataActor under a supervisor of their own.

use crate::control::Control;
use crate::listener::ListenerState;
use crate::ro::Ro;
use crate::rw::Rw;

/// What the data layer needs to know to start.
#[derive(Debug, Clone)]
pub struct DataOptions {
    /// `sqlite://…` or `memory:`.
    pub database_url: String,
    /// Where relative files go.
    pub data_dir: std::path::PathBuf,
    /// This master's name.
    pub master_name: String,
}

/// The running data layer: the source of all facets.
#[derive(Clone)]
pub struct DataLayer {}

#[allow(unused_variables)]
impl DataLayer {
    /// The facet that reads and subscribes.
    pub fn ro(&self) -> Ro {
        unimplemented!()
    }

    /// The facet that changes state.
    pub fn rw(&self) -> Rw {
        unimplemented!()
    }

    /// The facet for users' acts.
    pub fn control(&self) -> Control {
        unimplemented!()
    }

    /// The facet of the status listener of that name.
    pub fn listener_state(&self, name: &str) -> ListenerState {
        unimplemented!()
    }
}
