//! Warnings about keys that change nothing, and steps that never run.

use figment::value::{Dict, Value};

use crate::expr::Run;
use crate::extract::{Parts, Report, dotted};
use crate::fault::Fault;
use crate::sections::builders::Builder;
use crate::sections::steps::{ExitCode, ResultName, ShellStep, Step, StepAction};

/// Warns of what has no effect in builders.
pub(crate) fn check(parts: &Parts, report: &mut Report<'_>) {
    for (name, builder) in &parts.builders {
        let steps = ["builders".to_owned(), name.clone(), "steps".to_owned()];
        for (index, it) in builder.steps.iter().enumerate() {
            let at = [steps.as_slice(), &[index.to_string()]].concat();
            times(&at, it, builder, report);
            results(&at, it, report);
        }
        after_the_end(&steps, builder, report);
    }
}

/// Warns of parameters that no text of a recipe speaks of.
pub(crate) fn unused_parameters<'a>(
    names: impl Iterator<Item = &'a String>,
    body: &Dict,
    at: &[String],
    report: &mut Report<'_>,
) {
    let mut texts = Vec::new();
    body.values().for_each(|it| collect_texts(it, &mut texts));
    let names: Vec<(&String, String)> = names.map(|it| (it, it.replace('-', "_"))).collect();
    let spoken: Vec<&str> = texts.iter().flat_map(|it| spoken(it)).collect();
    // The whole of `param` may be any of them; a name that is none of them was to be one.
    if spoken.iter().any(|it| !names.iter().any(|(_, name)| name == it)) {
        return;
    }
    for (name, member) in names.iter().filter(|(_, it)| !spoken.contains(&it.as_str())) {
        let fault = Fault::warning("unused", format!("the recipe never speaks of its parameter `{name}`"));
        let at = [at, &["parameters".to_owned(), (*name).clone()]].concat();
        report.push(&at, true, fault.help(format!("write ${{{{ param.{member} }}}} where it counts")));
    }
}

/// The names behind `param.` in a text; empty where `param` is used otherwise.
fn spoken(text: &str) -> Vec<&str> {
    let found = text.match_indices("param").map(|(at, it)| {
        let rest = text[at + it.len()..].strip_prefix('.').unwrap_or_default();
        &rest[..rest.find(|it: char| !it.is_ascii_alphanumeric() && it != '_').unwrap_or(rest.len())]
    });
    found.collect()
}

/// All texts in a value.
fn collect_texts<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(_, text) => into.push(text),
        Value::Dict(_, table) => table.values().for_each(|it| collect_texts(it, into)),
        Value::Array(_, list) => list.iter().for_each(|it| collect_texts(it, into)),
        _ => {}
    }
}

fn key(at: &[String], name: &str) -> Vec<String> {
    [at, &[name.to_owned()]].concat()
}

/// Times that others cut short.
fn times(at: &[String], step: &Step, builder: &Builder, report: &mut Report<'_>) {
    let options = &step.options;
    let timeout = key(at, "timeout");
    if let (Some(quiet), Some(whole)) = (options.timeout, options.max_time)
        && quiet >= whole
        && report.is_set(&timeout)
    {
        let message = format!("`timeout` ({quiet}) never passes before `max-time` ({whole}) does");
        report.push(&timeout, false, Fault::warning("no-effect", message).help("leave one of them out"));
    }
    if let (Some(step), Some(build)) = (options.max_time, builder.options.max_time)
        && step > build
    {
        let message = format!("the whole build may take {build} only");
        let place = report.place(&key(&at[..2], "max-time"), false);
        let fault = Fault::warning("no-effect", message).note("the builder's `max-time`", place);
        report.push(&key(at, "max-time"), false, fault);
    }
}

/// Flags about results that the step cannot have, or that another flag decides.
fn results(at: &[String], step: &Step, report: &mut Report<'_>) {
    let options = &step.options;
    if options.warn_on_failure && options.flunk_on_failure {
        let fault = Fault::warning(
            "no-effect",
            "`flunk-on-failure` decides first, and is true unless it says otherwise",
        );
        let help = "add flunk-on-failure = false for a step whose failure is a warning only";
        report.push(&key(at, "warn-on-failure"), false, fault.help(help));
    }
    let warns = match &step.action {
        StepAction::Shell(it) => {
            it.warnings.is_some() || it.decode_rc.values().any(|it| *it == ResultName::Warnings)
        }
        _ => false,
    };
    for (name, on) in
        [("flunk-on-warnings", options.flunk_on_warnings), ("warn-on-warnings", options.warn_on_warnings)]
    {
        if on && !warns {
            let fault = Fault::warning("no-effect", "this step never ends with warnings");
            let help = "add warnings = 'REGEX' for the lines of output that are warnings, or decode-rc for exit codes";
            report.push(&key(at, name), false, fault.help(help));
        }
    }
}

/// Steps behind one that always ends the build.
fn after_the_end(steps: &[String], builder: &Builder, report: &mut Report<'_>) {
    let Some(end) = builder.steps.iter().position(|it| it.halts_on_failure() && always_fails(it)) else {
        return;
    };
    let later = builder.steps.iter().enumerate().skip(end + 1);
    let Some((dead, _)) = later.into_iter().find(|(_, it)| !it.options.always_run) else { return };
    let place = report.place(&key(steps, &end.to_string()), true);
    let step = dotted(&key(steps, &end.to_string()));
    let fault = Fault::warning("unreachable", "this step never runs")
        .note(format!("`{step}` always fails and ends the build (halt-on-failure)"), place)
        .help("give it always-run = true, or let the step before it go on");
    report.push(&key(steps, &dead.to_string()), true, fault);
}

fn always_fails(step: &Step) -> bool {
    let StepAction::Shell(shell) = &step.action else { return false };
    match exit_code(&shell.run) {
        Some(0) => result_of(shell, 0).is_some_and(is_failure),
        Some(code) => result_of(shell, code).is_none_or(is_failure),
        None => false,
    }
}

/// The exit code of a command that can have one only.
fn exit_code(run: &Run) -> Option<i32> {
    let words: Vec<&str> = match run {
        Run::Script(it) => it.source().split_whitespace().collect(),
        Run::Argv(it) => it.source(),
    };
    match (run, words.as_slice()) {
        (_, ["false" | "/bin/false"]) => Some(1),
        (_, ["true" | "/bin/true"]) | (Run::Script(_), [":"]) => Some(0),
        (Run::Script(_), ["exit", code]) => code.parse().ok().filter(|it| (0..256).contains(it)),
        _ => None,
    }
}

fn result_of(shell: &ShellStep, code: i32) -> Option<ResultName> {
    shell.decode_rc.get(&ExitCode(code)).copied()
}

fn is_failure(result: ResultName) -> bool {
    matches!(result, ResultName::Failure | ResultName::Exception)
}
