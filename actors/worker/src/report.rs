//! Collects what a command has to report and sends it in few, ordered updates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom_protocol::{CommandId, LogText, Settings, UpdateItem, WorkerOp};
use memchr::memchr_iter;
use tokio::time::Instant;

use crate::outbox::{Gone, Outbox, Slot};
use crate::process::MAX_LINE;

/// Longest time that output waits for more.
const FLUSH_AFTER: Duration = Duration::from_millis(50);
/// Bounds of the master's `buffer_size`.
const SIZES: (u64, u64) = (4 * 1024, 1024 * 1024);
/// Most facts in one update.
const MOST_ITEMS: usize = 1024;

/// Most bytes of facts in one update; what is encoded around it still fits into a frame.
const MOST_BYTES: usize = 24 * 1024 * 1024;
/// Most lines in one text: each costs up to 14 bytes for its position and time.
const MOST_LINES: usize = 512 * 1024;
/// Texts up to this length fit into a frame whatever is in them.
const HARMLESS: usize = 1024 * 1024;

/// About how many bytes a fact takes in a frame.
fn weight(item: &UpdateItem) -> usize {
    match item {
        UpdateItem::Stdout(text)
        | UpdateItem::Stderr(text)
        | UpdateItem::Header(text)
        | UpdateItem::Log { text, .. } => text.len() + 14 * memchr_iter(b'\n', text.as_bytes()).count(),
        UpdateItem::Files(files) => files.iter().map(|name| name.len() + 5).sum(),
        _ => 16,
    }
}

/// Cuts a text that would not fit into a frame: after a line where possible, else in a line.
pub(crate) fn pieces(text: LogText) -> impl Iterator<Item = LogText> {
    let at = text.received_at();
    let (whole, mut rest) =
        if text.len() <= HARMLESS { (Some(text), LogText::default()) } else { (None, text) };
    let cut = std::iter::from_fn(move || {
        let length = piece_length(&rest);
        let (piece, after) = (rest.as_bytes().slice(..length), rest.as_bytes().slice(length..));
        rest = LogText::from_utf8(after, at).ok()?;
        if piece.is_empty() {
            return None;
        }
        if piece.ends_with(b"\n") {
            return LogText::from_utf8(piece, at).ok();
        }
        let line = String::from_utf8_lossy(&piece);
        Some(LogText::new(format!("{line}\n"), at))
    });
    whole.into_iter().chain(cut)
}

fn piece_length(text: &str) -> usize {
    let mut fits = 0;
    for (count, newline) in memchr_iter(b'\n', text.as_bytes()).enumerate() {
        if newline > MAX_LINE || count >= MOST_LINES {
            break;
        }
        fits = newline + 1;
    }
    if fits > 0 { fits } else { text.floor_char_boundary(MAX_LINE) }
}

