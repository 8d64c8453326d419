//! From merged values to typed settings: each table alone, and within one table on past each fault, so that all are found.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use figment::error::{Actual, Kind as ErrorKind};
use figment::value::{Dict, Value};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::expand::Expanded;
use crate::expr::{Shell, with_constants, with_shell};
use crate::fault::{Fault, Place, suggest};
use crate::fold::Misfit;
use crate::places::Places;
use crate::secrets::{Reader, Secrets};
use crate::sections::builders::{Builder, BuilderOptions};
use crate::sections::change_sources::{self, ChangeSource, GitPoller};
use crate::sections::database::Database;
use crate::sections::logs::Logs;
use crate::sections::master::Master;
use crate::sections::mq::Mq;
use crate::sections::notifiers::{self, Notifier, NotifierKind, NotifierOptions};
use crate::sections::retention::{Retention, RetentionPatch};
use crate::sections::schedulers::{self, ChangeScheduler, Filter, ForceScheduler, Scheduler};
use crate::sections::steps::{self, GitStep, SetPropertyStep, ShellStep, Step, StepAction, StepOptions};
use crate::sections::supervision::{Backoff, PolicyPatch, Supervision};
use crate::sections::workers::Worker;
use crate::sections::www::Www;
use crate::source::{Kind, Source, is_secret};
use crate::values::{HERE, READ, Secret, split_fault};

/// The sections, in the order of [`Settings`](crate::Settings).
const SECTIONS: &[&str] = &[
    "master",
    "database",
    "mq",
    "www",
    "supervision",
    "logs",
    "retention",
    "workers",
    "change-sources",
    "schedulers",
    "builders",
    "notifiers",
    "recipes",
    "secrets",
];
/// The sections of tables with free names.
pub(crate) const KEYED: &[&str] =
    &["workers", "change-sources", "schedulers", "builders", "notifiers", "recipes"];
/// The keys of a builder's table that are used up before it is read.
const EXPANDED: &[&str] = &["steps", "recipe", "with", "matrix"];

/// No table has more faults than this that are worth showing; it also ends the loop for certain.
const MAX_FAULTS: usize = 64;
/// No table has more secrets than this; it also ends the loop for certain.
const MAX_SECRETS: usize = 1_000;

/// Turns paths into places and notes faults.
pub(crate) struct Report<'a> {
    pub sources: &'a [Source],
    pub faults: Vec<Fault>,
    /// Reads the secrets that are found.
    pub reader: Reader<'a>,
    /// The secrets that were read.
    pub secrets: Secrets,
    /// Where things were written that were made of others.
    pub places: Places,
}

/// What could be read. A section or table with faults is left out; `names` knows those too.
#[derive(Default)]
pub(crate) struct Parts {
    pub master: Option<Master>,
    pub database: Option<Database>,
    pub mq: Option<Mq>,
    pub www: Option<Www>,
    pub supervision: Option<Supervision>,
    pub logs: Option<Logs>,
    pub retention: Option<Retention>,
    pub workers: BTreeMap<String, Worker>,
    pub change_sources: BTreeMap<String, ChangeSource>,
    pub schedulers: BTreeMap<String, Scheduler>,
    pub builders: BTreeMap<String, Builder>,
    pub notifiers: BTreeMap<String, Notifier>,
    /// The names in each keyed table, faulty ones included.
    pub names: BTreeMap<&'static str, BTreeSet<String>>,
    /// Names that are not in use (`enabled = false`), or that became others: lists may name them.
    pub absent: BTreeMap<&'static str, BTreeSet<String>>,
    /// Builders of which nothing could be made, so that it is not known what their matrix would be.
    pub broken: BTreeSet<String>,
}

/// The keys that a table may have, whether they are set or not; for names that come from people.
pub(crate) fn known_keys(path: &[String]) -> Vec<&'static str> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let mut keys = known_fields(&path);
    if matches!(path.as_slice(), [section, _] if KEYED.contains(section)) {
        keys.push("enabled");
    }
    keys
}

