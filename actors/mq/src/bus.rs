//! The link to a bus between masters: how far this master is goes out, how far others are comes in.
//!
//! What travels is a *head*: a master and the number of its last event. Whoever hears one that it does not know yet reads the
//! events from the database, so a bus that loses, doubles, reorders or invents heads costs latency and reads, never
//! truth. Only the newest head is kept while the bus is slow or away: nothing queues.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use greenroom_model::{MasterId, Pattern};
use greenroom_runtime::{Birth, Front, Supervised, TaskEnd, Tasks, fail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::broker::{Broker, Notice, Publish, Subscribe};
use crate::url::BusUrl;
use crate::{amqp, nats, postgres};

/// How often the link makes sure that the Broker knows it.
const SUBSCRIBE_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before another connection: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// A connection that held for so long was a good one: the waits begin anew.
const HELD: Duration = Duration::from_secs(30);
/// How long a connection may take to stand.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a server may take to accept a head.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// No head is longer; whatever is, is not ours.
const LONGEST: usize = 256;

/// How far a master is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub master: MasterId,
    pub seq: i64,
}

impl Head {
    pub(crate) fn encode(self) -> Vec<u8> {
        format!("{{\"master\":{},\"seq\":{}}}", self.master.0, self.seq).into_bytes()
    }

    /// None: not a head.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LONGEST {
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }
}

/// Why a connection to a bus ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    #[error("{0}")]
    Failed(String),
    #[error("the bus did not answer in time")]
    Silent,
    #[error("the bus closed the connection")]
    Closed,
}

impl BusError {
    /// From a library's error. Not one of them prints the password of an address.
    pub(crate) fn of(error: impl std::fmt::Display) -> Self {
        BusError::Failed(error.to_string())
    }
}

/// What a connection to a bus is given: what to send, and where to tell what it hears.
pub(crate) struct Wire {
    /// Shared by the masters of one database and by nobody else: lower case letters, digits and `_`.
    pub topic: String,
    /// The newest head of this master.
    pub head: watch::Receiver<Option<Head>>,
    me: MasterId,
    broker: Front<Broker>,
    gauge: Arc<Gauge>,
}

impl Wire {
    /// The connection stands.
    pub fn is_up(&self) {
        self.gauge.connected.store(true, Ordering::Relaxed);
        if self.gauge.missed.swap(false, Ordering::Relaxed) {
            tracing::info!("the bus is back");
        }
    }

    /// Something came.
    pub fn heard(&self, bytes: &[u8]) {
        match Head::decode(bytes) {
            // Our own come back on some buses.
            Some(head) if head.master == self.me => {}
            Some(Head { master, seq }) => {
                self.gauge.heard.fetch_add(1, Ordering::Relaxed);
                // A full mailbox drops a hint, no more.
                let _ = self.broker.tell(Publish(Notice::Head { master, seq }));
            }
            None => {
                self.gauge.strange.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits for a head that was not sent yet. Heads that are passed meanwhile are left out.
    pub async fn next(&mut self) -> Result<Head, BusError> {
        loop {
            // The other end is the actor; it ends with this task.
            self.head.changed().await.map_err(|_| BusError::Closed)?;
            if let Some(head) = *self.head.borrow_and_update() {
                self.gauge.sent.fetch_add(1, Ordering::Relaxed);
                return Ok(head);
            }
        }
    }
}

/// Gives up on what a server does not accept in time.
pub(crate) async fn in_time<T, E: std::fmt::Display>(
    what: impl Future<Output = Result<T, E>>,
) -> Result<T, BusError> {
    match timeout(SEND_WITHIN, what).await {
        Ok(done) => done.map_err(BusError::of),
        Err(_) => Err(BusError::Silent),
    }
}

/// For reports; it outlives connections.
#[derive(Debug, Default)]
struct Gauge {
    connected: AtomicBool,
    /// It was said that the bus is away.
    missed: AtomicBool,
    connections: AtomicU64,
    sent: AtomicU64,
    heard: AtomicU64,
    strange: AtomicU64,
}

/// See the module.
pub struct BusLink {
    url: BusUrl,
    topic: String,
    me: MasterId,
    broker: Front<Broker>,
    tasks: Tasks<Self>,
    front: Front<Self>,
    head: watch::Sender<Option<Head>>,
    gauge: Arc<Gauge>,
}

impl BusLink {
    /// A link of the master `me` for the database `farm` (its generation), so that farms which share a bus do not hear each other.
    pub fn new(birth: &Birth<Self>, url: BusUrl, farm: i64, me: MasterId, broker: Front<Broker>) -> Self {
        Self {
            url,
            topic: format!("greenroom_{farm}"),
            me,
            broker,
            tasks: birth.tasks(),
            front: birth.front(),
            head: watch::Sender::new(None),
            gauge: Arc::default(),
        }
    }

    /// (Again: a reborn Broker knows nobody.)
    fn subscribe(&self) {
        let patterns = vec![
            Pattern::parse(&format!("events/{}", self.me)),
            Pattern::parse(&format!("heads/{}", self.me)),
        ];
        // A refusal mends itself with the next tick.
        let _ = self.broker.tell(Subscribe { name: "bus".to_owned(), patterns, to: self.front.recipient() });
    }
}

/// Between a half and one and a half.
fn jitter() -> f64 {
    0.5 + rand::random::<f64>()
}

impl Actor for BusLink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.subscribe();
        ctx.run_interval(SUBSCRIBE_EVERY, |link, _| link.subscribe());
        let wire = {
            let (topic, me, broker, gauge) =
                (self.topic.clone(), self.me, self.broker.clone(), self.gauge.clone());
            let head = self.head.clone();
            move || Wire {
                topic: topic.clone(),
                head: head.subscribe(),
                me,
                broker: broker.clone(),
                gauge: gauge.clone(),
            }
        };
        let (url, gauge) = (self.url.clone(), self.gauge.clone());
        self.tasks.spawn(keep_connected(url, wire, gauge), LinkEnded);
    }
}

impl Supervised for BusLink {
    const KIND: &'static str = "bus-link";

