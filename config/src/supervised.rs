//! What `[supervision]` can name: the kinds of actors, their names, the supervisors. And what it may say about them.
//!
//! A test of the program holds this against the running tree. A new kind of actor is a line in [`KINDS`], a new
//! supervisor one in [`SUPERVISORS`].

use crate::extract::{Parts, Report};
use crate::fault::{Fault, did_you_mean, suggest};
use crate::sections::supervision::{Backoff, PolicyPatch, Restart, Strategy, Supervision};
use crate::sections::workers::WorkerKind;
use crate::values::Duration;

/// A kind of actor.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// As in `[supervision.kinds]`.
    pub kind: &'static str,
    /// What actors of the kind are called; `*` stands for the rest of the name.
    pub names: &'static str,
    /// What `restart` may be.
    pub restarts: &'static [Restart],
    /// Why nothing else.
    why: &'static str,
}

const ALWAYS: &[Restart] = &[Restart::Permanent, Restart::Transient];
const ANY: &[Restart] = &[Restart::Permanent, Restart::Transient, Restart::Temporary];

const fn vital(kind: &'static str, names: &'static str, why: &'static str) -> Kind {
    Kind { kind, names, restarts: ALWAYS, why }
}

const fn free(kind: &'static str, names: &'static str) -> Kind {
    Kind { kind, names, restarts: ANY, why: "" }
}

/// All kinds of actors.
#[rustfmt::skip]
pub const KINDS: &[Kind] = &[
    vital("broker",           "broker",           "without it events come a second late for ever"),
    vital("db-writer",        "db-writer",        "without it nothing can be stored"),
    vital("db-reader",        "db-reader",        "without it nothing can be read"),
    vital("log-writer",       "log-writer",       "without it no log is stored"),
    vital("log-reader",       "log-reader",       "without it no log can be read"),
    vital("data",             "data",             "without it nobody hears of any event"),
    vital("hub",              "hub/*",            "without it nobody who subscribed there hears of any event"),
    vital("worker-directory", "worker-directory", "without it no worker can connect"),
    Kind { kind: "worker-session", names: "session/*", restarts: &[Restart::Temporary],
           why: "a session ends with its connection; the worker connects again" },
    free("local-worker",      "local-worker/*"),
    Kind { kind: "build", names: "build/*", restarts: &[Restart::Transient],
           why: "a build is born again until it has ended, and not after that" },
    vital("builder",          "builder/*",        "without it nothing can be asked of its builds"),
    vital("distributor",      "distributor",      "without it no build begins"),
    free("single-branch-scheduler", "scheduler/*"),
    free("any-branch-scheduler",    "scheduler/*"),
    free("force-scheduler",         "scheduler/*"),
    free("git-poller",        "change-source/*"),
    free("bus-link", "bus-link"),
    vital("control-desk",     "control-desk",     "without it nothing that a user asks for is done"),
    vital("takeover",         "takeover",         "without it the builds of a master that dies stay as they are"),
    vital("configurator",     "configurator",     "without it the configuration cannot be changed"),
    vital("janitor",          "janitor",          "without it the database grows for ever"),
    free("listener",          "listener/*"),
    free("notifier",          "notifier/*"),
    free("irc-connection",    "irc/*"),
];

/// A supervisor's name, and whether it declares a group, so that it takes a `strategy`.
pub const SUPERVISORS: &[(&str, bool)] = &[
    ("root", true),
    ("data-layer", true),
    ("hubs/*", false),
    ("edge", false),
    ("link", true),
    ("directory", false),
    ("sessions", false),
    ("local-workers", false),
    ("process", true),
    ("builds", false),
    ("builders", true),
    ("schedulers", false),
    ("change-sources", false),
    ("listeners", false),
    ("notifiers", false),
    ("notifiers/*", false),
];

/// The kind that supervisors have.
const SUPERVISOR: &str = "supervisor";
/// An actor that waits for the database says so at least this often; with less patience it would be ended for that.
const LEAST_PATIENCE_US: u64 = 15_000_000;

/// What a key of `kinds` or `names` is about.
#[derive(Clone, Copy)]
enum About {
    Actor(&'static Kind),
    /// With or without a group. All supervisors count as with.
    Supervisor {
        group: bool,
    },
}

/// `did you mean …?`, if one of these names is near.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    did_you_mean(name, known)
}

