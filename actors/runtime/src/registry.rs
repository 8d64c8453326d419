//! The live tree as data, and the ways to rehearse trouble.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use greenroom_model::restart::{Policy, SUPERVISOR_KIND, Strategy};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::Supervised;
use crate::ending::Exit;
use crate::front::Shared;
use crate::lock;
use crate::mailbox::Urgent;
use crate::supervisor::{Supervisor, SupervisorView};
use crate::vital::{State, Vital, forget_before};

/// An observed value is this old at most, unless its actor does not answer.
const OBSERVED_FOR: Duration = Duration::from_secs(1);
/// A report waits no longer for actors to answer.
const OBSERVE_WITHIN: Duration = Duration::from_millis(50);

/// A child, whatever its type.
pub(crate) trait Entry: Send + Sync {
    fn vital(&self) -> &Arc<Vital>;
    fn depth(&self) -> usize;
    /// Hands it something urgent; false if nobody lives there now.
    fn urgent(&self, urgent: Urgent) -> bool;
}

impl<A: Supervised> Entry for Shared<A> {
    fn vital(&self) -> &Arc<Vital> {
        &self.vital
    }

    fn depth(&self) -> usize {
        self.mailbox.depth()
    }

    fn urgent(&self, urgent: Urgent) -> bool {
        match self.mailbox.push_urgent(urgent) {
            Ok(wake) => {
                if wake {
                    self.vital.wake();
                }
                true
            }
            Err(_) => false,
        }
    }
}

/// The handler that took longest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slowest {
    /// The message's type, without its path.
    pub message: &'static str,
    /// How long its handler held the arbiter, in milliseconds.
    pub ms: f64,
}

/// One actor or supervisor of the live tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActorReport {
    /// Unique name.
    pub name: String,
    /// Kind of actor; `supervisor` for supervisors.
    pub kind: &'static str,
    /// The supervisor above; none for the root.
    pub parent: Option<String>,
    /// Where it is in its life.
    pub state: State,
    /// End of its backoff, microseconds UTC.
    pub until: Option<i64>,
    /// When it is born again and how patiently; none for a supervisor.
    pub policy: Option<Policy>,
    /// Who is restarted along with one of its children that ended; none if it has no group.
    pub strategy: Option<Strategy>,
    /// Where the knobs of the policy come from that are not built in.
    pub origins: BTreeMap<&'static str, String>,
    /// How often it was born.
    pub births: u64,
    /// Restarts within the period that the intensity names (a supervisor's: those of its children).
    pub restarts: usize,
    /// Restarts that its supervisor (a supervisor: it itself) grants all children together within the period; or those that
    /// are granted to it alone.
    pub intensity: u32,
    /// Whether its restarts are counted by themselves.
    pub own_intensity: bool,
    /// That period, in milliseconds.
    pub period_ms: u64,
    /// The last ends, oldest first, at most 20 (a supervisor's: those of its children).
    pub exits: Vec<Exit>,
    /// Letters that no handler has begun.
    pub queue_depth: usize,
    /// Asks without an answer yet, queued ones included.
    pub in_flight: usize,
    /// Asks in flight, and likewise tells queued, that its Front admits.
    pub queue_bound: usize,
    /// Letters handled, over all births.
    pub handled: u64,
    /// The handler that took longest, over all births.
    pub slowest: Option<Slowest>,
    /// How often it was seen to hold its arbiter for over 100 ms.
    pub stalls: u64,
    /// For how long it has held its arbiter's thread by now, in milliseconds, if over 100.
    pub held_ms: Option<u64>,
    /// What the actor says about itself.
    pub observed: Value,
}

/// The tree below a supervisor, parents before children.
pub(crate) fn snapshot(root: &Supervisor) -> Vec<ActorReport> {
    let mut reports = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(supervisor) = open.pop() {
        let view = supervisor.view();
        reports.push(of_supervisor(&supervisor, &view));
        reports.extend(view.actors.iter().map(|entry| of_actor(entry.as_ref(), &view, &supervisor)));
        open.extend(view.supervisors.into_iter().rev());
    }
    reports
}

