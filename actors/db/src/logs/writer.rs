//! The LogWriter: assembles lines, stores them in segments, tells when they may be announced.
//!
//! Text waits in memory until it is stored, up to a bound; past it, appends are answered late, which holds back whoever sends
//! them. Many logs are stored in one commit; one commit runs at a time and the next takes all that came meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use greenroom_model::LogId;
use greenroom_model::ids::IdKind;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::assembly::{Assembly, Sealed};
use super::store::{Segment, pack};
use crate::messages::*;
use crate::store::Store;

/// So much text may wait to be stored.
const ROOM: usize = 12 * 1024 * 1024;
/// Past that, a log of which no more than this waits is let in all the same: a loud one does not hold up the others.
const SMALL: usize = 16 * 1024;
/// How much text is stored in one transaction: as much as can be stored in [`AIM`], within these bounds. So a slow store is not given what it
/// cannot take in time, and what others have to say waits for one small transaction only.
const PORTIONS: (usize, usize) = (256 * 1024, 4 * 1024 * 1024);
const AIM: Duration = Duration::from_millis(100);
/// How often growing logs are stored.
const TICK: Duration = Duration::from_millis(100);
/// The least time between two announcements of a log.
const ANNOUNCE: Duration = Duration::from_millis(250);
/// How long after a failure to store it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Ended logs that are remembered.
const ENDED: usize = 4096;
/// What a log says where a predecessor of this writer died: text that it had taken in and not stored is gone, and a log is
/// never silently short.
const MAY_LACK: &str =
    "the log writer was restarted: up to a moment of output before this line may be missing\n";
/// Past so many open logs, those that nobody wrote to for long are put away; they are read again when they grow.
const OPEN: usize = 256;
const IDLE: Duration = Duration::from_secs(600);
/// How often it is looked whether text is to leave for the object store; after a failure; and for objects that nobody uses.
const MOVE: Duration = Duration::from_secs(1);
const MOVE_RETRY: Duration = Duration::from_secs(5);
const SWEEP: Duration = Duration::from_secs(600);

type Reply<T> = oneshot::Sender<Result<T, LogError>>;

enum Waiting {
    Append(Append, Reply<()>),
    Finish(LogId, Reply<i64>),
    Flush(Reply<()>),
}

struct Open {
    assembly: Assembly,
    /// Lines that are stored, and that were announced.
    stored: i64,
    announced: i64,
    announced_at: Option<Instant>,
    used_at: Instant,
    finishing: Vec<Reply<i64>>,
}

impl Open {
    fn new(assembly: Assembly) -> Self {
        let stored = assembly.total_lines();
        let used_at = Instant::now();
        Self { assembly, stored, announced: stored, announced_at: None, used_at, finishing: Vec::new() }
    }
}

/// A log with something to store.
struct Dirty {
    id: LogId,
    /// How many bytes.
    waits: usize,
    /// Whether some of it may be stored now.
    due: bool,
}

impl Dirty {
    fn of(id: LogId, log: &Open, tails: bool) -> Self {
        let (open, closed) = (log.assembly.unstored(), &log.assembly.sealed);
        let waits = open + closed.iter().map(|it| it.new_bytes).sum::<usize>();
        Self { id, waits, due: !closed.is_empty() || (tails && open > 0) }
    }

    fn is_loud(&self) -> bool {
        self.waits > SMALL
    }
}

/// Text on its way to the store.
struct Batch {
    sealed: Vec<(LogId, Sealed)>,
    segments: Vec<Segment>,
    bytes: usize,
}

/// Stores log text and announces it.
pub struct LogWriter {
    store: Store,
    announce: LogAnnouncer,
    logs: HashMap<LogId, Open>,
    ended: HashMap<LogId, i64>,
    ended_order: VecDeque<LogId>,
    waiting: VecDeque<Waiting>,
    /// Logs with something to store; logs with something to announce.
    dirty: HashSet<LogId>,
    unannounced: HashSet<LogId>,
    unstored: usize,
    /// Something is worth storing now.
    ready: bool,
    /// Unfinished lines of all logs, in bytes.
    fragments: usize,
    flushing: bool,
    /// How much text the next transaction takes.
    portion: usize,
    /// A slow store is given what is small and what is loud by turns, so that the one does not wait for both: the loud are next.
    turn_of_loud: bool,
    loading: bool,
    ticking: bool,
    failed: Option<Batch>,
    flushes: Vec<Reply<()>>,
    /// A log of this id or a higher one has no stored text that we do not know of.
    fresh_from: i64,
    written: u64,
    /// An earlier birth may have taken text with it.
    reborn: bool,
    /// Objects made, and whether their store is away.
    objects: u64,
    objects_away: bool,
    still: bool,
}

