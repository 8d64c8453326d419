//! Follows files that a command writes, by polling.

use std::fs::Metadata;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use greenroom_protocol::{Logfile, Source};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::process::lines::{LineBuffer, Taken};
use crate::report::unix_now;

/// What tells one state of a file from another: where it is, how long it is and when it was written.
type State = (u64, u64, u64, i64, i64);

/// Most bytes read from a file at a time.
const CHUNK: u64 = 256 * 1024;

fn state(facts: &Metadata) -> State {
    (facts.dev(), facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec())
}

/// One followed file.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Its place in reports.
    pub(crate) source: Source,
    path: PathBuf,
    /// How the file was when the command started; it is not read until it differs.
    at_start: Option<State>,
    inode: Option<u64>,
    offset: u64,
    lines: LineBuffer,
}

impl Follower {
    /// Notes how the file is now, before the command starts.
    pub(crate) async fn new(name: &str, logfile: &Logfile, workdir: &Path, raw: bool) -> Self {
        let path = workdir.join(&logfile.filename);
        let facts = tokio::fs::metadata(&path).await.ok();
        let offset = if logfile.follow { facts.as_ref().map_or(0, Metadata::size) } else { 0 };
        Self {
            source: Source::File(name.into()),
            path,
            inode: facts.as_ref().map(MetadataExt::ino),
            at_start: facts.as_ref().map(state),
            offset,
            lines: LineBuffer::new(raw),
        }
    }

    /// Reads a piece of what is new. `None` when there is nothing new. A file that cannot be read has
    /// nothing new: it may not exist yet.
    pub(crate) async fn poll(&mut self) -> Option<Taken> {
        loop {
            let read = self.read().await.unwrap_or(0);
            if read == 0 {
                return None;
            }
            if let Some(taken) = self.lines.take_ready() {
                return Some(taken);
            }
        }
    }

    /// The last line, if it has no end.
    pub(crate) fn rest(&mut self) -> Option<Taken> {
        self.lines.take_rest()
    }

    async fn read(&mut self) -> std::io::Result<usize> {
        let facts = tokio::fs::metadata(&self.path).await?;
        if !facts.is_file() || self.at_start == Some(state(&facts)) {
            return Ok(0);
        }
        self.at_start = None;
        if self.inode != Some(facts.ino()) || facts.size() < self.offset {
            self.inode = Some(facts.ino());
            self.offset = 0;
        }
        if facts.size() == self.offset {
            return Ok(0);
        }
        let mut file = File::open(&self.path).await?;
        file.seek(SeekFrom::Start(self.offset)).await?;
        let read = file.take(CHUNK).read_buf(self.lines.room()).await?;
        self.offset += read as u64;
        self.lines.filled(unix_now());
        Ok(read)
    }
}
