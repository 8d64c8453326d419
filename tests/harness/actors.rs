//! The live tree, as `/api/v2/actors` tells it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::farm::Farm;
use super::wait::{eventually, patience};

impl Farm {
    /// All actors. Asks again while the master cannot answer.
    #[track_caller]
    pub fn actors(&self) -> Vec<Value> {
        eventually("the tree of actors", || {
            let answer = self.rest().try_get("/api/v2/actors").ok().filter(|it| it.status == 200)?;
            answer.json()["actors"].as_array().cloned()
        })
    }

    /// One actor, if it lives.
    pub fn actor(&self, name: &str) -> Option<Value> {
        self.actors().into_iter().find(|it| it["name"] == name)
    }

    /// Panics an actor that lives on after it; gives how long it was away.
    #[track_caller]
    pub fn panic_and_await_rebirth(&self, name: &str) -> Duration {
        let births = |it: &Value| it["births"].as_i64().expect("births");
        let before = births(&self.actor(name).unwrap_or_else(|| panic!("no actor {name}")));
        self.panic_actor(name);
        // Counted from when the panic is seen, not from when the script was written.
        let log = format!("actor.name=\"{name}\" found=true");
        eventually(&format!("the panic of {name}"), || self.master_log().contains(&log).then_some(()));
        let start = Instant::now();
        patience(Duration::from_secs(10), &format!("another birth of {name}"), || {
            self.actor(name).filter(|it| it["state"] == "running" && births(it) > before)
        });
        start.elapsed()
    }
}
