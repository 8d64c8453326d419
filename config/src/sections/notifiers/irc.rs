//! `kind = "irc"`: announcements in channels, and commands.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use super::filled;
use crate::sections::supervision::Backoff;
use crate::values::{Duration, Secret, serde_fault};

/// The longest nick that is tried; servers tell theirs only after it was given.
const MAX_NICK: usize = 64;
/// The longest name of a channel.
const MAX_CHANNEL: usize = 64;

/// The keys of an IRC notifier.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Irc {
    /// Host and port, such as `irc.example.org:6697`; port 6697 when left out, 6667 without TLS.
    #[serde(deserialize_with = "server")]
    pub server: String,
    /// Whether the connection is encrypted; true when left out.
    #[serde(default = "yes")]
    pub tls: bool,
    /// Certificates to trust instead of the system's: a PEM file.
    pub tls_ca: Option<std::path::PathBuf>,
    /// Certificate for SASL EXTERNAL: a PEM file with its key.
    pub tls_certificate: Option<std::path::PathBuf>,
    /// The name to speak under; another is taken while this one is in use.
    #[serde(deserialize_with = "nick")]
    pub nick: String,
    /// The user name sent to the server; the nick when left out.
    #[serde(default, deserialize_with = "word")]
    pub user: Option<String>,
    /// The real name sent to the server.
    pub real_name: Option<String>,
    /// The server's password.
    pub password: Option<Secret>,
    /// How to log in to the account services while connecting.
    #[serde(default)]
    pub sasl: Sasl,
    /// The services account; the nick when left out.
    #[serde(default, deserialize_with = "word")]
    pub account: Option<String>,
    /// The services account's password: for SASL PLAIN, or else for NickServ.
    pub account_password: Option<Secret>,
    /// Who takes the password when there is no SASL: a nick, or better `nick@server`, which nobody else can take.
    #[serde(default = "nickserv", deserialize_with = "filled")]
    pub nickserv: String,
    /// Where to speak.
    pub channels: Vec<Channel>,
    /// Whether announcements have colours.
    #[serde(default)]
    pub colors: bool,
    /// Whether announcements are notices, to which no other bot answers.
    #[serde(default)]
    pub notices: bool,
    /// Whether it takes commands at all.
    #[serde(default = "yes")]
    pub commands: bool,
    /// Which services account may do what: `"account:NAME"` to words such as `force`.
    #[serde(default, deserialize_with = "authz")]
    pub authz: BTreeMap<String, Vec<IrcAct>>,
    /// How many lines it may send at once.
    #[serde(default = "burst")]
    pub burst: NonZeroU32,
    /// After that one line each so long.
    #[serde(default = "line_interval")]
    pub line_interval: Duration,
    /// After so long without a word from the server it is asked for one.
    #[serde(default = "a_minute")]
    pub ping_interval: Duration,
    /// The connection is given up when the answer takes longer.
    #[serde(default = "a_minute")]
    pub ping_timeout: Duration,
    /// How long it waits before it connects again.
    #[serde(default = "reconnect")]
    pub reconnect: Backoff,
}

/// How to log in to the account services while connecting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sasl {
    /// Not.
    #[default]
    None,
    /// With account and password.
    Plain,
    /// With the certificate.
    External,
}

/// A command that changes something, and so needs a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IrcAct {
    /// Ask for builds.
    Force,
    /// Stop builds.
    Stop,
    /// Repeat builds.
    Rebuild,
    /// Let a worker take no new builds.
    Pause,
    /// Let it take them again.
    Unpause,
    /// Let it be quiet in a channel.
    Mute,
    /// Let it speak again.
    Unmute,
    /// Let it come to a channel.
    Join,
    /// Let it go from a channel.
    Leave,
    /// All of these.
    All,
}

/// A channel, with the key that opens it if it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name, such as `#builds`.
    pub name: String,
    /// Its key.
    pub key: Option<Secret>,
}

impl Irc {
    /// Host and port apart; an IPv6 address without its brackets.
    pub fn host_and_port(&self) -> (&str, u16) {
        let default = if self.tls { 6697 } else { 6667 };
        split_server(&self.server)
            .map_or((&self.server, default), |(host, port)| (host, port.unwrap_or(default)))
    }

    /// The services account.
    pub fn account_name(&self) -> &str {
        self.account.as_deref().unwrap_or(&self.nick)
    }

    /// Whether it logs in by a message to NickServ.
    pub fn uses_nickserv(&self) -> bool {
        self.sasl == Sasl::None && self.account_password.is_some()
    }

