//! Control by JSON-RPC: captured calls, and what owners answer.

use std::cell::Cell;
use std::rc::Rc;

use greenroom_model::{ControlAct, ControlAnswer, ControlTarget};
use serde_json::{Value, json};

use crate::seed::seed;
use crate::world::World;

fn call(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 4, "method": method, "params": params})
}

/// The owners of all targets, as the captured calls found them.
fn owner(act: &ControlAct) -> Option<ControlAnswer> {
    assert_eq!((act.identity.as_str(), &act.params["owner"]), ("anonymous", &json!("anonymous")));
    Some(match (&act.target, act.action.as_str()) {
        (ControlTarget::ForceScheduler(name), "force") if name == "force" => {
            match act.params.get("options_txt") {
                Some(_) => ControlAnswer::Done(json!([2, {"3": 2}])),
                None => ControlAnswer::Invalid(json!({"options_txt": "'text' needs to be specified"})),
            }
        }
        (ControlTarget::ForceScheduler(_), "force") => ControlAnswer::Done(json!([9, {"4": 9}])),
        (ControlTarget::Build(_), "rebuild") => ControlAnswer::Done(json!([7, {"4": 7}])),
        _ => ControlAnswer::Done(Value::Null),
    })
}

#[actix_rt::test]
async fn captured_calls_are_answered_alike() {
    let world = World::new().await;
    seed(&world).await;
    world.answer_controls(owner).await;
    let calls: Value = serde_json::from_str(include_str!("../contract/jsonrpc.json")).unwrap();
    let mut replayed = 0;
    for captured in calls.as_array().unwrap() {
        let (path, wanted) = (captured["post"].as_str().unwrap(), &captured["reply"]);
        if path.contains("without the role") {
            continue; // nobody logs in here
        }
        let kind = if path.contains("without Content-Type") { "text/plain" } else { "application/json" };
        let path = path.split(' ').next().unwrap();
        let body = captured["body"].as_str().map_or_else(|| captured["body"].to_string(), str::to_owned);
        let ours = world.client.ask("POST", path, &[("Content-Type", kind)], body.as_bytes()).await;
        assert_eq!(
            i64::from(ours.status),
            captured["status"].as_i64().unwrap(),
            "{path} {body}: {}",
            ours.text()
        );
        let reply = ours.json();
        let keys = |it: &Value| it.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&reply), keys(wanted), "{path} {body}");
        assert_eq!((&reply["id"], &reply["result"]), (&wanted["id"], &wanted["result"]), "{path} {body}");
        assert_eq!(reply["error"]["code"], wanted["error"]["code"], "{path} {body}");
        let kinds = (wanted["error"]["message"].is_object(), reply["error"]["message"].is_object());
        assert_eq!(kinds.0, kinds.1, "{path} {body}");
        replayed += 1;
    }
    assert_eq!(replayed, calls.as_array().unwrap().len() - 1);
    world.finish().await;
}

#[actix_rt::test]
async fn the_same_key_acts_once() {
    let world = World::new().await;
    seed(&world).await;
    let acts = Rc::new(Cell::new(0));
    let counted = acts.clone();
    let answer = move |_: &ControlAct| {
        counted.set(counted.get() + 1);
        Some(ControlAnswer::Done(json!([counted.get(), {"4": 1}])))
    };
    world.answer_controls(answer).await;
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k1")];
    let body = call("rebuild", json!({})).to_string();
    for _ in 0..3 {
        let reply = world.client.ask("POST", "/api/v2/builds/4", &headers, body.as_bytes()).await;
        assert_eq!(reply.json()["result"][0], 1);
    }
    let other = world.client.post("/api/v2/builders/quick/builds/1", &call("rebuild", json!({}))).await;
    assert_eq!((other.json()["result"][0].as_i64(), acts.get()), (Some(2), 2));
    world.finish().await;
}

#[actix_rt::test]
async fn what_cannot_be_done_says_why() {
    let world = World::new().await;
    seed(&world).await;
    world.answer_controls(|_| Some(ControlAnswer::Failed("the builder is gone".into()))).await;
    for (path, body, status, message) in [
        ("builds/999", call("stop", json!({})), 200, ""),
        ("builds/999", call("rebuild", json!({})), 500, "there is no such build"),
        ("builds/4", call("rebuild", json!({})), 500, "the builder is gone"),
        ("workers/nosuch", call("pause", json!({})), 500, "there is no worker nosuch"),
        ("schedulers/1", call("enable", json!({})), 500, "'enabled' must be true or false"),
        ("builders", call("rebuild", json!({})), 501, "action: rebuild is not supported"),
    ] {
        let reply = world.client.post(&format!("/api/v2/{path}"), &body).await;
        let found = reply.json()["error"]["message"].as_str().unwrap_or("").to_owned();
        assert_eq!((reply.status, found.as_str()), (status, message), "{path} {body}");
    }
    world.finish().await;
}

