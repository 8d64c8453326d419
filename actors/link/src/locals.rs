//! The local workers of the configuration: which there are, and which of them run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_runtime::{ChildSpec, Front, Supervisor};

use crate::local::{self, LocalSpec, LocalWorker};

/// See the module.
pub(crate) struct Locals {
    supervisor: Supervisor,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where they connect to, once the port is open.
    master: Option<String>,
    known: BTreeMap<String, Known>,
}

struct Known {
    spec: LocalSpec,
    front: Option<Front<LocalWorker>>,
    /// Not so: it ends when its last build has.
    is_wanted: bool,
}

impl Locals {
    pub(crate) fn new(supervisor: Supervisor) -> Self {
        Self { supervisor, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The port is open: they start.
    pub(crate) fn open(&self, master: &str) {
        let mut state = self.lock();
        state.master = Some(master.to_owned());
        self.start(&mut state);
    }

    /// What is known of a worker of that name, also while it is about to go.
    pub(crate) fn find(&self, name: &str) -> Option<LocalSpec> {
        self.lock().known.get(name).map(|it| it.spec.clone())
    }

    /// Makes the local workers these. One that is not among them goes by [`Locals::part`].
    pub(crate) fn put(&self, specs: &[LocalSpec]) {
        let mut state = self.lock();
        for (name, known) in &mut state.known {
            known.is_wanted = specs.iter().any(|it| it.name == *name);
        }
        for spec in specs {
            let new = || Known { spec: spec.clone(), front: None, is_wanted: true };
            state.known.entry(spec.name.clone()).or_insert_with(new);
        }
        self.start(&mut state);
    }

    fn start(&self, state: &mut State) {
        let Some(master) = state.master.clone() else { return };
        for known in state.known.values_mut().filter(|it| it.is_wanted) {
            if known.front.as_ref().is_some_and(|front| !front.state().is_final()) {
                continue;
            }
            let (spec, master) = (known.spec.clone(), master.clone());
            let child = ChildSpec::new(format!("local-worker/{}", spec.name))
                .permanent()
                .backoff(Duration::from_millis(500), Duration::from_secs(30))
                .grace(local::GRACE + Duration::from_secs(2));
            let make = move |birth: &_| LocalWorker::new(birth, spec.clone(), master.clone());
            known.front = Some(self.supervisor.spawn(child, make));
        }
    }

    /// Ends the process of a worker that is not wanted any more.
    pub(crate) fn part(&self, name: &str) {
        let mut state = self.lock();
        if state.known.get(name).is_some_and(|it| !it.is_wanted)
            && let Some(Known { front: Some(front), .. }) = state.known.remove(name)
        {
            front.request_stop(local::GRACE + Duration::from_secs(2));
        }
    }
}