fn known_fields(path: &[&str]) -> Vec<&'static str> {
    match path {
        [] => SECTIONS.to_vec(),
        ["master"] => fields_of::<Master>(),
        ["database"] => fields_of::<Database>(),
        ["mq"] => fields_of::<Mq>(),
        ["www"] => fields_of::<Www>(),
        ["supervision"] => fields_of::<Supervision>(),
        ["logs"] => fields_of::<Logs>(),
        ["retention"] => fields_of::<Retention>(),
        ["retention", "builders", _] => fields_of::<RetentionPatch>(),
        ["supervision", "kinds" | "names", _] => fields_of::<PolicyPatch>(),
        ["supervision", "backoff"] | ["supervision", "kinds" | "names", _, "backoff"] => {
            fields_of::<Backoff>()
        }
        ["workers", _] => fields_of::<Worker>(),
        [.., last] if is_secret(last) => vec!["file", "env", "command"],
        ["change-sources", _] => with_kind(fields_of::<GitPoller>()),
        ["schedulers", _] => {
            with_kind([fields_of::<ChangeScheduler>(), fields_of::<ForceScheduler>()].concat())
        }
        ["schedulers", _, "filter"] => fields_of::<Filter>(),
        ["notifiers", _] => notifier_keys(),
        ["builders", _] => [fields_of::<BuilderOptions>().as_slice(), EXPANDED].concat(),
        ["recipes", _] => [fields_of::<BuilderOptions>(), vec!["steps", "parameters"]].concat(),
        ["secrets", _] => vec!["file", "env", "command"],
        _ => Vec::new(),
    }
}

/// Of all kinds of notifier together.
fn notifier_keys() -> Vec<&'static str> {
    let mut fields = with_kind(fields_of::<NotifierOptions>());
    fields.extend(fields_of::<notifiers::Irc>());
    fields.extend(fields_of::<notifiers::Mail>());
    fields.extend(fields_of::<notifiers::Webhook>());
    fields.extend(fields_of::<notifiers::CommitStatus>());
    fields.sort_unstable();
    fields.dedup();
    fields
}

fn with_kind(mut fields: Vec<&'static str>) -> Vec<&'static str> {
    fields.push("kind");
    fields
}

/// The names of a struct's fields, as serde knows them.
fn fields_of<T: DeserializeOwned>() -> Vec<&'static str> {
    struct Probe<'a>(&'a mut &'static [&'static str]);
    impl<'de> serde::Deserializer<'de> for Probe<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("only asked for its fields"))
        }

        fn deserialize_struct<V: serde::de::Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut fields: &'static [&'static str] = &[];
    drop(T::deserialize(Probe(&mut fields)));
    fields.to_vec()
}

