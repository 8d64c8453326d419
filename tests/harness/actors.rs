//! The live tree, as `/api/v2/actors` tells it, and trouble made in it.

use std::collections::BTreeMap;
use std::time::Duration;

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

    /// How often each was born.
    pub fn births(&self) -> BTreeMap<String, i64> {
        let actors = self.actors().into_iter();
        actors.map(|it| (it["name"].as_str().expect("a name").to_owned(), births_of(&it))).collect()
    }

    /// Makes trouble (`panic`, `error` or `hang`) for an actor that lives on after it. Gives its last exit, when another birth runs.
    #[track_caller]
    pub fn trouble(&self, kind: &str, name: &str) -> Value {
        let before = births_of(&self.actor(name).unwrap_or_else(|| panic!("no actor {name}")));
        let told = self.times_logged(kind, name);
        self.rehearse(&format!("{kind} {name}"));
        eventually(&format!("the {kind} of {name}"), || (self.times_logged(kind, name) > told).then_some(()));
        patience(Duration::from_secs(15), &format!("another birth of {name} after its {kind}"), || {
            let actor = self.actor(name).filter(|it| it["state"] == "running" && births_of(it) > before)?;
            actor["exits"].as_array()?.last().filter(|it| it["back_ms"].is_number()).cloned()
        })
    }

    /// Panics an actor that lives on after it; gives how long it was away.
    #[track_caller]
    pub fn panic_and_await_rebirth(&self, name: &str) -> Duration {
        Duration::from_secs_f64(self.trouble("panic", name)["back_ms"].as_f64().expect("a time") / 1000.0)
    }

    /// How often the master has said that it rehearses this, on an actor that was there.
    pub fn times_logged(&self, kind: &str, name: &str) -> usize {
        let log = self.master_log();
        let said = format!("rehearsing: {kind} actor.name=\"{name}\" found=true");
        log.matches(&said).count()
    }
}

fn births_of(actor: &Value) -> i64 {
    actor["births"].as_i64().expect("births")
}
