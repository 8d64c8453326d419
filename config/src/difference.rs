//! What one configuration changes of another, by section, table and key: for people, and for the record of a reload.
//!
//! The typed settings decide *what* differs (an option that is written out with its default changes nothing); the merged
//! values say *how*. Secrets are only named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use figment::value::Value as Merged;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;

use crate::Settings;
use crate::extract::dotted;
use crate::secrets::Secrets;
use crate::source::is_secret;
use crate::values::url_passwords;

/// The most tables that a difference names, and the most keys of each.
const MOST_COMPONENTS: usize = 200;
const MOST_KEYS: usize = 20;
/// The longest value that a difference shows, in characters of JSON.
const LONGEST_VALUE: usize = 120;
/// Stands where a secret was.
const SECRET: &str = "\u{1f}secret";

/// All values of a configuration after all layers; secrets are taken out.
#[derive(Clone, Debug, PartialEq)]
pub struct Values(Value);

impl Values {
    pub(crate) fn new(merged: &Merged, secrets: &Secrets) -> Self {
        let known: BTreeSet<&str> = secrets.keys().collect();
        // What figment merged came from TOML, so it is data that JSON knows too.
        let mut values = serde_json::to_value(merged).unwrap_or_default();
        take_out(&mut values, &mut Vec::new(), &known);
        Values(values)
    }

    /// The values, with `hidden` where secrets and passwords in URLs were.
    pub(crate) fn shown(&self, hidden: &str) -> Value {
        let mut values = self.0.clone();
        hide(&mut values, hidden);
        values
    }

    /// Tells these values, with their secrets, apart from all others, without telling anything of them to whoever lacks `key`.
    pub fn digest(&self, secrets: &Secrets, key: &[u8]) -> String {
        // A key of any length will do.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
        mac.update(self.0.to_string().as_bytes());
        for (at, secret) in secrets.iter() {
            for part in [at, secret.expose()] {
                mac.update(&(part.len() as u64).to_be_bytes());
                mac.update(part.as_bytes());
            }
        }
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn hide(value: &mut Value, hidden: &str) {
    match value {
        Value::String(text) if text == SECRET => *text = hidden.to_owned(),
        Value::String(text) => {
            for place in url_passwords(text).into_iter().rev() {
                text.replace_range(place, hidden);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|it| hide(it, hidden)),
        Value::Object(table) => table.values_mut().for_each(|it| hide(it, hidden)),
        _ => {}
    }
}

fn take_out(value: &mut Value, path: &mut Vec<String>, known: &BTreeSet<&str>) {
    if known.contains(dotted(path).as_str()) {
        *value = SECRET.into();
        return;
    }
    match value {
        Value::Object(table) => {
            for (name, child) in table {
                path.push(name.clone());
                take_out(child, path, known);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                take_out(child, path, known);
                path.pop();
            }
        }
        _ => {}
    }
}

/// What happened to a table or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It is there with another value.
    Changed,
}

/// A key with another value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyChange {
    /// Within its table, such as `steps[0].run`.
    pub key: String,
    /// What happened to it.
    pub change: ChangeKind,
    /// Its value before, as JSON, shortened; none for a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its value now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether its values are not shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// A section without names (`master`), or one table of a section (`[workers.w1]`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentChange {
    /// Such as `workers`.
    pub section: String,
    /// Such as `w1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happened to it.
    pub change: ChangeKind,
    /// Which keys; none if it is new or gone, or if it differs by what it is made from, such as a recipe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyChange>,
    /// How many more keys differ.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_keys: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What a configuration changes of the one before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// In the order of sections and names, at most 200.
    pub components: Vec<ComponentChange>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
}

/// The names of a keyed table that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names<'a> {
    /// Only in the new one.
    pub added: Vec<&'a str>,
    /// Only in the old one.
    pub removed: Vec<&'a str>,
    /// In both, and different.
    pub changed: Vec<&'a str>,
}

/// Compares two keyed tables.
pub fn names<'a, T: PartialEq>(old: &'a BTreeMap<String, T>, new: &'a BTreeMap<String, T>) -> Names<'a> {
    let mut names = Names::default();
    for (name, value) in new {
        match old.get(name) {
            None => names.added.push(name),
            Some(before) if before != value => names.changed.push(name),
            Some(_) => {}
        }
    }
    names.removed = old.keys().filter(|name| !new.contains_key(*name)).map(String::as_str).collect();
    names
}

