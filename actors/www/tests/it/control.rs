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
