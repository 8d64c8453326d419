//! One layer of the configuration: its text, its values, and where each of them stands.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Metadata, Profile, Provider};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::{Fault, Place};
use crate::stored::Original;
use crate::values::Secret;
use crate::values::url_passwords;

/// Where a layer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `defaults.toml`.
    BuiltIn,
    /// A file, with the directory that relative paths in it are relative to.
    File(PathBuf),
    /// One variable or flag: its value as it was given, for fields that want text where it looks like a number.
    Given(String),
}

/// One layer.
pub(crate) struct Source {
    pub name: String,
    pub kind: Kind,
    /// The text to show: secrets are blotted out, byte for byte.
    pub text: Arc<str>,
    pub root: Node,
    pub values: Dict,
    /// What it was read from, to be stored.
    pub original: Original,
}

/// Where a value and its key stand in the text of a [`Source`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub key: Range<usize>,
    pub value: Range<usize>,
    pub table: BTreeMap<String, Node>,
    pub list: Vec<Node>,
}

impl Node {
    pub fn get(&self, path: &[String]) -> Option<&Node> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let child = self.table.get(first).or_else(|| self.list.get(first.parse::<usize>().ok()?));
        child?.get(rest)
    }
}

impl Source {
    /// Reads a TOML text.
    ///
    /// # Errors
    /// With all faults of syntax in it.
    pub fn parse(name: String, kind: Kind, layer: usize, text: &str) -> Result<Source, Vec<Fault>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let shown: Arc<str> = blot_lines(text).into();
            let fault = |error: &toml::de::Error| Fault {
                place: Some(Place::new(&name, layer, &shown, error.span().unwrap_or(0..0))),
                ..duplicate(&shown, error).unwrap_or_else(|| Fault::error("syntax", error.message()))
            };
            return Err(errors.iter().map(fault).collect());
        }
        let mut shown = text.as_bytes().to_vec();
        let (root, values) = table(document.get_ref());
        blot_root(&root, &mut shown);
        let shown = String::from_utf8(shown).unwrap_or_default();
        let original = Original::File(Secret::new(text));
        Ok(Source { name, kind, text: shown.into(), root, values, original })
    }

    /// A layer that sets one value: `prefix` + `text` is what is shown.
    pub fn given(name: &str, prefix: &str, path: &[String], text: &str) -> Source {
        let line = format!("{prefix}{text}");
        let mut node = Node {
            key: 0..prefix.len().saturating_sub(1),
            value: prefix.len()..line.len(),
            ..Node::default()
        };
        let mut value = parse_value(text);
        for name in path.iter().rev() {
            let (key, span) = (node.key.clone(), node.value.clone());
            let table = BTreeMap::from([(name.clone(), node)]);
            node = Node { key, value: span, table, list: Vec::new() };
            value = Value::from(Dict::from([(name.clone(), value)]));
        }
        let mut shown = line.into_bytes();
        blot_root(&node, &mut shown);
        let shown = String::from_utf8(shown).unwrap_or_default();
        let values = value.into_dict().unwrap_or_default();
        Source {
            name: name.to_owned(),
            kind: Kind::Given(text.to_owned()),
            text: shown.into(),
            root: node,
            values,
            original: Original::Given {
                prefix: prefix.to_owned(),
                path: path.to_vec(),
                text: Secret::new(text),
            },
        }
    }
}

