//! The life of one child: a task that makes births, hears how they end, and waits between them.
//!
//! Each birth is a struct by the factory in a fresh context. Its `ContextFut` is polled inside `catch_unwind`, so
//! that panics in handlers, in `started` and in futures of the context all end the birth and nothing else. Letters
//! come to it through an actor future of ours inside that context.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{self, Poll};
use std::time::Duration;

use actix::dev::ContextFut;
use actix::fut::ActorFuture;
use actix::{ActorContext, AsyncContext, Context};
use greenroom_model::restart::{Policy, Restart, Span};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Supervised;
use crate::ending::{Ending, Exit, panic_message};
use crate::front::{Front, Shared};
use crate::lock;
use crate::mailbox::{Intake, Next, Trouble, Urgent};
use crate::registry::short;
use crate::runtime::Runtime;
use crate::supervisor::{Supervisor, Verdict};
use crate::tasks::{TaskSet, Tasks};
use crate::vital::{CutOff, Order, State, remember};
use crate::watchdog::Pulse;

/// No handler is allowed to wait longer, whatever the policy says.
const LONGEST_PATIENCE: Duration = Duration::from_secs(365 * 86_400);

/// Letters opened in one turn before neighbours on the arbiter get theirs.
const LETTERS_PER_TURN: u32 = 128;

thread_local! {
    /// The birth that is being polled on this thread.
    static CURRENT: RefCell<Option<Rc<BirthCell>>> = const { RefCell::new(None) };
}

/// What one birth is told: handed to the factory, may be kept by the actor.
pub struct Birth<A: Supervised> {
    number: u64,
    front: Front<A>,
    supervisor: Supervisor,
    tasks: Rc<TaskSet>,
}

impl<A: Supervised> Clone for Birth<A> {
    fn clone(&self) -> Self {
        Self {
            number: self.number,
            front: self.front.clone(),
            supervisor: self.supervisor.clone(),
            tasks: Rc::clone(&self.tasks),
        }
    }
}

impl<A: Supervised> fmt::Debug for Birth<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Birth").field("name", &self.name()).field("number", &self.number).finish()
    }
}

impl<A: Supervised> Birth<A> {
    /// Counts births from one.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The actor's name.
    pub fn name(&self) -> &str {
        self.front.name()
    }

    /// The actor's own Front. To itself an actor sends by `ctx.notify`; the Front is to be handed to others.
    pub fn front(&self) -> Front<A> {
        self.front.clone()
    }

    /// The supervisor, to give the actor siblings.
    pub fn supervisor(&self) -> Supervisor {
        self.supervisor.clone()
    }

    /// Clock, randomness, registry.
    pub fn runtime(&self) -> Runtime {
        self.supervisor.runtime()
    }

    /// Spawns tasks that end with this birth.
    pub fn tasks(&self) -> Tasks<A> {
        Tasks { set: Rc::clone(&self.tasks), owner: Arc::downgrade(&self.front.0) }
    }
}

/// What belongs to one birth on its own thread.
struct BirthCell {
    ending: RefCell<Option<Ending>>,
    over: Cell<bool>,
    budget: Cell<u32>,
    deadline: Cell<Option<Instant>>,
    drain_told: Cell<bool>,
    stop_sent: Cell<bool>,
    /// The actor came to look for letters, or said that it is alive.
    alive: Cell<bool>,
    /// It did not look for letters at the last poll: a handler lets nothing else be handled.
    waits: Cell<bool>,
    /// It has handled a message.
    serves: Cell<bool>,
    /// The message that was opened last.
    opened: Cell<&'static str>,
    tasks: Rc<TaskSet>,
}

/// Ends this birth as [`Ending::Failed`], at once: `stopping()` is not asked, `stopped()` still runs.
///
/// For what the actor cannot decide by itself: the restart reloads the truth.
pub fn fail<A: Supervised>(ctx: &mut Context<A>, why: impl fmt::Display) {
    note(Ending::Failed(why.to_string()));
    ctx.terminate();
}

/// Ends this birth as [`Ending::Completed`], as a plain `ctx.stop()` does.
pub fn complete<A: Supervised>(ctx: &mut Context<A>) {
    note(Ending::Completed);
    ctx.stop();
}

fn note(ending: Ending) {
    CURRENT.with_borrow(|cell| {
        if let Some(cell) = cell {
            // the first word counts: what follows is a consequence
            cell.ending.borrow_mut().get_or_insert(ending);
        }
    });
}

