//! Clients of the feed that lose their connection at random and resume: by WebSocket, server-sent events or long poll, at any master.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use greenroom_model::Clock;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::checker::id_of;
use crate::harness::Rest;
use crate::history::History;

/// What can be followed, and how it is called in topics and lists.
pub const COLLECTIONS: [&str; 4] = ["builds", "buildrequests", "buildsets", "changes"];

/// How long a client that found no master waits.
const AGAIN: Duration = Duration::from_millis(20);
/// A list as of when it is whole takes no longer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// A snapshot of a collection, from which clients begin.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub collection: &'static str,
    pub clock: String,
    pub rows: Map<String, Value>,
}

impl Snapshot {
    #[track_caller]
    pub fn of(rest: &Rest, collection: &'static str) -> Self {
        let answer = rest.try_get(&format!("/api/v2/{collection}")).expect("a snapshot");
        assert_eq!(answer.status, 200, "{}", answer.text);
        let clock = answer.header("greenroom-clock").expect("a clock").to_owned();
        let rows = answer.json()[collection].as_array().cloned().expect("rows");
        let rows = rows.into_iter().map(|row| (id_of(&row, collection).expect("an id"), row)).collect();
        Self { collection, clock, rows }
    }
}

/// One client.
pub struct Follower {
    number: usize,
    collection: &'static str,
    clock: String,
    /// Of the masters; some of them may be dead.
    ports: Vec<u16>,
    dice: StdRng,
    history: Arc<History>,
    /// How long a connection lasts, in milliseconds.
    lasts: std::ops::Range<u64>,
    /// How often it and its likes have resumed.
    resumptions: Arc<AtomicUsize>,
}

/// Why a connection ended by itself.
type Broken = Box<dyn std::error::Error + Send + Sync>;

impl Follower {
    pub fn new(
        number: usize,
        from: &Snapshot,
        ports: Vec<u16>,
        dice: StdRng,
        history: Arc<History>,
        lasts: std::ops::Range<u64>,
        resumptions: Arc<AtomicUsize>,
    ) -> Self {
        let (collection, clock) = (from.collection, from.clock.clone());
        history.fed(json!({"client": number, "snapshot": collection, "clock": clock, "rows": from.rows}));
        Self { number, collection, clock, ports, dice, history, lasts, resumptions }
    }

    fn topic(&self) -> String {
        format!("{}/*/*", self.collection)
    }

    /// Follows, with a connection cut off again and again, until `stop`.
    pub async fn follow(mut self, mut stop: watch::Receiver<bool>) -> Self {
        while !*stop.borrow() {
            let port = self.ports[self.dice.random_range(0..self.ports.len())];
            let lasts = Duration::from_millis(self.dice.random_range(self.lasts.clone()));
            let face = self.dice.random_range(0..3);
            let session = async {
                match face {
                    0 => self.by_web_socket(port).await,
                    1 => self.by_events(port).await,
                    _ => self.by_polls(port).await,
                }
            };
            tokio::select! {
                ended = timeout(lasts, session) => if let Ok(Err(_)) = ended {
                    sleep(AGAIN).await;
                },
                _ = stop.changed() => {}
            }
        }
        self
    }

    /// Reads on until its clock holds all of `clock`.
    pub async fn catch_up(mut self, clock: Clock, within: Duration) {
        let until = Instant::now() + within;
        while !self.clock.parse::<Clock>().is_ok_and(|it| it.covers(&clock)) {
            assert!(
                Instant::now() < until,
                "client {} has not reached {clock}, only {}",
                self.number,
                self.clock
            );
            let port = self.ports[self.dice.random_range(0..self.ports.len())];
            if self.poll(port, "5s").await.is_err() {
                sleep(AGAIN).await;
            }
        }
        self.history.fed(json!({"client": self.number, "over": true}));
    }

    fn resumed(&mut self, face: &str, port: u16) {
        self.resumptions.fetch_add(1, Ordering::Relaxed);
        let line = json!({"client": self.number, "resumed": face, "port": port, "clock": self.clock});
        self.history.fed(line);
    }

    fn told(&mut self, key: &Value, entity: &Value, clock: &str) {
        self.clock = clock.to_owned();
        self.history.fed(json!({"client": self.number, "k": key, "m": entity, "clock": clock}));
    }

    fn idle(&mut self, clock: &str) {
        if clock != self.clock {
            self.clock = clock.to_owned();
            self.history.fed(json!({"client": self.number, "idle": clock}));
        }
    }

    fn gone(&self, said: &str) {
        self.history.fed(json!({"client": self.number, "gone": true, "said": said}));
    }

    async fn by_polls(&mut self, port: u16) -> Result<(), Broken> {
        self.resumed("poll", port);
        loop {
            self.poll(port, "5s").await?;
        }
    }

