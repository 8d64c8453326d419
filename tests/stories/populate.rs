//! A populated history is served as if it had happened, and one that was broken off is finished by asking again.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Farm, Plan, SUCCESS, binary, patience};

const CONFIG: &str = r#"
[workers.w]
password = "pw"
[builders.b]
workers = ["w"]
[[builders.b.steps]]
run = "true"
[schedulers.force]
kind = "force"
builders = "*"
"#;

fn populate(farm: &Farm, words: &str) -> Child {
    let mut command = binary();
    command.arg("populate").arg("--config").arg(farm.path("farm.toml")).args(words.split(' '));
    command
        .env("STORY_OF_GREENROOM", farm.mark())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program")
}

#[track_caller]
fn expect_populated(farm: &Farm, words: &str) {
    let done = populate(farm, words).wait_with_output().expect("its end");
    assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The names and types of an entity's fields; null says nothing of a type.
fn shape(entity: &Value) -> Vec<(String, &'static str)> {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    let fields = entity.as_object().expect("an entity").iter();
    fields.map(|(name, value)| (name.clone(), kind(value))).collect()
}

#[test]
fn a_populated_history_is_served_as_if_it_had_happened() {
    let mut farm = Plan::new(CONFIG).lay_out();
    expect_populated(&farm, "--builds 40 --steps 2 --changes 7");
    farm.start();
    let rest = farm.rest().clone();
    for (path, total) in [("builds", 40), ("buildrequests", 40), ("buildsets", 40), ("changes", 7)] {
        assert_eq!(rest.get(&format!("{path}?limit=3"))["meta"]["total"], total, "{path}");
        assert_eq!(rest.list(&format!("{path}?limit=100")).len(), total, "{path}");
    }
    let _agent = farm.agent("w");
    let request = farm.force("b", &json!({}));
    let real = farm.expect_build(request, SUCCESS);
    assert_eq!(
        (real["buildid"].as_i64(), real["number"].as_i64()),
        (Some(41), Some(41)),
        "counters go on: {real}"
    );
    let populated = rest.list("builds/3").remove(0);
    assert_eq!(shape(&populated), shape(&real));
    let of = |build: &Value, path: &str| rest.list(&format!("builds/{}/{path}", build["buildid"]));
    let (steps, real_steps) = (of(&populated, "steps"), of(&real, "steps"));
    assert_eq!((steps.len(), shape(&steps[1])), (2, shape(real_steps.last().expect("a step"))));
    let logs = |step: &Value| rest.list(&format!("steps/{}/logs", step["stepid"]));
    assert_eq!(shape(&logs(&steps[1])[0]), shape(&logs(real_steps.last().expect("a step"))[0]));
    let request = |build: &Value| farm.request(build["buildrequestid"].as_i64().expect("an id"));
    assert_eq!(shape(&request(&populated)), shape(&request(&real)));
    let set = |build: &Value| rest.list(&format!("buildsets/{}", request(build)["buildsetid"])).remove(0);
    assert_eq!(set(&populated)["complete"], true);
    let properties = &rest.list("builds/3?property=*")[0]["properties"];
    assert_eq!(properties["branch"][0], "main", "{properties}");
    let changes = of(&populated, "changes");
    assert_eq!(changes.len(), 1, "a build is of a change: {changes:?}");
    let latest = rest.list("builders/1/builds?limit=5&order=-number");
    let numbers: Vec<_> = latest.iter().filter_map(|it| it["number"].as_i64()).collect();
    assert_eq!(numbers, [41, 40, 39, 38, 37]);
}

#[test]
fn a_filling_that_was_killed_is_finished_by_asking_again() {
    let mut farm = Plan::new(CONFIG).lay_out();
    let words = "--builds 20000 --steps 1 --changes 5 --logs 0";
    let mut killed = populate(&farm, words);
    let file = farm.data_dir().join("greenroom.db-wal");
    patience(Duration::from_secs(60), "some of the builds", || {
        std::fs::metadata(&file).ok().filter(|it| it.len() > 1 << 20)
    });
    killed.kill().expect("it runs");
    killed.wait().expect("its end");
    let refused = populate(&farm, "--builds 5").wait_with_output().expect("its end");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("only in part"));
    expect_populated(&farm, words);
    farm.start();
    let total = |path: &str| farm.rest().get(&format!("{path}?limit=1"))["meta"]["total"].clone();
    assert_eq!(
        (total("builds"), total("buildrequests"), total("changes")),
        (json!(20_000), json!(20_000), json!(5))
    );
    let newest = farm.rest().list("builds?limit=1&order=-buildid").remove(0);
    assert_eq!(newest["number"], 20_000, "each build has a number of its own: {newest}");
}