/// Says that the actor within which this is called is alive, though it lets no other letters be handled: to be called now
/// and then by what waits long for a good reason, or the actor is ended as [`Ending::Hung`]. Without effect elsewhere.
pub fn still_alive() {
    CURRENT.with_borrow(|cell| {
        if let Some(cell) = cell {
            cell.alive.set(true);
        }
    });
}

/// The deadline of the ask that is being handled right now, for handlers that pass it on. None in a tell.
pub fn letter_deadline() -> Option<Instant> {
    CURRENT.with_borrow(|cell| cell.as_ref().and_then(|cell| cell.deadline.get()))
}

/// The actor future that opens letters within the actor's own context.
struct Reader<A: Supervised> {
    shared: Arc<Shared<A>>,
    cell: Rc<BirthCell>,
}

impl<A: Supervised> ActorFuture<A> for Reader<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        act: &mut A,
        ctx: &mut Context<A>,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        let (shared, cell) = (&self.shared, &self.cell);
        loop {
            if cell.over.get() || ctx.waiting() {
                cell.waits.set(true);
                return Poll::Pending;
            }
            cell.alive.set(true);
            cell.waits.set(false);
            let draining = shared.vital.draining.load(Ordering::SeqCst);
            if draining && !cell.drain_told.replace(true) {
                act.drain(ctx);
                continue;
            }
            if cell.budget.get() == 0 {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            cell.budget.set(cell.budget.get() - 1);
            match shared.mailbox.pop() {
                Next::Letter(letter) => self.read(letter, act, ctx),
                Next::Urgent(Urgent::Observe(reply)) => {
                    // nobody may wait any more
                    let _ = reply.send(act.observe());
                }
                Next::Urgent(Urgent::Rehearse(trouble)) => rehearse(trouble, ctx),
                Next::Empty => {
                    if draining && shared.vital.asks() == 0 && !cell.stop_sent.replace(true) {
                        ctx.stop();
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<A: Supervised> Reader<A> {
    fn read(&self, letter: crate::letter::Letter<A>, act: &mut A, ctx: &mut Context<A>) {
        let deadline = letter.deadline();
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return letter.discard();
        }
        self.cell.deadline.set(deadline);
        let (message, begun) = (letter.message(), std::time::Instant::now());
        self.cell.opened.set(message);
        if letter.open(act, ctx) {
            self.shared.vital.count(message, begun.elapsed());
            if !self.cell.serves.replace(true) {
                self.shared.vital.set_serving();
            }
        }
        self.cell.deadline.set(None);
    }
}

#[allow(clippy::panic, clippy::disallowed_methods, reason = "that is what was asked for")]
fn rehearse<A: Supervised>(trouble: Trouble, ctx: &mut Context<A>) {
    match trouble {
        Trouble::Panic(why) => panic!("{why}"),
        Trouble::Fail(why) => fail(ctx, why),
        Trouble::Hang => ctx.wait(actix::fut::wrap_future(std::future::pending())),
        Trouble::Block(time) => std::thread::sleep(time),
    }
}

/// One birth, from its first poll to its end. Resolves to how it ended and the order that ended it, if one did.
struct Living<A: Supervised> {
    fut: Option<ContextFut<A, Context<A>>>,
    shared: Arc<Shared<A>>,
    cell: Rc<BirthCell>,
    pulse: Arc<Pulse>,
    order: Option<Order>,
    grace: Option<Pin<Box<Sleep>>>,
    /// Since when it has given no sign of life, and the timer that says for how long it may.
    waits_since: Option<Instant>,
    patience: Option<Pin<Box<Sleep>>>,
    started: bool,
}

impl<A: Supervised> Living<A> {
    fn new(shared: &Arc<Shared<A>>, act: A, tasks: Rc<TaskSet>, pulse: Arc<Pulse>) -> Self {
        let cell = Rc::new(BirthCell {
            ending: RefCell::new(None),
            over: Cell::new(false),
            budget: Cell::new(0),
            deadline: Cell::new(None),
            drain_told: Cell::new(false),
            stop_sent: Cell::new(false),
            alive: Cell::new(false),
            waits: Cell::new(false),
            serves: Cell::new(false),
            opened: Cell::new(""),
            tasks,
        });
        let mut ctx = Context::new();
        ctx.spawn(Reader { shared: Arc::clone(shared), cell: Rc::clone(&cell) });
        let fut = Some(ctx.into_future(act));
        Self {
            fut,
            shared: Arc::clone(shared),
            cell,
            pulse,
            order: None,
            grace: None,
            waits_since: None,
            patience: None,
            started: false,
        }
    }

    /// Ends the birth: whatever it held is answered, its tasks are aborted, its struct is dropped.
    fn finish(&mut self) {
        let Some(mut fut) = self.fut.take() else { return };
        self.cell.over.set(true);
        self.cell.tasks.abort_all();
        if self.grace.is_none() {
            // before letters are refused: whoever waits until it is ready must not be told that it is
            self.shared.vital.set_state(State::BackingOff, None);
        }
        self.shared.mailbox.clear(Intake::Away);
        // a context that is dropped alive would poll the actor once more
        fut.ctx().terminate();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(move || drop(fut))) {
            tracing::error!(actor.name = %self.shared.vital.name, panic = %panic_message(&*payload),
                "an actor panicked while it was dropped");
        }
    }

    /// Obeys an order that came while alive; says how the birth ended if the order ended it.
    fn obey(&mut self, order: Order) -> Option<Ending> {
        let stopping = matches!(self.order, Some(Order::Stop(_)));
        match order {
            Order::Stop(until) => {
                self.shared.vital.draining.store(true, Ordering::SeqCst);
                self.shared.mailbox.set_intake(Intake::Closed);
                self.shared.vital.set_state(State::Stopping, None);
                self.end_by(until, order);
                None
            }
            Order::Park { until, .. } if !stopping => {
                self.shared.vital.set_state(State::BackingOff, None);
                self.shared.mailbox.clear(Intake::Away);
                self.end_by(until, order);
                if let Some(fut) = self.fut.as_mut() {
                    fut.ctx().stop();
                }
                None
            }
            // the stop goes on, and ends it
            Order::Park { .. } | Order::Reborn(_) | Order::Restart if stopping => None,
            Order::Kill | Order::Halt if stopping => {
                self.cut_off();
                if matches!(order, Order::Halt) {
                    self.order = Some(order);
                }
                Some(Ending::Killed)
            }
            // killed while it is being parked, it stays parked
            Order::Kill | Order::Restart if matches!(self.order, Some(Order::Park { .. })) => {
                Some(Ending::Killed)
            }
            order => {
                self.order = Some(order);
                Some(Ending::Killed)
            }
        }
    }

    fn end_by(&mut self, until: Instant, order: Order) {
        self.grace = Some(Box::pin(sleep_until(until)));
        self.order = Some(order);
    }

    /// Whether the birth has given no sign of life for too long, and if so since what.
    fn hangs(&mut self, cx: &mut task::Context<'_>) -> Option<Ending> {
        if self.cell.alive.replace(false) {
            self.waits_since = None;
        }
        if !self.cell.waits.get() || self.grace.is_some() {
            self.waits_since = None;
        } else {
            self.waits_since.get_or_insert_with(Instant::now);
        }
        let Some(since) = self.waits_since else {
            self.patience = None;
            return None;
        };
        let (allowed, now) = (self.shared.vital.hang_after(), Instant::now());
        let until = since + allowed.min(LONGEST_PATIENCE);
        if now < until {
            let timer = self.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            // a timer that has run out already wakes at once
            if timer.as_mut().poll(cx).is_pending() {
                return None;
            }
        }
        let what = match self.cell.opened.get() {
            "" => "since before its first message".to_owned(),
            message => format!("since it was given {}", short(message)),
        };
        Some(Ending::Hung(format!("no sign of life for {}, {what}", Span::from(allowed))))
    }

    fn cut_off(&self) {
        let vital = &self.shared.vital;
        let (queued, in_flight) = (self.shared.mailbox.depth(), vital.asks());
        lock(&vital.life).cut_off = Some(CutOff { name: vital.name.to_string(), queued, in_flight });
    }

    fn poll_actor(&mut self, cx: &mut task::Context<'_>) -> Poll<Ending> {
        let Some(fut) = self.fut.as_mut() else { return Poll::Ready(Ending::Killed) };
        self.cell.budget.set(LETTERS_PER_TURN);
        // unless the reader of letters comes by
        self.cell.waits.set(true);
        let outer = CURRENT.replace(Some(Rc::clone(&self.cell)));
        self.pulse.enter(self.shared.vital.id);
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(fut).poll(cx)));
        self.pulse.leave();
        CURRENT.set(outer);
        match polled {
            // a failure noted by a future that others wait for must not wait itself
            Ok(Poll::Pending) => match self.cell.ending.take() {
                Some(failed @ Ending::Failed(_)) => Poll::Ready(failed),
                other => {
                    self.cell.ending.replace(other);
                    Poll::Pending
                }
            },
            Ok(Poll::Ready(())) => {
                let otherwise = if self.grace.is_some() { Ending::Stopped } else { Ending::Completed };
                Poll::Ready(self.cell.ending.borrow_mut().take().unwrap_or(otherwise))
            }
            Err(payload) => Poll::Ready(Ending::Panicked(panic_message(&*payload))),
        }
    }
}

impl<A: Supervised> Future for Living<A> {
    type Output = (Ending, Option<Order>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut ending = this.shared.vital.take_order().and_then(|order| this.obey(order));
        if ending.is_none() && this.grace.as_mut().is_some_and(|grace| grace.as_mut().poll(cx).is_ready()) {
            this.cut_off();
            ending = Some(Ending::Killed);
        }
        if ending.is_none() {
            match this.poll_actor(cx) {
                Poll::Ready(by_itself) => ending = Some(by_itself),
                Poll::Pending => {
                    if !std::mem::replace(&mut this.started, true) && this.grace.is_none() {
                        this.shared.vital.set_running();
                    }
                    ending = this.hangs(cx);
                }
            }
        }
        match ending {
            None => Poll::Pending,
            Some(ending) => {
                this.finish();
                Poll::Ready((ending, this.order.take()))
            }
        }
    }
}

impl<A: Supervised> Drop for Living<A> {
    /// The arbiter went away under it.
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the child does after a birth.
enum After {
    Again { at: Instant },
    Wait,
    End(State),
}

/// Takes the child out of the books however its task ends, also when its arbiter stops.
pub(crate) struct Books<A: Supervised> {
    pub(crate) shared: Arc<Shared<A>>,
    pub(crate) supervisor: Supervisor,
    pub(crate) state: State,
}

impl<A: Supervised> Drop for Books<A> {
    fn drop(&mut self) {
        self.shared.mailbox.clear(Intake::Closed);
        self.supervisor.forget(&self.shared.vital);
        self.shared.vital.set_state(self.state, None);
    }
}

/// The task of a child.
pub(crate) async fn run<A, F>(mut books: Books<A>, factory: F)
where
    A: Supervised,
    F: Fn(&Birth<A>) -> A + 'static,
{
    let (shared, supervisor) = (Arc::clone(&books.shared), books.supervisor.clone());
    let vital = &shared.vital;
    poll_fn(|cx| {
        vital.set_waker(cx.waker());
        Poll::Ready(())
    })
    .await;
    let mut streak = 0_u32;
    // letters may wait for the first birth, so it is not waited for as the later ones are
    let mut after = match vital.take_order() {
        Some(order) => between(&order, &supervisor.policy_of(vital)),
        None => After::Again { at: Instant::now() },
    };
    loop {
        let at = match after {
            After::End(state) => {
                books.state = state;
                break;
            }
            After::Wait => None,
            After::Again { at } => Some(at),
        };
        let order = wait(&shared, &supervisor, at).await;
        let policy = supervisor.policy_of(vital);
        after = match order {
            Some(order) => between(&order, &policy),
            None => {
                let begun = Instant::now();
                let (ending, order) = live(&shared, &factory, &supervisor).await;
                let policy = supervisor.policy_of(vital);
                if begun.elapsed() >= policy.healthy_after.duration() {
                    streak = 0;
                }
                record(&shared, &supervisor, &ending, order.as_ref(), begun.elapsed());
                decide(&shared, &supervisor, &policy, &ending, order, &mut streak)
            }
        };
    }
}

/// Makes one birth and lives it.
async fn live<A, F>(shared: &Arc<Shared<A>>, factory: &F, supervisor: &Supervisor) -> (Ending, Option<Order>)
where
    A: Supervised,
    F: Fn(&Birth<A>) -> A,
{
    let vital = &shared.vital;
    let number = {
        let mut life = lock(&vital.life);
        life.births += 1;
        life.births
    };
    vital.adopt(&supervisor.policy_of(vital));
    vital.set_state(State::Starting, None);
    shared.mailbox.set_intake(Intake::Open);
    let tasks = Rc::new(TaskSet::default());
    let birth = Birth {
        number,
        front: Front(Arc::clone(shared)),
        supervisor: supervisor.clone(),
        tasks: Rc::clone(&tasks),
    };
    match catch_unwind(AssertUnwindSafe(|| factory(&birth))) {
        Ok(act) => Living::new(shared, act, tasks, supervisor.pulse()).await,
        Err(payload) => {
            tasks.abort_all();
            shared.mailbox.clear(Intake::Away);
            (Ending::Panicked(panic_message(&*payload)), None)
        }
    }
}

fn record<A: Supervised>(
    shared: &Shared<A>,
    supervisor: &Supervisor,
    ending: &Ending,
    order: Option<&Order>,
    lived: Duration,
) {
    let vital = &shared.vital;
    let message = match (ending, order) {
        (Ending::Stopped | Ending::Killed, Some(Order::Park { why, .. })) => why.to_string(),
        _ => ending.message().to_owned(),
    };
    let mut life = lock(&vital.life);
    let exit = Exit {
        name: vital.name.to_string(),
        kind: ending.kind(),
        message,
        at: supervisor.now_micros(),
        birth: life.births,
        lived_ms: u64::try_from(lived.as_millis()).unwrap_or(u64::MAX),
        back_ms: None,
        served_ms: None,
    };
    life.last = Some(ending.clone());
    life.died = Some(Instant::now());
    life.unserved_since = life.died;
    remember(&mut life.exits, exit.clone());
    drop(life);
    if ending.is_bad() {
        tracing::warn!(actor.name = %vital.name, actor.kind = vital.kind, actor.birth = exit.birth,
            ending = exit.kind, reason = %exit.message, lived_ms = exit.lived_ms, "an actor ended badly");
    } else {
        tracing::debug!(actor.name = %vital.name, actor.kind = vital.kind, ending = exit.kind, "an actor ended");
    }
    supervisor.record(exit);
}

/// What an order means to a child that is not alive.
fn between(order: &Order, policy: &Policy) -> After {
    match order {
        Order::Restart | Order::Reborn(_) if policy.restart == Restart::Temporary => {
            After::End(State::Failed)
        }
        Order::Park { .. } if policy.restart == Restart::Temporary => After::End(State::Stopped),
        Order::Park { .. } => After::Wait,
        Order::Kill | Order::Restart => After::Again { at: Instant::now() },
        Order::Reborn(at) => After::Again { at: *at },
        Order::Stop(_) => After::End(State::Stopped),
        Order::Halt => After::End(State::Failed),
    }
}

fn decide<A: Supervised>(
    shared: &Shared<A>,
    supervisor: &Supervisor,
    policy: &Policy,
    ending: &Ending,
    order: Option<Order>,
    streak: &mut u32,
) -> After {
    let ended = After::End(if ending.is_bad() { State::Failed } else { State::Stopped });
    match order {
        None | Some(Order::Kill) => {}
        Some(Order::Stop(_)) => return ended,
        // its work was done when its group was stopped
        Some(Order::Park { .. }) if *ending == Ending::Completed && policy.restart != Restart::Permanent => {
            return ended;
        }
        Some(order) => return between(&order, policy),
    }
    if !ending.asks_for(policy.restart) {
        return ended;
    }
    let delay = supervisor.backoff(policy, *streak);
    *streak = streak.saturating_add(1);
    match supervisor.child_ended(&shared.vital, ending, delay) {
        Verdict::Again => After::Again { at: Instant::now() + delay },
        Verdict::AsOrdered => After::Wait,
        Verdict::End => ended,
    }
}

/// Waits until the instant (for ever without one), or for an order, which is returned.
async fn wait<A: Supervised>(
    shared: &Shared<A>,
    supervisor: &Supervisor,
    at: Option<Instant>,
) -> Option<Order> {
    let vital = &shared.vital;
    if at.is_some_and(|at| at <= Instant::now()) && !vital.has_order() {
        return None;
    }
    let left = at.map(|at| at.saturating_duration_since(Instant::now()));
    let until = left.map(|left| {
        supervisor.now_micros().saturating_add(i64::try_from(left.as_micros()).unwrap_or(i64::MAX))
    });
    shared.mailbox.set_intake(Intake::Away);
    vital.set_state(State::BackingOff, until);
    vital.set_parked(at.is_none());
    let mut timer = at.map(|at| Box::pin(sleep_until(at)));
    let order = poll_fn(|cx| match (vital.take_order(), timer.as_mut()) {
        (Some(order), _) => Poll::Ready(Some(order)),
        (None, Some(timer)) => timer.as_mut().poll(cx).map(|()| None),
        (None, None) => Poll::Pending,
    })
    .await;
    vital.set_parked(false);
    order
}
