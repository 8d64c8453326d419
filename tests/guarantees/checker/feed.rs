//! G22: a snapshot and the stream after it make a fresh snapshot, none is missing, none comes twice. G4: what has ended stays so.
//!
//! Lines of a client: `{"client", "snapshot": COLLECTION, "clock", "rows": {ID: ROW}}`, `{"client", "k", "m", "clock"}`,
//! `{"client", "resumed", "clock"}`, `{"client", "idle": CLOCK}`, `{"client", "gone": true}`, `{"client", "over": true}`. Lines for
//! all: `{"reference": COLLECTION, "since": CLOCK, "k", "m"}` (every event, read at the end in one go), and `{"fresh": COLLECTION,
//! "rows"}`.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::path::Path;

use greenroom_model::Clock;
use serde_json::Value;

use super::{Final, Findings, each_line};

/// What a client holds.
struct Client {
    collection: String,
    /// Where its snapshot stood.
    since: String,
    clock: Clock,
    rows: BTreeMap<String, Value>,
    /// How often it was told each event, by digest.
    told: HashMap<u64, i64>,
    over: bool,
}

/// The events after a snapshot: how often each is there, by digest, with its key.
type Reference = HashMap<u64, (i64, String)>;

#[derive(Default)]
struct Reader {
    clients: BTreeMap<i64, Client>,
    references: HashMap<(String, String), Reference>,
    fresh: HashMap<String, BTreeMap<String, Value>>,
}

pub(super) fn judge(dir: &Path, state: &Final, findings: &mut Findings) {
    let mut reader = Reader::default();
    each_line(dir, "feed.jsonl", |line| reader.take(&line, findings));
    for (number, client) in &reader.clients {
        reader.judge_client(*number, client, findings);
        if state.settled() {
            told_ends(*number, client, state, findings);
        }
    }
}

fn digest(line: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    line["k"].as_str().hash(&mut hasher);
    line["m"].to_string().hash(&mut hasher);
    hasher.finish()
}

fn rows_of(line: &Value) -> BTreeMap<String, Value> {
    let rows = line["rows"].as_object().expect("rows by id");
    rows.iter().map(|(id, row)| (id.clone(), row.clone())).collect()
}

fn text<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}"))
}

impl Reader {
    fn take(&mut self, line: &Value, findings: &mut Findings) {
        if let Some(collection) = line["reference"].as_str() {
            let place = (collection.to_owned(), text(line, "since").to_owned());
            let reference = self.references.entry(place).or_default();
            if line["k"].is_string() {
                reference.entry(digest(line)).or_insert_with(|| (0, text(line, "k").to_owned())).0 += 1;
            }
        } else if let Some(collection) = line["fresh"].as_str() {
            self.fresh.insert(collection.to_owned(), rows_of(line));
        } else {
            let number = line["client"].as_i64().unwrap_or_else(|| panic!("whose line is {line}"));
            self.take_of(number, line, findings);
        }
    }

    fn take_of(&mut self, number: i64, line: &Value, findings: &mut Findings) {
        if let Some(collection) = line["snapshot"].as_str() {
            let since = text(line, "clock").to_owned();
            let clock = since.parse().expect("a clock");
            let (rows, told) = (rows_of(line), HashMap::new());
            let client = Client { collection: collection.to_owned(), since, clock, rows, told, over: false };
            self.clients.insert(number, client);
            return;
        }
        let Some(client) = self.clients.get_mut(&number) else {
            findings.fault("G22", format!("client {number} was told something before its snapshot: {line}"));
            return;
        };
        if line["gone"] == true {
            findings.fault("G22", format!("client {number} was told that its clock is gone: {line}"));
        } else if line["over"] == true {
            client.over = true;
        } else if line["resumed"].is_string() {
            findings.resumptions += 1;
        } else if let Some(idle) = line["idle"].as_str() {
            client.move_to(number, idle, false, findings);
        } else {
            findings.events += 1;
            client.hear(number, line, findings);
        }
    }

