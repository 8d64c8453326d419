//! The state that the captured replies were taken in, as far as ids and relations go.

use bytes::Bytes;
use greenroom_data::{LogStream, Rw};
use greenroom_model::write::*;
use greenroom_model::*;
use serde_json::json;

use crate::world::World;

fn configuration() -> Op {
    let builder = |name: &str, workers: &[&str], tags: &[&str], project: Option<&str>| ConfiguredBuilder {
        name: name.into(),
        description: project.map(|_| "all steps".into()),
        project: project.map(Into::into),
        tags: tags.iter().map(|it| (*it).into()).collect(),
        workers: workers.iter().map(|it| (*it).into()).collect(),
    };
    let names = |names: &[&str]| names.iter().map(|it| (*it).into()).collect::<Vec<String>>();
    Op::Configure(Box::new(Configuration {
        builders: vec![
            builder("pending", &["w2"], &[], None),
            builder("slow", &["w1"], &[], None),
            builder("all", &["w1"], &["t1", "t2"], Some("proj1")),
            builder("quick", &["w1"], &["t1"], None),
        ],
        workers: names(&["w1", "w2"]),
        schedulers: names(&["night", "trig", "sbs", "forcedef", "force"]),
        change_sources: names(&["repo"]),
        projects: vec![("proj1".into(), Some("A project".into()))],
    }))
}

/// A buildset with one request of its own number.
fn buildset(number: i64, builder: i64, parent: Option<i64>) -> Op {
    let stamp = NewSourceStamp {
        branch: Some("main".into()),
        revision: Some("abc123".into()),
        repository: "http://example.org/r".into(),
        project: "proj1".into(),
        ..NewSourceStamp::default()
    };
    Op::AddBuildset(Box::new(NewBuildset {
        id: BuildsetId(number),
        requests: vec![(BuildRequestId(number), BuilderId(builder))],
        sourcestamps: vec![StampRef::New(stamp)],
        reason: "why".into(),
        external_id: None,
        properties: properties(),
        priority: 2,
        waited_for: false,
        scheduler: Some("force".into()),
        parent: parent.map(|build| (BuildId(build), "Triggered from".into())),
        rebuilt_build: None,
    }))
}

fn properties() -> Properties {
    [
        ("branch", json!("main"), "Build"),
        ("options", json!({"num": 5, "flag": true}), "Force Build Form"),
        ("owners", json!(["Al <a@b.org>"]), "Build"),
        ("revision", json!("abc123"), "Build"),
        ("workername", json!("w1"), "Worker"),
    ]
    .into_iter()
    .map(|(name, value, source)| (name.to_owned(), Property(value, source.to_owned())))
    .collect()
}

fn start(build: i64, request: i64) -> Op {
    Op::StartBuild(Box::new(NewBuild {
        id: BuildId(build),
        request: BuildRequestId(request),
        worker: WorkerId(1),
        state_string: "starting".into(),
        properties: properties(),
    }))
}

fn finish(build: i64) -> Op {
    Op::FinishBuild {
        build: BuildId(build),
        results: Results::Warnings,
        state_string: "warnings 'sh'".into(),
    }
}

async fn step(rw: &Rw, build: i64, id: i64, number: i64, name: &str) {
    let (build, step) = (BuildId(build), StepId(id));
    let url = Url { name: "a link".into(), url: "http://example.org/x".into() };
    rw.write(vec![
        Op::AddStep { id: step, build, number, name: name.into(), hidden: false },
        Op::StartStep { step, state_string: "running".into() },
        Op::DescribeStep { step, state_string: None, urls: vec![url] },
    ])
    .await
    .unwrap();
}

async fn log(rw: &Rw, step: i64, id: i64, name: &str, kind: LogKind, pieces: &[(LogStream, &str)]) {
    let log = LogId(id);
    rw.write(vec![Op::AddLog { id: log, step: StepId(step), name: name.into(), kind }]).await.unwrap();
    for (stream, text) in pieces {
        rw.append_log(log, *stream, Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
    }
    let num_lines = rw.finish_log(log).await.unwrap();
    rw.write(vec![Op::FinishLog { log, num_lines }]).await.unwrap();
}

/// Fills the world; the hook adds the changes.
pub async fn seed(world: &World) {
    let rw = world.rw();
    rw.write(vec![configuration()]).await.unwrap();
    let info = WorkerInfo {
        admin: Some("Admin A <a@example.org>\n".into()),
        host: Some("host desc\n".into()),
        access_uri: None,
        version: Some("4.3.0".into()),
    };
    rw.write(vec![Op::ConnectWorker { worker: WorkerId(1), info }]).await.unwrap();
    hook(
        world,
        "author=Hook+Er+%3Ch%40e.org%3E&comments=hook+change+%C3%A9&branch=main&revision=abc123\
                 &category=cat&project=proj1&repository=http%3A%2F%2Fexample.org%2Fr&files=%5B%22a.c%22%5D\
                 &properties=%7B%22p1%22%3A%22v1%22%7D&when_timestamp=1795300000",
    )
    .await;
    hook(world, "who=x").await;
    for (number, builder) in [(1, 3), (2, 3), (3, 1), (4, 3)] {
        rw.write(vec![buildset(number, builder, None)]).await.unwrap();
    }
    rw.write(vec![start(1, 1), finish(1), start(2, 2), finish(2), start(3, 4)]).await.unwrap();
    step(&rw, 3, 21, 0, "worker_preparation").await;
    step(&rw, 3, 22, 1, "sh").await;
    step(&rw, 3, 23, 2, "two").await;
    step(&rw, 3, 31, 11, "rawcmds").await;
    let lines = [
        (LogStream::Header, "echo out1\nin dir build\nwatching\nargv\nusing PTY: False\n"),
        (LogStream::Stdout, "out1\n"),
        (LogStream::Stderr, "err1\n"),
        (LogStream::Stdout, "a\nb\nc\n"),
        (LogStream::Header, "program finished with exit code 0\nelapsedTime=0.011563\n"),
        (LogStream::Stdout, "nonl\u{e9}"),
    ];
    log(&rw, 22, 29, "stdio", LogKind::Stdio, &lines).await;
    log(&rw, 23, 30, "stdio", LogKind::Stdio, &lines).await;
    log(&rw, 23, 31, "notes", LogKind::Text, &[(LogStream::Plain, "plain\n")]).await;
    log(&rw, 31, 40, "stdio", LogKind::Stdio, &lines).await;
    log(&rw, 31, 41, "page", LogKind::Html, &[(LogStream::Plain, "<b>x</b>\n")]).await;
    rw.write(vec![buildset(5, 4, Some(3)), start(4, 5), finish(4), finish(3)]).await.unwrap();
    let last = rw.write(vec![buildset(6, 2, None), start(5, 6)]).await.unwrap();
    world.caught_up(last.at).await;
}

async fn hook(world: &World, form: &str) {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = world.client.ask("POST", "/change_hook/base", &headers, form.as_bytes()).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "1 change found"));
}
