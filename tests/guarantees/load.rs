//! Clients that ask for things and write down what they were told.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::harness::{Rest, patience};
use crate::history::{Call, History, Outcome};

/// How long a client asks again under its key.
const PATIENCE: Duration = Duration::from_secs(90);

/// What many clients of a run share.
pub struct Load<'a> {
    history: &'a History,
    /// The next mark's number.
    next: AtomicU64,
    /// Calls that have begun.
    begun: AtomicUsize,
    /// No more calls, please.
    stop: AtomicBool,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `force`, `hook` or `rebuild`.
    pub does: &'static str,
    /// Finds it in the final state.
    pub mark: String,
    pub key: Option<String>,
    /// JSON-RPC's parameters, or the hook's body.
    params: Value,
    path: String,
}

impl Asked {
    /// A build of each of these builders; the job's number is the mark's.
    pub fn force(job: u64, builders: &[String], key: Option<String>) -> Self {
        let mark = format!("job-{job}");
        let params = json!({"builderNames": builders, "reason": mark, "job": job.to_string()});
        Self { does: "force", mark, key, params, path: "/api/v2/forceschedulers/force".into() }
    }

    /// A change; its key is the id of a delivery.
    pub fn hook(number: u64, key: Option<String>) -> Self {
        let mark = format!("r{number}");
        let params = json!({"author": "Ada", "revision": mark, "branch": "main", "comments": "pushed"});
        Self { does: "hook", mark, key, params, path: "/change_hook/base".into() }
    }

    /// The same again of a build that has ended.
    pub fn rebuild(number: u64, build: i64, key: Option<String>) -> Self {
        let path = format!("/api/v2/builds/{build}");
        Self { does: "rebuild", mark: format!("again-{number}"), key, params: json!({}), path }
    }

    fn body(&self) -> String {
        if self.does == "hook" {
            return self.params.to_string();
        }
        json!({"jsonrpc": "2.0", "id": 1, "method": self.does, "params": self.params}).to_string()
    }

    /// In which header its key goes.
    fn key_header(&self) -> &'static str {
        if self.does == "hook" { "x-greenroom-delivery" } else { "idempotency-key" }
    }

    /// The whole request, as it goes over the wire.
    pub fn request(&self, port: u16) -> String {
        let body = self.body();
        let key = self.key.as_deref().map(|key| format!("{}: {key}\r\n", self.key_header()));
        format!(
            "POST {} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n{body}",
            self.path,
            key.unwrap_or_default(),
            body.len()
        )
    }
}

impl<'a> Load<'a> {
    pub fn new(history: &'a History) -> Self {
        let (next, begun) = (AtomicU64::new(1), AtomicUsize::new(0));
        Self { history, next, begun, stop: AtomicBool::new(false) }
    }

    /// A number that no other call of this run has.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// How many calls have begun.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// Clients stop after their present call.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Clients stop after their present call when this is dropped, also by a failure.
    pub fn while_it_lasts(&self) -> Lasts<'_> {
        Lasts(&self.stop)
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Writes down that somebody asks.
    pub fn begin(&self, rest: &Rest, asked: &Asked) -> Call<'a> {
        let call = self.history.begin(&json!({
            "do": asked.does, "mark": asked.mark, "key": asked.key, "port": rest.port(),
        }));
        self.begun.fetch_add(1, Ordering::SeqCst);
        call
    }

    /// Asks once; gives the answer if it is acknowledged.
    pub fn ask(&self, rest: &Rest, asked: &Asked) -> Option<Value> {
        let call = self.begin(rest, asked);
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(asked.key.as_deref().map(|key| (asked.key_header(), key)));
        let Ok(answer) = rest.try_post(&asked.path, &headers, asked.body().as_bytes()) else {
            call.end(Outcome::Unknown, None, &Value::Null);
            return None;
        };
        let outcome = Outcome::of(answer.status);
        let result = match (outcome, asked.does) {
            (Outcome::Ok, "hook") => Value::Bool(true),
            (Outcome::Ok, _) => buildset_of(&answer.json()["result"]),
            _ => Value::String(answer.text),
        };
        call.end(outcome, Some(answer.status), &result);
        (outcome == Outcome::Ok).then_some(result)
    }

    /// Asks again under the same key until there is an answer, each time whom `whom` says.
    #[track_caller]
    pub fn insist(&self, whom: impl Fn() -> Rest, asked: &Asked) -> Value {
        assert!(asked.key.is_some(), "only who has a key may ask again: {asked:?}");
        patience(PATIENCE, &format!("an answer to {asked:?}"), || self.ask(&whom(), asked))
    }
}

/// As long as it lives, clients go on.
pub struct Lasts<'a>(&'a AtomicBool);

impl Drop for Lasts<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What a client relies on: the buildset and its requests.
fn buildset_of(result: &Value) -> Value {
    let requests: Vec<&Value> = result[1].as_object().into_iter().flat_map(|it| it.values()).collect();
    json!({"bsid": result[0], "requests": requests})
}

/// Dice of its own for each client.
pub fn dice_of(dice: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(dice.random())
}
