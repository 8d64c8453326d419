//! Pages of collections: each is a range of an index, and its total is kept or counted with a bound.

use std::cmp::Ordering;
use std::sync::Arc;

use greenroom_model::query::{Compare, FieldValue, Filter};
use greenroom_model::{Entity, Page, Query, Resource};

use crate::engine::{Cond, EngineError, ReadTx, Row, Select};
use crate::query;
use crate::rows::{RowMapped, load};
use crate::work::totals;

type Read<T> = Result<T, EngineError>;

/// How far entities are counted whose number is not kept.
pub const COUNTED_TO: u64 = 10_000;
/// The most values of a list for each of which a range of its own is read.
const RANGES: usize = 1_000;

/// A page of a query.
pub async fn page<E: Entity + RowMapped>(tx: &mut dyn ReadTx, query: &Query) -> Read<Page<Arc<E>>> {
    let plan = query::plan::<E>(query);
    if plan.in_memory {
        let items = load::<E>(tx, &plan.select).await?;
        return Ok(query::finish(query, &plan.rest, items));
    }
    let rows = rows(tx, &plan.select).await?;
    let found = rows.len() as u64;
    let items = E::from_rows(rows, tx).await?.into_iter().map(Arc::new).collect();
    if query.offset == 0 && query.limit.is_none_or(|limit| found < limit) {
        return Ok(Page { items, total: found, at_least: false });
    }
    if let Some(total) = kept_total(tx, E::RESOURCE, &query.filters).await? {
        return Ok(Page { items, total, at_least: false });
    }
    let counted = Select { order: Vec::new(), limit: Some(COUNTED_TO), offset: 0, ..plan.select };
    let total = tx.count(&counted).await?;
    Ok(Page { items, total, at_least: total == COUNTED_TO })
}

/// The selected rows. A list of values whose rows are wanted in another order (`builderid IN (…) ORDER BY started_at`) is read as a
/// range for each value where an index has both columns: a database would read and sort the whole history of these values.
pub async fn rows(tx: &mut dyn ReadTx, select: &Select) -> Read<Vec<Row>> {
    let Some((at, limit)) = split_at(select) else { return tx.select(select).await };
    let Cond::In(column, values) = &select.conds[at] else { return tx.select(select).await };
    let mut values = values.clone();
    values.sort_unstable();
    values.dedup();
    let mut found = Vec::new();
    for value in values {
        let mut one = Select { limit: Some(limit), offset: 0, ..select.clone() };
        one.conds[at] = Cond::eq(column, value);
        found.extend(tx.select(&one).await?);
    }
    let order: Vec<(usize, bool)> = select
        .order
        .iter()
        .filter_map(|(column, descending)| Some((select.table.position(column)?, *descending)))
        .collect();
    found.sort_by(|a, b| in_order(&order, a, b));
    let skip = usize::try_from(select.offset).unwrap_or(usize::MAX);
    let take = select.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    Ok(found.into_iter().skip(skip).take(take).collect())
}

fn in_order(order: &[(usize, bool)], a: &Row, b: &Row) -> Ordering {
    order
        .iter()
        .map(|(i, descending)| if *descending { b[*i].cmp(&a[*i]) } else { a[*i].cmp(&b[*i]) })
        .find(|ordering| ordering.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Which condition is read value by value, and how many rows of each.
fn split_at(select: &Select) -> Option<(usize, u64)> {
    let limit = select.limit?.checked_add(select.offset)?;
    let first = select.order.first()?.0;
    let served = |column: &str| {
        let key = select.table.columns[0].0;
        let both = |index: &&[&str]| match **index {
            [one] => one == column && first == key,
            [one, two, ..] => one == column && (two == first),
            [] => false,
        };
        select.table.indexes.iter().chain(select.table.unique).any(both)
    };
    let at = select.conds.iter().position(
        |cond| matches!(cond, Cond::In(column, values) if (2..=RANGES).contains(&values.len()) && served(column)),
    )?;
    Some((at, limit))
}

/// How many entities pass the filters, where that is kept: all, those of a builder, and of either the complete or the others.
async fn kept_total(tx: &mut dyn ReadTx, of: Resource, filters: &[Filter]) -> Read<Option<u64>> {
    if !totals::KEPT.contains(&of) {
        return Ok(None);
    }
    let mut name = of.plural().to_owned();
    let mut complete = None;
    for filter in filters {
        match (filter.field, filter.compare, filter.values.as_slice()) {
            ("builderid", Compare::Eq, [FieldValue::Int(builder)]) if totals::of_builders(of) => {
                name = totals::of_builder(*builder, of);
            }
            ("complete", Compare::Eq, [FieldValue::Bool(yes)]) if complete.is_none() => complete = Some(*yes),
            _ => return Ok(None),
        }
    }
    if complete == Some(false) || filters.iter().filter(|f| f.field == "builderid").count() > 1 {
        return Ok(None); // few, and counted
    }
    let mut total = totals::read(tx, &name).await?;
    if complete == Some(true) {
        let open = filters.iter().map(|filter| match (filter.field, filter.values.first()) {
            ("builderid", Some(FieldValue::Int(builder))) => Cond::eq("builderid", *builder),
            _ => Cond::eq("complete", 0),
        });
        let open = Select { conds: open.collect(), ..Select::from(totals::table(of)) };
        total = total.saturating_sub(tx.count(&open).await?);
    }
    Ok(Some(total))
}
