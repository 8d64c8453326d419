//! What the API has beside the contract: parts in one read, the console, pages by key.

use serde_json::{Value, json};

use crate::seed::seed;
use crate::world::World;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[actix_rt::test]
async fn builders_come_with_their_summary() {
    let world = World::new().await;
    seed(&world).await;
    let answer = world.client.get("/api/v2/builders?expand=summary").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let all = answer.json();
    assert_eq!(all["meta"], json!({"total": 4}));
    let summary = &all["builders"][2]["summary"];
    assert_eq!(keys(summary), ["durations", "queue", "recent", "running", "streak", "workers"]);
    assert_eq!(summary["workers"], json!({"configured": 1, "connected": 1}));
    assert_eq!(summary["queue"], json!({"oldest": null, "waiting": 0}));
    let numbers: Vec<_> = summary["recent"].as_array().unwrap().iter().map(|b| &b["number"]).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(summary["streak"]["count"], 3);
    assert_eq!(summary["streak"]["since"]["number"], 1);
    assert_eq!(summary["streak"]["broken"], false);
    // Warnings are good, and no success.
    assert_eq!(summary["durations"], json!({"median": null, "of": 0, "p95": null}));
    let line = &summary["recent"][0];
    assert_eq!((line["what"].as_str(), &line["branch"]), (Some("hook change \u{e9}"), &json!("main")));
    assert_eq!((line["changeid"].as_i64(), line["results"].as_i64()), (Some(1), Some(1)));
    let waiting = &all["builders"][0]["summary"]["queue"];
    assert_eq!(waiting["waiting"], 1);
    assert_eq!(all["builders"][1]["summary"]["running"][0]["buildid"], 5);
    // One by its name; a selection of fields is about its own.
    let one = world.client.get("/api/v2/builders/all?expand=summary&field=name").await.json();
    assert_eq!(keys(&one["builders"][0]), ["name", "summary"]);
    // Its newest builds, from the same row.
    let newest = world.client.get("/api/v2/builders/3/builds?limit=2&order=-number").await.json();
    assert_eq!(newest["meta"]["total"], 3);
    assert_eq!((&newest["builds"][0]["number"], &newest["builds"][1]["number"]), (&json!(3), &json!(2)));
    world.finish().await;
}

#[actix_rt::test]
async fn a_build_comes_whole() {
    let world = World::new().await;
    seed(&world).await;
    for path in ["builds/3", "builders/all/builds/3"] {
        let answer = world.client.get(&format!("/api/v2/{path}?expand=*")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let build = &answer.json()["builds"][0];
        assert_eq!(build["builder"]["name"], "all");
        assert_eq!(build["worker"]["name"], "w1");
        assert_eq!(build["request"]["buildrequestid"], 4);
        assert_eq!(build["buildset"]["bsid"], 4);
        assert_eq!(build["properties"]["revision"], json!(["abc123", "Build"]));
        let steps = build["steps"].as_array().unwrap();
        assert_eq!(steps.iter().map(|s| s["number"].as_i64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 11]);
        assert_eq!(steps[2]["logs"][1]["slug"], "notes");
        assert_eq!(build["changes"][0]["changeid"], 1);
        assert_eq!(build["neighbours"]["previous"]["number"], 2);
        assert_eq!(build["neighbours"]["next"], Value::Null);
        let since = &build["changes_since_good"];
        assert_eq!(
            (&since["good"]["number"], &since["changes"], &since["more"]),
            (&json!(2), &json!([]), &json!(false))
        );
        assert_eq!(build["durations"]["of"], 0);
        assert_eq!(build["first_error"], Value::Null);
    }
    let listed = world.client.get("/api/v2/builds?expand=builder,steps&order=buildid&limit=3").await.json();
    assert_eq!(listed["builds"][2]["steps"][0]["name"], "worker_preparation");
    assert_eq!(listed["builds"][0]["steps"], json!([]));
    let sets = world.client.get("/api/v2/buildsets/5?expand=*").await.json();
    assert_eq!(sets["buildsets"][0]["builds"][0]["buildid"], 4);
    assert_eq!(sets["buildsets"][0]["properties"]["branch"], json!(["main", "Build"]));
    let requests = world.client.get("/api/v2/buildrequests?expand=builds,buildset,properties").await.json();
    assert_eq!(requests["buildrequests"][0]["builds"][0]["buildid"], 1);
    world.finish().await;
}

#[actix_rt::test]
async fn unknown_parts_are_refused_with_those_that_there_are() {
    let world = World::new().await;
    seed(&world).await;
    for (path, wanted) in [
        ("builders?expand=row", "'row' is no part of builders that expand= knows; there are: summary"),
        ("workers?expand=builds", "'builds' is no part of workers that expand= knows; there are: none"),
        (
            "builds?expand=first_error",
            "'first_error' is no part of builds that expand= knows; there are: builder, buildset, changes, logs, properties, request, steps, worker",
        ),
        ("console?author=x", "unrecognized query parameter 'author'"),
    ] {
        let answer = world.client.get(&format!("/api/v2/{path}")).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(wanted)), "{path}");
    }
    world.finish().await;
}

