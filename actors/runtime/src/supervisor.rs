//! Supervisors: who belongs to whom, how many restarts are too many, and how a tree stops.
//!
//! A supervisor is passive: its children's tasks ask it what to do when they end. One-for-one: the end of a child
//! concerns that child alone, until the restarts within a period are more than the intensity. Then the supervisor
//! itself has failed: its parent counts that as one restart of its own and has all children born anew, or fails in
//! turn; at the root the failure becomes the [`crate::Escalation`], on which the process exits.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_rt::ArbiterHandle;
use greenroom_model::restart::{Intensity, Policy, PolicyPatch, Restart, Span};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::Supervised;
use crate::child::{self, Birth, Books};
use crate::ending::{Ending, Exit};
use crate::front::{Front, Shared, later};
use crate::lock;
use crate::mailbox::Mailbox;
use crate::registry::Entry;
use crate::runtime::{Escalation, Runtime, World};
use crate::vital::{CutOff, Order, State, Vital, remember};
use crate::watchdog::Pulse;

/// Past its grace a child is cut off by its own task; this long it may take to notice, if its arbiter is held.
const CUT_OFF_SLACK: Duration = Duration::from_millis(500);

/// The kind that supervisors have in policies and reports.
pub(crate) const SUPERVISOR_KIND: &str = "supervisor";

/// What the code says about a child: one row of the supervision tree.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    /// Unique among all live actors; a name in use gets a number appended.
    pub name: String,
    /// What differs from the defaults. Settings by kind and by name go over it.
    pub policy: PolicyPatch,
}

impl ChildSpec {
    /// A permanent child with default patience.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), policy: PolicyPatch::default() }
    }

    /// Restarted always, except after a stop by its supervisor.
    pub fn permanent(self) -> Self {
        self.restart(Restart::Permanent)
    }

    /// Restarted only after it ended badly.
    pub fn transient(self) -> Self {
        self.restart(Restart::Transient)
    }

    /// Never restarted.
    pub fn temporary(self) -> Self {
        self.restart(Restart::Temporary)
    }

    /// Sets the restart type.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.policy.restart = Some(restart);
        self
    }

    /// Sets the first and the longest wait before a restart.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.policy.backoff_min = Some(min.into());
        self.policy.backoff_max = Some(max.into());
        self
    }

    /// Sets how long a birth must live for the backoff to start over.
    pub fn healthy_after(mut self, healthy_after: Duration) -> Self {
        self.policy.healthy_after = Some(healthy_after.into());
        self
    }

    /// Sets the time to drain at a stop.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.policy.grace = Some(grace.into());
        self
    }

    /// Sets how many asks in flight, and likewise queued tells, its Front admits.
    pub fn mailbox_bound(mut self, bound: u32) -> Self {
        self.policy.mailbox_bound = Some(bound);
        self
    }

    /// Sets the deadline of asks that name none.
    pub fn ask_deadline(mut self, deadline: Duration) -> Self {
        self.policy.ask_deadline = Some(deadline.into());
        self
    }
}

/// In which order a supervisor stops its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StopOrder {
    /// The last started first, each only when the one before has ended: later children may use earlier ones.
    #[default]
    LastFirst,
    /// All at once: children that do not need each other.
    Together,
}

/// What the code says about a supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    /// Unique among supervisors, by convention.
    pub name: String,
    /// Restarts within a period; settings by name go over it.
    pub intensity: Option<Intensity>,
    /// Where its children run; its parent's arbiter if none is given.
    pub arbiter: Option<ArbiterHandle>,
    /// How it stops its children.
    pub stop_order: StopOrder,
    /// Its own backoff, for when its parent restarts it.
    pub policy: PolicyPatch,
}

impl SupervisorSpec {
    /// A supervisor with default patience, on its parent's arbiter.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            intensity: None,
            arbiter: None,
            stop_order: StopOrder::default(),
            policy: PolicyPatch::default(),
        }
    }

    /// Grants so many restarts within such a period.
    pub fn intensity(mut self, restarts: u32, within: Duration) -> Self {
        self.intensity = Some(Intensity { restarts, within: within.into() });
        self
    }

    /// Runs the children on this arbiter.
    pub fn arbiter(mut self, arbiter: ArbiterHandle) -> Self {
        self.arbiter = Some(arbiter);
        self
    }

    /// Stops the children in this order.
    pub fn stop_order(mut self, order: StopOrder) -> Self {
        self.stop_order = order;
        self
    }
}

/// What a stop did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StopReport {
    /// Actors that ended in order.
    pub stopped: usize,
    /// Actors that did not within their grace.
    pub cut_off: Vec<CutOff>,
}

