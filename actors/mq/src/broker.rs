//! The Broker: who published what goes to whom subscribed to its topic.

use std::collections::HashMap;
use std::sync::Arc;

use actix::prelude::*;
use greenroom_model::{Event, Key, MasterId, Pattern, key};
use greenroom_runtime::{Supervised, Teller};
use serde_json::json;

use crate::topic_index::TopicIndex;

/// What the bus carries. A hint, no more: whoever needs to be sure reads the database.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub enum Notice {
    /// A master has committed these events, in this order. Topic `events/<master>`.
    Events(Arc<[Event]>),
    /// A master's last event has this number. Topic `heads/<master>`.
    Head {
        /// The master.
        master: MasterId,
        /// Its last event.
        seq: i64,
    },
}

impl Notice {
    /// The topic; an empty list of events has none.
    pub fn topic(&self) -> Option<Key> {
        match self {
            Notice::Events(events) => events.first().map(|e| key!["events", e.master.0]),
            Notice::Head { master, .. } => Some(key!["heads", master.0]),
        }
    }
}

/// Sends a notice to all subscribers of its topic.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Publish(pub Notice);

/// Subscribes by name: again under the same name replaces what was there, so that subscribing is safe to repeat (and must
/// be repeated, since a reborn Broker knows nobody). The answer is whether the name was not known: what was published until then
/// was not told to it.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Subscribe {
    /// Who.
    pub name: String,
    /// To which topics.
    pub patterns: Vec<Pattern>,
    /// Where notices go.
    pub to: Teller<Notice>,
}

/// The in-process bus.
#[derive(Default)]
pub struct Broker {
    index: TopicIndex<String>,
    subscribers: HashMap<String, (Vec<Pattern>, Teller<Notice>)>,
    published: u64,
    dropped: u64,
}

impl Actor for Broker {
    type Context = Context<Self>;
}

impl Supervised for Broker {
    const KIND: &'static str = "broker";

    fn observe(&self) -> serde_json::Value {
        json!({"subscribers": self.subscribers.len(), "published": self.published, "dropped": self.dropped})
    }
}

impl Handler<Subscribe> for Broker {
    type Result = bool;

    fn handle(&mut self, msg: Subscribe, _: &mut Context<Self>) -> bool {
        let before = self.subscribers.remove(&msg.name);
        if let Some((old, _)) = &before {
            old.iter().for_each(|p| self.index.remove(p, &msg.name));
        }
        msg.patterns.iter().for_each(|p| self.index.insert(p, msg.name.clone()));
        self.subscribers.insert(msg.name, (msg.patterns, msg.to));
        before.is_none()
    }
}

impl Handler<Publish> for Broker {
    type Result = ();

    fn handle(&mut self, Publish(notice): Publish, _: &mut Context<Self>) {
        let Some(topic) = notice.topic() else { return };
        self.published += 1;
        let (subscribers, mut dropped) = (&self.subscribers, 0);
        self.index.matching(&topic, |name| {
            if let Some((_, to)) = subscribers.get(name)
                && to.tell(notice.clone()).is_err()
            {
                dropped += 1;
            }
        });
        self.dropped += dropped;
    }
}
