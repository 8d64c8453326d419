//! The feed of a process that is killed by signal at random instants, over a database file. The parent is the client: it
//! keeps what it was told, and the clock of that, and resumes with every new process. At the end it knows exactly what the
//! database knows, and nothing that was acknowledged is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use greenroom_data::{DataLayer, DataOptions, Delivery};
use greenroom_model::*;
use greenroom_runtime::{Dice, Runtime};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::judge::Client;
use crate::world::{Writer, configuration, everything, versions};

const DIR: &str = "GREENROOM_TEST_KILL_DIR";
const SINCE: &str = "GREENROOM_TEST_KILL_SINCE";
const SEED: &str = "GREENROOM_TEST_KILL_SEED";
/// Killed so often.
const KILLS: u64 = 40;
/// The name of the test that is the process to be killed.
const CHILD: &str = "kill::the_process_that_is_killed";

/// What the child says, a line each.
enum Line {
    /// The clock that the client stands at.
    Clock(Clock),
    /// An entity of the first snapshot, or of the last.
    Entity(EntityKey, i64),
    /// An event: master, number, entity, version.
    Event(MasterId, i64, EntityKey, i64),
    /// The change of this revision is durable.
    Acknowledged(String),
    /// All was said.
    End,
}

fn entity(kind: &str, id: &str) -> EntityKey {
    let kinds = [
        "masters",
        "builders",
        "workers",
        "schedulers",
        "changesources",
        "buildsets",
        "buildrequests",
        "builds",
        "steps",
        "changes",
    ];
    let kind = kinds.into_iter().find(|k| *k == kind).expect("a known kind");
    EntityKey(kind, id.parse().expect("an id"))
}

fn parse(line: &str) -> Option<Line> {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |w: &str| w.parse::<i64>().expect("a number");
    match words.as_slice() {
        ["=clock", clock] => Some(Line::Clock(clock.parse().expect("a clock"))),
        ["=entity", kind, id, version] => Some(Line::Entity(entity(kind, id), number(version))),
        ["=event", master, seq, kind, id, version] => {
            Some(Line::Event(MasterId(number(master)), number(seq), entity(kind, id), number(version)))
        }
        ["=ack", revision] => Some(Line::Acknowledged((*revision).to_owned())),
        ["=end"] => Some(Line::End),
        _ => None,
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // One write a line: what the parent reads is whole, or cut by the kill.
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}

/// The process that is killed. Run by the parent only; as a test of its own it has nothing to say.
#[test]
fn the_process_that_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let since = std::env::var(SINCE).ok().map(|c| c.parse::<Clock>().expect("a clock"));
    let seed: Option<u64> = std::env::var(SEED).ok().and_then(|s| s.parse().ok());
    actix_rt::System::new().block_on(async move {
        let runtime = Runtime::builder().dice(Dice::from_os()).build();
        let options = DataOptions {
            database_url: "sqlite://kill.db".into(),
            data_dir: dir.into(),
            bus: None,
            master_name: "main".into(),
        };
        let layer = DataLayer::start(&runtime.root(), options).await.expect("the data layer");
        layer.rw().write(vec![configuration()]).await.expect("configured");
        live(layer, since, seed).await;
    });
}

