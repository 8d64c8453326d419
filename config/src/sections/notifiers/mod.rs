//! `[notifiers.NAME]`: who is told of what, and how.
//!
//! Every notifier has the keys of [`NotifierOptions`], which say *what* is told, and those of its kind, which say *how*. To add a
//! kind: a file here with its struct, a variant of [`NotifierKind`], its word in `KINDS`, an arm in `extract.rs`.

mod commit_status;
mod irc;
mod mail;
mod relay;
mod samples;
mod webhook;

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

pub use commit_status::{CommitStatus, is_repository};
pub use irc::{Channel, Irc, IrcAct, Sasl};
pub use mail::{AddressRule, Mail, MailAddress, MailDomain, PersonPattern};
pub use relay::{Relay, Security, SmtpRelay};
pub use webhook::Webhook;

use crate::expr::{Expr, ExprError};
use crate::values::{Duration, Patterns, serde_fault};

/// One `[notifiers.NAME]` table.
#[derive(Clone, Debug, PartialEq)]
pub struct Notifier {
    /// What is told.
    pub options: NotifierOptions,
    /// How it is told.
    pub kind: NotifierKind,
}

/// How a notifier tells; `kind` says which.
#[derive(Clone, Debug, PartialEq)]
pub enum NotifierKind {
    /// `kind = "irc"`: announcements in channels, and commands.
    Irc(Irc),
    /// `kind = "mail"`.
    Mail(Mail),
    /// `kind = "webhook"`: a JSON request to a URL.
    Webhook(Webhook),
    /// `kind = "github-status"`.
    GithubStatus(CommitStatus),
    /// `kind = "gitlab-status"`.
    GitlabStatus(CommitStatus),
    /// `kind = "gitea-status"`: Gitea and Forgejo.
    GiteaStatus(CommitStatus),
}

impl NotifierKind {
    /// What does not fit together: the key, what is wrong with it, and help.
    pub(crate) fn faults(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        match self {
            NotifierKind::Irc(it) => it.faults(),
            NotifierKind::Mail(it) => it.faults(),
            NotifierKind::Webhook(it) => it.faults(),
            NotifierKind::GiteaStatus(it) if it.base_url.is_none() => {
                let help = "add base-url = \"https://git.example.org/\"";
                vec![("base-url", "Gitea and Forgejo run in many places, so this needs a URL", help)]
            }
            NotifierKind::GithubStatus(_) | NotifierKind::GitlabStatus(_) | NotifierKind::GiteaStatus(_) => {
                Vec::new()
            }
        }
    }
}

/// The kinds of notifier, as written in `kind`.
pub(crate) const KINDS: &[&str] =
    &["irc", "mail", "webhook", "github-status", "gitlab-status", "gitea-status"];

/// The keys that every notifier has.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NotifierOptions {
    /// Which ends of builds are told. When left out: new problems, changes and exceptions for people (`irc`, `mail`), every end for
    /// webhooks, and for commit statuses also each start.
    #[serde(deserialize_with = "modes")]
    #[schemars(with = "Option<crate::schema::forms::OneOrMore<Mode>>")]
    pub modes: Option<Vec<Mode>>,
    /// Builders by name: a glob or a list of globs. The name of a builder with a matrix stands for all that it became.
    pub builders: Patterns,
    /// Only builders with a tag that matches.
    pub tags: Option<Patterns>,
    /// Only builds of a branch that matches; a build without one counts as the empty name.
    pub branches: Option<Patterns>,
    /// Only builds that a matching scheduler asked for.
    pub schedulers: Option<Patterns>,
    /// Only builds for which this expression is true.
    #[serde(deserialize_with = "condition")]
    pub condition: Option<Expr>,
    /// Whether a message is about a build, or about all builds of a buildset together.
    pub per: Per,
    /// How long a failure must stand before it is told: a later success or a repetition within it silences the message.
    pub settle: Duration,
    /// Whether a failure like the one before it (the same builder, branch and step) is told again. When left out: not to people.
    pub repeats: Option<bool>,
    /// Collect messages for so long, then send one that sums them up.
    pub digest: Option<Duration>,
    /// When more messages than this are due within a minute, they are collected in a digest. When left out: 20 for people, and no
    /// limit for programs.
    pub max_per_minute: Option<NonZeroU32>,
    /// Tell of a configured worker that is away for so long; never when left out.
    pub worker_missing: Option<Duration>,
    /// How many messages may wait for a server that is down; more push out the oldest.
    pub queue: NonZeroU32,
    /// How long a message is tried before it is given up.
    pub give_up_after: Duration,
    /// How long one attempt to send may take.
    pub timeout: Duration,
}