    async fn poll(&mut self, port: u16, wait: &str) -> Result<(), Broken> {
        let path = format!("/api/v2/events?topic={}&since={}&wait={wait}", self.topic(), self.clock);
        let (status, body) = get(port, &path).await?;
        match status {
            200 => {}
            410 => {
                self.gone(&body);
                return Err("gone".into());
            }
            _ => return Err(format!("{status} {body}").into()),
        }
        let answer: Value = serde_json::from_str(&body)?;
        for event in answer["events"].as_array().ok_or("no events")? {
            self.told(&event["k"], &event["m"], event["c"].as_str().ok_or("no clock")?);
        }
        self.idle(answer["clock"].as_str().ok_or("no clock")?);
        Ok(())
    }

    async fn by_events(&mut self, port: u16) -> Result<(), Broken> {
        let path = format!("/api/v2/events?topic={}", self.topic());
        // What an `EventSource` sends when it resumes.
        let headers = format!("Accept: text/event-stream\r\nLast-Event-ID: {}\r\n", self.clock);
        let mut lines = open(port, &path, &headers).await?;
        let status = head(&mut lines).await?;
        if status != 200 {
            return Err(format!("status {status}").into());
        }
        self.resumed("sse", port);
        let (mut id, mut data, mut name) = (None::<String>, None::<String>, None::<String>);
        while let Some(line) = lines.next_line().await? {
            match line.split_once(": ") {
                Some(("id", text)) => id = Some(text.to_owned()),
                Some(("data", text)) => data = Some(text.to_owned()),
                Some(("event", text)) => name = Some(text.to_owned()),
                _ if line.is_empty() => match (name.take(), id.take(), data.take()) {
                    (Some(name), _, data) => {
                        if name == "gone" {
                            self.gone(&data.unwrap_or_default());
                        }
                        return Err(name.into());
                    }
                    (None, Some(id), Some(data)) => {
                        let event: Value = serde_json::from_str(&data)?;
                        self.told(&event["k"], &event["m"], &id);
                    }
                    (None, Some(id), None) => self.idle(&id),
                    _ => {}
                },
                _ => {}
            }
        }
        Err("the stream ended".into())
    }

    async fn by_web_socket(&mut self, port: u16) -> Result<(), Broken> {
        let url = format!("ws://127.0.0.1:{port}/ws");
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
        let start = json!({"cmd": "startConsuming", "paths": [self.topic()], "since": self.clock, "_id": 1});
        socket.send(Message::text(start.to_string())).await?;
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else { continue };
            let frame: Value = serde_json::from_str(&text)?;
            if frame["code"] == 200 {
                self.resumed("ws", port);
            } else if frame["error"].is_string() {
                if frame["code"] == 410 {
                    self.gone(&text);
                }
                return Err(text.to_string().into());
            } else if frame["k"].is_string() {
                self.told(&frame["k"], &frame["m"], frame["c"].as_str().ok_or("no clock")?);
            } else if let Some(clock) = frame["c"].as_str() {
                self.idle(clock);
            }
        }
        Err("the socket ended".into())
    }
}

/// Sends a GET whose answer ends with the connection. A stream comes in chunks, whose frames are lines that look like nothing else.
async fn open(port: u16, path: &str, headers: &str) -> Result<Lines<BufReader<TcpStream>>, Broken> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await?;
    Ok(BufReader::new(socket).lines())
}

/// Reads an answer's head; gives the status.
async fn head(lines: &mut Lines<BufReader<TcpStream>>) -> Result<u16, Broken> {
    let first = lines.next_line().await?.ok_or("no answer")?;
    let status = first.split(' ').nth(1).ok_or("no status")?.parse()?;
    while !lines.next_line().await?.ok_or("half a head")?.is_empty() {}
    Ok(status)
}

/// GETs JSON.
pub async fn get(port: u16, path: &str) -> Result<(u16, String), Broken> {
    let mut lines = open(port, path, "Accept: application/json\r\n").await?;
    let status = head(&mut lines).await?;
    let mut body = String::new();
    lines.into_inner().read_to_string(&mut body).await?;
    Ok((status, body))
}

/// Writes down everything that is stored after a snapshot, read in one go, and the collection as it is now: what a client must have.
pub async fn reference(history: &History, rest: &Rest, from: &Snapshot, upto: &Clock) {
    let collection = from.collection;
    let mut clock = from.clock.clone();
    history.fed(json!({"reference": collection, "since": from.clock}));
    while !clock.parse::<Clock>().is_ok_and(|it| it.covers(upto)) {
        let path = format!("/api/v2/events?topic={collection}/*/*&since={clock}&wait=10s");
        let answer = timeout(ANSWERS_WITHIN, get(rest.port(), &path)).await.expect("in time");
        let (status, body) = answer.expect("an answer");
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        for event in answer["events"].as_array().expect("events") {
            let line =
                json!({"reference": collection, "since": from.clock, "k": event["k"], "m": event["m"]});
            history.fed(line);
        }
        clock = answer["clock"].as_str().expect("a clock").to_owned();
    }
    let fresh = Snapshot::of(rest, collection);
    history.fed(json!({"fresh": collection, "clock": fresh.clock, "rows": fresh.rows}));
}