/// Tells the feed since a clock; writes meanwhile if there is a seed, else says all that there is and ends.
async fn live(layer: DataLayer, since: Option<Clock>, seed: Option<u64>) {
    say(""); // ends the line that the test runner has begun
    let hot = layer.ro().hot();
    let since = since.unwrap_or_else(|| {
        tell_entities(&versions(&hot));
        hot.clock.clone()
    });
    say(&format!("=clock {since}"));
    let mut feed = layer.ro().subscribe(everything(), Some(since)).await.expect("a subscription");
    if let Some(seed) = seed {
        for n in 0..2 {
            let mut writer = Writer::new(layer.rw(), seed * 2 + n);
            actix_rt::spawn(async move {
                loop {
                    match writer.write().await {
                        Ok(Some(revision)) => say(&format!("=ack {revision}")),
                        Ok(None) => {}
                        Err(error) => eprintln!("a writer was told: {error}"),
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
    }
    while seed.is_some() || !feed.clock().covers(&layer.ro().hot().clock) {
        match feed.next().await {
            Delivery::Event(event) => {
                let e = &event.frame.event;
                let EntityKey(kind, id) = e.what.record.entity();
                say(&format!("=event {} {} {kind} {id} {}", e.master, e.seq, e.what.record.version()));
            }
            Delivery::Ended(why) => panic!("{why:?}"),
        }
    }
    tell_entities(&versions(&layer.ro().hot()));
    let changes = layer.ro().list::<Change>(Query::default()).await.expect("the changes").value;
    for change in changes.items {
        say(&format!("=ack {}", change.revision.as_deref().unwrap_or_default()));
    }
    say("=end");
}

fn tell_entities(all: &BTreeMap<EntityKey, i64>) {
    for (EntityKey(kind, id), version) in all {
        say(&format!("=entity {kind} {id} {version}"));
    }
}

fn spawn(dir: &std::path::Path, since: Option<&Clock>, seed: Option<u64>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", CHILD, "--nocapture", "--test-threads", "1"]);
    command.env(DIR, dir).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(since) = since {
        command.env(SINCE, since.to_string());
    }
    if let Some(seed) = seed {
        command.env(SEED, seed.to_string());
    }
    command.spawn().expect("a child")
}

#[test]
fn a_killed_process_loses_nothing_and_says_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = StdRng::seed_from_u64(11);
    let mut client = Client::default();
    let mut begun = false;
    let mut acknowledged = BTreeSet::new();
    let mut events = 0;
    for round in 0..KILLS {
        let mut child = spawn(dir.path(), begun.then_some(&client.clock), Some(round));
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut killer = None;
        let (delay, pid) = (Duration::from_millis(dice.random_range(1..120)), child.id());
        let mut snapshot = BTreeMap::new();
        let mut lines =
            lines.split(b'\n').map_while(Result::ok).filter_map(|l| String::from_utf8(l).ok()).peekable();
        while let Some(line) = lines.next() {
            // The last line may have been cut by the kill: it was not said.
            if lines.peek().is_none() {
                break;
            }
            match parse(&line) {
                Some(Line::Entity(entity, version)) => _ = snapshot.insert(entity, version),
                Some(Line::Clock(clock)) => {
                    if !begun {
                        client = Client::begin(clock, std::mem::take(&mut snapshot));
                        begun = true;
                    }
                    // The kill comes at a random moment of its own, not between two lines.
                    killer = Some(std::thread::spawn(move || kill_after(delay, pid)));
                }
                Some(Line::Event(master, seq, entity, version)) => {
                    client.event(master, seq, entity, version);
                    events += 1;
                }
                Some(Line::Acknowledged(revision)) => _ = acknowledged.insert(revision),
                Some(Line::End) | None => {}
            }
        }
        killer.expect("the process said where it begins").join().unwrap();
        child.wait().unwrap();
    }
    assert!(events > 200, "only {events} events in all: the kills came too early to say anything");
    finish(dir.path(), client, &acknowledged);
}

fn kill_after(delay: Duration, pid: u32) {
    #[allow(clippy::disallowed_methods, reason = "a random moment is the point")]
    std::thread::sleep(delay);
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
}

/// The last process writes nothing and says all that there is.
fn finish(dir: &std::path::Path, mut client: Client, acknowledged: &BTreeSet<String>) {
    let mut child = spawn(dir, Some(&client.clock), None);
    let (mut truth, mut stored, mut ended) = (BTreeMap::new(), BTreeSet::new(), false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        match parse(&line) {
            Some(Line::Event(master, seq, entity, version)) => client.event(master, seq, entity, version),
            Some(Line::Entity(entity, version)) => _ = truth.insert(entity, version),
            Some(Line::Acknowledged(revision)) => _ = stored.insert(revision),
            Some(Line::End) => ended = true,
            Some(Line::Clock(_)) | None => {}
        }
    }
    child.wait().unwrap();
    assert!(ended, "the last process did not say everything");
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    assert_eq!(client.judge(&truth), []);
}
