//! Collects what a command has to report and sends it in few, ordered updates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use greenroom_protocol::{
    Batch, CommandId, LogText, MAX_BATCH, OUTPUT_BATCHES_VERSION, Settings, Source, UpdateItem, WorkerOp,
};
use memchr::memchr_iter;
use tokio::time::Instant;

use crate::outbox::{Gone, Outbox, Slot};
use crate::process::{MAX_LINE, Taken};

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

/// A fact that says that a source wrote a text.
fn item(source: &Source, text: LogText) -> UpdateItem {
    match source {
        Source::Stdout => UpdateItem::Stdout(text),
        Source::Stderr => UpdateItem::Stderr(text),
        Source::Header => UpdateItem::Header(text),
        Source::File(name) => UpdateItem::Log { name: name.clone(), text },
    }
}

/// The source of a text among the facts; else the fact itself.
fn source(item: UpdateItem) -> Result<(Source, LogText), UpdateItem> {
    match item {
        UpdateItem::Stdout(text) => Ok((Source::Stdout, text)),
        UpdateItem::Stderr(text) => Ok((Source::Stderr, text)),
        UpdateItem::Header(text) => Ok((Source::Header, text)),
        UpdateItem::Log { name, text } => Ok((Source::File(name), text)),
        other => Err(other),
    }
}

/// Output that goes in batches.
#[derive(Debug, Default)]
struct Batches {
    /// What waits to be sent.
    pieces: Vec<(Source, u64, Bytes)>,
    /// Bytes of each source so far.
    totals: Vec<(Source, u64)>,
}

impl Batches {
    fn total(&mut self, source: &Source) -> &mut u64 {
        let known = self.totals.iter().position(|(known, _)| known == source);
        let index = known.unwrap_or_else(|| {
            self.totals.push((source.clone(), 0));
            self.totals.len() - 1
        });
        &mut self.totals[index].1
    }

    fn push(&mut self, source: Source, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(MAX_BATCH));
            let total = self.total(&source);
            let offset = *total;
            *total += piece.len() as u64;
            self.pieces.push((source.clone(), offset, piece));
        }
    }

    fn end(&mut self, source: &Source) {
        if let Some((source, total)) = self.totals.iter().find(|(known, _)| known == source) {
            self.pieces.push((source.clone(), *total, Bytes::new()));
        }
    }

    /// What waits, in batches of the size that is allowed.
    fn take(&mut self) -> Vec<Batch> {
        let (mut batches, mut batch, mut size) = (Vec::new(), Vec::new(), 0);
        for piece in self.pieces.drain(..) {
            if size + piece.2.len() > MAX_BATCH || batch.len() >= MOST_ITEMS {
                batches.push(Batch::new(std::mem::take(&mut batch)));
                size = 0;
            }
            size += piece.2.len();
            batch.push(piece);
        }
        if !batch.is_empty() {
            batches.push(Batch::new(batch));
        }
        batches
    }
}

