//! The queue between a Front and the births behind it.
//!
//! It belongs to the Front, not to a birth, and knows under one short lock whether letters are taken at all:
//! so "certainly not run" and "outcome unknown" are told apart without a race. At the end of a birth what is
//! queued is taken out and answered.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use actix::Actor;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::letter::Letter;
use crate::lock;

/// A queue that grew past this in a burst gives its memory back once empty.
const KEPT_CAPACITY: usize = 256;

/// What the runtime asks of an actor that does not answer; further reports do without it.
const URGENT_BOUND: usize = 64;

/// Whether letters are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intake {
    /// A birth lives, or the first one is about to.
    Open,
    /// Between two births.
    Away,
    /// Stopping or ended for good.
    Closed,
}

/// What the runtime itself asks of an actor; it goes before letters.
pub(crate) enum Urgent {
    Observe(oneshot::Sender<Value>),
    Rehearse(Trouble),
}

/// Trouble that is made on purpose, in the actor's own context.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    Panic(String),
    Fail(String),
    /// A handler that never ends and handles nothing else meanwhile.
    Hang,
    /// A handler that holds its arbiter's thread.
    Block(Duration),
}

/// What the queue has for its actor.
pub(crate) enum Next<A: Actor> {
    Urgent(Urgent),
    Letter(Letter<A>),
    Empty,
}

struct Inner<A: Actor> {
    intake: Intake,
    urgent: VecDeque<Urgent>,
    letters: VecDeque<Letter<A>>,
    /// The task has been woken and has not yet found the queue empty.
    scheduled: bool,
}

pub(crate) struct Mailbox<A: Actor>(Mutex<Inner<A>>);

impl<A: Actor> Mailbox<A> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Inner {
            intake: Intake::Open,
            urgent: VecDeque::new(),
            letters: VecDeque::new(),
            scheduled: false,
        }))
    }

    /// Queues the letter that `write` makes, if letters are taken. `Ok(true)`: the task must be woken.
    pub(crate) fn push(&self, write: impl FnOnce() -> Letter<A>) -> Result<bool, Intake> {
        let mut inner = lock(&self.0);
        if inner.intake != Intake::Open {
            return Err(inner.intake);
        }
        inner.letters.push_back(write());
        Ok(!std::mem::replace(&mut inner.scheduled, true))
    }

    /// Queues a letter also while stopping, when only what is under way may still report.
    pub(crate) fn push_inner(&self, letter: Letter<A>) -> bool {
        let mut inner = lock(&self.0);
        inner.letters.push_back(letter);
        !std::mem::replace(&mut inner.scheduled, true)
    }

    /// Queues something urgent. `Ok(true)`: the task must be woken.
    pub(crate) fn push_urgent(&self, urgent: Urgent) -> Result<bool, Intake> {
        let mut inner = lock(&self.0);
        if inner.intake == Intake::Away || inner.urgent.len() >= URGENT_BOUND {
            return Err(inner.intake);
        }
        inner.urgent.push_back(urgent);
        Ok(!std::mem::replace(&mut inner.scheduled, true))
    }

    pub(crate) fn pop(&self) -> Next<A> {
        let mut inner = lock(&self.0);
        if let Some(urgent) = inner.urgent.pop_front() {
            return Next::Urgent(urgent);
        }
        if let Some(letter) = inner.letters.pop_front() {
            return Next::Letter(letter);
        }
        inner.scheduled = false;
        if inner.letters.capacity() > KEPT_CAPACITY {
            inner.letters.shrink_to(KEPT_CAPACITY);
        }
        Next::Empty
    }

    pub(crate) fn set_intake(&self, intake: Intake) {
        lock(&self.0).intake = intake;
    }

    pub(crate) fn intake(&self) -> Intake {
        lock(&self.0).intake
    }

    pub(crate) fn depth(&self) -> usize {
        lock(&self.0).letters.len()
    }

    /// Ends the queue of a birth: sets the intake and forgets what is queued. Says how many letters that were.
    pub(crate) fn clear(&self, intake: Intake) -> usize {
        let (urgent, letters) = {
            let mut inner = lock(&self.0);
            inner.intake = intake;
            inner.scheduled = false;
            (std::mem::take(&mut inner.urgent), std::mem::take(&mut inner.letters))
        };
        drop(urgent);
        let count = letters.len();
        letters.into_iter().for_each(Letter::discard);
        count
    }
}
