//! The connect sequence: what is said before a worker is usable.
//!
//! Settings first, then whatever the worker may still run from before is interrupted, by the command ids that the steps
//! of its lost builds persisted. Only when that is answered is the worker offered to anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use greenroom_data::{DataError, Ro, Rw, Shown};
use greenroom_model::{Build, Query, Results, Step, Timestamp, WorkerId, WorkerInfo as StoredInfo};
use greenroom_protocol::{
    CommandId, MasterOp, OUTPUT_BATCHES, OUTPUT_BATCHES_VERSION, Settings, Value, WorkerInfo,
};
use greenroom_runtime::Front;
use tokio::time::sleep;

use super::SessionActor;
use crate::facts::WorkerFacts;
use crate::messages::{Answer, AskWorker};

/// How many of a worker's newest builds are looked at, however they ended.
const NEWEST_BUILDS: usize = 64;
/// Of what ended longer ago nothing is taken to run any more, in microseconds.
const LONG_AGO_MICROS: i64 = 24 * 3_600 * 1_000_000;
/// Interrupts sent at most.
const MAX_LEFTOVERS: usize = 1024;

/// Who connects, and what the directory knows to be left over.
pub(crate) struct Newcomer {
    pub(crate) worker: WorkerId,
    pub(crate) name: String,
    pub(crate) leftovers: BTreeSet<String>,
}

/// Runs the sequence. An error says why the worker cannot be used.
pub(crate) async fn run(
    session: Front<SessionActor>,
    rw: Rw,
    newcomer: Newcomer,
) -> Result<(Arc<WorkerFacts>, StoredInfo), String> {
    let hello = request(&session, MasterOp::Print { message: "attached".to_owned() }).await?;
    let info = request(&session, MasterOp::GetWorkerInfo).await?;
    let settings = request(&session, MasterOp::SetWorkerSettings(Settings::default())).await?;
    let info = answer(info, "get_worker_info").await?;
    let info = WorkerInfo::from_value(&info).map_err(|error| error.to_string())?;
    answer(settings, "set_worker_settings").await?;
    answer(hello, "print").await?;
    if info.extensions.get(OUTPUT_BATCHES).is_some_and(|version| *version >= OUTPUT_BATCHES_VERSION) {
        let settings = MasterOp::SetWorkerSettings(Settings::batched(OUTPUT_BATCHES_VERSION));
        answer(request(&session, settings).await?, "set_worker_settings").await?;
    }
    interrupt_leftovers(&session, &rw, &newcomer).await?;
    let stored = StoredInfo {
        admin: info.texts.get("admin").cloned(),
        host: info.texts.get("host").cloned(),
        access_uri: info.texts.get("access_uri").cloned(),
        version: Some(info.version.clone()),
    };
    Ok((Arc::new(WorkerFacts::new(newcomer.worker, &newcomer.name, info)), stored))
}

async fn request(session: &Front<SessionActor>, op: MasterOp) -> Result<Answer, String> {
    match session.ask(AskWorker(op)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn answer(answer: Answer, op: &str) -> Result<Value, String> {
    match answer.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(text)) => Err(format!("the worker refused {op}: {text}")),
        Err(_) => Err("the connection is over".to_owned()),
    }
}

async fn interrupt_leftovers(
    session: &Front<SessionActor>,
    rw: &Rw,
    newcomer: &Newcomer,
) -> Result<(), String> {
    let mut ids = persisted(rw, newcomer.worker).await;
    ids.extend(newcomer.leftovers.iter().cloned());
    let mut answers = Vec::new();
    for id in ids.iter().take(MAX_LEFTOVERS) {
        let command_id = CommandId::from(id.as_str());
        let why = "the master lost the connection while it ran".to_owned();
        answers.push(request(session, MasterOp::InterruptCommand { command_id, why }).await?);
    }
    for pending in answers {
        answer(pending, "interrupt_command").await?;
    }
    if !ids.is_empty() {
        tracing::debug!(worker.name = %newcomer.name, commands = ids.len(), "interrupted what may be left over");
    }
    Ok(())
}

/// The persisted ids, asked for until the data layer answers: a worker that may still be running something is not used.
/// The whole sequence has a deadline.
async fn persisted(rw: &Rw, worker: WorkerId) -> BTreeSet<String> {
    loop {
        match persisted_once(rw, worker).await {
            Ok(ids) => return ids,
            Err(error) => {
                tracing::debug!(worker.id = worker.0, %error, "cannot read what may be left over yet");
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn persisted_once(rw: &Rw, worker: WorkerId) -> Result<BTreeSet<String>, DataError> {
    let now = rw.now();
    let builds: Vec<i64> = newest_builds(rw.ro(), worker)
        .await?
        .values()
        .filter(|build| may_still_run(build.results, build.complete_at, now))
        .map(|build| build.id.0)
        .collect();
    if builds.is_empty() {
        return Ok(BTreeSet::new());
    }
    let steps = rw.ro().list::<Step>(Query::default().any("buildid", builds)).await?;
    Ok(steps
        .value
        .items
        .iter()
        .filter(|step| may_still_run(step.results, step.complete_at, now))
        .filter_map(|step| step.command.clone())
        .collect())
}

/// The worker's builds that run (as far as is known: the loss of one may be being written) and its newest ones, by id.
/// The database is asked only when the cache does not go back far enough.
async fn newest_builds(ro: &Ro, worker: WorkerId) -> Result<BTreeMap<i64, Shown<Build>>, DataError> {
    let hot = ro.hot();
    let of_worker = || hot.builds.iter().rev().filter(|(_, build)| build.worker == worker);
    // Above the floor the cache has every build.
    let recent = of_worker().take_while(|(id, _)| **id > hot.builds_floor).take(NEWEST_BUILDS);
    let mut builds: BTreeMap<i64, _> = recent.map(|(id, build)| (*id, build.clone())).collect();
    if builds.len() < NEWEST_BUILDS && hot.builds_floor > 0 {
        let newest = NEWEST_BUILDS as u64;
        let query = Query::default().eq("workerid", worker.0).order_by("buildid", true).limit(newest);
        let stored = ro.list::<Build>(query).await?;
        builds.extend(stored.value.items.into_iter().map(|build| (build.id.0, build)));
    }
    let running = of_worker().filter(|(_, build)| build.complete_at.is_none());
    builds.extend(running.map(|(id, build)| (*id, build.clone())));
    Ok(builds)
}

/// Whether the worker may still run a command of a build or step. A lost build is retried, or ends as exception after too
/// many retries; a stopped one may have been lost as well. All others waited for their commands to end.
fn may_still_run(results: Option<Results>, ended: Option<Timestamp>, now: Timestamp) -> bool {
    let is_recent = ended.is_none_or(|ended| now.micros_since(ended) < LONG_AGO_MICROS);
    match results {
        None => true,
        Some(Results::Retry | Results::Exception | Results::Cancelled) => is_recent,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ended_uncleanly_and_lately_may_still_run() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let hours_ago = |hours: i64| Some(Timestamp::from_seconds(1_800_000_000 - hours * 3_600));
        assert!(may_still_run(None, None, now));
        for results in [Results::Retry, Results::Exception, Results::Cancelled] {
            assert!(may_still_run(Some(results), hours_ago(23), now), "{results}");
            assert!(!may_still_run(Some(results), hours_ago(25), now), "{results}");
        }
        for results in [Results::Success, Results::Warnings, Results::Failure, Results::Skipped] {
            assert!(!may_still_run(Some(results), hours_ago(0), now), "{results}");
        }
    }
}
