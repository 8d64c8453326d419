//! The commands of one session: what runs, what it said, how it ended.
//!
//! Ends are kept until they are forgotten, so that a build that was born again finds them; of those nobody asks for
//! only the newest are kept. A plain table: the session calls it, and it calls nothing but the queues of output.

use std::collections::{BTreeMap, HashMap, VecDeque};

use std::time::Duration;

use bytes::Bytes;
use greenroom_config::mask::{Masks, SharedMasks};
use greenroom_data::LogStream;
use greenroom_model::{LogId, log_words};
use greenroom_protocol::{Batch, FileStat, LogText, Source, UpdateItem};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::watch;
use tokio::time::Instant;

use super::arrivals::{Arrivals, Gap, Ready};
use super::output::{Part, Piece, Pieces, Written};
use crate::command::{CommandEnd, CommandStart};
use crate::socket::Credit;

/// Commands that may run at once.
pub(crate) const MAX_RUNNING: usize = 1024;
/// Ends that are kept though nobody has forgotten them.
const MAX_ENDED: usize = 4096;
/// Bytes that may wait, in all commands of a session, for what should have come before them: half of its credit.
const MAX_HELD: usize = 2 << 20;
/// How long they wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Names that one answer of `glob` or `listdir` may have.
const MAX_FILES: usize = 1 << 16;

/// Where a command is in its life.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The worker has not said that it is over.
    Running,
    /// The worker has; its output is still being written.
    Writing,
    /// Its end is known.
    Ended,
    /// The connection is gone; what has come of its output is still being written.
    Lost,
}

struct Entry {
    stdio: Option<LogId>,
    logs: BTreeMap<String, LogId>,
    capture: Option<usize>,
    stage: Stage,
    output: Option<UnboundedSender<Piece>>,
    is_written: bool,
    is_forgotten: bool,
    interrupts: u32,
    rc: Option<i64>,
    failure_reason: Option<String>,
    failure: Option<String>,
    captured: String,
    files: Vec<String>,
    stat: Option<FileStat>,
    elapsed: Option<f64>,
    arrivals: Arrivals,
    /// The worker has said that it is over, and how many bytes there were; not all of them have come.
    ending: Option<Ending>,
    /// Since when something that should have come is waited for.
    waits_since: Option<Instant>,
    /// How it ended, if the connection was lost: told when its output is written.
    lost: Option<CommandEnd>,
    end: watch::Sender<Option<CommandEnd>>,
}

struct Ending {
    failure: Option<String>,
    totals: Vec<(Source, u64)>,
}

/// What came of a wish to start a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    New,
    Known,
    Full,
}

/// A queue of output for which a writer has to be started.
pub(crate) type NewOutput = Option<Pieces>;

/// See the module.
#[derive(Default)]
pub(crate) struct CommandTable {
    masks: SharedMasks,
    entries: HashMap<String, Entry>,
    running: usize,
    ended: VecDeque<String>,
}

impl Entry {
    fn new(start: CommandStart) -> Self {
        Self {
            stdio: start.stdio,
            logs: start.logs,
            capture: start.capture_stdout,
            stage: Stage::Running,
            output: None,
            is_written: true,
            is_forgotten: false,
            interrupts: 0,
            rc: None,
            failure_reason: None,
            failure: None,
            captured: String::new(),
            files: Vec::new(),
            stat: None,
            elapsed: None,
            arrivals: Arrivals::default(),
            ending: None,
            waits_since: None,
            lost: None,
            end: watch::Sender::new(None),
        }
    }

