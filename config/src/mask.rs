//! Keeping secrets out of what people read: finds them in text, whole or in pieces, and puts `***` in their place.
//!
//! Of each secret are found: the text itself; each of its lines, when it has several; base64 (standard and for URLs, at each of the
//! three ways in which it can stand in what is encoded, and wrapped at 64 or 76 characters when nothing stands before it);
//! percent-encoding; the forms with `"`, `\` and line ends escaped as in JSON, and with `'` as a shell shows it. Texts shorter
//! than [`MIN_SECRET`] are not looked for: they would blot out half of every log.
//!
//! [`Masker`] reads a stream. It holds back only an end that may be the begin of a secret, so at most one pattern, and
//! what comes out does not depend on how the text was cut.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, MatchKind};
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::{Bytes, BytesMut};

use crate::secrets::Secrets;
use crate::values::url_passwords;

/// What stands for a secret.
pub const MASK: &str = "***";
/// The shortest text that is masked, in bytes.
pub const MIN_SECRET: usize = 6;
/// The longest pattern, and so what is held back at most; longer lines are looked for in pieces.
const MAX_PATTERN: usize = 4 * 1024;
/// So many secrets are looked for, of this configuration and those before it.
const MAX_SECRETS: usize = 10_000;
/// A table with an entry for each byte is faster, as long as it is small.
const FAST_BYTES: usize = 32 * 1024;
/// How long lines of base64 are.
const WRAPS: [usize; 2] = [64, 76];

/// The secrets to be masked, ready for searching. Cheap to clone.
#[derive(Clone, Default)]
pub struct Masks(Option<Arc<Patterns>>);

struct Patterns {
    finder: AhoCorasick,
    /// Where a text's end stands in the patterns: walked from state to state, without looking for matches.
    tail: contiguous::NFA,
    start: StateID,
    /// How much of the end, in bytes, begins a longer pattern in a state; zero in all that are not here.
    open: HashMap<StateID, usize>,
    longest: usize,
    count: usize,
}

impl Masks {
    /// Prepares the search for all forms of these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut patterns = BTreeSet::new();
        for secret in secrets.into_iter().filter(|it| it.len() >= MIN_SECRET).take(MAX_SECRETS) {
            forms(secret, &mut |form| add(form, &mut patterns));
        }
        let sorted: Vec<Box<[u8]>> = patterns.into_iter().collect();
        // Only billions of bytes of patterns cannot be built, and those are bounded.
        Masks(Patterns::new(&sorted).ok().filter(|_| !sorted.is_empty()).map(Arc::new))
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A whole text, masked.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(patterns) = &self.0 else { return Cow::Borrowed(text) };
        if !patterns.finder.is_match(text) {
            return Cow::Borrowed(text);
        }
        let mut masker = self.masker();
        let mut masked = masker.push(Bytes::copy_from_slice(text.as_bytes())).to_vec();
        masked.extend_from_slice(&masker.finish());
        // Patterns and text are UTF-8, so what stands between patterns is too.
        Cow::Owned(String::from_utf8_lossy(&masked).into_owned())
    }

    /// For a stream of text.
    pub fn masker(&self) -> Masker {
        let state = self.0.as_ref().map_or_else(StateID::default, |it| it.start);
        Masker { masks: self.clone(), held: Bytes::new(), state }
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masks({} patterns)", self.0.as_ref().map_or(0, |it| it.count))
    }
}

impl Patterns {
    /// `sorted` is without duplicates. Prefilters are left out: where secrets look like the text around them they cost half
    /// the speed.
    fn new(sorted: &[Box<[u8]>]) -> Result<Self, aho_corasick::BuildError> {
        let total: usize = sorted.iter().map(|it| it.len()).sum();
        let kind = if total <= FAST_BYTES { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .prefilter(false)
            .kind(Some(kind))
            .build(sorted)?;
        let tail = contiguous::NFA::builder().prefilter(false).build(sorted)?;
        let start = tail.start_state(Anchored::No).unwrap_or_default();
        let mut patterns = Patterns {
            finder,
            tail,
            start,
            open: HashMap::new(),
            longest: sorted.iter().map(|it| it.len()).max().unwrap_or(0),
            count: sorted.len(),
        };
        for pattern in sorted {
            let mut state = start;
            for (at, byte) in pattern.iter().enumerate().take(pattern.len() - 1) {
                state = patterns.tail.next_state(Anchored::No, state, *byte);
                patterns.open.insert(state, at + 1);
            }
        }
        // Where a whole pattern ends that begins no other, its own end may; the shorter ones are known first.
        let mut by_length: Vec<&Box<[u8]>> = sorted.iter().collect();
        by_length.sort_by_key(|it| it.len());
        for pattern in by_length {
            let end = patterns.walk(start, pattern);
            if !patterns.open.contains_key(&end) {
                let open = patterns.open(patterns.walk(start, &pattern[1..]));
                patterns.open.insert(end, open);
            }
        }
        Ok(patterns)
    }

    /// The state after more text.
    fn walk(&self, from: StateID, text: &[u8]) -> StateID {
        // What lies further back than the longest pattern has no influence.
        let far = text.len().saturating_sub(self.longest);
        let state = if far > 0 { self.start } else { from };
        text[far..].iter().fold(state, |state, byte| self.tail.next_state(Anchored::No, state, *byte))
    }

    /// How much of the end, in bytes, may be the begin of a pattern.
    fn open(&self, state: StateID) -> usize {
        self.open.get(&state).copied().unwrap_or(0)
    }
}

/// Masks a stream that comes in pieces.
#[derive(Debug)]
pub struct Masker {
    masks: Masks,
    /// An end that may be the begin of a secret; at most as long as the longest pattern.
    held: Bytes,
    /// Where that stands in the patterns.
    state: StateID,
}

impl Masker {
    /// The text that is certain now; what may still become a secret is held back. Text without secrets is not copied.
    pub fn push(&mut self, text: Bytes) -> Bytes {
        self.run(text, false)
    }

