//! Somebody who follows the feed of a master by long polls, over whatever happens to either.

use std::collections::HashSet;
use std::time::Duration;

use greenroom_model::Clock;
use serde_json::Value;

use super::rest::Rest;
use super::wait::patience;

/// The topics that select everything, by the length of their keys.
pub const EVERYTHING: [&str; 5] = ["*/*", "*/*/*", "*/*/*/*", "*/*/*/*/*", "*/*/*/*/*/*"];

/// A client of the feed: it keeps one clock, and all that it was told.
pub struct Follower {
    rest: Rest,
    topics: String,
    /// All before it was told.
    pub clock: String,
    /// What it was told: `k`, `m` and the clock `c` after it.
    pub events: Vec<Value>,
    /// Where it began.
    begun: String,
}

impl Follower {
    /// From now on.
    #[track_caller]
    pub fn of(rest: &Rest, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| format!("topic={topic}&")).collect();
        let mut new = Self {
            rest: rest.clone(),
            topics,
            clock: String::new(),
            events: Vec::new(),
            begun: String::new(),
        };
        patience(Duration::from_secs(20), "a clock to follow from", || new.ask("wait=0s").then_some(()));
        new.begun = new.clock.clone();
        new
    }

    /// Goes on at another master, or at the same one behind another port.
    pub fn turn_to(&mut self, rest: &Rest) {
        self.rest = rest.clone();
    }

    /// Asks once for more, waiting so long (`5s`); false: the master did not answer, or could not.
    #[track_caller]
    pub fn poll(&mut self, wait: &str) -> bool {
        let more = format!("since={}&wait={wait}", self.clock);
        self.ask(&more)
    }

    #[track_caller]
    fn ask(&mut self, more: &str) -> bool {
        let Ok(answer) = self.rest.try_get(&format!("/api/v2/events?{}{more}", self.topics)) else {
            return false;
        };
        assert!([200, 503].contains(&answer.status), "{}: {}", answer.status, answer.text);
        if answer.status == 503 {
            return false;
        }
        let mut answer = answer.json();
        self.clock = answer["clock"].as_str().expect("a clock").to_owned();
        if let Some(Value::Array(events)) = answer.get_mut("events").map(Value::take) {
            self.events.extend(events);
        }
        true
    }

    /// Polls until it has been told enough.
    #[track_caller]
    pub fn until(&mut self, within: Duration, what: &str, enough: impl Fn(&Self) -> bool) {
        patience(within, what, || {
            if enough(self) {
                return Some(());
            }
            self.poll("1s");
            enough(self).then_some(())
        });
    }

    /// The ids of the builds whose end it was told; none may come twice.
    #[track_caller]
    pub fn finished_builds(&self) -> HashSet<i64> {
        let is_end = |event: &Value| event["k"].as_str().is_some_and(|key| key.ends_with("/finished"));
        let ended = |event: &&Value| is_end(event) && event["m"]["stepid"].is_null();
        let ids = self.events.iter().filter(ended).filter_map(|event| event["m"]["buildid"].as_i64());
        let mut all = HashSet::new();
        ids.for_each(|id| assert!(all.insert(id), "the end of build {id} was told twice"));
        all
    }

    /// Judges what it was told: each event once, and of each master in order. One that follows [`EVERYTHING`] was told
    /// `all`, too: none is missing.
    #[track_caller]
    pub fn judge(&self, all: bool) {
        let mut before: Clock = self.begun.parse().expect("a clock");
        for event in &self.events {
            let after: Clock = event["c"].as_str().expect("a clock").parse().expect("a clock");
            let moved: i64 = after.heads().map(|(master, seq)| seq - before.head(master)).sum();
            assert!(
                after.covers(&before) && moved > 0,
                "told twice or out of order, after {before}: {event}"
            );
            assert!(!all || moved == 1, "{} events are missing between {before} and {event}", moved - 1);
            before = after;
        }
    }
}
