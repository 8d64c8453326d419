//! What every read has: forms, clocks, versions, compression, queries.

use greenroom_data::DataError;
use greenroom_model::{BuildId, Clock, Op};
use sqlx::{Connection, SqliteConnection};

use crate::seed::seed;
use crate::world::World;

#[actix_rt::test]
async fn people_and_programs_get_the_same_in_their_form() {
    let world = World::new().await;
    seed(&world).await;
    let program = world.client.get("/api/v2/builders?limit=1").await;
    assert_eq!(program.header("content-type"), "application/json; charset=utf-8");
    assert!(program.text().starts_with("{\"builders\":[{\"builderid\":1,"), "{}", program.text());
    let person = world.client.ask("GET", "/api/v2/builders?limit=1", &[], b"").await;
    assert_eq!(person.header("content-type"), "text/plain; charset=utf-8");
    assert!(person.text().starts_with("{\n  \"builders\": [\n    {\n      \"builderid\": 1,"));
    assert_eq!(person.json(), program.json());
    let changes = world.client.get("/api/v2/changes").await;
    assert!(changes.body.is_ascii() && changes.text().contains("hook change \\u00e9"));
    world.finish().await;
}

#[actix_rt::test]
async fn every_reply_bears_a_clock_and_a_version() {
    let world = World::new().await;
    seed(&world).await;
    for path in [
        "/api/v2/builds",
        "/api/v2/builds?limit=1&order=buildid",
        "/api/v2/builds/3",
        "/api/v2/nosuch",
        "/api/v2",
    ] {
        let answer = world.client.get(path).await;
        assert!(answer.header("greenroom-clock").parse::<Clock>().is_ok(), "{path}");
        assert_eq!(answer.header("cache-control"), "private, no-cache", "{path}");
    }
    let path = "/api/v2/builds";
    let first = world.client.get(path).await;
    let etag = first.header("etag").to_owned();
    let headers = [("Accept", "application/json"), ("If-None-Match", &*etag)];
    let same = world.client.ask("GET", path, &headers, b"").await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    let op = Op::DescribeBuild { build: BuildId(5), state_string: "compiling".into() };
    let written = world.rw().write(vec![op]).await.unwrap();
    world.caught_up(written.at).await;
    let changed = world.client.ask("GET", path, &headers, b"").await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), etag);
    assert_ne!(changed.header("greenroom-clock"), first.header("greenroom-clock"));
    assert!(changed.text().contains("compiling"));
    let clock: Clock = changed.header("greenroom-clock").parse().unwrap();
    assert!(clock.contains(written.at.0, written.at.1));
    world.finish().await;
}

#[actix_rt::test]
async fn long_answers_are_compressed_for_those_who_ask() {
    let world = World::new().await;
    seed(&world).await;
    let path = "/api/v2/builds";
    let plain = world.client.get(path).await;
    assert!(plain.body.len() > 1024 && plain.header("content-encoding").is_empty());
    for _ in 0..2 {
        let headers = [("Accept", "application/json"), ("Accept-Encoding", "gzip")];
        let zipped = world.client.ask("GET", path, &headers, b"").await;
        assert_eq!(zipped.header("content-encoding"), "gzip");
        assert!(zipped.body.len() < plain.body.len());
        assert_eq!(zipped.unpacked(), plain.body);
    }
    let headers = [("Accept", "application/json"), ("Accept-Encoding", "gzip")];
    let short = world.client.ask("GET", "/api/v2/masters", &headers, b"").await;
    assert!(short.header("content-encoding").is_empty());
    world.finish().await;
}

#[actix_rt::test]
async fn queries_filter_sort_cut_and_project() {
    let world = World::new().await;
    seed(&world).await;
    let ids = async |path: &str, key: &str, id: &str| {
        let answer = world.client.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let json = answer.json();
        let items = json[key].as_array().unwrap();
        let ids: Vec<_> = items.iter().map(|it| it[id].as_i64().unwrap()).collect();
        (ids, json["meta"]["total"].as_i64())
    };
    let builds = async |query: &str| ids(&format!("/api/v2/builds?{query}"), "builds", "buildid").await;
    assert_eq!(builds("order=-buildid&limit=2").await, (vec![5, 4], Some(5)));
    assert_eq!(builds("order=-buildid&limit=2&offset=1").await, (vec![4, 3], Some(5)));
    assert_eq!(builds("complete=false").await, (vec![5], Some(1)));
    assert_eq!(builds("builderid=3&number__ge=2").await, (vec![2, 3], Some(2)));
    assert_eq!(builds("builderid__eq=2&builderid__eq=4&order=buildid").await, (vec![4, 5], Some(2)));
    assert_eq!(builds("buildid__notin=1&buildid__notin=5&limit=-1").await, (vec![2, 3, 4], Some(3)));
    assert_eq!(builds("state_string__contains=warn&limit=0").await, (vec![], Some(4)));
    assert_eq!(
        ids("/api/v2/builders?tags__contains=t1", "builders", "builderid").await,
        (vec![3, 4], Some(2))
    );
    assert_eq!(ids("/api/v2/builders/all/builds", "builds", "number").await, (vec![1, 2, 3], Some(3)));
    assert_eq!(ids("/api/v2/builders/nosuch/builds", "builds", "number").await, (vec![], Some(0)));
    assert_eq!(ids("/api/v2/changes/1/builds", "builds", "buildid").await.1, Some(5));
    assert_eq!(ids("/api/v2/sourcestamps/1/changes", "changes", "changeid").await, (vec![1], Some(1)));
    assert_eq!(ids("/api/v2/builds/3/steps/sh/logs", "logs", "logid").await, (vec![29], Some(1)));
    assert_eq!(
        ids("/api/v2/builders/all/builds/3/steps/1/logs/stdio", "logs", "logid").await,
        (vec![29], None)
    );
    world.finish().await;
}

