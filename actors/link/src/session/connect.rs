//! The connect sequence: what is said before a worker is usable.
//!
//! Settings first, then whatever the worker may still run from before is interrupted, by the command ids that the steps
//! of its lost builds persisted. Only when that is answered is the worker offered to anybody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use greenroom_data::{DataError, Ro};
use greenroom_model::query::{Compare, Filter};
use greenroom_model::{Build, FieldValue, Query, Results, Step, WorkerId, WorkerInfo as StoredInfo};
use greenroom_protocol::{CommandId, MasterOp, Settings, Value, WorkerInfo};
use greenroom_runtime::Front;
use tokio::time::sleep;

use super::SessionActor;
use crate::facts::WorkerFacts;
use crate::messages::{Answer, AskWorker};

/// How many of a worker's lost builds are looked at.
const LOST_BUILDS: u64 = 64;
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
    ro: Ro,
    newcomer: Newcomer,
) -> Result<(Arc<WorkerFacts>, StoredInfo), String> {
    let hello = request(&session, MasterOp::Print { message: "attached".to_owned() }).await?;
    let info = request(&session, MasterOp::GetWorkerInfo).await?;
    let settings = request(&session, MasterOp::SetWorkerSettings(Settings::default())).await?;
    let info = answer(info, "get_worker_info").await?;
    let info = WorkerInfo::from_value(&info).map_err(|error| error.to_string())?;
    answer(settings, "set_worker_settings").await?;
    answer(hello, "print").await?;
    interrupt_leftovers(&session, &ro, &newcomer).await?;
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
    ro: &Ro,
    newcomer: &Newcomer,
) -> Result<(), String> {
    let mut ids = persisted(ro, newcomer.worker).await;
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
async fn persisted(ro: &Ro, worker: WorkerId) -> BTreeSet<String> {
    loop {
        match persisted_once(ro, worker).await {
            Ok(ids) => return ids,
            Err(error) => {
                tracing::debug!(worker.id = worker.0, %error, "cannot read what may be left over yet");
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn persisted_once(ro: &Ro, worker: WorkerId) -> Result<BTreeSet<String>, DataError> {
    // A lost build is retried, or ends as exception after too many retries; a stopped one may have been lost as well.
    let unclean = [Results::Retry, Results::Exception, Results::Cancelled];
    let mut query = Query::default().eq("workerid", worker.0).order_by("buildid", true).limit(LOST_BUILDS);
    query.filters.push(any_of("results", unclean.iter().map(|result| result.code())));
    let lost = ro.list::<Build>(query).await?;
    let mut builds: BTreeSet<i64> = lost.value.items.iter().map(|build| build.id.0).collect();
    // A build that is not ended yet may be one whose loss is being written.
    let hot = ro.hot();
    builds.extend(hot.running_builds().filter(|build| build.worker == worker).map(|build| build.id.0));
    if builds.is_empty() {
        return Ok(BTreeSet::new());
    }
    let query = Query { filters: vec![any_of("buildid", builds)], ..Query::default() };
    let steps = ro.list::<Step>(query).await?;
    let unclean_step = |step: &Step| step.results.is_none_or(|results| unclean.contains(&results));
    Ok(steps
        .value
        .items
        .iter()
        .filter(|step| unclean_step(step))
        .filter_map(|step| step.command.clone())
        .collect())
}

fn any_of(field: &'static str, values: impl IntoIterator<Item = i64>) -> Filter {
    Filter { field, compare: Compare::Eq, values: values.into_iter().map(FieldValue::Int).collect() }
}