/// The reports of one command. `complete` is sent by [`Report::complete`], always last.
#[derive(Debug)]
pub(crate) struct Report {
    id: CommandId,
    outbox: Outbox,
    items: Vec<UpdateItem>,
    header: String,
    size: usize,
    flush_at: Option<Instant>,
    flush_size: usize,
    flush_after: Duration,
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl Report {
    pub(crate) fn new(id: CommandId, outbox: Outbox, settings: &Settings) -> Self {
        let timeout = Duration::try_from_secs_f64(settings.buffer_timeout).unwrap_or(FLUSH_AFTER);
        Self {
            id,
            outbox,
            items: Vec::new(),
            header: String::new(),
            size: 0,
            flush_at: None,
            flush_size: settings.buffer_size.clamp(SIZES.0, SIZES.1) as usize,
            flush_after: timeout.min(FLUSH_AFTER),
        }
    }

    /// Adds a fact behind the others.
    pub(crate) fn push(&mut self, item: UpdateItem) {
        self.end_header();
        self.size += match &item {
            UpdateItem::Stdout(text) | UpdateItem::Stderr(text) | UpdateItem::Log { text, .. } => text.len(),
            other => weight(other),
        };
        self.items.push(item);
        self.touch();
    }

    /// Adds text of the agent itself; it must end with a newline.
    pub(crate) fn header(&mut self, text: &str) {
        self.header.push_str(text);
        self.size += text.len();
        self.touch();
    }

    fn end_header(&mut self) {
        if !self.header.is_empty() {
            let text = std::mem::take(&mut self.header);
            self.items.push(UpdateItem::Header(LogText::new(text, unix_now())));
        }
    }

    /// Starts the clock after which waiting facts are sent; also for output that is still in its buffer.
    pub(crate) fn touch(&mut self) {
        if self.flush_at.is_none() {
            self.flush_at = Some(Instant::now() + self.flush_after);
        }
    }

    /// When to send what waits, if anything does.
    pub(crate) fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    /// Whether it is time to send, with `buffered` bytes of lines still in their buffers.
    pub(crate) fn is_due(&self, buffered: usize) -> bool {
        self.size + buffered >= self.flush_size
            || self.items.len() >= MOST_ITEMS
            || self.flush_at.is_some_and(|at| at <= Instant::now())
    }

    /// Waits for room for everything collected, with `buffered` bytes more. Loses nothing if given up.
    pub(crate) fn reserve(&self, buffered: usize) -> impl Future<Output = Result<Slot, Gone>> + use<> {
        let (outbox, bytes) = (self.outbox.clone(), self.size + buffered);
        async move { outbox.reserve(bytes).await }
    }

    /// Sends everything collected.
    pub(crate) fn send(&mut self, slot: Slot) -> Result<(), Gone> {
        self.end_header();
        self.flush_at = None;
        self.size = 0;
        let mut part = Vec::with_capacity(self.items.len());
        let mut bytes = 0;
        for item in self.items.drain(..) {
            let more = weight(&item);
            if bytes + more > MOST_BYTES && !part.is_empty() {
                let items = std::mem::take(&mut part);
                slot.send_part(WorkerOp::Update { command_id: self.id.clone(), items })?;
                bytes = 0;
            }
            bytes += more;
            part.push(item);
        }
        if part.is_empty() {
            return Ok(());
        }
        slot.send(WorkerOp::Update { command_id: self.id.clone(), items: part })
    }

    /// Waits for room, then sends everything collected.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        let slot = self.reserve(0).await?;
        self.send(slot)
    }

    /// Sends what is left and the end of the command.
    pub(crate) async fn complete(mut self, failure: Option<String>) -> Result<(), Gone> {
        if !self.items.is_empty() || !self.header.is_empty() {
            self.flush().await?;
        }
        let slot = self.outbox.reserve(failure.as_ref().map_or(0, String::len)).await?;
        slot.send(WorkerOp::Complete { command_id: self.id, failure, totals: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: String) -> Vec<LogText> {
        pieces(LogText::new(text, 1.0)).collect()
    }

    #[test]
    fn ordinary_texts_stay_whole() {
        assert_eq!(cut("a\nb\n".to_owned()).len(), 1);
        assert_eq!(cut("x".repeat(MAX_LINE) + "\n").len(), 1, "the longest line comes whole");
    }

    #[test]
    fn too_many_lines_and_too_long_lines_are_cut() {
        let lines = cut("\n".repeat(3 * MOST_LINES));
        assert_eq!(lines.iter().map(|text| text.len()).collect::<Vec<_>>(), [MOST_LINES; 3]);
        let line = cut("é".repeat(MAX_LINE) + "\nend\n");
        assert!(line.iter().all(|text| text.ends_with('\n') && text.len() <= MAX_LINE + 5));
        let joined: String = line.iter().flat_map(|text| text.chars().filter(|c| *c == 'é')).collect();
        assert_eq!(joined.chars().count(), MAX_LINE);
        assert!(line.last().is_some_and(|text| text.ends_with("end\n")));
    }

    #[tokio::test]
    async fn an_update_that_would_not_fit_goes_in_parts() {
        let (outbox, mut reader) = Outbox::new();
        let mut report = Report::new(CommandId::Int(1), outbox, &Settings::default());
        for _ in 0..3 {
            report.push(UpdateItem::Stdout(LogText::new("x".repeat(MAX_LINE), 1.0)));
        }
        report.flush().await.unwrap();
        for _ in 0..3 {
            assert!(reader.try_next().is_some());
        }
        assert!(reader.try_next().is_none());
    }
}