impl Difference {
    /// Compares two configurations.
    pub fn between(old: (&Settings, &Values), new: (&Settings, &Values)) -> Self {
        let empty = serde_json::Map::new();
        let (before, after) = (old.1.0.as_object().unwrap_or(&empty), new.1.0.as_object().unwrap_or(&empty));
        let sections: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let mut found = Found { settings: (old.0, new.0), components: Vec::new() };
        for section in sections {
            let (old, new) = (before.get(section), after.get(section));
            if is_keyed(old) && is_keyed(new) {
                let tables =
                    |it: Option<&'_ Value>| it.and_then(Value::as_object).cloned().unwrap_or_default();
                let (old, new) = (tables(old), tables(new));
                let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                names
                    .into_iter()
                    .for_each(|name| found.look(section, Some(name), old.get(name), new.get(name)));
            } else {
                found.look(section, None, old, new);
            }
        }
        let mut components = found.components;
        let more = components.len().saturating_sub(MOST_COMPONENTS);
        components.truncate(MOST_COMPONENTS);
        Difference { components, more }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// In a few words: `2 builders added, 1 worker changed`.
    pub fn summary(&self) -> String {
        let mut counts: BTreeMap<(String, ChangeKind), usize> = BTreeMap::new();
        for it in &self.components {
            let word = if it.name.is_some() { it.section.clone() } else { format!("[{}]", it.section) };
            *counts.entry((word, it.change)).or_default() += 1;
        }
        let mut words: Vec<String> = counts
            .into_iter()
            .map(|((section, change), count)| {
                let what = change.word();
                if section.starts_with('[') {
                    return format!("{section} {what}");
                }
                let section = section.replace('-', " ");
                let section = if count == 1 { section.trim_end_matches('s').to_owned() } else { section };
                format!("{count} {section} {what}")
            })
            .collect();
        if self.more > 0 {
            words.push(format!("{} more", self.more));
        }
        if words.is_empty() { "nothing differs".to_owned() } else { words.join(", ") }
    }
}

impl ChangeKind {
    fn word(self) -> &'static str {
        match self {
            ChangeKind::Added => "added",
            ChangeKind::Removed => "removed",
            ChangeKind::Changed => "changed",
        }
    }

    fn sign(self) -> char {
        match self {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed => '~',
        }
    }
}

/// For people, a line for each table and key.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for it in &self.components {
            let path: Vec<String> = std::iter::once(&it.section).chain(&it.name).cloned().collect();
            writeln!(f, "{} [{}]", it.change.sign(), dotted(&path))?;
            for key in &it.keys {
                let what = match (&key.from, &key.to) {
                    _ if key.secret => format!("{} (secret)", key.change.word()),
                    (Some(from), Some(to)) => format!("{from} → {to}"),
                    (None, Some(to)) => to.clone(),
                    (Some(from), None) => from.clone(),
                    (None, None) => key.change.word().to_owned(),
                };
                writeln!(f, "    {} {}: {what}", key.change.sign(), key.key)?;
            }
            if it.more_keys > 0 {
                writeln!(f, "    … and {} more keys", it.more_keys)?;
            }
        }
        if self.more > 0 {
            writeln!(f, "… and {} more", self.more)?;
        }
        Ok(())
    }
}

/// Whether a section holds tables by name. (One that is not there may be either.)
fn is_keyed(section: Option<&Value>) -> bool {
    section.is_none_or(|it| it.as_object().is_some_and(|it| it.values().all(Value::is_object)))
}

struct Found<'a> {
    settings: (&'a Settings, &'a Settings),
    components: Vec<ComponentChange>,
}

impl Found<'_> {
    fn look(&mut self, section: &str, name: Option<&String>, old: Option<&Value>, new: Option<&Value>) {
        let change = match (old, new) {
            (None, Some(_)) => ChangeKind::Added,
            (Some(_), None) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        };
        let same = same(self.settings, section, name.map(String::as_str)).unwrap_or(old == new);
        if change == ChangeKind::Changed && same {
            return;
        }
        let mut keys = Vec::new();
        if change == ChangeKind::Changed {
            let mut path: Vec<String> = std::iter::once(section.to_owned()).chain(name.cloned()).collect();
            let secrets = (&self.settings.0.secrets, &self.settings.1.secrets);
            let base = path.len();
            let mut look = Keys { base, secrets, found: &mut keys };
            look.compare(&mut path, old, new);
        }
        let more_keys = keys.len().saturating_sub(MOST_KEYS);
        keys.truncate(MOST_KEYS);
        let (section, name) = (section.to_owned(), name.cloned());
        self.components.push(ComponentChange { section, name, change, keys, more_keys });
    }
}

