//! Puts what is known when the configuration loads (`param`, `matrix`) into the texts that name it.
//!
//! A text that is one whole `${{ … }}` takes the value's type; in a list a list splices and null drops, in a table null drops.
//! Expressions that also need something of run time are left as they are, and so are `run` texts: what is known is put
//! there when it is clear how the shell reads the place.

use figment::value::{Dict, Tag, Value};
use serde_json::Value as Json;

use crate::expr::{ExprError, Scope, Secrets, Segment, split, to_text};

/// An expression that cannot be put in, by the path of its text.
pub(crate) type Misfit = (Vec<String>, ExprError);

/// What becomes of a value.
enum Folded {
    Value(Value),
    /// Elements for the list around it.
    Elements(Vec<Value>),
    Nothing,
}

/// Folds all texts below a value. To be called where the constants are known.
pub(crate) fn fold(value: Value, path: &mut Vec<String>, misfits: &mut Vec<Misfit>) -> Value {
    match value {
        Value::Dict(tag, table) => Value::Dict(tag, fold_table(table, path, misfits)),
        Value::Array(tag, items) => {
            let mut list = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                path.push(index.to_string());
                match folded(item, path, misfits) {
                    Folded::Value(value) => list.push(value),
                    Folded::Elements(more) => list.extend(more),
                    Folded::Nothing => {}
                }
                path.pop();
            }
            Value::Array(tag, list)
        }
        other => match folded(other, path, misfits) {
            Folded::Value(value) => value,
            Folded::Elements(items) => Value::Array(Tag::Default, items),
            Folded::Nothing => Value::from(""),
        },
    }
}

/// The same for a table.
pub(crate) fn fold_table(table: Dict, path: &mut Vec<String>, misfits: &mut Vec<Misfit>) -> Dict {
    let mut folded_table = Dict::new();
    for (name, value) in table {
        path.push(name.clone());
        let script = name == "run" && value.as_str().is_some();
        let folded = if script { Folded::Value(value) } else { folded(value, path, misfits) };
        path.pop();
        let value = match folded {
            Folded::Value(value) => value,
            Folded::Elements(items) => Value::Array(Tag::Default, items),
            Folded::Nothing => continue,
        };
        folded_table.insert(name, value);
    }
    folded_table
}

fn folded(value: Value, path: &mut Vec<String>, misfits: &mut Vec<Misfit>) -> Folded {
    let text = match &value {
        Value::String(_, text) if text.contains("${{") => text,
        Value::Dict(..) | Value::Array(..) => return Folded::Value(fold(value, path, misfits)),
        _ => return Folded::Value(value),
    };
    match fold_text(text) {
        Ok(Some(Json::Array(items))) => Folded::Elements(items.into_iter().filter_map(from_json).collect()),
        Ok(Some(value)) => from_json(value).map_or(Folded::Nothing, Folded::Value),
        Ok(None) => Folded::Value(value),
        Err(error) => {
            misfits.push((path.clone(), error));
            Folded::Value(value)
        }
    }
}

/// The value of a text, if something in it is known.
pub(crate) fn fold_text(text: &str) -> Result<Option<Json>, ExprError> {
    let segments = split(text, Secrets::Allowed)?;
    let scope = Scope::new();
    let mut known = false;
    let mut folded = String::with_capacity(text.len());
    for segment in &segments {
        match segment {
            Segment::Text(part) => folded.push_str(&part.replace("${{", "$${{")),
            Segment::Expr(expr, span) if expr.is_constant() && !expr.is_raw() => {
                let value =
                    expr.evaluate(&scope).map_err(|error| ExprError { span: span.clone(), ..error })?;
                if segments.len() == 1 {
                    return Ok(Some(escaped(value)));
                }
                known = true;
                folded.push_str(&to_text(&value).replace("${{", "$${{"));
            }
            Segment::Expr(_, span) => folded.push_str(&text[span.clone()]),
        }
    }
    Ok(known.then_some(Json::String(folded)))
}

/// A value is not read again as a text with expressions in it.
fn escaped(value: Json) -> Json {
    match value {
        Json::String(text) => Json::String(text.replace("${{", "$${{")),
        Json::Array(items) => items.into_iter().map(escaped).collect(),
        Json::Object(map) => map.into_iter().map(|(name, value)| (name, escaped(value))).collect(),
        other => other,
    }
}

/// None for null, which TOML has not.
fn from_json(value: Json) -> Option<Value> {
    match value {
        Json::Null => None,
        other => Value::serialize(other).ok(),
    }
}

/// A merged value as JSON.
pub(crate) fn to_json(value: &Value) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}
