//! G26: a clock that is too old, from the future or of another database is answered with "gone", in every form of the feed; never
//! with silence, never with a part of what happened.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use greenroom_model::{Clock, MasterId};
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Farm, binary};
use crate::run::Run;
use crate::sqlite::sqlite;

/// Silence for so long is a fault.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What a face of the feed says to a clock.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Gone,
    /// It goes on.
    GoesOn,
}

/// Asks all faces; they must agree.
#[track_caller]
fn asked(farm: &Farm, clock: &str) -> Said {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let port = farm.port();
    let (poll, events, socket) = runtime.block_on(async {
        let patient = |face: &'static str| move |_| panic!("{face} is silent about {clock}");
        let poll = timeout(ANSWERS_WITHIN, by_poll(port, clock)).await.unwrap_or_else(patient("long poll"));
        let events = timeout(ANSWERS_WITHIN, by_events(port, clock)).await.unwrap_or_else(patient("SSE"));
        let socket = timeout(ANSWERS_WITHIN, by_socket(port, clock)).await.unwrap_or_else(patient("/ws"));
        (poll, events, socket)
    });
    let gone = |it: &Said| *it == Said::Gone;
    assert_eq!(
        (gone(&poll), gone(&poll)),
        (gone(&events), gone(&socket)),
        "{clock}: {poll:?} {events:?} {socket:?}"
    );
    poll
}

/// For what goes into a URL.
fn escaped(clock: &str) -> String {
    clock.bytes().map(|it| format!("%{it:02X}")).collect()
}

async fn by_poll(port: u16, clock: &str) -> Said {
    let path = format!("/api/v2/events?topic=changes/*/new&since={}&wait=1ms", escaped(clock));
    let (status, body) = crate::follower::get(port, &path).await.expect("an answer");
    match status {
        410 => Said::Gone,
        200 => Said::GoesOn,
        other => panic!("long poll: {other} {body}"),
    }
}

async fn by_events(port: u16, clock: &str) -> Said {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let request = format!(
        "GET /api/v2/events?topic=changes/*/new&since={} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nAccept: text/event-stream\r\n\r\n",
        escaped(clock)
    );
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut lines = BufReader::new(socket).lines();
    let mut first = String::new();
    while let Some(line) = lines.next_line().await.expect("a stream") {
        if first.is_empty() {
            assert!(line.contains(" 200 "), "SSE: {line}");
            first = line;
        } else if line == "event: gone" {
            let data = lines.next_line().await.expect("a stream").unwrap_or_default();
            assert!(data.contains("410"), "{data}");
            // And the stream ends: nothing but the last chunk's frame comes.
            while let Some(line) = lines.next_line().await.expect("an end") {
                assert!(line.is_empty() || line == "0", "after gone: {line}");
            }
            return Said::Gone;
        } else if line.starts_with("id: ") {
            return Said::GoesOn;
        }
    }
    panic!("SSE ended without a word about {clock}");
}

async fn by_socket(port: u16, clock: &str) -> Said {
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{port}/ws")).await.expect("/ws");
    let start = json!({"cmd": "startConsuming", "paths": ["changes/*/new"], "since": clock, "_id": 1});
    socket.send(Message::text(start.to_string())).await.expect("sent");
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message.expect("a frame") else { continue };
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        match frame["code"].as_i64() {
            Some(410) => {
                assert_eq!((&frame["error"], &frame["_id"]), (&json!("gone"), &json!(1)), "{frame}");
                return Said::Gone;
            }
            Some(200) => return Said::GoesOn,
            _ => panic!("/ws: {frame}"),
        }
    }
    panic!("/ws ended without a word about {clock}");
}

/// The feed goes on after a clock of its own, with so many events, by polls.
#[track_caller]
fn goes_on(farm: &Farm, clock: &str, events: usize) {
    assert_ne!(asked(farm, clock), Said::Gone, "a clock of ours: {clock}");
    let (mut heard, mut at) = (0, clock.to_owned());
    while heard < events {
        let path = format!("/api/v2/events?topic=changes/*/new&since={at}&wait=10s");
        let answer = farm.rest().try_get(&path).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);
        let answer = answer.json();
        let told = answer["events"].as_array().expect("events").len();
        assert!(told > 0, "{heard} of {events} events after {clock}, then silence");
        (heard, at) = (heard + told, answer["clock"].as_str().expect("a clock").to_owned());
    }
    assert_eq!(heard, events, "after {clock}");
}

/// The clock of the state as it is.
#[track_caller]
fn now(farm: &Farm) -> String {
    let answer = farm.rest().try_get("/api/v2/changes?limit=1").expect("an answer");
    answer.header("greenroom-clock").expect("a clock").to_owned()
}

/// Pushes changes; gives the clock after each.
#[track_caller]
fn push(farm: &Farm, from: usize, count: usize) -> Vec<String> {
    let one = |n: usize| {
        farm.push_change("main", &format!("r{n}"));
        now(farm)
    };
    (from..from + count).map(one).collect()
}

