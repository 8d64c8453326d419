//! Finding and reading the layers, in order: later ones win.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::value::{Dict, Value};

use crate::extract::known_keys;
use crate::fault::{Fault, suggest};
use crate::include;
use crate::source::{Kind, Source};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// What the names of variables begin with.
const PREFIX: &str = "GREENROOM_";

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Named files, in order.
    pub files: Vec<PathBuf>,
    /// `key=value`, as given with `--set`, in order.
    pub sets: Vec<String>,
    /// The environment: overrides (`GREENROOM_WORKERS__W1__MAX_BUILDS`) and the values of `{ env = "…" }`.
    pub env: Vec<(String, String)>,
    /// Directory whose `*.toml` come before the named files.
    pub system_dir: Option<PathBuf>,
}

impl LoadOptions {
    /// The layers of a program that runs on this machine: `/etc/greenroom`, the files, this process's environment, the flags.
    pub fn from_process(files: Vec<PathBuf>, sets: Vec<String>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        LoadOptions { files, sets, env: env.collect(), system_dir: Some(PathBuf::from("/etc/greenroom")) }
    }
}

/// Reads all layers; what cannot be read is noted in `faults` and left out.
pub(crate) fn read(options: &LoadOptions, faults: &mut Vec<Fault>) -> Vec<Source> {
    let mut layers = Layers { sources: Vec::new(), faults, open: Vec::new(), files: 0 };
    layers.text("built-in defaults".to_owned(), Kind::BuiltIn, include_str!("../defaults.toml"));
    if let Some(dir) = &options.system_dir {
        layers.directory(dir);
    }
    for file in &options.files {
        layers.file(file);
    }
    for file in &options.files {
        layers.directory(&file.with_extension("d"));
    }
    layers.environment(&options.env);
    for set in &options.sets {
        layers.set(set);
    }
    layers.sources
}

/// All layers as one value.
pub(crate) fn merge(sources: &[Source]) -> Result<Value, Box<figment::Error>> {
    let figment = sources.iter().fold(Figment::new(), |figment, source| figment.merge(source));
    let mut merged = figment.find_value("").map_err(Box::new)?;
    if let Value::Dict(_, root) = &mut merged {
        // What it names has been read.
        root.remove(include::KEY);
    }
    Ok(merged)
}

/// Reads a text as if it were a file of this name in `dir`, with the files that it includes.
pub(crate) fn read_text(name: &str, dir: &Path, text: &str, faults: &mut Vec<Fault>) -> Vec<Source> {
    let sources = read(&LoadOptions::default(), faults);
    let mut layers = Layers { sources, faults, open: Vec::new(), files: 0 };
    layers.file_text(name.to_owned(), dir, text);
    layers.sources
}

struct Layers<'a> {
    sources: Vec<Source>,
    faults: &'a mut Vec<Fault>,
    /// The files that are being read, each included by the one before.
    open: Vec<PathBuf>,
    /// How many were read.
    files: usize,
}

