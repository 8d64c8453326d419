//! Committing groups of writes: one transaction, all that can be done in it, and what to do when it fails.

mod remove;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use greenroom_model::ids::IdKind;
use greenroom_model::*;
use tokio::time::Instant;

use crate::engine::{CHUNK, Cond, EngineError, Select, Value, WriteTx};
use crate::messages::{EventSink, Pruned, WriteError};
use crate::metrics::WriterMetrics;
use crate::ops;
use crate::plant::Plant;
use crate::rows::{Fields, json};
use crate::schema::*;
use crate::store::Store;
use crate::work::{Cache, Fault, Head, Unit};

/// So many ids are reserved ahead of each kind, at least.
pub const BLOCK: i64 = 4096;
/// How often a single write meets a conflict before it is refused, and how often a lost commit is asked for again.
const TRIES: usize = 3;
/// Rows that one step of a pruning removes.
const PRUNE_STEP: i64 = 1000;

/// While writes are refused, this is said so often at most.
const WARN_AGAIN: Duration = Duration::from_secs(30);

type Answer = Result<Committed, WriteError>;

/// Why a group's transaction left nothing (or, for [`EngineError::Unknown`], perhaps did).
#[derive(Debug)]
pub enum Failure {
    Engine(EngineError),
    Exhausted(IdKind),
    Fenced,
    /// Something was refused by what was read earlier, and may be otherwise by now.
    Stale,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure::Engine(error)
    }
}

/// Tells of refused writes: everybody asks again and again, so not of each.
#[derive(Default)]
struct Outage {
    warned_at: Option<Instant>,
    /// Whether the end of what was warned of is to be told.
    lasts: bool,
}

impl Outage {
    fn refused(&mut self, why: &str, writes: usize) {
        if self.warned_at.is_some_and(|at| at.elapsed() < WARN_AGAIN) {
            return tracing::debug!(db.error = %why, db.writes = writes, "writes are refused");
        }
        tracing::warn!(db.error = %why, db.writes = writes, "writes are refused");
        self.warned_at = Some(Instant::now());
        self.lasts = true;
    }

    fn committed(&mut self) {
        if std::mem::take(&mut self.lasts) {
            tracing::info!("writes are taken again");
        }
    }
}

/// Everything of the DbWriter that is not an actor.
pub struct Core {
    store: Store,
    sink: EventSink,
    outage: Outage,
    cache: Cache,
    /// None: to be read again.
    head: Option<Head>,
    /// Nothing in the cache was read before the attempt under way.
    cold: bool,
    /// When the lease was last told.
    renewed: Option<Instant>,
    /// The latest time that a write bore.
    pub now: Timestamp,
    /// Transactions committed.
    pub commits: u64,
    /// Events committed.
    pub events: u64,
    /// Counts for [`Plant::DoneAgain`].
    tries: u64,
}

impl Core {
    pub fn new(store: Store, sink: EventSink) -> Self {
        let cache = Cache::default();
        let outage = Outage::default();
        let (head, renewed, now) = (None, None, Timestamp(0));
        Self { store, sink, outage, cache, head, cold: true, renewed, now, commits: 0, events: 0, tries: 0 }
    }

    /// What is measured of commits.
    pub fn metrics(&self) -> &WriterMetrics {
        self.store.metrics()
    }

    /// Commits the writes, together if that is possible. One answer each.
    pub async fn run(&mut self, writes: &[Write]) -> Vec<Answer> {
        let mut tries = 0;
        loop {
            let failure = match self.attempt(writes).await {
                Ok(answers) => return answers,
                Err(failure) => failure,
            };
            self.forget();
            tries += 1;
            let error = match failure {
                Failure::Fenced => {
                    self.store.lose_place();
                    return all(writes, &WriteError::Fenced);
                }
                Failure::Stale => {
                    tries -= 1; // the next attempt reads everything: it ends otherwise
                    continue;
                }
                Failure::Exhausted(kind) if tries <= 8 * TRIES => {
                    if let Err(error) = self.reserve(kind, BLOCK).await {
                        return all(writes, &error);
                    }
                    continue;
                }
                Failure::Exhausted(kind) => {
                    return all(writes, &WriteError::Unavailable(format!("ids of {} ran out", kind.name())));
                }
                Failure::Engine(error) => error,
            };
            match error {
                EngineError::Conflict(_) | EngineError::Rejected(_) if writes.len() > 1 => {
                    tracing::debug!(db.error = %error, db.writes = writes.len(), "a group of writes is cut in two");
                    let (first, second) = writes.split_at(writes.len() / 2);
                    let mut answers = Box::pin(self.run(first)).await;
                    answers.extend(Box::pin(self.run(second)).await);
                    return answers;
                }
                // Another master changed a row: see what it says now.
                EngineError::Conflict(_) if tries <= TRIES => {}
                EngineError::Conflict(text) | EngineError::Rejected(text) => {
                    return all(writes, &Refusal::Invalid(text).into());
                }
                // A write that happened all the same is found by its id, and then answered from what it left.
                EngineError::Unknown(text) => match self.happened(writes).await {
                    Ok(true) if tries <= TRIES => {}
                    Ok(false) => return all(writes, &WriteError::Unavailable(text)),
                    Ok(true) | Err(_) => return all(writes, &WriteError::Unknown(text)),
                },
                EngineError::Unavailable(text) | EngineError::Damaged(text) => {
                    self.outage.refused(&text, writes.len());
                    return all(writes, &WriteError::Unavailable(text));
                }
            }
        }
    }

