//! The reference of all keys, in Markdown.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::tables::{Section, enabled, include, steps};

const HEAD: &str = "\
# Configuration reference

All tables and keys of a configuration file, with their types and defaults. This page is generated from the program's own types
(`greenroom schema` prints the same as a JSON schema); how the parts play together, and what a `${{ … }}` may say, stands in the
[user guide](../user-guide/configuration.md).

| a type called … | is written |
|---|---|
| duration | a text with units: `\"30s\"`, `\"20m\"`, `\"1h 30m\"`, `\"50ms\"` (us, ms, s, m, h, d, w) |
| size | a text with a unit: `\"1 MiB\"`, `\"500 kB\"`, `\"4096 B\"` (KiB, MiB, GiB, kB, MB, GB, B) |
| glob or list of globs | `\"release-*\"` or `[\"main\", \"release-*\"]`; any of them may match. In names `*` also matches `/`; in paths of files it stays within a directory, and `**` crosses them |
| word | one of the texts that stand with the key |
| secret | the text itself, `{ file = \"PATH\" }`, `{ env = \"VARIABLE\" }` or `{ command = [\"PROGRAM\", …] }` |
";

/// Writes it.
pub(super) fn write(sections: &[Section]) -> String {
    let mut page = HEAD.to_owned();
    let about = "Before all tables: files that belong to this one, and in every table with a name of its own whether it counts.";
    heading(&mut page, 2, "`include`, `enabled`", about);
    keys(&mut page, &json!({ "properties": { "include": include(), "enabled": enabled() } }));
    for section in sections {
        let name =
            if section.keyed { format!("[{}.NAME]", section.name) } else { format!("[{}]", section.name) };
        write_section(&mut page, section, &name);
        if section.name == "builders" {
            write_section(&mut page, &steps(), "[[builders.NAME.steps]]");
        }
    }
    page
}

fn write_section(page: &mut String, section: &Section, name: &str) {
    heading(page, 2, &format!("`{name}`"), section.about);
    if let Some(common) = &section.common {
        let _ = writeln!(page, "\nKeys of every kind:");
        keys(page, common);
    }
    // Kinds with the same keys stand together.
    for alike in section.kinds.chunk_by(|one, other| one.keys == other.keys) {
        for kind in alike {
            if let Some(word) = kind.word {
                let default = if kind.is_default { " (or no `kind`)" } else { "" };
                heading(page, 3, &format!("`kind = \"{word}\"`{default}"), kind.about);
            }
        }
        if let Some(kind) = alike.first() {
            keys(page, &kind.keys);
            nested(page, &kind.keys, name);
        }
    }
}

fn heading(page: &mut String, level: usize, title: &str, about: &str) {
    let _ = writeln!(page, "\n{} {title}\n\n{about}", "#".repeat(level));
}

/// A table of keys.
fn keys(page: &mut String, object: &Value) {
    let empty = Map::new();
    let properties = object["properties"].as_object().unwrap_or(&empty);
    let any = Some(&object["additionalProperties"]).filter(|it| it.is_object());
    if properties.is_empty() && any.is_none() {
        return;
    }
    let _ = writeln!(page, "\n| key | type | default | meaning |\n|---|---|---|---|");
    if let Some(any) = any {
        let about = any["description"].as_str().unwrap_or_default();
        let _ = writeln!(page, "| *NAME* | {} |  | {} |", cell(&form(any)), cell(about));
    }
    for (key, schema) in properties {
        let needed = object["required"].as_array().is_some_and(|it| it.iter().any(|it| it == key));
        let default = match schema.get("default") {
            Some(value) => format!("`{}`", toml_text(value)),
            None if needed => "**needed**".to_owned(),
            None => String::new(),
        };
        let mut meaning = schema["description"].as_str().unwrap_or_default().to_owned();
        for (word, about) in words(schema) {
            let _ = write!(meaning, "{}`\"{word}\"`: {about}", if meaning.is_empty() { "" } else { "<br>" });
        }
        let mut kind = form(schema);
        if below(schema).is_some() {
            kind.push_str(", see below");
        }
        let _ = writeln!(page, "| `{key}` | {} | {} | {} |", cell(&kind), cell(&default), cell(&meaning));
    }
}

/// The tables within a table, with headings of their own; those that are alike under one.
fn nested(page: &mut String, keys_of: &Value, name: &str) {
    let mut found: Vec<(&Value, Vec<String>)> = Vec::new();
    for (key, schema) in keys_of["properties"].as_object().into_iter().flatten() {
        let Some(object) = below(schema) else { continue };
        match found.iter_mut().find(|(known, _)| *known == object) {
            Some((_, names)) => names.push(format!("`{key}`")),
            None => found.push((object, vec![format!("`{key}`")])),
        }
    }
    for (object, names) in found {
        let _ = writeln!(page, "\n#### {} of `{name}`", names.join(" and "));
        keys(page, object);
    }
}

/// The object with keys of its own that a value is, or that its elements are.
fn below(schema: &Value) -> Option<&Value> {
    let is_table = |it: &&Value| it["properties"].is_object() && it.get("x-form").is_none();
    [schema, &schema["items"], &schema["additionalProperties"]].into_iter().find(is_table)
}

/// The words that a value (or an element of it) may be, with what they mean.
fn words(schema: &Value) -> Vec<(&str, &str)> {
    let lists = [&schema["oneOf"], &schema["anyOf"][0]["oneOf"], &schema["items"]["oneOf"]];
    let choices = lists.into_iter().chain([&schema["additionalProperties"]["items"]["oneOf"]]);
    let Some(choices) = choices.filter_map(Value::as_array).next() else { return Vec::new() };
    choices.iter().filter_map(|it| Some((it["const"].as_str()?, it["description"].as_str()?))).collect()
}

/// The type in words.
fn form(schema: &Value) -> String {
    if let Some(form) = schema["x-form"].as_str() {
        return form.to_owned();
    }
    if schema["oneOf"].as_array().is_some_and(|it| it.len() > 1) && !words(schema).is_empty() {
        return "word".to_owned();
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let forms: Vec<String> = choices.iter().map(form).collect();
        return forms.join(" or ");
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("`\"{word}\"`");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|it| format!("`{it}`")).collect();
        return words.join(" or ");
    }
    match schema["type"].as_str() {
        Some("integer") => match schema["minimum"].as_u64() {
            Some(minimum @ 1..) => format!("whole number, at least {minimum}"),
            _ => "whole number".to_owned(),
        },
        Some("boolean") => "true or false".to_owned(),
        Some("string") => "text".to_owned(),
        Some("array") => match form(&schema["items"]).as_str() {
            "table" => "list of tables".to_owned(),
            "word" => "list of words".to_owned(),
            items => format!("list of {items}"),
        },
        Some("object") if schema["properties"].is_object() => "table".to_owned(),
        Some("object") => match &schema["additionalProperties"] {
            Value::Object(value) if !value.is_empty() => {
                format!("table of {}", form(&schema["additionalProperties"]))
            }
            _ => match schema["patternProperties"].as_object().and_then(|it| it.values().next()) {
                Some(value) => format!("table of {}", form(value)),
                None => "table".to_owned(),
            },
        },
        _ => "any value".to_owned(),
    }
}

/// A default as TOML would say it.
fn toml_text(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let entries: Vec<String> =
                table.iter().map(|(key, it)| format!("{key} = {}", toml_text(it))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(toml_text).collect::<Vec<_>>().join(", ")),
        scalar => scalar.to_string(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
