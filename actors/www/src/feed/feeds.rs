//! The subscriptions of one connection, waited for together: a wake-up costs what is ready, not what is idle.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, Aborted, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;
use greenroom_data::{Delivery, Run, Subscription};
use serde_json::Value;
use tokio::sync::Notify;

/// The most deliveries taken from one subscription before the others have their turn.
const TURN: usize = 64;

/// What identifies a subscription within its connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// The stock form: by its path.
    Path(String),
    /// Ours: by the `_id` that started it, as JSON text.
    Id(String),
}

/// A subscription as its connection knows it.
pub(crate) struct Feed {
    /// The `_id` that started it, as JSON text; the stock form's frames bear none.
    pub(crate) id: Option<Rc<str>>,
    subscription: Subscription,
    name: Name,
    /// Which life of the name: a stopped and restarted name is another subscription.
    life: u64,
    /// Whether it gave something since the last mark.
    gave: bool,
}

/// What came of waiting.
pub(crate) struct Turn {
    /// Of which subscription; its `_id`, if it has clocks.
    pub(crate) id: Option<Rc<str>>,
    /// What it gave at once, in order, if it has no clocks; then it gave nothing singly.
    pub(crate) runs: Vec<Arc<Run>>,
    /// What it gave, in order; perhaps nothing.
    pub(crate) deliveries: Vec<Delivery>,
    /// The clock that it stands at, if it is quiet and a mark is due.
    pub(crate) mark: Option<Arc<str>>,
}

/// A feed, and whether it may have something to give; else a mark is asked for.
type Waiting = Abortable<LocalBoxFuture<'static, (Feed, bool)>>;

struct Known {
    life: u64,
    stop: AbortHandle,
    paths: usize,
}

/// All subscriptions of a connection.
pub(crate) struct Feeds {
    waiting: FuturesUnordered<Waiting>,
    known: HashMap<Name, Known>,
    lives: u64,
    /// Wakes the subscriptions with clocks, to ask for their marks.
    marks: Rc<Notify>,
}

impl Feeds {
    pub(crate) fn new() -> Self {
        Self { waiting: FuturesUnordered::new(), known: HashMap::new(), lives: 0, marks: Rc::default() }
    }

    /// How many paths are subscribed to.
    pub(crate) fn paths(&self) -> usize {
        self.known.values().map(|it| it.paths).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether there is one subscription.
    pub(crate) fn is_one(&self) -> bool {
        self.known.len() == 1
    }

    pub(crate) fn has(&self, name: &Name) -> bool {
        self.known.contains_key(name)
    }

    /// Begins to wait for a subscription of `paths` patterns.
    pub(crate) fn add(&mut self, name: Name, id: Option<Rc<str>>, paths: usize, subscription: Subscription) {
        self.lives += 1;
        let feed = Feed { id, subscription, name: name.clone(), life: self.lives, gave: false };
        let stop = self.wait(feed);
        self.known.insert(name, Known { life: self.lives, stop, paths });
    }

    /// Ends a subscription; false if there is none of that name.
    pub(crate) fn remove(&mut self, name: &Name) -> bool {
        let known = self.known.remove(name);
        if let Some(known) = &known {
            known.stop.abort();
        }
        known.is_some()
    }

    /// Asks the subscriptions with clocks that were quiet for their marks; they come from [`Feeds::next`].
    pub(crate) fn ask_for_marks(&self) {
        self.marks.notify_waiters();
    }

    fn wait(&mut self, mut feed: Feed) -> AbortHandle {
        let (stop, registration) = AbortHandle::new_pair();
        let marks = feed.id.as_ref().map(|_| self.marks.clone());
        let future: LocalBoxFuture<'static, _> = Box::pin(async move {
            let ready = match marks {
                None => {
                    feed.subscription.ready().await;
                    true
                }
                Some(marks) => {
                    let marked = marks.notified();
                    tokio::select! {
                        biased;
                        () = feed.subscription.ready() => true,
                        () = marked => false,
                    }
                }
            };
            (feed, ready)
        });
        self.waiting.push(Abortable::new(future, registration));
        stop
    }

    /// The next turn of a subscription; waits for ever if there is none.
    pub(crate) async fn next(&mut self) -> Turn {
        loop {
            let Some(done) = self.waiting.next().await else { return std::future::pending().await };
            let Ok((mut feed, ready)) = done else {
                let Aborted = Aborted;
                continue;
            };
            if self.known.get(&feed.name).is_none_or(|known| known.life != feed.life) {
                continue;
            }
            let turn = take(&mut feed, ready);
            let ended = matches!(turn.deliveries.last(), Some(Delivery::Ended(_)));
            if ended {
                self.known.remove(&feed.name);
            } else {
                let name = feed.name.clone();
                let stop = self.wait(feed);
                if let Some(known) = self.known.get_mut(&name) {
                    known.stop = stop;
                }
            }
            return turn;
        }
    }
}

/// What is ready of one subscription, or its mark.
fn take(feed: &mut Feed, ready: bool) -> Turn {
    let mut turn = Turn { id: feed.id.clone(), runs: Vec::new(), deliveries: Vec::new(), mark: None };
    if !ready {
        if !std::mem::take(&mut feed.gave) {
            turn.mark = feed.subscription.idle_clock();
        }
        return turn;
    }
    feed.gave = true;
    let mut taken = 0;
    while feed.id.is_none()
        && taken < TURN
        && let Some(run) = feed.subscription.try_next_run()
    {
        taken += run.len();
        turn.runs.push(run);
    }
    while turn.runs.is_empty()
        && turn.deliveries.len() < TURN
        && let Some(delivery) = feed.subscription.try_next()
    {
        let ended = matches!(delivery, Delivery::Ended(_));
        turn.deliveries.push(delivery);
        if ended {
            break;
        }
    }
    turn
}

/// The name of a subscription with clocks.
pub(crate) fn name_of(id: &Value) -> (Name, Rc<str>) {
    let text = id.to_string();
    (Name::Id(text.clone()), text.into())
}
