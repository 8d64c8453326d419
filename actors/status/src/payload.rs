//! A message as templates and webhooks see it: one JSON document, whose names are public and do not change. Words instead of
//! numbers, RFC 3339 instead of microseconds.
//!
//! `config/samples/notices.json` holds one of each sort: templates are tried with them when a configuration loads. A test here
//! holds that file against what is really made.

use greenroom_model::{Results, Timestamp};
use serde_json::{Value, json};

use crate::notice::{
    BuildEvent, BuildNotice, BuildRef, BuildsetNotice, ChangeNotice, DigestNotice, Notice, SourceNotice,
    StepNotice, WorkerNotice,
};
use crate::transport::Outgoing;

/// The whole document.
pub(crate) fn payload(message: &Outgoing) -> Value {
    let mut whole = json!({
        "event": event(&message.notice),
        "id": message.dedup_key,
        "notifier": message.notifier,
        "at": time(message.at),
        "farm": {"title": message.farm.title, "url": message.farm.url},
        "subject": message.notice.subject(),
        "headline": headline(&message.notice),
        "tone": tone(&message.notice),
        "build": null, "buildset": null, "digest": null, "worker": null, "test": null,
    });
    let (key, part) = match &message.notice {
        Notice::Build(it) => ("build", build(it)),
        Notice::Buildset(it) => ("buildset", buildset(it)),
        Notice::Digest(it) => ("digest", digest(it)),
        Notice::WorkerMissing(it) => ("worker", worker(it)),
        Notice::Test(it) => ("test", json!({"by": it.by, "at": time(it.at)})),
    };
    whole[key] = part;
    whole
}

/// What has happened, as a word.
pub(crate) fn event(notice: &Notice) -> &'static str {
    match notice {
        Notice::Build(it) => match it.event {
            BuildEvent::Started => "build.started",
            BuildEvent::Finished => "build.finished",
        },
        Notice::Buildset(_) => "buildset.finished",
        Notice::Digest(_) => "digest",
        Notice::WorkerMissing(_) => "worker.missing",
        Notice::Test(_) => "test",
    }
}

/// What has happened, as a sentence without its full stop: `linux failed on main: test`.
pub(crate) fn headline(notice: &Notice) -> String {
    match notice {
        Notice::Build(it) => build_headline(it),
        Notice::Buildset(it) => {
            let place = it.sources.first().map(|it| on(it.branch.as_deref())).unwrap_or_default();
            let all = it.builds.len() + it.more_builds;
            format!("{all} builds{place}: {}", it.results.word())
        }
        Notice::Digest(it) => {
            let counts: Vec<String> =
                it.counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
            let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
            format!("{} messages in one{counts}", it.total)
        }
        Notice::WorkerMissing(it) => format!("worker {} is missing", it.name),
        Notice::Test(_) => "this is a test".to_owned(),
    }
}

fn build_headline(it: &BuildNotice) -> String {
    let mended =
        it.previous.as_ref().is_some_and(|it| matches!(it.results, Results::Failure | Results::Exception));
    let what = match (it.event, it.results) {
        (BuildEvent::Started, _) => "has started",
        (_, Some(Results::Success)) if mended => "works again",
        (_, Some(Results::Success)) => "succeeded",
        (_, Some(Results::Warnings)) => "has warnings",
        (_, Some(Results::Failure)) => "failed",
        (_, Some(Results::Exception)) => "could not be built",
        (_, Some(Results::Cancelled)) => "was stopped",
        (_, Some(Results::Skipped)) => "was skipped",
        (_, Some(Results::Retry)) => "was lost and is built again",
        (_, None) => "has ended",
    };
    let place = on(it.source().and_then(|it| it.branch.as_deref()));
    let step = it.step.as_ref().map(|it| format!(": {}", it.name)).unwrap_or_default();
    format!("{} {what}{place}{step}", it.builder_name)
}

fn on(branch: Option<&str>) -> String {
    branch.filter(|it| !it.is_empty()).map(|it| format!(" on {it}")).unwrap_or_default()
}

/// How it is meant, for colours and signs: `good`, `bad`, `warning` or `neutral`.
pub(crate) fn tone(notice: &Notice) -> &'static str {
    let of = |results: Option<Results>| match results {
        Some(Results::Success) => "good",
        Some(Results::Failure | Results::Exception) => "bad",
        Some(Results::Warnings) => "warning",
        _ => "neutral",
    };
    match notice {
        Notice::Build(it) => of(it.results),
        Notice::Buildset(it) => of(Some(it.results)),
        Notice::Digest(it) => of(it.lines.iter().filter_map(|it| it.worst).reduce(Results::worst_of)),
        Notice::WorkerMissing(_) => "warning",
        Notice::Test(_) => "neutral",
    }
}