#[actix_rt::test]
async fn the_console_has_changes_with_what_was_built() {
    let world = World::new().await;
    seed(&world).await;
    let answer = world.client.get("/api/v2/console").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let all = answer.json();
    assert_eq!(all["meta"], json!({"more": false}));
    assert_eq!(all["console"].as_array().unwrap().len(), 2);
    assert_eq!(all["console"][0]["changeid"], 2);
    assert_eq!(all["console"][0]["cells"], json!([]));
    let row = &all["console"][1];
    assert_eq!(
        (row["what"].as_str(), row["revision"].as_str()),
        (Some("hook change \u{e9}"), Some("abc123"))
    );
    let cells = row["cells"].as_array().unwrap();
    let brief: Vec<_> = cells
        .iter()
        .map(|c| (c["builderid"].as_i64(), c["number"].as_i64(), c["builds"].as_i64(), c["waiting"].as_i64()))
        .collect();
    assert_eq!(
        brief,
        [
            (Some(1), None, Some(0), Some(1)),
            (Some(2), Some(1), Some(1), Some(0)),
            (Some(3), Some(3), Some(3), Some(0)),
            (Some(4), Some(1), Some(1), Some(0)),
        ]
    );
    assert_eq!((&cells[1]["results"], &cells[1]["open"]), (&Value::Null, &json!([6])));
    assert_eq!(cells[2]["results"], 1);
    let tagged = world.client.get("/api/v2/console?tag=t1&branch=main&project=proj1").await.json();
    let builders: Vec<_> =
        tagged["console"][0]["cells"].as_array().unwrap().iter().map(|c| &c["builderid"]).collect();
    assert_eq!(builders, [3, 4]);
    let first = world.client.get("/api/v2/console?limit=1").await;
    assert_eq!(first.header("link"), "</api/v2/console?limit=1&changeid__lt=2>; rel=\"next\"");
    let next = world.client.get("/api/v2/console?limit=1&changeid__lt=2").await;
    assert_eq!((&next.json()["console"][0]["changeid"], next.header("link")), (&json!(1), ""));
    assert_eq!(world.client.get("/api/v2/console?branch=nosuch").await.json()["console"], json!([]));
    world.finish().await;
}

#[actix_rt::test]
async fn pages_say_where_the_next_one_is() {
    let world = World::new().await;
    seed(&world).await;
    let mut path = "/api/v2/builds?order=-buildid&limit=2&builderid=3".to_owned();
    let mut seen = Vec::new();
    for _ in 0..2 {
        // Twice: the second answer is the one that was kept.
        world.client.get(&path).await;
        let answer = world.client.get(&path).await;
        seen.extend(
            answer.json()["builds"].as_array().unwrap().iter().map(|b| b["buildid"].as_i64().unwrap()),
        );
        let Some(next) = answer.header("link").strip_prefix('<') else { break };
        path = next.strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        assert_eq!(path, "/api/v2/builds?order=-buildid&limit=2&builderid=3&buildid__lt=2");
    }
    assert_eq!(seen, [3, 2, 1]);
    for (path, next) in [
        (
            "builders/3/builds?order=-number&limit=2",
            "</api/v2/builders/3/builds?order=-number&limit=2&number__lt=2>; rel=\"next\"",
        ),
        ("changes?limit=1", "</api/v2/changes?limit=1&changeid__gt=1>; rel=\"next\""),
        ("builds?order=-started_at&limit=2", ""),
        ("builds?order=-buildid&limit=2&offset=1", ""),
        ("builds?order=-number&limit=2", ""),
        ("builds", ""),
    ] {
        assert_eq!(world.client.get(&format!("/api/v2/{path}")).await.header("link"), next, "{path}");
    }
    world.finish().await;
}