impl Report<'_> {
    /// Where a path stands: in the last layer that has it, or has the nearest table around it.
    pub fn place(&self, path: &[String], of_key: bool) -> Option<Place> {
        let path = self.written(path);
        for length in (1..=path.len()).rev() {
            let around = length < path.len();
            for (layer, source) in self.sources.iter().enumerate().rev() {
                if source.kind != Kind::BuiltIn
                    && let Some(node) = source.root.get(&path[..length])
                {
                    let span = if of_key || around { node.key.clone() } else { node.value.clone() };
                    return Some(Place::new(&source.name, layer, &source.text, span));
                }
            }
        }
        None
    }

    /// Notes a fault about the value (or, for tables, the key) at `path`.
    pub fn push(&mut self, path: &[String], of_key: bool, mut fault: Fault) {
        let place = self.place(path, of_key);
        let used = Some(path).filter(|it| !self.is_written(it)).and_then(|it| self.places.written(it));
        if let Some((message, at)) = used.and_then(|it| it.used) {
            fault = fault.note(message, self.place(&at, false));
        }
        self.faults.push(Fault { key: dotted(path), place, ..fault });
        self.drop_repeated();
    }

    /// Many builders may be made of the same recipe: the fault of the first will do.
    fn drop_repeated(&mut self) {
        let Some((last, before)) = self.faults.split_last() else { return };
        let same = |it: &Fault| (it.code, &it.message, &it.place) == (last.code, &last.message, &last.place);
        if !last.notes.is_empty() && before.iter().any(same) {
            self.faults.pop();
        }
    }

    /// Notes a fault about a part of the text at `path`.
    pub fn push_within(&mut self, path: &[String], fault: Fault, span: std::ops::Range<usize>) {
        let before = self.faults.len();
        self.push(path, false, fault);
        if let Some(fault) = self.faults.get_mut(before) {
            narrow(fault, span);
            self.drop_repeated();
        }
    }

    /// Notes the expressions that could not be put in.
    pub fn misfits(&mut self, misfits: Vec<Misfit>) {
        for (path, error) in misfits {
            self.push_within(&path, Fault::error("bad-value", error.message).help(error.help), error.span);
        }
    }

    /// A builder of a matrix stands in its table, and what that has of a recipe in the recipe.
    fn written<'p>(&self, path: &'p [String]) -> Cow<'p, [String]> {
        let mut path = Cow::Borrowed(path);
        while !self.is_written(&path)
            && let Some(written) = self.places.written(&path)
        {
            path = written.at.into();
        }
        path
    }

    fn is_written(&self, path: &[String]) -> bool {
        self.sources.iter().any(|it| it.root.get(path).is_some())
    }

    /// Whether a layer other than the built-in one says something at this very path.
    pub fn is_set(&self, path: &[String]) -> bool {
        self.sources.iter().any(|it| it.kind != Kind::BuiltIn && it.root.get(path).is_some())
    }

    /// The text of a variable or flag that set this value.
    fn given_text(&self, path: &[String]) -> Option<&str> {
        let source = self.sources.iter().rev().find(|it| it.root.get(path).is_some())?;
        match &source.kind {
            Kind::Given(text) => Some(text),
            _ => None,
        }
    }

    /// Reads one table. After a fault the value at fault is taken out and reading goes on, so that the others are found too.
    pub(crate) fn read<T: DeserializeOwned>(
        &mut self,
        value: &Value,
        base: &[String],
        more_keys: &[&'static str],
    ) -> Option<T> {
        let mut value = value.clone();
        let mut removed: BTreeSet<Vec<String>> = BTreeSet::new();
        let mut faulty = false;
        let (mut faults, mut secrets) = (0, 0);
        while faults < MAX_FAULTS && secrets < MAX_SECRETS {
            let error = match Secret::located(|| T::deserialize(&value).map_err(Box::new)) {
                Ok(read) => return Some(read).filter(|_| !faulty),
                Err(error) => error,
            };
            let inner = error.path.clone();
            let path = [base, &inner].concat();
            if matches!(&error.kind, ErrorKind::Message(text) if text == HERE) {
                secrets += 1;
                faulty |= !self.read_secret(slot(&mut value, &inner)?, &path);
                continue;
            }
            faults += 1;
            if let ErrorKind::InvalidType(actual, _) = &error.kind
                && !matches!(actual, Actual::Str(_))
                && let Some(text) = self.given_text(&path)
                && let Some(slot) = slot(&mut value, &inner)
                && *slot != Value::from(text)
            {
                // `--set master.name=4`: what looks like a number may be meant as text.
                *slot = Value::from(text);
                continue;
            }
            faulty = true;
            match &error.kind {
                ErrorKind::MissingField(name) => {
                    let mut missing = inner.clone();
                    missing.push(name.to_string());
                    if !removed.contains(&missing) {
                        let message = format!("`{name}` is missing in `{}`", dotted(&path));
                        let whole = [base, missing.as_slice()].concat();
                        self.push(&path, true, Fault::error("missing-key", message));
                        if let Some(fault) = self.faults.last_mut() {
                            fault.key = dotted(&whole);
                        }
                    }
                }
                // Keys that were read elsewhere are of this table, and not of those within it.
                kind if inner.len() > 1 => self.value_fault(&path, kind, &[]),
                kind => self.value_fault(&path, kind, more_keys),
            }
            match remove(&mut value, &inner) {
                Some(gone) => removed.insert(gone.to_vec()),
                None => return None,
            };
        }
        None
    }

    fn is_default(&self, path: &[String], text: &str) -> bool {
        let defaults = self.sources.iter().filter(|it| it.kind == Kind::BuiltIn);
        let value = |source: &Source| {
            let (first, rest) = path.split_first()?;
            let value = source.values.get(first)?;
            rest.iter()
                .try_fold(value, |value, name| value.as_dict()?.get(name))?
                .as_str()
                .map(|it| it == text)
        };
        defaults.filter_map(value).any(|it| it)
    }

    /// Puts a secret's text where it is said where to find it; false, with some text, when it cannot be found.
    fn read_secret(&mut self, slot: &mut Value, path: &[String]) -> bool {
        // The last layer that says it replaces all that others say.
        let source = self.sources.iter().rev().find(|it| it.root.get(path).is_some());
        if let (Some(node), Value::Dict(_, table)) = (source.and_then(|it| it.root.get(path)), &mut *slot)
            && !node.table.is_empty()
        {
            table.retain(|key, _| node.table.contains_key(key));
        }
        let dir = match source.map(|it| &it.kind) {
            Some(Kind::File(dir)) => dir.as_path(),
            _ => Path::new(""),
        };
        let read = self.reader.read(slot, dir);
        let found = read.is_ok();
        // Any text will do where there is none: the configuration is refused then.
        let text = match read {
            Ok(secret) => {
                let text = Value::from(secret.expose());
                // A default is known to everybody.
                if !self.is_default(path, secret.expose()) {
                    self.secrets.add(dotted(path), secret);
                }
                text
            }
            Err(message) => {
                let (message, help, _) = split_fault(&message);
                self.push(path, false, Fault::error("bad-secret", message).help(help.unwrap_or_default()));
                Value::from("unknown")
            }
        };
        *slot = Value::from(Dict::from([(READ.to_owned(), text)]));
        found
    }

    fn value_fault(&mut self, path: &[String], kind: &ErrorKind, more_keys: &[&'static str]) {
        let written = self.written(path);
        let parent = dotted(&written[..written.len().saturating_sub(1)]);
        let fault = match kind {
            ErrorKind::UnknownField(name, expected) => {
                let known = expected.iter().chain(more_keys).copied();
                let fault = Fault::error("unknown-key", format!("unknown key `{name}` in `{parent}`"));
                return self.push(path, true, fault.help(suggest(name, known)));
            }
            ErrorKind::UnknownVariant(name, expected) => {
                let fault = Fault::error("unknown-value", format!("unknown value `{name}`"));
                fault.help(suggest(name, expected.iter().copied()))
            }
            ErrorKind::InvalidType(actual, expected) => {
                let message = format!("expected {}, found {}", plain_words(expected), type_name(actual));
                Fault::error("wrong-type", message)
            }
            ErrorKind::InvalidValue(_, expected) => {
                Fault::error("bad-value", format!("expected {}", plain_words(expected)))
            }
            ErrorKind::Message(text) => {
                let (message, help, span) = split_fault(text);
                let fault = Fault::error("bad-value", message).help(help.unwrap_or_default());
                return match span {
                    Some(span) => self.push_within(path, fault, span),
                    None => self.push(path, false, fault),
                };
            }
            other => Fault::error("bad-value", other.to_string()),
        };
        self.push(path, false, fault);
    }
}

/// Moves a fault's place to a part of the string that stands there, if the string is written without escapes.
fn narrow(fault: &mut Fault, span: std::ops::Range<usize>) {
    let Some(place) = &mut fault.place else { return };
    let written = &place.text[place.span.clone()];
    let quotes = ["\"\"\"\n", "'''\n", "\"\"\"", "'''", "\"", "'"];
    let open = quotes.iter().find(|it| written.starts_with(**it)).map_or(0, |it| it.len());
    let escapes = written.starts_with('"') && written.contains('\\');
    if escapes || open + span.end > written.len() || span.is_empty() {
        return;
    }
    let start = place.span.start + open;
    *place = Place::new(&place.source, place.layer, &place.text, start + span.start..start + span.end);
}

/// A path as people write it.
pub(crate) fn dotted(path: &[String]) -> String {
    let mut text = String::new();
    for name in path {
        let bare = name.chars().all(|it| it.is_ascii_alphanumeric() || it == '-' || it == '_');
        match name.parse::<usize>() {
            Ok(index) if !text.is_empty() => text.push_str(&format!("[{index}]")),
            _ => {
                let dot = if text.is_empty() { "" } else { "." };
                text.push_str(&if bare && !name.is_empty() {
                    format!("{dot}{name}")
                } else {
                    format!("{dot}{name:?}")
                });
            }
        }
    }
    text
}

/// Serde's words for types in the words of TOML.
fn plain_words(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "a table",
        "a boolean" => "true or false",
        "a nonzero u32" => "a whole number of at least 1",
        "u32" | "i64" | "u64" => "a whole number of at least 0",
        it if it.starts_with("struct ") => "a table",
        it if it.starts_with("enum ") || it == "path string" => "a string",
        it => it,
    }
}