    /// The rest, when nothing more comes.
    pub fn finish(&mut self) -> Bytes {
        self.run(Bytes::new(), true)
    }

    fn run(&mut self, text: Bytes, last: bool) -> Bytes {
        let Some(patterns) = self.masks.0.clone() else { return text };
        let mut state = patterns.walk(self.state, &text);
        let text = if self.held.is_empty() { text } else { joined(&self.held, &text) };
        let (mut at, mut out) = (0, BytesMut::new());
        let mut end = if last { text.len() } else { text.len() - patterns.open(state) };
        // A secret that begins before the open end is certain: whatever comes, none can begin earlier or be longer.
        while let Some(found) = patterns.finder.find(Input::new(&text[..]).range(at..))
            && found.start() < end
        {
            out.extend_from_slice(&text[at..found.start()]);
            out.extend_from_slice(MASK.as_bytes());
            at = found.end();
            if at > end {
                state = patterns.walk(patterns.start, &text[at..]);
                end = text.len() - patterns.open(state);
            }
        }
        self.held = Bytes::copy_from_slice(&text[end..]);
        self.state = state;
        if out.is_empty() {
            return text.slice(at..end);
        }
        out.extend_from_slice(&text[at..end]);
        out.freeze()
    }
}

fn joined(a: &[u8], b: &[u8]) -> Bytes {
    let mut whole = BytesMut::with_capacity(a.len() + b.len());
    whole.extend_from_slice(a);
    whole.extend_from_slice(b);
    whole.freeze()
}

/// Takes a form as one pattern, or in pieces if it is too long.
fn add(form: &str, patterns: &mut BTreeSet<Box<[u8]>>) {
    let mut rest = form;
    while rest.len() >= MIN_SECRET {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(MAX_PATTERN));
        patterns.insert(piece.as_bytes().into());
        rest = after;
    }
}

/// All that a secret may look like.
fn forms(secret: &str, take: &mut impl FnMut(&str)) {
    encoded(secret, take);
    for password in url_passwords(secret) {
        encoded(&secret[password], take);
    }
    let lines: Vec<&str> = secret.lines().map(str::trim).collect();
    if lines.len() > 1 || lines.first().is_some_and(|it| *it != secret) {
        for line in lines.into_iter().filter(|it| it.len() >= MIN_SECRET) {
            encoded(line, take);
        }
    }
}

fn encoded(text: &str, take: &mut impl FnMut(&str)) {
    take(text);
    let json = serde_json::Value::from(text).to_string();
    take(&json[1..json.len() - 1]);
    take(&text.replace('\'', r"'\''"));
    for percent in percent_forms(text) {
        take(&percent);
    }
    base64_forms(text.as_bytes(), take);
}

/// Encoders differ in whether they keep `/`, write a blank as `+`, and in the case of digits.
fn percent_forms(text: &str) -> Vec<String> {
    let encode = |keep: &str, plus: bool, lower: bool| {
        let mut encoded = String::with_capacity(text.len() * 3);
        for byte in text.bytes() {
            let char = char::from(byte);
            match char {
                ' ' if plus => encoded.push('+'),
                it if it.is_ascii_alphanumeric() || "-_.~".contains(it) || keep.contains(it) => {
                    encoded.push(it)
                }
                _ if lower => encoded.push_str(&format!("%{byte:02x}")),
                _ => encoded.push_str(&format!("%{byte:02X}")),
            }
        }
        encoded
    };
    let mut forms = Vec::new();
    // What RFC 3986 leaves, what it leaves in a path, what browsers leave.
    for keep in ["", "/", "!*'()", "/:@!$&'()*+,;=?#"] {
        for (plus, lower) in [(false, false), (false, true), (true, false), (true, true)] {
            forms.push(encode(keep, plus, lower));
        }
    }
    forms
}

/// The characters that depend on nothing but the secret, wherever it stands in what is encoded.
fn base64_forms(secret: &[u8], take: &mut impl FnMut(&str)) {
    for engine in [&STANDARD, &URL_SAFE] {
        for before in 0..3 {
            let mut bytes = vec![0; before];
            bytes.extend_from_slice(secret);
            let encoded = engine.encode(&bytes);
            let (first, last) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
            take(&encoded[first..last]);
            if before == 0 && encoded.len() > WRAPS[0] {
                let certain = &encoded[..last];
                for wrap in WRAPS {
                    for start in (0..certain.len()).step_by(wrap) {
                        take(&certain[start..certain.len().min(start + wrap)]);
                    }
                }
            }
        }
    }
}

/// The masks of a running master: those who mask hold it, a reload changes it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SharedMasks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    masks: ArcSwap<Masks>,
    known: std::sync::Mutex<Vec<crate::values::Secret>>,
}

impl SharedMasks {
    /// Adds the secrets of a configuration. Those of former ones stay: builds that began with them may still print them.
    pub fn add(&self, secrets: &Secrets) {
        let mut known = self.0.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = known.len();
        for secret in secrets.values() {
            if known.len() < MAX_SECRETS && !known.contains(secret) {
                known.push(secret.clone());
            }
        }
        if known.len() > before {
            self.0.masks.store(Arc::new(Masks::new(known.iter().map(crate::values::Secret::expose))));
        }
    }

    /// What is to be masked now.
    pub fn current(&self) -> Masks {
        Masks::clone(&self.0.masks.load())
    }
}