/// Cuts a text that would not fit into a frame: after a line where possible, else in a line.
fn pieces(text: LogText) -> impl Iterator<Item = LogText> {
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
    /// None: the master wants output among the facts.
    batches: Option<Batches>,
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
            batches: (settings.output_batches == Some(OUTPUT_BATCHES_VERSION)).then(Batches::default),
        }
    }

    /// Whether output is reported as the bytes that it is, not as lines of text.
    pub(crate) fn is_raw(&self) -> bool {
        self.batches.is_some()
    }

    /// Adds what a source wrote.
    pub(crate) fn output(&mut self, source: &Source, taken: Taken) {
        match taken {
            Taken::Lines(text) => pieces(text).for_each(|piece| self.push(item(source, piece))),
            Taken::Bytes(bytes) => {
                self.end_header();
                self.size += bytes.len();
                if let Some(batches) = &mut self.batches {
                    batches.push(source.clone(), bytes);
                }
                self.touch();
            }
        }
    }

    /// The program behind a source has ended; if it left a line open, that stays open for ever.
    pub(crate) fn ended(&mut self, source: &Source) {
        self.end_header();
        if let Some(batches) = &mut self.batches {
            batches.end(source);
            self.touch();
        }
    }

    /// Adds a fact behind the others.
    pub(crate) fn push(&mut self, item: UpdateItem) {
        self.end_header();
        let item = match (&mut self.batches, source(item)) {
            (None, Ok((source, text))) => self::item(&source, text),
            (Some(_), Ok((source, text))) => return self.output(&source, Taken::Bytes(text.into_bytes())),
            (_, Err(fact)) => fact,
        };
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
            match &mut self.batches {
                Some(batches) => batches.push(Source::Header, text.into()),
                None => self.items.push(UpdateItem::Header(LogText::new(text, unix_now()))),
            }
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
            || self.batches.as_ref().is_some_and(|batches| batches.pieces.len() >= MOST_ITEMS)
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
        let batches = self.batches.as_mut().map(Batches::take).unwrap_or_default();
        let mut ops: Vec<WorkerOp> = batches
            .into_iter()
            .map(|batch| WorkerOp::Output { command_id: self.id.clone(), batch })
            .collect();
        let mut part = Vec::with_capacity(self.items.len());
        let mut bytes = 0;
        for item in self.items.drain(..) {
            let more = weight(&item);
            if bytes + more > MOST_BYTES && !part.is_empty() {
                ops.push(WorkerOp::Update { command_id: self.id.clone(), items: std::mem::take(&mut part) });
                bytes = 0;
            }
            bytes += more;
            part.push(item);
        }
        if !part.is_empty() {
            ops.push(WorkerOp::Update { command_id: self.id.clone(), items: part });
        }
        // The room is free again when the last of them is sent.
        let Some(last) = ops.pop() else { return Ok(()) };
        ops.into_iter().try_for_each(|op| slot.send_part(op))?;
        slot.send(last)
    }

    /// Waits for room, then sends everything collected.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        let slot = self.reserve(0).await?;
        self.send(slot)
    }

    /// Sends what is left and the end of the command.
    pub(crate) async fn complete(mut self, failure: Option<String>) -> Result<(), Gone> {
        let waiting = self.batches.as_ref().is_some_and(|batches| !batches.pieces.is_empty());
        if waiting || !self.items.is_empty() || !self.header.is_empty() {
            self.flush().await?;
        }
        let slot = self.outbox.reserve(failure.as_ref().map_or(0, String::len)).await?;
        let totals = self.batches.map(|batches| batches.totals);
        slot.send(WorkerOp::Complete { command_id: self.id, failure, totals })
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
    async fn batches_have_offsets_bounded_sizes_and_totals() {
        let (outbox, mut reader) = Outbox::new();
        let mut report = Report::new(CommandId::Int(1), outbox, &Settings::batched(1));
        report.header("make\n");
        report.output(&Source::Stdout, Taken::Bytes(vec![b'x'; MAX_BATCH + 10].into()));
        report.push(UpdateItem::Stderr(LogText::new("bad\n", 1.0)));
        report.ended(&Source::Stdout);
        report.ended(&Source::Stderr);
        report.ended(&Source::File("silent".into()));
        report.push(UpdateItem::Rc(0));
        report.complete(None).await.unwrap();
        let (mut chunks, mut sizes, mut others) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(crate::outbox::Outgoing::Request(op, _)) = reader.try_next() {
            match op {
                WorkerOp::Output { batch, .. } => {
                    sizes.push(batch.size());
                    chunks.extend(batch.chunks().iter().map(|it| (it.source.clone(), it.offset, it.length)));
                }
                other => others.push(other),
            }
        }
        let out = |offset, length| (Source::Stdout, offset, length);
        let err = |offset, length| (Source::Stderr, offset, length);
        let end = MAX_BATCH as u64 + 10;
        let header = (Source::Header, 0, 5);
        let expected =
            [header, out(0, MAX_BATCH), out(MAX_BATCH as u64, 10), err(0, 4), out(end, 0), err(4, 0)];
        assert_eq!(chunks, expected);
        assert_eq!(sizes, [5, MAX_BATCH, 14]);
        let totals = vec![(Source::Header, 5), (Source::Stdout, end), (Source::Stderr, 4)];
        let command_id = CommandId::Int(1);
        let complete =
            WorkerOp::Complete { command_id: command_id.clone(), failure: None, totals: Some(totals) };
        assert_eq!(others, [WorkerOp::Update { command_id, items: vec![UpdateItem::Rc(0)] }, complete]);
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
