//! `/metrics`: a real parser reads it, it counts what happened, and its documents speak of what is there.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{FAILURE, Farm, SUCCESS, eventually};

const CONFIG: &str = r#"
[workers.w1]
password = "pw"
[schedulers.force]
kind = "force"
builders = "*"
[builders.good]
[[builders.good.steps]]
run = "true"
[builders.bad]
[[builders.bad.steps]]
run = "false"
"#;

/// Prints what Prometheus' own parser for Python reads: families with their samples.
const PARSE: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
print(json.dumps([{'name': f.name, 'type': f.type, 'help': f.documentation, 'samples': [[s.name, s.labels, s.value] for s in f.samples]}
    for f in parse(sys.stdin.read())]))
";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn scrape(farm: &Farm) -> Vec<Value> {
    let answer = farm.rest().try_get("/metrics").expect("metrics");
    let python = std::env::var("GREENROOM_TEST_VENV").map_or_else(|_| root().join(".venv"), Into::into);
    let mut parser = Command::new(python.join("bin/python"))
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a Python with prometheus-client: `make setup` installs it");
    parser.stdin.take().expect("its input").write_all(answer.text.as_bytes()).expect("the text is taken");
    let parsed = parser.wait_with_output().expect("the parser ends");
    assert!(parsed.status.success(), "not OpenMetrics:\n{}", answer.text);
    serde_json::from_slice(&parsed.stdout).expect("what the script prints")
}

fn value(families: &[Value], sample: &str, labels: &Value) -> f64 {
    let all = families.iter().flat_map(|it| it["samples"].as_array().expect("samples"));
    let mut found = all.filter(|it| it[0] == sample && it[1] == *labels).filter_map(|it| it[2].as_f64());
    found.next().unwrap_or(0.0)
}

#[test]
fn what_happens_is_counted_and_what_is_documented_is_there() {
    let farm = Farm::raise(CONFIG);
    let _agent = farm.agent("w1");
    for (builder, results) in [("good", SUCCESS), ("good", SUCCESS), ("bad", FAILURE)] {
        farm.expect_build(farm.force(builder, &json!({})), results);
    }
    let counted = |families: &[Value]| {
        let builds = |builder: &str, results: &str| {
            value(families, "greenroom_builds_total", &json!({ "builder": builder, "results": results }))
        };
        [builds("good", "success"), builds("bad", "failure")] == [2.0, 1.0]
    };
    eventually("the counters hear of the builds", || counted(&scrape(&farm)).then_some(()));
    let families = scrape(&farm);
    assert_eq!(value(&families, "greenroom_build_duration_seconds_count", &json!({})), 3.0);
    assert_eq!(value(&families, "greenroom_build_wait_seconds_count", &json!({})), 3.0);
    assert_eq!(value(&families, "greenroom_builders", &json!({})), 2.0);
    assert_eq!(value(&families, "greenroom_workers_connected", &json!({})), 1.0);
    assert_eq!(value(&families, "greenroom_builds_running", &json!({})), 0.0);
    assert_eq!(value(&families, "greenroom_db_writable", &json!({})), 1.0);
    assert!(value(&families, "greenroom_db_commit_seconds_count", &json!({})) > 3.0);
    let asked = json!({ "method": "GET", "status": "200" });
    assert!(value(&families, "greenroom_http_requests_total", &asked) > 1.0);
    farm.panic_and_await_rebirth("data");
    eventually("the restart is counted", || {
        let restarts = value(&scrape(&farm), "greenroom_actor_restarts_total", &json!({ "kind": "data" }));
        (restarts == 1.0).then_some(())
    });

    // All of this master's life together: everything that can be there is there by now.
    let mut names: BTreeSet<String> =
        scrape(&farm).iter().filter_map(|it| it["name"].as_str()).map(str::to_owned).collect();
    // This master has no bus, and no notifier that told anything.
    names.extend(["greenroom_mq_connected", "greenroom_notifications"].map(str::to_owned));
    let guide = std::fs::read_to_string(root().join("docs/operator-guide/metrics.md")).expect("the guide");
    let documented: BTreeSet<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `greenroom_"))
        .filter_map(|line| line.split('`').next())
        .map(|name| format!("greenroom_{}", name.split('{').next().unwrap_or_default()))
        .map(|name| name.strip_suffix("_total").unwrap_or(&name).to_owned())
        .collect();
    assert_eq!(documented, names, "docs/operator-guide/metrics.md lists exactly what /metrics shows");
    for file in ["alerts.yml", "grafana.json"] {
        let text = std::fs::read_to_string(root().join("docs/operator-guide").join(file)).expect(file);
        for name in words(&text) {
            let family = ["_total", "_bucket", "_count", "_sum"].iter().find_map(|it| name.strip_suffix(it));
            assert!(names.contains(family.unwrap_or(&name)), "{file} speaks of {name}");
        }
    }
}

/// The names of metrics in a text.
fn words(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c)).filter(|it| it.starts_with("greenroom_")).map(str::to_owned).collect()
}
