//! What `greenroom config show` prints: the merged configuration as TOML or JSON, and where each value comes from.

use serde_json::{Map, Value as Json, json};

use crate::extract::dotted;
use crate::load::{Loaded, Origin};

/// What is shown for a secret.
const HIDDEN: &str = "***";
/// The column at which origins stand, unless the value is longer.
const COLUMN: usize = 48;

/// How to show it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// With the place that each value comes from.
    pub origin: bool,
    /// With colours of a terminal.
    pub color: bool,
}

/// The configuration as TOML, as it was written: recipes and matrices are not put in. Secrets are `"***"`.
pub fn toml(loaded: &Loaded, style: Style) -> String {
    let values = loaded.written.shown(HIDDEN);
    let mut printer = Printer { loaded, style, text: String::new() };
    if let Json::Object(root) = &values {
        printer.table(root, &mut Vec::new(), false);
    }
    printer.text
}

/// The same as JSON: `{"values": …, "origins": {KEY: {"source", "line", "column"}}}`.
pub fn json(loaded: &Loaded) -> Json {
    let origin =
        |it: &Origin| json!({ "source": it.source, "given": it.given, "line": it.line, "column": it.column });
    let origins: Map<String, Json> =
        loaded.origins.iter().map(|(key, it)| (key.clone(), origin(it))).collect();
    json!({ "values": loaded.written.shown(HIDDEN), "origins": origins })
}

/// Where a value comes from, for people: `ci.toml:12`, `GREENROOM_MASTER__TITLE`, `--set master.title`, `built-in`.
pub fn origin_words(origin: &Origin) -> String {
    match &origin.given {
        Some(given) if origin.source == "--set" => format!("--set {given}"),
        Some(given) => given.clone(),
        None if origin.source == "built-in defaults" => "built-in".to_owned(),
        None => format!("{}:{}", origin.source, origin.line),
    }
}

struct Printer<'a> {
    loaded: &'a Loaded,
    style: Style,
    text: String,
}

impl Printer<'_> {
    /// Values first, then the tables within, as TOML wants it.
    fn table(&mut self, table: &Map<String, Json>, path: &mut Vec<String>, of_list: bool) {
        let (tables, values): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| is_table(value));
        if !path.is_empty() && (of_list || !values.is_empty() || tables.is_empty()) {
            self.header(path, of_list);
        }
        for (key, value) in values {
            path.push(key.clone());
            self.value(key, value, path);
            path.pop();
        }
        for (key, value) in tables {
            path.push(key.clone());
            match value {
                Json::Object(inner) => self.table(inner, path, false),
                Json::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        path.push(index.to_string());
                        if let Json::Object(inner) = item {
                            self.table(inner, path, true);
                        }
                        path.pop();
                    }
                }
                _ => {}
            }
            path.pop();
        }
    }

    fn header(&mut self, path: &[String], of_list: bool) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        // The elements of a list of tables have no number in TOML.
        let names = path.iter().filter(|it| it.parse::<usize>().is_err() || path.len() == 1);
        let names: Vec<String> = names.map(|it| key_text(it)).collect();
        let name = names.join(".");
        let header = if of_list { format!("[[{name}]]") } else { format!("[{name}]") };
        self.line(&header, "1;36");
        self.text.push('\n');
    }

    fn value(&mut self, key: &str, value: &Json, path: &[String]) {
        let text = format!("{} = {}", key_text(key), value_text(value));
        self.text.push_str(&text);
        if self.style.origin
            && let Some(origin) = self.origin(&dotted(path)).map(origin_words)
        {
            // A text of several lines has none that a comment could follow but the last.
            let width = text.chars().rev().take_while(|it| *it != '\n').count();
            self.text.push_str(&" ".repeat(COLUMN.saturating_sub(width).max(1)));
            self.line(&format!("# {origin}"), "2");
        }
        self.text.push('\n');
    }

    /// Of a secret that is kept elsewhere, where that is said.
    fn origin(&self, key: &str) -> Option<&Origin> {
        let below = |part| self.loaded.origins.get(&format!("{key}.{part}"));
        self.loaded.origins.get(key).or_else(|| ["file", "env", "command"].into_iter().find_map(below))
    }

    fn line(&mut self, text: &str, color: &str) {
        match self.style.color {
            true => self.text.push_str(&format!("\u{1b}[{color}m{text}\u{1b}[0m")),
            false => self.text.push_str(text),
        }
    }
}

/// Whether a value is shown as tables of its own.
fn is_table(value: &Json) -> bool {
    match value {
        Json::Object(_) => true,
        Json::Array(items) => !items.is_empty() && items.iter().all(Json::is_object),
        _ => false,
    }
}

fn key_text(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|it| it.is_ascii_alphanumeric() || it == '-' || it == '_');
    if bare { key.to_owned() } else { toml::Value::from(key).to_string() }
}

fn value_text(value: &Json) -> String {
    // What was merged came from TOML; null, which TOML has not, does not occur.
    toml::Value::try_from(value).map(|it| it.to_string()).unwrap_or_default()
}
