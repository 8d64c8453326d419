//! Warnings about what never meets: changes and the schedulers that wait for them, patterns and the names they are held against.

use crate::expr::Expr;
use crate::extract::{Parts, Report};
use crate::fault::{Fault, Note};
use crate::globs::may_overlap;
use crate::sections::change_sources::{ChangeSource, GitPoller};
use crate::sections::schedulers::{ChangeScheduler, Filter, Scheduler};
use crate::values::Patterns;

/// The most change sources that one warning names.
const MAX_NOTES: usize = 3;

/// Warns of filters, sources and schedulers that nothing can pass between.
pub(crate) fn check(parts: &Parts, report: &mut Report<'_>) {
    for (name, source) in &parts.change_sources {
        let ChangeSource::GitPoller(poller) = source;
        patterns(&path(&["change-sources", name, "branches"]), "branch", Some(&poller.branches), report);
    }
    for (name, scheduler) in followers(parts) {
        for (field, wanted) in fields(&scheduler.filter) {
            patterns(&path(&["schedulers", name, "filter", field]), field, wanted, report);
        }
        files(name, &scheduler.filter, report);
        condition(name, &scheduler.filter, report);
    }
    changes(parts, report);
}

fn path(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|it| (*it).to_owned()).collect()
}

/// The schedulers that follow changes.
fn followers(parts: &Parts) -> impl Iterator<Item = (&str, &ChangeScheduler)> {
    parts.schedulers.iter().filter_map(|(name, it)| match it {
        Scheduler::SingleBranch(it) | Scheduler::AnyBranch(it) => Some((name.as_str(), it)),
        _ => None,
    })
}