fn type_name(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a number with decimals",
        Actual::Str(_) | Actual::Char(_) => "a string",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

/// The value at a path.
pub(crate) fn slot<'a>(value: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    let Some((first, rest)) = path.split_first() else { return Some(value) };
    match value {
        Value::Dict(_, table) => slot(table.get_mut(first)?, rest),
        Value::Array(_, list) => slot(list.get_mut(first.parse::<usize>().ok()?)?, rest),
        _ => None,
    }
}

/// Takes the value at a path out, with the list around it (so that indices stay true); returns the path that is gone.
fn remove<'a>(value: &mut Value, path: &'a [String]) -> Option<&'a [String]> {
    let (last, parent) = path.split_last()?;
    match slot(value, parent) {
        Some(Value::Dict(_, table)) => table.remove(last).map(|_| path),
        _ => remove(value, parent),
    }
}

fn path_of(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|it| (*it).to_owned()).collect()
}

/// Reads everything.
pub(crate) fn extract(merged: &Value, expanded: Expanded, report: &mut Report<'_>) -> Parts {
    let empty = Dict::new();
    let root = merged.as_dict().unwrap_or(&empty);
    for name in root.keys().filter(|it| !SECTIONS.contains(&it.as_str())) {
        let fault = Fault::error("unknown-key", format!("unknown section `{name}`"));
        report.push(&path_of(&[name]), true, fault.help(suggest(name, SECTIONS.iter().copied())));
    }
    let mut parts = Parts {
        master: section(root, "master", report),
        database: section(root, "database", report),
        mq: section(root, "mq", report),
        www: section(root, "www", report),
        supervision: section(root, "supervision", report),
        logs: section(root, "logs", report),
        retention: section(root, "retention", report),
        ..Parts::default()
    };
    parts.workers =
        keyed(root, "workers", report, &mut parts.names, |value, path, report| report.read(value, path, &[]));
    parts.change_sources = keyed(root, "change-sources", report, &mut parts.names, change_source);
    parts.schedulers = keyed(root, "schedulers", report, &mut parts.names, scheduler);
    parts.absent = expanded.absent;
    parts.broken = expanded.broken;
    parts.builders = keyed(root, "builders", report, &mut parts.names, |value, path, report| {
        let constants = path.last().and_then(|name| expanded.constants.get(name)).cloned();
        with_constants(constants.unwrap_or_default(), || builder(value, path, report))
    });
    parts.names.entry("builders").or_default().extend(parts.broken.iter().cloned());
    parts.notifiers = keyed(root, "notifiers", report, &mut parts.names, notifier);
    parts
}