impl LogWriter {
    /// A writer over `store`; `announce` is called at most 4 times a second a log, after the text is stored.
    pub fn new(store: Store, announce: LogAnnouncer) -> Self {
        let alone = store.0.engine.exclusive();
        let fresh_from = if alone { store.0.ids.fresh_from(IdKind::Log) } else { i64::MAX };
        Self {
            store,
            announce,
            logs: HashMap::new(),
            ended: HashMap::new(),
            ended_order: VecDeque::new(),
            waiting: VecDeque::new(),
            dirty: HashSet::new(),
            unannounced: HashSet::new(),
            unstored: 0,
            ready: false,
            fragments: 0,
            flushing: false,
            portion: PORTIONS.0,
            turn_of_loud: false,
            loading: false,
            ticking: false,
            failed: None,
            flushes: Vec::new(),
            fresh_from,
            written: 0,
            reborn: false,
            objects: 0,
            objects_away: false,
            still: false,
        }
    }

    /// A writer after one that died: it marks every log that goes on where text may be missing.
    pub fn reborn(mut self) -> Self {
        self.reborn = true;
        self
    }

    /// Leaves text where it is, for tests that have it moved themselves.
    #[doc(hidden)]
    pub fn still(mut self) -> Self {
        self.still = true;
        self
    }

