//! The judge of a history: reads its files, asks nobody.
//!
//! It knows what the guarantees say, not how they are kept. `checker/calls.rs` judges what clients were answered against the final
//! state (G1, G2), `checker/attempts.rs` what ran outside (G3), `checker/ends.rs` how everything ended (G4), `checker/feed.rs` what
//! the feed told (G4, G22).

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde_json::Value;

mod attempts;
mod calls;
mod ends;
mod feed;
mod plants;

pub use feed::id_of;

/// Something that must not have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Of which guarantee.
    pub guarantee: &'static str,
    /// In words, with the ids.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guarantee, self.what)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    pub violations: Vec<Violation>,
    /// Calls that were acknowledged.
    pub acknowledged: usize,
    /// Calls whose outcome their client does not know.
    pub unknown: usize,
    /// Attempts that were begun outside.
    pub attempts: usize,
    /// Events that clients were told.
    pub events: usize,
    /// How often a client resumed.
    pub resumptions: usize,
}

impl Findings {
    fn fault(&mut self, guarantee: &'static str, what: String) {
        self.violations.push(Violation { guarantee, what });
    }

    /// Fails, with the first of what was found, unless all is well.
    #[track_caller]
    pub fn expect_none(&self) {
        let shown: Vec<_> = self.violations.iter().take(20).map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{} violations:\n{}", self.violations.len(), shown.join("\n"));
    }
}

/// The final state, as it was written down.
struct Final(Value);

impl Final {
    fn of(dir: &Path) -> Self {
        let path = dir.join("final.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    fn settled(&self) -> bool {
        self.0["settled"] == true
    }

    fn rows(&self, what: &str) -> &[Value] {
        self.0[what].as_array().map_or(&[], Vec::as_slice)
    }
}

/// Judges a directory.
pub fn judge(dir: &Path) -> Findings {
    let state = Final::of(dir);
    let mut findings = Findings::default();
    calls::judge(dir, &state, &mut findings);
    attempts::judge(dir, &state, &mut findings);
    ends::judge(&state, &mut findings);
    feed::judge(dir, &state, &mut findings);
    findings
}

/// The lines of a file, in order; none if there is no such file. A last line without its end was cut off with its writer.
fn each_line(dir: &Path, name: &str, mut take: impl FnMut(Value)) {
    let Ok(file) = File::open(dir.join(name)) else { return };
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    while reader.read_line(&mut text).expect("a history that can be read") > 0 {
        if text.ends_with('\n') {
            take(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}: {text}")));
        }
        text.clear();
    }
}

/// Judges a history that was kept.
#[test]
#[ignore = "GREENROOM_HISTORY=DIR says which"]
fn a_kept_history_is_judged() {
    let dir = std::env::var("GREENROOM_HISTORY").expect("GREENROOM_HISTORY names a directory");
    let findings = judge(Path::new(&dir));
    println!("{findings:#?}");
    findings.expect_none();
}