fn time(at: Timestamp) -> String {
    // Whole seconds are enough for people and programs alike.
    jiff::Timestamp::from_second(at.seconds()).map(|it| it.to_string()).unwrap_or_default()
}

fn word(results: Option<Results>) -> Option<&'static str> {
    results.map(Results::word)
}

fn build(it: &BuildNotice) -> Value {
    let source = it.source();
    let seconds = it.duration_us().map(|it| (it.max(0) + 500_000) / 1_000_000);
    json!({
        "id": it.build,
        "number": it.number,
        "url": it.url,
        "builder": {
            "id": it.builder, "name": it.builder_name, "url": it.builder_url, "tags": it.tags, "project": it.project,
        },
        "worker": it.worker,
        "result": word(it.results),
        "modes": it.modes,
        "state": it.state_string,
        "previous": reference(it.previous.as_ref()),
        "last_good": reference(it.last_good.as_ref()),
        "first_failure": reference(it.first_failure.as_ref()),
        "branch": source.and_then(|it| it.branch.as_deref()),
        "revision": source.and_then(|it| it.revision.as_deref()),
        "repository": source.map(|it| it.repository.as_str()).unwrap_or_default(),
        "sources": sources(&it.sources),
        "buildset": it.buildset,
        "reason": it.reason,
        "scheduler": it.scheduler,
        "owners": it.owners,
        "blame": it.blame,
        "changes": it.changes.iter().map(change).collect::<Vec<_>>(),
        "more_changes": it.more_changes,
        "step": it.step.as_ref().map(step),
        "properties": it.properties,
        "started_at": time(it.started_at),
        "complete_at": it.complete_at.map(time),
        "duration_s": seconds,
    })
}

fn reference(it: Option<&BuildRef>) -> Value {
    it.map_or(
        Value::Null,
        |it| json!({"id": it.build, "number": it.number, "url": it.url, "result": it.results.word()}),
    )
}

fn sources(all: &[SourceNotice]) -> Value {
    let source = |it: &SourceNotice| {
        json!({
            "codebase": it.codebase, "repository": it.repository, "project": it.project,
            "branch": it.branch, "revision": it.revision, "patched": it.patched,
        })
    };
    all.iter().map(source).collect()
}

fn change(it: &ChangeNotice) -> Value {
    json!({
        "id": it.change,
        "author": it.author,
        "committer": it.committer,
        "subject": it.subject(),
        "comments": it.comments,
        "revision": it.revision,
        // It becomes a link in mails: nothing but a page will do.
        "revlink": it.revlink.as_deref().filter(|it| it.starts_with("https://") || it.starts_with("http://")),
        "branch": it.branch,
        "files": it.files,
        "when": time(it.when),
    })
}

fn step(it: &StepNotice) -> Value {
    json!({
        "id": it.step,
        "number": it.number,
        "name": it.name,
        "state": it.state_string,
        "result": word(it.results),
        "first_error": it.first_error,
        "tail": it.tail,
        "log": it.log.as_ref().map(|log| {
            json!({"id": log.log, "name": log.name, "url": log.url, "lines": log.num_lines})
        }),
    })
}

fn buildset(it: &BuildsetNotice) -> Value {
    json!({
        "id": it.buildset,
        "result": it.results.word(),
        "modes": it.modes,
        "reason": it.reason,
        "scheduler": it.scheduler,
        "sources": sources(&it.sources),
        "builds": it.builds.iter().map(build).collect::<Vec<_>>(),
        "more_builds": it.more_builds,
        "submitted_at": time(it.submitted_at),
        "complete_at": it.complete_at.map(time),
    })
}

fn digest(it: &DigestNotice) -> Value {
    let lines: Vec<Value> = it
        .lines
        .iter()
        .map(|line| {
            json!({
                "name": line.name,
                "url": line.url,
                "messages": line.messages,
                "worst": word(line.worst),
                "last": reference(line.last.as_ref()),
                "step": line.step,
                "blame": line.blame,
            })
        })
        .collect();
    json!({
        "since": time(it.since),
        "until": time(it.until),
        "total": it.total,
        "counts": it.counts,
        "lines": lines,
        "more_lines": it.more_lines,
        "reason": it.reason,
        "url": it.url,
    })
}

fn worker(it: &WorkerNotice) -> Value {
    json!({"id": it.worker, "name": it.name, "url": it.url, "since": time(it.since), "admin": it.admin, "host": it.host})
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::examples;

    /// Templates are tried with the samples, so these must be what is really made. `BLESS=1` writes them anew.
    #[test]
    fn the_samples_are_what_is_made() {
        let made: Vec<Value> = examples::all().iter().map(payload).collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/samples/notices.json");
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap();
        assert!(stored == text, "{} is not what is made; run the test with BLESS=1", path.display());
    }
}
