//! The feed over plain HTTP: server-sent events, long polls, and the stock form.

use std::time::Duration;

use greenroom_model::{BuildId, Op};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::seed::seed;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that reads server-sent events.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// Opens and reads the head of the answer.
    async fn open(world: &World, path: &str, headers: &str) -> (Self, String) {
        let mut stream = TcpStream::connect(world.client.0).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", world.client.0);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Self(BufReader::new(stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.line(&mut head).await > 0, "the connection ended in its head: {head}");
        }
        (stream, head)
    }

    async fn line(&mut self, into: &mut String) -> usize {
        timeout(PATIENCE, self.0.read_line(into)).await.expect("a line in time").unwrap()
    }

    /// The next message's fields by name, chunks' sizes left out. None at the end.
    async fn next(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            if self.line(&mut line).await == 0 {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            match line.split_once(": ") {
                Some((name, value)) => fields.push((name.to_owned(), value.to_owned())),
                None if line.is_empty() && !fields.is_empty() => return Some(fields),
                None if line == "0" => return None,
                None => {} // a chunk's size, the end of a chunk, or a comment
            }
        }
    }

    /// The next message with data, as (id, event, data).
    async fn event(&mut self) -> (Option<String>, Option<String>, Value) {
        loop {
            let fields = self.next().await.expect("an event");
            let of = |name: &str| fields.iter().find(|it| it.0 == name).map(|it| it.1.clone());
            if let Some(data) = of("data") {
                let value = serde_json::from_str(&data).unwrap_or(Value::String(data));
                return (of("id"), of("event"), value);
            }
        }
    }
}

async fn describe(world: &World, text: &str) {
    let op = Op::DescribeBuild { build: BuildId(5), state_string: text.to_owned() };
    let done = world.rw().write(vec![op]).await.unwrap();
    world.caught_up(done.at).await;
}

#[actix_rt::test]
async fn a_stream_begins_at_a_clock_and_is_taken_up_after_its_last_event() {
    let world = World::new().await;
    seed(&world).await;
    let clock = world.clock().to_string();
    describe(&world, "one").await;
    let path = format!("/api/v2/events?topic=builds/*/*&since={clock}");
    let (mut stream, head) = Stream::open(&world, &path, "Accept: text/event-stream\r\n").await;
    let lower = head.to_lowercase();
    assert!(head.starts_with("HTTP/1.1 200") && lower.contains("content-type: text/event-stream"), "{head}");
    assert!(lower.contains("greenroom-clock: "), "{head}");
    let (one_id, name, one) = stream.event().await;
    assert_eq!(
        (name, &one["k"], &one["m"]["state_string"]),
        (None, &json!("builds/5/update"), &json!("one"))
    );
    describe(&world, "two").await;
    let (_, _, two) = stream.event().await;
    assert_eq!(two["m"]["state_string"], "two");
    drop(stream);
    // A browser that comes back says what it saw last, whatever the URL says.
    let last = format!("Last-Event-ID: {}\r\n", one_id.unwrap());
    let (mut again, _) = Stream::open(&world, &path, &last).await;
    let (_, _, two) = again.event().await;
    assert_eq!(two["m"]["state_string"], "two");
    world.finish().await;
}

#[actix_rt::test]
async fn a_stream_without_a_clock_begins_now_and_tells_where_it_stands() {
    let world = World::new().await;
    seed(&world).await;
    let (mut stream, _) = Stream::open(&world, "/api/v2/events?topic=builds/*/*", "").await;
    let first = stream.next().await.unwrap();
    assert!(first.contains(&("id".to_owned(), world.clock().to_string())), "{first:?}");
    describe(&world, "now").await;
    assert_eq!(stream.event().await.2["m"]["state_string"], "now");
    world.finish().await;
}

#[actix_rt::test]
async fn what_is_gone_is_said_to_streams_and_to_polls() {
    let world = World::new().await;
    seed(&world).await;
    for since in ["1:1.999999", "nonsense"] {
        let path = format!("/api/v2/events?topic=builds/*/*&since={since}");
        let (mut stream, _) = Stream::open(&world, &path, "").await;
        let (_, name, data) = stream.event().await;
        assert_eq!((name.as_deref(), data), (Some("gone"), json!({ "error": "gone", "code": 410 })));
        assert_eq!(stream.next().await, None, "the stream ends");
        let answer = world.client.get(&format!("{path}&wait=1s")).await;
        assert_eq!(answer.status, 410, "{}", answer.text());
    }
    world.finish().await;
}

