//! The LogReader: answers reads of stored lines, a bounded piece at a time.

use actix::{Actor, Context, Handler, ResponseFuture};
use bytes::Bytes;
use memchr::memchr_iter;

use super::store::unpack;
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
    let first = msg.first.max(0);
    let mut got = LogLines { first, count: 0, text: Bytes::new(), next: None };
    let mut text: Vec<u8> = Vec::new();
    while got.count < msg.count {
        let line = first + got.count;
        let Some(segment) = store.0.logs.segment(msg.log, line).await? else { break };
        let (skip, at_most) = (line - segment.first, msg.count - got.count);
        let room = msg.max_bytes.saturating_sub(text.len());
        let stored = segment.lines;
        let unpacked = tokio::task::spawn_blocking(move || unpack(&segment)).await;
        let unpacked = unpacked.map_err(|e| LogError::Damaged(e.to_string()))??;
        let (lines, range) = choose(&unpacked, skip, at_most, room, got.count == 0);
        if lines == 0 {
            got.next = Some(line);
            break;
        }
        got.count += lines;
        let full = skip + lines < stored && got.count < msg.count;
        if text.is_empty() && (full || got.count == msg.count) {
            got.text = Bytes::from(unpacked).slice(range);
        } else {
            text.extend_from_slice(&unpacked[range]);
        }
        if full {
            got.next = Some(first + got.count);
            break;
        }
    }
    if !text.is_empty() {
        got.text = text.into();
    }
    Ok(got)
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
