//! The feed's faces over plain HTTP, and what they share with `/ws`: one subscription code behind four faces.

pub(crate) mod events;
pub(crate) mod feeds;
pub(crate) mod sse;

use std::sync::atomic::Ordering;

use crate::www::Www;

/// Open connections to the feed in all, of whatever face.
const MAX_LISTENERS: usize = 20_000;

/// A place among the open connections to the feed, given back when it is dropped.
pub(crate) struct Place(Www);

impl Place {
    /// None: all are taken.
    pub(crate) fn take(www: &Www) -> Option<Self> {
        let taken = www
            .sockets
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < MAX_LISTENERS).then_some(n + 1));
        taken.ok().map(|_| Self(www.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Writes a routing key into a JSON string. Keys are words, numbers and slugs; anything else in them is escaped.
pub(crate) fn escape_key(out: &mut String, key: &str) {
    let plain = |c: char| (' '..='~').contains(&c) && c != '"' && c != '\\';
    if key.chars().all(plain) {
        out.push_str(key);
        return;
    }
    let mut escaped = Vec::with_capacity(key.len() * 2);
    crate::json::escape_into(&mut escaped, key);
    out.push_str(&String::from_utf8_lossy(&escaped));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_valid_json_whatever_is_in_them() {
        for key in ["steps/2/logs/stdio/append", "steps/2/logs/a\"\\\u{e9}\n/append"] {
            let mut out = "\"".to_owned();
            escape_key(&mut out, key);
            out.push('"');
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), key);
        }
    }
}