#[actix_rt::test]
async fn a_poll_gives_what_came_or_waits_for_it() {
    let world = World::new().await;
    seed(&world).await;
    let began = world
        .client
        .ask("GET", "/api/v2/events?topic=builds/*/*", &[("Accept", "application/json")], b"")
        .await;
    let began = began.json();
    assert_eq!((&began["events"], &began["clock"]), (&json!([]), &json!(world.clock().to_string())));
    describe(&world, "one").await;
    describe(&world, "two").await;
    let since = began["clock"].as_str().unwrap();
    let path = |since: &str, wait: &str| format!("/api/v2/events?topic=builds/*/*&since={since}&wait={wait}");
    let both = world.client.get(&path(since, "30s")).await.json();
    let texts: Vec<_> =
        both["events"].as_array().unwrap().iter().map(|it| &it["m"]["state_string"]).collect();
    assert_eq!(texts, ["one", "two"]);
    assert_eq!(both["clock"], both["events"][1]["c"]);
    let since = both["clock"].as_str().unwrap();
    let none = world.client.get(&path(since, "0ms")).await.json();
    assert_eq!((&none["events"], &none["clock"]), (&json!([]), &json!(since)));
    let path = path(since, "30s");
    let waiting = world.client.get(&path);
    let (waited, ()) = futures_util::join!(waiting, describe(&world, "three"));
    assert_eq!(waited.json()["events"][0]["m"]["state_string"], "three");
    world.finish().await;
}

#[actix_rt::test]
async fn what_is_wrong_with_a_question_is_said() {
    let world = World::new().await;
    for (query, says) in [("", "at least one topic"), ("?topics=x&wait=never", "no such parameter")] {
        let answer = world.client.get(&format!("/api/v2/events{query}")).await;
        assert_eq!(answer.status, 400);
        assert!(answer.json()["error"].as_str().unwrap().contains(says), "{}", answer.text());
    }
    let foreign = [("Origin", "http://evil.example"), ("Accept", "application/json")];
    let refused = world.client.ask("GET", "/api/v2/events?topic=builds/*/*", &foreign, b"").await;
    assert_eq!(refused.status, 400);
    world.finish().await;
}

#[actix_rt::test]
async fn stock_clients_listen_and_change_what_they_listen_to() {
    let world = World::new().await;
    seed(&world).await;
    let (mut stream, head) = Stream::open(&world, "/sse/listen/builds/*/update", "").await;
    assert!(head.to_lowercase().contains("content-type: text/event-stream"), "{head}");
    let (_, name, id) = stream.event().await;
    assert_eq!(name.as_deref(), Some("handshake"));
    let id = id.as_str().unwrap().to_owned();
    describe(&world, "one").await;
    let (_, name, one) = stream.event().await;
    assert_eq!((name.as_deref(), &one["key"]), (Some("event"), &json!(["builds", "5", "update"])));
    assert_eq!(one["message"]["state_string"], "one");
    let removed = world.client.get(&format!("/sse/remove/{id}/builds/*/update")).await;
    assert_eq!((removed.status, removed.text().as_str()), (200, "ok"));
    assert_eq!(world.client.get(&format!("/sse/remove/{id}/builds/*/update")).await.status, 404);
    describe(&world, "unheard").await;
    assert_eq!(world.client.get(&format!("/sse/add/{id}/builds/5/*")).await.text(), "ok");
    describe(&world, "two").await;
    assert_eq!(stream.event().await.2["message"]["state_string"], "two");
    for (path, says) in
        [("add/nobody/builds/*/*", "unknown uuid"), ("add", "need uuid"), ("add/", "need uuid")]
    {
        let answer = world.client.get(&format!("/sse/{path}")).await;
        assert_eq!((answer.status, answer.text().as_str()), (400, says), "{path}");
    }
    let foreign = [("Origin", "http://evil.example")];
    assert_eq!(world.client.ask("GET", "/sse/listen/builds/*/*", &foreign, b"").await.status, 403);
    drop(stream);
    world.finish().await;
}

#[actix_rt::test]
async fn streams_end_when_the_server_stops() {
    let world = World::new().await;
    let (stream, _) = Stream::open(&world, "/api/v2/events?topic=builds/*/*", "").await;
    let (stock, _) = Stream::open(&world, "/sse/listen/builds/*/*", "").await;
    timeout(PATIENCE, world.finish()).await.expect("open streams do not hold the stop");
    for mut stream in [stream, stock] {
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.0.read_to_end(&mut rest)).await.expect("the connection ends").ok();
    }
}

#[actix_rt::test]
async fn a_read_may_name_a_clock_that_it_must_contain() {
    let world = World::new().await;
    seed(&world).await;
    let mut ahead = world.clock();
    let (master, seq) = ahead.heads().next().unwrap();
    ahead.set(master, seq + 1);
    let path = format!("/api/v2/builds/5?after={ahead}");
    let read = world.client.get(&path);
    let (answer, ()) = futures_util::join!(read, async {
        tokio::task::yield_now().await;
        describe(&world, "after").await;
    });
    assert_eq!(answer.json()["builds"][0]["state_string"], "after");
    // Filters and the like are read as without it.
    let filtered =
        format!("/api/v2/builds?buildid__eq=5&field=state_string&field=buildid&after={}", world.clock());
    let filtered = world.client.get(&filtered).await;
    assert_eq!(
        filtered.json()["builds"],
        json!([{ "state_string": "after", "buildid": 5 }]),
        "{}",
        filtered.text()
    );
    ahead.set(master, seq + 1_000);
    let late = world.client.get(&format!("/api/v2/builds/5?after={ahead}")).await;
    assert_eq!((late.status, late.header("retry-after")), (503, "1"), "{}", late.text());
    for wrong in ["nonsense", "1:1.1", &format!("{ahead}&after={ahead}")] {
        let answer = world.client.get(&format!("/api/v2/builds/5?after={wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text());
    }
    world.finish().await;
}
