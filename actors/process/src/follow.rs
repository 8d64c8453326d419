//! Following events: a task per following actor that hands it what its subscription gives, a batch at a time.
//!
//! The next batch is fetched when the one before has been handled, so an actor that is slow (or waits for the data layer)
//! slows its own subscription and nothing else. A subscription that ends is begun again since the last clock.

use std::time::Duration;

use actix::{Handler, Message};
use greenroom_data::{DataError, Delivered, Delivery, Ended, Ro};
use greenroom_model::{Clock, Pattern};
use greenroom_runtime::{Front, Supervised};

/// The most events of one batch.
const BATCH: usize = 256;
/// How long an actor may take over a batch: it may be waiting for the data layer.
const HANDLED_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// How long to wait before a refused subscription is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Some events in order, and the clock after them.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Events {
    pub events: Vec<Delivered>,
    pub clock: Clock,
}

/// Why following ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowEnd {
    /// What would come next is not kept any more: read a new snapshot.
    Gone,
    /// The actor does not take events any more.
    OwnerStopped,
}

/// Hands `front` every event after `since` that a pattern selects.
pub(crate) async fn follow<A>(ro: Ro, front: Front<A>, patterns: Vec<Pattern>, mut since: Clock) -> FollowEnd
where
    A: Supervised + Handler<Events>,
{
    loop {
        let mut subscription = match ro.subscribe(patterns.clone(), Some(since.clone())).await {
            Ok(subscription) => subscription,
            Err(DataError::Gone) => return FollowEnd::Gone,
            Err(error) => {
                tracing::warn!(actor.name = front.name(), %error, "a subscription is tried again");
                tokio::time::sleep(TRY_AGAIN).await;
                continue;
            }
        };
        let ended = loop {
            let (events, ended) = batch(&mut subscription).await;
            if !events.is_empty() {
                let clock = subscription.clock();
                let taken = front.ask_within(HANDLED_WITHIN, Events { events, clock: clock.clone() }).await;
                if let Err(error) = taken {
                    tracing::debug!(actor.name = front.name(), %error, "an actor takes no more events");
                    return FollowEnd::OwnerStopped;
                }
                since = clock;
            }
            if let Some(ended) = ended {
                break ended;
            }
        };
        if ended == Ended::Gone {
            return FollowEnd::Gone;
        }
    }
}

async fn batch(subscription: &mut greenroom_data::Subscription) -> (Vec<Delivered>, Option<Ended>) {
    let mut events = Vec::new();
    let mut next = Some(subscription.next().await);
    while let Some(delivery) = next {
        match delivery {
            Delivery::Event(event) => events.push(event),
            Delivery::Ended(ended) => return (events, Some(ended)),
        }
        next = if events.len() < BATCH { subscription.try_next() } else { None };
    }
    (events, None)
}
