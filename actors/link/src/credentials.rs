//! Names and passwords of workers.
//!
//! A stock worker with a wrong password comes again every second or two for ever, and a thousand may come at once:
//! passwords are kept as a keyed MAC (HMAC-SHA-256 under a random key of this process), which is cheap to check, and an
//! unknown name costs the same work as a known one. Failures are limited per name and address.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

const BLOCK: usize = 64;

/// Failures that a name and address may have at once.
const BURST: u32 = 10;
/// Time after which one more failure is allowed.
const REFILL: Duration = Duration::from_secs(6);
/// Pairs of name and address that are remembered.
const REMEMBERED: usize = 4096;

type Mac = [u8; 32];

/// What the workers prove themselves with.
pub(crate) struct Credentials {
    key: [u8; BLOCK],
    known: HashMap<String, Mac>,
    /// Compared with when the name is unknown.
    dummy: Mac,
}

impl Credentials {
    /// Of names and passwords, under a random key.
    pub(crate) fn new<'a>(passwords: impl IntoIterator<Item = (&'a str, &'a str)>, key: [u8; BLOCK]) -> Self {
        let known =
            passwords.into_iter().map(|(name, password)| (name.to_owned(), mac(&key, name, password)));
        Self { known: known.collect(), dummy: mac(&key, "", ""), key }
    }

    /// Of other names and passwords, under the same key.
    pub(crate) fn replaced<'a>(&self, passwords: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::new(passwords, self.key)
    }

    /// Whether a worker of this name is configured.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.known.contains_key(name)
    }

    /// Whether the password is that of the worker. Takes as long whether the name is known or not, and wherever the
    /// passwords differ.
    pub(crate) fn check(&self, name: &str, password: &str) -> bool {
        let given = mac(&self.key, name, password);
        let (expected, known) = match self.known.get(name) {
            Some(expected) => (expected, true),
            None => (&self.dummy, false),
        };
        let difference = given.iter().zip(expected).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
        (difference == 0) & known
    }
}

/// HMAC-SHA-256 of name and password; the name's length keeps the two apart.
fn mac(key: &[u8; BLOCK], name: &str, password: &str) -> Mac {
    let padded = |pad: u8| key.map(|byte| byte ^ pad);
    let inner = Sha256::new()
        .chain_update(padded(0x36))
        .chain_update((name.len() as u64).to_be_bytes())
        .chain_update(name)
        .chain_update(password)
        .finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

/// Counts failures per name and address, in a table of bounded size.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    failures: HashMap<(String, IpAddr), Failures>,
}

#[derive(Debug)]
struct Failures {
    left: u32,
    since: Instant,
}

impl Limiter {
    /// Whether another attempt may be looked at.
    pub(crate) fn allows(&mut self, name: &str, address: IpAddr, now: Instant) -> bool {
        match self.failures.get_mut(&(name.to_owned(), address)) {
            Some(failures) => {
                failures.refill(now);
                failures.left > 0
            }
            None => true,
        }
    }

    /// Notes a failure; true if it is the first of this name and address for a while.
    pub(crate) fn failed(&mut self, name: &str, address: IpAddr, now: Instant) -> bool {
        let key = (name.to_owned(), address);
        if !self.failures.contains_key(&key) && self.failures.len() >= REMEMBERED {
            self.make_room(now);
        }
        let failures = self.failures.entry(key).or_insert(Failures { left: BURST, since: now });
        let first = failures.left == BURST;
        failures.left = failures.left.saturating_sub(1);
        first
    }

    /// Forgets a name and address that have proven themselves.
    pub(crate) fn succeeded(&mut self, name: &str, address: IpAddr) {
        self.failures.remove(&(name.to_owned(), address));
    }

    /// Forgets what is as good as new, and if that is not enough whoever has waited longest.
    fn make_room(&mut self, now: Instant) {
        self.failures.retain(|_, failures| {
            failures.refill(now);
            failures.left < BURST
        });
        if self.failures.len() >= REMEMBERED {
            let oldest = self.failures.iter().min_by_key(|(_, failures)| failures.since);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.failures.remove(&key);
            }
        }
    }
}

impl Failures {
    fn refill(&mut self, now: Instant) {
        let periods = now.saturating_duration_since(self.since).as_secs() / REFILL.as_secs();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(periods).min(BURST);
        self.since = if self.left == BURST { now } else { self.since + REFILL * periods };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_pair_of_name_and_password_passes() {
        let credentials = Credentials::new([("w1", "pw:1"), ("w", "1pw"), ("", "")], [7; BLOCK]);
        assert!(credentials.check("w1", "pw:1"));
        assert!(credentials.check("w", "1pw"));
        for (name, password) in
            [("w1", "pw:2"), ("w1", ""), ("w2", "pw:1"), ("w1p", "w:1"), ("w", "pw:1"), ("x", "")]
        {
            assert!(!credentials.check(name, password), "{name} {password}");
        }
        let nobody = Credentials::new([], [7; BLOCK]);
        assert!(!nobody.check("", ""), "the dummy is nobody's password");
    }

    #[test]
    fn another_configuration_replaces_names_and_passwords() {
        let credentials = Credentials::new([("w1", "a"), ("w2", "b")], [7; BLOCK]);
        let credentials = credentials.replaced([("w2", "c"), ("w3", "d")]);
        assert!(credentials.check("w2", "c") && credentials.check("w3", "d"));
        assert!(!credentials.check("w1", "a") && !credentials.check("w2", "b"));
        assert!(!credentials.knows("w1") && credentials.knows("w3"));
    }

    #[test]
    fn the_mac_is_hmac_sha_256() {
        // RFC 4231, test case 2 has key "Jefe"; ours prefixes the name's length, so compare with the same prefix computed
        // by a plain HMAC over one buffer.
        let mut key = [0; BLOCK];
        key[..4].copy_from_slice(b"Jefe");
        let (inner, outer): (Vec<u8>, Vec<u8>) =
            (key.map(|b| b ^ 0x36).to_vec(), key.map(|b| b ^ 0x5c).to_vec());
        let message = [&1_u64.to_be_bytes()[..], b"wsecret"].concat();
        let digest = Sha256::digest([inner, message].concat());
        let expected: Mac = Sha256::digest([outer, digest.to_vec()].concat()).into();
        assert_eq!(mac(&key, "w", "secret"), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_limited_per_name_and_address_and_heal() {
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 1]));
        let mut limiter = Limiter::default();
        for turn in 0..BURST {
            assert!(limiter.allows("w1", here, Instant::now()));
            assert_eq!(limiter.failed("w1", here, Instant::now()), turn == 0);
        }
        assert!(!limiter.allows("w1", here, Instant::now()));
        assert!(limiter.allows("w1", there, Instant::now()));
        assert!(limiter.allows("w2", here, Instant::now()));
        tokio::time::advance(REFILL).await;
        assert!(limiter.allows("w1", here, Instant::now()));
        limiter.failed("w1", here, Instant::now());
        assert!(!limiter.allows("w1", here, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let mut limiter = Limiter::default();
        for number in 0..REMEMBERED + 10 {
            limiter.failed(&format!("w{number}"), here, Instant::now());
        }
        assert_eq!(limiter.failures.len(), REMEMBERED);
    }
}