    /// Forgets all that was read: the database may say otherwise.
    fn forget(&mut self) {
        self.cache = Cache::default();
        if self.store.0.plant != Plant::NumberBeforeCommit {
            self.head = None;
        }
        self.cold = true;
    }

    /// The writes under ids that nobody knows: what [`Plant::DoneAgain`] does.
    fn as_new(&mut self, writes: &[Write]) -> Vec<Write> {
        let salt = u128::from(self.tries + 1) << 64;
        writes.iter().map(|write| Write { id: WriteId(write.id.0 ^ salt), ..write.clone() }).collect()
    }

    /// How long this master is to be taken for alive, if it is time to tell that.
    fn lease(&self) -> Option<Duration> {
        let is_fresh = self.renewed.is_some_and(|at| at.elapsed() < self.store.0.lease / 15);
        (!is_fresh).then_some(self.store.0.lease)
    }

    /// Whether the transaction of these writes was committed. It may be under way still, on a connection that we lost: it holds
    /// the lock on this master's head, so that lock is waited for first.
    async fn happened(&self, writes: &[Write]) -> Result<bool, EngineError> {
        let mut tx = self.store.0.engine.write().await?;
        let mine = [Cond::eq("masterid", self.store.0.master.0), Cond::eq("epoch", self.store.0.epoch)];
        tx.set(&MASTER_HEADS, &[("epoch", self.store.0.epoch.into())], &mine).await?;
        Ok(!known_writes(&mut *tx, writes).await?.is_empty())
    }

    async fn attempt(&mut self, writes: &[Write]) -> Result<Vec<Answer>, Failure> {
        let again;
        let writes = if self.store.0.plant == Plant::DoneAgain {
            self.tries += 1;
            again = self.as_new(writes);
            &again
        } else {
            writes
        };
        self.now = writes.iter().map(|w| w.at).max().unwrap_or_default().max(self.now);
        let store = self.store.clone();
        let mut tx = store.0.engine.write().await?;
        let head = self.head(&mut *tx).await?;
        let known = known_writes(&mut *tx, writes).await?;
        let (lease, cold, begun) = (self.lease(), std::mem::take(&mut self.cold), Instant::now());
        let mut unit = Unit::new(&mut *tx, &mut self.cache, store.0.master, &store.0.ids);
        unit.shared = store.is_shared();
        unit.unordered = store.0.plant == Plant::NumberBeforeCommit;
        let answers = apply_all(&mut unit, writes, known).await?;
        if unit.shared && !cold && answers.iter().any(is_of_others) {
            return Err(Failure::Stale);
        }
        if answers.iter().all(|a| !matches!(a, Ok((_, true)))) {
            let done = |a: Applied| a.map(|(outcomes, _)| committed(outcomes, store.0.master, head.seq));
            return Ok(answers.into_iter().map(done).collect());
        }
        let Some(events) = unit.flush(head, lease).await? else {
            return Err(self.outrun(&mut *tx).await?);
        };
        let reserved = reserve_low(&mut *tx, &store).await?;
        match store.0.plant {
            Plant::NumberBeforeCommit => {
                self.head = Some(Head { seq: head.seq + events.len() as i64, ..head })
            }
            Plant::ToldBeforeCommit => (self.sink)(Arc::from(events.clone())),
            _ => {}
        }
        tx.commit().await?;
        if lease.is_some() {
            self.renewed = Some(begun);
        }
        self.outage.committed();
        self.cache.settle();
        for (kind, first, end) in reserved {
            store.0.ids.add(kind, first, end);
        }
        let seq = head.seq + events.len() as i64;
        self.head = Some(Head { seq, ..head });
        self.commits += 1;
        self.events += events.len() as u64;
        self.store.saw(store.0.master, seq);
        if !events.is_empty() {
            (self.sink)(Arc::from(events));
        }
        let done = |a: Applied| a.map(|(outcomes, _)| committed(outcomes, store.0.master, seq));
        Ok(answers.into_iter().map(done).collect())
    }

