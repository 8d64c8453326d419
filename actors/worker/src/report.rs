//! Collects what a command has to report and sends it in few, ordered updates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom_protocol::{CommandId, LogText, Settings, UpdateItem, WorkerOp};
use tokio::time::Instant;

use crate::outbox::{Gone, Outbox, Slot};

/// Longest time that output waits for more.
const FLUSH_AFTER: Duration = Duration::from_millis(50);
/// Bounds of the master's `buffer_size`.
const SIZES: (u64, u64) = (4 * 1024, 1024 * 1024);
/// Most facts in one update.
const MOST_ITEMS: usize = 1024;

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
            UpdateItem::Files(files) => files.iter().map(|name| name.len() + 5).sum(),
            _ => 16,
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
        let items = std::mem::take(&mut self.items);
        if items.is_empty() {
            return Ok(());
        }
        slot.send(WorkerOp::Update { command_id: self.id.clone(), items })
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
        slot.send(WorkerOp::Complete { command_id: self.id, failure })
    }
}
