//! Subscriptions (placeholder body follows).
use std::sync::Arc;

use greenroom_model::Clock;

use crate::frame::Delivered;

/// What a subscription gives.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// An event that one of its patterns selects.
    Event(Delivered),
    /// The subscription is over.
    Ended(Ended),
}

/// Why a subscription is over. In every case the subscriber may subscribe again since its last clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did not keep up: more than 1,000 events or 1 MiB were waiting for it.
    Lagging,
    /// While it caught up, what it still needed was pruned: take a new snapshot.
    Gone,
    /// The feed was restarted.
    Restarted,
}

/// A running subscription: every event after its clock that its patterns select, in order, none missed, none twice.
/// Dropping it ends it.
pub struct Subscription {
    _private: (),
}

impl Subscription {
    /// The next delivery. After [`Delivery::Ended`] nothing comes any more.
    pub async fn next(&mut self) -> Delivery {
        unimplemented!()
    }

    /// The next delivery, if there is one now.
    pub fn try_next(&mut self) -> Option<Delivery> {
        unimplemented!()
    }

    /// The clock of the last event given, or the one begun with.
    pub fn clock(&self) -> Clock {
        unimplemented!()
    }

    /// If nothing is waiting to be given: the clock of the whole feed, at which this subscription then stands too, as text. For
    /// progress marks on quiet subscriptions.
    pub fn idle_clock(&self) -> Option<Arc<str>> {
        unimplemented!()
    }
}
