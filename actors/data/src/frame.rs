//! Events as subscribers get them: rendered once, shared by all.

use std::sync::Arc;

use greenroom_model::wire::{self, Lookup};
use greenroom_model::{Event, Key};

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
}

impl Frame {
    /// Renders an event.
    pub fn new(event: Event, clock: Arc<str>, lookup: &dyn Lookup) -> Self {
        Self { keys: event.what.keys(), json: wire::render(&event.what.record, lookup).into(), clock, event }
    }
}

/// A frame as selected by one pattern of a subscription.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The event.
    pub frame: Arc<Frame>,
    /// Which of its keys was selected.
    pub key: usize,
}

impl Delivered {
    /// The selected routing key.
    pub fn key(&self) -> &Key {
        &self.frame.keys[self.key]
    }
}
