//! How many there are of what a history holds: kept by counting what each write adds and removes, in its transaction.
//!
//! Each master has rows of its own, so that none waits for another; the numbers are their sums. What was there before they were kept
//! stands under master 0.

use std::collections::BTreeMap;

use greenroom_model::{Event, EventName, Happening, Record, Resource};

use super::Unit;
use crate::engine::{CHUNK, Cond, EngineError, ReadTx, Row, Select, Table};
use crate::rows::Fields;
use crate::schema::*;

/// The collections whose size is kept.
pub const KEPT: [Resource; 4] =
    [Resource::Builds, Resource::BuildRequests, Resource::Buildsets, Resource::Changes];

/// Whether the size is kept for each builder, too.
pub fn of_builders(of: Resource) -> bool {
    matches!(of, Resource::Builds | Resource::BuildRequests)
}

/// The name of a builder's number.
pub fn of_builder(builder: i64, of: Resource) -> String {
    format!("builders/{builder}/{}", of.plural())
}

/// The table of a collection that is kept.
pub fn table(of: Resource) -> &'static Table {
    match of {
        Resource::BuildRequests => &BUILDREQUESTS,
        Resource::Buildsets => &BUILDSETS,
        Resource::Changes => &CHANGES,
        _ => &BUILDS,
    }
}

/// A number that is kept.
pub async fn read(tx: &mut dyn ReadTx, name: &str) -> Result<u64, EngineError> {
    let total = tx.sum(&TOTALS, "total", &[Cond::eq("name", name)]).await?;
    Ok(u64::try_from(total).unwrap_or_default())
}

/// All numbers that are kept.
pub async fn all(tx: &mut dyn ReadTx) -> Result<BTreeMap<String, u64>, EngineError> {
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for row in tx.select(&Select::from(&TOTALS)).await? {
        let mut fields = Fields::new(&TOTALS, row);
        let name = fields.text()?;
        fields.skip();
        *sums.entry(name).or_default() += fields.int()?;
    }
    Ok(sums.into_iter().map(|(name, sum)| (name, u64::try_from(sum).unwrap_or_default())).collect())
}

/// By how much each number changes with what happens.
pub fn changed<'e>(happened: impl IntoIterator<Item = &'e Happening>) -> BTreeMap<String, i64> {
    let mut changed: BTreeMap<String, i64> = BTreeMap::new();
    for what in happened {
        let by = match what.name {
            EventName::New => 1,
            EventName::Deleted => -1,
            _ => continue,
        };
        let (of, builder) = match &what.record {
            Record::Build(e) => (Resource::Builds, Some(e.builder)),
            Record::BuildRequest(e) => (Resource::BuildRequests, Some(e.builder)),
            Record::Buildset(_) => (Resource::Buildsets, None),
            Record::Change(_) => (Resource::Changes, None),
            _ => continue,
        };
        *changed.entry(of.plural().to_owned()).or_default() += by;
        if let Some(builder) = builder {
            *changed.entry(of_builder(builder.0, of)).or_default() += by;
        }
    }
    changed.retain(|_, by| *by != 0);
    changed
}

impl Unit<'_> {
    /// As [`Unit::flush_totals`], of numbered events.
    pub async fn flush_totals_of(&mut self, events: &[Event]) -> Result<(), EngineError> {
        self.flush_totals(changed(events.iter().map(|e| &e.what))).await
    }

    /// Changes this master's numbers.
    pub async fn flush_totals(&mut self, changed: BTreeMap<String, i64>) -> Result<(), EngineError> {
        let unknown: Vec<&String> =
            changed.keys().filter(|name| self.cache.totals.get(name).is_none()).collect();
        for piece in unknown.chunks(CHUNK) {
            let names = piece.iter().map(|name| name.as_str().into()).collect();
            let select = Select::from(&TOTALS)
                .filter(Cond::In("name", names))
                .filter(Cond::eq("masterid", self.master.0));
            for row in self.tx.select(&select).await? {
                let mut fields = Fields::new(&TOTALS, row);
                let name = fields.text()?;
                fields.skip();
                self.cache.totals.learn(name, fields.int()?);
            }
        }
        let mut rows: Vec<Row> = Vec::with_capacity(changed.len());
        for (name, by) in changed {
            let total = self.cache.totals.get(&name).copied().unwrap_or(0) + by;
            rows.push(vec![name.as_str().into(), self.master.0.into(), total.into()]);
            self.cache.totals.put(name, total);
        }
        self.tx.upsert(&TOTALS, &rows).await
    }
}
