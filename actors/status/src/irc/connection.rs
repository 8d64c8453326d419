//! The actor that owns a notifier's connection. It is a shell: its tasks are the [`Driver`](super::driver::Driver), which talks, and the
//! [`Watcher`](super::watcher::Watcher), which waits for builds. Both end with it, and whatever they knew is read again.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use greenroom_runtime::{Birth, Supervised, TaskEnd, Tasks, fail};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use super::commands::Desk;
use super::driver::{Driver, Order, Status};
use super::outbox::{NotSaid, Spoken};
use super::watcher::Watcher;

/// Messages that wait for their turn; senders of more wait themselves.
const ORDERS: usize = 16;
/// How long what is kept is waited for before it is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a connection stands on; it outlives births.
pub struct Parts {
    /// What commands work with.
    pub desk: Arc<Desk>,
    /// Reads what a watched build is to be announced with.
    pub watcher: Watcher,
    /// How the connection is.
    pub status: Arc<watch::Sender<Status>>,
    /// Whether this master is the one that runs the notifier: told by the notifier's present birth.
    pub claims: watch::Sender<watch::Receiver<bool>>,
}

/// See the module.
pub struct IrcConnection {
    parts: Arc<Parts>,
    birth: Birth<Self>,
    tasks: Tasks<Self>,
    orders: mpsc::Sender<Order>,
    taken: Option<mpsc::Receiver<Order>>,
    stop: watch::Sender<bool>,
    is_talking: bool,
}

impl IrcConnection {
    /// A new birth.
    pub fn new(birth: &Birth<Self>, parts: Arc<Parts>) -> Self {
        let (orders, taken) = mpsc::channel(ORDERS);
        let stop = watch::Sender::new(false);
        parts.status.send_replace(Status::default());
        let tasks = birth.tasks();
        Self { parts, birth: birth.clone(), tasks, orders, taken: Some(taken), stop, is_talking: false }
    }
}

impl Actor for IrcConnection {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let Some(orders) = self.taken.take() else { return };
        let parts = self.parts.clone();
        let driver = Driver::new(
            parts.desk.clone(),
            orders,
            self.stop.subscribe(),
            parts.status.clone(),
            parts.claims.subscribe(),
            self.birth.runtime().dice().fork(),
        );
        let book = parts.desk.book.clone();
        self.is_talking = true;
        let talking = async move {
            while let Err(error) = book.load().await {
                tracing::warn!(%error, "what was wished over IRC cannot be read yet");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            driver.run().await;
        };
        self.tasks.spawn(talking, TalkingEnded);
        let (watcher, orders) = (parts.watcher.clone(), self.orders.clone());
        self.tasks.spawn(watcher.run(orders, parts.status.subscribe()), WatchingEnded);
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        // The driver says good-bye to the server, and its end stops us.
        if self.is_talking && !self.stop.send_replace(true) {
            return Running::Continue;
        }
        Running::Stop
    }
}

impl Supervised for IrcConnection {
    const KIND: &'static str = "irc-connection";

    fn observe(&self) -> serde_json::Value {
        let status = self.parts.status.borrow();
        json!({
            "state": status.state, "nick": status.nick, "channels": status.channels, "connected": status.connected,
            "last_error": status.last_error, "lines_sent": status.sent, "lines_received": status.received,
            "lines_queued": status.queued, "answers_dropped": status.dropped,
        })
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct TalkingEnded(TaskEnd<()>);

impl Handler<TalkingEnded> for IrcConnection {
    type Result = ();

    fn handle(&mut self, TalkingEnded(end): TalkingEnded, ctx: &mut Context<Self>) {
        self.is_talking = false;
        match end {
            TaskEnd::Done(()) => ctx.stop(),
            TaskEnd::Panicked(why) => fail(ctx, format!("the conversation panicked: {why}")),
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct WatchingEnded(TaskEnd<()>);

impl Handler<WatchingEnded> for IrcConnection {
    type Result = ();

    fn handle(&mut self, WatchingEnded(end): WatchingEnded, ctx: &mut Context<Self>) {
        if let TaskEnd::Panicked(why) = end {
            fail(ctx, format!("watching builds panicked: {why}"));
        }
    }
}

/// Says something in some places. Answers when the server has confirmed it, or the connection is lost.
#[derive(Message)]
#[rtype(result = "Result<Spoken, NotSaid>")]
pub struct Say {
    /// Lines by place; they are split as needed.
    pub lines: Vec<(String, Vec<String>)>,
}

impl Handler<Say> for IrcConnection {
    type Result = ResponseFuture<Result<Spoken, NotSaid>>;

    fn handle(&mut self, Say { lines }: Say, _: &mut Context<Self>) -> Self::Result {
        let orders = self.orders.clone();
        Box::pin(say(orders, lines))
    }
}

/// Hands something to the driver and waits for the outcome.
pub async fn say(orders: mpsc::Sender<Order>, lines: Vec<(String, Vec<String>)>) -> Result<Spoken, NotSaid> {
    let (reply, outcome) = oneshot::channel();
    let gone = || NotSaid("the connection was born anew".to_owned());
    orders.send(Order { lines, reply }).await.map_err(|_| gone())?;
    outcome.await.unwrap_or_else(|_| Err(gone()))
}