/// What becomes of a child that ended and whose restart type asks for another birth.
pub(crate) enum Verdict {
    /// Born again after its backoff.
    Again,
    /// The supervisor failed; an order says what now.
    AsOrdered,
    /// Not born again: the supervisor is stopping.
    End,
}

#[derive(Clone)]
enum Member {
    Actor(Arc<dyn Entry>),
    Supervisor(Supervisor),
}

struct Book {
    phase: State,
    /// End of its backoff, and the same in microseconds UTC.
    until: Option<(Instant, i64)>,
    births: u64,
    streak: u32,
    last_failed: Option<Instant>,
    restarts: VecDeque<(Instant, u64)>,
    members: BTreeMap<u64, Member>,
    exits: VecDeque<Exit>,
}

pub(crate) struct Inner {
    id: u64,
    name: Arc<str>,
    spec: SupervisorSpec,
    parent: Option<Supervisor>,
    arbiter: ArbiterHandle,
    world: Arc<World>,
    book: Mutex<Book>,
}

/// Holds factories and keeps their actors alive. Cheap to clone, `Send + Sync`.
#[derive(Clone)]
pub struct Supervisor(pub(crate) Arc<Inner>);

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("name", &self.0.name).finish()
    }
}

/// A supervisor's own line in the report, with what its children's lines need from it.
pub(crate) struct SupervisorView {
    pub(crate) phase: State,
    pub(crate) until: Option<i64>,
    pub(crate) births: u64,
    pub(crate) exits: Vec<Exit>,
    pub(crate) intensity: Intensity,
    pub(crate) restarts: Vec<u64>,
    pub(crate) actors: Vec<Arc<dyn Entry>>,
    pub(crate) supervisors: Vec<Supervisor>,
}