    /// Takes in what waits, as far as there is room.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        let (mut held, mut held_logs) = (VecDeque::new(), HashSet::new());
        while !self.loading
            && let Some(next) = self.waiting.pop_front()
        {
            match &next {
                Waiting::Append(Append { log, .. }, _)
                    if held_logs.contains(log) || self.is_held_back(*log) =>
                {
                    held_logs.insert(*log);
                    held.push_back(next);
                    continue;
                }
                Waiting::Finish(log, _) if held_logs.contains(log) => {
                    held.push_back(next);
                    continue;
                }
                _ => {}
            }
            let (Waiting::Append(Append { log, .. }, _) | Waiting::Finish(log, _)) = &next else {
                if let Waiting::Flush(reply) = next {
                    self.flushes.push(reply);
                    self.flush(ctx, true);
                }
                continue;
            };
            let log = *log;
            if self.ended.contains_key(&log) || self.is_open(log) {
                self.take_in(log, next);
            } else {
                self.waiting.push_front(next);
                self.load(log, ctx);
            }
        }
        if !held.is_empty() {
            // What is being loaded for stays first.
            if self.loading {
                held.extend(self.waiting.pop_front());
                held.rotate_right(1);
            }
            held.append(&mut self.waiting);
            self.waiting = held;
            self.flush(ctx, true);
        }
        if self.ready && !self.flushing {
            self.ready = false;
            self.flush(ctx, false);
        }
        self.tick_later(ctx);
    }

    /// Whether there is no room for more of this log.
    fn is_held_back(&self, log: LogId) -> bool {
        let is_loud = |open: &Open| !open.assembly.sealed.is_empty() || open.assembly.unstored() >= SMALL;
        self.unstored >= ROOM && self.logs.get(&log).is_some_and(is_loud)
    }

    /// Whether the log is open; one that is new is opened.
    fn is_open(&mut self, log: LogId) -> bool {
        if !self.logs.contains_key(&log) {
            if log.0 < self.fresh_from {
                return false;
            }
            self.put_away_idle();
            self.logs.insert(log, Open::new(Assembly::default()));
        }
        true
    }

    fn put_away_idle(&mut self) {
        if self.logs.len() < OPEN {
            return;
        }
        let idle = |l: &Open| {
            l.used_at.elapsed() > IDLE
                && l.assembly.pending() == 0
                && l.stored == l.assembly.total_lines()
                && l.announced == l.stored
        };
        let gone: Vec<LogId> = self.logs.iter().filter(|(_, l)| idle(l)).map(|(id, _)| *id).collect();
        for id in gone {
            self.logs.remove(&id);
            self.fresh_from = self.fresh_from.max(id.0 + 1);
        }
    }

    /// Reads how much of a log is stored; nothing else is taken in meanwhile.
    fn load(&mut self, log: LogId, ctx: &mut Context<Self>) {
        self.loading = true;
        let store = self.store.clone();
        let extent = async move { store.0.logs.extent(log).await };
        ctx.spawn(extent.into_actor(self).map(move |extent, writer, ctx| {
            writer.loading = false;
            match extent {
                Ok((lines, bytes)) => {
                    writer.logs.insert(log, Open::new(Assembly::after(lines, bytes)));
                    writer.mark_gap(log);
                }
                Err(error) => match writer.waiting.pop_front() {
                    Some(Waiting::Append(_, reply)) => drop(reply.send(Err(error))),
                    Some(Waiting::Finish(_, reply)) => drop(reply.send(Err(error))),
                    Some(Waiting::Flush(reply)) => drop(reply.send(Err(error))),
                    None => {}
                },
            }
            writer.pump(ctx);
        }));
    }

    /// Notes in a log that goes on after a death of the writer that text may be missing.
    fn mark_gap(&mut self, log: LogId) {
        if !self.reborn {
            return;
        }
        let stream = match self.waiting.front() {
            Some(Waiting::Append(Append { stream: Stream::Plain, .. }, _)) => Stream::Plain,
            _ => Stream::Header,
        };
        if let Some(open) = self.logs.get_mut(&log) {
            self.unstored += open.assembly.add(stream, MAY_LACK.as_bytes());
            self.dirty.insert(log);
        }
    }

    fn take_in(&mut self, id: LogId, next: Waiting) {
        if let Some(lines) = self.ended.get(&id) {
            match next {
                Waiting::Append(_, reply) => drop(reply.send(Err(LogError::Finished))),
                Waiting::Finish(_, reply) => drop(reply.send(Ok(*lines))),
                Waiting::Flush(_) => {}
            }
            return;
        }
        let Some(log) = self.logs.get_mut(&id) else { return };
        log.used_at = Instant::now();
        match next {
            Waiting::Append(_, reply) if !log.finishing.is_empty() => {
                drop(reply.send(Err(LogError::Finished)))
            }
            Waiting::Append(append, reply) => {
                let before = log.assembly.pending();
                let mut grown = log.assembly.add(append.stream, &append.text);
                self.fragments = self.fragments + log.assembly.pending() - before;
                if self.fragments > ROOM {
                    self.fragments -= log.assembly.pending();
                    grown += log.assembly.break_lines();
                }
                self.unstored += grown;
                self.ready |= !log.assembly.sealed.is_empty();
                self.written += append.text.len() as u64;
                if grown > 0 {
                    self.dirty.insert(id);
                }
                reply.send(Ok(())).ok();
            }
            Waiting::Finish(_, reply) => {
                self.fragments -= log.assembly.pending();
                self.unstored += log.assembly.finish();
                self.ready = true;
                log.finishing.push(reply);
                self.dirty.insert(id);
                self.end_if_stored(id);
            }
            Waiting::Flush(_) => {}
        }
    }

    /// Answers who waits for the log's end, once all of it is stored.
    fn end_if_stored(&mut self, id: LogId) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        let lines = log.assembly.total_lines();
        if log.finishing.is_empty() || log.stored < lines || !log.assembly.sealed.is_empty() {
            return;
        }
        for reply in std::mem::take(&mut log.finishing) {
            reply.send(Ok(lines)).ok();
        }
        self.logs.remove(&id);
        self.dirty.remove(&id);
        self.unannounced.remove(&id);
        self.ended.insert(id, lines);
        self.ended_order.push_back(id);
        if self.ended_order.len() > ENDED
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
            self.fresh_from = self.fresh_from.max(oldest.0 + 1);
        }
    }

    /// Begins to store what is closed and, if wished, what is not, unless something is being stored.
    fn flush(&mut self, ctx: &mut Context<Self>, tails: bool) {
        if self.flushing {
            return;
        }
        let batch = match self.failed.take() {
            Some(batch) => batch,
            None => self.collect(tails),
        };
        if batch.sealed.is_empty() && batch.segments.is_empty() {
            self.answer_flushes();
            return;
        }
        self.flushing = true;
        let store = self.store.clone();
        let begun = Instant::now();
        let work = async move { write(store, batch).await };
        ctx.spawn(work.into_actor(self).map(move |(batch, result), writer, ctx| {
            writer.flushing = false;
            match result {
                Ok(()) => {
                    writer.aim(batch.bytes, begun.elapsed());
                    writer.stored(&batch);
                    if !writer.flushes.is_empty() {
                        writer.flush(ctx, true);
                    }
                    writer.pump(ctx);
                }
                Err(error) => {
                    tracing::warn!(%error, bytes = batch.bytes, "failed to store log text, trying again");
                    writer.failed = Some(batch);
                    writer.flushing = true;
                    ctx.run_later(RETRY, |writer, ctx| {
                        writer.flushing = false;
                        writer.flush(ctx, false);
                    });
                }
            }
        }));
    }

    /// What is stored next: of the logs of which least waits first, and no more than a portion.
    fn collect(&mut self, tails: bool) -> Batch {
        let mut batch = Batch { sealed: Vec::new(), segments: Vec::new(), bytes: 0 };
        for id in self.next_in_turn(tails) {
            let Some(log) = self.logs.get_mut(&id) else { continue };
            let mut room = self.portion.saturating_sub(batch.bytes);
            let fits = log.assembly.sealed.iter().take_while(|sealed| {
                let fits = room > 0;
                room = room.saturating_sub(sealed.new_bytes);
                fits
            });
            let fits = fits.count();
            let mut taken: Vec<Sealed> = log.assembly.sealed.drain(..fits).collect();
            let rest = !log.assembly.sealed.is_empty();
            if tails && !rest && room > 0 {
                taken.extend(log.assembly.take_tail());
            }
            for sealed in taken {
                batch.bytes += sealed.new_bytes;
                batch.sealed.push((id, sealed));
            }
            self.ready |= rest;
            if rest || log.assembly.unstored() > 0 {
                self.dirty.insert(id);
            }
        }
        batch
    }

    /// The logs with something to store, of which least waits first. While the store is slow: the small or the loud ones alone.
    fn next_in_turn(&mut self, tails: bool) -> Vec<LogId> {
        let mut dirty: Vec<Dirty> =
            self.dirty.drain().filter_map(|id| Some(Dirty::of(id, self.logs.get(&id)?, tails))).collect();
        dirty.sort_unstable_by_key(|it| (it.waits, it.id));
        let due = |loud: bool| dirty.iter().any(|it| it.due && it.is_loud() == loud);
        if self.portion > PORTIONS.0 || !(due(false) && due(true)) {
            // A turn that nobody could take is kept: what is open is due at ticks only.
            self.turn_of_loud &= !due(true);
            return dirty.iter().map(|it| it.id).collect();
        }
        let loud = self.turn_of_loud;
        self.turn_of_loud = !loud;
        let (now, later): (Vec<Dirty>, Vec<Dirty>) = dirty.into_iter().partition(|it| it.is_loud() == loud);
        self.dirty.extend(later.iter().map(|it| it.id));
        self.ready = true;
        now.iter().map(|it| it.id).collect()
    }

    /// Adapts the size of a transaction to how long one took.
    fn aim(&mut self, stored: usize, took: Duration) {
        if took > AIM {
            self.portion /= 2;
        } else if took < AIM / 2 && stored >= self.portion / 2 {
            self.portion *= 2;
        }
        self.portion = self.portion.clamp(PORTIONS.0, PORTIONS.1);
    }

    fn stored(&mut self, batch: &Batch) {
        self.unstored = self.unstored.saturating_sub(batch.bytes);
        let mut grown = HashSet::new();
        for segment in &batch.segments {
            if let Some(log) = self.logs.get_mut(&segment.log) {
                log.stored = log.stored.max(segment.first + segment.lines);
                grown.insert(segment.log);
            }
        }
        for id in grown {
            self.unannounced.insert(id);
            self.end_if_stored(id);
        }
        self.announce_due();
    }

    fn announce_due(&mut self) {
        let now = Instant::now();
        let (logs, announce) = (&mut self.logs, &self.announce);
        self.unannounced.retain(|id| {
            let Some(log) = logs.get_mut(id) else { return false };
            // Its end is announced by who ends it.
            if log.stored <= log.announced || !log.finishing.is_empty() {
                return false;
            }
            if log.announced_at.is_some_and(|at| now.duration_since(at) < ANNOUNCE) {
                return true;
            }
            announce(*id, log.stored);
            log.announced = log.stored;
            log.announced_at = Some(now);
            false
        });
    }

    fn answer_flushes(&mut self) {
        for reply in self.flushes.drain(..) {
            reply.send(Ok(())).ok();
        }
    }

    fn tick_later(&mut self, ctx: &mut Context<Self>) {
        if self.ticking || (self.dirty.is_empty() && self.unannounced.is_empty()) {
            return;
        }
        self.ticking = true;
        ctx.run_later(TICK, |writer, ctx| {
            writer.ticking = false;
            writer.flush(ctx, true);
            writer.announce_due();
            writer.tick_later(ctx);
        });
    }
}

