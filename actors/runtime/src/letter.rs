//! Letters: how a message travels from a Front to a handler.
//!
//! A letter holds one message of any type that the actor handles, with the way for its reply. It is opened on
//! the actor's arbiter by the actor's own task, which counts, times and names it. Handlers are reached no
//! other way. An ask is one allocation, shared with its asker, so that the place it takes in the Front's
//! admission is free again when both are done with it; a tell is a plain box.

use std::sync::{Arc, Mutex};

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Handler, Message};
use tokio::time::Instant;

use crate::lock;
use crate::vital::Vital;

/// A message on its way to an `A`.
pub(crate) enum Letter<A: Actor> {
    Ask(Arc<dyn OpenAsk<A> + Send + Sync>),
    Tell(Box<dyn OpenTell<A> + Send>),
}

impl<A: Actor> Letter<A> {
    /// The name of the message's type.
    pub(crate) fn message(&self) -> &'static str {
        match self {
            Self::Ask(ask) => ask.message(),
            Self::Tell(tell) => tell.message(),
        }
    }

    /// The asker's deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Ask(ask) => Some(ask.deadline()),
            Self::Tell(_) => None,
        }
    }

    /// Calls the handler, unless nobody waits for the answer any more. Says whether it was called.
    pub(crate) fn open(self, act: &mut A, ctx: &mut A::Context) -> bool {
        match self {
            Self::Ask(ask) => ask.open(act, ctx),
            Self::Tell(mut tell) => tell.open(act, ctx),
        }
    }

    /// Forgets the message; an asker hears that its birth is over. To be called outside any lock.
    pub(crate) fn discard(self) {
        if let Self::Ask(ask) = self {
            ask.discard();
        }
    }
}

pub(crate) trait OpenAsk<A: Actor> {
    fn open(&self, act: &mut A, ctx: &mut A::Context) -> bool;
    fn discard(&self);
    fn message(&self) -> &'static str;
    fn deadline(&self) -> Instant;
}

pub(crate) trait OpenTell<A: Actor> {
    fn open(&mut self, act: &mut A, ctx: &mut A::Context) -> bool;
    fn message(&self) -> &'static str;
}

/// A place among the asks in flight; free again when dropped.
pub(crate) struct AskPermit(pub(crate) Arc<Vital>);

impl Drop for AskPermit {
    fn drop(&mut self) {
        self.0.release_ask();
    }
}

/// A place among the queued tells; free again when dropped.
pub(crate) struct TellPermit(pub(crate) Arc<Vital>);

impl Drop for TellPermit {
    fn drop(&mut self) {
        self.0.release_tell();
    }
}

/// An ask, held by the queue and by its asker.
pub(crate) struct Ask<M: Message> {
    body: Mutex<Option<(M, OneshotSender<M::Result>)>>,
    deadline: Instant,
    _permit: AskPermit,
}

impl<M: Message> Ask<M> {
    pub(crate) fn new(msg: M, reply: OneshotSender<M::Result>, deadline: Instant, permit: AskPermit) -> Self {
        Self { body: Mutex::new(Some((msg, reply))), deadline, _permit: permit }
    }
}

impl<A, M> OpenAsk<A> for Ask<M>
where
    A: Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn open(&self, act: &mut A, ctx: &mut A::Context) -> bool {
        // the guard must not live on while the handler runs
        let body = lock(&self.body).take();
        match body {
            Some((msg, reply)) if !reply.is_closed() => {
                <A as Handler<M>>::handle(act, msg, ctx).handle(ctx, Some(reply));
                true
            }
            _ => false,
        }
    }

    fn discard(&self) {
        let body = lock(&self.body).take();
        drop(body);
    }

    fn message(&self) -> &'static str {
        std::any::type_name::<M>()
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// A tell. Messages that the runtime itself sends (a task's end) have no permit: their senders are counted elsewhere.
pub(crate) struct Tell<M> {
    pub(crate) msg: Option<M>,
    pub(crate) permit: Option<TellPermit>,
}

impl<A, M> OpenTell<A> for Tell<M>
where
    A: Handler<M>,
    M: Message + Send + 'static,
{
    fn open(&mut self, act: &mut A, ctx: &mut A::Context) -> bool {
        drop(self.permit.take());
        match self.msg.take() {
            Some(msg) => {
                <A as Handler<M>>::handle(act, msg, ctx).handle(ctx, None);
                true
            }
            None => false,
        }
    }

    fn message(&self) -> &'static str {
        std::any::type_name::<M>()
    }
}
