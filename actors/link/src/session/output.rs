//! The way of a command's output to the log store: one task a command, pieces in order, each masked and awaited.

use std::time::Duration;

use bytes::Bytes;
use greenroom_config::mask::{Masker, Masks};
use greenroom_data::{DataError, LogStream, Rw};
use greenroom_model::LogId;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use crate::socket::Credit;

/// Largest piece that is appended at once.
const PIECE: usize = 1 << 20;
/// How long the log store may be away before output is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Some text for a log. The queue is bounded by the credit that travels in it.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) log: LogId,
    pub(crate) stream: LogStream,
    pub(crate) text: Bytes,
    pub(crate) credit: Option<Credit>,
}

/// Writes pieces until no more can come. Gives the reason why some of them could not be written, if so.
pub(crate) async fn write(rw: Rw, masks: Masks, mut pieces: UnboundedReceiver<Piece>) -> Option<String> {
    let mut writer = Writer { rw, masks, streams: Vec::new(), trouble: None };
    while let Some(Piece { log, stream, text, credit }) = pieces.recv().await {
        if credit.is_none() {
            // Our own words come when the worker has said all.
            writer.finish().await;
        }
        let text = writer.masker(log, stream).push(text);
        writer.append(log, stream, text).await;
        drop(credit);
    }
    writer.finish().await;
    writer.trouble
}

struct Writer {
    rw: Rw,
    masks: Masks,
    /// What may be the begin of a secret is held back, in each stream apart.
    streams: Vec<(LogId, LogStream, Masker)>,
    trouble: Option<String>,
}

impl Writer {
    fn masker(&mut self, log: LogId, stream: LogStream) -> &mut Masker {
        let known = self.streams.iter().position(|it| (it.0, it.1) == (log, stream));
        let index = known.unwrap_or_else(|| {
            self.streams.push((log, stream, self.masks.masker()));
            self.streams.len() - 1
        });
        &mut self.streams[index].2
    }

    /// Writes what was held back.
    async fn finish(&mut self) {
        for (log, stream, mut masker) in std::mem::take(&mut self.streams) {
            self.append(log, stream, masker.finish()).await;
        }
    }

    async fn append(&mut self, log: LogId, stream: LogStream, text: Bytes) {
        // After a first loss the rest would be a log with a hole that nobody sees.
        if self.trouble.is_none()
            && let Err(error) = append(&self.rw, log, stream, text).await
        {
            tracing::warn!(log.id = log.0, %error, "output of a command could not be stored");
            self.trouble = Some(format!("its output could not be stored: {error}"));
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

/// Where to cut UTF-8 text so that at most `limit` bytes, and no half character, stand before the cut.
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
