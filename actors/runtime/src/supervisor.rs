//! Supervisors: who belongs to whom, how many restarts are too many, and how a tree stops.
//!
//! A supervisor is passive: its children's tasks ask it what to do when they end. One-for-one, the end of a child
//! concerns that child alone; a supervisor that declares a group may be set to restart others along with it (`group.rs`).
//! When the restarts within a period are more than the intensity, the supervisor itself has failed: its parent counts that
//! as one restart of its own and has all children born anew, or fails in turn; at the root the failure becomes the
//! [`crate::Escalation`], on which the process exits.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_rt::ArbiterHandle;
use greenroom_model::restart::{
    Intensity, Policies, Policy, PolicyPatch, Restart, SUPERVISOR_KIND, Span, Strategy,
};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::Supervised;
use crate::child::{self, Birth, Books};
use crate::ending::{Ending, Exit};
use crate::front::{Front, Shared, later};
use crate::group::Round;
use crate::lock;
use crate::mailbox::Mailbox;
use crate::registry::Entry;
use crate::runtime::{Escalation, Runtime, World};
use crate::vital::{CutOff, Order, State, Vital, exceeds, forget_before, remember};
use crate::watchdog::Pulse;

/// Past its grace a child is cut off by its own task; this long it may take to notice, if its arbiter is held.
pub(crate) const CUT_OFF_SLACK: Duration = Duration::from_millis(500);

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
    /// Whether its children are a group, of which later ones rest on earlier ones: then settings may choose a strategy.
    pub group: bool,
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
            group: false,
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

impl SupervisorSpec {
    /// Declares that the children are a group: settings may have others restarted along with one that ended.
    pub fn group(mut self) -> Self {
        self.group = true;
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
pub(crate) enum Member {
    Actor(Arc<dyn Entry>),
    Supervisor(Supervisor),
}

impl Member {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Actor(entry) => &entry.vital().name,
            Self::Supervisor(child) => child.name(),
        }
    }
}

pub(crate) struct Book {
    pub(crate) phase: State,
    /// End of its backoff, and the same in microseconds UTC.
    pub(crate) until: Option<(Instant, i64)>,
    pub(crate) births: u64,
    /// When it began, or began anew.
    pub(crate) begun: Instant,
    streak: u32,
    last_failed: Option<Instant>,
    pub(crate) restarts: VecDeque<(Instant, u64)>,
    pub(crate) members: BTreeMap<u64, Member>,
    exits: VecDeque<Exit>,
    /// What waits to be restarted; whether a task sees to it; and a number that changes when its plan no longer holds.
    pub(crate) round: Option<Round>,
    pub(crate) in_round: bool,
    pub(crate) epoch: u64,
    /// Its parent has stopped its children and will start them again.
    pub(crate) parked: bool,
}

