//! The world of a tree of actors: clock, randomness, policies, registry, and the end of it all.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle};
use greenroom_model::restart::{Intensity, Policies};
use tokio::sync::Notify;

use crate::clock::{Clock, Dice, SystemClock};
use crate::ending::Exit;
use crate::lock;
use crate::mailbox::{Trouble, Urgent};
use crate::registry::{self, ActorReport, Entry};
use crate::supervisor::{Supervisor, SupervisorSpec};
use crate::vital::{Order, Vital};
use crate::watchdog::{self, Pulse};

/// Ids are unique in the process, so that a pulse names one child in whatever world it lives.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The root supervisor failed: the process should say these last words and exit non-zero.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Escalation {
    /// Who failed, and after what.
    pub cause: String,
    /// The same from the actor that ended up to the root, a line each: who, its last error, how often within which period.
    pub chain: Vec<String>,
}

pub(crate) struct World {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dice: Dice,
    policies: RwLock<Arc<Policies>>,
    by_name: Mutex<HashMap<Arc<str>, Arc<dyn Entry>>>,
    escalation: Mutex<Option<Escalation>>,
    escalated: Notify,
    pulses: Mutex<Vec<Arc<Pulse>>>,
    /// Every panic, for a test world; others do not collect them.
    panics: Option<Mutex<Vec<Exit>>>,
    /// Dropped with the world, which ends the watchdog.
    _watched: Sender<()>,
}

impl World {
    pub(crate) fn next_id(&self) -> u64 {
        NEXT_ID.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Enters a child under the wanted name, or that name with a number if it is in use.
    pub(crate) fn register<E: Entry + 'static>(
        &self,
        id: u64,
        wanted: &Arc<str>,
        make: impl FnOnce(Arc<str>) -> Arc<E>,
    ) -> Arc<E> {
        let mut by_name = lock(&self.by_name);
        let name = if by_name.contains_key(wanted) {
            tracing::warn!(actor.name = %wanted, "the name of a new actor is in use; it gets a number");
            Arc::from(format!("{wanted}#{id}"))
        } else {
            Arc::clone(wanted)
        };
        let entry = make(Arc::clone(&name));
        by_name.insert(name, Arc::clone(&entry) as Arc<dyn Entry>);
        entry
    }

    pub(crate) fn forget(&self, vital: &Vital) {
        let mut by_name = lock(&self.by_name);
        if by_name.get(&vital.name).is_some_and(|entry| entry.vital().id == vital.id) {
            by_name.remove(&vital.name);
        }
    }

    fn find(&self, name: &str) -> Option<Arc<dyn Entry>> {
        lock(&self.by_name).get(name).cloned()
    }

    fn entries(&self) -> Vec<Arc<dyn Entry>> {
        lock(&self.by_name).values().cloned().collect()
    }

    pub(crate) fn record(&self, exit: &Exit) {
        if let (Some(panics), "panicked") = (&self.panics, exit.kind) {
            lock(panics).push(exit.clone());
        }
    }

    /// Panics since the last call; always empty outside a test world.
    pub(crate) fn take_panics(&self) -> Vec<Exit> {
        self.panics.as_ref().map(|panics| std::mem::take(&mut *lock(panics))).unwrap_or_default()
    }

    pub(crate) fn escalate(&self, escalation: Escalation) {
        tracing::error!(cause = %escalation.cause, "the root supervisor failed");
        lock(&self.escalation).get_or_insert(escalation);
        self.escalated.notify_waiters();
    }

    pub(crate) fn escalation(&self) -> Option<Escalation> {
        lock(&self.escalation).clone()
    }

