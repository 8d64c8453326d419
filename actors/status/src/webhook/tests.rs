//! Webhooks to a server that fails, delays, doubles and hangs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::WebhookTransport;
use crate::examples;
use crate::notice::Notice;
use crate::sinks::{HttpSink, Reply};
use crate::transport::{Outgoing, SendError, Sent, Transport};

fn transport(url: &str, more: Value) -> WebhookTransport {
    let mut all = json!({"url": url, "allow-private": true});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    WebhookTransport::new(serde_json::from_value(all).unwrap(), Duration::from_secs(2)).unwrap()
}

fn message(attempt: u32) -> Arc<Outgoing> {
    let message = examples::outgoing(Notice::Build(Box::new(examples::failed())));
    Arc::new(Outgoing { attempt, ..message })
}

async fn send(url: &str, more: Value) -> Result<Sent, SendError> {
    transport(url, more).send(message(1)).await
}

fn why(outcome: Result<Sent, SendError>) -> (bool, String) {
    match outcome {
        Err(SendError::Later { why, .. }) => (true, why),
        Err(SendError::Never { why }) => (false, why),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_arrives() {
    let sink = HttpSink::start();
    let sent = send(&format!("{}hook/S3CRET", sink.url()), json!({"secret": "key"})).await.unwrap();
    assert_eq!(sent.target, format!("http://127.0.0.1:{}", sink.port()));
    let request = &sink.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook/S3CRET"));
    assert_eq!(request.json()["event"], "build.finished");
    assert!(request.header("greenroom-signature").is_some_and(|it| it.starts_with("t=")));
}

#[tokio::test]
async fn a_repetition_has_the_same_delivery_and_says_that_it_is_one() {
    let sink = HttpSink::start();
    sink.script([Reply::Cut]);
    let mut transport = transport(&sink.url(), json!({}));
    assert!(why(transport.send(message(1)).await).0, "the connection broke: try again");
    transport.send(message(2)).await.unwrap();
    let requests = sink.requests();
    let of = |name: &str| requests.iter().map(|it| it.header(name).unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(of("greenroom-attempt"), ["1", "2"]);
    let deliveries = of("greenroom-delivery");
    assert_eq!(deliveries[0], deliveries[1]);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_the_rest_is_not() {
    let sink = HttpSink::start();
    for (status, again) in [
        (500, true),
        (503, true),
        (429, true),
        (408, true),
        (400, false),
        (404, false),
        (410, false),
        (302, false),
    ] {
        sink.script([Reply::with(status, &[("location", &sink.url())], "because\nof that")]);
        let (later, why) = why(send(&sink.url(), json!({})).await);
        assert_eq!(later, again, "{status}");
        assert!(why.contains(&status.to_string()), "{why}");
        assert!(status == 302 || why.ends_with("because of that"), "{why}");
    }
    assert_eq!(sink.requests().len(), 8, "no redirect was followed");
}

#[tokio::test]
async fn a_server_says_when_to_come_again() {
    let sink = HttpSink::start();
    sink.script([Reply::with(503, &[("retry-after", "17")], "")]);
    let outcome = send(&sink.url(), json!({})).await;
    let wanted = Some(Duration::from_secs(17));
    assert!(
        matches!(outcome, Err(SendError::Later { retry_after, .. }) if retry_after == wanted),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_server_that_hangs_or_is_away_does_not_hold_us() {
    let sink = HttpSink::start();
    sink.script([Reply::Hang]);
    let begun = Instant::now();
    assert_eq!(
        why(send(&sink.url(), json!({})).await),
        (true, "the server did not answer in time".to_owned())
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
    let (later, why) = why(send("http://127.0.0.1:1/S3CRET", json!({})).await);
    assert!(later && why.contains("refused") && !why.contains("S3CRET"), "{why}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let sink = HttpSink::start();
    sink.script([Reply::Flood]);
    let begun = Instant::now();
    send(&sink.url(), json!({})).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "it was not read to its end");
}

#[tokio::test]
async fn private_addresses_are_for_those_who_allow_them() {
    let sink = HttpSink::start();
    let port = sink.port();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0"] {
        let (later, why) =
            why(send(&format!("http://{host}:{port}/"), json!({"allow-private": false})).await);
        assert!(!later && why.contains("allow-private"), "{host}: {why}");
    }
    assert!(sink.requests().is_empty(), "nothing was connected to");
    send(&format!("http://localhost:{port}/"), json!({})).await.unwrap();
}

#[tokio::test]
async fn environment_proxies_are_not_asked() {
    // A proxy would connect for us, past the check of addresses.
    let sink = HttpSink::start();
    send(&sink.url(), json!({})).await.unwrap();
    assert!(sink.requests()[0].path.starts_with('/'), "a proxy would get a whole URL");
}