    fn take(&mut self, item: UpdateItem, credit: &Credit) -> NewOutput {
        match item {
            UpdateItem::Stdout(text) => {
                self.capture(&text);
                return self.text(&Source::Stdout, text, credit);
            }
            UpdateItem::Stderr(text) => return self.text(&Source::Stderr, text, credit),
            UpdateItem::Header(text) => return self.text(&Source::Header, text, credit),
            UpdateItem::Log { name, text } => return self.text(&Source::File(name), text, credit),
            UpdateItem::Rc(rc) => self.rc = Some(rc),
            UpdateItem::Elapsed(seconds) => self.elapsed = Some(seconds),
            UpdateItem::FailureReason(reason) => self.failure_reason = Some(reason),
            UpdateItem::Files(files) => {
                let room = MAX_FILES.saturating_sub(self.files.len());
                if files.len() > room {
                    self.fail(format!("the worker listed more than {MAX_FILES} files"));
                }
                self.files.extend(files.into_iter().take(room).map(String::from));
            }
            UpdateItem::Stat(stat) => self.stat = Some(stat),
            UpdateItem::Unknown { .. } => {}
        }
        None
    }

    fn capture(&mut self, text: &LogText) {
        let Some(limit) = self.capture else { return };
        let room = limit.saturating_sub(self.captured.len());
        let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.captured.push_str(&text[..end]);
        if end < text.len() {
            // What comes later is not the continuation of what was kept.
            self.capture = None;
        }
    }

    fn text(&mut self, source: &Source, text: LogText, credit: &Credit) -> NewOutput {
        self.arrivals.count(source, text.len());
        let log = self.log_of(source)?;
        if text.is_empty() {
            return None;
        }
        let (stream, text) = (stream_of(source), text.into_bytes());
        self.write(Piece::Text { log, stream, text, credit: credit.clone() })
    }

    /// The log that takes what a source writes.
    fn log_of(&self, source: &Source) -> Option<LogId> {
        match source {
            Source::File(name) => self.logs.get(&**name).copied(),
            _ => self.stdio,
        }
    }

    fn words(&mut self, log: LogId, stream: LogStream, text: String) -> NewOutput {
        self.write(Piece::Words { log, stream, text: Bytes::from(text) })
    }

    fn ready(&mut self, ready: Ready) -> NewOutput {
        let Ready { batch, news, credit } = ready;
        let part = |(source, range): (Source, std::ops::Range<usize>)| Part {
            log: self.log_of(&source),
            stream: stream_of(&source),
            is_stdout: source == Source::Stdout && self.capture.is_some(),
            open_end: match range.is_empty() {
                true => self.stdio.map(|log| (log, log_words::open_end(&name_of(&source)))),
                false => None,
            },
            range,
        };
        let parts: Vec<Part> = news.into_iter().map(part).collect();
        if parts.iter().all(|part| part.log.is_none() && !part.is_stdout) {
            return None;
        }
        self.write(Piece::Batch { batch, parts, credit })
    }

    fn write(&mut self, piece: Piece) -> NewOutput {
        let mut new = None;
        let capture = self.capture;
        let output = self.output.get_or_insert_with(|| {
            let (output, queue) = mpsc::unbounded_channel();
            new = Some(Pieces { queue, capture });
            output
        });
        self.is_written = false;
        // A writer that died is reported by its task; what it cannot take any more counts as not stored.
        let _ = output.send(piece);
        new
    }

    /// Goes on without what did not come, and says so in its log.
    fn skip(&mut self, gap: &Gap) -> NewOutput {
        let words = log_words::gap(&name_of(&gap.source), &gap.bytes);
        self.fail(words.clone());
        let log = self.log_of(&gap.source)?;
        self.words(log, own_stream(&gap.source), words + "\n")
    }

    /// No longer waits for what should have come before what is held.
    fn give_up(&mut self) -> NewOutput {
        let mut new = None;
        for (gap, ready) in self.arrivals.give_up() {
            new = self.skip(&gap).or(new);
            for ready in ready {
                new = self.ready(ready).or(new);
            }
        }
        self.waits_since = None;
        new
    }

