//! The feed over `/ws`: the contract's form, and ours with clocks.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use greenroom_model::{BuildId, LogId, LogKind, Op, StepId};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::seed::seed;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(30);

/// A client of the feed.
struct Listener(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Listener {
    async fn new(world: &World) -> Self {
        Self(connect_async(format!("ws://{}/ws", world.client.0)).await.unwrap().0)
    }

    async fn say(&mut self, command: Value) {
        self.0.send(Message::text(command.to_string())).await.unwrap();
    }

    /// The next text; none at the end.
    async fn message(&mut self) -> Option<Message> {
        loop {
            let next = timeout(PATIENCE, self.0.next()).await.expect("a frame in time");
            match next {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    async fn next(&mut self) -> Value {
        match self.message().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// The reply to a command; events that come before are dropped.
    async fn reply(&mut self, command: Value) -> Value {
        self.say(command).await;
        loop {
            let next = self.next().await;
            if next.get("code").is_some() {
                return next;
            }
        }
    }

    /// The close code that ends the connection; 0 for an end without one.
    async fn close_code(&mut self) -> u16 {
        loop {
            match self.message().await {
                Some(Message::Close(frame)) => return frame.map_or(0, |it| it.code.into()),
                Some(_) => {}
                None => return 0,
            }
        }
    }
}

fn describe(text: &str) -> Vec<Op> {
    vec![Op::DescribeBuild { build: BuildId(5), state_string: text.into() }]
}

#[actix_rt::test]
async fn the_stock_form_is_exactly_that() {
    let world = World::new().await;
    seed(&world).await;
    let mut listener = Listener::new(&world).await;
    assert_eq!(
        listener.reply(json!({"cmd": "ping", "_id": "p"})).await,
        json!({"msg": "pong", "code": 200, "_id": "p"})
    );
    let start = |path: &str, id: i64| json!({"cmd": "startConsuming", "path": path, "_id": id});
    let stop = |path: &str, id: i64| json!({"cmd": "stopConsuming", "path": path, "_id": id});
    for (command, id) in [
        (start("builds/*/*", 1), 1),
        (start("builds/*/*", 2), 2),
        (start("builds/5/*", 3), 3),
        (start("", 4), 4),
    ] {
        assert_eq!(listener.reply(command).await, json!({"msg": "OK", "code": 200, "_id": id}));
    }
    world.rw().write(describe("one")).await.unwrap();
    // Once per matching subscription, however often the same was started.
    for _ in 0..2 {
        let event = listener.next().await;
        assert_eq!((&event["k"], &event["m"]["state_string"]), (&json!("builds/5/update"), &json!("one")));
        assert_eq!(event.as_object().unwrap().len(), 2);
    }
    let shown = world.client.get("/api/v2/builds/5").await.json()["builds"][0].clone();
    assert_eq!(listener.reply(stop("builds/*/*", 5)).await["code"], 200);
    assert_eq!(
        listener.reply(stop("builds/*/*", 6)).await,
        json!({"error": "path was not consumed 'builds/*/*'", "code": 400, "_id": 6})
    );
    world.rw().write(describe("two")).await.unwrap();
    let event = listener.next().await;
    let keys = |it: &Value| it.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&event["m"]), keys(&shown), "events are whole entities");
    assert_eq!(listener.reply(json!({"cmd": "ping", "_id": 7})).await["msg"], "pong", "nothing came twice");
    listener.say(json!([1])).await;
    assert_eq!(listener.close_code().await, 0, "what is no command ends the connection without a word");
    world.finish().await;
}

#[actix_rt::test]
async fn a_resumed_subscription_misses_nothing_and_repeats_nothing() {
    let world = World::new().await;
    seed(&world).await;
    let snapshot = world.client.get("/api/v2/builds").await;
    let mut since = snapshot.header("greenroom-clock").to_owned();
    let mut seen = Vec::new();
    for round in 0..5 {
        for i in 0..20 {
            world.rw().write(describe(&format!("{round}-{i}"))).await.unwrap();
        }
        let mut listener = Listener::new(&world).await;
        let start = json!({"cmd": "startConsuming", "paths": ["builds/*/*", "steps/*/*"], "since": since, "_id": "live"});
        let reply = listener.reply(start).await;
        assert_eq!((&reply["code"], &reply["_id"]), (&json!(200), &json!("live")), "{reply}");
        assert_eq!(reply["clock"].as_str().unwrap(), since);
        // Leaves in the middle: what was not read is given again to the next.
        for _ in 0..15 {
            let event = listener.next().await;
            assert_eq!((&event["s"], &event["k"]), (&json!("live"), &json!("builds/5/update")));
            since = event["c"].as_str().unwrap().to_owned();
            seen.push(event["m"]["state_string"].as_str().unwrap().to_owned());
        }
    }
    let wanted: Vec<_> =
        (0..5).flat_map(|round| (0..20).map(move |i| format!("{round}-{i}"))).take(75).collect();
    assert_eq!(seen, wanted);
    world.finish().await;
}

#[actix_rt::test]
async fn subscriptions_have_names_limits_and_ends() {
    let world = World::new().await;
    seed(&world).await;
    let mut listener = Listener::new(&world).await;
    let start = |id: i64, since: Value| json!({"cmd": "startConsuming", "path": "builds/*/*", "since": since, "_id": id});
    let clock = world.clock().to_string();
    assert_eq!(listener.reply(start(1, json!(clock))).await["code"], 200);
    assert_eq!(listener.reply(start(1, json!(clock))).await["code"], 400, "its name is taken");
    assert_eq!(listener.reply(start(2, Value::Null)).await["clock"], json!(clock));
    for bad in ["", "nonsense", "ffff.1-1.00000000"] {
        assert_eq!(
            listener.reply(start(3, json!(bad))).await,
            json!({"error": "gone", "code": 410, "_id": 3}),
            "{bad}"
        );
    }
    let mut future = world.clock();
    let me = world.layer.me();
    future.set(me, future.head(me) + 1_000);
    assert_eq!(listener.reply(start(3, json!(future.to_string()))).await["code"], 410);
    assert_eq!(listener.reply(json!({"cmd": "stopConsuming", "_id": 1})).await["code"], 200);
    assert_eq!(listener.reply(json!({"cmd": "stopConsuming", "_id": 1})).await["code"], 400);
    let paths: Vec<_> = (0..198).map(|i| format!("builds/{i}/*")).collect();
    let many = json!({"cmd": "startConsuming", "paths": paths, "_id": 9});
    assert_eq!(listener.reply(many).await["code"], 200);
    assert_eq!(listener.reply(start(10, Value::Null)).await["code"], 200, "the 200th path");
    assert_eq!(listener.reply(start(11, Value::Null)).await["code"], 429);
    world.finish().await;
}

#[actix_rt::test]
async fn a_quiet_subscription_tells_where_it_stands() {
    let world = World::new().await;
    seed(&world).await;
    let mut listener = Listener::new(&world).await;
    let clock = world.clock().to_string();
    let start = json!({"cmd": "startConsuming", "path": "changes/*/*", "since": clock, "_id": 1});
    assert_eq!(listener.reply(start).await["code"], 200);
    let written = world.rw().write(describe("elsewhere")).await.unwrap();
    world.caught_up(written.at).await;
    let mark = listener.next().await;
    let at: greenroom_model::Clock = mark["c"].as_str().unwrap().parse().unwrap();
    assert!(at.contains(written.at.0, written.at.1), "the mark is newer than what went by: {mark}");
    assert_eq!((mark.as_object().unwrap().len(), &mark["s"]), (2, &json!(1)));
    world.finish().await;
}

#[actix_rt::test]
async fn a_client_that_does_not_read_is_closed() {
    let world = World::new().await;
    seed(&world).await;
    let mut listener = Listener::new(&world).await;
    let start = json!({"cmd": "startConsuming", "path": "builds/*/*", "since": null, "_id": 1});
    assert_eq!(listener.reply(start).await["code"], 200);
    // Far more than the buffers of both kernels hold.
    let text = "x".repeat(60 << 10);
    for i in 0..400 {
        world.rw().write(describe(&format!("{i} {text}"))).await.unwrap();
    }
    assert_eq!(listener.close_code().await, 4410);
    assert_eq!(world.client.get("/api/v2").await.status, 200);
    world.finish().await;
}

#[actix_rt::test]
async fn large_frames_are_refused_and_binary_ones_are_read() {
    let world = World::new().await;
    let mut listener = Listener::new(&world).await;
    let ping = json!({"cmd": "ping", "_id": 1}).to_string();
    listener.0.send(Message::binary(ping.into_bytes())).await.unwrap();
    assert_eq!(listener.next().await["msg"], "pong");
    let large = " ".repeat((1 << 20) + 1);
    let _ = listener.0.send(Message::text(large)).await;
    assert!(matches!(listener.close_code().await, 1009 | 0));
    assert_eq!(world.client.get("/ws").await.status, 426);
    world.finish().await;
}

#[actix_rt::test]
async fn a_stop_closes_the_sockets_at_once() {
    let world = World::new().await;
    let mut listener = Listener::new(&world).await;
    assert_eq!(listener.reply(json!({"cmd": "ping", "_id": 1})).await["code"], 200);
    world.serving.stop(true).await;
    assert_eq!(listener.close_code().await, 1001);
    world.finish().await;
}

/// A key with its numbers and slugs as the captures write them.
fn pattern_of(key: &str) -> String {
    let mut parts: Vec<_> =
        key.split('/').map(|it| if it.parse::<i64>().is_ok() { "N" } else { it }.to_owned()).collect();
    if parts.len() == 5 && parts[2] == "logs" {
        parts[3] = "SLUG".into();
    }
    parts.join("/")
}

/// Captured keys of which there is nothing to tell here.
const NOT_SEEN: [&str; 5] = [
    "builders/N/stopped",
    "masters/N/stopped",
    "projects/N/update",
    "test_result_sets/N/completed",
    "test_result_sets/N/new",
];

#[actix_rt::test]
async fn events_have_the_form_of_the_captured_ones() {
    let world = World::new().await;
    world.answer_controls(|_| Some(greenroom_model::ControlAnswer::Done(Value::Null))).await;
    let captured: Value = serde_json::from_str(include_str!("../contract/ws_events.json")).unwrap();
    let captured = captured.as_object().unwrap();
    let mut listener = Listener::new(&world).await;
    for pattern in captured.keys() {
        let path: Vec<_> =
            pattern.split('/').map(|it| if matches!(it, "N" | "SLUG") { "*" } else { it }).collect();
        let start = json!({"cmd": "startConsuming", "path": path.join("/"), "_id": pattern});
        assert_eq!(listener.reply(start).await["code"], 200);
    }
    seed(&world).await;
    let worker = greenroom_model::WorkerId(1);
    let results = greenroom_model::Results::Retry;
    let scheduler = greenroom_model::SchedulerId(1);
    world
        .rw()
        .write(vec![
            Op::AddStep { id: StepId(70), build: BuildId(5), number: 0, name: "loud".into(), hidden: false },
            Op::AddLog { id: LogId(70), step: StepId(70), name: "stdio".into(), kind: LogKind::Stdio },
            Op::GrowLog { log: LogId(70), num_lines: 3 },
            Op::DescribeBuild { build: BuildId(5), state_string: "compiling".into() },
            Op::PauseWorker { worker, paused: true, reason: Some("maint".into()) },
            Op::EnableScheduler { scheduler, enabled: false },
            Op::FinishBuild { build: BuildId(5), results, state_string: "lost".into() },
            Op::DisconnectWorker { worker },
        ])
        .await
        .unwrap();
    for (path, method) in [("workers/1", "pause"), ("workers/1", "unpause"), ("buildrequests/3", "cancel")] {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"reason": "r"}});
        assert_eq!(world.client.post(&format!("/api/v2/{path}"), &call).await.status, 200);
    }
    let bound = world.layer.control().bind("x");
    let target = greenroom_model::ControlTarget::Build(BuildId(5));
    bound.act(target, "stop", json!({"reason": "r"}), None).await.unwrap();
    let mut faults = Vec::new();
    let mut missing: BTreeSet<_> =
        captured.keys().map(String::as_str).filter(|it| !NOT_SEEN.contains(it)).collect();
    // A finished build is not stopped again, so nothing is asked of anybody.
    missing.remove("control/builds/N/stop");
    while !missing.is_empty() {
        let Ok(event) = timeout(Duration::from_secs(10), listener.next()).await else { break };
        let (key, shown) = (event["k"].as_str().unwrap(), event["m"].as_object().unwrap());
        let pattern = pattern_of(key);
        let Some(stock) = captured.get(&pattern) else { continue };
        missing.remove(pattern.as_str());
        if pattern.ends_with("properties/update") {
            continue; // free keys
        }
        for (name, value) in stock["m"].as_object().unwrap() {
            match shown.get(name) {
                None => faults.push(format!("{key}: no {name}")),
                Some(ours) if ours.is_null() || value.is_null() => {}
                Some(ours) if std::mem::discriminant(ours) == std::mem::discriminant(value) => {}
                Some(ours) => faults.push(format!("{key}: {name}: {value} against {ours}")),
            }
        }
    }
    assert!(missing.is_empty() && faults.is_empty(), "missing {missing:?}\n{}", faults.join("\n"));
    world.finish().await;
}
