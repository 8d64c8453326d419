//! Warnings about notifiers: keys that change nothing for what they tell and how, and filters that nothing passes.

use std::collections::BTreeSet;

use crate::extract::{Parts, Report};
use crate::fault::{Fault, suggest};
use crate::sections::notifiers::{
    CommitStatus, Irc, Mail, Mode, Notifier, NotifierKind, Per, Relay, Sasl, Security, Webhook,
};
use crate::values::Patterns;

/// Warns of what has no effect in notifiers.
pub(crate) fn check(parts: &Parts, report: &mut Report<'_>) {
    let names = Names::of(parts);
    for (name, notifier) in &parts.notifiers {
        let at = ["notifiers".to_owned(), name.clone()];
        for (key, why, help) in without_effect(notifier) {
            let at = [at.as_slice(), &[key.to_owned()]].concat();
            // Defaults are nobody's mistake.
            if report.is_set(&at) {
                let fault = Fault::warning("no-effect", format!("`{key}` changes nothing here: {why}"));
                report.push(&at, true, fault.help(help));
            }
        }
        let options = &notifier.options;
        never(&at, "builders", "builder", Some(&options.builders), names.builders.as_ref(), report);
        never(&at, "tags", "builder with the tag", options.tags.as_ref(), names.tags.as_ref(), report);
        never(&at, "schedulers", "scheduler", options.schedulers.as_ref(), names.schedulers.as_ref(), report);
        branches(&at, options.branches.as_ref(), report);
    }
}

