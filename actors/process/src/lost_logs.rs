//! Logs of builds that nobody runs any more: they are ended, and say that they are incomplete. A log is never silently short.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use greenroom_data::{DataError, LogStream};
use greenroom_model::*;

use crate::handles::Handles;

/// Lines read at a time when the end of a log is looked for.
const WINDOW: i64 = 100_000;
/// Logs marked at the same time: their writes go together.
const AT_ONCE: usize = 32;

/// Ends the open logs of these builds with a line that says why. What cannot be marked is only told in the log of the master:
/// the builds must be ended in any case.
pub(crate) async fn end(h: &Handles, builds: &[BuildId], why: &str) -> Result<(), DataError> {
    let open = open_logs(h, builds).await?;
    let marked = stream::iter(open).for_each_concurrent(AT_ONCE, |log| async move {
        match mark(h, &log, why).await {
            Ok(()) => {}
            Err(DataError::Refused(refusal)) => {
                tracing::debug!(log_id = log.id.0, %refusal, "a log had ended already");
            }
            Err(error) => {
                tracing::warn!(log_id = log.id.0, %error, "a log could not be marked as incomplete");
            }
        }
    });
    marked.await;
    Ok(())
}

async fn open_logs(h: &Handles, builds: &[BuildId]) -> Result<Vec<Log>, DataError> {
    let of_builds = Query::default().any("buildid", builds.iter().map(|build| build.0));
    let steps = h.ro().list::<Step>(of_builds).await?.value.items;
    let open = steps.iter().filter(|step| step.started_at.is_some() && step.complete_at.is_none());
    let steps: Vec<i64> = open.map(|step| step.id.0).collect();
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let logs = h.ro().list::<Log>(Query::default().any("stepid", steps)).await?.value.items;
    Ok(logs.iter().filter(|log| !log.complete).map(|log| Log::clone(&log.entity)).collect())
}

async fn mark(h: &Handles, log: &Log, why: &str) -> Result<(), DataError> {
    let words = log_words::cut_short(stored_lines(h, log).await?, why) + "\n";
    let stream = if log.kind == LogKind::Stdio { LogStream::Header } else { LogStream::Plain };
    h.rw.append_log(log.id, stream, Bytes::from(words)).await?;
    let num_lines = h.rw.finish_log(log.id).await?;
    h.rw.write(vec![Op::FinishLog { log: log.id, num_lines }]).await?;
    Ok(())
}

/// How many lines there are; more may be stored than were announced.
async fn stored_lines(h: &Handles, log: &Log) -> Result<i64, DataError> {
    let mut lines = log.num_lines;
    loop {
        let more = h.ro().log_lines(log.id, lines, WINDOW).await?.count;
        lines += more;
        if more < WINDOW {
            return Ok(lines);
        }
    }
}