    /// Why the fence did not hold: another process has our place, or a commit of ours came through whose answer was lost.
    async fn outrun(&mut self, tx: &mut dyn WriteTx) -> Result<Failure, EngineError> {
        self.head = None;
        match self.head(tx).await {
            Ok(_) => Ok(EngineError::Conflict("an earlier commit of this master came through".into()).into()),
            Err(Failure::Engine(error)) => Err(error),
            Err(other) => Ok(other),
        }
    }

    /// This master's head, read if it is not known.
    async fn head(&mut self, tx: &mut dyn WriteTx) -> Result<Head, Failure> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let store = &self.store.0;
        let mut found = Head::of(tx, store.master, store.epoch).await?;
        if store.plant == Plant::NoFence {
            for epoch in store.epoch + 1..store.epoch + 10 {
                found = found.or(Head::of(tx, store.master, epoch).await?);
            }
        }
        let head = found.ok_or(Failure::Fenced)?;
        self.head = Some(head);
        Ok(head)
    }

    /// Reserves ids in a transaction of their own.
    pub async fn reserve(&mut self, kind: IdKind, count: i64) -> Result<(), WriteError> {
        let result = async {
            let mut tx = self.store.0.engine.write().await?;
            let next = counters(&mut *tx).await?;
            let block = reserve_one(&mut *tx, &next, kind, count.max(BLOCK)).await?;
            tx.commit().await?;
            Ok::<_, EngineError>(block)
        };
        match result.await {
            Ok((kind, first, end)) => {
                self.store.0.ids.add(kind, first, end);
                Ok(())
            }
            Err(error) => Err(WriteError::Unavailable(error.to_string())),
        }
    }

    /// Removes a bounded piece of what is to be pruned; none removed: it is done.
    pub async fn prune_step(&mut self, older_than: Timestamp, keep: i64) -> Result<Pruned, WriteError> {
        let result = async {
            let mut tx = self.store.0.engine.write().await?;
            let (events, floor) = prune_events(&mut *tx, &self.store, older_than, keep).await?;
            let old = Select::from(&WRITE_IDS)
                .filter(Cond::is("at", crate::engine::Comparison::Lt, older_than.0))
                .order("at", false)
                .limit(PRUNE_STEP as u64);
            let ids: Vec<Value> =
                tx.select(&old).await?.into_iter().map(|mut row| row.swap_remove(0)).collect();
            let mut writes = 0;
            for piece in ids.chunks(CHUNK) {
                writes += tx.delete(&WRITE_IDS, &[Cond::In("id", piece.to_vec())]).await?;
            }
            if events + writes > 0 {
                tx.commit().await?;
            }
            Ok::<_, EngineError>(Pruned { events, writes, floor })
        };
        result.await.map_err(|error| WriteError::Unavailable(error.to_string()))
    }
}

/// What a write gave, and whether it did so now (or long ago).
type Applied = Result<(Vec<Outcome>, bool), WriteError>;

/// Whether a write was refused because of what another master has.
fn is_of_others(answer: &Applied) -> bool {
    matches!(answer, Err(WriteError::Refused(Refusal::ClaimLost | Refusal::Held(_))))
}

fn all(writes: &[Write], error: &WriteError) -> Vec<Answer> {
    writes.iter().map(|_| Err(error.clone())).collect()
}

fn committed(outcomes: Vec<Outcome>, master: MasterId, seq: i64) -> Committed {
    Committed { outcomes, at: (master, seq) }
}

fn id_value(id: WriteId) -> Value {
    Value::Blob(Bytes::copy_from_slice(&id.0.to_be_bytes()))
}

/// The outcomes of those writes that happened before.
async fn known_writes(
    tx: &mut dyn WriteTx,
    writes: &[Write],
) -> Result<HashMap<WriteId, Vec<Outcome>>, EngineError> {
    let mut known = HashMap::new();
    for piece in writes.chunks(CHUNK) {
        let ids = piece.iter().map(|w| id_value(w.id)).collect();
        for row in tx.select(&Select::from(&WRITE_IDS).filter(Cond::In("id", ids))).await? {
            let Value::Blob(id) = &row[0] else { continue };
            let Ok(id) = <[u8; 16]>::try_from(&id[..]) else { continue };
            let mut fields = Fields::new(&WRITE_IDS, row.clone());
            fields.skip();
            fields.skip();
            known.insert(WriteId(u128::from_be_bytes(id)), fields.json()?);
        }
    }
    Ok(known)
}

