//! Other workers while the link runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use greenroom_config::Worker;
use greenroom_model::Op;
use greenroom_model::write::{Configuration, ConfiguredBuilder};

use crate::support::*;

type Configured = BTreeMap<String, Worker>;

fn workers(remotes: &[(&str, &str)], locals: &[&str]) -> Configured {
    let remotes = remotes.iter().map(|(name, password)| ((*name).to_owned(), remote(password)));
    remotes.chain(locals.iter().map(|name| ((*name).to_owned(), local()))).collect()
}

/// What the master does: the names are stored, what can fail is prepared, then it is put in force.
async fn reload(farm: &Farm, workers: &Configured) -> Vec<String> {
    let prepared = farm.link.prepare(workers).await.unwrap();
    let names: Vec<String> = workers.keys().cloned().collect();
    let builder = ConfiguredBuilder { name: "b".into(), workers: names.clone(), ..Default::default() };
    let configuration =
        Configuration { builders: vec![builder], workers: names.clone(), ..Default::default() };
    farm.rw().write(vec![Op::Configure(Box::new(configuration))]).await.unwrap();
    let hot = || farm.rw().ro().hot();
    eventually("the workers", || names.iter().all(|name| hot().worker_named(name).is_some())).await;
    let later = prepared.later().to_vec();
    farm.link.apply(prepared);
    later
}

async fn status(farm: &Farm, name: &str, password: &str) -> Option<u16> {
    handshake(farm.address, "/", Some(&basic(name, password))).await.err()
}

#[actix_web::test]
async fn those_that_stay_keep_their_session_and_new_ones_are_let_in() {
    let farm = farm().await;
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    assert_eq!(status(&farm, "w3", "pw3").await, Some(401));
    let later = reload(&farm, &workers(&[("w1", "pw:1"), ("w2", "pw2"), ("w3", "pw3")], &[])).await;
    assert_eq!(later, Vec::<String>::new());
    assert_eq!(status(&farm, "w3", "pw3").await, None);
    assert!(farm.is_usable("w1") && farm.is_connected("w1"));
    // the same connection still answers
    let (id, workers) = (farm.id("w1"), farm.workers.clone());
    let asked = actix_web::rt::spawn(async move { workers.shutdown(id).await });
    let (seq, _) = worker.request().await;
    worker.answer(seq, Ok(greenroom_protocol::Value::Nil)).await;
    asked.await.unwrap().unwrap();
    farm.finish().await;
}

#[actix_web::test]
async fn another_password_counts_from_the_next_connection_on() {
    let farm = farm().await;
    let worker = FakeWorker::connect(&farm, "w1").await;
    reload(&farm, &workers(&[("w1", "another"), ("w2", "pw2")], &[])).await;
    assert!(farm.is_usable("w1"), "what runs on it goes on");
    assert_eq!(status(&farm, "w1", "pw:1").await, Some(401));
    drop(worker);
    farm.unusable("w1").await;
    assert_eq!(status(&farm, "w1", "another").await, None);
    farm.finish().await;
}

#[actix_web::test]
async fn a_worker_that_is_gone_is_sent_away_when_it_is_idle_and_not_let_in_again() {
    let farm = farm().await;
    let mut worker = FakeWorker::connect(&farm, "w1").await;
    let id = farm.id("w1");
    // of one that is configured nothing happens
    farm.workers.part(id, "w1").await;
    reload(&farm, &workers(&[("w2", "pw2")], &[])).await;
    assert!(farm.is_usable("w1"), "its builds go on");
    assert_eq!(status(&farm, "w1", "pw:1").await, Some(401));
    farm.workers.part(id, "w1").await;
    worker.ended().await;
    farm.unusable("w1").await;
    eventually("the data layer knowing", || !farm.is_connected("w1")).await;
    reload(&farm, &workers(&[("w1", "pw:1"), ("w2", "pw2")], &[])).await;
    let _worker = FakeWorker::connect(&farm, "w1").await;
    farm.finish().await;
}

#[actix_web::test]
async fn local_workers_come_and_go() {
    let scripts = tempfile::tempdir().unwrap();
    let agent = scripts.path().join("agent.sh");
    let here = scripts.path().display();
    fs::write(
        &agent,
        format!("#!/bin/sh\necho \"$5\" >> {here}/started\ncat > /dev/null\necho \"$5\" >> {here}/ended\n"),
    )
    .unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    let lines = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(scripts.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let farm = farm_with(timing(), &[("one", local())], Some(&agent)).await;
    farm.link.start_local_workers("ws://127.0.0.1:1");
    eventually("the start", || lines("started") == ["one"]).await;
    let both = workers(&[("w1", "pw:1"), ("w2", "pw2")], &["one", "two"]);
    reload(&farm, &both).await;
    eventually("the second", || lines("started") == ["one", "two"]).await;
    let id = farm.id("one");
    reload(&farm, &workers(&[("w1", "pw:1"), ("w2", "pw2")], &["two"])).await;
    assert_eq!(lines("ended"), Vec::<String>::new(), "its builds go on");
    farm.workers.part(id, "one").await;
    eventually("the end", || lines("ended") == ["one"]).await;
    reload(&farm, &both).await;
    eventually("the third start", || lines("started") == ["one", "two", "one"]).await;

    // what a process was started with is for the next start
    let mut moved = both.clone();
    moved.get_mut("one").unwrap().dir = Some("/elsewhere".into());
    moved.insert("two".into(), remote("secret"));
    assert_eq!(reload(&farm, &moved).await, ["workers.one.dir", "workers.two.kind"]);
    assert_eq!(status(&farm, "two", "secret").await, Some(401));
    farm.finish().await;
    assert_eq!(lines("started").len(), 3);
}

#[actix_web::test]
async fn what_cannot_be_prepared_changes_nothing() {
    let farm = farm().await;
    let _worker = FakeWorker::connect(&farm, "w1").await;
    let mut impossible = workers(&[("w2", "another")], &["home"]);
    let file = farm.dir.path().join("file");
    fs::write(&file, "").unwrap();
    impossible.get_mut("home").unwrap().dir = Some(file.join("below"));
    assert!(farm.link.prepare(&impossible).await.is_err());
    assert_eq!(status(&farm, "w2", "pw2").await, None);
    assert!(farm.is_usable("w1"));
    farm.finish().await;
}
