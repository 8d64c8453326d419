//! From a push to a result: hook → scheduler → build → log.

use serde_json::json;

use crate::harness::{Farm, SUCCESS, eventually};

const CONFIG: &str = r#"
[workers.w1]
password = "pw"
[schedulers.main]
kind = "single-branch"
builders = ["linux"]
filter = { branch = ["main"] }
[builders.linux]
[[builders.linux.steps]]
name = "greet"
run = "echo hello from ${{ src.branch }}; echo careful >&2"
"#;

fn a_push_becomes_a_result(farm: &Farm) {
    let mut feed = farm.listen("builds/*/*");
    farm.push_change("topic", "beef");
    farm.push_change("main", "cafe");
    let build = eventually("the build", || {
        farm.rest().list("builds").pop().filter(|build| build["complete"] == true)
    });
    assert_eq!(build["results"], SUCCESS, "{}", farm.story_of(&build));
    assert_eq!(farm.lines(&build, "greet", 'o'), ["hello from main"]);
    assert_eq!(farm.lines(&build, "greet", 'e'), ["careful"]);
    assert_eq!(farm.property(&build, "revision"), "cafe");
    assert_eq!(farm.rest().get("builds")["meta"]["total"], 1, "the change of another branch builds nothing");
    let changes = farm.rest().list(&format!("builds/{}/changes", build["buildid"]));
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0]["revision"], "cafe");

    let kinds: Vec<_> = std::iter::from_fn(|| feed.next())
        .take_while(|frame| frame["k"] != "builds/1/finished")
        .map(|frame| frame["k"].clone())
        .collect();
    assert_eq!(kinds.first(), Some(&json!("builds/1/new")), "{kinds:?}");
}

#[test]
fn a_push_becomes_a_result_on_our_agent() {
    let farm = Farm::raise(CONFIG);
    let _agent = farm.agent("w1");
    a_push_becomes_a_result(&farm);
}

#[test]
fn a_push_becomes_a_result_on_a_stock_worker() {
    let farm = Farm::raise(CONFIG);
    let _worker = farm.stock_worker("w1");
    a_push_becomes_a_result(&farm);
}
