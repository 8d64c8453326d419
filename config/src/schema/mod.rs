//! The configuration described for programs and people: a JSON schema and a reference, both made from the types of the sections.
//!
//! Descriptions are the doc comments of the fields, defaults are those that serde fills in or that `defaults.toml` holds. So a
//! key that is added to a section is in the schema and in the reference; tests hold the committed files against both.

pub(crate) mod forms;
mod reference;
mod tables;

use serde_json::{Map, Value, json};

use tables::{Kind, Section};

/// The JSON schema of one file of the configuration (draft 7, which all editors know).
pub fn json() -> Value {
    let mut properties = Map::from_iter([("include".to_owned(), tables::include())]);
    for section in tables::sections() {
        properties.insert(section.name.to_owned(), section_schema(&section));
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Greenroom configuration",
        "description": "A configuration file of Greenroom, an actor-model buildmaster.",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

/// [`json()`] as the text that is committed as `config/schema.json` and served.
pub fn text() -> String {
    // A value of JSON has no reason to fail as text.
    let mut text = serde_json::to_string_pretty(&json()).unwrap_or_default();
    text.push('\n');
    text
}

/// The reference of all keys, in Markdown; committed as `docs/reference/configuration.md`.
pub fn reference() -> String {
    reference::write(&tables::sections())
}

fn section_schema(section: &Section) -> Value {
    let mut entries: Vec<Value> = section.kinds.iter().map(|kind| entry_schema(section, kind)).collect();
    for entry in entries.iter_mut().filter(|_| section.keyed) {
        if section.name == "builders" || section.name == "recipes" {
            allow_expressions(entry);
        }
        entry["properties"]["enabled"] = tables::enabled();
    }
    let mut entry = if entries.len() == 1 { entries.remove(0) } else { json!({ "oneOf": entries }) };
    if section.keyed {
        entry = json!({ "type": "object", "additionalProperties": entry });
    }
    entry["description"] = section.about.into();
    entry
}

/// One table: the common keys, those of the kind, and `kind` itself.
fn entry_schema(section: &Section, kind: &Kind) -> Value {
    let mut entry = kind.keys.clone();
    let common = section.common.as_ref();
    for (name, key) in common.and_then(|it| it["properties"].as_object()).into_iter().flatten() {
        entry["properties"][name] = key.clone();
    }
    let mut required: Vec<Value> = Vec::new();
    for list in [common.map(|it| &it["required"]), Some(&kind.keys["required"])].into_iter().flatten() {
        required.extend(list.as_array().into_iter().flatten().cloned());
    }
    if let Some(word) = kind.word {
        entry["properties"]["kind"] = json!({ "const": word, "description": kind.about });
        if !kind.is_default {
            required.push("kind".into());
        }
    }
    entry["type"] = "object".into();
    if entry.get("additionalProperties").is_none() {
        entry["additionalProperties"] = false.into();
    }
    entry["description"] = kind.about.into();
    if let Some(table) = entry.as_object_mut() {
        table.remove("required");
        if !required.is_empty() {
            table.insert("required".to_owned(), required.into());
        }
    }
    entry
}

/// Keys whose value `param` and `matrix` cannot give, since they are used before these are known.
const NOT_FOLDED: &[&str] = &["steps", "kind", "recipe", "with", "matrix", "parameters", "enabled"];

/// In builders and recipes an expression over `param` or `matrix` may stand for any value: a duration, a list, true or false.
fn allow_expressions(entry: &mut Value) {
    for (name, key) in entry["properties"].as_object_mut().into_iter().flatten() {
        if name == "steps" {
            for step in key["items"]["oneOf"].as_array_mut().into_iter().flatten() {
                allow_expressions(step);
            }
        }
        if NOT_FOLDED.contains(&name.as_str()) {
            continue;
        }
        let plain = (key["type"] == "string" && key.get("pattern").is_none())
            || key.get("type").is_none() && key.get("oneOf").is_none();
        let Some(table) = key.as_object_mut().filter(|_| !plain) else { continue };
        let outer = ["description", "default", "x-form"].map(|it| (it, table.remove(it)));
        let mut whole = json!({ "anyOf": [&*table, { "type": "string", "pattern": "\\$\\{\\{" }] });
        for (name, value) in outer {
            if let Some(value) = value {
                whole[name] = value;
            }
        }
        *key = whole;
    }
}
