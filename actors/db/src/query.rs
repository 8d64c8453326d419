//! Queries as selects; what no column holds is filtered and sorted in memory.

use std::cmp::Ordering;
use std::sync::Arc;

use greenroom_model::query::{Compare, FieldType, FieldValue, Filter, Query};
use greenroom_model::{Entity, Page, Timestamp};

use crate::engine::{Comparison, Cond, Select, Table, Value};
use crate::rows::RowMapped;

/// A query, as far as the engine answers it.
pub struct Plan<'q> {
    pub select: Select,
    /// Filters left to do in memory; then order, offset and limit are, too.
    pub rest: Vec<&'q Filter>,
    pub in_memory: bool,
}

/// Whether a field is stored in a column of its name.
fn stored<E: Entity>(table: &Table, field: &str) -> bool {
    E::RESOURCE.field(field).is_some_and(|f| f.ty != FieldType::Nested) && table.position(field).is_some()
}

/// The plan of a query over an entity's table.
pub fn plan<E: Entity + RowMapped>(query: &Query) -> Plan<'_> {
    let mut select = Select::from(E::TABLE);
    let mut rest = Vec::new();
    for filter in &query.filters {
        if stored::<E>(E::TABLE, filter.field) {
            select.conds.push(condition(filter));
        } else {
            rest.push(filter);
        }
    }
    let in_memory = !rest.is_empty() || query.order.iter().any(|(field, _)| !stored::<E>(E::TABLE, field));
    if !in_memory {
        select.order = full_order::<E>(query);
        if is_total(E::TABLE, query, &select.order) {
            select.order.pop();
        }
        select.limit = query.limit;
        select.offset = query.offset;
    }
    Plan { select, rest, in_memory }
}

/// The sort keys, made total by the id, in the direction of the last of them: so one index serves them all.
fn full_order<E: Entity>(query: &Query) -> Vec<(&'static str, bool)> {
    let mut order = query.order.clone();
    if order.is_empty() {
        order.push((E::RESOURCE.default_order(), false));
    }
    let id = E::RESOURCE.id_field();
    if order.iter().all(|(field, _)| *field != id) {
        order.push((id, order.last().is_some_and(|(_, descending)| *descending)));
    }
    order
}

