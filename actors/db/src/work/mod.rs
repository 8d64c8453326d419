//! The unit of work: what a group of writes reads, changes and announces within one transaction.
//!
//! Operations (`ops`) work on the entities in the [`Cache`]; nothing is written before [`Unit::flush`], which writes each
//! changed row once, however often it changed.

mod cache;
mod flush;
pub mod totals;

use std::sync::Arc;

use greenroom_model::ids::{AllocatedId, IdKind};
use greenroom_model::*;

use crate::engine::{Cond, EngineError, Row, Select, Table, WriteTx};
use crate::ids::IdAllocator;
use crate::rows::{Fields, RowMapped, load, load_where};

pub use cache::{Cache, Entry, Kind, Mark, Newest};
pub use flush::Head;

/// Why an operation was not done.
#[derive(Debug)]
pub enum Fault {
    Refused(Refusal),
    Engine(EngineError),
    /// More ids of the kind must be reserved first.
    Exhausted(IdKind),
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        Fault::Engine(error)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Fault::Refused(refusal)
    }
}

/// What is to be written beside the entities' rows.
#[derive(Default)]
pub struct Out {
    pub events: Vec<(Timestamp, Happening)>,
    pub inserts: Vec<(&'static Table, Row)>,
    /// Later ones replace earlier ones of the same key.
    pub upserts: Vec<(&'static Table, Row)>,
    /// This master gives its lease back.
    pub released: bool,
}

/// A point within a group that a refused write is rolled back to.
pub struct Savepoint {
    cache: Mark,
    events: usize,
    inserts: usize,
    upserts: usize,
    released: bool,
}

/// A group's work.
pub struct Unit<'a> {
    pub tx: &'a mut dyn WriteTx,
    pub cache: &'a mut Cache,
    pub out: Out,
    /// This master.
    pub master: MasterId,
    /// The time of the write that is worked on.
    pub at: Timestamp,
    /// Whether other masters may write to the database, too.
    pub shared: bool,
    /// A planted fault: numbers are not compared with those of the last commit.
    pub unordered: bool,
    ids: &'a IdAllocator,
}

impl<'a> Unit<'a> {
    pub fn new(
        tx: &'a mut dyn WriteTx,
        cache: &'a mut Cache,
        master: MasterId,
        ids: &'a IdAllocator,
    ) -> Self {
        Self {
            tx,
            cache,
            out: Out::default(),
            master,
            at: Timestamp(0),
            shared: false,
            unordered: false,
            ids,
        }
    }

    pub fn savepoint(&self) -> Savepoint {
        Savepoint {
            cache: self.cache.mark(),
            events: self.out.events.len(),
            inserts: self.out.inserts.len(),
            upserts: self.out.upserts.len(),
            released: self.out.released,
        }
    }

    pub fn roll_back(&mut self, to: &Savepoint) {
        self.cache.roll_back(&to.cache);
        self.out.events.truncate(to.events);
        self.out.inserts.truncate(to.inserts);
        self.out.upserts.truncate(to.upserts);
        self.out.released = to.released;
    }

    pub fn new_id<T: AllocatedId>(&self) -> Result<T, Fault> {
        self.ids.new_id().map_err(|_| Fault::Exhausted(T::KIND))
    }

    /// The entity as the group has it so far; refused if there is none.
    pub async fn get<E: Kind>(&mut self, id: impl Into<Id>) -> Result<Arc<E>, Fault> {
        let id = id.into().0;
        self.find(id).await?.ok_or_else(|| Refusal::NotFound(format!("{} {id}", E::NAME)).into())
    }

    /// The entity as the group has it so far.
    pub async fn find<E: Kind>(&mut self, id: i64) -> Result<Option<Arc<E>>, Fault> {
        if let Some(entry) = E::entries(self.cache).get(&id) {
            return Ok(Some(Arc::clone(&entry.now)));
        }
        let select = Select::from(E::TABLE).filter(Cond::eq(E::TABLE.columns[0].0, id));
        let found = load::<E>(self.tx, &select).await?;
        Ok(found.into_iter().next().map(|e| self.learn(e)))
    }

    /// All of the column's values that are stored, as the group has them so far; what the group added is not among them.
    pub async fn find_where<E: Kind>(
        &mut self,
        column: &'static str,
        values: &[i64],
        also: &[Cond],
    ) -> Result<Vec<Arc<E>>, Fault> {
        let found = load_where::<E>(self.tx, column, values, also).await?;
        Ok(found.into_iter().map(|e| self.learn(e)).collect())
    }

