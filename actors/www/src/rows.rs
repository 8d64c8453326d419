//! Collections of plain values: what has no entity of its own (force schedulers, links, specs) or is shown in
//! a form that is not the stored one. Filtered, sorted and cut in memory.

use std::cmp::Ordering;

use greenroom_model::query::{Compare, Field};
use greenroom_model::{FieldValue, Filter};
use serde_json::Value;

use crate::query::Spec;

/// A page of `rows` and how many there are in all.
pub(crate) fn page(mut rows: Vec<Value>, spec: &Spec) -> (Vec<Value>, u64) {
    rows.retain(|row| spec.query.filters.iter().all(|filter| holds(row, filter)));
    if !spec.query.order.is_empty() {
        rows.sort_by(|a, b| {
            let keys = spec.query.order.iter();
            keys.map(|(field, descending)| {
                let order = compare(&a[*field], &b[*field]);
                if *descending { order.reverse() } else { order }
            })
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
        });
    }
    let total = rows.len() as u64;
    let offset = usize::try_from(spec.query.offset).unwrap_or(usize::MAX);
    let limit = spec.query.limit.map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(usize::MAX));
    (rows.into_iter().skip(offset).take(limit).map(|row| project(row, spec)).collect(), total)
}

/// Only the fields that were asked for.
pub(crate) fn project(row: Value, spec: &Spec) -> Value {
    match (&spec.fields, row) {
        (Some(fields), Value::Object(mut map)) => {
            map.retain(|name, _| fields.contains(&name.as_str()));
            Value::Object(map)
        }
        (_, row) => row,
    }
}

/// The public text of an entity with only the fields that were asked for.
pub(crate) fn project_text(text: &str, spec: &Spec) -> Option<String> {
    spec.fields.as_ref()?;
    let row = serde_json::from_str(text).ok()?;
    Some(crate::json::compact(&project(row, spec)))
}

fn holds(row: &Value, filter: &Filter) -> bool {
    let found = &row[filter.field];
    let equal = |wanted: &FieldValue| equals(found, wanted);
    let against = |wanted: &FieldValue| order_against(found, wanted);
    match (filter.compare, filter.values.first()) {
        (Compare::Eq, _) => filter.values.iter().any(equal),
        (Compare::Ne, _) => !filter.values.iter().any(equal),
        (Compare::Contains, _) => filter.values.iter().any(|wanted| contains(found, wanted)),
        (Compare::Lt, Some(v)) => against(v).is_some_and(Ordering::is_lt),
        (Compare::Le, Some(v)) => against(v).is_some_and(Ordering::is_le),
        (Compare::Gt, Some(v)) => against(v).is_some_and(Ordering::is_gt),
        (Compare::Ge, Some(v)) => against(v).is_some_and(Ordering::is_ge),
        (_, None) => true,
    }
}

fn equals(found: &Value, wanted: &FieldValue) -> bool {
    match wanted {
        FieldValue::Null => found.is_null(),
        FieldValue::Int(n) => found.as_i64() == Some(*n),
        FieldValue::Time(at) => found.as_i64() == Some(at.seconds()),
        FieldValue::Text(text) => found.as_str() == Some(text),
        FieldValue::Bool(yes) => found.as_bool() == Some(*yes),
        FieldValue::List(_) => false,
    }
}

fn order_against(found: &Value, wanted: &FieldValue) -> Option<Ordering> {
    match wanted {
        FieldValue::Int(n) => Some(found.as_i64()?.cmp(n)),
        FieldValue::Time(at) => Some(found.as_i64()?.cmp(&at.seconds())),
        FieldValue::Text(text) => Some(found.as_str()?.cmp(text)),
        _ => None,
    }
}

fn contains(found: &Value, wanted: &FieldValue) -> bool {
    match (found, wanted) {
        (Value::String(text), FieldValue::Text(part)) => text.contains(part),
        (Value::Array(items), wanted) => items.iter().any(|item| equals(item, wanted)),
        _ => false,
    }
}

/// Nulls first, then by value; other kinds keep their order.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => a.as_i64().cmp(&b.as_i64()),
        _ => Ordering::Equal,
    }
}

/// The fields of a row type, for [`Spec`].
macro_rules! row_fields {
    ($($name:literal: $ty:ident),* $(,)?) => {
        &[$(greenroom_model::query::Field { name: $name, ty: greenroom_model::query::FieldType::$ty }),*]
    };
}
pub(crate) use row_fields;

/// Fields of what has only a name.
pub(crate) const NAME_ONLY: &[Field] = row_fields!["name": Text];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::query::params;

    const FIELDS: &[Field] = row_fields!["name": Text, "n": Int, "tags": Nested, "on": Bool];

    fn names(query: &str) -> (Vec<String>, u64) {
        let rows = vec![
            json!({"name": "b", "n": 2, "tags": ["x"], "on": true}),
            json!({"name": "a", "n": null, "tags": ["y", "x"], "on": false}),
            json!({"name": "c", "n": 1, "tags": [], "on": true}),
        ];
        let (rows, total) = page(rows, &Spec::collection(FIELDS, &params(query)).unwrap());
        (rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect(), total)
    }

    #[test]
    fn rows_are_filtered_sorted_and_cut() {
        assert_eq!(names("order=name&limit=2"), (vec!["a".into(), "b".into()], 3));
        assert_eq!(names("order=n&offset=1"), (vec!["c".into(), "b".into()], 3));
        assert_eq!(names("order=-on&order=-name").0, ["c", "b", "a"]);
        assert_eq!(names("tags__contains=x&on=yes"), (vec!["b".into()], 1));
        assert_eq!(names("n__ge=1&n__ne=2").0, ["c"]);
        assert_eq!(names("name__contains=c").0, ["c"]);
    }

    #[test]
    fn only_selected_fields_are_shown() {
        let spec = Spec::collection(FIELDS, &params("field=n")).unwrap();
        assert_eq!(project(json!({"name": "b", "n": 2}), &spec), json!({"n": 2}));
        assert_eq!(project_text("{\"n\":2,\"name\":\"b\"}", &spec).as_deref(), Some("{\"n\":2}"));
    }
}
