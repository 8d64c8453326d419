//! Passwords, which cannot be printed.

use std::fmt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

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

impl Secret {
    /// The content of a file without the line end at its end.
    pub(crate) fn from_file(path: &Path) -> Result<Secret, String> {
        let fail = |error: std::io::Error| format!("cannot read the secret's file: {error}");
        let metadata = std::fs::metadata(path).map_err(fail)?;
        if metadata.len() > MAX_FILE || !metadata.is_file() {
            return Err("a secret's file is a plain file of at most 64 KiB".to_owned());
        }
        let text = std::fs::read_to_string(path).map_err(fail)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        not_empty(text.strip_suffix('\r').unwrap_or(text))
    }

    /// The value of a variable.
    pub(crate) fn from_env(name: &str, env: &[(String, String)]) -> Result<Secret, String> {
        match env.iter().find(|(known, _)| known == name) {
            Some((_, text)) => not_empty(text),
            None => Err(format!("the environment variable `{name}` is not set")),
        }
    }
}

fn not_empty(text: &str) -> Result<Secret, String> {
    if text.is_empty() { Err("a secret cannot be empty".to_owned()) } else { Ok(Secret::new(text)) }
}

/// Takes the text; `{ file = … }` and `{ env = … }` have been replaced by theirs before.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;
        impl Visitor<'_> for SecretVisitor {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, { file = \"PATH\" } or { env = \"VARIABLE\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
                not_empty(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SecretVisitor)
    }
}
