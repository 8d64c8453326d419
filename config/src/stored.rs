//! The layers of a configuration as files, so that an earlier version can be taken back.
//!
//! A directory holds each file as it was read, and `layers.json` which says in what order and what was set by variables and
//! flags. They may hold secrets: only this user may read them. Secrets that were kept elsewhere (`{ file = … }`) are not among
//! them; taking a version back reads them anew.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::expr::on_big_stack;
use crate::fault::{Fault, Faults};
use crate::layers::{LoadOptions, read};
use crate::load::{Loaded, build};
use crate::source::{Kind, Source};
use crate::values::Secret;

/// The file that lists the others.
const LIST: &str = "layers.json";

/// What a layer was read from: what [`Source`] shows is blotted, this is not.
#[derive(Clone, Debug)]
pub(crate) enum Original {
    /// The text of a file.
    File(Secret),
    /// A variable or flag: what is shown before it, the key it sets, and its text.
    Given { prefix: String, path: Vec<String>, text: Secret },
}

/// The layers of a configuration, apart from the built-in defaults. Cannot be printed: they may hold secrets.
#[derive(Clone, Debug)]
pub struct Layers(Vec<Layer>);

#[derive(Clone, Debug)]
struct Layer {
    name: String,
    /// The directory of a file.
    dir: Option<PathBuf>,
    original: Original,
}

/// A layer as listed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Listed {
    File { name: String, dir: PathBuf, stored: String },
    Given { name: String, prefix: String, path: Vec<String>, text: String },
}

/// Why stored layers cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// A file.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The list.
    #[error("{path} is damaged: {error}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        error: serde_json::Error,
    },
}

impl Layers {
    pub(crate) fn of(sources: &[Source]) -> Self {
        let layer = |source: &Source| {
            let dir = match &source.kind {
                Kind::BuiltIn => return None,
                Kind::File(dir) => Some(dir.clone()),
                Kind::Given(_) => None,
            };
            Some(Layer { name: source.name.clone(), dir, original: source.original.clone() })
        };
        Layers(sources.iter().filter_map(layer).collect())
    }