    /// This thread's pulse, watched from now on.
    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        let current = Pulse::current();
        let mut pulses = lock(&self.pulses);
        if !pulses.iter().any(|known| Arc::ptr_eq(known, &current)) {
            pulses.push(Arc::clone(&current));
        }
        current
    }

    pub(crate) fn pulses(&self) -> Vec<Arc<Pulse>> {
        lock(&self.pulses).clone()
    }

    pub(crate) fn report_stall(&self, child: u64, held: Duration) {
        let entry = self.entries().into_iter().find(|entry| entry.vital().id == child);
        if let Some(entry) = entry {
            let vital = entry.vital();
            vital.stalls.fetch_add(1, Ordering::Relaxed);
            let held_ms = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(actor.name = %vital.name, actor.kind = vital.kind, held_ms, "an actor holds its arbiter");
        }
    }

    /// Says of an actor that holds its arbiter for longer than its policy lets it hang that nobody can end it.
    pub(crate) fn report_block(&self, child: u64, held: Duration) -> bool {
        let entry = self.entries().into_iter().find(|entry| entry.vital().id == child);
        let Some(entry) = entry.filter(|it| held >= it.vital().hang_after()) else { return false };
        let vital = entry.vital();
        let held_s = held.as_secs();
        tracing::error!(actor.name = %vital.name, actor.kind = vital.kind, held_s,
            "an actor blocks its thread and cannot be ended from outside; others on that thread wait, too");
        true
    }

    /// For how long an actor has held its thread without a pause, if it does right now.
    pub(crate) fn held_for(&self, child: u64) -> Option<Duration> {
        self.pulses().iter().find_map(|pulse| pulse.held_by(child))
    }
}

/// The tree and its world. Cheap to clone, `Send + Sync`.
#[derive(Clone)]
pub struct Runtime {
    world: Arc<World>,
    root: Supervisor,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("root", &self.root).finish()
    }
}

impl Runtime {
    /// Begins a runtime; see [`Builder`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn of(world: Arc<World>, root: Supervisor) -> Self {
        Self { world, root }
    }

    pub(crate) fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The root supervisor.
    pub fn root(&self) -> Supervisor {
        self.root.clone()
    }

    /// Microseconds UTC by the injected clock.
    pub fn now_micros(&self) -> i64 {
        self.world.clock.now_micros()
    }

    /// The injected clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.world.clock)
    }

    /// The injected randomness.
    pub fn dice(&self) -> &Dice {
        &self.world.dice
    }

    /// The policies in force.
    pub fn policies(&self) -> Arc<Policies> {
        self.world.policies()
    }

    /// Changes the policies while everything runs: admission, deadlines and the patience with hung actors at once, the rest at
    /// the next end of each actor. Nobody is restarted for it.
    pub fn set_policies(&self, policies: Policies) {
        let policies = Arc::new(policies);
        *self.world.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&policies);
        for entry in self.world.entries() {
            let vital = entry.vital();
            vital.adopt(&policies.resolve(vital.kind, &vital.name, &vital.code));
            // one that gives no sign of life may have less patience now
            vital.wake();
        }
    }

    /// The live tree, parents before children. Waits at most 50 ms for actors to say what they observe.
    pub async fn reports(&self) -> Vec<ActorReport> {
        registry::refresh(&self.root).await;
        self.snapshot()
    }

    /// The live tree with what was observed last, at once.
    pub fn snapshot(&self) -> Vec<ActorReport> {
        registry::snapshot(&self.root)
    }

    /// The names of all live actors, sorted.
    pub fn live(&self) -> Vec<String> {
        let mut names: Vec<_> = lock(&self.world.by_name).keys().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    /// Ends an actor's birth as [`crate::Ending::Killed`], for rehearsal. False if there is no such actor.
    pub fn kill(&self, name: &str) -> bool {
        self.command(name, Order::Kill)
    }

    /// Gives an actor a new birth at once, uncounted. False if there is no such actor.
    pub fn restart(&self, name: &str) -> bool {
        self.command(name, Order::Restart)
    }

    /// Makes an actor panic in its own context, for rehearsal and tests. False if nobody lives there now.
    pub fn inject_panic(&self, name: &str) -> bool {
        self.inject(name, Trouble::Panic("injected panic".to_owned()))
    }

    /// Makes an actor fail, as [`crate::fail`] does, for rehearsal and tests. False if nobody lives there now.
    pub fn inject_failure(&self, name: &str) -> bool {
        self.inject(name, Trouble::Fail("injected failure".to_owned()))
    }

    /// Gives an actor a handler that never ends, for rehearsal and tests. False if nobody lives there now.
    pub fn inject_hang(&self, name: &str) -> bool {
        self.inject(name, Trouble::Hang)
    }

    /// Lets an actor hold its arbiter's thread for a time, for rehearsal and tests. False if nobody lives there now.
    pub fn inject_block(&self, name: &str, time: Duration) -> bool {
        self.inject(name, Trouble::Block(time))
    }

    fn inject(&self, name: &str, trouble: Trouble) -> bool {
        self.world.find(name).is_some_and(|entry| entry.urgent(Urgent::Rehearse(trouble)))
    }

    fn command(&self, name: &str, order: Order) -> bool {
        let entry = self.world.find(name);
        if let Some(entry) = &entry {
            entry.vital().command(order);
        }
        entry.is_some()
    }

    /// Resolves when the root supervisor has failed.
    pub async fn escalation(&self) -> Escalation {
        loop {
            let escalated = self.world.escalated.notified();
            tokio::pin!(escalated);
            escalated.as_mut().enable();
            if let Some(escalation) = self.world.escalation() {
                return escalation;
            }
            escalated.await;
        }
    }
}

