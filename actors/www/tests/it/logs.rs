//! The text of logs.

use bytes::Bytes;
use greenroom_data::LogStream;
use greenroom_model::{BuildId, LogId, LogKind, Op, StepId};
use serde_json::json;

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
    let (rw, log) = (world.rw(), LogId(50));
    let step =
        Op::AddStep { id: StepId(60), build: BuildId(5), number: 0, name: "loud".into(), hidden: false };
    rw.write(vec![step]).await.unwrap();
    rw.write(vec![Op::AddLog { id: log, step: StepId(60), name: "long".into(), kind: LogKind::Stdio }])
        .await
        .unwrap();
    let mut expected = String::new();
    for part in 0..5 {
        let lines: String = (0..900).map(|i| format!("{part} {i} \"\u{e9}\"\n")).collect();
        rw.append_log(log, LogStream::Stdout, Bytes::from(lines.clone())).await.unwrap();
        lines.lines().for_each(|line| expected.push_str(&format!("o{line}\n")));
    }
    let num_lines = rw.finish_log(log).await.unwrap();
    let done = rw.write(vec![Op::FinishLog { log, num_lines }]).await.unwrap();
    world.caught_up(done.at).await;
    for headers in [&[("Accept", "application/json")][..], &[]] {
        let answer = world.client.ask("GET", "/api/v2/logs/50/contents", headers, b"").await;
        assert_eq!(answer.header("transfer-encoding"), "chunked");
        assert_eq!(answer.json()["logchunks"][0]["content"], expected.as_str());
    }
    let part = world.client.get("/api/v2/logs/50/contents?offset=1&limit=3000").await.json();
    assert_eq!(part["logchunks"][0]["content"].as_str().unwrap().lines().count(), 3000);
    world.finish().await;
}
