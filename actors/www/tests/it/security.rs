//! Attacks on the edge and their answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::World;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[actix_rt::test]
async fn every_answer_has_the_headers() {
    let world = World::new().await;
    let raw = |text: &str| text.replace("HOST", &world.client.0.to_string()).into_bytes();
    for request in [
        "GET /api/v2 HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
        "GET /api/v2/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
        "GET /nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.org\r\nConnection: close\r\n\r\n",
    ] {
        let answer = world.client.raw(&raw(request)).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{request}: {policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{request}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{request}");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin", "{request}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{request}");
        assert!(!answer.header("permissions-policy").is_empty() && !answer.header("x-request-id").is_empty());
    }
    world.finish().await;
}

#[actix_rt::test]
async fn foreign_names_and_origins_are_turned_away() {
    let world = World::new().await;
    let ask = async |host: &str, more: &str, target: &str| {
        let request = format!("{target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n");
        world.client.raw(request.as_bytes()).await
    };
    assert_eq!(ask("evil.org", "", "GET /api/v2").await.status, 421);
    assert_eq!(ask("localhost", "", "GET http://evil.org/api/v2").await.status, 421);
    assert_eq!(ask("localhost", "", "GET /api/v2").await.status, 200);
    assert_eq!(ask("ci.example.org:8010", "", "GET /api/v2").await.status, 200);
    // A name and password are no passport without an upgrade.
    assert_eq!(ask("evil.org", "Authorization: Basic eDp5\r\n", "GET /api/v2").await.status, 421);
    for origin in ["http://evil.org", "null", "http://localhost:1"] {
        let answer = ask("localhost", &format!("Origin: {origin}\r\n"), "GET /api/v2/builders").await;
        assert_eq!((answer.status, answer.json()), (400, json!({"error": "invalid origin"})), "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), "");
        let upgrade = format!(
            "Origin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        let request = format!("GET /ws HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n");
        let answer = world
            .client
            .raw(request.replace("Connection: Upgrade", "Connection: Upgrade, close").as_bytes())
            .await;
        assert_eq!(answer.status, 403, "{origin}");
    }
    let ours = "Origin: http://ci.example.org:8010\r\n";
    let answer = ask("localhost", ours, "GET /api/v2/builders").await;
    assert_eq!(answer.header("access-control-allow-origin"), "http://ci.example.org:8010");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    let linked = ask("localhost", "Sec-Fetch-Site: cross-site\r\n", "GET /api/v2/builders").await;
    assert_eq!(linked.status, 200, "a link on another site may lead here");
    let preflight = ask(
        "localhost",
        &format!("{ours}Access-Control-Request-Method: POST\r\n"),
        "OPTIONS /api/v2/builds/1",
    )
    .await;
    assert_eq!(
        (preflight.status, preflight.header("access-control-max-age"), preflight.body.len()),
        (200, "3600", 0)
    );
    let preflight = ask(
        "localhost",
        &format!("{ours}Access-Control-Request-Method: PUT\r\n"),
        "OPTIONS /api/v2/builds/1",
    )
    .await;
    assert_eq!((preflight.status, preflight.json()), (400, json!({"error": "invalid method"})));
    world.finish().await;
}

#[actix_rt::test]
async fn calls_of_other_sites_do_not_act() {
    let world = World::new().await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "force", "params": {}}).to_string();
    let path = "/api/v2/forceschedulers/force";
    for headers in [
        &[JSON, ("Origin", "http://evil.org")][..],
        &[JSON, ("Sec-Fetch-Site", "cross-site")],
        &[("Content-Type", "text/plain")],
        &[("Content-Type", "application/x-www-form-urlencoded")],
    ] {
        let answer = world.client.ask("POST", path, headers, body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{headers:?}");
    }
    assert!(world.layer.ro().hot().controls.is_empty());
    world.finish().await;
}

#[actix_rt::test]
async fn too_large_is_refused() {
    let world = World::new().await;
    let long = "x".repeat(9 << 10);
    assert_eq!(world.client.get(&format!("/api/v2/builders?name={long}")).await.status, 414);
    let header = "y".repeat(33 << 10);
    assert_eq!(world.client.ask("GET", "/api/v2", &[("X-Long", &header)], b"").await.status, 431);
    let body = vec![b' '; (1 << 20) + 1];
    assert_eq!(world.client.ask("POST", "/api/v2/builds/1", &[JSON], &body).await.status, 413);
    let deep = "[".repeat(40_000);
    assert_eq!(world.client.ask("POST", "/api/v2/builds/1", &[JSON], deep.as_bytes()).await.status, 400);
    world.finish().await;
}

#[actix_rt::test]
async fn smuggled_requests_are_refused() {
    let world = World::new().await;
    for headers in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: +3\r\n",
        "X-A: b\r\n folded: c\r\n",
    ] {
        let request = format!("POST /api/v2/builds/1 HTTP/1.1\r\nHost: localhost\r\n{headers}\r\nabc");
        assert_eq!(world.client.raw(request.as_bytes()).await.status, 400, "{headers}");
    }
    world.finish().await;
}

#[actix_rt::test]
async fn a_dripping_body_is_cut_in_time() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.client.0).await.unwrap();
    let head = "POST /api/v2/builds/1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let drip = actix_rt::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(500));
        while writer.write_all(b" ").await.is_ok() {
            every.tick().await;
        }
    });
    let begun = Instant::now();
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.windows(4).any(|it| it == b"\r\n\r\n") {
        let read = reader.read(&mut piece).await.unwrap();
        assert!(read > 0, "an answer before the end");
        answer.extend_from_slice(&piece[..read]);
    }
    drip.abort();
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    assert!(begun.elapsed() < Duration::from_secs(33), "{:?}", begun.elapsed());
    world.finish().await;
}

#[actix_rt::test]
async fn a_panic_is_answered_and_harms_nobody_else() {
    let extra = Arc::new(|app: &mut web::ServiceConfig| {
        app.route(
            "/panic",
            web::get().to(|| async { if true { panic!("rehearsed") } else { HttpResponse::Ok().finish() } }),
        );
    });
    let world = World::with(Some(extra)).await;
    for _ in 0..3 {
        let answer = world.client.get("/panic").await;
        assert_eq!(answer.status, 500);
        assert!(!answer.header("x-request-id").is_empty() && !answer.text().contains("rehearsed"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    assert_eq!(world.client.get("/api/v2").await.status, 200);
    world.finish().await;
}

#[actix_rt::test]
async fn paths_cannot_be_dressed_up() {
    let world = World::new().await;
    for path in [
        "/api/v2//builders",
        "/api/v2/builders;x",
        "/API/v2/builders",
        "/api/v2/%2e%2e/builders",
        "/api/v2/./builders",
    ] {
        assert_eq!(world.client.get(path).await.status, 404, "{path}");
    }
    world.finish().await;
}