/// Whether a part of the typed settings is the same; none for what they do not hold as it is written.
fn same((old, new): (&Settings, &Settings), section: &str, name: Option<&str>) -> Option<bool> {
    fn in_both<T: PartialEq>(
        old: &BTreeMap<String, T>,
        new: &BTreeMap<String, T>,
        name: &str,
    ) -> Option<bool> {
        Some(old.get(name)? == new.get(name)?)
    }
    match (section, name) {
        ("master", None) => Some(old.master == new.master),
        ("database", None) => Some(old.database == new.database),
        ("mq", None) => Some(old.mq == new.mq),
        ("www", None) => Some(old.www == new.www),
        ("supervision", None) => Some(old.supervision == new.supervision),
        ("logs", None) => Some(old.logs == new.logs),
        ("retention", None) => Some(old.retention == new.retention),
        ("workers", Some(name)) => in_both(&old.workers, &new.workers, name),
        ("change-sources", Some(name)) => in_both(&old.change_sources, &new.change_sources, name),
        ("schedulers", Some(name)) => in_both(&old.schedulers, &new.schedulers, name),
        ("builders", Some(name)) => in_both(&old.builders, &new.builders, name),
        ("notifiers", Some(name)) => in_both(&old.notifiers, &new.notifiers, name),
        _ => None,
    }
}

struct Keys<'a> {
    /// How many elements of a path name the table.
    base: usize,
    secrets: (&'a Secrets, &'a Secrets),
    found: &'a mut Vec<KeyChange>,
}

impl Keys<'_> {
    fn compare(&mut self, path: &mut Vec<String>, old: Option<&Value>, new: Option<&Value>) {
        let key = dotted(path);
        let secret = (self.secrets.0.get(&key), self.secrets.1.get(&key));
        if let (Some(a), Some(b)) = secret
            && a == b
        {
            return;
        }
        let is_hidden = secret != (None, None);
        if old == new && !is_hidden && !any_secret(old) {
            return;
        }
        match (old, new) {
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for name in names {
                    path.push(name.clone());
                    self.compare(path, a.get(name), b.get(name));
                    path.pop();
                }
            }
            (Some(Value::Array(a)), Some(Value::Array(b)))
                if of_tables(a) && of_tables(b) || any_secret(old) || any_secret(new) =>
            {
                for index in 0..a.len().max(b.len()) {
                    path.push(index.to_string());
                    self.compare(path, a.get(index), b.get(index));
                    path.pop();
                }
            }
            _ => self.note(path, old, new, is_hidden),
        }
    }

    fn note(&mut self, path: &[String], old: Option<&Value>, new: Option<&Value>, hidden: bool) {
        let change = match (old, new) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        };
        let by_name = path.get(self.base..).unwrap_or_default().iter().any(|name| is_secret(name));
        let secret = hidden || by_name || any_secret(old) || any_secret(new);
        let shown = |it: Option<&Value>| it.filter(|_| !secret).map(shown);
        let key = dotted(path.get(self.base..).unwrap_or_default());
        self.found.push(KeyChange { key, change, from: shown(old), to: shown(new), secret });
    }
}

fn of_tables(items: &[Value]) -> bool {
    items.iter().all(Value::is_object)
}

/// Whether there is a secret somewhere in a value, or something that is called one.
fn any_secret(value: Option<&Value>) -> bool {
    match value {
        Some(Value::String(text)) => text == SECRET,
        Some(Value::Array(items)) => items.iter().any(|it| any_secret(Some(it))),
        Some(Value::Object(table)) => {
            table.iter().any(|(name, it)| it.is_string() && is_secret(name) || any_secret(Some(it)))
        }
        _ => false,
    }
}