impl Layers<'_> {
    fn text(&mut self, name: String, kind: Kind, text: &str) {
        match Source::parse(name, kind, self.sources.len(), text) {
            Ok(source) => self.sources.push(source),
            Err(faults) => self.faults.extend(faults),
        }
    }

    /// The `*.toml` of a directory by name; a directory that is not there is empty.
    fn directory(&mut self, dir: &Path) {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                let message = format!("cannot read the directory `{}`: {error}", dir.display());
                return self.faults.push(Fault::error("unreadable", message));
            }
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|it| it == "toml"))
            .collect();
        files.sort();
        for file in files {
            self.file(&file);
        }
    }

    /// A file's text, after the files that it includes: what it says itself wins.
    fn file_text(&mut self, name: String, dir: &Path, text: &str) {
        let layer = self.sources.len();
        let source = match Source::parse(name, Kind::File(dir.to_owned()), layer, text) {
            Ok(source) => source,
            Err(faults) => return self.faults.extend(faults),
        };
        self.files += 1;
        for (path, place) in include::included(&source, layer, dir, self.faults) {
            let refused = if self.files >= include::MAX_FILES {
                Some(format!("more than {} files are included", include::MAX_FILES))
            } else if self.open.len() >= include::MAX_DEPTH {
                Some(format!("files are included more than {} deep", include::MAX_DEPTH))
            } else if path.canonicalize().is_ok_and(|it| self.open.contains(&it)) {
                Some(format!("`{}` includes itself", path.display()))
            } else if !path.is_file() {
                Some(format!("there is no file `{}` to include", path.display()))
            } else {
                None
            };
            match refused {
                Some(why) => {
                    let fault = Fault::error("bad-include", why);
                    self.faults.push(Fault { key: include::KEY.to_owned(), place, ..fault });
                }
                None => self.file(&path),
            }
        }
        self.sources.push(source);
    }

    fn file(&mut self, path: &Path) {
        match read_file(path) {
            Ok(text) => {
                let dir = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
                self.open.push(path.canonicalize().unwrap_or_else(|_| path.to_owned()));
                self.file_text(path.display().to_string(), dir, &text);
                self.open.pop();
            }
            Err(error) => {
                let message = format!("cannot read `{}`: {error}", path.display());
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                let help = if missing {
                    "name one with --config FILE, or let `greenroom init` write one"
                } else {
                    ""
                };
                self.faults.push(Fault::error("unreadable", message).help(help));
            }
        }
    }

    /// Variables with `__` in their names; others that begin with the prefix (`GREENROOM_LOG`) belong to the program.
    fn environment(&mut self, env: &[(String, String)]) {
        let mut found: Vec<(&str, Vec<&str>, &str)> = Vec::new();
        for (name, value) in env {
            if let Some(rest) = name.strip_prefix(PREFIX).filter(|it| it.contains("__")) {
                found.push((name, rest.split("__").collect(), value));
            }
        }
        found.sort();
        if found.is_empty() {
            return;
        }
        let Ok(merged) = merge(&self.sources) else { return };
        for (name, segments, text) in found {
            match resolve(&merged, &segments) {
                Ok(path) => self.sources.push(Source::given("environment", &format!("{name}="), &path, text)),
                Err((message, help)) => self.faults.push(
                    Fault::error("unknown-variable", format!("the variable `{name}` {message}")).help(help),
                ),
            }
        }
    }

    fn set(&mut self, set: &str) {
        let form = "write `--set workers.w1.max-builds=4`";
        let Some((key, text)) = set.split_once('=') else {
            return self.faults.push(Fault::error("bad-set", format!("`--set {set}` has no `=`")).help(form));
        };
        let Some(path) = dotted(key.trim()) else {
            return self.faults.push(Fault::error("bad-set", format!("`{key}` is not a key")).help(form));
        };
        if path.len() < 2 {
            let fault = Fault::error("bad-set", format!("`{key}` is a whole section")).help(form);
            return self.faults.push(fault);
        }
        self.sources.push(Source::given("--set", &format!("{key}="), &path, text));
    }
}

fn read_file(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > MAX_FILE {
        return Err(std::io::Error::other("the file is larger than 16 MiB"));
    }
    std::fs::read_to_string(path)
}

/// The names in a dotted key, as TOML reads it.
fn dotted(key: &str) -> Option<Vec<String>> {
    if key.contains(['\n', '\r', '#']) {
        return None;
    }
    let document: toml::Table = toml::from_str(&format!("{key} = 0")).ok()?;
    let mut path = Vec::new();
    let mut table = &document;
    loop {
        let (name, value) = table.iter().next()?;
        path.push(name.clone());
        match value {
            toml::Value::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

/// Finds the key that a variable means: each segment must match one name that is there (or that the section knows), whatever
/// its case, with `_` for `-`.
fn resolve(merged: &Value, segments: &[&str]) -> Result<Vec<String>, (String, String)> {
    let mut path: Vec<String> = Vec::new();
    let mut at = Some(merged);
    for segment in segments {
        if at.is_some_and(|it| it.as_array().is_some()) {
            return Err(("points into a list".to_owned(), "override the whole list".to_owned()));
        }
        let table = at.and_then(Value::as_dict);
        let mut names: Vec<&str> = table.into_iter().flat_map(Dict::keys).map(String::as_str).collect();
        names.extend(known_keys(&path));
        names.sort_unstable();
        names.dedup();
        let normal = |name: &str| name.to_lowercase().replace('_', "-");
        let wanted = normal(segment);
        let matching: Vec<&str> = names.iter().copied().filter(|it| normal(it) == wanted).collect();
        match matching.as_slice() {
            [one] => {
                at = table.and_then(|it| it.get(*one));
                path.push((*one).to_owned());
            }
            [] => {
                let parent = if path.is_empty() {
                    "the configuration".to_owned()
                } else {
                    format!("`{}`", path.join("."))
                };
                let help = suggest(&wanted, names.iter().copied());
                return Err((format!("matches nothing: {parent} has no `{wanted}`"), help));
            }
            several => {
                let names = several.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(" and ");
                return Err((format!("matches more than one key: {names}"), "use --set instead".to_owned()));
            }
        }
    }
    Ok(path)
}