/// The fields of a filter that are globs over one text each.
fn fields(filter: &Filter) -> [(&'static str, Option<&Patterns>); 5] {
    [
        ("branch", filter.branch.as_ref()),
        ("repository", filter.repository.as_ref()),
        ("project", filter.project.as_ref()),
        ("codebase", filter.codebase.as_ref()),
        ("category", filter.category.as_ref()),
    ]
}

/// Patterns that match nothing by themselves.
fn patterns(at: &[String], field: &str, patterns: Option<&Patterns>, report: &mut Report<'_>) {
    let Some(patterns) = patterns else { return };
    let globs = patterns.source();
    if globs.is_empty() {
        let fault = Fault::warning("never-matches", "an empty list matches nothing");
        return report.push(at, false, fault.help("leave it out to match everything"));
    }
    for (index, glob) in globs.iter().enumerate() {
        let fault = if let Some(rest) = glob.strip_prefix('!') {
            let fault =
                Fault::warning("never-matches", "a `!` negates nothing here: it is taken as a character");
            fault.help(format!("name what counts instead; `{rest}` alone matches what this was to leave out"))
        } else if let Some(short) = glob.strip_prefix("refs/heads/").filter(|_| field == "branch") {
            let fault = Fault::warning("never-matches", "branches are named without `refs/heads/`");
            fault.help(format!("write \"{short}\""))
        } else {
            continue;
        };
        report.push(&element(at, index, report), false, fault);
    }
}

/// The path of an element, or of the value itself where it is no list.
fn element(at: &[String], index: usize, report: &Report<'_>) -> Vec<String> {
    let element = [at, &[index.to_string()]].concat();
    if report.is_set(&element) { element } else { at.to_vec() }
}

/// File patterns that no path of a changed file looks like.
fn files(name: &str, filter: &Filter, report: &mut Report<'_>) {
    let Some(files) = &filter.files else { return };
    let at = path(&["schedulers", name, "filter", "files"]);
    if files.source().is_empty() {
        let fault = Fault::warning("never-matches", "an empty list matches nothing");
        return report.push(&at, false, fault.help("leave it out to match everything"));
    }
    for (index, glob) in files.source().iter().enumerate() {
        let (message, help) = if let Some(rest) = glob.strip_prefix("./").or(glob.strip_prefix('/')) {
            (
                "changed files are named from the top of the repository, without `/` or `./`",
                format!("write \"{rest}\""),
            )
        } else if glob.ends_with('/') {
            ("a directory is no changed file", format!("write \"{glob}**\" for everything in it"))
        } else if let Some(rest) = glob.strip_prefix('!') {
            let help =
                format!("name what counts instead; \"{rest}\" alone matches what this was to leave out");
            ("a `!` negates nothing here: it is taken as a character", help)
        } else {
            continue;
        };
        let fault = Fault::warning("never-matches", message).help(help);
        report.push(&element(&at, index, report), false, fault);
    }
}

/// A condition that is the same for every change.
fn condition(name: &str, filter: &Filter, report: &mut Report<'_>) {
    let Some(always) = filter.condition.as_ref().and_then(Expr::always) else { return };
    let fault = match always {
        Ok(true) => {
            let message = "this condition says nothing of the change, and is always true";
            Fault::warning("no-effect", message).help("leave it out")
        }
        Ok(false) => {
            let message = "this condition says nothing of the change, and is never true";
            let help = "write enabled = false in the scheduler to switch it off";
            Fault::warning("never-matches", message).help(help)
        }
        Err(error) => Fault::warning("never-matches", format!("this condition always fails: {error}")),
    };
    report.push(&path(&["schedulers", name, "filter", "condition"]), false, fault);
}

/// Whether a source's changes can have what a field of a filter wants.
fn may_have(poller: &GitPoller, field: &str, wanted: Option<&Patterns>) -> bool {
    let Some(wanted) = wanted else { return true };
    match field {
        "branch" => may_overlap(&poller.branches, wanted),
        "repository" => wanted.matches(&poller.repository),
        "project" => wanted.matches(&poller.project),
        "codebase" => wanted.matches(&poller.codebase),
        _ => wanted.matches(poller.category.as_deref().unwrap_or("")),
    }
}

fn may_pass(poller: &GitPoller, filter: &Filter) -> bool {
    fields(filter).into_iter().all(|(field, wanted)| may_have(poller, field, wanted))
}

/// Which changes reach which schedulers. Says nothing where a part could not be read, or where a hook lets in any change.
fn changes(parts: &Parts, report: &mut Report<'_>) {
    let complete = |section: &str, read: usize| parts.names.get(section).map_or(0, |it| it.len()) == read;
    let hooks = parts.www.as_ref().is_none_or(|it| !it.change_hooks.is_empty());
    if !complete("change-sources", parts.change_sources.len())
        || !complete("schedulers", parts.schedulers.len())
    {
        return;
    }
    for (name, scheduler) in followers(parts).filter(|_| !hooks) {
        unreached(name, scheduler, parts, report);
    }
    for (name, source) in &parts.change_sources {
        let ChangeSource::GitPoller(poller) = source;
        if !followers(parts).any(|(_, it)| may_pass(poller, &it.filter)) {
            let fault = Fault::warning("unused", format!("no scheduler follows the changes of `{name}`"));
            let fault = fault.help(
                "add a scheduler of kind \"any-branch\" or \"single-branch\" whose filter lets them pass",
            );
            report.push(&path(&["change-sources", name]), true, fault);
        }
    }
}

/// Warns when no change can come to a scheduler, at what keeps them out.
fn unreached(name: &str, scheduler: &ChangeScheduler, parts: &Parts, report: &mut Report<'_>) {
    let pollers: Vec<(&str, &GitPoller)> = parts
        .change_sources
        .iter()
        .map(|(name, ChangeSource::GitPoller(poller))| (name.as_str(), poller))
        .collect();
    if pollers.is_empty() {
        let fault =
            Fault::warning("unreachable", format!("nothing brings changes to the scheduler `{name}`"));
        let help = "add a [change-sources.NAME], or let changes in by [www] change-hooks = [\"base\"]";
        return report.push(&path(&["schedulers", name]), true, fault.help(help));
    }
    if pollers.iter().any(|(_, it)| may_pass(it, &scheduler.filter)) {
        return;
    }
    let filter = path(&["schedulers", name, "filter"]);
    let all_out = |(field, wanted): &(&'static str, Option<&Patterns>)| {
        !pollers.iter().any(|(_, it)| may_have(it, field, *wanted))
    };
    let (at, mut fault, field) = match fields(&scheduler.filter).into_iter().find(all_out) {
        // Said already, where the list stands.
        Some((_, Some(wanted))) if wanted.source().is_empty() => return,
        Some((field, _)) => {
            let message = format!("no change source brings changes with this {field}");
            (
                [filter.as_slice(), &[field.to_owned()]].concat(),
                Fault::warning("never-matches", message),
                field,
            )
        }
        None => {
            let message = "no change source brings changes that pass the whole filter";
            (filter, Fault::warning("never-matches", message), "")
        }
    };
    for (source, poller) in pollers.iter().take(MAX_NOTES) {
        fault.notes.push(what_it_brings(source, poller, field, report));
    }
    if pollers.len() > MAX_NOTES {
        fault = fault.note(format!("and {} more change sources", pollers.len() - MAX_NOTES), None);
    }
    report.push(&at, false, fault);
}

/// What a source's changes have in a field, with the place that says it.
fn what_it_brings(name: &str, poller: &GitPoller, field: &str, report: &Report<'_>) -> Note {
    let (key, value) = match field {
        "branch" => ("branches", format!("follows the branches {}", list(poller.branches.source()))),
        "repository" => ("repository", format!("polls the repository \"{}\"", poller.repository)),
        "project" => ("project", format!("gives the project \"{}\"", poller.project)),
        "codebase" => ("codebase", format!("gives the codebase \"{}\"", poller.codebase)),
        "category" => {
            ("category", format!("gives the category \"{}\"", poller.category.as_deref().unwrap_or("")))
        }
        _ => ("", "brings other changes".to_owned()),
    };
    let at = path(&["change-sources", name, key]);
    let place = if report.is_set(&at) { report.place(&at, false) } else { report.place(&at[..2], true) };
    Note { message: format!("`{name}` {value}"), place }
}

fn list(globs: &[String]) -> String {
    globs.iter().map(|it| format!("\"{it}\"")).collect::<Vec<_>>().join(", ")
}
