//! What no value can check alone: names that must exist elsewhere, keys that go together, parts that nothing uses.

use std::collections::BTreeSet;

use figment::value::Value;

use crate::extract::{Parts, Report};
use crate::fault::{Fault, suggest};
use crate::sections::change_sources::ChangeSource;
use crate::sections::schedulers::{ForceScheduler, Parameter, ParameterKind, Scheduler};
use crate::sections::steps::{GitMethod, GitMode, StepAction};
use crate::sections::workers::WorkerKind;
use crate::sections::www::Auth;
use crate::values::{NameList, url_passwords};
use crate::{effect, reach, supervised, telling};

/// Checks everything that could be read; names in lists also where the table around them could not.
pub(crate) fn check(merged: &Value, parts: &Parts, report: &mut Report<'_>) {
    references(merged, parts, report, ("schedulers", "builders"), "builder");
    references(merged, parts, report, ("builders", "workers"), "worker");
    crate::sections::database::check(parts, report);
    www(parts, report);
    workers(parts, report);
    change_sources(parts, report);
    schedulers(parts, report);
    builders(parts, report);
    unused(parts, report);
    reach::check(parts, report);
    effect::check(parts, report);
    telling::check(parts, report);
    supervised::check(parts, report);
    crate::sections::logs::check(parts, report);
    crate::sections::retention::check(parts, report);
}

fn path(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|it| (*it).to_owned()).collect()
}

fn www(parts: &Parts, report: &mut Report<'_>) {
    if let Some(www) = &parts.www
        && www.auth == Auth::None
        && !www.listen.is_loopback()
    {
        let message = "with auth = \"none\" everybody who reaches this address may do everything";
        let help = format!("listen on 127.0.0.1:{} and put a proxy before it", www.listen.0.port());
        report.push(&path(&["www", "listen"]), false, Fault::error("open-to-all", message).help(help));
    }
}

/// A worker's name is what it logs in with (up to the `:`), and names the directory of a local one.
fn is_worker_name(name: &str) -> bool {
    let fits = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-');
    !name.starts_with(['.', '-']) && name.chars().all(fits)
}

/// A worker's name that is like the one given.
fn worker_name_like(name: &str) -> String {
    let like = name.replace(|it: char| !it.is_ascii_alphanumeric() && !matches!(it, '.' | '_'), "-");
    match like.trim_start_matches(['.', '-']).trim_end_matches('-') {
        "" => "worker".to_owned(),
        like => like.to_owned(),
    }
}

fn workers(parts: &Parts, report: &mut Report<'_>) {
    let names = parts.names.get("workers").into_iter().flatten();
    // empty names and control characters are refused in every section
    let bad = names.filter(|it| !is_worker_name(it) && !it.contains(char::is_control));
    for name in bad {
        let message = "a worker's name has only the letters a to z, digits, `.`, `_` and `-`, and begins with no `.` or `-`";
        let help = format!("call it `{}`", worker_name_like(name));
        report.push(&path(&["workers", name]), true, Fault::error("bad-name", message).help(help));
    }
    for (name, worker) in &parts.workers {
        let at = |key: &str| path(&["workers", name, key]);
        match worker.kind {
            WorkerKind::Remote if worker.password.is_none() => {
                let fault =
                    Fault::error("missing-key", format!("the remote worker `{name}` has no password"));
                let help =
                    "add password = { file = \"…\" }, or kind = \"local\" for one that this master starts";
                report.push(&path(&["workers", name]), true, fault.help(help));
            }
            WorkerKind::Remote if worker.dir.is_some() => {
                report.push(&at("dir"), true, Fault::warning("no-effect", "`dir` is for local workers only"));
            }
            WorkerKind::Local if worker.password.is_some() => {
                let message = "a local worker needs no password: the master starts it";
                report.push(&at("password"), true, Fault::warning("no-effect", message));
            }
            _ => {}
        }
    }
}

fn change_sources(parts: &Parts, report: &mut Report<'_>) {
    for (name, source) in &parts.change_sources {
        let ChangeSource::GitPoller(poller) = source;
        let at = |key: &str| path(&["change-sources", name, key]);
        no_password(report, &at("repository"), &poller.repository);
    }
}

