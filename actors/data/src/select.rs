//! Queries over entities in memory, with the meaning that stores give them.

use std::cmp::Ordering;

use greenroom_model::query::{Compare, FieldType};
use greenroom_model::{Entity, FieldValue, Filter, Query};

/// Whether `entity` passes all filters.
pub fn passes<E: Entity>(entity: &E, filters: &[Filter]) -> bool {
    filters.iter().all(|filter| passes_one(entity, filter))
}

fn passes_one<E: Entity>(entity: &E, filter: &Filter) -> bool {
    let seconds = E::RESOURCE.field(filter.field).is_some_and(|f| f.ty == FieldType::Time);
    let value = plain(&entity.field(filter.field), seconds);
    let any = |test: &dyn Fn(&FieldValue) -> bool| filter.values.iter().any(|v| test(&plain(v, seconds)));
    match filter.compare {
        Compare::Eq => any(&|v| same(&value, v)),
        Compare::Ne => !any(&|v| same(&value, v)),
        Compare::Lt => any(&|v| compare(&value, v) == Some(Ordering::Less)),
        Compare::Le => any(&|v| matches!(compare(&value, v), Some(Ordering::Less | Ordering::Equal))),
        Compare::Gt => any(&|v| compare(&value, v) == Some(Ordering::Greater)),
        Compare::Ge => any(&|v| matches!(compare(&value, v), Some(Ordering::Greater | Ordering::Equal))),
        Compare::Contains => any(&|v| match (&value, v) {
            (FieldValue::Text(text), FieldValue::Text(part)) => text.contains(part.as_str()),
            (FieldValue::List(items), v) => items.iter().any(|item| same(item, v)),
            _ => false,
        }),
    }
}

/// Times become whole seconds, so that they compare as the public API shows them.
fn plain(value: &FieldValue, seconds: bool) -> FieldValue {
    match value {
        FieldValue::Time(at) if seconds => FieldValue::Int(at.seconds()),
        other => other.clone(),
    }
}

fn same(a: &FieldValue, b: &FieldValue) -> bool {
    a == b
}

/// How two values of one type compare; null compares with nothing.
fn compare(a: &FieldValue, b: &FieldValue) -> Option<Ordering> {
    match (a, b) {
        (FieldValue::Int(a), FieldValue::Int(b)) => Some(a.cmp(b)),
        (FieldValue::Text(a), FieldValue::Text(b)) => Some(a.cmp(b)),
        (FieldValue::Bool(a), FieldValue::Bool(b)) => Some(a.cmp(b)),
        (FieldValue::Time(a), FieldValue::Time(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// How two values sort: null first.
fn sort(a: &FieldValue, b: &FieldValue) -> Ordering {
    match (a, b) {
        (FieldValue::Null, FieldValue::Null) => Ordering::Equal,
        (FieldValue::Null, _) => Ordering::Less,
        (_, FieldValue::Null) => Ordering::Greater,
        _ => compare(a, b).unwrap_or(Ordering::Equal),
    }
}

/// Sorts by the query's keys, or the resource's default order; what is equal by the id, in the direction of the last key.
pub fn order<E: Entity, T: std::ops::Deref<Target = E>>(items: &mut [T], query: &Query) {
    let default = [(E::RESOURCE.default_order(), false)];
    let keys = if query.order.is_empty() { &default[..] } else { &query.order[..] };
    let last = keys.last().is_some_and(|(_, descending)| *descending);
    items.sort_by(|a, b| {
        keys.iter()
            .map(|(field, descending)| {
                let ordering = sort(&a.field(field), &b.field(field));
                if *descending { ordering.reverse() } else { ordering }
            })
            .find(|ordering| *ordering != Ordering::Equal)
            .unwrap_or_else(|| if last { b.id().cmp(&a.id()) } else { a.id().cmp(&b.id()) })
    });
}

/// Whether the query asks for the newest first (descending id), or for the default order by id.
pub fn by_id<E: Entity>(query: &Query) -> Option<ById> {
    let id = E::RESOURCE.id_field();
    match query.order.as_slice() {
        [] if E::RESOURCE.default_order() == id => Some(ById::Ascending),
        [(field, descending), ..] if *field == id => {
            Some(if *descending { ById::Descending } else { ById::Ascending })
        }
        _ => None,
    }
}

/// An order by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ById {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}