/// Compresses and stores a batch; it comes back, compressed, to be tried again if that fails.
async fn write(store: Store, mut batch: Batch) -> (Batch, Result<(), LogError>) {
    let sealed = std::mem::take(&mut batch.sealed);
    let packing = tokio::task::spawn_blocking(move || {
        let pack = |(log, s): &(LogId, Sealed)| pack(*log, s.first, s.lines, &s.text, s.replaces);
        sealed.iter().map(pack).collect::<Result<Vec<_>, _>>().map_err(|error| (error, sealed))
    });
    match packing.await {
        Ok(Ok(segments)) => batch.segments.extend(segments),
        Ok(Err((error, sealed))) => {
            batch.sealed = sealed;
            return (batch, Err(error));
        }
        Err(error) => return (batch, Err(LogError::Unavailable(error.to_string()))),
    }
    let result = store.0.logs.write(&batch.segments).await;
    (batch, result)
}

/// What a look at text that is to leave has come to.
enum Moved {
    /// So many objects were made.
    Objects(usize),
    /// Not now.
    Failed(LogError),
}

impl LogWriter {
    /// Has text leave for the object store, one look after the other, as long as this writer lives.
    fn move_later(&self, ctx: &mut Context<Self>, pause: Duration, sweep: Sweep) {
        ctx.run_later(pause, move |writer, ctx| {
            let store = writer.store.clone();
            let looking = async move { look(&store, sweep).await };
            ctx.spawn(looking.into_actor(writer).map(move |moved, writer, ctx| {
                let pause = match &moved {
                    Moved::Objects(0) => MOVE,
                    Moved::Objects(_) => Duration::ZERO,
                    Moved::Failed(_) => MOVE_RETRY,
                };
                writer.tell_of_objects(&moved);
                let sweep = match (&moved, sweep) {
                    (Moved::Failed(_), sweep) => sweep,
                    (Moved::Objects(_), Sweep::None(at)) if at.elapsed() >= SWEEP => Sweep::Others,
                    (Moved::Objects(_), Sweep::None(at)) => Sweep::None(at),
                    (Moved::Objects(_), _) => Sweep::None(Instant::now()),
                };
                writer.move_later(ctx, pause, sweep);
            }));
        });
    }