/// Key, why it has no effect, and help. Keys that are not written may be among them.
type Unused = (&'static str, &'static str, &'static str);

fn without_effect(notifier: &Notifier) -> Vec<Unused> {
    let mut unused = told(notifier);
    match &notifier.kind {
        NotifierKind::Irc(it) => unused.extend(irc(it)),
        NotifierKind::Mail(it) => unused.extend(mail(it)),
        NotifierKind::Webhook(it) => unused.extend(webhook(it)),
        NotifierKind::GithubStatus(it) | NotifierKind::GitlabStatus(it) | NotifierKind::GiteaStatus(it) => {
            unused.extend(commit_status(it));
        }
    }
    unused
}

/// Keys that depend on what is told.
fn told(notifier: &Notifier) -> Vec<Unused> {
    let modes = notifier.modes();
    // People may ask for more by chat.
    let open = matches!(&notifier.kind, NotifierKind::Irc(it) if it.commands);
    let any = |wanted: &[Mode]| open || modes.iter().any(|it| wanted.contains(it));
    let mut unused = Vec::new();
    if modes.is_empty() && !open && notifier.options.worker_missing.is_none() {
        unused.push(("modes", "no build is told of", "name what is to be told, such as \"failing\""));
    }
    let bad = [Mode::Failing, Mode::Problem, Mode::Change, Mode::Exception, Mode::Cancelled, Mode::All];
    if !any(&bad) {
        unused.push((
            "settle",
            "it is about failures, and none is told",
            "leave it out, or add a mode such as \"failing\"",
        ));
    }
    if notifier.options.per == Per::Buildset {
        unused.push((
            "repeats",
            "messages about buildsets are not held against the one before",
            "leave it out",
        ));
    } else if modes.contains(&Mode::All) {
        unused.push((
            "repeats",
            "the mode `all` tells every end",
            "leave it out, or name the modes one by one",
        ));
    } else if !any(&[Mode::Failing]) {
        let why = "only the mode `failing` tells of a failure like the one before";
        unused.push(("repeats", why, "leave it out, or add the mode \"failing\""));
    }
    unused
}

fn irc(irc: &Irc) -> Vec<Unused> {
    let mut unused = Vec::new();
    if !irc.commands {
        unused.push(("authz", "no commands are taken", "leave it out, or remove commands = false"));
    }
    if !irc.uses_nickserv() {
        let help = "leave it out, or give account-password and no sasl";
        unused.push(("nickserv", "nothing is said to it", help));
    }
    if irc.sasl == Sasl::None && irc.account_password.is_none() {
        unused.push(("account", "there is no way to log in", "add account-password or sasl"));
    }
    if irc.sasl == Sasl::External {
        unused.push(("account-password", "the certificate proves who we are", "leave it out"));
    }
    unused
}

fn mail(mail: &Mail) -> Vec<Unused> {
    let mut unused = Vec::new();
    if !mail.attach_log {
        unused.push(("attach-limit", "no log is attached", "add attach-log = true"));
    }
    if !matches!(&mail.relay, Relay::Smtp(it) if it.security != Security::None) {
        unused.push(("tls-ca", NO_TLS, "use smtp+starttls:// or smtps://"));
    }
    unused
}

const NO_TLS: &str = "the connection is not encrypted";

fn webhook(webhook: &Webhook) -> Vec<Unused> {
    let plain = webhook.url.expose().starts_with("http://");
    plain.then_some(("tls-ca", NO_TLS, "use an https:// url")).into_iter().collect()
}

fn commit_status(status: &CommitStatus) -> Vec<Unused> {
    let alone = "each state is set for itself, as soon as it is known";
    let mut unused = vec![
        ("digest", alone, "leave it out"),
        ("max-per-minute", alone, "leave it out"),
        ("worker-missing", "a worker has no commit to stand beside", "tell of it by mail or chat"),
    ];
    if status.base_url.as_ref().is_some_and(|it| it.as_str().starts_with("http://")) {
        unused.push(("tls-ca", NO_TLS, "use an https:// url"));
    }
    unused
}

/// What filters can name; none where something is not known, since it has faults.
struct Names {
    builders: Option<BTreeSet<String>>,
    tags: Option<BTreeSet<String>>,
    schedulers: Option<BTreeSet<String>>,
}

impl Names {
    fn of(parts: &Parts) -> Self {
        let named = |section: &str| {
            let names = parts.names.get(section).into_iter().flatten();
            let absent = parts.absent.get(section).into_iter().flatten();
            names.chain(absent).cloned().collect::<BTreeSet<String>>()
        };
        let builders = named("builders");
        let whole = parts.broken.is_empty();
        let read = whole && builders.len() == parts.builders.len();
        let tags = || parts.builders.values().flat_map(|it| it.options.tags.iter().cloned()).collect();
        Names {
            tags: read.then(tags),
            builders: whole.then_some(builders),
            schedulers: Some(named("schedulers")),
        }
    }
}

/// Patterns of which one matches none of the names.
fn never(
    at: &[String],
    key: &str,
    what: &str,
    patterns: Option<&Patterns>,
    names: Option<&BTreeSet<String>>,
    report: &mut Report<'_>,
) {
    let (Some(patterns), Some(names)) = (patterns, names) else { return };
    let at = [at, &[key.to_owned()]].concat();
    if patterns.source().is_empty() {
        return empty(&at, report);
    }
    for (index, glob) in patterns.source().iter().enumerate() {
        let alone = Patterns::parse(vec![glob.clone()]);
        if alone.is_ok_and(|it| !it.is_any() && !names.iter().any(|name| it.matches(name))) {
            let fault = Fault::warning("never-matches", format!("there is no {what} `{glob}`"));
            let fault = fault.help(suggest(glob, names.iter().map(String::as_str)));
            report.push(&element(&at, index, report), false, fault);
        }
    }
}

fn empty(at: &[String], report: &mut Report<'_>) {
    let fault = Fault::warning("never-matches", "an empty list matches nothing");
    report.push(at, false, fault.help("leave it out to match everything"));
}

fn branches(at: &[String], patterns: Option<&Patterns>, report: &mut Report<'_>) {
    let Some(patterns) = patterns else { return };
    let at = [at, &["branches".to_owned()]].concat();
    if patterns.source().is_empty() {
        return empty(&at, report);
    }
    for (index, glob) in patterns.source().iter().enumerate() {
        if let Some(short) = glob.strip_prefix("refs/heads/") {
            let fault = Fault::warning("never-matches", "branches are named without `refs/heads/`");
            report.push(&element(&at, index, report), false, fault.help(format!("write \"{short}\"")));
        }
    }
}

/// The path of an element, or of the value itself where it is no list.
fn element(at: &[String], index: usize, report: &Report<'_>) -> Vec<String> {
    let element = [at, &[index.to_string()]].concat();
    if report.is_set(&element) { element } else { at.to_vec() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::load_text;

    const WHOLE: &str = "
[workers.local]
kind = 'local'
[schedulers.by-hand]
kind = 'force'
builders = '*'
[builders.linux]
tags = ['quick']
[[builders.linux.steps]]
run = 'true'
";

    /// The keys and words of what a notifier with these lines is warned of.
    fn warnings(notifier: &str) -> Vec<String> {
        let text = format!("[notifiers.it]\n{notifier}\n{WHOLE}");
        let loaded =
            load_text(&text, Path::new("/srv/ci")).unwrap_or_else(|faults| panic!("{text}\n{faults}"));
        loaded.warnings.iter().map(|it| format!("{} {}: {}", it.key, it.code, it.message)).collect()
    }

    #[track_caller]
    fn no_effect(notifier: &str, keys: &[&str]) {
        let wanted: Vec<String> = keys
            .iter()
            .map(|it| format!("notifiers.it.{it} no-effect: `{it}` changes nothing here"))
            .collect();
        let found = warnings(notifier);
        let found: Vec<&str> =
            found.iter().map(|it| it.rsplit_once(": ").map_or("", |(before, _)| before)).collect();
        assert_eq!(found, wanted, "{notifier}");
    }

    const GITHUB: &str = "kind = 'github-status'\ntoken = 't0ken-t0ken'\n";
    const HOOK: &str = "kind = 'webhook'\nurl = 'http://x.org/h'\n";
    const MAIL: &str = "kind = 'mail'\nrelay = 'smtp://127.0.0.1'\nfrom = 'a@x.org'\nto = ['b@x.org']\n";
    const IRC: &str = "kind = 'irc'\nserver = 'x.org'\nnick = 'bot'\nchannels = ['#c']\n";

    #[test]
    fn what_is_meant_is_not_warned_of() {
        for fine in [
            &format!("{GITHUB}settle = '1m'"),
            &format!("{HOOK}digest = '1m'\nmodes = 'failing'\nrepeats = false\nsettle = '1m'"),
            &format!("{MAIL}attach-log = true\nattach-limit = '1KiB'\nrepeats = true\nmodes = ['failing']"),
            &format!(
                "{IRC}modes = []\nsettle = '1m'\nrepeats = true\naccount-password = 'sesame'\nnickserv = 'N@x'\naccount = 'a'"
            ),
            &format!(
                "{HOOK}builders = ['lin*', '*']\ntags = 'q*'\nschedulers = 'by-hand'\nbranches = ['main']"
            ),
        ] {
            assert_eq!(warnings(fine), Vec::<String>::new(), "{fine}");
        }
    }

    #[test]
    fn keys_that_change_nothing_are_warned_of() {
        no_effect(
            &format!("{GITHUB}digest = '1m'\nmax-per-minute = 3\nworker-missing = '1h'\nrepeats = true"),
            &["digest", "max-per-minute", "worker-missing", "repeats"],
        );
        no_effect(
            &format!("{HOOK}modes = ['passing']\nsettle = '1m'\nrepeats = true"),
            &["settle", "repeats"],
        );
        no_effect(&format!("{HOOK}modes = []"), &["modes"]);
        no_effect(&format!("{MAIL}repeats = true"), &["repeats"]);
        no_effect(&format!("{MAIL}modes = 'failing'\nper = 'buildset'\nrepeats = true"), &["repeats"]);
        no_effect(
            &format!("{MAIL}attach-limit = '1KiB'\ntls-ca = 'Cargo.toml'"),
            &["attach-limit", "tls-ca"],
        );
        no_effect(&format!("{HOOK}tls-ca = 'x.pem'"), &["tls-ca"]);
        no_effect(
            &format!(
                "{IRC}account = 'bot'\nnickserv = 'N'\ncommands = false\nauthz = {{ 'account:a' = ['force'] }}"
            ),
            &["account", "nickserv", "authz"],
        );
    }

    #[test]
    fn filters_that_nothing_passes_are_warned_of() {
        let filters = "builders = ['linux', 'windows*']\ntags = 'slow'\nschedulers = ['nightly']\nbranches = ['refs/heads/main']";
        assert_eq!(
            warnings(&format!("{HOOK}{filters}")),
            [
                "notifiers.it.builders[1] never-matches: there is no builder `windows*`",
                "notifiers.it.tags never-matches: there is no builder with the tag `slow`",
                "notifiers.it.schedulers[0] never-matches: there is no scheduler `nightly`",
                "notifiers.it.branches[0] never-matches: branches are named without `refs/heads/`",
            ]
        );
        assert_eq!(
            warnings(&format!("{HOOK}builders = []")),
            ["notifiers.it.builders never-matches: an empty list matches nothing"]
        );
    }
}