impl Default for NotifierOptions {
    fn default() -> Self {
        NotifierOptions {
            modes: None,
            builders: Patterns::any(),
            tags: None,
            branches: None,
            schedulers: None,
            condition: None,
            per: Per::Build,
            settle: Duration::default(),
            repeats: None,
            digest: None,
            max_per_minute: None,
            worker_missing: None,
            queue: NonZeroU32::MIN.saturating_add(999),
            give_up_after: Duration::from_secs(24 * 3600),
            timeout: Duration::from_secs(60),
        }
    }
}

/// Which builds a notifier tells of, by their result and the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Began to run (for commit statuses and those who want to see it coming).
    Started,
    /// Failed.
    Failing,
    /// Succeeded.
    Passing,
    /// Ended with warnings.
    Warnings,
    /// Failed where the one before did not.
    Problem,
    /// Ended otherwise than the one before.
    Change,
    /// The machinery failed.
    Exception,
    /// Was stopped.
    Cancelled,
    /// Every end: failing, passing, warnings, exception and cancelled.
    All,
}

impl Mode {
    /// The word of the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Started => "started",
            Mode::Failing => "failing",
            Mode::Passing => "passing",
            Mode::Warnings => "warnings",
            Mode::Problem => "problem",
            Mode::Change => "change",
            Mode::Exception => "exception",
            Mode::Cancelled => "cancelled",
            Mode::All => "all",
        }
    }
}

/// What one message is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// A build.
    #[default]
    Build,
    /// A buildset, when all of its builds have ended.
    Buildset,
}

impl Notifier {
    /// The word written in `kind`.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            NotifierKind::Irc(_) => "irc",
            NotifierKind::Mail(_) => "mail",
            NotifierKind::Webhook(_) => "webhook",
            NotifierKind::GithubStatus(_) => "github-status",
            NotifierKind::GitlabStatus(_) => "gitlab-status",
            NotifierKind::GiteaStatus(_) => "gitea-status",
        }
    }

    /// Whether a person reads what it sends (and not a program, which wants each message).
    pub fn for_people(&self) -> bool {
        matches!(self.kind, NotifierKind::Irc(_) | NotifierKind::Mail(_))
    }

    /// Whether it shows the state of commits.
    pub fn is_commit_status(&self) -> bool {
        matches!(
            self.kind,
            NotifierKind::GithubStatus(_) | NotifierKind::GitlabStatus(_) | NotifierKind::GiteaStatus(_)
        )
    }

    /// Which ends are told: as written; else new problems, changes and exceptions for people, every end for programs, and for
    /// commit statuses also each start.
    pub fn modes(&self) -> Vec<Mode> {
        match &self.options.modes {
            Some(modes) => modes.clone(),
            None if self.for_people() => vec![Mode::Problem, Mode::Change, Mode::Exception],
            None if self.is_commit_status() => vec![Mode::Started, Mode::All],
            None => vec![Mode::All],
        }
    }

    /// Whether a failure like the one before it (the same builder, branch and step) is told again: as written; else not to people.
    pub fn repeats(&self) -> bool {
        self.options.repeats.unwrap_or(!self.for_people())
    }

    /// How many messages a minute may be sent one by one: as written; else 20 for people, and no limit for programs.
    pub fn max_per_minute(&self) -> Option<NonZeroU32> {
        let people = || self.for_people().then(|| NonZeroU32::MIN.saturating_add(19));
        self.options.max_per_minute.or_else(people)
    }
}

/// One mode or a list of them.
fn modes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Mode>>, D::Error> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<Mode>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a mode or a list of modes")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<Mode>, E> {
            Mode::deserialize(serde::de::value::StrDeserializer::new(text)).map(|mode| vec![mode])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Mode>, A::Error> {
            let mut found = Vec::new();
            while let Some(mode) = list.next_element()? {
                if !found.contains(&mode) {
                    found.push(mode);
                }
            }
            Ok(found)
        }
    }
    deserializer.deserialize_any(Visitor).map(Some)
}

/// What a notifier's condition can speak of.
const CONDITION_NAMES: &[&str] = &["prop", "src", "worker", "builder", "build"];

fn condition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Expr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Expr::parse_condition_over(&text, CONDITION_NAMES).map(Some).map_err(ExprError::into_serde)
}

/// A text that is not blank.
pub(crate) fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() { Err(serde_fault("it cannot be empty", "")) } else { Ok(text) }
}