    /// Writes them into a new directory and waits until they are on the disk. A directory that is there is replaced: it is a
    /// version that never came into force.
    ///
    /// # Errors
    /// As the file system says.
    pub fn store(&self, dir: &Path) -> io::Result<()> {
        let new = dir.with_extension("new");
        for old in [&new, dir] {
            match fs::remove_dir_all(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::create_dir_all(&new)?;
        only_ours(&new)?;
        let mut list = Vec::with_capacity(self.0.len());
        for (number, layer) in self.0.iter().enumerate() {
            let name = layer.name.clone();
            list.push(match (&layer.original, &layer.dir) {
                (Original::File(text), dir) => {
                    let file =
                        Path::new(&name).file_name().and_then(|it| it.to_str()).unwrap_or("layer.toml");
                    let stored = format!("{number:02}-{file}");
                    write(&new.join(&stored), text.expose().as_bytes())?;
                    Listed::File { name, dir: dir.clone().unwrap_or_default(), stored }
                }
                (Original::Given { prefix, path, text }, _) => {
                    let (prefix, path, text) = (prefix.clone(), path.clone(), text.expose().to_owned());
                    Listed::Given { name, prefix, path, text }
                }
            });
        }
        let text = serde_json::to_vec_pretty(&list).map_err(io::Error::other)?;
        write(&new.join(LIST), &text)?;
        fs::rename(&new, dir)?;
        if let Some(parent) = dir.parent() {
            fs::File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    /// Reads what [`Layers::store`] wrote.
    ///
    /// # Errors
    /// If a file is missing or damaged.
    pub fn read(dir: &Path) -> Result<Self, StoredError> {
        let path = dir.join(LIST);
        let unreadable = |path: &Path, error| StoredError::Unreadable { path: path.to_owned(), error };
        let text = fs::read(&path).map_err(|error| unreadable(&path, error))?;
        let list: Vec<Listed> = serde_json::from_slice(&text)
            .map_err(|error| StoredError::Damaged { path: path.clone(), error })?;
        let mut layers = Vec::with_capacity(list.len());
        for listed in list {
            layers.push(match listed {
                Listed::File { name, dir: from, stored } => {
                    // A name of ours has no separators; one that has was not written by us.
                    let file = Path::new(&stored).file_name().map(|it| dir.join(it)).unwrap_or_default();
                    let text = fs::read_to_string(&file).map_err(|error| unreadable(&file, error))?;
                    Layer { name, dir: Some(from), original: Original::File(Secret::new(text)) }
                }
                Listed::Given { name, prefix, path, text } => Layer {
                    name,
                    dir: None,
                    original: Original::Given { prefix, path, text: Secret::new(text) },
                },
            });
        }
        Ok(Layers(layers))
    }
}

/// Loads stored layers over this program's defaults; secrets are read anew from where they are kept, those of variables from
/// `env`.
///
/// # Errors
/// As [`load`](crate::load).
pub fn load_layers(layers: &Layers, env: &[(String, String)]) -> Result<Loaded, Faults> {
    on_big_stack(|| load_here(layers, env))
        .unwrap_or_else(|message| Err(Faults::new(vec![Fault::error("internal", message)])))
}

fn load_here(layers: &Layers, env: &[(String, String)]) -> Result<Loaded, Faults> {
    let mut faults = Vec::new();
    let mut sources = read(&LoadOptions::default(), &mut faults);
    for layer in &layers.0 {
        let number = sources.len();
        match &layer.original {
            Original::File(text) => {
                let kind = Kind::File(layer.dir.clone().unwrap_or_default());
                match Source::parse(layer.name.clone(), kind, number, text.expose()) {
                    Ok(source) => sources.push(source),
                    Err(more) => faults.extend(more),
                }
            }
            Original::Given { prefix, path, text } => {
                sources.push(Source::given(&layer.name, prefix, path, text.expose()));
            }
        }
    }
    build(&sources, faults, env)
}

fn only_ours(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Difference, load};

    #[test]
    fn a_stored_version_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (file, extra) = (dir.path().join("greenroom.toml"), dir.path().join("greenroom.d"));
        fs::create_dir(&extra).unwrap();
        fs::write(
            &file,
            "[workers.w1]\npassword = 'hush'\n[builders.b]\n[[builders.b.steps]]\nrun = 'make'\n",
        )
        .unwrap();
        fs::write(extra.join("x.toml"), "[master]\ndata-dir = 'data'\n").unwrap();
        let env = vec![("GREENROOM_WORKERS__W1__MAX_BUILDS".to_owned(), "3".to_owned())];
        let sets = vec!["master.title=4".to_owned()];
        let options = LoadOptions { files: vec![file.clone()], sets, env: env.clone(), system_dir: None };
        let before = load(&options).unwrap();
        let stored = dir.path().join("configurations/1");
        before.layers.store(&stored).unwrap();
        before.layers.store(&stored).unwrap();

        fs::write(&file, "[builders.other]\n[[builders.other.steps]]\nrun = 'make'\n").unwrap();
        let layers = Layers::read(&stored).unwrap();
        assert!(!format!("{layers:?}").contains("hush"));
        let after = load_layers(&layers, &[]).unwrap();
        assert_eq!(after.settings, before.settings);
        assert_eq!(after.settings.workers["w1"].max_builds.get(), 3);
        assert_eq!(after.settings.master.title, "4");
        assert!(
            Difference::between((&before.settings, &before.values), (&after.settings, &after.values))
                .is_empty()
        );
        #[cfg(unix)]
        for entry in fs::read_dir(&stored).unwrap() {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn damaged_and_missing_versions_are_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Layers::read(dir.path()), Err(StoredError::Unreadable { .. })));
        fs::write(dir.path().join(LIST), "[{").unwrap();
        assert!(matches!(Layers::read(dir.path()), Err(StoredError::Damaged { .. })));
        fs::write(
            dir.path().join(LIST),
            "[{\"file\":{\"name\":\"a\",\"dir\":\"/\",\"stored\":\"../../etc/passwd\"}}]",
        )
        .unwrap();
        assert!(matches!(Layers::read(dir.path()), Err(StoredError::Unreadable { .. })));
    }
}