    /// Says in all its logs how far they go.
    fn mark_lost(&mut self, why: &str) -> NewOutput {
        let mut new = self.give_up();
        // Nothing has come of any of them: then the first of them stands for all.
        let incomplete = |sources: &[Source]| {
            let received = self.arrivals.received().iter().filter(|(source, _)| sources.contains(source));
            let mut upto: Vec<_> = received.map(|(source, bytes)| (name_of(source), *bytes)).collect();
            if upto.is_empty() {
                upto.extend(sources.first().map(|source| (name_of(source), 0)));
            }
            log_words::incomplete(&upto, why)
        };
        let mut words = Vec::new();
        if let Some(log) = self.stdio {
            words.push((log, LogStream::Header, incomplete(&[Source::Stdout, Source::Stderr])));
        }
        for (name, log) in &self.logs {
            words.push((*log, LogStream::Plain, incomplete(&[Source::File(name.as_str().into())])));
        }
        for (log, stream, text) in words {
            new = self.words(log, stream, text + "\n").or(new);
        }
        new
    }

    fn fail(&mut self, failure: String) {
        self.failure.get_or_insert(failure);
    }

    /// What goes into records and properties is masked, as the log is.
    fn make_end(&mut self, masks: &Masks) -> CommandEnd {
        let masked = |text: String| masks.mask(&text).into_owned();
        CommandEnd::Finished {
            rc: self.rc,
            failure_reason: self.failure_reason.take().map(masked),
            failure: self.failure.take().map(masked),
            captured: masked(std::mem::take(&mut self.captured)),
            files: std::mem::take(&mut self.files),
            stat: self.stat.take(),
            elapsed: self.elapsed,
        }
    }
}

fn stream_of(source: &Source) -> LogStream {
    match source {
        Source::Stdout => LogStream::Stdout,
        Source::Stderr => LogStream::Stderr,
        Source::Header => LogStream::Header,
        Source::File(_) => LogStream::Plain,
    }
}

/// Bytes of output as the lines of text that a stock worker would have sent.
fn lines(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\r', "\n")
}

/// The stream of our own words in the log of a source.
fn own_stream(source: &Source) -> LogStream {
    if matches!(source, Source::File(_)) { LogStream::Plain } else { LogStream::Header }
}

fn name_of(source: &Source) -> String {
    match source {
        Source::Stdout => log_words::STDOUT.to_owned(),
        Source::Stderr => log_words::STDERR.to_owned(),
        Source::Header => "the worker's own words".to_owned(),
        Source::File(name) => name.to_string(),
    }
}

impl CommandTable {
    pub(crate) fn new(masks: SharedMasks) -> Self {
        Self { masks, ..Self::default() }
    }

    /// Registers a command, before it is sent: its updates may come before the answer.
    pub(crate) fn insert(&mut self, start: CommandStart) -> Inserted {
        if self.entries.contains_key(&start.command_id) {
            return Inserted::Known;
        }
        if self.running >= MAX_RUNNING {
            return Inserted::Full;
        }
        self.running += 1;
        self.entries.insert(start.command_id.clone(), Entry::new(start));
        Inserted::New
    }

    /// The end of a command, now or later; none if it is unknown.
    pub(crate) fn watch(&self, id: &str) -> Option<watch::Receiver<Option<CommandEnd>>> {
        self.entries.get(id).map(|entry| entry.end.subscribe())
    }

