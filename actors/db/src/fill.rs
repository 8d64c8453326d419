//! Filling a stopped master's database in bulk, for measurements.
//!
//! The operations are those of real builds and do what they always do, so the rows are what real builds leave. What is saved is what
//! only others need while it happens: events are numbered but not stored, as if they had been pruned since, write ids are not kept,
//! and a commit takes thousands of builds.
//!
//! What is left to do is stored with each commit, so a filling that was broken off is known as such and goes on.

use greenroom_model::ids::{AllocatedId, IdKind};
use greenroom_model::{Builder, BuilderId, Op, Timestamp, Worker, WorkerId};

use crate::core::{counters, reserve_one};
use crate::engine::{Cond, EngineError, Select, Value};
use crate::ops;
use crate::rows::load;
use crate::schema::{BUILDERS, COUNTERS, EVENTS, WORKERS};
use crate::store::Store;
use crate::work::{Cache, Fault, Head, Unit};

/// What the names of stored plans begin with, among the counters.
pub(crate) const MARK: &str = "populate ";
/// How long a filling master is taken for alive after a commit.
const LEASE_MICROS: i64 = 60_000_000;

/// Why a database was not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// Another filling was broken off.
    #[error(
        "the database is filled only in part ({found}; {left} to do): run that to its end first, or begin with an empty one"
    )]
    Unfinished {
        /// Its plan.
        found: String,
        /// How many of its items are missing.
        left: i64,
    },
    /// An operation was refused: a fault of the plan.
    #[error("an operation was refused: {0}")]
    Refused(String),
    /// Another process took the place of this master.
    #[error("another process took this master's place")]
    Fenced,
    /// The database.
    #[error("{0}")]
    Failed(String),
}

impl From<EngineError> for FillError {
    fn from(error: EngineError) -> Self {
        FillError::Failed(error.to_string())
    }
}

/// A filling under way.
pub struct Filling {
    store: Store,
    cache: Cache,
    head: Option<Head>,
    plan: String,
    left: i64,
}

impl Filling {
    /// Begins to carry out a plan of so many items over an opened store, or goes on with it where it was broken off. So many ids
    /// are reserved of each kind. `plan` has at most 50 characters and names what is the same when it goes on.
    ///
    /// # Errors
    /// If another plan was broken off, or as the database says.
    pub async fn begin(
        store: Store,
        plan: &str,
        items: i64,
        ids: &[(IdKind, i64)],
    ) -> Result<Self, FillError> {
        let plan = format!("{MARK}{plan}");
        store.0.engine.will_be_filled().await?;
        let mut tx = store.0.engine.write().await?;
        let known = counters(&mut *tx).await?;
        let unfinished = known.iter().find(|(kind, _)| kind.starts_with(MARK));
        let left = match unfinished {
            Some((found, left)) if *found == plan => *left,
            Some((found, left)) => {
                return Err(FillError::Unfinished { found: found.clone(), left: *left });
            }
            None => {
                tx.insert(&COUNTERS, &[vec![plan.as_str().into(), items.into()]]).await?;
                items
            }
        };
        let mut reserved = Vec::new();
        for (kind, count) in ids.iter().filter(|(_, count)| *count > 0) {
            reserved.push(reserve_one(&mut *tx, &known, *kind, *count).await?);
        }
        // What is stored of earlier events would lie below the floor, where nobody prunes it.
        tx.delete(&EVENTS, &[Cond::eq("masterid", store.0.master.0)]).await?;
        tx.commit().await?;
        for (kind, first, end) in reserved {
            store.0.ids.add(kind, first, end);
        }
        Ok(Self { store, cache: Cache::default(), head: None, plan, left })
    }

    /// How many items are still to be done.
    pub fn left(&self) -> i64 {
        self.left
    }

    /// A new id.
    ///
    /// # Errors
    /// If more are taken than were reserved.
    pub fn id<I: AllocatedId>(&self) -> Result<I, FillError> {
        self.store.0.ids.new_id().map_err(|error| FillError::Failed(error.to_string()))
    }

    /// The builders and workers of this master.
    ///
    /// # Errors
    /// As the database says.
    pub async fn configured(&self) -> Result<(Vec<BuilderId>, Vec<WorkerId>), FillError> {
        let me = self.store.0.master;
        let mut tx = self.store.0.engine.read().await?;
        let builders = load::<Builder>(&mut *tx, &Select::from(&BUILDERS).order("builderid", false)).await?;
        let workers = load::<Worker>(&mut *tx, &Select::from(&WORKERS).order("workerid", false)).await?;
        let builders = builders.iter().filter(|b| b.masters.contains(&me)).map(|b| b.id).collect();
        let workers = workers.iter().filter(|w| w.configured_on.iter().any(|(master, _)| *master == me));
        Ok((builders, workers.map(|w| w.id).collect()))
    }

    /// Commits the operations of so many items, each at its time. `now` is the time by the clock.
    ///
    /// # Errors
    /// Nothing was done then; the filling is of no use any more.
    pub async fn commit(
        &mut self,
        items: i64,
        work: &[(Timestamp, Op)],
        now: Timestamp,
    ) -> Result<(), FillError> {
        let left = self.left - items;
        self.write(work, left, now.0.saturating_add(LEASE_MICROS)).await?;
        self.left = left;
        Ok(())
    }

    async fn write(&mut self, work: &[(Timestamp, Op)], left: i64, lease: i64) -> Result<(), FillError> {
        let store = self.store.clone();
        let mut tx = store.0.engine.write().await?;
        let head = match self.head {
            Some(head) => head,
            None => Head::of(&mut *tx, store.0.master, store.0.epoch).await?.ok_or(FillError::Fenced)?,
        };
        let mut unit = Unit::new(&mut *tx, &mut self.cache, store.0.master, &store.0.ids);
        for (at, op) in work {
            unit.at = *at;
            ops::apply(&mut unit, op).await.map_err(refused)?;
        }
        let head = unit.flush_pruned(head, lease).await?.ok_or(FillError::Fenced)?;
        let mark = [Cond::eq("kind", self.plan.as_str())];
        if left > 0 {
            tx.set(&COUNTERS, &[("next", Value::Int(left))], &mark).await?;
        } else {
            tx.delete(&COUNTERS, &mark).await?;
        }
        tx.commit().await?;
        self.cache.settle();
        self.head = Some(head);
        Ok(())
    }

    /// Ends it: the master counts as stopped, and the engine takes note of how much there is now.
    ///
    /// # Errors
    /// As the database says.
    pub async fn end(mut self, now: Timestamp) -> Result<(), FillError> {
        self.write(&[(now, Op::StopMaster)], self.left, 0).await?;
        Ok(self.store.0.engine.was_filled().await?)
    }
}

fn refused(fault: Fault) -> FillError {
    match fault {
        Fault::Engine(error) => error.into(),
        Fault::Refused(refusal) => FillError::Refused(refusal.to_string()),
        Fault::Exhausted(kind) => FillError::Failed(format!("ids of {} ran out", kind.name())),
    }
}