/// Checks the section.
pub(crate) fn check(parts: &Parts, report: &mut Report<'_>) {
    let Some(it) = &parts.supervision else { return };
    defaults(it, report);
    for (kind, patch) in &it.kinds {
        let at = ["kinds", kind.as_str()];
        match KINDS.iter().find(|it| it.kind == kind) {
            _ if kind == SUPERVISOR => patched(&at, About::Supervisor { group: true }, patch, it, report),
            Some(known) => patched(&at, About::Actor(known), patch, it, report),
            None => {
                let known = KINDS.iter().map(|it| it.kind).chain([SUPERVISOR]);
                let fault =
                    Fault::error("unknown-kind", format!("there is no kind of actor called `{kind}`"));
                report.push(&path(&at), true, fault.help(suggest(kind, known)));
            }
        }
    }
    for (name, patch) in &it.names {
        let at = ["names", name.as_str()];
        let Some(about) = about(name) else {
            unknown_name(name, parts, report);
            continue;
        };
        if matches!(about, About::Actor(_)) {
            unconfigured(name, parts, report);
        }
        patched(&at, about, patch, it, report);
    }
}

fn path(below: &[&str]) -> Vec<String> {
    ["supervision"].iter().chain(below).map(|it| (*it).to_owned()).collect()
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
        None => pattern == name,
    }
}

/// What is called so. Schedulers of all kinds are called alike, and may be restarted alike.
fn about(name: &str) -> Option<About> {
    let supervisor = SUPERVISORS.iter().find(|(pattern, _)| fits(pattern, name));
    let actor = || KINDS.iter().find(|it| fits(it.names, name)).map(About::Actor);
    supervisor.map(|(_, group)| About::Supervisor { group: *group }).or_else(actor)
}

/// The names that the configuration gives rise to, as far as they are known beforehand.
fn names(parts: &Parts) -> Vec<String> {
    let fixed = KINDS.iter().map(|it| it.names).chain(SUPERVISORS.iter().map(|(name, _)| *name));
    let mut names: Vec<String> = fixed.filter(|it| !it.contains('*')).map(str::to_owned).collect();
    names.push("hub/actors".to_owned());
    for (table, prefix) in FROM_TABLES {
        let starts = |it: &&String| *prefix != LOCAL || is_local(parts, it);
        let of = parts.names.get(table).into_iter().flatten().filter(starts);
        names.extend(of.map(|it| format!("{prefix}{it}")));
    }
    names
}

const LOCAL: &str = "local-worker/";

/// Whether the worker is one that the master starts, or could not be read.
fn is_local(parts: &Parts, worker: &str) -> bool {
    parts.workers.get(worker).is_none_or(|it| it.kind == WorkerKind::Local)
}

/// Tables whose names become the names of actors.
const FROM_TABLES: &[(&str, &str)] = &[
    ("workers", "session/"),
    ("workers", LOCAL),
    ("builders", "builder/"),
    ("schedulers", "scheduler/"),
    ("change-sources", "change-source/"),
    ("notifiers", "notifier/"),
    ("notifiers", "irc/"),
];

fn unknown_name(name: &str, parts: &Parts, report: &mut Report<'_>) {
    let known = names(parts);
    let help = did_you_mean(name, known.iter().map(String::as_str)).unwrap_or_else(|| {
        let patterns: Vec<_> = KINDS.iter().map(|it| it.names).filter(|it| it.contains('*')).collect();
        format!("actors are called as on the page of actors: {}, …", patterns.join(", "))
    });
    let fault = Fault::error("unknown-name", format!("no actor is ever called `{name}`"));
    report.push(&path(&["names", name]), true, fault.help(help));
}

/// Warns of an actor of something that is not configured.
fn unconfigured(name: &str, parts: &Parts, report: &mut Report<'_>) {
    let Some((table, prefix)) = FROM_TABLES.iter().find(|(_, prefix)| name.starts_with(prefix)) else {
        return;
    };
    let of = &name[prefix.len()..];
    let there = parts.names.get(table).is_some_and(|it| it.contains(of));
    let remote =
        *prefix == "local-worker/" && parts.workers.get(of).is_some_and(|it| it.kind != WorkerKind::Local);
    if there && !remote {
        return;
    }
    let known = names(parts);
    let like = known.iter().map(String::as_str).filter(|it| it.starts_with(prefix));
    let message = match remote {
        true => format!("the worker `{of}` is not local: no `{name}` is ever started"),
        false => format!("`{name}` never lives: there is no `{of}` in [{table}]"),
    };
    let help = did_you_mean(name, like.filter(|it| *it != name)).unwrap_or_default();
    report.push(&path(&["names", name]), true, Fault::warning("unknown-name", message).help(help));
}