    /// Says when the object store goes and comes back, once each.
    fn tell_of_objects(&mut self, moved: &Moved) {
        match moved {
            Moved::Failed(error) if !self.objects_away => {
                self.objects_away = true;
                tracing::warn!(
                    %error,
                    "log text cannot leave for the object store; it stays in the database until it can"
                );
            }
            Moved::Objects(_) if self.objects_away => {
                self.objects_away = false;
                tracing::info!("log text leaves for the object store again");
            }
            Moved::Objects(objects) => self.objects += *objects as u64,
            Moved::Failed(_) => {}
        }
    }
}

/// What is removed of objects that nobody uses before text is moved.
#[derive(Clone, Copy)]
enum Sweep {
    /// Those of an earlier writer of this master, too: this one has begun none.
    All,
    /// Those of masters that are gone.
    Others,
    /// None; so long ago was the last time.
    None(Instant),
}

async fn look(store: &Store, sweep: Sweep) -> Moved {
    let looked = async {
        if let Sweep::All | Sweep::Others = sweep {
            while store.0.logs.sweep_objects(matches!(sweep, Sweep::All)).await? {}
        }
        store.0.logs.move_some(&*store.0.engine).await
    };
    match looked.await {
        Ok(objects) => Moved::Objects(objects),
        Err(error) => Moved::Failed(error),
    }
}

impl Actor for LogWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.store.0.logs.moves() && !self.still {
            self.move_later(ctx, Duration::ZERO, Sweep::All);
        }
    }
}

impl greenroom_runtime::Supervised for LogWriter {
    const KIND: &'static str = "log-writer";

    fn observe(&self) -> serde_json::Value {
        json!({
            "open": self.logs.len(), "waiting": self.waiting.len(), "unstored-bytes": self.unstored,
            "taken-bytes": self.written, "objects": self.objects, "object-store-away": self.objects_away,
        })
    }
}

