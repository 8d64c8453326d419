//! What stands behind a socket: its subscriptions, its outbox, its deadlines. A plain task per connection, which runs
//! on whether the peer reads or not.

use std::cell::Cell;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use greenroom_data::{DataError, Delivered, Delivery, Ended, Ro};
use greenroom_model::{Clock, Pattern};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::command::{self, Act, Command, Fault, Since, Stop};
use super::outbox::{Outbox, in_order};
use super::pump::Close;
use crate::feed::escape_key;
use crate::feed::feeds::{Feeds, Name, Turn, name_of};

/// Paths of one connection.
const MAX_PATHS: usize = 200;
/// Commands that wait to be carried out.
const MAX_COMMANDS: usize = 512;
/// Batches on their way to the socket.
const BATCHES: usize = 2;
/// Subscriptions served before what they gave is sent.
const GATHER: usize = 64;
/// How often a quiet subscription tells its clock.
const MARK_EVERY: Duration = Duration::from_secs(10);
/// How often the peer is asked whether it lives.
const PING_EVERY: u32 = 3;
/// A peer that takes nothing for so long is not waited for.
const STALLED: Duration = Duration::from_secs(30);
/// The data layer must take a subscription within this time.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(10);

/// The connection of a client that did not keep up.
const TOO_SLOW: Close = Close::With(4410, "did not keep up; resume from the last clock");

/// What a connection holds of its session.
pub(super) struct Ends {
    /// What the peer says.
    pub(super) incoming: mpsc::Sender<Bytes>,
    /// What goes out together; its end is the end of the connection.
    pub(super) outgoing: mpsc::Receiver<Vec<Bytes>>,
    /// Why the connection ends, once it does.
    pub(super) close: Rc<Cell<Close>>,
}

/// One connection.
pub(super) struct Session {
    ro: Ro,
    stopping: watch::Receiver<bool>,
    incoming: mpsc::Receiver<Bytes>,
    outgoing: mpsc::Sender<Vec<Bytes>>,
    close: Rc<Cell<Close>>,
    feeds: Feeds,
    outbox: Outbox,
}

/// What a session waits for.
enum Step {
    Said(Option<Bytes>),
    Fed(Turn),
    Sent,
    Tick,
    Stalled,
    Stopping,
    Gone,
}

impl Session {
    /// A session and the ends that its connection holds.
    pub(super) fn new(ro: Ro, stopping: watch::Receiver<bool>) -> (Self, Ends) {
        let (said, incoming) = mpsc::channel(MAX_COMMANDS);
        let (outgoing, sent) = mpsc::channel(BATCHES);
        let close = Rc::new(Cell::new(Close::With(1000, "")));
        let ends = Ends { incoming: said, outgoing: sent, close: close.clone() };
        (
            Self { ro, stopping, incoming, outgoing, close, feeds: Feeds::new(), outbox: Outbox::default() },
            ends,
        )
    }

    /// Serves the connection until either side ends it.
    pub(super) async fn run(mut self) {
        let close = self.serve().await;
        self.close.set(close);
        // The pump may hold back what it has not read yet; the last words go if there is room.
        let last = self.outbox.take();
        if !last.is_empty() {
            let _ = self.outgoing.try_send(last);
        }
    }