fn section<T: DeserializeOwned>(root: &Dict, name: &str, report: &mut Report<'_>) -> Option<T> {
    report.read(root.get(name)?, &path_of(&[name]), &[])
}

/// Reads each table of a section alone.
fn keyed<T>(
    root: &Dict,
    section: &'static str,
    report: &mut Report<'_>,
    names: &mut BTreeMap<&'static str, BTreeSet<String>>,
    read: impl Fn(&Value, &[String], &mut Report<'_>) -> Option<T>,
) -> BTreeMap<String, T> {
    let mut found = BTreeMap::new();
    let names = names.entry(section).or_default();
    let Some(value) = root.get(section) else { return found };
    let Some(tables) = value.as_dict() else {
        let fault = Fault::error("wrong-type", format!("expected a table, `[{section}.NAME]`"));
        report.push(&path_of(&[section]), false, fault);
        return found;
    };
    for (name, value) in tables {
        names.insert(name.clone());
        let path = path_of(&[section, name]);
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            report.push(
                &path,
                true,
                Fault::error("bad-name", "a name cannot be empty or hold control characters"),
            );
        }
        let twin = tables.keys().find(|it| *it < name && it.to_lowercase() == name.to_lowercase());
        if let Some(twin) = twin {
            let message = format!("`{name}` and `{twin}` differ only in case");
            report.push(&path, true, Fault::error("duplicate-name", message).help("rename one of them"));
        }
        if value.as_dict().is_none() {
            report.push(
                &path,
                false,
                Fault::error("wrong-type", format!("expected a table, `[{section}.{name}]`")),
            );
        } else if let Some(read) = read(value, &path, report) {
            found.insert(name.clone(), read);
        }
    }
    found
}