#[actix_rt::test]
async fn an_owner_that_does_not_answer_is_told_in_time() {
    let world = World::new().await;
    seed(&world).await;
    let reply = world.client.post("/api/v2/builds/5", &call("stop", json!({"reason": "x"}))).await;
    assert_eq!(reply.status, 504);
    assert!(reply.json()["error"]["message"].as_str().unwrap().starts_with("no answer within 10 s"));
    world.finish().await;
}

#[actix_rt::test]
async fn a_key_asks_for_one_thing() {
    let world = World::new().await;
    seed(&world).await;
    world.answer_controls(|_| Some(ControlAnswer::Done(json!([7, {"4": 7}])))).await;
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k1")];
    let ask = async |path: &str, body: Value| {
        world.client.ask("POST", &format!("/api/v2/{path}"), &headers, body.to_string().as_bytes()).await
    };
    assert_eq!(ask("builds/4", call("rebuild", json!({}))).await.status, 200);
    for (path, body) in [
        ("builds/4", call("rebuild", json!({"reason": "again"}))),
        ("builds/4", call("stop", json!({}))),
        ("builds/5", call("rebuild", json!({}))),
        ("workers/1", call("pause", json!({}))),
    ] {
        let reply = ask(path, body.clone()).await;
        let message = reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(reply.status, 422, "{path} {body}: {message}");
        assert!(message.contains("\"k1\" was used before, to ask for something else"), "{message}");
    }
    assert_eq!(ask("builds/4", call("rebuild", json!({}))).await.json()["result"][0], 7);
    world.finish().await;
}

#[actix_rt::test]
async fn every_act_stands_in_the_audit_log() {
    let world = World::new().await;
    seed(&world).await;
    let answer = |act: &ControlAct| match act.action.as_str() {
        "pause" => Some(ControlAnswer::Failed("it is gone".into())),
        _ => Some(ControlAnswer::Done(json!([9, {"4": 9}]))),
    };
    world.answer_controls(answer).await;
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k1")];
    let params = json!({"reason": "release", "deploy_token": "hunter2", "deep": [{"api-key": "x"}]});
    let forced = call("force", params).to_string();
    let sent = world.client.ask("POST", "/api/v2/forceschedulers/force", &headers, forced.as_bytes()).await;
    assert_eq!(sent.status, 200, "{}", sent.text());
    world.client.post("/api/v2/workers/1", &call("pause", json!({"reason": "disk"}))).await;
    world.client.post("/api/v2/builds/4", &call("rebuild", json!({}))).await;
    let rows = async |query: &str| {
        let reply = world.client.get(&format!("/api/v2/audit{query}")).await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        reply.json()["audit"].as_array().unwrap().clone()
    };
    let all = rows("").await;
    let told: Vec<_> =
        all.iter().map(|it| (it["action"].as_str().unwrap(), it["target"].as_str().unwrap())).collect();
    assert_eq!(told, [("rebuild", "builds/4"), ("pause", "workers/1"), ("force", "forceschedulers/force")]);
    let force = &all[2];
    assert_eq!(
        (&force["identity"], &force["came_from"], &force["act_key"]),
        (&json!("anonymous"), &json!("127.0.0.1"), &json!("k1"))
    );
    assert_eq!(force["answer"], json!({"done": [9, {"4": 9}]}));
    assert_eq!(all[1]["answer"], json!({"failed": "it is gone"}));
    let params = &force["params"];
    assert_eq!((&params["reason"], &params["deploy_token"]), (&json!("release"), &json!("***")));
    assert_eq!(params["deep"][0]["api-key"], "***");
    assert!(force["requested_at"].is_i64() && force["answered_at"].is_i64());

    let last = &all[2]["controlid"];
    for (query, wanted) in [
        ("?target=builds/4".to_owned(), 1),
        ("?target=builds/5".to_owned(), 0),
        ("?action=pause&action=force".to_owned(), 2),
        ("?identity=bob".to_owned(), 0),
        ("?limit=1".to_owned(), 1),
        (format!("?controlid__lt={}", all[0]["controlid"]), 2),
        (format!("?controlid__lt={last}"), 0),
        (format!("/{last}"), 1),
        ("?field=action&action=pause".to_owned(), 1),
    ] {
        assert_eq!(rows(&query).await.len(), wanted, "{query}");
    }
    let oldest = rows("?order=controlid&limit=1").await;
    assert_eq!(oldest[0]["action"], "force");
    for (query, status) in [("?target=nosuch", 400), ("?foo=1", 400), ("/999999", 404)] {
        assert_eq!(world.client.get(&format!("/api/v2/audit{query}")).await.status, status, "{query}");
    }
    world.finish().await;
}
