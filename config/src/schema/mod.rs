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
    let mut properties = Map::new();
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
    entry["additionalProperties"] = false.into();
    entry["description"] = kind.about.into();
    if let Some(table) = entry.as_object_mut() {
        table.remove("required");
        if !required.is_empty() {
            table.insert("required".to_owned(), required.into());
        }
    }
    entry
}