    /// What does not fit together: the key, what is wrong with it, and help.
    pub fn faults(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut faults = Vec::new();
        if self.sasl == Sasl::Plain && self.account_password.is_none() {
            faults.push(("sasl", "SASL PLAIN needs a password", "add account-password = { file = \"…\" }"));
        }
        if self.sasl == Sasl::External && self.tls_certificate.is_none() {
            let help = "add tls-certificate = \"FILE.pem\" with the certificate and its key";
            faults.push(("sasl", "SASL EXTERNAL needs a certificate", help));
        }
        for (key, given) in
            [("tls-ca", self.tls_ca.is_some()), ("tls-certificate", self.tls_certificate.is_some())]
        {
            if given && !self.tls {
                faults.push((key, "certificates are for TLS, which is off", "remove `tls = false`"));
            }
        }
        faults
    }
}

fn split_server(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?),
        None if text.matches(':').count() > 1 => (text, ""),
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { None } else { Some(port.parse().ok().filter(|port| *port > 0)?) };
    (!host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/')).then_some((host, port))
}

fn server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = filled(deserializer)?;
    if split_server(&text).is_some() {
        return Ok(text);
    }
    Err(serde_fault("not a server", "write host and port, such as \"irc.example.org:6697\""))
}

fn nick<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = filled(deserializer)?;
    let fine = |c: char| c.is_alphanumeric() || "[]\\`_^{|}-".contains(c);
    let begins = !text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    if text.chars().all(fine) && begins && text.len() <= MAX_NICK {
        return Ok(text);
    }
    let help = "letters, digits and []\\`_^{|}-, not beginning with a digit or `-`";
    Err(serde_fault("not a nick", help))
}

/// One word of the protocol.
fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = filled(deserializer)?;
    let fine = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if fine && !text.starts_with(':') {
        Ok(Some(text))
    } else {
        Err(serde_fault("this must be one word", ""))
    }
}

/// Permissions belong to accounts: a nick proves nothing.
fn authz<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<IrcAct>>, D::Error> {
    let map = BTreeMap::<String, Vec<IrcAct>>::deserialize(deserializer)?;
    for key in map.keys() {
        if key.strip_prefix("account:").is_none_or(|name| name.trim() != name || name.is_empty()) {
            let message = format_args!("`{key}` is no services account").to_string();
            return Err(serde_fault(message, "write \"account:NAME\"; nicks prove nothing"));
        }
    }
    Ok(map)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ChannelTable {
    #[serde(deserialize_with = "filled")]
    name: String,
    key: Option<Secret>,
}

/// A name, or `{ name = "…", key = "…" }`.
impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Channel;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a channel's name or { name = \"#…\", key = \"…\" }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Channel, E> {
                checked(Channel { name: name.to_owned(), key: None })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Channel, A::Error> {
                let table = ChannelTable::deserialize(MapAccessDeserializer::new(map))?;
                checked(Channel { name: table.name, key: table.key })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn checked<E: serde::de::Error>(channel: Channel) -> Result<Channel, E> {
    let one_word = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',');
    let name = &channel.name;
    if !name.starts_with(['#', '&', '+', '!'])
        || name.len() < 2
        || name.len() > MAX_CHANNEL
        || !one_word(name)
    {
        return Err(serde_fault("not a channel", "write its name with its sign, such as \"#builds\""));
    }
    if channel.key.as_ref().is_some_and(|key| !one_word(key.expose()) || key.expose().starts_with(':')) {
        return Err(serde_fault("a channel's key is one word without commas", ""));
    }
    Ok(channel)
}

fn yes() -> bool {
    true
}

fn nickserv() -> String {
    "NickServ".to_owned()
}

fn burst() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(3)
}

fn line_interval() -> Duration {
    Duration::from_secs(2)
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}

fn reconnect() -> Backoff {
    Backoff { min: Duration::from_secs(1), max: Duration::from_secs(300) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_ports() {
        for (text, host, port) in [
            ("irc.example.org", "irc.example.org", None),
            ("irc.example.org:6697", "irc.example.org", Some(6697)),
            ("[::1]:6667", "::1", Some(6667)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
        ] {
            assert_eq!(split_server(text), Some((host, port)), "{text}");
        }
        for bad in ["", ":6667", "irc.example.org:x", "h:0", "h:70000", "a b", "irc://h", "[::1]6667"] {
            assert_eq!(split_server(bad), None, "{bad}");
        }
    }
}
