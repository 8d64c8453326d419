//! Passwords, which cannot be printed.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::serde_fault;

/// The largest file that is taken for a secret, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// A secret value: from the text itself, from `{ file = "…" }` or from `{ env = "…" }`, read once when the
/// configuration loads. It has no `Display` and no `Serialize`, and `Debug` shows only that it is there.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(SecretString::from(text.into()))
    }

    /// The value itself; for comparing or sending it, never for messages.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// For finding what a reload changed; not for checking a password, for its time depends on the values.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

const FORMS: &str = "write \"…\", { file = \"PATH\" } or { env = \"VARIABLE\" }";

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, { file = \"PATH\" } or { env = \"VARIABLE\" }")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
        not_empty(text)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if found.is_some() {
                return Err(serde_fault("a secret has one source", FORMS));
            }
            found = Some(match key.as_str() {
                "file" => from_file(&map.next_value::<PathBuf>()?)?,
                "env" => from_env(&map.next_value::<String>()?)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    return Err(serde_fault(format_args!("unknown source of a secret `{key}`"), FORMS));
                }
            });
        }
        found.ok_or_else(|| serde_fault("no source for the secret", FORMS))
    }
}

/// The content of a file without the line end at its end.
fn from_file<E: serde::de::Error>(path: &std::path::Path) -> Result<Secret, E> {
    let fail = |error: std::io::Error| serde_fault(format_args!("cannot read the secret's file: {error}"), "");
    let size = std::fs::metadata(path).map_err(fail)?;
    if size.len() > MAX_FILE || !size.is_file() {
        return Err(serde_fault("a secret's file is a plain file of at most 64 KiB", ""));
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    not_empty(text.strip_suffix('\r').unwrap_or(text))
}

fn from_env<E: serde::de::Error>(name: &str) -> Result<Secret, E> {
    match std::env::var(name) {
        Ok(text) => not_empty(&text),
        Err(std::env::VarError::NotPresent) => {
            Err(serde_fault(format_args!("the environment variable `{name}` is not set"), ""))
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(serde_fault(format_args!("the environment variable `{name}` is not UTF-8"), ""))
        }
    }
}

fn not_empty<E: serde::de::Error>(text: &str) -> Result<Secret, E> {
    if text.is_empty() { Err(serde_fault("a secret cannot be empty", "")) } else { Ok(Secret::new(text)) }
}
