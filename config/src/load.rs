//! From files, variables and flags to [`Settings`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use figment::value::Value;

use crate::difference::Values;
use crate::expand::expand;
use crate::expr::{on_big_stack, with_secrets};
use crate::extract::{Parts, Report, dotted, extract, slot};
use crate::fault::{Fault, Faults, Severity, sort};
use crate::layers::{LoadOptions, merge, read, read_text};
use crate::places::Places;
use crate::secrets::{self, Reader, Secrets, read_named};
use crate::source::{Kind, Node, Source};
use crate::stored::Layers;
use crate::values::NameList;
use crate::{Settings, cross};

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The typed settings.
    pub settings: Settings,
    /// What is probably not meant, in the order of the layers and lines.
    pub warnings: Vec<Fault>,
    /// Where each value comes from, by key.
    pub origins: BTreeMap<String, Origin>,
    /// What the settings came from after all layers, to be compared.
    pub values: Values,
    /// The same before recipes and matrices were put in, to be shown.
    pub written: Values,
    /// The layers, to be stored.
    pub layers: Layers,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file's path, `environment`, `--set` or `built-in defaults`.
    pub source: String,
    /// The variable, or the key given with `--set`.
    pub given: Option<String>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// Reads, merges and checks all layers. It reads files and blocks: in a program of actors, call it before they start or on a
/// thread for blocking work.
///
/// # Errors
/// With everything that is wrong (warnings among it) as soon as one thing is an error.
pub fn load(options: &LoadOptions) -> Result<Loaded, Faults> {
    // Expressions are compiled while values are read, and their parser needs the stack.
    on_big_stack(|| load_here(options))
        .unwrap_or_else(|message| Err(Faults::new(vec![Fault::error("internal", message)])))
}

/// Reads a text as the only file; relative paths in it are relative to `dir`.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &str, dir: &Path) -> Result<Loaded, Faults> {
    let mut faults = Vec::new();
    let sources = read_text("greenroom.toml", dir, text, &mut faults);
    on_big_stack(|| build(&sources, faults, &[]))
        .unwrap_or_else(|message| Err(Faults::new(vec![Fault::error("internal", message)])))
}

fn load_here(options: &LoadOptions) -> Result<Loaded, Faults> {
    let mut faults = Vec::new();
    let sources = read(options, &mut faults);
    build(&sources, faults, &options.env)
}

pub(crate) fn build(
    sources: &[Source],
    faults: Vec<Fault>,
    env: &[(String, String)],
) -> Result<Loaded, Faults> {
    // After a fault of syntax the rest of that file is unknown: its absence would look like faults of others.
    if faults.iter().any(|it| matches!(it.code, "syntax" | "unreadable")) {
        return Err(Faults::new(faults));
    }
    let mut merged = match merge(sources) {
        Ok(merged) => merged,
        Err(error) => return Err(Faults::new(vec![Fault::error("internal", error.to_string())])),
    };
    let mut report = Report {
        sources,
        faults,
        reader: Reader::new(env),
        secrets: Secrets::default(),
        places: Places::default(),
    };
    resolve_paths(&mut merged, sources);
    let written = merged.clone();
    let names = read_named(&mut merged, &mut report);
    let parts = with_secrets(names, || {
        let expanded = expand(&mut merged, &mut report);
        extract(&merged, expanded, &mut report)
    });
    secrets::check(&parts, &mut report);
    cross::check(&merged, &parts, &mut report);
    let (mut faults, secrets) = (report.faults, report.secrets);
    match assemble(parts, secrets) {
        Some(settings) if faults.iter().all(|it| it.severity == Severity::Warning) => {
            sort(&mut faults);
            let (values, layers) = (Values::new(&merged, &settings.secrets), Layers::of(sources));
            let written = Values::new(&written, &settings.secrets);
            Ok(Loaded { settings, warnings: faults, origins: origins(sources), values, written, layers })
        }
        _ => Err(Faults::new(faults)),
    }
}

fn assemble(mut parts: Parts, secrets: Secrets) -> Option<Settings> {
    leave_out_absent(&mut parts);
    let mut settings = Settings {
        master: parts.master?,
        database: parts.database?,
        mq: parts.mq?,
        www: parts.www?,
        supervision: parts.supervision?,
        logs: parts.logs?,
        retention: parts.retention?,
        workers: parts.workers,
        change_sources: parts.change_sources,
        schedulers: parts.schedulers,
        builders: parts.builders,
        notifiers: parts.notifiers,
        secrets,
    };
    settings.database.url.resolve(&settings.master.data_dir);
    settings.logs.resolve(&settings.master.data_dir);
    settings.master.url.follow(settings.www.listen.0.port());
    Some(settings)
}

