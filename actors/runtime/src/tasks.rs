//! Plain tokio tasks that an actor owns.
//!
//! I/O belongs into tasks, not into handlers. A task that is owned ends with its owner's birth, and its end,
//! a panic included, comes back as a message; so nothing runs on unseen and nothing dies unheard.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use actix::{Handler, Message};
use futures_util::FutureExt;
use tokio::task::AbortHandle;

use crate::Supervised;
use crate::ending::panic_message;
use crate::front::Shared;
use crate::letter::{Letter, Tell};

/// How an owned task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEnd<T> {
    /// It returned this.
    Done(T),
    /// It panicked with this message.
    Panicked(String),
}

/// Names one owned task of one birth, so that it can be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskId(u64);

#[derive(Default)]
pub(crate) struct TaskSet {
    next: Cell<u64>,
    live: RefCell<HashMap<u64, AbortHandle>>,
    closed: Cell<bool>,
}

impl TaskSet {
    pub(crate) fn abort_all(&self) {
        self.closed.set(true);
        let live = std::mem::take(&mut *self.live.borrow_mut());
        live.into_values().for_each(|task| task.abort());
    }
}

/// The tasks of one birth; get it from [`crate::Birth::tasks`] and keep it in the actor.
pub struct Tasks<A: Supervised> {
    pub(crate) set: Rc<TaskSet>,
    pub(crate) owner: Weak<Shared<A>>,
}

impl<A: Supervised> Clone for Tasks<A> {
    fn clone(&self) -> Self {
        Self { set: Rc::clone(&self.set), owner: Weak::clone(&self.owner) }
    }
}

impl<A: Supervised> Tasks<A> {
    /// Runs `future` on the actor's arbiter. When it ends, the actor gets the message that `report` makes of it;
    /// that message passes the Front's admission, since the number of tasks is the owner's own choice.
    /// A task that is cancelled, or whose owner's birth ends, reports nothing.
    pub fn spawn<F, M>(&self, future: F, report: impl FnOnce(TaskEnd<F::Output>) -> M + 'static) -> TaskId
    where
        A: Handler<M>,
        F: Future + 'static,
        M: Message + Send + 'static,
    {
        let id = self.set.next.get();
        self.set.next.set(id + 1);
        if self.set.closed.get() {
            return TaskId(id);
        }
        let (set, owner) = (Rc::downgrade(&self.set), Weak::clone(&self.owner));
        let task = actix_rt::spawn(async move {
            let end = match AssertUnwindSafe(future).catch_unwind().await {
                Ok(value) => TaskEnd::Done(value),
                Err(payload) => TaskEnd::Panicked(panic_message(&*payload)),
            };
            let Some(set) = set.upgrade() else { return };
            set.live.borrow_mut().remove(&id);
            let (false, Some(owner)) = (set.closed.get(), owner.upgrade()) else { return };
            match catch_unwind(AssertUnwindSafe(|| report(end))) {
                Ok(msg) => deliver(&owner, msg),
                Err(payload) => tracing::error!(actor.name = %owner.vital.name,
                    panic = %panic_message(&*payload), "the report of a task panicked"),
            }
        });
        self.set.live.borrow_mut().insert(id, task.abort_handle());
        TaskId(id)
    }

    /// Cancels a task that still runs.
    pub fn cancel(&self, task: TaskId) {
        if let Some(task) = self.set.live.borrow_mut().remove(&task.0) {
            task.abort();
        }
    }

    /// Tasks that still run.
    pub fn running(&self) -> usize {
        self.set.live.borrow().len()
    }
}

fn deliver<A, M>(owner: &Arc<Shared<A>>, msg: M)
where
    A: Supervised + Handler<M>,
    M: Message + Send + 'static,
{
    let letter = Letter::Tell(Box::new(Tell { msg: Some(msg), permit: None }));
    if owner.mailbox.push_inner(letter) {
        owner.vital.wake();
    }
}
