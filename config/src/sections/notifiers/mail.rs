//! `kind = "mail"`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::Deserialize;

use super::filled;
use crate::values::{Patterns, Secret};

/// The keys of a mail notifier.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mail {
    /// What takes the mail: `smtp://host:port`, `smtps://…`, `smtp+starttls://user@host`, `sendmail:` or `sendmail:/path`.
    #[serde(deserialize_with = "filled")]
    pub relay: String,
    /// The password of the relay's user.
    pub password: Option<Secret>,
    /// The sender's address.
    #[serde(deserialize_with = "filled")]
    pub from: String,
    /// Addresses that get every mail.
    #[serde(default)]
    pub to: Vec<String>,
    /// Whether those get it too whose changes or wishes it is about.
    #[serde(default)]
    pub interested: bool,
    /// How names of people become addresses, the first that matches.
    #[serde(default)]
    pub lookup: Vec<AddressRule>,
    /// Domains that interested users may have; when left out that of `from`.
    pub domains: Option<Patterns>,
    /// More headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How many lines of the failing step's log stand in the mail.
    #[serde(default = "tail")]
    pub tail: u32,
    /// Whether the failing step's log is attached.
    #[serde(default)]
    pub attach_log: bool,
    /// Template of the subject.
    pub subject: Option<String>,
    /// File with the template of the text part.
    pub text_template: Option<PathBuf>,
    /// File with the template of the HTML part.
    pub html_template: Option<PathBuf>,
    /// The most addresses that one mail goes to.
    #[serde(default = "max_recipients")]
    pub max_recipients: NonZeroU32,
}

/// How a name becomes an address.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AddressRule {
    /// Names that it is for.
    #[serde(rename = "match")]
    pub pattern: Patterns,
    /// The address; `{name}` stands for the name. Empty: such people get no mail.
    pub address: String,
}

fn tail() -> u32 {
    30
}

fn max_recipients() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(49)
}
