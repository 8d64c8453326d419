//! Change hooks: every field, every fault, nothing twice.

use serde_json::json;

use crate::world::World;

async fn changes(world: &World) -> i64 {
    world.client.get("/api/v2/changes").await.json()["meta"]["total"].as_i64().unwrap()
}

#[actix_rt::test]
async fn a_change_by_json_or_by_get_is_added() {
    let world = World::new().await;
    let body =
        json!({"who": "Al", "comments": "c", "revision": "r1", "files": ["a"], "properties": {"p": [1]}});
    assert_eq!(world.client.post("/change_hook/base", &body).await.text(), "1 change found");
    assert_eq!(world.client.get("/change_hook?revision=r2&src=git").await.status, 200);
    let change = world.client.get("/api/v2/changes/1").await.json()["changes"][0].clone();
    assert_eq!((&change["author"], &change["files"]), (&json!("Al"), &json!(["a"])));
    assert_eq!(change["properties"], json!({"p": [[1], "Change"]}));
    assert_eq!(changes(&world).await, 2);
    world.finish().await;
}

#[actix_rt::test]
async fn a_delivery_that_comes_again_adds_nothing() {
    let world = World::new().await;
    let headers = [("X-Greenroom-Delivery", "d-1"), ("Content-Type", "application/x-www-form-urlencoded")];
    for _ in 0..3 {
        let answer = world.client.ask("POST", "/change_hook/base", &headers, b"revision=r1").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "1 change found"));
    }
    let other = world.client.ask("POST", "/change_hook/base", &headers, b"revision=r2").await;
    assert_eq!(other.status, 422, "{}", other.text());
    assert!(other.text().contains("brought another change"), "{}", other.text());
    assert_eq!(changes(&world).await, 1);
    world.finish().await;
}

#[actix_rt::test]
async fn faults_are_told_and_add_nothing() {
    let world = World::new().await;
    let json = [("Content-Type", "application/json")];
    for (path, headers, body, status, wanted) in [
        ("/change_hook/github", &json[..], "{}", 400, "wasn't whitelisted"),
        ("/change_hook/base", &json, "{\"author\":", 400, "the body is not JSON"),
        ("/change_hook/base", &json, "{\"auhtor\":\"x\"}", 400, "unknown field 'auhtor'"),
        ("/change_hook/base?files=x", &[], "", 400, "'files' is not JSON"),
        ("/change_hook/base", &[("Origin", "http://evil.org")], "", 403, "other sites"),
        ("/change_hook/base", &[("Sec-Fetch-Site", "cross-site")], "", 403, "other sites"),
    ] {
        let answer = world.client.ask("POST", path, headers, body.as_bytes()).await;
        assert!(
            answer.status == status && answer.text().contains(wanted),
            "{path} {body}: {}",
            answer.text()
        );
    }
    let unknown = world.client.get("/change_hook/github").await;
    assert_eq!(unknown.text(), "The dialect specified, 'github', wasn't whitelisted in change_hook");
    let large = vec![b'x'; 11 << 20];
    assert_eq!(world.client.ask("POST", "/change_hook/base", &[], &large).await.status, 413);
    let mut chunked =
        b"POST /change_hook/base HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nb00000\r\n"
            .to_vec();
    chunked.extend_from_slice(&large);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    assert_eq!(world.client.raw(&chunked).await.status, 413);
    assert_eq!(changes(&world).await, 0);
    world.finish().await;
}