fn defaults(it: &Supervision, report: &mut Report<'_>) {
    if it.restart == Restart::Temporary {
        let message =
            "with this as the default, actors that the master cannot do without would not come back";
        let help = "say it for those that you mean: [supervision.kinds.git-poller]";
        report.push(&path(&["restart"]), false, Fault::error("vital-actor", message).help(help));
    }
    times(&[], Some(it.period), Some(it.hang_after), Some(it.backoff), report);
}

fn times(
    at: &[&str],
    period: Option<Duration>,
    hang_after: Option<Duration>,
    backoff: Option<Backoff>,
    report: &mut Report<'_>,
) {
    let key = |name| path(&[at, &[name]].concat());
    let zero = |it: Option<Duration>| it.is_some_and(|it| it.as_micros() == 0);
    if zero(period) {
        let fault = Fault::error("bad-value", "it cannot be zero: nothing would ever be counted");
        report.push(&key("period"), false, fault.help("intensity = 0 lets nothing be restarted"));
    }
    if zero(hang_after) {
        let fault = Fault::error("bad-value", "it cannot be zero: every actor would count as hung");
        report.push(&key("hang-after"), false, fault);
    } else if let Some(it) = hang_after.filter(|it| it.as_micros() < LEAST_PATIENCE_US) {
        let message = format!("after {it} a scheduler that waits for the database counts as hung");
        let help = "15s or more";
        report.push(&key("hang-after"), false, Fault::warning("too-short", message).help(help));
    }
    if zero(backoff.map(|it| it.max)) {
        let message = "restarts follow each other without a pause";
        report.push(&key("backoff"), false, Fault::warning("no-pause", message));
    }
}

fn patched(at: &[&str], about: About, patch: &PolicyPatch, whole: &Supervision, report: &mut Report<'_>) {
    times(at, patch.period, patch.hang_after, patch.backoff, report);
    let key = |name| path(&[at, &[name]].concat());
    let group = matches!(about, About::Supervisor { group: true });
    if patch.strategy.is_some_and(|it| it != Strategy::OneForOne) && !group {
        let of = at.last().copied().unwrap_or_default();
        let message = match about {
            About::Actor(_) => format!("`{of}` is an actor: it restarts nobody"),
            About::Supervisor { .. } => format!("the children of `{of}` do not rest on each other"),
        };
        let fault = Fault::error("no-group", message);
        report.push(&key("strategy"), false, fault.help(format!("supervisors that take it: {}", groups())));
    }
    match about {
        About::Actor(kind) => of_actor(at, kind, patch, whole, report),
        About::Supervisor { .. } => {
            let set = [
                ("restart", patch.restart.is_some()),
                ("grace", patch.grace.is_some()),
                ("hang-after", patch.hang_after.is_some()),
            ];
            for (name, _) in set.iter().filter(|(_, set)| *set) {
                let fault = Fault::warning("no-effect", format!("a supervisor has no `{name}` of its own"));
                report.push(&key(name), false, fault.help("say it of its children"));
            }
        }
    }
}

fn groups() -> String {
    let groups: Vec<_> = SUPERVISORS.iter().filter(|(_, group)| *group).map(|(name, _)| *name).collect();
    groups.join(", ")
}

fn of_actor(at: &[&str], kind: &Kind, patch: &PolicyPatch, whole: &Supervision, report: &mut Report<'_>) {
    let key = |name| path(&[at, &[name]].concat());
    if let Some(restart) = patch.restart.filter(|it| !kind.restarts.contains(it)) {
        let message = format!("`{}` cannot be {}: {}", kind.kind, word(restart), kind.why);
        let may: Vec<_> = kind.restarts.iter().map(|it| format!("\"{}\"", word(*it))).collect();
        let fault = Fault::error("vital-actor", message).help(format!("write {}", may.join(" or ")));
        report.push(&key("restart"), false, fault);
        return;
    }
    let name = if at[0] == "names" { at[1] } else { "" };
    let own = Some(kind.restarts).filter(|it| it.len() == 1).map(|it| it[0]);
    if own.unwrap_or_else(|| whole.policy(kind.kind, name).restart) != Restart::Temporary {
        return;
    }
    let set = [
        ("intensity", patch.intensity.is_some()),
        ("period", patch.period.is_some()),
        ("backoff", patch.backoff.is_some()),
    ];
    for (name, _) in set.iter().filter(|(_, set)| *set) {
        report.push(&key(name), false, Fault::warning("no-effect", "what is temporary is never restarted"));
    }
}

fn word(restart: Restart) -> &'static str {
    match restart {
        Restart::Permanent => "permanent",
        Restart::Transient => "transient",
        Restart::Temporary => "temporary",
    }
}