impl Provider for &Source {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The value of a variable or flag: TOML if it is, else the text itself.
fn parse_value(text: &str) -> Value {
    match DeValue::parse(text) {
        Ok(value) => convert(value.get_ref(), value.span()).1,
        Err(_) => Value::from(text),
    }
}

fn table(table: &DeTable<'_>) -> (Node, Dict) {
    let (mut node, mut dict) = (Node::default(), Dict::new());
    for (key, value) in table {
        let (child, converted) = convert(value.get_ref(), value.span());
        let name = key.get_ref().to_string();
        node.table.insert(name.clone(), Node { key: key.span(), ..child });
        dict.insert(name, converted);
    }
    (node, dict)
}

fn convert(value: &DeValue<'_>, span: Range<usize>) -> (Node, Value) {
    let leaf = Node { value: span.clone(), ..Node::default() };
    match value {
        DeValue::String(text) => (leaf, Value::from(text.to_string())),
        DeValue::Integer(number) => {
            // What fits no 64 bits is kept as text, so that the field's own check refuses it.
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            (leaf, parsed.map_or_else(|_| Value::from(number.to_string()), Value::from))
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().parse::<f64>();
            (leaf, parsed.map_or_else(|_| Value::from(number.as_str()), Value::from))
        }
        DeValue::Boolean(value) => (leaf, Value::from(*value)),
        DeValue::Datetime(time) => (leaf, Value::from(time.to_string())),
        DeValue::Array(items) => {
            let (nodes, values) = items
                .iter()
                .map(|item: &Spanned<DeValue<'_>>| {
                    let (node, value) = convert(item.get_ref(), item.span());
                    (Node { key: item.span(), ..node }, value)
                })
                .unzip();
            (Node { list: nodes, ..leaf }, Value::Array(Tag::Default, values))
        }
        DeValue::Table(inner) => {
            let (node, dict) = table(inner);
            (Node { value: span, ..node }, Value::from(dict))
        }
    }
}

/// A key that is there twice: its name, and for a table's the line of the first.
fn duplicate(text: &str, error: &toml::de::Error) -> Option<Fault> {
    let span = error.span().filter(|_| error.message() == "duplicate key")?;
    let fault = Fault::error("syntax", format!("duplicate key `{}`", text.get(span.clone())?));
    let begin = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let header = text.get(begin..)?.lines().next()?.trim();
    let first = text.get(..begin)?.lines().position(|it| it.trim() == header && header.starts_with('['));
    Some(match first {
        Some(index) => fault.help(format!("`{header}` is in line {} already", index + 1)),
        None => fault,
    })
}

/// What the names of secrets have in them: faults show lines before anything is read.
const SECRET_WORDS: &[&str] = &["password", "passphrase", "secret", "token", "-key"];

/// Keys whose strings are never shown, by what they are called.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    name == "key" || SECRET_WORDS.iter().any(|it| name.contains(it))
}

/// Overwrites the secrets of a whole configuration, byte for byte, so that places stay true.
fn blot_root(root: &Node, text: &mut [u8]) {
    blot(root, text);
    // The names of these keys do not tell that their values are read as secrets.
    for notifier in root.table.get("notifiers").into_iter().flat_map(|it| it.table.values()) {
        if let Some(headers) = notifier.table.get("headers") {
            headers.table.values().for_each(|it| blot_all(it, text));
        }
        match notifier.table.get("url") {
            Some(url) if url.table.is_empty() && url.list.is_empty() => blot_path(url, text),
            Some(url) => blot_all(url, text),
            None => {}
        }
    }
}

/// Overwrites a URL but for its scheme and host, which say where it is and give nobody the right to use it; all of what is none.
fn blot_path(node: &Node, text: &mut [u8]) {
    let Some(value) = text.get_mut(node.value.clone()) else { return };
    let written = String::from_utf8_lossy(value).into_owned();
    let bare = written.trim_start_matches(['"', '\'']);
    let begin = written.len() - bare.len();
    let scheme = ["https://", "http://"].into_iter().find(|it| bare.starts_with(it)).map_or(0, str::len);
    let host = |it: char| it.is_ascii_alphanumeric() || ".-:[]".contains(it);
    let rest = bare.get(scheme..).unwrap_or_default();
    let end = if scheme == 0 { 0 } else { rest.find(|it| !host(it)).unwrap_or(rest.len()) };
    // What stands before an `@` is no host.
    let kept = if rest[end..].starts_with('@') { begin + scheme } else { begin + scheme + end };
    value.iter_mut().skip(kept).filter(|it| !matches!(it, b'"' | b'\'' | b'\n')).for_each(|it| *it = b'*');
}

/// Overwrites strings that are secrets by the names of their keys.
fn blot(node: &Node, text: &mut [u8]) {
    for (name, child) in &node.table {
        if is_secret(name) { blot_all(child, text) } else { blot(child, text) }
    }
    node.list.iter().for_each(|child| blot(child, text));
    if node.table.is_empty() && node.list.is_empty() {
        blot_url(node, text);
    }
}