/// Asks every actor whose observed value is old for a new one, and waits a little.
pub(crate) async fn refresh(root: &Supervisor) {
    let mut asked = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(supervisor) = open.pop() {
        let view = supervisor.view();
        for entry in &view.actors {
            let fresh = {
                let life = lock(&entry.vital().life);
                life.observed.as_ref().is_some_and(|(_, at)| at.elapsed() < OBSERVED_FOR)
            };
            let (reply, answer) = oneshot::channel();
            if !fresh && entry.urgent(Urgent::Observe(reply)) {
                asked.push((Arc::clone(entry.vital()), answer));
            }
        }
        open.extend(view.supervisors);
    }
    let answers = asked.into_iter().map(|(vital, answer)| async move {
        if let Ok(value) = answer.await {
            lock(&vital.life).observed = Some((value, Instant::now()));
        }
    });
    // those that answered in time are stored, the others keep their old value
    let _ = timeout(OBSERVE_WITHIN, join_all(answers)).await;
}

fn of_supervisor(supervisor: &Supervisor, view: &SupervisorView) -> ActorReport {
    ActorReport {
        name: supervisor.name().to_owned(),
        kind: SUPERVISOR_KIND,
        parent: supervisor.parent_name().map(str::to_owned),
        state: view.phase,
        until: view.until,
        policy: None,
        strategy: view.strategy,
        origins: supervisor.origins(),
        births: view.births,
        restarts: view.restarts.len(),
        intensity: view.intensity.restarts,
        own_intensity: false,
        period_ms: view.intensity.within.as_millis(),
        exits: view.exits.clone(),
        queue_depth: 0,
        in_flight: 0,
        queue_bound: 0,
        handled: 0,
        slowest: None,
        stalls: 0,
        held_ms: None,
        observed: Value::Null,
    }
}

fn of_actor(entry: &dyn Entry, view: &SupervisorView, supervisor: &Supervisor) -> ActorReport {
    let vital = entry.vital();
    let (policy, policies) = (supervisor.policy_of(vital), supervisor.policies());
    let own = policies.own_intensity(vital.kind, &vital.name);
    let held = supervisor.held_for(vital.id);
    let mut life = lock(&vital.life);
    let restarts = match own {
        Some(own) => {
            forget_before(&mut life.restarts, Instant::now(), own.within.duration(), |at| *at);
            life.restarts.len()
        }
        None => view.restarts.iter().filter(|id| **id == vital.id).count(),
    };
    let intensity = own.unwrap_or(view.intensity);
    let slowest_micros = vital.slowest_micros.load(Ordering::Relaxed);
    ActorReport {
        name: vital.name.to_string(),
        kind: vital.kind,
        parent: Some(vital.parent.to_string()),
        state: life.state,
        until: life.until,
        policy: Some(policy),
        strategy: None,
        origins: {
            let mut origins = policies.origins(vital.kind, &vital.name, &vital.code);
            // of supervisors only
            origins.remove("strategy");
            origins
        },
        births: life.births,
        restarts,
        intensity: intensity.restarts,
        own_intensity: own.is_some(),
        period_ms: intensity.within.as_millis(),
        exits: life.exits.iter().cloned().collect(),
        queue_depth: entry.depth(),
        in_flight: vital.asks(),
        queue_bound: vital.bound(),
        handled: vital.handled.load(Ordering::Relaxed),
        slowest: (!life.slowest.is_empty())
            .then(|| Slowest { message: short(life.slowest), ms: slowest_micros as f64 / 1000.0 }),
        stalls: vital.stalls.load(Ordering::Relaxed),
        held_ms: held.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        observed: life.observed.as_ref().map_or(Value::Null, |(value, _)| value.clone()),
    }
}

/// A type's name without its path.
pub(crate) fn short(name: &'static str) -> &'static str {
    let head = name.split('<').next().unwrap_or(name);
    let path = head.rfind("::").map_or(0, |at| at + 2);
    &name[path..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_are_short() {
        assert_eq!(short("a::b::Message"), "Message");
        assert_eq!(short("a::Wrap<b::Message>"), "Wrap<b::Message>");
        assert_eq!(short("u8"), "u8");
    }
}
