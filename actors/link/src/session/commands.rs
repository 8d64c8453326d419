//! The commands of one session: what runs, what it said, how it ended.
//!
//! Ends are kept until they are forgotten, so that a build that was born again finds them; of those nobody asks for
//! only the newest are kept. A plain table: the session calls it, and it calls nothing but the queues of output.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use greenroom_config::mask::{Masks, SharedMasks};
use greenroom_data::LogStream;
use greenroom_model::LogId;
use greenroom_protocol::{FileStat, LogText, UpdateItem};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;

use super::output::Piece;
use crate::command::{CommandEnd, CommandStart};
use crate::socket::Credit;

/// Commands that may run at once.
pub(crate) const MAX_RUNNING: usize = 1024;
/// Ends that are kept though nobody has forgotten them.
const MAX_ENDED: usize = 4096;
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
    /// As running, but its watchers know already that it is lost; only its output is still being written.
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
    end: watch::Sender<Option<CommandEnd>>,
}

/// What came of a wish to start a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    New,
    Known,
    Full,
}

/// A queue of output for which a writer has to be started.
pub(crate) type NewOutput = Option<UnboundedReceiver<Piece>>;

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
            end: watch::Sender::new(None),
        }
    }

    fn take(&mut self, item: UpdateItem, credit: Option<&Credit>) -> NewOutput {
        match item {
            UpdateItem::Stdout(text) => {
                self.capture(&text);
                return self.text(self.stdio, LogStream::Stdout, text, credit);
            }
            UpdateItem::Stderr(text) => return self.text(self.stdio, LogStream::Stderr, text, credit),
            UpdateItem::Header(text) => return self.text(self.stdio, LogStream::Header, text, credit),
            UpdateItem::Log { name, text } => {
                let log = self.logs.get(&*name).copied();
                return self.text(log, LogStream::Plain, text, credit);
            }
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

    fn text(
        &mut self,
        log: Option<LogId>,
        stream: LogStream,
        text: LogText,
        credit: Option<&Credit>,
    ) -> NewOutput {
        self.piece(log, stream, text.into_bytes(), credit)
    }

    fn piece(
        &mut self,
        log: Option<LogId>,
        stream: LogStream,
        text: Bytes,
        credit: Option<&Credit>,
    ) -> NewOutput {
        let log = log?;
        if text.is_empty() {
            return None;
        }
        let mut new = None;
        let output = self.output.get_or_insert_with(|| {
            let (output, pieces) = mpsc::unbounded_channel();
            new = Some(pieces);
            output
        });
        self.is_written = false;
        // A writer that died is reported by its task; what it cannot take any more counts as not stored.
        let _ = output.send(Piece { log, stream, text, credit: credit.cloned() });
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
            new = entry.take(item, Some(credit)).or(new);
        }
        Some(new)
    }

    /// The worker says that it is over. None: no such command runs here.
    pub(crate) fn complete(&mut self, id: &str, failure: Option<String>) -> Option<NewOutput> {
        let entry = self.entries.get_mut(id).filter(|entry| entry.stage == Stage::Running)?;
        if let Some(failure) = failure {
            entry.fail(failure);
        }
        let mut new = None;
        if let Some(rc) = entry.rc {
            let words = Bytes::from(format!("program finished with exit code {rc}\n"));
            new = entry.piece(entry.stdio, LogStream::Header, words, None);
        }
        entry.stage = Stage::Writing;
        // The writer ends when it has written what is queued.
        entry.output = None;
        if entry.is_written {
            self.finish(id);
        }
        Some(new)
    }

    /// All output of a command is written, or could not be.
    pub(crate) fn written(&mut self, id: &str, trouble: Option<String>) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.is_written = true;
        entry.output = None;
        if let Some(trouble) = trouble {
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

    /// The connection is gone: whatever runs is lost (or failed, if that was decided before). Gives what may still run on the
    /// worker. Commands that the worker has ended finish as usual when their output is written.
    pub(crate) fn lose_all(&mut self, why: &str) -> Vec<String> {
        let lost: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.stage == Stage::Running)
            .map(|(id, _)| id.clone())
            .collect();
        let masks = self.masks.current();
        for id in &lost {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            let end = if entry.failure.is_some() { entry.make_end(&masks) } else { CommandEnd::lost(why) };
            entry.end.send_replace(Some(end));
            entry.stage = Stage::Lost;
            entry.output = None;
            if entry.is_written {
                self.finish(id);
            }
        }
        lost
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
        if entry.stage != Stage::Lost {
            let end = entry.make_end(&self.masks.current());
            entry.end.send_replace(Some(end));
        }
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
        assert!(table.complete("a", None).unwrap().is_none(), "one writer only");
        assert_eq!(end(&table, "a"), None);
        let mut written = Vec::new();
        while let Some(piece) = pieces.recv().await {
            written.push((piece.log.0, piece.stream, String::from_utf8(piece.text.to_vec()).unwrap()));
        }
        let expected = [
            (1, LogStream::Stdout, "aé€b\n"),
            (2, LogStream::Plain, "1 passed\n"),
            (1, LogStream::Stdout, "tail\n"),
            (1, LogStream::Header, "program finished with exit code 3\n"),
        ];
        assert_eq!(written, expected.map(|(log, stream, text)| (log, stream, text.to_owned())));
        table.written("a", None);
        let Some(CommandEnd::Finished { rc, captured, elapsed, failure, .. }) = end(&table, "a") else {
            panic!("not ended")
        };
        assert_eq!((rc, captured.as_str(), elapsed, failure), (Some(3), "aé", Some(1.5), None));
        assert!(
            table.update("a", vec![UpdateItem::Rc(9)], &credit().await).is_none(),
            "nothing after the end"
        );
        assert!(table.complete("a", None).is_none());
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
        table.complete("ended", Some("broke".into()));
        let mut lost = table.lose_all("gone");
        lost.sort_unstable();
        assert_eq!(lost, ["failed", "running", "silent"]);
        assert_eq!(end(&table, "running"), Some(CommandEnd::lost("gone")));
        assert_eq!(end(&table, "silent"), Some(CommandEnd::lost("gone")));
        assert_eq!(end(&table, "failed"), Some(CommandEnd::failed("too large")));
        assert_eq!(end(&table, "ended"), None);
        assert_eq!(table.open(), 2, "two are still being written");
        table.written("ended", None);
        table.written("running", Some("no room".into()));
        assert_eq!(end(&table, "running"), Some(CommandEnd::lost("gone")), "an end never changes");
        assert_eq!(end(&table, "ended"), Some(CommandEnd::failed("broke")));
        assert_eq!(table.open(), 0);
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
            assert_eq!(table.insert(start(&number.to_string())), Inserted::New);
        }
        assert_eq!(table.insert(start("more")), Inserted::Full);
        table.lose_all("gone");
        for number in 0..=MAX_ENDED {
            let id = format!("later {number}");
            assert_eq!(table.insert(start(&id)), Inserted::New);
            assert!(table.complete(&id, None).is_some());
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
        table.complete("a", None);
        assert!(table.watch("a").is_none());
        assert_eq!((table.open(), table.kept(), table.entries.len()), (0, 0, 0));
    }
}
