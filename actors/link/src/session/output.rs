//! The way of a command's output to the log store: one task a command, pieces in order, each masked and awaited.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use greenroom_config::mask::{Masker, Masks};
use greenroom_data::{DataError, LogStream, Rw};
use greenroom_model::LogId;
use greenroom_protocol::Batch;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use crate::socket::Credit;

/// Largest piece that is appended at once.
const PIECE: usize = 1 << 20;
/// How long the log store may be away before output is given up: a database that is away for an hour costs none.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// Something for a log. The queue is bounded by the credit that travels in it.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Whole lines of text.
    Text {
        log: LogId,
        stream: LogStream,
        text: Bytes,
        #[allow(dead_code, reason = "held, not read")]
        credit: Credit,
    },
    /// Bytes of a batch, which stays packed until it is its turn: so what waits is no larger than its credit.
    Batch {
        batch: Batch,
        parts: Vec<Part>,
        #[allow(dead_code, reason = "held, not read")]
        credit: Credit,
    },
    /// Our own words. They come after everything that the worker has said so far.
    Words { log: LogId, stream: LogStream, text: Bytes },
}

/// A part of a batch.
#[derive(Debug)]
pub(crate) struct Part {
    /// Which of its bytes; none: its source has ended.
    pub(crate) range: Range<usize>,
    /// The log that takes it; none: nobody wants it.
    pub(crate) log: Option<LogId>,
    pub(crate) stream: LogStream,
    /// It is standard output.
    pub(crate) is_stdout: bool,
    /// What is said, and where, if the source ends within a line.
    pub(crate) open_end: Option<(LogId, String)>,
}

/// A queue of output, for a writer.
#[derive(Debug)]
pub(crate) struct Pieces {
    pub(crate) queue: UnboundedReceiver<Piece>,
    /// Keep so many bytes of standard output that comes in batches.
    pub(crate) capture: Option<usize>,
}

/// What became of a command's output.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Why some of it could not be written, if so.
    pub(crate) trouble: Option<String>,
    /// The begin of standard output, of what came in batches.
    pub(crate) captured: Vec<u8>,
}

/// Writes pieces until no more can come.
pub(crate) async fn write(rw: Rw, masks: Masks, mut pieces: Pieces) -> Written {
    let capture = pieces.capture.unwrap_or(0);
    let mut writer = Writer { rw, masks, streams: Vec::new(), capture, written: Written::default() };
    while let Some(piece) = pieces.queue.recv().await {
        match piece {
            Piece::Text { log, stream, text, credit: _credit } => writer.push(log, stream, text).await,
            Piece::Batch { batch, parts, credit: _credit } => writer.batch(&batch, parts).await,
            Piece::Words { log, stream, text } => {
                writer.finish().await;
                writer.append(log, stream, text).await;
            }
        }
    }
    writer.finish().await;
    writer.written
}

/// One stream of one log.
struct Stream {
    log: LogId,
    stream: LogStream,
    /// What may be the begin of a secret is held back, in each stream apart.
    masker: Masker,
    /// Its last line has no end yet.
    is_open: bool,
}

struct Writer {
    rw: Rw,
    masks: Masks,
    streams: Vec<Stream>,
    /// Bytes of standard output that are still to be kept.
    capture: usize,
    written: Written,
}

impl Writer {
    fn stream(&mut self, log: LogId, stream: LogStream) -> &mut Stream {
        let known = self.streams.iter().position(|it| (it.log, it.stream) == (log, stream));
        let index = known.unwrap_or_else(|| {
            self.streams.push(Stream { log, stream, masker: self.masks.masker(), is_open: false });
            self.streams.len() - 1
        });
        &mut self.streams[index]
    }

    async fn push(&mut self, log: LogId, stream: LogStream, bytes: Bytes) {
        let Some(last) = bytes.last().copied() else { return };
        let known = self.stream(log, stream);
        known.is_open = last != b'\n';
        let bytes = known.masker.push(bytes);
        self.append(log, stream, bytes).await;
    }

    async fn batch(&mut self, batch: &Batch, parts: Vec<Part>) {
        let bytes = match batch.unpack() {
            Ok(bytes) => bytes,
            Err(error) => {
                self.written.trouble.get_or_insert_with(|| format!("its output could not be read: {error}"));
                return;
            }
        };
        for Part { range, log, stream, is_stdout, open_end } in parts {
            let bytes = bytes.slice(range);
            if is_stdout && self.capture > 0 {
                let kept = bytes.len().min(self.capture);
                self.written.captured.extend_from_slice(&bytes[..kept]);
                self.capture -= kept;
            }
            let Some(log) = log else { continue };
            if bytes.is_empty() {
                self.end(log, stream, open_end).await;
            } else {
                self.push(log, stream, bytes).await;
            }
        }
    }

    /// Ends the line that a source left open, and says that it was.
    async fn end(&mut self, log: LogId, stream: LogStream, words: Option<(LogId, String)>) {
        let Some(index) = self.streams.iter().position(|it| (it.log, it.stream) == (log, stream)) else {
            return;
        };
        let ended = self.streams.swap_remove(index);
        if self.finish_stream(ended).await
            && let Some((log, words)) = words
        {
            self.append(log, LogStream::Header, Bytes::from(words + "\n")).await;
        }
    }

    /// Writes what was held back, and ends a line that is open. Gives whether one was.
    async fn finish_stream(&mut self, ended: Stream) -> bool {
        let Stream { log, stream, mut masker, is_open } = ended;
        self.append(log, stream, masker.finish()).await;
        if is_open {
            self.append(log, stream, Bytes::from_static(b"\n")).await;
        }
        is_open
    }

    async fn finish(&mut self) {
        for ended in std::mem::take(&mut self.streams) {
            self.finish_stream(ended).await;
        }
    }

    async fn append(&mut self, log: LogId, stream: LogStream, text: Bytes) {
        // After a first loss the rest would be a log with a hole that nobody sees.
        if self.written.trouble.is_none()
            && let Err(error) = append(&self.rw, log, stream, text).await
        {
            tracing::warn!(log_id = log.0, %error, "output of a command could not be stored");
            self.written.trouble = Some(format!("its output could not be stored: {error}"));
        }
    }
}

async fn append(rw: &Rw, log: LogId, stream: LogStream, mut text: Bytes) -> Result<(), DataError> {
    while !text.is_empty() {
        let piece = text.split_to(boundary(&text, PIECE));
        append_piece(rw, log, stream, piece).await?;
    }
    Ok(())
}

async fn append_piece(rw: &Rw, log: LogId, stream: LogStream, piece: Bytes) -> Result<(), DataError> {
    let begun = Instant::now();
    loop {
        match rw.append_log(log, stream, piece.clone()).await {
            Err(DataError::Unavailable { retry_after, .. }) if begun.elapsed() < PATIENCE => {
                sleep(retry_after.max(Duration::from_millis(50))).await;
            }
            other => return other,
        }
    }
}

/// Where to cut text so that at most `limit` bytes, and no half character of UTF-8, stand before the cut.
fn boundary(text: &[u8], limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    let continues = |byte: u8| byte & 0xc0 == 0x80;
    let mut cut = limit;
    while cut > limit.saturating_sub(3) && continues(text[cut]) {
        cut -= 1;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::boundary;

    #[test]
    fn text_is_cut_between_characters() {
        let text = "aé€😀".as_bytes();
        let cuts: Vec<usize> = (4..=11).map(|limit| boundary(text, limit)).collect();
        assert_eq!(cuts, [3, 3, 6, 6, 6, 6, 10, 10]);
    }
}
