//! Log text that leaves the database for a directory or a bucket, read as if it had not.

use serde_json::{Value, json};

use crate::harness::{Farm, SUCCESS, eventually};

#[path = "../support/objects.rs"]
mod objects;

use objects::{BUCKET, KEY, ObjectServer, files};

const CONFIG: &str = "[workers.w1]\npassword = 'pw'\n[schedulers.force]\nkind = 'force'\nbuilders = '*'\n\
                      [builders.loud]\n[[builders.loud.steps]]\nname = 'say'\n\
                      run = \"seq -f 'line %.0f of a long log' 1 300000\"\n\
                      [builders.quiet]\n[[builders.quiet.steps]]\nname = 'say'\nrun = 'echo hush'\n";

/// The log of a build's step.
fn log_of(farm: &Farm, build: &Value) -> i64 {
    let step = farm.step(build, "say")["stepid"].as_i64().expect("a step");
    farm.rest().list(&format!("steps/{step}/logs"))[0]["logid"].as_i64().expect("a log")
}

/// What everybody who reads the log is shown.
fn is_whole(farm: &Farm, log: i64) {
    let rest = farm.rest();
    let found = rest.bytes(&format!("/api/v2/logs/{log}/search?q=line%20222222%20"));
    let found = String::from_utf8(found).expect("text");
    let rows: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    // Rows of progress may come before and between.
    let hit = rows.iter().find(|row| row["type"] == "match").expect("a match");
    let summary = rows.last().expect("a summary");
    assert_eq!(
        (&hit["text"], &summary["count"]),
        (&json!("line 222222 of a long log"), &json!(1)),
        "{found}"
    );
    let window = rest.get(&format!("logs/{log}/contents?offset={}&limit=2", hit["line"]));
    let window = window["logchunks"][0]["content"].as_str().expect("text");
    assert_eq!(window, "oline 222222 of a long log\noline 222223 of a long log\n");
    let raw = String::from_utf8(rest.bytes(&format!("/api/v2/logs/{log}/raw"))).expect("text");
    let lines: Vec<&str> = raw.lines().filter(|line| line.ends_with("of a long log")).collect();
    let wanted = (1..=300_000).map(|n| format!("line {n} of a long log"));
    assert!(lines.iter().copied().eq(wanted), "{} lines", lines.len());
}

#[test]
fn text_in_a_directory_outlives_the_master() {
    let mut farm = Farm::raise(&format!("{CONFIG}[logs]\nstore = 'directory'\n"));
    let _agent = farm.agent("w1");
    let build = farm.expect_build(farm.force("loud", &json!({})), SUCCESS);
    let log = log_of(&farm, &build);
    let dir = farm.data_dir().join("logs");
    eventually("all of it has left, in two objects", || (files(&dir).len() >= 2).then_some(()));
    is_whole(&farm, log);
    farm.kill_master();
    farm.start();
    is_whole(&farm, log);
}

#[test]
fn a_bucket_that_is_away_hides_what_is_in_it_and_nothing_else() {
    let server = ObjectServer::start();
    let logs = format!(
        "[logs]\nstore = 's3'\nbucket = '{BUCKET}'\nendpoint = '{}'\naccess-key = '{KEY}'\nsecret-key = '{KEY}'\n",
        server.endpoint
    );
    let farm = Farm::raise(&format!("{CONFIG}{logs}"));
    let _agent = farm.agent("w1");
    let first = log_of(&farm, &farm.expect_build(farm.force("loud", &json!({})), SUCCESS));
    let stored = || server.files().iter().filter(|(_, size)| *size > 10_000).count();
    let before = eventually("all of it has left", || Some(stored()).filter(|it| *it >= 2));
    is_whole(&farm, first);

    server.stop();
    let second = log_of(&farm, &farm.expect_build(farm.force("loud", &json!({})), SUCCESS));
    is_whole(&farm, second);
    let hush = farm.expect_build(farm.force("quiet", &json!({})), SUCCESS);
    assert_eq!(farm.lines(&hush, "say", 'o'), ["hush"]);
    let hidden = farm.rest().try_get(&format!("/api/v2/logs/{first}/contents?limit=1")).expect("an answer");
    assert_eq!((hidden.status, hidden.header("retry-after").is_some()), (503, true), "{}", hidden.text);
    let raw = farm.rest().try_get(&format!("/api/v2/logs/{first}/raw")).expect("an answer");
    assert_eq!(raw.status, 503, "told before a byte of it: {}", raw.text);

    server.again();
    eventually("the second log has left, too", || (stored() >= 2 * before).then_some(()));
    is_whole(&farm, first);
    is_whole(&farm, second);
    let said = farm.master_log();
    assert_eq!(said.matches("log text cannot leave").count(), 1, "{said}");
    assert_eq!(said.matches("log text leaves for the object store again").count(), 1, "{said}");
}

#[test]
fn text_whose_file_was_lost_is_gone_and_not_empty() {
    let mut farm = Farm::raise(CONFIG);
    let agent = farm.agent("w1");
    let build = farm.expect_build(farm.force("quiet", &json!({})), SUCCESS);
    let log = log_of(&farm, &build);
    drop(agent);
    farm.kill_master();
    for end in ["", "-wal", "-shm"] {
        let file = farm.data_dir().join(format!("greenroom.logs.db{end}"));
        assert!(!file.exists() || std::fs::remove_file(&file).is_ok());
    }
    farm.start();
    assert!(farm.master_log().contains("greenroom.logs.db"), "{}", farm.master_log());
    for form in ["contents", "raw", "search?q=hush"] {
        let answer = farm.rest().try_get(&format!("/api/v2/logs/{log}/{form}")).expect("an answer");
        assert_eq!(answer.status, 410, "{form}: {}", answer.text);
        assert!(answer.text.contains("is not stored any more"), "{form}: {}", answer.text);
    }
}
