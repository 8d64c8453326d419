//! From events to rows of the outbox: follows builds, decides what is told, and stores that together with its clock.
//!
//! All that an event leads to is written in one transaction with the clock after it, so it is taken exactly once, whenever the
//! process dies. Nothing waits for this: a slow database delays messages, never builds.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use greenroom_config::{Mode, Per};
use greenroom_data::{DataError, Delivered, Delivery, Ended, Enqueued, ListenerState, Settled, Subscription};
use greenroom_model::write::ListenerRecord;
use greenroom_model::{
    Build, BuildRequest, Buildset, Clock, DeliveryState, EventName, Pattern, Query, Record, Refusal, Results,
    Timestamp, Worker,
};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Plan;
use super::decide::{asks_for_previous, detected, is_good, is_told, is_verdict, may_be_told};
use super::facts::{Facts, builder_passes, buildset_passes, passes};
use super::history::{History, deciding_step};
use super::missing::Missing;
use super::outbox::{Outbox, settled};
use super::pace::after;
use super::seed::{Failure, Seed};
use crate::notice::BuildEvent;

/// How often the clock is stored while nothing is told. A crash repeats the decisions since then, to the same effect.
const SAVE_EVERY: usize = 200;
/// The most events that lead to one write.
const BATCH: usize = 64;
/// How long to wait before trying again what the data layer could not do.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long to wait for another master to give the notifier up.
const CLAIM_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// The most builds that a message about a buildset names.
const BUILDS: usize = 50;
/// How many last results are remembered; past it they are read again.
const REMEMBERED: usize = 10_000;

/// The last build that said something of the code.
#[derive(Debug, Clone)]
struct Last {
    build: Arc<Build>,
    results: Results,
}

/// See the module.
pub struct Intake {
    plan: Arc<Plan>,
    state: ListenerState,
    outbox: Arc<Outbox>,
    wishes: Option<watch::Receiver<Vec<Mode>>>,
    /// By builder and branch.
    last: HashMap<(i64, String), Last>,
    missing: Missing,
    /// Whether this master runs the notifier; the sender waits for it.
    claimed: watch::Sender<bool>,
    reborn: bool,
}

/// What a batch of events leads to.
#[derive(Default)]
struct Outcome {
    new: Vec<(Enqueued, Seed)>,
    settled: Vec<Settled>,
    missing_changed: bool,
}

impl Intake {
    /// Takes in for a notifier. `reborn`: another life may have been about to send what waits.
    pub fn new(
        plan: Arc<Plan>,
        state: ListenerState,
        outbox: Arc<Outbox>,
        wishes: Option<watch::Receiver<Vec<Mode>>>,
        claimed: watch::Sender<bool>,
    ) -> Self {
        let missing = Missing::new(plan.notifier.options.worker_missing.map(|it| it.get()));
        Self { plan, state, outbox, wishes, last: HashMap::new(), missing, claimed, reborn: true }
    }

