//! `[builders.NAME.matrix]`: one table that becomes a builder for each combination of values.

use std::collections::BTreeSet;

use figment::value::{Dict, Value};
use serde_json::{Map, Value as Json};

use crate::expr::{Constants, with_constants};
use crate::extract::Report;
use crate::fault::Fault;
use crate::fold::{fold_text, to_json};

/// The most builders that one table may become.
const MAX_BUILDERS: usize = 256;
/// The keys that are no axes.
const RESERVED: &[&str] = &["include", "exclude", "name"];

/// One builder of a matrix.
pub(crate) struct Combination {
    /// The builder's name.
    pub name: String,
    /// What its expressions know.
    pub constants: Constants,
}

/// All combinations of a matrix. None, with faults, if it cannot be made; `at` is the builder.
pub(crate) fn combinations(
    builder: &str,
    matrix: &Value,
    at: &[String],
    report: &mut Report<'_>,
) -> Option<Vec<Combination>> {
    let at = [at, &["matrix".to_owned()]].concat();
    let Some(table) = matrix.as_dict() else {
        report.push(&at, false, Fault::error("wrong-type", "expected a table, AXIS = [VALUES]"));
        return None;
    };
    let axes = axes(table, &at, report)?;
    let excluded = entries(table, "exclude", &axes, &at, report)?;
    let included = entries(table, "include", &axes, &at, report)?;
    let product = axes.iter().try_fold(1usize, |product, axis| product.checked_mul(axis.1.len()));
    if product.is_none_or(|it| it + included.len() > MAX_BUILDERS) {
        let message = format!("the matrix makes more than {MAX_BUILDERS} builders");
        report.push(&at, true, Fault::error("too-many", message).help("divide it, or leave axes out"));
        return None;
    }
    let mut found = vec![Map::new()];
    for (axis, values) in &axes {
        found = found
            .iter()
            .flat_map(|it| {
                values.iter().map(|value| {
                    let mut more = it.clone();
                    more.insert(axis.clone(), value.clone());
                    more
                })
            })
            .collect();
    }
    if axes.is_empty() {
        found.clear();
    }
    for (index, entry) in excluded.iter().enumerate() {
        let before = found.len();
        found.retain(|it| !entry.iter().all(|(key, value)| it.get(key) == Some(value)));
        if found.len() == before {
            let at = [at.as_slice(), &["exclude".to_owned(), index.to_string()]].concat();
            report.push(&at, false, Fault::warning("no-effect", "no combination of the matrix is like this"));
        }
    }
    include(&mut found, included, &axes);
    if found.is_empty() {
        report.push(&at, true, Fault::error("bad-value", "the matrix has no combinations"));
        return None;
    }
    named(builder, table, found, &axes, &at, report)
}

/// The axes in the order in which they are written.
fn axes(table: &Dict, at: &[String], report: &mut Report<'_>) -> Option<Vec<(String, Vec<Json>)>> {
    let mut axes = Vec::new();
    let mut complete = true;
    for (name, value) in table.iter().filter(|it| !RESERVED.contains(&it.0.as_str())) {
        let at = [at, std::slice::from_ref(name)].concat();
        match to_json(value) {
            Json::Array(values) if !values.is_empty() => {
                let position = report.place(&at, true).map(|it| (it.layer, it.span.start));
                axes.push((position, name.clone(), values));
            }
            _ => {
                let fault = Fault::error("wrong-type", format!("the axis `{name}` must be a list of values"));
                report.push(&at, false, fault.help(format!("write {name} = [\"one\", \"two\"]")));
                complete = false;
            }
        }
    }
    axes.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    Some(axes.into_iter().map(|(_, name, values)| (name, values)).collect()).filter(|_| complete)
}