    fn observe(&self) -> serde_json::Value {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({
            "bus": self.url.name(), "connected": self.gauge.connected.load(Ordering::Relaxed),
            "connections": of(&self.gauge.connections), "sent": of(&self.gauge.sent),
            "heard": of(&self.gauge.heard), "strange": of(&self.gauge.strange),
        })
    }
}

impl Handler<Notice> for BusLink {
    type Result = ();

    fn handle(&mut self, notice: Notice, _: &mut Context<Self>) {
        let (master, seq) = match &notice {
            Notice::Events(events) => match events.last() {
                Some(last) => (last.master, last.seq),
                None => return,
            },
            Notice::Head { master, seq } => (*master, *seq),
        };
        if master == self.me {
            let newest = self.head.borrow().map_or(seq, |it| it.seq.max(seq));
            // The same head again is sent again: others may have lost it.
            self.head.send_replace(Some(Head { master, seq: newest }));
        }
    }
}

/// The connecting task ended, which it never does by itself.
#[derive(Message)]
#[rtype(result = "()")]
struct LinkEnded(TaskEnd<()>);

impl Handler<LinkEnded> for BusLink {
    type Result = ();

    fn handle(&mut self, LinkEnded(end): LinkEnded, ctx: &mut Context<Self>) {
        fail(ctx, format!("the link to the bus ended: {end:?}"));
    }
}

async fn keep_connected(url: BusUrl, wire: impl Fn() -> Wire, gauge: Arc<Gauge>) {
    let mut wait = BACKOFF.0;
    loop {
        gauge.connections.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let ended = match &url {
            BusUrl::Nats(url) => nats::serve(url, wire()).await,
            BusUrl::Amqp(url) => amqp::serve(url, wire()).await,
            BusUrl::Postgres(url) => postgres::serve(url, wire()).await,
        };
        let Err(error) = ended;
        let was_up = gauge.connected.swap(false, Ordering::Relaxed);
        if was_up && began.elapsed() >= HELD {
            wait = BACKOFF.0;
        }
        if !gauge.missed.swap(true, Ordering::Relaxed) {
            tracing::warn!(mq.bus = url.name(), error = %error, "the bus is away: other masters are heard of by polling");
        }
        sleep(wait.mul_f64(jitter())).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_nothing_else_is_one() {
        let head = Head { master: MasterId(3), seq: 42 };
        assert_eq!(Head::decode(&head.encode()), Some(head));
        let long = [b' '; LONGEST + 1];
        for strange in [&b""[..], b"hello", b"{}", b"{\"master\":\"x\",\"seq\":1}", b"[1,2", &long] {
            assert_eq!(Head::decode(strange), None);
        }
    }
}
