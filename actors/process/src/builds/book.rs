//! The address book of live builds: build id → Front.
//!
//! It belongs to no actor, so that neither the death of the distributor nor that of the control desk makes a running
//! build unreachable. It says nothing about builds that the data layer does not know better.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use greenroom_model::BuildId;
use greenroom_runtime::{ChildSpec, Front, Supervisor};

use crate::builds::build_actor::{BuildActor, FirstBirth};
use crate::handles::Handles;

/// Where live builds are found. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct BuildBook(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    fronts: HashMap<BuildId, Front<BuildActor>>,
    supervisor: Option<Supervisor>,
}

impl BuildBook {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says under which supervisor builds live.
    pub fn set_supervisor(&self, supervisor: Supervisor) {
        self.lock().supervisor = Some(supervisor);
    }

    /// The build's actor; a new one if none lives.
    pub fn ensure(&self, handles: &Handles, id: BuildId, first: FirstBirth) {
        let mut book = self.lock();
        if book.fronts.get(&id).is_some_and(|front| !front.state().is_final()) {
            return;
        }
        let Some(supervisor) = book.supervisor.clone() else { return };
        // what the build began with belongs to all its births
        let began = Arc::new(OnceLock::new());
        if let FirstBirth::Fresh(plan) = &first {
            drop(began.set(plan.began()));
        }
        let (handles, first) = (handles.clone(), Mutex::new(Some(first)));
        let front = supervisor.spawn(ChildSpec::new(format!("build/{id}")).transient(), move |birth| {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let first = first.unwrap_or(FirstBirth::FromRecords);
            BuildActor::new(handles.clone(), id, birth.clone(), first, Arc::clone(&began))
        });
        book.fronts.insert(id, front);
    }

    /// The build's actor, if it lives.
    pub fn get(&self, id: BuildId) -> Option<Front<BuildActor>> {
        self.lock().fronts.get(&id).filter(|front| !front.state().is_final()).cloned()
    }

    /// Strikes out a build that has ended.
    pub fn strike(&self, id: BuildId) {
        self.lock().fronts.remove(&id);
    }

    /// All live builds.
    pub fn all(&self) -> Vec<(BuildId, Front<BuildActor>)> {
        let book = self.lock();
        book.fronts.iter().filter(|(_, f)| !f.state().is_final()).map(|(id, f)| (*id, f.clone())).collect()
    }
}