/// The tables in `include` or `exclude`.
fn entries(
    table: &Dict,
    key: &str,
    axes: &[(String, Vec<Json>)],
    at: &[String],
    report: &mut Report<'_>,
) -> Option<Vec<Map<String, Json>>> {
    let Some(value) = table.get(key) else { return Some(Vec::new()) };
    let at = [at, &[key.to_owned()]].concat();
    let wrong = || {
        Fault::error("wrong-type", format!("`{key}` is a list of tables"))
            .help(format!("write {key} = [{{ AXIS = VALUE }}]"))
    };
    let Some(items) = value.as_array() else {
        report.push(&at, false, wrong());
        return None;
    };
    let mut found = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let at = [at.as_slice(), &[index.to_string()]].concat();
        let Json::Object(entry) = to_json(item) else {
            report.push(&at, false, wrong());
            return None;
        };
        let unknown = entry.keys().find(|it| key == "exclude" && !axes.iter().any(|axis| axis.0 == **it));
        if let Some(unknown) = unknown {
            let at = [at.as_slice(), std::slice::from_ref(unknown)].concat();
            let fault = Fault::error("unknown-key", format!("the matrix has no axis `{unknown}`"));
            report.push(
                &at,
                true,
                fault.help(crate::fault::suggest(unknown, axes.iter().map(|it| it.0.as_str()))),
            );
            return None;
        }
        found.push(entry);
    }
    Some(found)
}

/// An entry whose values of axes are those of combinations adds its other keys to them; another is a combination of its own.
fn include(
    found: &mut Vec<Map<String, Json>>,
    included: Vec<Map<String, Json>>,
    axes: &[(String, Vec<Json>)],
) {
    let made = found.len();
    for entry in included {
        let is_axis = |key: &str| axes.iter().any(|it| it.0 == key);
        let more: Map<String, Json> = entry
            .iter()
            .filter(|it| !is_axis(it.0))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let fits = |it: &Map<String, Json>| {
            entry.iter().filter(|it| is_axis(it.0)).all(|(key, value)| it.get(key) == Some(value))
        };
        let mut extended = false;
        if !more.is_empty() {
            for combination in found[..made].iter_mut().filter(|it| fits(it)) {
                combination.extend(more.clone());
                extended = true;
            }
        }
        if !extended {
            found.push(entry);
        }
    }
}

/// What is known in one builder of a matrix.
fn constants(values: &Json, keys: &BTreeSet<String>) -> Constants {
    Constants { param: None, matrix: Some(values.clone()), matrix_keys: keys.clone() }
}

/// Gives each combination a name, by `name` or from its values.
fn named(
    builder: &str,
    table: &Dict,
    found: Vec<Map<String, Json>>,
    axes: &[(String, Vec<Json>)],
    at: &[String],
    report: &mut Report<'_>,
) -> Option<Vec<Combination>> {
    let mut combinations: Vec<Combination> = Vec::with_capacity(found.len());
    let keys: BTreeSet<String> = found.iter().flat_map(Map::keys).cloned().collect();
    let (template, at_name) = (table.get("name"), [at, &["name".to_owned()]].concat());
    for values in found {
        let values = Json::Object(values);
        let name = match template.map(Value::as_str) {
            None => default_name(builder, &values, axes),
            Some(Some(text)) => match with_constants(constants(&values, &keys), || fold_text(text)) {
                Ok(Some(Json::String(name))) => name,
                Ok(folded) => folded.map_or_else(|| text.to_owned(), |it| it.to_string()),
                Err(error) => {
                    report.push_within(
                        &at_name,
                        Fault::error("bad-value", error.message).help(error.help),
                        error.span,
                    );
                    return None;
                }
            },
            Some(None) => {
                report.push(&at_name, false, Fault::error("wrong-type", "expected a string"));
                return None;
            }
        };
        if combinations.iter().any(|it| it.name == name) {
            let at = if template.is_some() { &at_name } else { at };
            let fault =
                Fault::error("duplicate-name", format!("two builders of the matrix are called `{name}`"));
            let help = format!("write name = \"{builder}-${{{{ matrix.AXIS }}}}\" with all axes that differ");
            report.push(at, template.is_none(), fault.help(help));
            return None;
        }
        combinations.push(Combination { name, constants: constants(&values, &keys) });
    }
    Some(combinations)
}

/// `NAME-VALUE-VALUE`, in the order of the axes.
fn default_name(builder: &str, values: &Json, axes: &[(String, Vec<Json>)]) -> String {
    let mut name = builder.to_owned();
    let mut add = |value: &Json| {
        let text = crate::expr::to_text(value);
        name.push('-');
        name.push_str(&text.replace(|it: char| it.is_control() || it.is_whitespace() || it == '/', "-"));
    };
    let axes_first = axes.iter().filter_map(|it| values.get(&it.0));
    let mut any = false;
    for value in axes_first {
        any = true;
        add(value);
    }
    if !any {
        values.as_object().into_iter().flat_map(Map::values).for_each(add);
    }
    name
}