async fn apply_all(
    unit: &mut Unit<'_>,
    writes: &[Write],
    mut known: HashMap<WriteId, Vec<Outcome>>,
) -> Result<Vec<Applied>, Failure> {
    let mut answers = Vec::with_capacity(writes.len());
    for write in writes {
        if let Some(outcomes) = known.get(&write.id) {
            answers.push(Ok((outcomes.clone(), false)));
            continue;
        }
        let savepoint = unit.savepoint();
        match apply(unit, write).await {
            Ok(outcomes) => {
                unit.insert(&WRITE_IDS, vec![id_value(write.id), write.at.0.into(), json(&outcomes)?]);
                known.insert(write.id, outcomes.clone());
                answers.push(Ok((outcomes, true)));
            }
            Err(Fault::Refused(refusal)) => {
                unit.roll_back(&savepoint);
                answers.push(Err(refusal.into()));
            }
            Err(Fault::Engine(error)) => return Err(error.into()),
            Err(Fault::Exhausted(kind)) => return Err(Failure::Exhausted(kind)),
        }
    }
    Ok(answers)
}

async fn apply(unit: &mut Unit<'_>, write: &Write) -> Result<Vec<Outcome>, Fault> {
    unit.at = write.at;
    let mut outcomes = Vec::with_capacity(write.ops.len());
    for op in &write.ops {
        outcomes.push(ops::apply(unit, op).await?);
    }
    Ok(outcomes)
}

/// The next free id of each kind.
pub async fn counters(tx: &mut dyn WriteTx) -> Result<HashMap<String, i64>, EngineError> {
    let mut next = HashMap::new();
    for row in tx.select(&Select::from(&COUNTERS)).await? {
        let mut fields = Fields::new(&COUNTERS, row);
        next.insert(fields.text()?, fields.int()?);
    }
    Ok(next)
}

/// Reserves more of each kind of which little is left.
async fn reserve_low(tx: &mut dyn WriteTx, store: &Store) -> Result<Vec<(IdKind, i64, i64)>, EngineError> {
    let low: Vec<IdKind> =
        IdKind::ALL.iter().copied().filter(|kind| store.0.ids.left(*kind) < BLOCK / 2).collect();
    let mut reserved = Vec::with_capacity(low.len());
    if !low.is_empty() {
        let next = counters(tx).await?;
        for kind in low {
            reserved.push(reserve_one(tx, &next, kind, BLOCK).await?);
        }
    }
    Ok(reserved)
}

pub async fn reserve_one(
    tx: &mut dyn WriteTx,
    next: &HashMap<String, i64>,
    kind: IdKind,
    count: i64,
) -> Result<(IdKind, i64, i64), EngineError> {
    let first = next.get(kind.name()).copied().unwrap_or(1);
    let end = first + count;
    if next.contains_key(kind.name()) {
        let conds = [Cond::eq("kind", kind.name()), Cond::eq("next", first)];
        if tx.set(&COUNTERS, &[("next", end.into())], &conds).await? != 1 {
            return Err(EngineError::Conflict("another master reserved ids".into()));
        }
    } else {
        tx.insert(&COUNTERS, &[vec![kind.name().into(), end.into()]]).await?;
    }
    Ok((kind, first, end))
}

/// Removes the oldest events of a master, at most a step's worth, and moves its floor in the same transaction.
async fn prune_events(
    tx: &mut dyn WriteTx,
    store: &Store,
    older_than: Timestamp,
    keep: i64,
) -> Result<(u64, i64), EngineError> {
    use crate::engine::Comparison::{Ge, Gt, Le};
    let (master, epoch) = (store.0.master, store.0.epoch);
    let mine = Cond::eq("masterid", master.0);
    let Some(row) = tx.select(&Select::from(&MASTER_HEADS).filter(mine.clone())).await?.into_iter().next()
    else {
        return Ok((0, 0));
    };
    let mut fields = Fields::new(&MASTER_HEADS, row);
    fields.skip();
    fields.skip();
    let (seq, floor) = (fields.int()?, fields.int()?);
    let mut last = (floor + PRUNE_STEP).min(seq - keep.max(0));
    let range = |last: i64| vec![mine.clone(), Cond::is("seq", Gt, floor), Cond::is("seq", Le, last)];
    let mut young =
        Select::from(&EVENTS).filter(Cond::is("at", Ge, older_than.0)).order("seq", false).limit(1);
    young.conds.extend(range(last));
    if let Some(row) = tx.select(&young).await?.into_iter().next() {
        let mut fields = Fields::new(&EVENTS, row);
        fields.skip();
        last = fields.int()? - 1;
    }
    if last <= floor {
        return Ok((0, floor));
    }
    // The floor first: it proves that the place is still ours, and can only rise.
    let conds = [mine.clone(), Cond::eq("epoch", epoch), Cond::eq("floor", floor)];
    if tx.set(&MASTER_HEADS, &[("floor", last.into())], &conds).await? != 1 {
        return Err(EngineError::Conflict("another process prunes".into()));
    }
    tx.delete(&EVENT_CUTS, &[mine.clone(), Cond::is("seq", Le, last)]).await?;
    Ok((tx.delete(&EVENTS, &range(last)).await?, last))
}