/// Lists may name what is not enabled; whoever reads the settings does not meet it.
fn leave_out_absent(parts: &mut Parts) {
    let absent =
        |section, name: &String| parts.absent.get(section).is_some_and(|it: &BTreeSet<_>| it.contains(name));
    for builder in parts.builders.values_mut() {
        if let Some(workers) = &mut builder.options.workers {
            workers.retain(|it| !absent("workers", it));
        }
    }
    for scheduler in parts.schedulers.values_mut() {
        if let NameList::Some(builders) = scheduler.builders_mut() {
            builders.retain(|it| !absent("builders", it));
        }
    }
}

/// Keys of notifiers that are paths to files.
const NOTIFIER_FILES: &[&str] = &["tls-ca", "tls-certificate", "text-template", "html-template", "body-file"];

/// The paths of all values that are paths to files.
fn file_keys(merged: &Value) -> Vec<Vec<String>> {
    let mut keys = vec![vec!["master".to_owned(), "data-dir".to_owned()]];
    for name in worker_names(merged) {
        let worker = vec!["workers".to_owned(), name];
        keys.push([worker.as_slice(), &["dir".to_owned()]].concat());
    }
    let notifiers = merged.as_dict().and_then(|it| it.get("notifiers")).and_then(Value::as_dict);
    for name in notifiers.into_iter().flat_map(|it| it.keys()) {
        let files = NOTIFIER_FILES.iter();
        keys.extend(files.map(|key| vec!["notifiers".to_owned(), name.clone(), (*key).to_owned()]));
    }
    keys
}

fn worker_names(merged: &Value) -> Vec<String> {
    let workers = merged.as_dict().and_then(|it| it.get("workers")).and_then(Value::as_dict);
    workers.map(|it| it.keys().cloned().collect()).unwrap_or_default()
}

/// Makes paths relative to the file that says them.
fn resolve_paths(merged: &mut Value, sources: &[Source]) {
    for key in file_keys(merged) {
        let source = sources.iter().rev().find(|it| it.root.get(&key).is_some());
        let Some(Kind::File(dir)) = source.map(|it| &it.kind) else { continue };
        let Some(slot) = slot(merged, &key) else { continue };
        let joined = slot.as_str().map(|text| dir.join(text));
        // A name that is not UTF-8 cannot stand in TOML, but the directory's may be one: then the path is left as it is.
        if let Some(text) = joined.as_deref().and_then(Path::to_str) {
            *slot = Value::from(text);
        }
    }
}

/// Where each value comes from: the last layer that has it.
fn origins(sources: &[Source]) -> BTreeMap<String, Origin> {
    let mut origins = BTreeMap::new();
    for source in sources {
        // found once: counting lines for each value would cost the square of a long file
        let lines: Vec<usize> =
            std::iter::once(0).chain(source.text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        collect(&source.root, &mut Vec::new(), &mut |path, node| {
            let at = source.text.floor_char_boundary(node.key.start);
            let line = lines.partition_point(|begin| *begin <= at);
            let begin = lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
            let column = source.text[begin..at].chars().count() + 1;
            let given = match source.kind {
                Kind::Given(_) => source.text.split('=').next().map(str::to_owned),
                _ => None,
            };
            let origin = Origin { source: source.name.clone(), given, line, column };
            origins.insert(dotted(path), origin);
        });
    }
    origins
}

/// Visits everything that is no table; lists are one value, unless they are of tables.
fn collect(node: &Node, path: &mut Vec<String>, visit: &mut impl FnMut(&[String], &Node)) {
    let tables = node.list.iter().any(|it| !it.table.is_empty());
    if node.table.is_empty() && !tables && !path.is_empty() {
        return visit(path, node);
    }
    for (name, child) in &node.table {
        path.push(name.clone());
        collect(child, path, visit);
        path.pop();
    }
    for (index, child) in node.list.iter().enumerate().filter(|_| tables) {
        path.push(index.to_string());
        collect(child, path, visit);
        path.pop();
    }
}