/// Whether a list is in a total order without the id at its end, by what is unique: a builder's builds by number. Said all the same,
/// the id would keep some databases from using that index.
fn is_total(table: &Table, query: &Query, order: &[(&'static str, bool)]) -> bool {
    let Some((_, said)) = order.split_last().filter(|(_, said)| !said.is_empty()) else { return false };
    let fixed = |column: &str| {
        let one = |f: &Filter| f.field == column && f.compare == Compare::Eq && f.values.len() == 1;
        query.filters.iter().any(one)
    };
    let known = |column: &&str| fixed(column) || said.iter().any(|(by, _)| by == column);
    said.len() == query.order.len().max(1) && table.unique.iter().any(|columns| columns.iter().all(known))
}

fn value(value: &FieldValue) -> Value {
    match value {
        FieldValue::Null | FieldValue::List(_) => Value::Null,
        FieldValue::Int(v) => Value::Int(*v),
        FieldValue::Text(v) => v.as_str().into(),
        FieldValue::Bool(v) => (*v).into(),
        FieldValue::Time(v) => Value::Int(v.0),
    }
}

/// The condition of a filter on a column.
fn condition(filter: &Filter) -> Cond {
    let one = |v: &FieldValue| compared(filter.field, filter.compare, v);
    match filter.compare {
        Compare::Eq if filter.values.iter().all(|v| !matches!(v, FieldValue::Null | FieldValue::Time(_))) => {
            match filter.values.as_slice() {
                [only] => one(only),
                many => Cond::In(filter.field, many.iter().map(value).collect()),
            }
        }
        Compare::Eq | Compare::Contains => Cond::Any(filter.values.iter().map(one).collect()),
        _ => Cond::All(filter.values.iter().map(one).collect()),
    }
}

fn compared(column: &'static str, compare: Compare, with: &FieldValue) -> Cond {
    if let FieldValue::Time(time) = with {
        return compared_by_second(column, compare, *time);
    }
    if *with == FieldValue::Null {
        return match compare {
            Compare::Eq => Cond::Null(column),
            Compare::Ne => Cond::NotNull(column),
            _ => Cond::Any(Vec::new()),
        };
    }
    Cond::is(column, comparison(compare), value(with))
}

fn comparison(compare: Compare) -> Comparison {
    match compare {
        Compare::Eq => Comparison::Eq,
        Compare::Ne => Comparison::Ne,
        Compare::Lt => Comparison::Lt,
        Compare::Le => Comparison::Le,
        Compare::Gt => Comparison::Gt,
        Compare::Ge => Comparison::Ge,
        Compare::Contains => Comparison::Contains,
    }
}

/// Times are stored in microseconds and compared by whole seconds.
fn compared_by_second(column: &'static str, compare: Compare, time: Timestamp) -> Cond {
    let first = Timestamp::from_seconds(time.seconds()).0;
    let next = Timestamp::from_seconds(time.seconds().saturating_add(1)).0;
    let from = |v| Cond::is(column, Comparison::Ge, v);
    let until = |v| Cond::is(column, Comparison::Lt, v);
    match compare {
        Compare::Eq => Cond::All(vec![from(first), until(next)]),
        Compare::Ne => Cond::Any(vec![Cond::Null(column), until(first), from(next)]),
        Compare::Lt => until(first),
        Compare::Le => until(next),
        Compare::Gt => from(next),
        Compare::Ge => from(first),
        Compare::Contains => Cond::Any(Vec::new()),
    }
}

/// Whether an entity passes a filter; says the same as the condition of [`condition`].
pub fn matches(filter: &Filter, field: &FieldValue) -> bool {
    let one = |with: &FieldValue| match (filter.compare, field, with) {
        (Compare::Contains, FieldValue::List(items), _) => items.contains(with),
        (Compare::Contains, FieldValue::Text(text), FieldValue::Text(part)) => text.contains(part.as_str()),
        (Compare::Contains, _, _) => false,
        (Compare::Eq, _, _) => order_of(field, with).is_eq(),
        (Compare::Ne, _, _) => order_of(field, with).is_ne(),
        (_, FieldValue::Null, _) | (_, _, FieldValue::Null) => false,
        (Compare::Lt, _, _) => order_of(field, with).is_lt(),
        (Compare::Le, _, _) => order_of(field, with).is_le(),
        (Compare::Gt, _, _) => order_of(field, with).is_gt(),
        (Compare::Ge, _, _) => order_of(field, with).is_ge(),
    };
    match filter.compare {
        Compare::Eq | Compare::Contains => filter.values.iter().any(one),
        _ => filter.values.iter().all(one),
    }
}

/// How two values of one field compare: nulls first, times by the second.
fn order_of(a: &FieldValue, b: &FieldValue) -> Ordering {
    match (a, b) {
        (FieldValue::Time(a), FieldValue::Time(b)) => a.seconds().cmp(&b.seconds()),
        (FieldValue::List(a), FieldValue::List(b)) => a.iter().map(value).cmp(b.iter().map(value)),
        _ => value(a).cmp(&value(b)),
    }
}

/// Does in memory what the engine did not.
pub fn finish<E: Entity>(query: &Query, rest: &[&Filter], mut all: Vec<Arc<E>>) -> Page<Arc<E>> {
    all.retain(|e| rest.iter().all(|filter| matches(filter, &e.field(filter.field))));
    let order = full_order::<E>(query);
    all.sort_by(|a, b| {
        let by = |(field, descending): &(&'static str, bool)| {
            let (a, b) = (value_of(&**a, field), value_of(&**b, field));
            if *descending { b.cmp(&a) } else { a.cmp(&b) }
        };
        order.iter().map(by).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    });
    let total = all.len() as u64;
    let skip = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let take = query.limit.map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX));
    Page { items: all.into_iter().skip(skip).take(take).collect(), total, at_least: false }
}

fn value_of<E: Entity>(e: &E, field: &str) -> Vec<Value> {
    match e.field(field) {
        FieldValue::List(items) => items.iter().map(value).collect(),
        other => vec![value(&other)],
    }
}