/// Overwrites the passwords in a string's URLs.
fn blot_url(node: &Node, text: &mut [u8]) {
    let Some(value) = text.get_mut(node.value.clone()) else { return };
    let places = std::str::from_utf8(value).map(url_passwords).unwrap_or_default();
    places.into_iter().filter_map(|it| value.get_mut(it).map(|it| it.fill(b'*'))).for_each(drop);
}

/// Overwrites a secret; where to find one (`{ file = … }`, `{ env = … }`, `{ command = … }`) is none.
fn blot_all(node: &Node, text: &mut [u8]) {
    for (_, child) in
        node.table.iter().filter(|(name, _)| !matches!(name.as_str(), "file" | "env" | "command"))
    {
        blot_all(child, text);
    }
    if node.table.is_empty()
        && let Some(value) = text.get_mut(node.value.clone())
    {
        value.iter_mut().filter(|it| !matches!(it, b'"' | b'\'' | b'\n')).for_each(|it| *it = b'*');
    }
}

/// For texts that do not parse: whatever follows a secret's name on its line.
fn blot_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut text = text.to_owned();
    for place in url_passwords(&text) {
        text.replace_range(place.clone(), &"*".repeat(place.len()));
    }
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        let named = ["url", "headers"].into_iter().find(|it| {
            lower.trim_start().strip_prefix(it).is_some_and(|it| it.trim_start().starts_with(['=', '.']))
        });
        let named = named.and_then(|word| Some(lower.find(word)? + word.len()));
        let ends = SECRET_WORDS.iter().filter_map(|word| Some(lower.find(word)? + word.len())).chain(named);
        let end = ends.min().unwrap_or(line.len());
        shown.push_str(&line[..end]);
        shown.extend(line[end..].bytes().map(|it| match it {
            b'=' | b' ' | b'"' | b'\'' | b'{' | b'}' | b'\n' | b'\r' => char::from(it),
            _ => '*',
        }));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What faults show of a text.
    fn shown(text: &str) -> String {
        match Source::parse("f".to_owned(), Kind::BuiltIn, 0, text) {
            Ok(source) => source.text.to_string(),
            Err(faults) => faults.iter().map(|it| it.render(false)).collect(),
        }
    }

    #[test]
    fn urls_and_headers_of_webhooks_are_not_shown() {
        for (written, wanted) in [
            (
                "'https://hooks.example.org:8443/T0/S3CRET?k=1'",
                "'https://hooks.example.org:8443**************'",
            ),
            ("\"http://S3CRET@x.org\"", "\"http://************\""),
            ("'x.org/S3CRET'", "'************'"),
            ("['S3CRET']", "**********"),
            ("{ env = 'HOOK' }", "{ env = 'HOOK' }"),
        ] {
            let text = format!("[notifiers.hook]\nkind = 'webhook'\nurl = {written}\n");
            let found = shown(&text);
            assert!(!found.contains("S3CRET"), "{found}");
            assert_eq!(found.len(), text.len(), "places stay true");
            assert!(found.contains(wanted) || written.starts_with('['), "{found}");
        }
        let text = "[notifiers.hook]\nheaders = { X = 'S3CRET' }\n[notifiers.hook.headers.y]\na = 'b'\n";
        assert!(!shown(text).contains("S3CRET"), "{}", shown(text));
        let text = "notifiers.hook = { url = 'https://x.org/S3CRET', headers = { A = 'S3CRET' } }\n";
        assert!(!shown(text).contains("S3CRET"), "{}", shown(text));
        // Texts that do not parse.
        for line in
            ["url = 'https://x.org/S3CRET", "headers = { X = 'S3CRET'", "headers.X = 'S3CRET", " url=S3CRET"]
        {
            let found = shown(&format!("[notifiers.hook]\n{line}\n"));
            assert!(!found.contains("S3CRET"), "{found}");
        }
        let plain =
            "[master]\nurl = 'https://ci.example.org/path'\n[change-sources.r]\nurl = 'https://x.org/y'\n";
        assert_eq!(shown(plain), plain, "other urls are no secrets");
    }
}
