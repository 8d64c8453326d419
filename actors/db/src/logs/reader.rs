//! The LogReader: answers reads of stored lines, a bounded piece at a time.

use actix::{Actor, Context, Handler, ResponseFuture};
use memchr::memchr_iter;

use super::store::{Segment, unpack};
use crate::messages::{LogError, LogLines, ReadLines};
use crate::store::Store;

/// Reads log text.
pub struct LogReader {
    store: Store,
}

impl LogReader {
    /// A reader over `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

impl Actor for LogReader {
    type Context = Context<Self>;
}

greenroom_runtime::supervised!(LogReader, "log-reader");

impl Handler<ReadLines> for LogReader {
    type Result = ResponseFuture<Result<LogLines, LogError>>;

    fn handle(&mut self, msg: ReadLines, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(read(self.store.clone(), msg))
    }
}

async fn read(store: Store, msg: ReadLines) -> Result<LogLines, LogError> {
    let mut window = Window {
        got: LogLines { first: msg.first.max(0), ..LogLines::default() },
        text: Vec::new(),
        wanted: msg.count,
        max_bytes: msg.max_bytes,
    };
    loop {
        let (line, left) = (window.next(), window.wanted - window.got.count);
        if left <= 0 {
            break;
        }
        let room = window.max_bytes.saturating_sub(window.text.len());
        let segments = store.0.logs.segments(msg.log, line, left, room).await?;
        if segments.is_empty() {
            break;
        }
        let taking = tokio::task::spawn_blocking(move || window.take(&segments).map(|full| (full, window)));
        let (full, taken) = taking.await.map_err(|e| LogError::Damaged(e.to_string()))??;
        window = taken;
        if full {
            window.got.next = Some(window.next());
            break;
        }
    }
    window.got.text = window.text.into();
    Ok(window.got)
}

/// Lines as they are gathered.
struct Window {
    got: LogLines,
    text: Vec<u8>,
    wanted: i64,
    max_bytes: usize,
}

impl Window {
    /// The line after those that are here.
    fn next(&self) -> i64 {
        self.got.first + self.got.count
    }

    /// Takes lines of segments that follow each other; answers whether there is no room for more.
    fn take(&mut self, segments: &[Segment]) -> Result<bool, LogError> {
        for segment in segments {
            let (skip, at_most) = (self.next() - segment.first, self.wanted - self.got.count);
            if at_most <= 0 {
                return Ok(false);
            }
            let room = self.max_bytes.saturating_sub(self.text.len());
            if room == 0 && self.got.count > 0 {
                return Ok(true);
            }
            let mut unpacked = unpack(segment)?;
            let (lines, range) = choose(&unpacked, skip, at_most, room, self.got.count == 0);
            if self.text.is_empty() {
                unpacked.truncate(range.end);
                unpacked.drain(..range.start);
                self.text = unpacked;
            } else {
                self.text.extend_from_slice(&unpacked[range]);
            }
            self.got.count += lines;
            if skip + lines < segment.lines && self.got.count < self.wanted {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// How many lines after the first `skip` fit, and where they are; at least one if `needed`.
fn choose(text: &[u8], skip: i64, at_most: i64, room: usize, needed: bool) -> (i64, std::ops::Range<usize>) {
    let (mut start, mut end, mut lines) = (0, 0, 0);
    for (number, newline) in (0..).zip(memchr_iter(b'\n', text)) {
        if number < skip {
            start = newline + 1;
            end = start;
            continue;
        }
        let fits = newline + 1 - start <= room || (needed && lines == 0);
        if lines == at_most || !fits {
            break;
        }
        lines += 1;
        end = newline + 1;
    }
    (lines, start..end)
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn whole_lines_are_chosen() {
        let text = b"a\nbb\nccc\n";
        assert_eq!(choose(text, 0, 9, 99, true), (3, 0..9));
        assert_eq!(choose(text, 1, 1, 99, true), (1, 2..5));
        assert_eq!(choose(text, 1, 9, 4, true), (1, 2..5));
        assert_eq!(choose(text, 2, 9, 1, true), (1, 5..9));
        assert_eq!(choose(text, 2, 9, 1, false), (0, 5..5));
        assert_eq!(choose(text, 3, 9, 99, true), (0, 9..9));
    }
}