/// Makes a [`Runtime`].
#[derive(Default)]
pub struct Builder {
    clock: Option<Arc<dyn Clock>>,
    dice: Option<Dice>,
    policies: Policies,
    arbiter: Option<ArbiterHandle>,
    intensity: Option<Intensity>,
    group: bool,
    collect_panics: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("policies", &self.policies).finish_non_exhaustive()
    }
}

impl Builder {
    /// Wall-clock time; the machine's if not given.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Randomness; the operating system's if not given.
    pub fn dice(mut self, dice: Dice) -> Self {
        self.dice = Some(dice);
        self
    }

    /// Policies; the built-in ones if not given.
    pub fn policies(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self
    }

    /// Where the root's children run; the current arbiter if not given.
    pub fn arbiter(mut self, arbiter: ArbiterHandle) -> Self {
        self.arbiter = Some(arbiter);
        self
    }

    /// The root supervisor's intensity.
    pub fn intensity(mut self, restarts: u32, within: Duration) -> Self {
        self.intensity = Some(Intensity { restarts, within: within.into() });
        self
    }

    /// Declares that the root's children are a group: settings may choose its strategy.
    pub fn group(mut self) -> Self {
        self.group = true;
        self
    }

    pub(crate) fn collect_panics(mut self) -> Self {
        self.collect_panics = true;
        self
    }

    /// Starts the runtime: nothing but the watchdog's thread runs yet.
    ///
    /// # Panics
    /// Outside an actix `System`, if no arbiter was given.
    pub fn build(self) -> Runtime {
        let arbiter = self.arbiter.unwrap_or_else(Arbiter::current);
        let (watched, gone) = channel();
        let world = Arc::new(World {
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock)),
            dice: self.dice.unwrap_or_else(Dice::from_os),
            policies: RwLock::new(Arc::new(self.policies)),
            by_name: Mutex::default(),
            escalation: Mutex::default(),
            escalated: Notify::new(),
            pulses: Mutex::default(),
            panics: self.collect_panics.then(Mutex::default),
            _watched: watched,
        });
        let weak = Arc::downgrade(&world);
        let watchdog = std::thread::Builder::new().name("watchdog".to_owned());
        if let Err(error) = watchdog.spawn(move || watchdog::watch(&weak, &gone)) {
            tracing::warn!(%error, "no thread for the watchdog; stalls go unreported");
        }
        let mut spec = SupervisorSpec::new("root");
        spec.intensity = self.intensity;
        spec.group = self.group;
        let root = Supervisor::new(spec, None, arbiter, Arc::clone(&world));
        Runtime { world, root }
    }
}
