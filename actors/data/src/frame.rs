//! Events as subscribers get them: rendered once, shared by all.

use std::sync::Arc;

use greenroom_model::wire::{self, Lookup};
use greenroom_model::{Clock, Event, Key};

/// An event with its routing keys and public form.
#[derive(Debug)]
pub struct Frame {
    /// The event.
    pub event: Event,
    /// Its routing keys; the first is the canonical topic.
    pub keys: Vec<Key>,
    /// The public form of its entity, as JSON text.
    pub json: Arc<str>,
    /// The clock after it, as text: exact for everybody who has got everything up to it.
    pub clock: Arc<str>,
    /// The same.
    pub clock_value: Arc<Clock>,
}

impl Frame {
    /// Renders an event.
    pub fn new(event: Event, clock: Clock, lookup: &dyn Lookup) -> Self {
        let json = wire::render(&event.what.record, lookup).into();
        let (keys, text) = (event.what.keys(), clock.to_string().into());
        Self { keys, json, clock: text, clock_value: Arc::new(clock), event }
    }

    /// About what it costs a queue, in bytes.
    pub fn size(&self) -> usize {
        self.json.len() + 64
    }
}

/// A frame as selected by one pattern of a subscription.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The event.
    pub frame: Arc<Frame>,
    /// Which of its keys was selected.
    pub key: usize,
    /// The subscription's clock after it, as text.
    pub clock: Arc<str>,
}

impl Delivered {
    /// The selected routing key.
    pub fn key(&self) -> &Key {
        &self.frame.keys[self.key]
    }
}