    fn judge_client(&self, number: i64, client: &Client, findings: &mut Findings) {
        if !client.over {
            return;
        }
        if let Some(fresh) = self.fresh.get(&client.collection) {
            for (id, row) in fresh {
                let Some(held) = client.rows.get(id) else {
                    findings.fault("G22", format!("client {number} has never heard of {row}"));
                    continue;
                };
                for (field, value) in differences(held, row) {
                    let what = format!(
                        "client {number} holds {} {id} with {field} = {}, but it is {value}",
                        client.collection, held[field]
                    );
                    findings.fault("G22", what);
                }
            }
            for (id, held) in client.rows.iter().filter(|(id, _)| !fresh.contains_key(*id)) {
                findings.fault("G22", format!("client {number} holds {id}, which is no more: {held}"));
            }
        }
        let place = (client.collection.clone(), client.since.clone());
        let Some(reference) = self.references.get(&place) else { return };
        for (event, (count, key)) in reference {
            let told = client.told.get(event).copied().unwrap_or(0);
            if told != *count {
                let what = format!("client {number} was told {key} {told} times, not {count} times");
                findings.fault("G22", what);
            }
        }
        let strange = client.told.keys().filter(|event| !reference.contains_key(event)).count();
        if strange > 0 {
            findings.fault("G22", format!("client {number} was told {strange} events that are not stored"));
        }
    }
}

impl Client {
    fn hear(&mut self, number: i64, line: &Value, findings: &mut Findings) {
        let key = text(line, "k");
        self.move_to(number, text(line, "clock"), true, findings);
        *self.told.entry(digest(line)).or_default() += 1;
        let id = id_of(&line["m"], &self.collection).unwrap_or_else(|| panic!("{key}: no id: {line}"));
        if key.ends_with("/deleted") {
            self.rows.remove(&id);
            return;
        }
        let earlier = self.rows.insert(id, line["m"].clone());
        if let Some(earlier) = earlier.filter(|it| is_final(it) && ending(it) != ending(&line["m"])) {
            findings.fault(
                "G4",
                format!("client {number}: {key} changed after its end: {earlier} {}", line["m"]),
            );
        }
    }

    /// Its clock only moves on, and with an event it must.
    fn move_to(&mut self, number: i64, clock: &str, must: bool, findings: &mut Findings) {
        let clock: Clock = match clock.parse() {
            Ok(clock) => clock,
            Err(_) => return findings.fault("G22", format!("client {number} was given no clock: {clock}")),
        };
        if !clock.covers(&self.clock) {
            let what = format!("client {number}: the clock goes back from {} to {clock}", self.clock);
            findings.fault("G22", what);
        } else if must && clock == self.clock {
            findings.fault("G22", format!("client {number}: two events have the clock {clock}"));
        }
        self.clock = clock;
    }
}

/// The id of an entity, as text.
pub fn id_of(row: &Value, collection: &str) -> Option<String> {
    let name = match collection {
        "builds" => "buildid",
        "buildrequests" => "buildrequestid",
        "buildsets" => "bsid",
        "changes" => "changeid",
        "workers" => "workerid",
        _ => return None,
    };
    row[name].as_i64().map(|it| it.to_string())
}

/// The fields of a row, as a list has it, that a client holds otherwise. Events may say more than lists do.
fn differences<'a>(held: &Value, row: &'a Value) -> Vec<(&'a str, &'a Value)> {
    let fields = row.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| held.get(name) != Some(value))
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}

fn is_final(row: &Value) -> bool {
    row["complete"] == true
}

fn ending(row: &Value) -> [&Value; 3] {
    [&row["complete"], &row["results"], &row["complete_at"]]
}

/// What a client was told of an end is how it ended.
fn told_ends(number: i64, client: &Client, state: &Final, findings: &mut Findings) {
    for row in state.rows(&client.collection) {
        let held = id_of(row, &client.collection).and_then(|id| client.rows.get(&id));
        if let Some(held) = held.filter(|it| is_final(it) && ending(it) != ending(row)) {
            findings.fault("G4", format!("client {number} was told of the end {held}, but it is {row}"));
        }
    }
}
