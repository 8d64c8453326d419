//! One run of a guarantee's test: its figures, its seed, and what is told when it was kept.

use std::io::Write as _;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

/// A run of one guarantee's test.
pub struct Run {
    guarantee: &'static str,
    seed: u64,
    begun: Instant,
    /// Where all chance of the run comes from.
    pub dice: StdRng,
}

impl Run {
    /// Begins; prints the seed, which `GREENROOM_SEED` may give.
    pub fn of(guarantee: &'static str) -> Self {
        let given = std::env::var("GREENROOM_SEED").ok();
        let seed =
            given.map_or_else(|| rand::rng().random(), |it| it.parse().expect("GREENROOM_SEED is a number"));
        println!("{guarantee}: GREENROOM_SEED={seed}");
        Self { guarantee, seed, begun: Instant::now(), dice: StdRng::seed_from_u64(seed) }
    }

    /// Whose run it is.
    pub fn guarantee(&self) -> &'static str {
        self.guarantee
    }

    /// How to have the same run again.
    pub fn repeat(&self) -> String {
        format!("GREENROOM_SEED={}", self.seed)
    }

    /// Whether the full figures are wanted (`make faults`).
    pub fn is_full(&self) -> bool {
        std::env::var("GREENROOM_FAULTS").is_ok_and(|it| it == "full")
    }

    /// How often: `short` in every test run, `full` by `make faults`.
    pub fn figure(&self, short: usize, full: usize) -> usize {
        if self.is_full() { full } else { short }
    }

    /// The guarantee was kept: says so with its figures, and notes a full run in `target/guarantees.jsonl`.
    pub fn kept(self, figures: &str) {
        let seconds = self.begun.elapsed().as_secs();
        println!("{}: kept in {seconds} s: {figures}", self.guarantee);
        if !self.is_full() {
            return;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_secs();
        let line = json!({"guarantee": self.guarantee, "seed": self.seed, "at": at, "seconds": seconds, "figures": figures});
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guarantees.jsonl");
        let mut file =
            std::fs::File::options().create(true).append(true).open(path).expect("a file of results");
        writeln!(file, "{line}").expect("a line");
    }
}