/// Commands and their logs show a URL to everybody.
fn no_password(report: &mut Report<'_>, at: &[String], url: &str) {
    if !url_passwords(url).is_empty() {
        let message = "a password in a URL would be shown in logs and lists of processes";
        let help = "give it to git by a credential helper, or use ssh";
        report.push(at, false, Fault::error("exposed-secret", message).help(help));
    }
}

fn schedulers(parts: &Parts, report: &mut Report<'_>) {
    for (name, scheduler) in &parts.schedulers {
        if let NameList::Some(builders) = scheduler.builders() {
            let at = path(&["schedulers", name, "builders"]);
            if builders.is_empty() {
                let fault = Fault::error("bad-value", format!("the scheduler `{name}` has no builders"));
                report.push(&at, false, fault.help("name some, or write builders = \"*\""));
            }
        }
        match scheduler {
            Scheduler::SingleBranch(_) | Scheduler::AnyBranch(_) => {}
            Scheduler::Force(it) => force(name, it, report),
        }
    }
}

/// Faults for names in the lists `[SECTION.*] LIST` that are in no table `[LIST.NAME]`.
fn references(
    merged: &Value,
    parts: &Parts,
    report: &mut Report<'_>,
    (section, list): (&str, &str),
    word: &str,
) {
    let empty = BTreeSet::new();
    let known = parts.names.get(list).unwrap_or(&empty);
    let tables = merged.as_dict().and_then(|it| it.get(section)).and_then(Value::as_dict);
    for (owner, table) in tables.into_iter().flatten() {
        let at = path(&[section, owner, list]);
        let found: Vec<(Vec<String>, &str)> = match table.as_dict().and_then(|it| it.get(list)) {
            Some(Value::Array(_, names)) => {
                let element = |index: usize| [at.as_slice(), &[index.to_string()]].concat();
                names
                    .iter()
                    .enumerate()
                    .filter_map(|(index, it)| Some((element(index), it.as_str()?)))
                    .collect()
            }
            Some(Value::String(_, name)) => vec![(at, name)],
            _ => Vec::new(),
        };
        let mut seen = BTreeSet::new();
        for (at, name) in &found {
            if !seen.insert(*name) {
                let fault = Fault::warning("duplicate-name", format!("`{name}` is in this list already"));
                report.push(at, false, fault);
            }
        }
        let absent = parts.absent.get(list).unwrap_or(&empty);
        let complete = list != "builders" || parts.broken.is_empty();
        let unknown = |it: &str| complete && !known.contains(it) && !absent.contains(it) && it != "*";
        for (at, name) in found.into_iter().filter(|(_, it)| unknown(it)) {
            let fault = Fault::error("unknown-name", format!("there is no {word} `{name}`"));
            report.push(&at, false, fault.help(suggest(name, known.iter().map(String::as_str))));
        }
    }
}

fn force(name: &str, scheduler: &ForceScheduler, report: &mut Report<'_>) {
    let mut seen = BTreeSet::new();
    for (index, parameter) in scheduler.parameters.iter().enumerate() {
        let index = index.to_string();
        let at = |key: &str| path(&["schedulers", name, "parameters", &index, key]);
        if parameter.name.trim().is_empty() {
            report.push(&at("name"), false, Fault::error("bad-name", "a parameter needs a name"));
        } else if !seen.insert(&parameter.name) {
            let message = format!("there are two parameters `{}`", parameter.name);
            report.push(&at("name"), false, Fault::error("duplicate-name", message));
        }
        let choice = parameter.kind == ParameterKind::Choice;
        let text = matches!(parameter.kind, ParameterKind::String | ParameterKind::Text);
        if choice && parameter.choices.is_empty() {
            let at = path(&["schedulers", name, "parameters", &index]);
            report.push(
                &at,
                true,
                Fault::error("missing-key", format!("`{}` has no choices", parameter.name)),
            );
        }
        for (key, misplaced, where_it_belongs) in [
            ("choices", !choice && !parameter.choices.is_empty(), "choice"),
            ("multiple", !choice && parameter.multiple, "choice"),
            ("regex", !text && parameter.regex.is_some(), "string or text"),
        ] {
            if misplaced {
                let message = format!("`{key}` belongs to parameters of kind {where_it_belongs}");
                report.push(&at(key), true, Fault::error("bad-value", message));
            }
        }
        if let Some(message) = bad_default(parameter) {
            report.push(&at("default"), false, Fault::error("bad-value", message));
        }
    }
}