/// Takes `kind` out of a table.
fn take_kind(
    value: &Value,
    path: &[String],
    kinds: &[&'static str],
    report: &mut Report<'_>,
) -> Option<(String, Value)> {
    let mut table = value.as_dict()?.clone();
    let at = [path, &["kind".to_owned()]].concat();
    let Some(kind) = table.remove("kind") else {
        let message = format!("`kind` is missing in `{}`", dotted(path));
        report.push(
            path,
            true,
            Fault::error("missing-key", message).help(format!("there are: {}", kinds.join(", "))),
        );
        return None;
    };
    match kind.as_str() {
        Some(kind) if kinds.contains(&kind) => Some((kind.to_owned(), Value::from(table))),
        Some(kind) => {
            let fault = Fault::error("unknown-kind", format!("unknown kind `{kind}`"));
            report.push(&at, false, fault.help(suggest(kind, kinds.iter().copied())));
            None
        }
        None => {
            report.push(&at, false, Fault::error("wrong-type", "expected a string"));
            None
        }
    }
}

fn change_source(value: &Value, path: &[String], report: &mut Report<'_>) -> Option<ChangeSource> {
    let (_, value) = take_kind(value, path, change_sources::KINDS, report)?;
    report.read(&value, path, &["kind"]).map(ChangeSource::GitPoller)
}

fn scheduler(value: &Value, path: &[String], report: &mut Report<'_>) -> Option<Scheduler> {
    let (kind, value) = take_kind(value, path, schedulers::KINDS, report)?;
    match kind.as_str() {
        "single-branch" => report.read(&value, path, &["kind"]).map(Scheduler::SingleBranch),
        "any-branch" => report.read(&value, path, &["kind"]).map(Scheduler::AnyBranch),
        _ => report.read(&value, path, &["kind"]).map(Scheduler::Force),
    }
}

fn builder(value: &Value, path: &[String], report: &mut Report<'_>) -> Option<Builder> {
    let mut table = value.as_dict()?.clone();
    let steps = table.remove("steps");
    let options = report.read(&Value::from(table), path, EXPANDED);
    let at = [path, &["steps".to_owned()]].concat();
    let mut found = Vec::new();
    let mut complete = true;
    match steps.as_ref().map(|it| (it, it.as_array())) {
        None => {}
        Some((_, Some(list))) => {
            for (index, value) in list.iter().enumerate() {
                match step(value, &[at.as_slice(), &[index.to_string()]].concat(), report) {
                    Some(step) => found.push(step),
                    None => complete = false,
                }
            }
        }
        Some((_, None)) => {
            let help = format!("begin each step with [[{}]]", dotted(&at));
            report.push(&at, true, Fault::error("wrong-type", "expected a list of steps").help(help));
            complete = false;
        }
    }
    if steps.as_ref().is_none_or(|it| it.as_array().is_some_and(<[Value]>::is_empty)) {
        let message = format!("the builder `{}` has no steps", path.last().map_or("", String::as_str));
        let help = format!("begin each step with [[{}]]", dotted(&at));
        report.push(path, true, Fault::error("no-steps", message).help(help));
        return None;
    }
    Some(Builder { options: options?, steps: found }).filter(|_| complete)
}

/// Common keys and those of the kind are read apart, for each kind knows only its own.
fn notifier(value: &Value, path: &[String], report: &mut Report<'_>) -> Option<Notifier> {
    let (kind, value) = take_kind(value, path, notifiers::KINDS, report)?;
    let common = fields_of::<NotifierOptions>();
    let (common_part, own): (Dict, Dict) =
        value.as_dict()?.clone().into_iter().partition(|(key, _)| common.contains(&key.as_str()));
    let options = report.read(&Value::from(common_part), path, &[]);
    let mut more = common;
    more.push("kind");
    let own = Value::from(own);
    let kind = match kind.as_str() {
        "irc" => report.read(&own, path, &more).map(NotifierKind::Irc),
        "mail" => report.read(&own, path, &more).map(NotifierKind::Mail),
        "webhook" => report.read(&own, path, &more).map(NotifierKind::Webhook),
        "github-status" => report.read(&own, path, &more).map(NotifierKind::GithubStatus),
        "gitlab-status" => report.read(&own, path, &more).map(NotifierKind::GitlabStatus),
        _ => report.read(&own, path, &more).map(NotifierKind::GiteaStatus),
    };
    for (key, message, help) in kind.as_ref().map_or_else(Vec::new, NotifierKind::faults) {
        let at = [path, &[key.to_owned()]].concat();
        report.push(&at, true, Fault::error("notifier", message).help(help));
    }
    Some(Notifier { options: options?, kind: kind? })
}

/// Common keys and those of the kind are read apart, for each kind knows only its own.
fn step(value: &Value, path: &[String], report: &mut Report<'_>) -> Option<Step> {
    let Some(table) = value.as_dict() else {
        report.push(path, false, Fault::error("wrong-type", "expected a table, a step"));
        return None;
    };
    let common = fields_of::<StepOptions>();
    let mut table = table.clone();
    let kind = match table.remove("kind") {
        None if table.contains_key("run") => "shell".to_owned(),
        None => {
            let fault =
                Fault::error("missing-key", format!("`{}` has neither `run` nor `kind`", dotted(path)));
            report.push(path, true, fault.help(format!("there are: {}", steps::KINDS.join(", "))));
            return None;
        }
        Some(kind) => {
            take_kind(&Value::from(Dict::from([("kind".to_owned(), kind)])), path, steps::KINDS, report)?.0
        }
    };
    let (common_part, own): (Dict, Dict) =
        table.into_iter().partition(|(key, _)| common.contains(&key.as_str()));
    let options = report.read(&Value::from(common_part), path, &[]);
    let mut more = common;
    more.push("kind");
    let shell = own.get("shell").and_then(|it| Shell::deserialize(it).ok());
    let own = Value::from(own);
    let action = with_shell(shell, || match kind.as_str() {
        "shell" => report.read::<ShellStep>(&own, path, &more).map(StepAction::Shell),
        "git" => report.read::<GitStep>(&own, path, &more).map(StepAction::Git),
        _ => report.read::<SetPropertyStep>(&own, path, &more).map(StepAction::SetProperty),
    });
    Some(Step { options: options?, action: action? })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_an_inner_table_may_have_is_named_alone() {
        let text = "[schedulers.s]\nkind = 'any-branch'\nbuilders = '*'\nfilter = { expr = 'x' }\n";
        let faults = crate::load_text(text, std::path::Path::new("/")).unwrap_err();
        let help = faults.iter().find(|it| it.code == "unknown-key").and_then(|it| it.help.clone());
        assert!(help.as_ref().is_some_and(|it| it.contains("branch, ") && !it.contains("kind")), "{help:?}");
    }
}
