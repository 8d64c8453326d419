//! Writing a unit's work: the fence first, then events and rows.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::*;
use crate::engine::Value;
use crate::rows::json;
use crate::schema::*;

/// How many of a master's events lie between two cuts.
const CUT_EVERY: i64 = 500;

/// This master's row of `master_heads` as this process last wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub epoch: i64,
    /// Its last event.
    pub seq: i64,
}

impl Head {
    /// A master's head; none: it has another epoch, or there is none.
    pub async fn of(tx: &mut dyn WriteTx, master: MasterId, epoch: i64) -> Result<Option<Self>, EngineError> {
        let select = Select::from(&MASTER_HEADS).filter(Cond::eq("masterid", master.0));
        let Some(row) = tx.select(&select).await?.into_iter().next() else { return Ok(None) };
        let mut fields = Fields::new(&MASTER_HEADS, row);
        fields.skip();
        let head = Self { epoch: fields.int()?, seq: fields.int()? };
        Ok((head.epoch == epoch).then_some(head))
    }

    /// Holds only as long as this is the head.
    fn conds(self, master: MasterId) -> [Cond; 3] {
        [Cond::eq("masterid", master.0), Cond::eq("epoch", self.epoch), Cond::eq("seq", self.seq)]
    }
}

impl Unit<'_> {
    /// Writes everything. Answers the numbered events, or none if another process has taken this master's place. The cache's entries say
    /// afterwards what the rows hold, so if the commit fails the cache must be thrown away. `lease`: for how long this master is to
    /// be taken for alive from now on, if that is to be told.
    pub async fn flush(
        &mut self,
        head: Head,
        lease: Option<Duration>,
    ) -> Result<Option<Vec<Event>>, EngineError> {
        let events = std::mem::take(&mut self.out.events);
        if !self.fence(head, events.len() as i64, lease).await? {
            return Ok(None);
        }
        let numbered = (head.seq + 1..).zip(events);
        let events: Vec<Event> =
            numbered.map(|(seq, (at, what))| Event { master: self.master, seq, at, what }).collect();
        let rows = events.iter().map(event_row).collect::<Result<Vec<_>, _>>()?;
        self.tx.insert(&EVENTS, &rows).await?;
        self.flush_cut(head, events.len() as i64).await?;
        self.flush_totals_of(&events).await?;
        self.flush_entities().await?;
        self.flush_out().await?;
        Ok(Some(events))
    }

    /// Notes now and then what is committed. All that this master's events up to `head` build on was committed before they were, and so is
    /// contained; what others' events in it build on likewise. So it is a place up to which the events of all masters can be put in order.
    async fn flush_cut(&mut self, head: Head, count: i64) -> Result<(), EngineError> {
        let due = head.seq / CUT_EVERY != (head.seq + count) / CUT_EVERY;
        if !self.shared || !due {
            return Ok(());
        }
        let mut cut = crate::reads::clock(self.tx, 0).await?;
        // What is being written builds on what others may have committed since this transaction looked.
        cut.set(self.master, head.seq);
        let row = vec![self.master.0.into(), head.seq.into(), cut.to_string().into()];
        self.tx.insert(&EVENT_CUTS, &[row]).await
    }

    /// Moves this master's head in one conditional statement, which locks its row and proves that the place is still ours.
    async fn fence(&mut self, head: Head, count: i64, lease: Option<Duration>) -> Result<bool, EngineError> {
        let mut values = vec![("seq", Value::Int(head.seq + count))];
        if self.out.released {
            values.push(("lease_until", Value::Int(0)));
        } else if let Some(lease) = lease {
            let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
            values.push(("lease_until", Value::Int(self.tx.now().await?.saturating_add(lease))));
        }
        let conds = head.conds(self.master);
        // the last of the three compares numbers
        let conds = if self.unordered { &conds[..2] } else { &conds[..] };
        Ok(self.tx.set(&MASTER_HEADS, &values, conds).await? == 1)
    }

    /// As [`Unit::flush`], with events that are numbered and not stored, as if they had been pruned since. Answers the head.
    pub async fn flush_pruned(&mut self, head: Head, lease_until: i64) -> Result<Option<Head>, EngineError> {
        let events = std::mem::take(&mut self.out.events);
        let seq = head.seq + events.len() as i64;
        let values =
            [("seq", seq), ("floor", seq), ("lease_until", lease_until)].map(|(c, v)| (c, Value::Int(v)));
        if self.tx.set(&MASTER_HEADS, &values, &head.conds(self.master)).await? != 1 {
            return Ok(None);
        }
        self.flush_totals(super::totals::changed(events.iter().map(|(_, what)| what))).await?;
        self.flush_entities().await?;
        self.flush_out().await?;
        Ok(Some(Head { seq, ..head }))
    }

    async fn flush_entities(&mut self) -> Result<(), EngineError> {
        self.flush_kind::<Master>().await?;
        self.flush_kind::<Project>().await?;
        self.flush_kind::<Builder>().await?;
        self.flush_kind::<Worker>().await?;
        self.flush_kind::<Scheduler>().await?;
        self.flush_kind::<ChangeSource>().await?;
        self.flush_kind::<Buildset>().await?;
        self.flush_kind::<BuildRequest>().await?;
        self.flush_kind::<Build>().await?;
        self.flush_kind::<Step>().await?;
        self.flush_kind::<Log>().await?;
        self.flush_kind::<ControlAct>().await?;
        self.flush_kind::<Notifier>().await?;
        self.flush_kind::<Delivery>().await?;
        let mut rows = Vec::new();
        for build in self.cache.properties.touched() {
            if let Some(properties) = self.cache.properties.get(&build) {
                rows.push(vec![build.into(), json(&**properties)?]);
            }
        }
        self.tx.upsert(&BUILD_PROPERTIES, &rows).await
    }

    async fn flush_kind<E: Kind>(&mut self) -> Result<(), EngineError> {
        let entries = E::entries(self.cache);
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for id in entries.touched() {
            let Some(entry) = entries.get(&id).cloned() else { continue };
            let row = entry.now.to_row()?;
            match entry.stored {
                None => new.push(row),
                Some(version) => changed.push((version, row)),
            }
            let stored = Some(entry.now.version());
            entries.put(id, Entry { now: entry.now, stored });
        }
        self.tx.insert(E::TABLE, &new).await?;
        if self.tx.update(E::TABLE, &changed).await? != changed.len() as u64 {
            return Err(EngineError::Conflict(format!("a {} was changed by another master", E::NAME)));
        }
        Ok(())
    }

    async fn flush_out(&mut self) -> Result<(), EngineError> {
        let mut inserts: HashMap<&'static str, (&'static Table, Vec<Row>)> = HashMap::new();
        for (table, row) in self.out.inserts.drain(..) {
            inserts.entry(table.name).or_insert((table, Vec::new())).1.push(row);
        }
        for (table, rows) in inserts.into_values() {
            self.tx.insert(table, &rows).await?;
        }
        let mut upserts: HashMap<&'static str, (&'static Table, BTreeMap<Row, Row>)> = HashMap::new();
        for (table, row) in self.out.upserts.drain(..) {
            let key = row[..table.key].to_vec();
            upserts.entry(table.name).or_insert((table, BTreeMap::new())).1.insert(key, row);
        }
        for (table, rows) in upserts.into_values() {
            self.tx.upsert(table, &rows.into_values().collect::<Vec<_>>()).await?;
        }
        Ok(())
    }
}

fn event_row(event: &Event) -> Result<Row, EngineError> {
    Ok(vec![
        event.master.0.into(),
        event.seq.into(),
        event.what.topic().to_string().into(),
        json(&event.what)?,
        event.at.0.into(),
    ])
}