/// A value as JSON, shortened; passwords in URLs are blotted out.
fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    for place in url_passwords(&text).into_iter().rev() {
        text.replace_range(place, "***");
    }
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Loaded, load_text};

    const BASE: &str = "[workers.w1]\npassword = 'old'\n[builders.b]\nenv = { TOKEN = 'abc', A = '1' }\n\
                        [[builders.b.steps]]\nrun = 'make'\n[schedulers.s]\nkind = 'force'\nbuilders = '*'\n";

    fn loaded(text: &str) -> Loaded {
        load_text(text, Path::new("/")).unwrap_or_else(|faults| panic!("{}", faults.render(false)))
    }

    fn difference(old: &str, new: &str) -> Difference {
        let (old, new) = (loaded(old), loaded(new));
        Difference::between((&old.settings, &old.values), (&new.settings, &new.values))
    }

    fn text(old: &str, new: &str) -> String {
        difference(old, new).to_string()
    }

    #[test]
    fn what_says_the_same_differs_in_nothing() {
        assert!(difference(BASE, BASE).is_empty());
        let written_out = BASE.replace("password = 'old'", "password = 'old' # a word\nmax-builds = 1");
        assert!(difference(BASE, &written_out).is_empty());
        assert_eq!(difference(BASE, &written_out).summary(), "nothing differs");
    }

    #[test]
    fn tables_and_keys_are_named_with_their_values() {
        let new =
            BASE.replace("run = 'make'", "run = 'make -j4'\ntimeout = '5m'").replace("A = '1'", "B = '2'")
                + "[workers.w2]\npassword = 'x'\n";
        assert_eq!(
            text(BASE, &new),
            "~ [builders.b]\n    - env.A: \"1\"\n    + env.B: \"2\"\n    ~ steps[0].run: \"make\" → \"make -j4\"\n    \
             + steps[0].timeout: \"5m\"\n+ [workers.w2]\n"
        );
        assert_eq!(text(&new, BASE).lines().last(), Some("- [workers.w2]"));
        assert_eq!(difference(BASE, &new).summary(), "1 builder changed, 1 worker added");
        assert_eq!(
            text(BASE, &format!("[master]\ntitle = 'x'\n{BASE}")),
            "~ [master]\n    ~ title: \"Greenroom\" → \"x\"\n"
        );
    }

    #[test]
    fn secrets_are_compared_and_not_shown() {
        let changed = text(BASE, &BASE.replace("'old'", "'new'"));
        assert_eq!(changed, "~ [workers.w1]\n    ~ password: changed (secret)\n");
        let named_so = text(BASE, &BASE.replace("'abc'", "'def'"));
        assert_eq!(named_so, "~ [builders.b]\n    ~ env.TOKEN: changed (secret)\n");
        let debug = format!("{:?} {:?}", loaded(BASE).values, loaded(BASE).layers);
        assert!(!debug.contains("old"), "{debug}");
    }

    #[test]
    fn a_secret_kept_elsewhere_is_compared_by_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pw");
        let config = BASE.replace("'old'", &format!("{{ file = '{}' }}", file.display()));
        std::fs::write(&file, "one").unwrap();
        let old = loaded(&config);
        std::fs::write(&file, "two").unwrap();
        let new = loaded(&config);
        let difference = Difference::between((&old.settings, &old.values), (&new.settings, &new.values));
        assert_eq!(difference.to_string(), "~ [workers.w1]\n    ~ password: changed (secret)\n");
        let digest = |it: &Loaded, key: &[u8]| it.values.digest(&it.settings.secrets, key);
        assert_ne!(digest(&old, b"k"), digest(&new, b"k"));
        assert_ne!(digest(&old, b"k"), digest(&old, b"l"));
        assert_eq!(digest(&old, b"k"), digest(&old.clone(), b"k"));
    }

    #[test]
    fn a_long_difference_is_cut() {
        let many =
            |n: usize| (0..n).map(|i| format!("[builders.b{i:03}]\n[[builders.b{i:03}.steps]]\nrun = 'x'\n"));
        let (few, all) = (many(1).collect::<String>(), many(300).collect::<String>());
        let difference = difference(&few, &all);
        assert_eq!((difference.components.len(), difference.more), (200, 99));
        assert!(difference.summary().ends_with("99 more"), "{}", difference.summary());
        let back: Difference = serde_json::from_value(serde_json::to_value(&difference).unwrap()).unwrap();
        assert_eq!(back, difference);
    }

    #[test]
    fn names_of_a_keyed_table() {
        let table = |text: &str| loaded(text).settings.workers;
        let old =
            table("[workers.a]\nkind = 'local'\n[workers.b]\nkind = 'local'\n[workers.c]\nkind = 'local'\n");
        let new = table(
            "[workers.b]\nkind = 'local'\nmax-builds = 2\n[workers.c]\nkind = 'local'\n[workers.d]\nkind = 'local'\n",
        );
        let names = names(&old, &new);
        assert_eq!((names.added, names.removed, names.changed), (vec!["d"], vec!["a"], vec!["b"]));
    }
}