pub(crate) struct Inner {
    id: u64,
    name: Arc<str>,
    pub(crate) spec: SupervisorSpec,
    parent: Option<Supervisor>,
    pub(crate) arbiter: ArbiterHandle,
    world: Arc<World>,
    pub(crate) book: Mutex<Book>,
    /// The epoch of the book.
    pub(crate) changed: Notify,
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
    /// None if it has no group.
    pub(crate) strategy: Option<Strategy>,
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
            begun: Instant::now(),
            streak: 0,
            last_failed: None,
            restarts: VecDeque::new(),
            members: BTreeMap::new(),
            exits: VecDeque::new(),
            round: None,
            in_round: false,
            epoch: 0,
            parked: false,
        };
        let (id, name) = (world.next_id(), Arc::from(spec.name.as_str()));
        let (book, changed) = (Mutex::new(book), Notify::new());
        Self(Arc::new(Inner { id, name, spec, parent, arbiter, world, book, changed }))
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
            self.end_rounds(&mut book);
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

    /// What a child's task asks when its restart type wants another birth, after this backoff.
    pub(crate) fn child_ended(&self, vital: &Vital, ending: &Ending, delay: Duration) -> Verdict {
        if vital.has_order() {
            return Verdict::AsOrdered;
        }
        let cause = Cause::of_actor(vital, ending);
        match self.count_restart(vital.id, Some(vital)) {
            Counted::Granted if self.strategy() == Strategy::OneForOne => Verdict::Again,
            Counted::Granted => {
                self.begin_round(vital.id, Instant::now() + delay, &cause.last);
                Verdict::AsOrdered
            }
            Counted::Stopping => Verdict::End,
            Counted::TooMany(excess) => {
                self.failed(cause, excess);
                Verdict::AsOrdered
            }
        }
    }

    /// Counts a restart of a member: among those of all members, unless settings give the actor an intensity of its own.
    fn count_restart(&self, id: u64, actor: Option<&Vital>) -> Counted {
        let intensity = self.intensity();
        let own = actor.and_then(|it| Some((it, self.0.world.policies().own_intensity(it.kind, &it.name)?)));
        let mut book = lock(&self.0.book);
        if book.phase != State::Running {
            return Counted::Stopping;
        }
        if let Some((actor, intensity)) = own {
            let restarts = actor.count_restart(intensity);
            return match exceeds(restarts, intensity) {
                true => Counted::TooMany(Excess { intensity, of_member: restarts, own: true }),
                false => Counted::Granted,
            };
        }
        let now = Instant::now();
        book.restarts.push_back((now, id));
        forget_before(&mut book.restarts, now, intensity.within.duration(), |(at, _)| *at);
        if !exceeds(book.restarts.len(), intensity) {
            return Counted::Granted;
        }
        let of_member = book.restarts.iter().filter(|(_, of)| *of == id).count();
        Counted::TooMany(Excess { intensity, of_member, own: false })
    }

    /// More restarts than granted: this supervisor fails to its parent, the root to the world.
    fn failed(&self, mut cause: Cause, excess: Excess) {
        cause.climb(self.name(), &excess);
        tracing::error!(supervisor.name = %self.name(), cause = %cause.last, "too many restarts");
        let (birth, lived) = {
            let book = lock(&self.0.book);
            (book.births, book.begun.elapsed())
        };
        let exit = Exit {
            name: self.name().to_owned(),
            kind: "failed",
            message: cause.last.clone(),
            at: self.now_micros(),
            birth,
            lived_ms: u64::try_from(lived.as_millis()).unwrap_or(u64::MAX),
            back_ms: None,
            served_ms: None,
        };
        let Some(parent) = &self.0.parent else {
            remember(&mut lock(&self.0.book).exits, exit);
            self.give_up();
            self.0.world.escalate(Escalation { cause: cause.last, chain: cause.chain });
            return;
        };
        parent.record(exit);
        match parent.count_restart(self.0.id, None) {
            Counted::Granted => self.begin_anew(&cause.last),
            Counted::Stopping => self.give_up(),
            Counted::TooMany(excess) => parent.failed(cause, excess),
        }
    }

    /// All children are born anew, after this supervisor's own backoff, and with them those that the parent's strategy names.
    fn begin_anew(&self, why: &str) {
        let Some(parent) = &self.0.parent else { return };
        let policy = self.policy();
        let streak = {
            let mut book = lock(&self.0.book);
            let healthy = book.last_failed.is_none_or(|at| at.elapsed() >= policy.healthy_after.duration());
            book.streak = if healthy { 0 } else { book.streak.saturating_add(1) };
            book.last_failed = Some(Instant::now());
            book.streak
        };
        let at = Instant::now() + self.backoff(&policy, streak);
        let micros = self.micros_at(at);
        lock(&self.0.book).until = Some((at, micros));
        parent.begin_round(self.0.id, at, why);
    }

    /// An instant as microseconds UTC.
    pub(crate) fn micros_at(&self, at: Instant) -> i64 {
        let left = at.saturating_duration_since(Instant::now());
        self.now_micros().saturating_add(i64::try_from(left.as_micros()).unwrap_or(i64::MAX))
    }

    /// Ends everything below, for good.
    pub(crate) fn give_up(&self) {
        let members: Vec<Member> = {
            let mut book = lock(&self.0.book);
            book.phase = State::Failed;
            self.end_rounds(&mut book);
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

    pub(crate) fn policies(&self) -> Arc<Policies> {
        self.0.world.policies()
    }

    pub(crate) fn held_for(&self, child: u64) -> Option<Duration> {
        self.0.world.held_for(child)
    }

    /// Where its own knobs come from.
    pub(crate) fn origins(&self) -> BTreeMap<&'static str, String> {
        let mut code = self.0.spec.policy;
        code.intensity = self.0.spec.intensity.map(|it| it.restarts);
        code.period = self.0.spec.intensity.map(|it| it.within);
        let mut origins = self.policies().origins(SUPERVISOR_KIND, self.name(), &code);
        origins.retain(|knob, _| match *knob {
            "strategy" => self.0.spec.group,
            "intensity" | "period" | "backoff" => true,
            _ => false,
        });
        origins
    }

    /// Its own policy, for when its parent restarts it.
    pub(crate) fn policy(&self) -> Policy {
        self.0.world.policies().resolve(SUPERVISOR_KIND, self.name(), &self.0.spec.policy)
    }

    /// Who is restarted along with a child that ended.
    pub(crate) fn strategy(&self) -> Strategy {
        match self.0.spec.group {
            true => self.0.world.policies().strategy(self.name()),
            false => Strategy::OneForOne,
        }
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
        let strategy = self.0.spec.group.then(|| self.strategy());
        let mut book = lock(&self.0.book);
        forget_before(&mut book.restarts, Instant::now(), intensity.within.duration(), |(at, _)| *at);
        let (mut actors, mut supervisors) = (Vec::new(), Vec::new());
        for member in book.members.values() {
            match member {
                Member::Actor(entry) => actors.push(Arc::clone(entry)),
                Member::Supervisor(child) => supervisors.push(child.clone()),
            }
        }
        let until = book.until.filter(|(at, _)| *at > Instant::now()).map(|(_, micros)| micros);
        let waiting = (until.is_some() || book.parked) && book.phase == State::Running;
        SupervisorView {
            phase: if waiting { State::BackingOff } else { book.phase },
            until,
            births: book.births,
            exits: book.exits.iter().cloned().collect(),
            intensity,
            strategy,
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
    TooMany(Excess),
    Stopping,
}

/// Which bound was broken.
struct Excess {
    intensity: Intensity,
    /// Restarts of the last member to fail, within the period.
    of_member: usize,
    /// The bound is the member's own.
    own: bool,
}

/// Why a supervisor fails: who ended first, and whom that took along.
struct Cause {
    /// Who was the last to fail.
    member: String,
    /// All in one.
    last: String,
    /// From the actor upwards.
    chain: Vec<String>,
}

impl Cause {
    fn of_actor(vital: &Vital, ending: &Ending) -> Self {
        let last = format!("{} {ending}", vital.name);
        let chain = vec![format!("actor {} (kind {}) {ending}", vital.name, vital.kind)];
        Self { member: vital.name.to_string(), last, chain }
    }

    /// The supervisor above fails as well.
    fn climb(&mut self, supervisor: &str, excess: &Excess) {
        let Excess { intensity, of_member, own } = excess;
        let whose = if *own { format!(" of {}", self.member) } else { String::new() };
        let (restarts, within) = (intensity.restarts, intensity.within);
        let over = format!("over {restarts} restarts{whose} within {within}");
        self.last = format!("supervisor {supervisor}: {over}, the last after {}", self.last);
        let share = format!("{} ended {of_member} times", self.member);
        self.chain.push(format!("supervisor {supervisor} failed: {over}; {share}"));
        self.member = supervisor.to_owned();
    }
}
