//! The text of logs.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use greenroom_data::LogStream;
use greenroom_model::{BuildId, LogId, LogKind, Op, StepId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::seed::seed;
use crate::world::World;

#[actix_rt::test]
async fn windows_of_lines_follow_the_contract() {
    let world = World::new().await;
    seed(&world).await;
    let content = async |query: &str| {
        let answer = world.client.get(&format!("/api/v2/logs/29/contents{query}")).await;
        (answer.status, answer.json()["logchunks"][0].clone())
    };
    let chunk = |content: &str, first: i64| json!({"content": content, "firstline": first, "logid": 29});
    assert_eq!(content("?offset=5&limit=3").await, (200, chunk("oout1\neerr1\noa\n", 5)));
    assert_eq!(content("?offset=12").await, (200, chunk("ononl\u{e9}\n", 12)));
    assert_eq!(content("?offset=13&limit=2").await, (200, chunk("", 13)));
    let (_, all) = content("").await;
    assert_eq!(all["content"].as_str().unwrap().lines().count(), 13);
    for (query, status) in
        [("?limit=0", 404), ("?offset=-1", 404), ("?logid=29", 400), ("?firstline=0", 400), ("?limit=x", 400)]
    {
        assert_eq!(content(query).await.0, status, "{query}");
    }
    let address = "/api/v2/builders/3/builds/3/steps/sh/logs/stdio/contents?offset=5&limit=1";
    assert_eq!(world.client.get(address).await.json()["logchunks"][0]["content"], "oout1\n");
    assert_eq!(world.client.get("/api/v2/logs/999/contents").await.status, 404);
    world.finish().await;
}

#[actix_rt::test]
async fn raw_text_has_a_head_and_no_letters() {
    let world = World::new().await;
    seed(&world).await;
    let raw = world.client.get("/api/v2/logs/29/raw").await;
    assert_eq!(raw.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(raw.header("content-disposition"), "attachment; filename=all_build_3_step_sh_log_stdio");
    let text = raw.text();
    assert!(
        text.starts_with("Builder: all\nBuild number: 3\nWorker name: w1\necho out1\nin dir build\n"),
        "{text}"
    );
    assert!(text.ends_with("elapsedTime=0.011563\nnonl\u{e9}\n"), "{text}");
    let inline = world.client.get("/api/v2/builds/3/steps/1/logs/stdio/raw_inline").await;
    assert_eq!((inline.text(), inline.header("content-disposition")), (text, ""));
    let plain = world.client.get("/api/v2/logs/31/raw").await;
    assert_eq!(plain.text(), "plain\n");
    let html = world.client.get("/api/v2/logs/41/raw_inline").await;
    assert_eq!(
        (html.text().as_str(), html.header("content-type")),
        ("<b>x</b>\n", "text/html; charset=utf-8")
    );
    assert!(html.header("content-security-policy").contains("sandbox"));
    world.finish().await;
}

#[actix_rt::test]
async fn a_long_log_is_streamed_whole() {
    let world = World::new().await;
    seed(&world).await;
    let log = begin_log(&world, LogKind::Stdio).await;
    let mut expected = String::new();
    let filler = "\u{e9}".repeat(300);
    for part in 0..5 {
        let lines: String = (0..900).map(|i| format!("{part} {i} \"{filler}\"\n")).collect();
        world.rw().append_log(log, LogStream::Stdout, Bytes::from(lines.clone())).await.unwrap();
        lines.lines().for_each(|line| expected.push_str(&format!("o{line}\n")));
    }
    finish_log(&world, log).await;
    for headers in [&[("Accept", "application/json")][..], &[]] {
        let answer = world.client.ask("GET", "/api/v2/logs/50/contents", headers, b"").await;
        assert_eq!(answer.header("transfer-encoding"), "chunked");
        assert_eq!(answer.json()["logchunks"][0]["content"], expected.as_str());
    }
    let part = world.client.get("/api/v2/logs/50/contents?offset=1&limit=3000").await.json();
    assert_eq!(part["logchunks"][0]["content"].as_str().unwrap().lines().count(), 3000);
    let plain: String = expected.lines().map(|line| format!("{}\n", &line[1..])).collect();
    let head = "Builder: slow\nBuild number: 1\nWorker name: w1\n";
    let gz = world.client.get("/api/v2/logs/50/raw?gz=1").await;
    assert_eq!((gz.header("content-type"), gz.header("content-encoding")), ("application/gzip", ""));
    assert!(gz.header("content-disposition").ends_with("_step_loud_log_long.gz"));
    let mut unzipped = String::new();
    flate2::read::GzDecoder::new(&gz.body[..]).read_to_string(&mut unzipped).unwrap();
    assert!(unzipped == format!("{head}{plain}"), "{unzipped:.100}");
    let part = world.client.get("/api/v2/logs/50/raw?offset=2&limit=2000").await.text();
    let lines: String = plain.lines().skip(2).take(2000).map(|line| format!("{line}\n")).collect();
    assert!(part == lines, "{part:.100}");
    world.finish().await;
}

/// The lines of a search's answer.
fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Begins log 50 of a step of its own.
async fn begin_log(world: &World, kind: LogKind) -> LogId {
    let log = LogId(50);
    let step =
        Op::AddStep { id: StepId(60), build: BuildId(5), number: 0, name: "loud".into(), hidden: false };
    let add = Op::AddLog { id: log, step: StepId(60), name: "long".into(), kind };
    world.rw().write(vec![step, add]).await.unwrap();
    log
}

async fn finish_log(world: &World, log: LogId) {
    let num_lines = world.rw().finish_log(log).await.unwrap();
    let done = world.rw().write(vec![Op::FinishLog { log, num_lines }]).await.unwrap();
    world.caught_up(done.at).await;
}

#[actix_rt::test]
async fn a_log_is_searched() {
    let world = World::new().await;
    seed(&world).await;
    let search = async |query: &str| {
        let answer = world.client.get(&format!("/api/v2/logs/29/search?{query}")).await;
        assert_eq!(answer.status, 200, "{query}");
        assert_eq!(answer.header("content-type"), "application/x-ndjson; charset=utf-8");
        rows(&answer.text())
    };
    let summary =
        |count: u64, upto: i64| json!({"type": "summary", "count": count, "upto": upto, "all": true});
    let found = search("q=OUT1").await;
    let shown = |line: i64, text: &str, start: usize| json!({"type": "match", "line": line, "stream": "o", "text": text, "start": start, "end": start + 4});
    assert_eq!(found[1], shown(5, "out1", 0));
    assert_eq!(found[2], json!({"type": "progress", "count": 2, "upto": 13}));
    assert_eq!(found[3], summary(2, 13));
    assert_eq!(search("q=OUT1&case=1").await, [summary(0, 13)]);
    assert_eq!(search("q=%5Eout%5Cd$&regex=1&offset=2").await[0], shown(5, "out1", 0));
    assert_eq!(search("q=out1&offset=6").await, [summary(0, 13)]);
    assert_eq!(search("q=out1&offset=99").await, [summary(0, 99)]);
    let counted = search("q=.&regex=1&limit=1").await;
    assert_eq!(counted.iter().filter(|row| row["type"] == "match").count(), 1);
    let last = counted.last().unwrap();
    assert!(last["count"].as_u64().unwrap() > 9 && last["all"] == false, "{last}");
    for (query, status) in [
        ("", 400),
        ("?q=", 400),
        ("?q=(&regex=1", 400),
        ("?q=%5Cw%7B1000%7D%7B1000%7D&regex=1", 400),
        ("?q=x&y=z", 400),
    ] {
        assert_eq!(
            world.client.get(&format!("/api/v2/logs/29/search{query}")).await.status,
            status,
            "{query}"
        );
    }
    assert_eq!(world.client.get("/api/v2/logs/999/search?q=x").await.status, 404);
    let address = "/api/v2/builders/3/builds/3/steps/sh/logs/stdio/search?q=out1&case=1&offset=4";
    assert_eq!(rows(&world.client.get(address).await.text())[0], shown(5, "out1", 0));
    world.finish().await;
}

#[actix_rt::test]
async fn a_running_log_is_searched_as_far_as_it_is_announced() {
    let world = World::new().await;
    seed(&world).await;
    let log = begin_log(&world, LogKind::Stdio).await;
    for n in 1..=3 {
        let text = format!("needle {n}\n");
        world.rw().append_log(log, LogStream::Stdout, Bytes::from(text)).await.unwrap();
        let lines = async || world.client.get("/api/v2/logs/50").await.json()["logs"][0]["num_lines"].clone();
        while lines().await != n {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let found = rows(&world.client.get("/api/v2/logs/50/search?q=needle").await.text());
        assert_eq!(found.last().unwrap()["count"], n);
    }
    finish_log(&world, log).await;
    world.finish().await;
}

#[actix_rt::test]
async fn searches_that_nobody_reads_end_with_their_connection() {
    let world = World::new().await;
    seed(&world).await;
    let log = begin_log(&world, LogKind::Text).await;
    // Matches that take far more room on the way than a connection has.
    let line = "\u{1}".repeat(500) + "\n";
    for _ in 0..20 {
        world.rw().append_log(log, LogStream::Plain, Bytes::from(line.repeat(500))).await.unwrap();
    }
    finish_log(&world, log).await;
    let request = format!("GET /api/v2/logs/50/search?q=%01 HTTP/1.1\r\nHost: {}\r\n\r\n", world.client.0);
    let mut searches = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(world.client.0).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        searches.push(stream);
    }
    let fifth = world.client.get("/api/v2/logs/50/search?q=x").await;
    assert_eq!((fifth.status, fifth.header("retry-after")), (503, "1"));
    drop(searches);
    while world.client.get("/api/v2/logs/50/search?q=x").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.finish().await;
}

/// How much memory this process has, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[actix_rt::test]
async fn a_download_takes_no_memory_for_its_size_however_slowly_it_is_read() {
    const PIECES: u64 = 256;
    let dir = tempfile::tempdir().unwrap();
    let world = World::over("sqlite://test.db", dir.path(), None).await;
    seed(&world).await;
    let log = begin_log(&world, LogKind::Text).await;
    let piece = Bytes::from(format!("{}\n", "some text of a log ".repeat(53)).repeat(1_024));
    for _ in 0..PIECES {
        world.rw().append_log(log, LogStream::Plain, piece.clone()).await.unwrap();
    }
    finish_log(&world, log).await;
    for query in ["raw", "raw?gz=1", "contents"] {
        let before = resident();
        let mut stream = TcpStream::connect(world.client.0).await.unwrap();
        let request = format!("GET /api/v2/logs/50/{query} HTTP/1.1\r\nHost: {}\r\n\r\n", world.client.0);
        stream.write_all(request.as_bytes()).await.unwrap();
        // It is read in small pieces, with time between them for whoever would run ahead.
        let mut buffer = vec![0; 64 * 1024];
        let (mut got, mut most) = (0, 0);
        for n in 0_u64.. {
            let size = stream.read(&mut buffer).await.unwrap();
            got += size as u64;
            if buffer[..size].ends_with(b"0\r\n\r\n") {
                break;
            }
            if n < 20 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            most = most.max(resident().saturating_sub(before));
        }
        assert!(
            got > if query == "raw?gz=1" { PIECES } else { PIECES * piece.len() as u64 },
            "{query}: {got}"
        );
        assert!(most < 48 << 20, "{query}: {most} bytes more for {got}");
    }
    world.finish().await;
}