    /// Every entity of a small collection as the group has it, its own additions included.
    pub async fn every<E: Kind>(&mut self) -> Result<Vec<Arc<E>>, Fault> {
        for e in load::<E>(self.tx, &Select::from(E::TABLE)).await? {
            self.learn(e);
        }
        let mut all: Vec<Arc<E>> = E::entries(self.cache).values().map(|e| Arc::clone(&e.now)).collect();
        all.sort_unstable_by_key(|e| e.key());
        Ok(all)
    }

    /// Reads entities anew that this group has not changed: another master may have.
    pub async fn refresh<E: Kind>(&mut self, ids: &[i64]) -> Result<(), Fault> {
        let is_changed = |entry: &Entry<E>| entry.stored != Some(entry.now.version());
        for e in load_where::<E>(self.tx, E::TABLE.columns[0].0, ids, &[]).await? {
            let entries = E::entries(self.cache);
            if !entries.get(&e.key()).is_some_and(is_changed) {
                entries.renew(e.key(), Entry { stored: Some(e.version()), now: e });
            }
        }
        Ok(())
    }

    fn learn<E: Kind>(&mut self, e: Arc<E>) -> Arc<E> {
        let entry = Entry { stored: Some(e.version()), now: Arc::clone(&e) };
        Arc::clone(&E::entries(self.cache).learn(e.key(), entry).now)
    }

    /// Adds a new entity and announces it.
    pub fn add<E: Kind>(&mut self, e: E, name: EventName) -> Arc<E> {
        let e = Arc::new(e);
        E::entries(self.cache).put(e.key(), Entry { now: Arc::clone(&e), stored: None });
        self.announce(name, E::record(Arc::clone(&e)));
        e
    }

    /// Changes an entity, raises its version and announces it.
    pub fn change<E: Kind>(&mut self, old: &Arc<E>, name: EventName, edit: impl FnOnce(&mut E)) -> Arc<E> {
        let e = self.raise(old, edit);
        self.announce(name, E::record(Arc::clone(&e)));
        e
    }

    /// Changes an entity and raises its version; the caller announces it in another form.
    pub fn raise<E: Kind>(&mut self, old: &Arc<E>, edit: impl FnOnce(&mut E)) -> Arc<E> {
        self.change_quietly(old, |e| {
            edit(e);
            *e.version_mut() += 1;
        })
    }

    /// Changes what no reader of events cares for.
    pub fn change_quietly<E: Kind>(&mut self, old: &Arc<E>, edit: impl FnOnce(&mut E)) -> Arc<E> {
        let mut e = (**old).clone();
        edit(&mut e);
        let e = Arc::new(e);
        let entries = E::entries(self.cache);
        let stored = entries.get(&e.key()).and_then(|entry| entry.stored);
        entries.put(e.key(), Entry { now: Arc::clone(&e), stored });
        e
    }

    pub fn announce(&mut self, name: EventName, record: Record) {
        self.out.events.push((self.at, Happening { name, record }));
    }

    pub fn insert(&mut self, table: &'static Table, row: Row) {
        self.out.inserts.push((table, row));
    }

    pub fn upsert(&mut self, table: &'static Table, row: Row) {
        self.out.upserts.push((table, row));
    }

    /// The first selected row's fields.
    pub async fn first(&mut self, select: Select) -> Result<Option<Fields>, Fault> {
        let table = select.table;
        let rows = self.tx.select(&select.limit(1)).await?;
        Ok(rows.into_iter().next().map(|row| Fields::new(table, row)))
    }

    /// Entities that are no [`Kind`] (they never change).
    pub async fn load_one<E: RowMapped>(&mut self, select: Select) -> Result<Option<Arc<E>>, Fault> {
        Ok(load::<E>(self.tx, &select.limit(1)).await?.into_iter().next())
    }
}

/// Any entity's id.
pub struct Id(pub i64);

macro_rules! ids {
    ($($ty:ty),*) => { $(impl From<$ty> for Id { fn from(id: $ty) -> Self { Self(id.0) } })* };
}
ids!(
    MasterId,
    BuilderId,
    WorkerId,
    SchedulerId,
    ChangeSourceId,
    BuildsetId,
    BuildRequestId,
    BuildId,
    StepId,
    LogId,
    ControlId,
    NotifierId,
    DeliveryId
);