    /// Whether the worker may still be running it.
    pub(crate) fn is_running(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.stage == Stage::Running)
    }

    /// Notes an interrupt; false if nothing of that name runs or it had its share of them.
    pub(crate) fn interrupt(&mut self, id: &str) -> bool {
        match self.entries.get_mut(id) {
            Some(entry) if entry.stage == Stage::Running && entry.interrupts < 16 => {
                entry.interrupts += 1;
                true
            }
            _ => false,
        }
    }

    /// Takes facts about a running command. None: no such command runs here.
    pub(crate) fn update(&mut self, id: &str, items: Vec<UpdateItem>, credit: &Credit) -> Option<NewOutput> {
        let entry = self.entries.get_mut(id).filter(|entry| entry.stage == Stage::Running)?;
        let mut new = None;
        for item in items {
            new = entry.take(item, credit).or(new);
        }
        Some(new)
    }

    /// Takes output in a batch. None: no such command runs here.
    pub(crate) fn output(&mut self, id: &str, batch: Batch, credit: Credit) -> Option<NewOutput> {
        let entry = self.entries.get_mut(id).filter(|entry| entry.stage == Stage::Running)?;
        let mut new = None;
        for ready in entry.arrivals.take(batch, credit) {
            new = entry.ready(ready).or(new);
        }
        if entry.arrivals.holds() {
            entry.waits_since.get_or_insert_with(Instant::now);
            let held: usize = self.entries.values().map(|entry| entry.arrivals.held_bytes()).sum();
            if held > MAX_HELD
                && let Some(entry) = self.entries.get_mut(id)
            {
                new = entry.give_up().or(new);
            }
        } else if entry.ending.is_none() {
            entry.waits_since = None;
        }
        Some(self.end_if_all_came(id).or(new))
    }

    /// Goes on without what has been waited for too long. Gives the queues for which writers are wanted.
    pub(crate) fn lose_patience(&mut self) -> Vec<(String, Pieces)> {
        let late = |entry: &Entry| {
            entry.stage == Stage::Running
                && entry.waits_since.is_some_and(|since| since.elapsed() >= PATIENCE)
        };
        let ids: Vec<String> =
            self.entries.iter().filter(|(_, entry)| late(entry)).map(|(id, _)| id.clone()).collect();
        let mut news = Vec::new();
        for id in ids {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let mut new = entry.give_up();
            let totals = entry.ending.as_ref().map(|ending| ending.totals.clone()).unwrap_or_default();
            for gap in entry.arrivals.missing(&totals) {
                new = entry.skip(&gap).or(new);
            }
            if let Some(ending) = entry.ending.take() {
                new = self.end(&id, ending.failure).or(new);
            }
            news.extend(new.map(|pieces| (id, pieces)));
        }
        news
    }

    /// The worker says that it is over. None: no such command runs here.
    pub(crate) fn complete(
        &mut self,
        id: &str,
        failure: Option<String>,
        totals: Option<Vec<(Source, u64)>>,
    ) -> Option<NewOutput> {
        let entry = self.entries.get_mut(id).filter(|entry| entry.stage == Stage::Running)?;
        if entry.ending.is_none() {
            entry.ending = Some(Ending { failure, totals: totals.unwrap_or_default() });
            entry.waits_since.get_or_insert_with(Instant::now);
        }
        Some(self.end_if_all_came(id))
    }

    fn end_if_all_came(&mut self, id: &str) -> NewOutput {
        let entry = self.entries.get_mut(id)?;
        let came = |ending: &mut Ending| {
            !entry.arrivals.holds() && entry.arrivals.missing(&ending.totals).is_empty()
        };
        let ending = entry.ending.take_if(came)?;
        self.end(id, ending.failure)
    }

    fn end(&mut self, id: &str, failure: Option<String>) -> NewOutput {
        let entry = self.entries.get_mut(id)?;
        if let Some(failure) = failure {
            entry.fail(failure);
        }
        let mut new = None;
        if let (Some(rc), Some(log)) = (entry.rc, entry.stdio) {
            let words = format!("program finished with exit code {rc}\n");
            new = entry.words(log, LogStream::Header, words);
        }
        entry.stage = Stage::Writing;
        // The writer ends when it has written what is queued.
        entry.output = None;
        if entry.is_written {
            self.finish(id);
        }
        new
    }

    /// All output of a command is written, or could not be.
    pub(crate) fn written(&mut self, id: &str, written: Written) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.is_written = true;
        entry.output = None;
        entry.captured.push_str(&lines(&written.captured));
        if let Some(trouble) = written.trouble {
            entry.fail(trouble);
        }
        match entry.stage {
            Stage::Writing | Stage::Lost => self.finish(id),
            Stage::Running | Stage::Ended => {}
        }
    }

    /// A command cannot go on for a reason of ours; it stays registered until the worker says that it is over.
    pub(crate) fn fail(&mut self, id: &str, failure: &str) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.fail(failure.to_owned());
        }
    }

    /// The worker did not accept it.
    pub(crate) fn refuse(&mut self, id: &str, text: &str) {
        if let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.stage == Stage::Running) {
            let text = self.masks.current().mask(text).into_owned();
            entry
                .end
                .send_replace(Some(CommandEnd::failed(format!("the worker refused the command: {text}"))));
            self.running -= 1;
            self.entries.remove(id);
        }
    }

    /// The connection is gone: whatever runs is lost (or failed, if that was decided before), and its logs say how far they go;
    /// that is told when it is written. Gives what may still run on the worker, and the queues for which writers are
    /// wanted. Commands that the worker has ended finish as usual when their output is written.
    pub(crate) fn lose_all(&mut self, why: &str) -> (Vec<String>, Vec<(String, Pieces)>) {
        let lost: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.stage == Stage::Running)
            .map(|(id, _)| id.clone())
            .collect();
        let masks = self.masks.current();
        let mut news = Vec::new();
        for id in &lost {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            // What was held back when the connection broke is no failure of its own.
            let failed = entry.failure.is_some();
            news.extend(entry.mark_lost(why).map(|pieces| (id.clone(), pieces)));
            let end = if failed { entry.make_end(&masks) } else { CommandEnd::lost(why) };
            entry.lost = Some(end);
            entry.stage = Stage::Lost;
            entry.output = None;
            if entry.is_written {
                self.finish(id);
            }
        }
        (lost, news)
    }

    /// Nobody will ask any more, nor wants further output.
    pub(crate) fn forget(&mut self, id: &str) {
        match self.entries.get_mut(id) {
            Some(entry) if entry.stage != Stage::Ended => {
                entry.is_forgotten = true;
                entry.stdio = None;
                entry.logs.clear();
            }
            Some(_) => {
                self.entries.remove(id);
                self.ended.retain(|ended| ended != id);
            }
            None => {}
        }
    }

    /// Commands that the worker has not ended, and those of which output is still being written.
    pub(crate) fn open(&self) -> usize {
        self.running
    }

    /// Ends that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.ended.len()
    }

    /// The ids of all commands that the worker has not ended.
    pub(crate) fn running_ids(&self) -> Vec<String> {
        let running = self.entries.iter().filter(|(_, entry)| entry.stage == Stage::Running);
        running.map(|(id, _)| id.clone()).collect()
    }

    fn finish(&mut self, id: &str) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let end = entry.lost.take().unwrap_or_else(|| entry.make_end(&self.masks.current()));
        entry.end.send_replace(Some(end));
        entry.stage = Stage::Ended;
        self.running -= 1;
        if entry.is_forgotten {
            self.entries.remove(id);
            return;
        }
        self.ended.push_back(id.to_owned());
        if self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    fn start(id: &str) -> CommandStart {
        CommandStart {
            command_id: id.into(),
            command: greenroom_protocol::Command::Stat { path: "/".into() },
            stdio: Some(LogId(1)),
            logs: BTreeMap::from([("tests".into(), LogId(2))]),
            capture_stdout: Some(5),
        }
    }

    fn mute(id: &str) -> CommandStart {
        CommandStart { stdio: None, logs: BTreeMap::new(), ..start(id) }
    }

    async fn credit() -> Credit {
        crate::socket::test_credit(&Arc::new(Semaphore::new(1))).await
    }

    fn text(text: &str) -> LogText {
        LogText::new(text, 0.0)
    }

    fn end(table: &CommandTable, id: &str) -> Option<CommandEnd> {
        table.watch(id).and_then(|end| end.borrow().clone())
    }

    #[tokio::test]
    async fn an_end_is_reported_when_the_output_is_written_and_kept_until_forgotten() {
        let mut table = CommandTable::default();
        assert_eq!(table.insert(start("a")), Inserted::New);
        assert_eq!(table.insert(start("a")), Inserted::Known);
        let items = vec![
            UpdateItem::Stdout(text("aé€b\n")),
            UpdateItem::Log { name: "tests".into(), text: text("1 passed\n") },
            UpdateItem::Log { name: "unknown".into(), text: text("dropped\n") },
            UpdateItem::Rc(3),
            UpdateItem::Elapsed(1.5),
            UpdateItem::Stdout(text("tail\n")),
        ];
        let mut pieces = table.update("a", items, &credit().await).unwrap().expect("a writer is wanted");
        assert!(table.complete("a", None, None).unwrap().is_none(), "one writer only");
        assert_eq!(end(&table, "a"), None);
        let mut written = Vec::new();
        while let Some(piece) = pieces.queue.recv().await {
            let (Piece::Text { log, stream, text, .. } | Piece::Words { log, stream, text }) = piece else {
                panic!("{piece:?}")
            };
            written.push((log.0, stream, String::from_utf8(text.to_vec()).unwrap()));
        }
        let expected = [
            (1, LogStream::Stdout, "aé€b\n"),
            (2, LogStream::Plain, "1 passed\n"),
            (1, LogStream::Stdout, "tail\n"),
            (1, LogStream::Header, "program finished with exit code 3\n"),
        ];
        assert_eq!(written, expected.map(|(log, stream, text)| (log, stream, text.to_owned())));
        table.written("a", Written::default());
        let Some(CommandEnd::Finished { rc, captured, elapsed, failure, .. }) = end(&table, "a") else {
            panic!("not ended")
        };
        assert_eq!((rc, captured.as_str(), elapsed, failure), (Some(3), "aé", Some(1.5), None));
        assert!(
            table.update("a", vec![UpdateItem::Rc(9)], &credit().await).is_none(),
            "nothing after the end"
        );
        assert!(table.complete("a", None, None).is_none());
        table.forget("a");
        assert!(table.watch("a").is_none());
        assert_eq!((table.open(), table.kept()), (0, 0));
    }

    #[tokio::test]
    async fn losing_the_connection_loses_what_runs_and_finishes_what_has_ended() {
        let mut table = CommandTable::default();
        for id in ["running", "failed", "silent", "ended"] {
            table.insert(CommandStart { capture_stdout: None, ..start(id) });
        }
        for id in ["running", "ended"] {
            let _ = table.update(id, vec![UpdateItem::Stdout(text("x\n"))], &credit().await).unwrap();
        }
        table.fail("failed", "too large");
        table.insert(mute("mute"));
        table.complete("ended", Some("broke".into()), None);
        let (mut lost, news) = table.lose_all("gone");
        lost.sort_unstable();
        assert_eq!(lost, ["failed", "mute", "running", "silent"]);
        assert_eq!(end(&table, "mute"), Some(CommandEnd::lost("gone")));
        assert_eq!(table.open(), 4, "four are still being written");
        let mut wanted: Vec<&str> = news.iter().map(|(id, _)| id.as_str()).collect();
        wanted.sort_unstable();
        assert_eq!(
            wanted,
            ["failed", "silent"],
            "their logs say that they are incomplete; the others have writers"
        );
        for id in ["running", "failed", "silent", "ended"] {
            assert_eq!(end(&table, id), None, "{id}: told when it is written");
        }
        for id in ["failed", "silent", "ended"] {
            table.written(id, Written::default());
        }
        table.written("running", Written { trouble: Some("no room".into()), ..Written::default() });
        assert_eq!(end(&table, "running"), Some(CommandEnd::lost("gone")));
        assert_eq!(end(&table, "silent"), Some(CommandEnd::lost("gone")));
        assert_eq!(end(&table, "failed"), Some(CommandEnd::failed("too large")));
        assert_eq!(end(&table, "ended"), Some(CommandEnd::failed("broke")));
        assert_eq!(table.open(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_waited_for_and_then_told() {
        let mut table = CommandTable::default();
        table.insert(CommandStart { capture_stdout: None, ..start("a") });
        let piece = |offset, text: &'static [u8]| {
            Batch::new(vec![(Source::Stdout, offset, Bytes::from_static(text))])
        };
        let mut pieces = table.output("a", piece(0, b"one\n"), credit().await).unwrap().unwrap();
        assert!(table.output("a", piece(8, b"three\n"), credit().await).unwrap().is_none());
        let totals = Some(vec![(Source::Stdout, 20)]);
        assert!(table.complete("a", None, totals).unwrap().is_none());
        tokio::time::advance(PATIENCE / 2).await;
        assert!(table.lose_patience().is_empty() && table.is_running("a"), "it may still come");
        tokio::time::advance(PATIENCE).await;
        assert!(table.lose_patience().is_empty(), "its writer is there");
        let mut words = Vec::new();
        while let Some(piece) = pieces.queue.recv().await {
            words.push(match piece {
                Piece::Words { text, .. } => String::from_utf8(text.to_vec()).unwrap(),
                Piece::Batch { batch, .. } => String::from_utf8(batch.unpack().unwrap().to_vec()).unwrap(),
                Piece::Text { .. } => panic!("{piece:?}"),
            });
        }
        let gap = |bytes| log_words::gap(log_words::STDOUT, &bytes) + "\n";
        assert_eq!(words, ["one\n".to_owned(), gap(4..8), "three\n".to_owned(), gap(14..20)]);
        table.written("a", Written::default());
        let failure = log_words::gap(log_words::STDOUT, &(4..8));
        assert_eq!(end(&table, "a"), Some(CommandEnd::failed(failure)));
    }

    #[tokio::test]
    async fn what_is_held_back_is_bounded() {
        let mut table = CommandTable::default();
        table.insert(mute("a"));
        let piece = |offset| Batch::new(vec![(Source::Stdout, offset, Bytes::from(vec![b'x'; 1 << 20]))]);
        for number in 1..=2 {
            table.output("a", piece(number << 21), credit().await).unwrap();
        }
        assert!(table.entries["a"].arrivals.holds());
        table.output("a", piece(3 << 21), credit().await).unwrap();
        assert!(!table.entries["a"].arrivals.holds(), "given up: the credit must come back");
        assert!(table.entries["a"].failure.is_some());
    }

    #[tokio::test]
    async fn a_refused_command_fails_whoever_waits_and_is_gone() {
        let mut table = CommandTable::default();
        table.insert(start("a"));
        let waiting = table.watch("a").unwrap();
        table.refuse("a", "no such command");
        let expected = CommandEnd::failed("the worker refused the command: no such command");
        assert_eq!(waiting.borrow().clone(), Some(expected));
        assert!(table.watch("a").is_none());
        assert_eq!(table.insert(start("a")), Inserted::New);
    }

    #[tokio::test]
    async fn tables_are_bounded() {
        let mut table = CommandTable::default();
        for number in 0..MAX_RUNNING {
            assert_eq!(table.insert(mute(&number.to_string())), Inserted::New);
        }
        assert_eq!(table.insert(mute("more")), Inserted::Full);
        table.lose_all("gone");
        for number in 0..=MAX_ENDED {
            let id = format!("later {number}");
            assert_eq!(table.insert(mute(&id)), Inserted::New);
            assert!(table.complete(&id, None, None).is_some());
        }
        assert_eq!(table.kept(), MAX_ENDED);
        assert!(table.watch("0").is_none());
        assert!(table.watch("later 1").is_some());
        assert_eq!(table.entries.len(), MAX_ENDED);
    }

    #[tokio::test]
    async fn of_a_forgotten_command_nothing_is_written_and_nothing_stays() {
        let mut table = CommandTable::default();
        table.insert(start("a"));
        table.forget("a");
        assert!(table.update("a", vec![UpdateItem::Stdout(text("x\n"))], &credit().await).unwrap().is_none());
        assert!(table.is_running("a"), "it may still be interrupted");
        assert!(table.interrupt("a"));
        table.complete("a", None, None);
        assert!(table.watch("a").is_none());
        assert_eq!((table.open(), table.kept(), table.entries.len()), (0, 0, 0));
    }
}