/// A clock that this service never gave, well formed or not.
fn forged(good: &Clock, dice: &mut StdRng) -> String {
    let mut clock = good.clone();
    let (master, head) = good.heads().next().expect("a master");
    match dice.random_range(0..6) {
        0 => clock.set(master, head + dice.random_range(1..1_000_000)),
        1 => clock.set(MasterId(dice.random_range(50..1_000)), dice.random_range(1..100)),
        2 => clock.generation += dice.random_range(1..1_000),
        3 => clock.generation -= dice.random_range(1..1_000),
        4 => clock.set(master, i64::MAX),
        _ => {
            let mut text = clock.to_string().into_bytes();
            let at = dice.random_range(0..text.len());
            text[at] = if text[at] == b'0' { b'1' } else { b'0' };
            return String::from_utf8(text).expect("ASCII");
        }
    }
    clock.to_string()
}

#[test]
fn g26_forged_clocks_and_those_from_the_future_are_gone() {
    let mut run = Run::of("G26");
    let farm = Farm::raise("");
    let clocks = push(&farm, 0, 10);
    let good: Clock = clocks[9].parse().expect("a clock");
    let count = run.figure(40, 2_000);
    for _ in 0..count {
        let clock = forged(&good, &mut run.dice);
        assert_eq!(asked(&farm, &clock), Said::Gone, "{clock}");
    }
    for clock in ["0", "x", ".", "0.0", "-1.00000000", "1760000000000000:1.4711", &"f".repeat(2_000)] {
        assert_eq!(asked(&farm, clock), Said::Gone, "{clock}");
    }
    goes_on(&farm, &clocks[9], 0);
    goes_on(&farm, &clocks[4], 5);
    run.kept(&format!("{count} forged clocks at three faces: all gone"));
}

#[test]
fn g26_clocks_of_pruned_events_are_gone() {
    let run = Run::of("G26");
    let mut farm = Farm::raise("");
    let clocks = push(&farm, 0, 20);
    farm.kill_master();
    let floor: Clock = clocks[9].parse().expect("a clock");
    let (master, seq) = floor.heads().next().expect("a master");
    let database = farm.data_dir().join("greenroom.db");
    sqlite(&database, &format!("DELETE FROM events WHERE masterid = {} AND seq <= {seq}", master.0));
    sqlite(&database, &format!("UPDATE master_heads SET floor = {seq} WHERE masterid = {}", master.0));
    farm.start();
    for clock in &clocks[..9] {
        assert_eq!(asked(&farm, clock), Said::Gone, "{clock} is before {}", clocks[9]);
    }
    for (nth, clock) in clocks.iter().enumerate().skip(9) {
        goes_on(&farm, clock, 19 - nth);
    }
    assert_eq!(asked(&farm, &Clock::start(floor.generation).to_string()), Said::Gone, "the very first clock");
    run.kept("10 clocks below the floor gone, 11 above it whole");
}

/// Runs a subcommand over the farm's configuration.
#[track_caller]
fn command(farm: &Farm, verb: &str, argument: Option<&std::path::Path>) {
    let mut command = binary();
    command.arg(verb).arg("--config").arg(farm.path("farm.toml")).args(argument);
    let answer = command.output().expect("it runs");
    assert!(answer.status.success(), "{verb}: {}", String::from_utf8_lossy(&answer.stderr));
}

#[test]
fn g26_clocks_of_what_a_restored_backup_forgot_are_gone() {
    let run = Run::of("G26");
    let mut farm = Farm::raise("");
    let before = push(&farm, 0, 5);
    let backups = farm.path("backups");
    std::fs::create_dir(&backups).expect("a directory");
    command(&farm, "backup", Some(&backups));
    let after = push(&farm, 5, 5);
    farm.kill_master();
    for file in std::fs::read_dir(farm.data_dir()).expect("the data").flatten() {
        if file.file_name().to_string_lossy().starts_with("greenroom.") {
            std::fs::remove_file(file.path()).expect("the database is removed");
        }
    }
    let is_state = |path: &std::path::PathBuf| !path.to_string_lossy().contains(".logs.");
    let files = std::fs::read_dir(&backups).expect("backups").flatten().map(|it| it.path());
    command(
        &farm,
        "restore",
        Some(
            &files.filter(|it| it.extension().is_some_and(|it| it == "db")).find(is_state).expect("a backup"),
        ),
    );
    farm.start();
    assert_eq!(farm.rest().list("changes").len(), 5, "as of the backup");
    // Events come a second time under the numbers that clients have seen.
    let again = push(&farm, 5, 5);
    for clock in before.iter().chain(&after) {
        assert_eq!(asked(&farm, clock), Said::Gone, "{clock} is of another life");
    }
    goes_on(&farm, &again[0], 4);
    // And as an operator says it who has put files back.
    farm.kill_master();
    command(&farm, "restore", None);
    farm.start();
    for clock in &again {
        assert_eq!(asked(&farm, clock), Said::Gone, "{clock} is of another life");
    }
    run.kept("15 clocks of two former lives: all gone");
}
