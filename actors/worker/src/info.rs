//! What the agent says about itself.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use greenroom_protocol::{COMMAND_VERSION, OUTPUT_BATCHES, OUTPUT_BATCHES_VERSION, WorkerInfo};

use crate::{commands, process};

/// Most bytes of one file of `info/` that are sent.
const MOST_BYTES: u64 = 64 * 1024;
/// Most files of `info/` that are sent.
const MOST_FILES: usize = 64;

/// Gathers the answer to `get_worker_info`. Reads files: call it where blocking is allowed.
pub(crate) fn gather(basedir: &Path, version: &str) -> WorkerInfo {
    let mut texts = info_files(&basedir.join("info"));
    texts.extend(os_facts(&read_bounded(Path::new("/etc/os-release")).unwrap_or_default()));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    WorkerInfo {
        texts,
        environ: process::own_all(),
        system: "posix".to_owned(),
        basedir: basedir.to_string_lossy().into_owned(),
        numcpus: i64::try_from(cpus).unwrap_or(1),
        version: version.to_owned(),
        worker_commands: commands::NAMES.map(|name| (name.to_owned(), COMMAND_VERSION.to_owned())).into(),
        delete_leftover_dirs: false,
        extensions: BTreeMap::from([
            ("agent".to_owned(), 1),
            (OUTPUT_BATCHES.to_owned(), OUTPUT_BATCHES_VERSION),
        ]),
    }
}

fn info_files(dir: &Path) -> BTreeMap<String, String> {
    // Without the directory there is nothing to tell.
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeMap::new() };
    let read = |entry: std::fs::DirEntry| {
        let text = read_bounded(&entry.path())?;
        Some((entry.file_name().to_string_lossy().into_owned(), text))
    };
    entries.filter_map(Result::ok).filter_map(read).take(MOST_FILES).collect()
}

fn read_bounded(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `NAME="value"` lines as `os_name` → value.
fn os_facts(text: &str) -> BTreeMap<String, String> {
    let fact = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim_matches(|c| c == '"' || c == '\'');
        Some((format!("os_{}", name.trim().to_lowercase()), value.to_owned()))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(fact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_becomes_facts() {
        let facts = os_facts("ID=debian\n# comment\nPRETTY_NAME=\"Debian 12\"\n\nVERSION_ID='12'\n");
        assert_eq!(facts["os_id"], "debian");
        assert_eq!(facts["os_pretty_name"], "Debian 12");
        assert_eq!(facts["os_version_id"], "12");
        assert_eq!(facts.len(), 3);
    }

    #[test]
    fn files_of_info_are_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("info")).unwrap();
        std::fs::write(dir.path().join("info/admin"), "me <me@example.org>\n").unwrap();
        let info = gather(dir.path(), "1.2");
        assert_eq!(info.texts["admin"], "me <me@example.org>\n");
        assert_eq!(info.version, "1.2");
        assert_eq!(info.worker_commands["shell"], "3.3");
        assert!(!info.worker_commands.contains_key("upload_file"), "not announced while not there");
    }
}
