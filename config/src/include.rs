//! `include = ["more.toml", "conf.d/*.toml"]`: files that a file brings along.
//!
//! They are layers of their own, right before the file that names them, which therefore wins.

use std::path::{Path, PathBuf};

use figment::value::Value;
use glob::glob;

use crate::fault::{Fault, Place};
use crate::source::Source;

/// The key.
pub(crate) const KEY: &str = "include";
/// How many files may be read in all.
pub(crate) const MAX_FILES: usize = 1_000;
/// How deep files may bring along files.
pub(crate) const MAX_DEPTH: usize = 16;

/// The files that a file names and where it does, in its order, those of a pattern by name. What is wrong is noted.
pub(crate) fn included(
    source: &Source,
    layer: usize,
    dir: &Path,
    faults: &mut Vec<Fault>,
) -> Vec<(PathBuf, Option<Place>)> {
    let Some(value) = source.values.get(KEY) else { return Vec::new() };
    let patterns = match value {
        Value::Array(_, items) => items.as_slice(),
        other => std::slice::from_ref(other),
    };
    let mut files = Vec::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let place = place(source, layer, index);
        let found = match pattern.as_str() {
            Some("") | None => Err(Box::new(
                Fault::error("wrong-type", "`include` is a list of files")
                    .help("write include = [\"more.toml\", \"conf.d/*.toml\"]"),
            )),
            Some(pattern) => find(dir, pattern),
        };
        match found {
            Ok(found) => files.extend(found.into_iter().map(|it| (it, place.clone()))),
            Err(fault) => faults.push(Fault { key: KEY.to_owned(), place, ..*fault }),
        }
    }
    files
}

/// Where the element stands.
fn place(source: &Source, layer: usize, index: usize) -> Option<Place> {
    let node = source.root.table.get(KEY)?;
    let node = node.list.get(index).unwrap_or(node);
    Some(Place::new(&source.name, layer, &source.text, node.value.clone()))
}

/// The files of one pattern. A plain name must be there, a pattern may match nothing.
fn find(dir: &Path, pattern: &str) -> Result<Vec<PathBuf>, Box<Fault>> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![dir.join(pattern)]);
    }
    // What the directory itself is called is no pattern.
    let base = glob::Pattern::escape(dir.to_str().unwrap_or(""));
    let whole = match (Path::new(pattern).is_absolute(), base.is_empty()) {
        (true, _) | (_, true) => pattern.to_owned(),
        (false, false) => format!("{base}/{pattern}"),
    };
    let entries = glob(&whole).map_err(|error| {
        Box::new(Fault::error("bad-value", format!("not a pattern of files: {}", error.msg)))
    })?;
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(path) if path.is_file() => files.push(path),
            Ok(_) => {}
            Err(error) => {
                return Err(Fault::error("unreadable", format!("cannot read a directory: {error}")).into());
            }
        }
        if files.len() > MAX_FILES {
            return Err(Fault::error("too-many", format!("more than {MAX_FILES} files match")).into());
        }
    }
    Ok(files)
}