    /// Runs for ever.
    pub async fn run(mut self) -> Infallible {
        self.claim().await;
        loop {
            let Err(error) = self.follow().await;
            tracing::warn!(notifier.name = %self.plan.name, %error, "a notifier will try again");
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn claim(&mut self) {
        loop {
            let wait = match self.state.claim(self.plan.notifier.kind()).await {
                Ok(()) => break,
                Err(DataError::Refused(Refusal::Held(why))) => {
                    tracing::info!(notifier.name = %self.plan.name, %why, "a notifier runs elsewhere");
                    CLAIM_AGAIN_AFTER
                }
                Err(error) => {
                    tracing::warn!(notifier.name = %self.plan.name, %error, "a notifier cannot be claimed yet");
                    AGAIN_AFTER
                }
            };
            sleep(wait).await;
        }
    }

    async fn follow(&mut self) -> Result<Infallible, DataError> {
        let unreadable = self.outbox.load(&self.state.waiting().await?, self.reborn);
        self.reborn = false;
        if !unreadable.is_empty() {
            self.outbox.apply(Vec::new(), &unreadable, self.state.now());
            self.state.settle(unreadable).await?;
        }
        let record = self.state.load().await?;
        self.missing.load(&self.state.ro().hot(), &record.settings, self.state.now());
        let mut events = self.subscribe(record.clock.clone()).await?;
        if record.clock.is_none() {
            self.store(Outcome::default(), events.clock()).await?;
        }
        self.claimed.send_replace(true);
        let mut unsaved = 0;
        loop {
            let batch = self.batch(&mut events).await;
            let (taken, ended) = match batch {
                Ok((taken, ended)) => (taken, ended),
                Err(Elapsed) => (Vec::new(), None),
            };
            let mut outcome = Outcome::default();
            for event in &taken {
                self.take(event, &mut outcome).await?;
            }
            self.tell_missing(&mut outcome)?;
            unsaved += taken.len();
            if !outcome.is_empty() || unsaved >= SAVE_EVERY {
                self.store(outcome, events.clock()).await?;
                unsaved = 0;
            }
            match ended {
                None => {}
                Some(Ended::Lagging) => events = self.subscribe(Some(events.clock())).await?,
                Some(Ended::Gone) => events = self.subscribe(None).await?,
            }
        }
    }

    /// Since a clock; or from now, when that is gone: what happened in between is told nowhere, which is worth a word.
    async fn subscribe(&self, since: Option<Clock>) -> Result<Subscription, DataError> {
        let ro = self.state.ro();
        let anew = since.is_some();
        match ro.subscribe(self.patterns(), since).await {
            Err(DataError::Gone) if anew => {
                tracing::warn!(notifier.name = %self.plan.name, "events were pruned before this notifier saw them");
                ro.subscribe(self.patterns(), None).await
            }
            other => other,
        }
    }

    fn patterns(&self) -> Vec<Pattern> {
        let mut topics = vec!["builds/*/finished"];
        if self.wishes.is_some() || self.plan.modes.contains(&Mode::Started) {
            topics.push("builds/*/new");
        }
        if self.plan.notifier.options.per == Per::Buildset {
            topics.push("buildsets/*/complete");
        }
        if self.plan.notifier.options.worker_missing.is_some() {
            topics.extend(["workers/*/connected", "workers/*/disconnected"]);
        }
        topics.into_iter().map(Pattern::parse).collect()
    }

    /// The next events, as many as are there; or none, when a worker is to be told of first.
    async fn batch(&self, events: &mut Subscription) -> Result<(Vec<Delivered>, Option<Ended>), Elapsed> {
        let first = match self.missing.next_at().map(|at| super::pace::until(self.state.now(), at)) {
            Some(wait) => timeout(wait, events.next()).await.map_err(|_| Elapsed)?,
            None => events.next().await,
        };
        let mut taken = Vec::new();
        let mut next = Some(first);
        while let Some(delivery) = next {
            match delivery {
                Delivery::Event(event) => taken.push(event),
                Delivery::Ended(ended) => return Ok((taken, Some(ended))),
            }
            next = if taken.len() < BATCH { events.try_next() } else { None };
        }
        Ok((taken, None))
    }

    /// The modes that are told now.
    fn modes(&self) -> Vec<Mode> {
        let mut modes = self.plan.modes.clone();
        if let Some(wishes) = &self.wishes {
            modes.extend(wishes.borrow().iter().copied());
        }
        modes
    }

    async fn take(&mut self, event: &Delivered, outcome: &mut Outcome) -> Result<(), DataError> {
        let event = &event.frame.event;
        match (&event.what.record, event.what.name) {
            (Record::Build(build), EventName::Finished) => self.build_ended(build, outcome).await,
            (Record::Build(build), EventName::New) => self.build_began(build, outcome).await,
            (Record::Buildset(set), EventName::Complete) => self.buildset_ended(set, outcome).await,
            (Record::Worker(worker), _) => {
                outcome.missing_changed |= self.missing.changed(worker, event.at);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn build_began(&mut self, build: &Arc<Build>, outcome: &mut Outcome) -> Result<(), DataError> {
        if !self.modes().contains(&Mode::Started) || !self.cares_for(build) {
            return Ok(());
        }
        let Some(facts) = Facts::read(self.state.ro(), build).await? else { return Ok(()) };
        if passes(self.state.ro(), &self.plan.notifier, &facts).await? {
            let seed = Seed::Build {
                build: build.id,
                event: BuildEvent::Started,
                modes: vec![Mode::Started],
                failure: None,
            };
            self.enqueue(seed, format!("build-{}-started", build.id), &facts, None, outcome)?;
        }
        Ok(())
    }

    fn cares_for(&self, build: &Build) -> bool {
        let hot = self.state.ro().hot();
        hot.builders.get(&build.builder.0).is_some_and(|it| builder_passes(&self.plan.notifier, it))
    }

    async fn build_ended(&mut self, build: &Arc<Build>, outcome: &mut Outcome) -> Result<(), DataError> {
        let Some(results) = build.results else { return Ok(()) };
        if !self.cares_for(build) || matches!(results, Results::Retry | Results::Skipped) {
            return Ok(());
        }
        let modes = self.modes();
        let tells = self.plan.notifier.options.per == Per::Build && may_be_told(&modes, results);
        // A build that is not told of may still end a failure, or be the one before the next.
        if !tells && !is_verdict(results) {
            return Ok(());
        }
        let Some(facts) = Facts::read(self.state.ro(), build).await? else { return Ok(()) };
        if !passes(self.state.ro(), &self.plan.notifier, &facts).await? {
            return Ok(());
        }
        let unheard = if is_good(results) { self.end_failures(&facts, outcome) } else { None };
        if tells {
            self.tell_end(&facts, results, &modes, unheard, outcome).await?;
        }
        self.remember(&facts, results);
        Ok(())
    }

    async fn tell_end(
        &mut self,
        facts: &Facts,
        results: Results,
        modes: &[Mode],
        unheard: Option<i64>,
        outcome: &mut Outcome,
    ) -> Result<(), DataError> {
        let failed = results == Results::Failure;
        let may_repeat = failed && !self.plan.notifier.repeats() && !modes.contains(&Mode::All);
        let previous = match asks_for_previous(modes) || may_repeat {
            true => self.previous(facts).await?,
            false => None,
        };
        let detected = detected(results, previous.as_ref().map(|it| it.results));
        if !is_told(modes, &detected) {
            return Ok(());
        }
        let silenced = match previous {
            Some(previous) if may_repeat && previous.results == Results::Failure => {
                self.repetition(facts, &previous.build).await?
            }
            Some(_) if only_a_change(modes, &detected) => self.repair(facts, unheard).await?,
            _ => None,
        };
        let seed = Seed::Build {
            build: facts.build.id,
            event: BuildEvent::Finished,
            modes: detected,
            failure: (!is_good(results)).then(|| failure(facts)),
        };
        self.enqueue(seed, format!("build-{}-finished", facts.build.id), facts, silenced, outcome)
    }

    /// Why a failure is none that people do not know of yet: it is like the one before.
    async fn repetition(&self, facts: &Facts, previous: &Arc<Build>) -> Result<Option<String>, DataError> {
        let ro = self.state.ro();
        let now = deciding_step(ro, &facts.build).await?.map(|it| it.name.clone());
        let before = deciding_step(ro, previous).await?.map(|it| it.name.clone());
        if now != before {
            return Ok(None);
        }
        let step = now.map(|it| format!(" in the step {it}")).unwrap_or_default();
        Ok(Some(format!("it fails{step} like build {} before it", previous.number)))
    }

    /// Why a repair is nothing to people: it ends failures of which none was told. `unheard` is the first that its notifier was to
    /// tell, and now does not; if one was bad before that, they know.
    async fn repair(&self, facts: &Facts, unheard: Option<i64>) -> Result<Option<String>, DataError> {
        let Some(first) = unheard else { return Ok(None) };
        let before =
            History::before_number(self.state.ro(), &self.plan.notifier, facts, first).next().await?;
        let was_good = before.is_none_or(|it| it.build.results.is_some_and(is_good));
        Ok(was_good.then(|| format!("nobody was told of the failure of build {first} that it repairs")))
    }

    /// The build before, mostly from memory.
    async fn previous(&self, facts: &Facts) -> Result<Option<Last>, DataError> {
        let key = (facts.builder.id.0, facts.branch().to_owned());
        if let Some(last) = self.last.get(&key).filter(|it| it.build.number < facts.build.number) {
            return Ok(Some(last.clone()));
        }
        let found = History::before(self.state.ro(), &self.plan.notifier, facts).next().await?;
        Ok(found.and_then(|it| Some(Last { results: it.build.results?, build: it.build })))
    }

    fn remember(&mut self, facts: &Facts, results: Results) {
        if !is_verdict(results) {
            return;
        }
        if self.last.len() >= REMEMBERED {
            self.last.clear();
        }
        let key = (facts.builder.id.0, facts.branch().to_owned());
        if self.last.get(&key).is_none_or(|it| it.build.number < facts.build.number) {
            self.last.insert(key, Last { build: facts.build.clone(), results });
        }
    }

    /// A good build silences messages of failures before it that have not settled yet. Gives the number of the first of these.
    fn end_failures(&self, facts: &Facts, outcome: &mut Outcome) -> Option<i64> {
        if self.plan.notifier.options.settle.is_zero() {
            return None;
        }
        let (builder, branch, number) = (facts.builder.id, facts.branch(), facts.build.number);
        let reason = || format!("build {number} was good before it was told");
        let mut first = None;
        for (id, failed) in self.outbox.ended_by(builder, branch, number, self.state.now()) {
            outcome.settled.push(settled(id, DeliveryState::Silenced, reason()));
            first = Some(first.map_or(failed, |it: i64| it.min(failed)));
        }
        for (it, seed) in outcome.new.iter_mut().filter(|(it, _)| it.silenced.is_none()) {
            if let Some(failed) = seed.end_failures(builder, branch, number) {
                it.silenced = Some(reason());
                first = Some(first.map_or(failed, |it| it.min(failed)));
            }
        }
        first
    }

    async fn buildset_ended(&mut self, set: &Arc<Buildset>, outcome: &mut Outcome) -> Result<(), DataError> {
        let notifier = &self.plan.notifier;
        if notifier.options.per != Per::Buildset || !buildset_passes(notifier, set) {
            return Ok(());
        }
        let ro = self.state.ro().clone();
        let requests =
            ro.list::<BuildRequest>(Query::default().eq("buildsetid", set.id.0)).await?.value.items;
        let ids: Vec<i64> = requests.iter().map(|it| it.id.0).collect();
        let mut builds = Vec::new();
        for piece in ids.chunks(500) {
            let page = ro
                .list::<Build>(Query::default().any("buildrequestid", piece.iter().copied()))
                .await?
                .value
                .items;
            builds.extend(page.into_iter().map(|it| it.entity));
        }
        let modes = self.modes();
        let mut told: Vec<(Facts, Results, Vec<Mode>)> = Vec::new();
        for build in builds {
            let Some(results) = build.results.filter(|it| *it != Results::Retry) else { continue };
            if !self.cares_for(&build) {
                continue;
            }
            let Some(facts) = Facts::read(&ro, &build).await? else { continue };
            if !passes(&ro, &self.plan.notifier, &facts).await? {
                continue;
            }
            let previous = if asks_for_previous(&modes) {
                self.before(&facts).await?.map(|it| it.results)
            } else {
                None
            };
            let detected = detected(results, previous);
            if is_told(&modes, &detected) {
                told.push((facts, results, detected));
            }
        }
        told.sort_by_key(|(facts, results, _)| (std::cmp::Reverse(badness(*results)), facts.build.id));
        let Some((first, ..)) = told.first().cloned() else { return Ok(()) };
        let mut detected: Vec<Mode> = told.iter().flat_map(|(_, _, modes)| modes.clone()).collect();
        detected.sort_unstable();
        detected.dedup();
        let bad = told.iter().filter(|(_, results, _)| !is_good(*results));
        let seed = Seed::Buildset {
            buildset: set.id,
            modes: detected,
            builds: told.iter().take(BUILDS).map(|(it, ..)| it.build.id).collect(),
            more: told.len().saturating_sub(BUILDS),
            failures: bad.take(BUILDS).map(|(it, ..)| failure(it)).collect(),
        };
        self.enqueue(seed, format!("buildset-{}", set.id), &first, None, outcome)
    }

    /// As [`Intake::previous`], but not from memory, which may hold the build itself already.
    async fn before(&self, facts: &Facts) -> Result<Option<Last>, DataError> {
        let found = History::before(self.state.ro(), &self.plan.notifier, facts).next().await?;
        Ok(found.and_then(|it| Some(Last { results: it.build.results?, build: it.build })))
    }

    fn enqueue(
        &self,
        seed: Seed,
        dedup_key: String,
        facts: &Facts,
        silenced: Option<String>,
        outcome: &mut Outcome,
    ) -> Result<(), DataError> {
        let (subject, build) = match &seed {
            Seed::Buildset { buildset, .. } => {
                let results = facts.buildset.results.map_or("", |it| it.word());
                (format!("buildset {buildset} {results}"), None)
            }
            Seed::Build { event: BuildEvent::Started, .. } => {
                (format!("{} #{} started", facts.builder.name, facts.build.number), Some(facts.build.id))
            }
            _ => {
                let word = facts.build.results.map_or("", |it| it.word());
                (format!("{} #{} {word}", facts.builder.name, facts.build.number), Some(facts.build.id))
            }
        };
        let settles = match &seed {
            Seed::Build { failure, .. } => failure.is_some(),
            Seed::Buildset { failures, .. } => !failures.is_empty(),
            _ => false,
        };
        let now = self.state.now();
        let settle = if settles { self.plan.notifier.options.settle.get() } else { Duration::ZERO };
        let new = Enqueued {
            id: self.state.new_delivery()?,
            due_at: after(now, settle),
            dedup_key,
            subject,
            build,
            notice: serde_json::to_value(&seed).map_err(DataError::unavailable)?,
            silenced,
        };
        outcome.new.push((new, seed));
        Ok(())
    }

    /// Workers that have been away for long enough now.
    fn tell_missing(&mut self, outcome: &mut Outcome) -> Result<(), DataError> {
        let now = self.state.now();
        let hot = self.state.ro().hot();
        for (worker, since) in self.missing.due(now) {
            outcome.missing_changed = true;
            let Some(known) = hot.workers.get(&worker.0) else { continue };
            outcome.new.push(self.missing_worker(known, since, now)?);
        }
        Ok(())
    }

    fn missing_worker(
        &self,
        worker: &Worker,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<(Enqueued, Seed), DataError> {
        let seed = Seed::Worker { worker: worker.id, since };
        let new = Enqueued {
            id: self.state.new_delivery()?,
            due_at: now,
            dedup_key: format!("worker-{}-{}", worker.id, since.0),
            subject: format!("worker {} is missing", worker.name),
            build: None,
            notice: serde_json::to_value(&seed).map_err(DataError::unavailable)?,
            silenced: None,
        };
        Ok((new, seed))
    }

    /// Stores what came of a batch with the clock after it, and hands it to the sender.
    async fn store(&mut self, mut outcome: Outcome, clock: Clock) -> Result<(), DataError> {
        let bound = usize::try_from(self.plan.notifier.options.queue.get()).unwrap_or(usize::MAX);
        let more = outcome.new.iter().filter(|(it, _)| it.silenced.is_none()).count();
        let reason = format!("more than {bound} messages waited");
        for id in self.outbox.overflow(more, bound) {
            if !outcome.settled.iter().any(|it| it.id == id) {
                outcome.settled.push(settled(id, DeliveryState::Dropped, reason.clone()));
            }
        }
        let rows = outcome.new.iter().map(|(it, _)| it.clone()).collect();
        let record = ListenerRecord { clock: Some(clock), settings: self.missing.settings() };
        self.state.enqueue(rows, outcome.settled.clone(), Some(record)).await?;
        self.outbox.apply(outcome.new, &outcome.settled, self.state.now());
        Ok(())
    }
}

impl Outcome {
    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.settled.is_empty() && !self.missing_changed
    }
}

/// A worker is to be told of.
struct Elapsed;

/// Whether an end is told for no other reason than that the one before was otherwise.
fn only_a_change(wanted: &[Mode], detected: &[Mode]) -> bool {
    let others: Vec<Mode> = wanted.iter().copied().filter(|it| *it != Mode::Change).collect();
    !is_told(&others, detected)
}

fn failure(facts: &Facts) -> Failure {
    Failure { builder: facts.builder.id, branch: facts.branch().to_owned(), number: facts.build.number }
}

/// Cancelled builds say less than failed ones, whatever the worst of both is.
fn badness(results: Results) -> u8 {
    match results {
        Results::Failure => 4,
        Results::Exception => 3,
        Results::Warnings => 2,
        Results::Cancelled => 1,
        _ => 0,
    }
}