#[actix_rt::test]
async fn properties_and_fields_come_when_asked_for() {
    let world = World::new().await;
    seed(&world).await;
    let get = async |path: &str| world.client.get(path).await.json();
    assert_eq!(get("/api/v2/builds/3").await["builds"][0]["properties"], serde_json::json!({}));
    let one = get("/api/v2/builds/3?property=branch&property=nosuch").await;
    assert_eq!(one["builds"][0]["properties"], serde_json::json!({"branch": ["main", "Build"]}));
    let all = get("/api/v2/builds/3?property=*").await;
    assert!(all["builds"][0]["properties"].as_object().unwrap().len() >= 5);
    let request = get("/api/v2/buildrequests/4?property=branch&field=properties&field=priority").await;
    assert_eq!(
        request["buildrequests"][0],
        serde_json::json!({"priority": 2, "properties": {"branch": ["main", "Build"]}})
    );
    assert_eq!(
        get("/api/v2/builds/999/properties").await,
        serde_json::json!({"meta": {}, "properties": [{}]})
    );
    let seen = get("/api/v2/builders/4/workers").await;
    assert_eq!(seen["workers"][0]["configured_on"], serde_json::json!([{"builderid": 4, "masterid": 1}]));
    world.finish().await;
}

#[actix_rt::test]
async fn heads_and_other_methods() {
    let world = World::new().await;
    seed(&world).await;
    let get = world.client.get("/api/v2/builds").await;
    let head = world.client.ask("HEAD", "/api/v2/builds", &[("Accept", "application/json")], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["content-length", "content-type", "etag", "greenroom-clock"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = world.client.ask(method, "/api/v2/builds", &[], b"").await;
        assert_eq!(
            (answer.status, answer.json()["error"].as_str().unwrap()),
            (400, "invalid HTTP method"),
            "{method}"
        );
    }
    let versions = world.client.get("/api").await;
    assert_eq!(versions.json()["api_versions"]["v2"], "http://ci.example.org:8010/api/v2");
    for path in ["/api/", "/api/v2/", "/api/v2/builds/", "/api/v2/builds/abc", "/api/v3"] {
        assert_eq!(world.client.get(path).await.status, 404, "{path}");
    }
    world.finish().await;
}

#[actix_rt::test]
async fn health_tells_that_the_database_takes_no_writes() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::over("sqlite://test.db", dir.path(), None).await;
    seed(&world).await;
    // Who holds the lock for writing refuses all other writes, as a full disk does; reads go on.
    let file = format!("sqlite://{}", dir.path().join("test.db").display());
    let mut other = SqliteConnection::connect(&file).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let describe = |text: &str| Op::DescribeBuild { build: BuildId(5), state_string: text.into() };
    let refused = world.rw().write(vec![describe("one")]).await;
    assert!(matches!(refused, Err(DataError::Unavailable { .. })), "{refused:?}");
    let health = world.client.get("/health").await;
    assert_eq!((health.status, health.json()["status"].as_str().unwrap()), (503, "unwritable"));
    assert!(health.json()["why"][0].as_str().unwrap().contains("no writes"), "{}", health.text());
    assert_eq!(world.client.get("/api/v2/builds").await.status, 200);
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    // It hears of the end by itself, also when nobody writes.
    let well = async {
        loop {
            let health = world.client.get("/health").await;
            if health.status == 200 {
                break assert_eq!(health.json()["status"].as_str().unwrap(), "ok");
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), well).await.expect("well again in time");
    world.finish().await;
}

#[actix_rt::test]
async fn the_page_health_and_pictures_are_served() {
    let world = World::new().await;
    seed(&world).await;
    for (path, status) in [
        ("/", 200),
        ("/builders/all/builds/3", 200),
        ("/builders/nosuch", 404),
        ("/workers/no%20such", 404),
        ("/nosuch", 404),
        ("/csp.json", 404),
        ("/../x", 404),
    ] {
        let answer = world.client.ask("GET", path, &[("Accept", "text/html")], b"").await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
        assert!(answer.header("content-type").starts_with("text/html"), "{path}");
    }
    assert_eq!(world.client.ask("POST", "/", &[], b"").await.status, 405);
    let health = world.client.get("/health").await;
    assert_eq!((health.status, health.json()["status"].as_str().unwrap()), (200, "ok"));
    let actors = world.client.get("/api/v2/actors?name=db-writer").await.json();
    assert_eq!((&actors["actors"][0]["kind"], &actors["meta"]["total"]), (&"db-writer".into(), &1.into()));
    let picture = world.client.get("/avatar?username=Al&amp;email=a@b.org").await;
    assert_eq!((picture.status, picture.header("content-type")), (200, "image/svg+xml"));
    world.finish().await;
}

#[actix_rt::test]
async fn the_schema_of_the_configuration_is_served() {
    let world = World::new().await;
    let answer = world.client.get("/api/v2/schema/config").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/schema+json; charset=utf-8")
    );
    assert_eq!(answer.json(), greenroom_config::schema::json());
    let headers = [("If-None-Match", answer.header("etag"))];
    assert_eq!(world.client.ask("GET", "/api/v2/schema/config", &headers, b"").await.status, 304);
    world.finish().await;
}
