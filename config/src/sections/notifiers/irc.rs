//! `kind = "irc"`: announcements in channels, and commands.

use std::collections::BTreeMap;

use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer};

use super::filled;
use crate::values::Secret;

/// The keys of an IRC notifier.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Irc {
    /// Host and port, such as `irc.example.org:6697`.
    #[serde(deserialize_with = "filled")]
    pub server: String,
    /// Whether the connection is encrypted; true when left out.
    #[serde(default = "yes")]
    pub tls: bool,
    /// Certificates to trust instead of the system's: a PEM file.
    pub tls_ca: Option<std::path::PathBuf>,
    /// Certificate for SASL EXTERNAL: a PEM file with its key.
    pub tls_certificate: Option<std::path::PathBuf>,
    /// The name to speak under; another is taken while this one is in use.
    #[serde(deserialize_with = "filled")]
    pub nick: String,
    /// The user name sent to the server; the nick when left out.
    pub user: Option<String>,
    /// The real name sent to the server.
    pub real_name: Option<String>,
    /// The server's password.
    pub password: Option<Secret>,
    /// How to log in to the account services.
    #[serde(default)]
    pub sasl: Sasl,
    /// The services account; the nick when left out.
    pub account: Option<String>,
    /// The services account's password: for SASL PLAIN, or else for NickServ.
    pub account_password: Option<Secret>,
    /// Where to speak.
    pub channels: Vec<Channel>,
    /// Whether announcements have colours.
    #[serde(default)]
    pub colors: bool,
    /// Whether announcements are notices, to which no other bot answers.
    #[serde(default)]
    pub notices: bool,
    /// Which services account may do what: `"account:NAME"` to words such as `force`.
    #[serde(default)]
    pub authz: BTreeMap<String, Vec<String>>,
}

/// How to log in to the account services while connecting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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

/// A channel, with the key that opens it if it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name, such as `#builds`.
    pub name: String,
    /// Its key.
    pub key: Option<Secret>,
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
                Ok(Channel { name: name.to_owned(), key: None })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Channel, A::Error> {
                let table = ChannelTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Channel { name: table.name, key: table.key })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn yes() -> bool {
    true
}