    async fn serve(&mut self) -> Close {
        let mut ticks = interval_at(Instant::now() + MARK_EVERY, MARK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut tick, mut sent_at) = (0, Instant::now());
        loop {
            let full = self.outbox.is_full();
            let waiting = !self.outbox.is_empty();
            if !waiting {
                sent_at = Instant::now();
            }
            let step = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stop| *stop) => Step::Stopping,
                said = self.incoming.recv(), if !full => Step::Said(said),
                permit = self.outgoing.reserve(), if waiting => match permit {
                    Ok(permit) => {
                        permit.send(self.outbox.take());
                        Step::Sent
                    }
                    Err(_) => Step::Gone,
                },
                turn = self.feeds.next(), if !full => Step::Fed(turn),
                () = self.outgoing.closed() => Step::Gone,
                _ = ticks.tick() => Step::Tick,
                () = sleep_until(sent_at + STALLED), if waiting => Step::Stalled,
            };
            let end = match step {
                Step::Said(None) | Step::Gone => Some(Close::Silent),
                Step::Said(Some(message)) => self.carry_out(&message).await,
                Step::Fed(turn) => self.gather(turn),
                Step::Sent => None,
                Step::Tick => {
                    tick += 1;
                    self.on_tick(tick);
                    None
                }
                Step::Stalled => Some(TOO_SLOW),
                Step::Stopping => Some(Close::With(1001, "the server stops")),
            };
            if let Some(close) = end {
                return close;
            }
        }
    }

    fn on_tick(&mut self, tick: u32) {
        if !self.feeds.is_empty() {
            self.feeds.ask_for_marks();
        }
        if tick.is_multiple_of(PING_EVERY) && self.outbox.is_empty() {
            self.outbox.ping();
        }
    }

    /// Takes what is due now of all subscriptions, so that it goes out in one write.
    fn gather(&mut self, first: Turn) -> Option<Close> {
        let mut plain: Vec<Delivered> = Vec::new();
        let mut end = self.take(first, &mut plain);
        for _ in 0..GATHER {
            if end.is_some() || self.outbox.is_full() {
                break;
            }
            let Some(turn) = self.feeds.next().now_or_never() else { break };
            end = self.take(turn, &mut plain);
        }
        in_order(&mut plain);
        for delivered in &plain {
            self.outbox.push(frame(delivered, None));
        }
        end
    }

    fn take(&mut self, turn: Turn, plain: &mut Vec<Delivered>) -> Option<Close> {
        if let (Some(id), Some(clock)) = (&turn.id, &turn.mark) {
            self.outbox.push(format!("{{\"s\":{id},\"c\":\"{clock}\"}}"));
        }
        for run in turn.runs {
            match self.feeds.is_one() {
                true => self.outbox.push_run(&run),
                // They are put in order with what the others give.
                false => plain.extend(run.deliveries()),
            }
        }
        for delivery in turn.deliveries {
            match (delivery, &turn.id) {
                (Delivery::Event(delivered), Some(id)) => self.outbox.push(frame(&delivered, Some(id))),
                (Delivery::Event(delivered), None) => plain.push(delivered),
                (Delivery::Ended(Ended::Gone), Some(id)) => {
                    self.outbox.push(format!("{{\"error\":\"gone\",\"code\":410,\"_id\":{id}}}"));
                }
                (Delivery::Ended(Ended::Lagging), _) => return Some(TOO_SLOW),
                // Without clocks nobody could resume: only a new connection tells the client that it missed something.
                (Delivery::Ended(Ended::Gone), None) => return Some(TOO_SLOW),
            }
        }
        None
    }

    async fn carry_out(&mut self, message: &[u8]) -> Option<Close> {
        let Command { id, act } = match command::parse(message) {
            Ok(command) => command,
            Err(Fault::NotJson) => return Some(Close::Silent),
            Err(Fault::Refused(reply)) => {
                self.outbox.push(reply);
                return None;
            }
        };
        let reply = match act {
            Act::Ping => command::done(&id, "pong"),
            Act::Start { paths, since } => self.start(&id, paths, since).await,
            Act::Stop(stop) => self.stop(&id, stop),
        };
        self.outbox.push(reply);
        None
    }

    fn stop(&mut self, id: &Value, stop: Stop) -> String {
        let (name, shown) = match stop {
            Stop::Path(path) => (Name::Path(path.clone()), format!("path was not consumed '{path}'")),
            Stop::Id => (name_of(id).0, format!("nothing was started with the _id {id}")),
        };
        if self.feeds.remove(&name) { command::done(id, "OK") } else { command::error(id, 400, &shown) }
    }

    async fn start(&mut self, id: &Value, paths: Vec<String>, since: Option<Since>) -> String {
        let (name, feed_id) = match (&since, paths.as_slice()) {
            (None, [path]) => (Name::Path(path.clone()), None),
            (None, _) => (name_of(id).0, None),
            (Some(_), _) => {
                let (name, text) = name_of(id);
                (name, Some(text))
            }
        };
        if self.feeds.has(&name) {
            return match name {
                Name::Path(_) => command::done(id, "OK"),
                Name::Id(_) => command::error(id, 400, "a subscription with this _id is running"),
            };
        }
        if self.feeds.paths() + paths.len() > MAX_PATHS {
            return command::error(id, 429, &format!("a connection has at most {MAX_PATHS} paths"));
        }
        let clock = match since {
            Some(Since::Clock(text)) => match text.parse::<Clock>() {
                Ok(clock) => Some(clock),
                Err(_) => return command::error(id, 410, "gone"),
            },
            Some(Since::Now) | None => None,
        };
        let patterns = paths.iter().map(|path| Pattern::parse(path)).collect();
        let subscription = match timeout(SUBSCRIBE_WITHIN, self.ro.subscribe(patterns, clock)).await {
            Ok(Ok(subscription)) => subscription,
            Ok(Err(DataError::Gone)) => return command::error(id, 410, "gone"),
            Ok(Err(error @ DataError::Unavailable { .. })) => {
                return command::error(id, 503, &error.to_string());
            }
            Ok(Err(error)) => return command::error(id, 500, &format!("Internal Error '{error}'")),
            Err(_) => return command::error(id, 503, "the data layer did not answer in time"),
        };
        let reply = match &feed_id {
            Some(_) => format!(
                "{{\"msg\":\"OK\",\"code\":200,\"_id\":{id},\"clock\":\"{}\"}}",
                subscription.clock_text()
            ),
            None => command::done(id, "OK"),
        };
        self.feeds.add(name, feed_id, paths.len(), subscription);
        reply
    }
}

/// An event as text: the entity's public form is shared, only its frame is made here.
pub(super) fn frame(delivered: &Delivered, id: Option<&Rc<str>>) -> String {
    let event = &delivered.frame;
    let mut out = String::with_capacity(event.json.len() + delivered.clock.len() + 96);
    out.push_str("{\"k\":\"");
    escape_key(&mut out, &delivered.key().to_string());
    out.push_str("\",\"m\":");
    out.push_str(&event.json);
    if let Some(id) = id {
        // Writing to a string cannot fail.
        let _ = write!(out, ",\"s\":{id},\"c\":\"{}\"", delivered.clock);
    }
    out.push('}');
    out
}