/// What is wrong with the default of a parameter.
fn bad_default(parameter: &Parameter) -> Option<String> {
    let value = parameter.default.as_ref()?;
    let choice = |it: &serde_json::Value| {
        it.as_str().is_some_and(|it| parameter.choices.iter().any(|known| known == it))
    };
    let fits = match parameter.kind {
        ParameterKind::String | ParameterKind::Text => value.is_string(),
        ParameterKind::Int => value.is_i64(),
        ParameterKind::Bool => value.is_boolean(),
        ParameterKind::Choice if parameter.multiple => {
            value.as_array().is_some_and(|it| it.iter().all(choice))
        }
        ParameterKind::Choice => choice(value),
    };
    if !fits {
        return Some(match parameter.kind {
            ParameterKind::Choice => {
                format!("the default is none of the choices: {}", parameter.choices.join(", "))
            }
            ParameterKind::Int => "the default must be a whole number".to_owned(),
            ParameterKind::Bool => "the default must be true or false".to_owned(),
            _ => "the default must be a string".to_owned(),
        });
    }
    let text = value.as_str().filter(|it| !it.is_empty())?;
    let regex = parameter.regex.as_ref()?;
    (!regex.is_full_match(text)).then(|| "the default does not match `regex`".to_owned())
}

fn builders(parts: &Parts, report: &mut Report<'_>) {
    for (name, builder) in &parts.builders {
        if let Some(workers) = &builder.options.workers {
            let at = path(&["builders", name, "workers"]);
            if workers.is_empty() {
                let fault = Fault::error("bad-value", format!("the builder `{name}` has no workers"));
                report.push(&at, false, fault.help("name some, or leave `workers` out for every worker"));
            }
        }
        for (index, step) in builder.steps.iter().enumerate() {
            let index = index.to_string();
            let at = |key: &str| path(&["builders", name, "steps", &index, key]);
            if let StepAction::Git(it) = &step.action {
                no_password(report, &at("repository"), it.repository.source());
            }
            match &step.action {
                StepAction::SetProperty(it) if it.value.is_some() == it.run.is_some() => {
                    let message = "`set-property` needs either `value` or `run`";
                    report.push(
                        &path(&["builders", name, "steps", &index]),
                        true,
                        Fault::error("bad-value", message),
                    );
                }
                StepAction::Git(it)
                    if it.mode == GitMode::Incremental && it.method != GitMethod::default() =>
                {
                    let message = "`method` has an effect only with mode = \"full\"";
                    report.push(&at("method"), true, Fault::warning("no-effect", message));
                }
                _ => {}
            }
        }
    }
}

/// Warnings for what nothing uses.
fn unused(parts: &Parts, report: &mut Report<'_>) {
    let empty = BTreeSet::new();
    let names = |section: &str| parts.names.get(section).unwrap_or(&empty);
    // A table that could not be read may use anything.
    if parts.schedulers.len() == names("schedulers").len() {
        for name in names("builders")
            .iter()
            .filter(|name| !parts.schedulers.values().any(|it| it.builders().contains(name)))
        {
            let fault =
                Fault::warning("unused", format!("no scheduler asks the builder `{name}` for builds"));
            report.push(&path(&["builders", name]), true, fault.help("name it in `builders` of a scheduler"));
        }
    }
    if parts.builders.len() == names("builders").len() {
        let uses = |name: &String| {
            parts
                .builders
                .values()
                .any(|it| it.options.workers.as_ref().is_none_or(|workers| workers.contains(name)))
        };
        for name in names("workers").iter().filter(|name| !uses(name)) {
            let fault = Fault::warning("unused", format!("no builder uses the worker `{name}`"));
            report.push(&path(&["workers", name]), true, fault);
        }
        if names("workers").is_empty()
            && let Some(first) = names("builders").first()
        {
            let message = match names("builders").len() {
                1 => "no worker can run this builder's builds: there are no workers".to_owned(),
                count => {
                    format!("no worker can run the builds of these {count} builders: there are no workers")
                }
            };
            let fault = Fault::warning("no-worker", message);
            let help = "add [workers.local] with kind = \"local\" for one on this machine";
            report.push(&path(&["builders", first]), true, fault.help(help));
        }
    }
}