impl Supervisor {
    pub(crate) fn new(
        spec: SupervisorSpec,
        parent: Option<Supervisor>,
        arbiter: ArbiterHandle,
        world: Arc<World>,
    ) -> Self {
        let book = Book {
            phase: State::Running,
            until: None,
            births: 1,
            streak: 0,
            last_failed: None,
            restarts: VecDeque::new(),
            members: BTreeMap::new(),
            exits: VecDeque::new(),
        };
        let (id, name) = (world.next_id(), Arc::from(spec.name.as_str()));
        Self(Arc::new(Inner { id, name, spec, parent, arbiter, world, book: Mutex::new(book) }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The runtime that it belongs to.
    pub fn runtime(&self) -> Runtime {
        let mut root = self;
        while let Some(parent) = &root.0.parent {
            root = parent;
        }
        Runtime::of(Arc::clone(&self.0.world), root.clone())
    }

    /// The arbiter that its children run on.
    pub fn arbiter(&self) -> ArbiterHandle {
        self.0.arbiter.clone()
    }

    /// Gives this supervisor another one as a child.
    pub fn supervisor(&self, spec: SupervisorSpec) -> Supervisor {
        let arbiter = spec.arbiter.clone().unwrap_or_else(|| self.0.arbiter.clone());
        let child = Supervisor::new(spec, Some(self.clone()), arbiter, Arc::clone(&self.0.world));
        let mut book = lock(&self.0.book);
        if book.phase == State::Running {
            book.members.insert(child.0.id, Member::Supervisor(child.clone()));
        } else {
            lock(&child.0.book).phase = State::Stopped;
        }
        child
    }

    /// Starts a child, from any thread. The factory runs on the supervisor's arbiter, once for each birth; letters
    /// sent before the first birth wait for it. Under a stopped supervisor the Front is stopped from the start.
    pub fn spawn<A, F>(&self, spec: ChildSpec, factory: F) -> Front<A>
    where
        A: Supervised,
        F: Fn(&Birth<A>) -> A + Send + 'static,
    {
        let world = &self.0.world;
        let (id, wanted) = (world.next_id(), Arc::from(spec.name.as_str()));
        let shared = world.register(id, &wanted, |name| {
            let policy = world.policies().resolve(A::KIND, &name, &spec.policy);
            let parent = Arc::clone(&self.0.name);
            let vital = Vital::new(id, name, A::KIND, parent, spec.policy, &policy);
            Arc::new(Shared::<A> { vital: Arc::new(vital), mailbox: Mailbox::new() })
        });
        let open = {
            let mut book = lock(&self.0.book);
            let open = book.phase == State::Running;
            if open {
                book.members.insert(id, Member::Actor(Arc::clone(&shared) as Arc<dyn Entry>));
            }
            open
        };
        let front = Front(Arc::clone(&shared));
        let state = if open { State::Failed } else { State::Stopped };
        let books = Books { shared, supervisor: self.clone(), state };
        if open {
            // if the arbiter is gone, or goes before it comes to this, the books are closed as they are dropped
            self.0.arbiter.spawn_fn(move || {
                actix_rt::spawn(child::run(books, factory));
            });
        }
        front
    }

    /// Stops all children in two phases: each takes no more letters, drains within its grace, and is cut off if that
    /// was not enough. `within` bounds the whole stop. The supervisor takes no children afterwards.
    pub fn stop(&self, within: Option<Duration>) -> Pin<Box<dyn Future<Output = StopReport> + Send + '_>> {
        Box::pin(self.stop_by(within.map(later)))
    }

    async fn stop_by(&self, deadline: Option<Instant>) -> StopReport {
        let members: Vec<Member> = {
            let mut book = lock(&self.0.book);
            book.phase = State::Stopping;
            book.members.values().rev().cloned().collect()
        };
        if self.0.spec.stop_order == StopOrder::Together {
            members.iter().for_each(|member| self.ask_to_stop(member, deadline));
        }
        let mut report = StopReport::default();
        for member in &members {
            match member {
                Member::Actor(entry) => {
                    if self.0.spec.stop_order == StopOrder::LastFirst {
                        self.ask_to_stop(member, deadline);
                    }
                    self.await_end(entry.as_ref(), deadline, &mut report).await;
                }
                Member::Supervisor(child) => {
                    let part = Box::pin(child.stop_by(deadline)).await;
                    report.stopped += part.stopped;
                    report.cut_off.extend(part.cut_off);
                }
            }
        }
        {
            let mut book = lock(&self.0.book);
            book.phase = State::Stopped;
            book.members.clear();
        }
        if let Some(parent) = &self.0.parent {
            lock(&parent.0.book).members.remove(&self.0.id);
        }
        report
    }

    fn stop_deadline(&self, entry: &dyn Entry, deadline: Option<Instant>) -> Instant {
        let own = later(self.policy_of(entry.vital()).grace.duration());
        deadline.map_or(own, |deadline| own.min(deadline))
    }

    fn ask_to_stop(&self, member: &Member, deadline: Option<Instant>) {
        if let Member::Actor(entry) = member {
            entry.vital().command(Order::Stop(self.stop_deadline(entry.as_ref(), deadline)));
        }
    }

    async fn await_end(&self, entry: &dyn Entry, deadline: Option<Instant>, report: &mut StopReport) {
        let vital = entry.vital();
        let patience = self.stop_deadline(entry, deadline) + CUT_OFF_SLACK;
        let ended = timeout_at(patience, vital.wait_for(State::is_final)).await.is_ok();
        let cut_off = lock(&vital.life).cut_off.clone();
        match cut_off {
            Some(cut_off) => report.cut_off.push(cut_off),
            None if ended => report.stopped += 1,
            None => {
                // its arbiter is held: it ends as soon as that is free again
                vital.command(Order::Halt);
                let (queued, in_flight) = (entry.depth(), vital.asks());
                report.cut_off.push(CutOff { name: vital.name.to_string(), queued, in_flight });
            }
        }
    }

    /// What a child's task asks when its restart type wants another birth.
    pub(crate) fn child_ended(&self, vital: &Vital, ending: &Ending) -> Verdict {
        if vital.has_order() {
            return Verdict::AsOrdered;
        }
        match self.count_restart(vital.id) {
            Counted::Granted => Verdict::Again,
            Counted::Stopping => Verdict::End,
            Counted::TooMany => {
                self.failed(&format!("{} {ending}", vital.name));
                Verdict::AsOrdered
            }
        }
    }

    fn count_restart(&self, id: u64) -> Counted {
        let intensity = self.intensity();
        let mut book = lock(&self.0.book);
        if book.phase != State::Running {
            return Counted::Stopping;
        }
        let now = Instant::now();
        book.restarts.push_back((now, id));
        forget_old(&mut book.restarts, now, intensity);
        if book.restarts.len() > usize::try_from(intensity.restarts).unwrap_or(usize::MAX) {
            Counted::TooMany
        } else {
            Counted::Granted
        }
    }

    /// More restarts than granted: this supervisor fails to its parent, the root to the world.
    fn failed(&self, cause: &str) {
        let intensity = self.intensity();
        let words = format!(
            "supervisor {}: over {} restarts within {}, the last after {cause}",
            self.name(),
            intensity.restarts,
            intensity.within
        );
        tracing::error!(supervisor.name = %self.name(), %cause, "too many restarts");
        let exit = Exit {
            name: self.name().to_owned(),
            kind: "failed",
            message: words.clone(),
            at: self.now_micros(),
            birth: lock(&self.0.book).births,
        };
        let Some(parent) = &self.0.parent else {
            remember(&mut lock(&self.0.book).exits, exit);
            self.give_up();
            self.0.world.escalate(Escalation { cause: words });
            return;
        };
        parent.record(exit);
        match parent.count_restart(self.0.id) {
            Counted::Granted => self.begin_anew(),
            Counted::Stopping => self.give_up(),
            Counted::TooMany => parent.failed(&words),
        }
    }

    /// All children are born anew, after this supervisor's own backoff.
    fn begin_anew(&self) {
        let policy = self.0.world.policies().resolve(SUPERVISOR_KIND, self.name(), &self.0.spec.policy);
        let streak = {
            let mut book = lock(&self.0.book);
            let healthy = book.last_failed.is_none_or(|at| at.elapsed() >= policy.healthy_after.duration());
            book.streak = if healthy { 0 } else { book.streak.saturating_add(1) };
            book.last_failed = Some(Instant::now());
            book.streak
        };
        let delay = self.backoff(&policy, streak);
        let at = Instant::now() + delay;
        let micros = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
        lock(&self.0.book).until = Some((at, self.now_micros().saturating_add(micros)));
        self.order_reborn(at);
    }

    fn order_reborn(&self, at: Instant) {
        let members: Vec<Member> = {
            let mut book = lock(&self.0.book);
            book.births += 1;
            book.restarts.clear();
            book.members.values().cloned().collect()
        };
        for member in members {
            match member {
                Member::Actor(entry) => entry.vital().command(Order::Reborn(at)),
                Member::Supervisor(child) => child.order_reborn(at),
            }
        }
    }

    /// Ends everything below, for good.
    pub(crate) fn give_up(&self) {
        let members: Vec<Member> = {
            let mut book = lock(&self.0.book);
            book.phase = State::Failed;
            book.members.values().cloned().collect()
        };
        for member in members {
            match member {
                Member::Actor(entry) => entry.vital().command(Order::Halt),
                Member::Supervisor(child) => child.give_up(),
            }
        }
    }

    /// The wait before the next birth: doubles with each restart in a row, and is spread over its upper half.
    pub(crate) fn backoff(&self, policy: &Policy, streak: u32) -> Duration {
        let (min, max) = (policy.backoff_min.as_millis(), policy.backoff_max.as_millis());
        let full = min.saturating_mul(1_u64.checked_shl(streak.min(40)).unwrap_or(u64::MAX)).min(max);
        let full = Span::from_millis(full).duration();
        full.mul_f64(0.5 + 0.5 * self.0.world.dice.fraction())
    }

    pub(crate) fn policy_of(&self, vital: &Vital) -> Policy {
        self.0.world.policies().resolve(vital.kind, &vital.name, &vital.code)
    }

    pub(crate) fn intensity(&self) -> Intensity {
        self.0.world.policies().intensity(self.name(), self.0.spec.intensity)
    }

    pub(crate) fn now_micros(&self) -> i64 {
        self.0.world.clock.now_micros()
    }

    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        self.0.world.pulse()
    }

    pub(crate) fn record(&self, exit: Exit) {
        self.0.world.record(&exit);
        remember(&mut lock(&self.0.book).exits, exit);
    }

    /// A child ended for good.
    pub(crate) fn forget(&self, vital: &Vital) {
        lock(&self.0.book).members.remove(&vital.id);
        self.0.world.forget(vital);
    }

    pub(crate) fn view(&self) -> SupervisorView {
        let intensity = self.intensity();
        let mut book = lock(&self.0.book);
        forget_old(&mut book.restarts, Instant::now(), intensity);
        let (mut actors, mut supervisors) = (Vec::new(), Vec::new());
        for member in book.members.values() {
            match member {
                Member::Actor(entry) => actors.push(Arc::clone(entry)),
                Member::Supervisor(child) => supervisors.push(child.clone()),
            }
        }
        let until = book.until.filter(|(at, _)| *at > Instant::now()).map(|(_, micros)| micros);
        let waiting = until.is_some() && book.phase == State::Running;
        SupervisorView {
            phase: if waiting { State::BackingOff } else { book.phase },
            until,
            births: book.births,
            exits: book.exits.iter().cloned().collect(),
            intensity,
            restarts: book.restarts.iter().map(|(_, id)| *id).collect(),
            actors,
            supervisors,
        }
    }

    pub(crate) fn parent_name(&self) -> Option<&str> {
        self.0.parent.as_ref().map(Supervisor::name)
    }
}

enum Counted {
    Granted,
    TooMany,
    Stopping,
}

fn forget_old(restarts: &mut VecDeque<(Instant, u64)>, now: Instant, intensity: Intensity) {
    let within = intensity.within.duration();
    while restarts.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > within) {
        restarts.pop_front();
    }
}
