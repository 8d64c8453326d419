//! Passwords, which cannot be printed.

use std::cell::Cell;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The message of the error by which a secret tells the loader where it stands.
pub(crate) const HERE: &str = "\u{1f}secret";
/// The only key of the table that stands for a secret which the loader has read.
pub(crate) const READ: &str = "\u{1f}text";

thread_local! {
    /// Whether the loader reads, and looks for secrets by [`HERE`].
    static LOADING: Cell<bool> = const { Cell::new(false) };
}

/// A secret value: the text itself, `{ file = "…" }`, `{ env = "…" }` or `{ command = […] }`, read once when the configuration
/// loads. A field of this type is all that a section needs for that, wherever it stands. It has no `Display` and no
/// `Serialize`, `Debug` shows only that it is there, and its memory is overwritten when it is dropped.
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

    /// Runs `work`, in which every secret that is read tells where it stands instead of being read.
    pub(crate) fn located<T>(work: impl FnOnce() -> T) -> T {
        let before = LOADING.replace(true);
        let done = work();
        LOADING.set(before);
        done
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

/// Takes the text. Where to find one is the loader's business, which puts the text there.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, { file = \"PATH\" }, { env = \"VARIABLE\" } or { command = [\"PROGRAM\"] }")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
        match (LOADING.get(), text.is_empty()) {
            (true, _) => Err(E::custom(HERE)),
            (false, true) => Err(E::custom("a secret cannot be empty")),
            (false, false) => Ok(Secret::new(text)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Secret, A::Error> {
        let read = match table.next_key::<String>()? {
            Some(key) if key == READ => Some(Secret::new(table.next_value::<String>()?)),
            _ => None,
        };
        while table.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
        read.ok_or_else(|| serde::de::Error::custom(HERE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_cannot_be_printed_but_read_from_text() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!((secret.expose(), format!("{secret:?}").as_str()), ("hunter2", "Secret(…)"));
        assert!(serde_json::from_str::<Secret>("\"\"").is_err());
        assert!(serde_json::from_str::<Secret>("{\"file\": \"x\"}").is_err());
    }
}