async fn wait<T>(answer: oneshot::Receiver<Result<T, LogError>>) -> Result<T, LogError> {
    answer.await.unwrap_or_else(|_| Err(LogError::Unavailable("the log writer ended".into())))
}

impl Handler<Append> for LogWriter {
    type Result = ResponseFuture<Result<(), LogError>>;

    fn handle(&mut self, msg: Append, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.waiting.push_back(Waiting::Append(msg, reply));
        self.pump(ctx);
        Box::pin(wait(answer))
    }
}

impl Handler<FinishLog> for LogWriter {
    type Result = ResponseFuture<Result<i64, LogError>>;

    fn handle(&mut self, msg: FinishLog, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.waiting.push_back(Waiting::Finish(msg.log, reply));
        self.pump(ctx);
        Box::pin(wait(answer))
    }
}

impl Handler<FlushLogs> for LogWriter {
    type Result = ResponseFuture<Result<(), LogError>>;

    fn handle(&mut self, _: FlushLogs, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.waiting.push_back(Waiting::Flush(reply));
        self.pump(ctx);
        Box::pin(wait(answer))
    }
}

impl Handler<SweepLogs> for LogWriter {
    type Result = ResponseFuture<Result<Swept, LogError>>;

    fn handle(&mut self, _: SweepLogs, _: &mut Self::Context) -> Self::Result {
        Box::pin(super::sweep::sweep(self.store.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use greenroom_model::Timestamp;

    use super::*;

    async fn writer() -> LogWriter {
        let dir = std::env::temp_dir();
        let store = Store::open("memory:", &dir, "m", Timestamp(0)).await.expect("a store");
        LogWriter::new(store, Arc::new(|_, _| ()))
    }

    fn says(writer: &mut LogWriter, log: i64, bytes: usize, and_ends: bool) {
        let log = LogId(log);
        let text = "a line of text.\n".repeat(bytes / 16).into();
        writer.is_open(log);
        let append = Append { log, stream: Stream::Plain, text };
        writer.take_in(log, Waiting::Append(append, oneshot::channel().0));
        if and_ends {
            writer.take_in(log, Waiting::Finish(log, oneshot::channel().0));
        }
    }

    /// Which logs are stored next, and how much.
    fn next(writer: &mut LogWriter, tails: bool) -> (Vec<i64>, usize) {
        let batch = writer.collect(tails);
        let mut logs: Vec<i64> = batch.sealed.iter().map(|(log, _)| log.0).collect();
        logs.dedup();
        (logs, batch.bytes)
    }

    #[actix_rt::test]
    async fn a_slow_store_is_given_what_is_small_and_what_is_loud_by_turns() {
        let mut writer = writer().await;
        says(&mut writer, 1, 4 << 20, false);
        says(&mut writer, 2, 1 << 10, true);
        says(&mut writer, 3, 2 << 10, true);
        assert_eq!(next(&mut writer, false), (vec![2, 3], 3 << 10));
        says(&mut writer, 4, 1 << 10, true);
        let (logs, bytes) = next(&mut writer, false);
        assert_eq!(logs, [1], "its turn, although what is small waits");
        assert!(bytes <= PORTIONS.0 + super::super::assembly::SEGMENT, "{bytes}");
        assert_eq!(next(&mut writer, false).0, [4]);
        assert_eq!(next(&mut writer, false).0, [1], "nothing else waits");
        // Only what may be stored now has a turn: an open line waits for the tick.
        says(&mut writer, 5, 1 << 10, false);
        assert_eq!(next(&mut writer, false).0, [1]);
        assert_eq!(next(&mut writer, true).0, [5]);
        // And what waits for ticks gets there, however much the small have to say at each.
        assert_eq!(next(&mut writer, true).0, [1], "all that was closed");
        writer.portion = PORTIONS.1;
        while writer.collect(true).bytes > 0 {}
        writer.portion = PORTIONS.0;
        says(&mut writer, 1, 100 << 10, false);
        let mut served = Vec::new();
        for _ in 0..2 {
            says(&mut writer, 7, 1 << 10, false);
            served.extend(next(&mut writer, true).0);
            assert_eq!(next(&mut writer, false).1, 0, "nothing is closed");
        }
        assert_eq!(served, [7, 1]);
        // A fast store takes all together, least first.
        writer.portion = PORTIONS.1;
        says(&mut writer, 1, 1 << 20, false);
        says(&mut writer, 6, 1 << 10, true);
        assert_eq!(next(&mut writer, true).0, [6, 7, 1]);
    }
}
