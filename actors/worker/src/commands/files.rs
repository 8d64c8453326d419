//! `mkdir`, `rmfile`, `stat`, `glob` and `listdir`: short dealings with the file system.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use greenroom_protocol::{ByteString, Command, FileStat, UpdateItem};

use super::Done;
use crate::process::reason;
use crate::report::Report;

/// Most names answered by one `glob` or `listdir`.
const MOST_NAMES: usize = 500_000;
/// Most bytes of names in one answer; it has to fit into a frame.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What went wrong, and with which path.
struct Failure {
    path: String,
    error: io::Error,
}

type Answer = Result<Option<UpdateItem>, Failure>;

/// Runs one of the commands on a thread for blocking work.
pub(super) async fn run(command: Command, basedir: &Path, report: &mut Report) -> Done {
    let name = command.name().to_owned();
    let basedir = basedir.to_owned();
    let answer = match tokio::task::spawn_blocking(move || perform(command, &basedir)).await {
        Ok(answer) => answer,
        Err(error) => return Done::failed(format!("{name} broke off: {error}")),
    };
    let rc = match answer {
        Ok(item) => {
            if let Some(item) = item {
                report.push(item);
            }
            0
        }
        Err(Failure { path, error }) => {
            report.header(&format!("{name}: {}: {path}\n", reason(&error)));
            i64::from(error.raw_os_error().unwrap_or(1))
        }
    };
    Done { rc: Some(rc), interrupted: false, failure: None }
}

fn perform(command: Command, basedir: &Path) -> Answer {
    match command {
        Command::Mkdir { paths } => {
            for path in paths {
                std::fs::create_dir_all(basedir.join(&path)).map_err(|error| Failure { path, error })?;
            }
            Ok(None)
        }
        Command::Rmfile { path } => {
            std::fs::remove_file(basedir.join(&path)).map(|()| None).map_err(|error| Failure { path, error })
        }
        Command::Stat { path } => stat(&basedir.join(&path)).map_err(|error| Failure { path, error }),
        Command::Listdir { path } => listdir(&basedir.join(&path)).map_err(|error| Failure { path, error }),
        Command::Glob { path } => find(&basedir.join(&path)).map_err(|error| Failure { path, error }),
        other => Err(Failure { path: other.name().to_owned(), error: io::ErrorKind::Unsupported.into() }),
    }
}

fn stat(path: &Path) -> io::Result<Option<UpdateItem>> {
    let facts = std::fs::metadata(path)?;
    // Device and inode numbers are bit patterns; all else is far below 2^63.
    Ok(Some(UpdateItem::Stat(FileStat {
        mode: i64::from(facts.mode()),
        ino: facts.ino() as i64,
        dev: facts.dev() as i64,
        nlink: facts.nlink() as i64,
        uid: i64::from(facts.uid()),
        gid: i64::from(facts.gid()),
        size: facts.size() as i64,
        atime: facts.atime(),
        mtime: facts.mtime(),
        ctime: facts.ctime(),
    })))
}

fn listdir(path: &Path) -> io::Result<Option<UpdateItem>> {
    let names = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| PathBuf::from(entry.file_name())));
    bounded(names).map(|names| Some(UpdateItem::Files(names)))
}

fn find(pattern: &Path) -> io::Result<Option<UpdateItem>> {
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(&pattern.to_string_lossy(), options)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    // A directory that may not be read matches nothing.
    bounded(found.filter_map(Result::ok).map(Ok)).map(|names| Some(UpdateItem::Files(names)))
}

fn bounded(names: impl Iterator<Item = io::Result<PathBuf>>) -> io::Result<Vec<ByteString>> {
    let (mut list, mut bytes) = (Vec::new(), 0);
    for name in names {
        let name = ByteString::from(name?.to_string_lossy().into_owned());
        bytes += name.len();
        if list.len() == MOST_NAMES || bytes > MOST_BYTES {
            return Err(io::Error::other("too many names"));
        }
        list.push(name);
    }
    Ok(list)
}
