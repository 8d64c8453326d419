//! History that goes, and history that stays.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Farm, SUCCESS, binary, eventually};

const CONFIG: &str = "[workers.w1]\npassword = 'pw'\n[schedulers.force]\nkind = 'force'\nbuilders = '*'\n\
                      [builders.old]\n[[builders.old.steps]]\nname = 'say'\nrun = 'echo one'\n\
                      [builders.kept]\n[[builders.kept.steps]]\nname = 'say'\nrun = 'echo two'\n\
                      [retention]\nkeep-good = 0\nbuild-count = 2\nlog-count = 1\n\
                      [retention.builders.'k*']\nenabled = false\n";

fn gc(farm: &Farm, more: &[&str]) -> Output {
    let mut command = binary();
    command.arg("gc").args(more).args(["--master", &format!("http://127.0.0.1:{}/", farm.port())]);
    command.env("STORY_OF_GREENROOM", farm.mark()).output().expect("the program runs")
}

fn total(farm: &Farm, path: &str) -> i64 {
    farm.rest().get(path)["meta"]["total"].as_i64().expect("a total")
}

#[test]
fn old_builds_go_and_pinned_ones_stay() {
    let mut farm = Farm::raise(CONFIG);
    let _agent = farm.agent("w1");
    let builds: Vec<Value> =
        (0..5).map(|_| farm.expect_build(farm.force("old", &json!({})), SUCCESS)).collect();
    let ids: Vec<i64> = builds.iter().map(|it| it["buildid"].as_i64().expect("an id")).collect();
    for _ in 0..4 {
        farm.expect_build(farm.force("kept", &json!({})), SUCCESS);
    }
    farm.rest().call(&format!("builds/{}", ids[0]), "pin", &json!({}));
    assert_eq!(farm.property(&builds[0], "greenroom_pinned"), true);

    let told = gc(&farm, &["--dry-run", "--json"]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let goes = &told["goes"]["builders"];
    assert_eq!(goes["old"]["builds"], 2, "{told}");
    assert_eq!(goes["old"]["logs_of_builds"], 1, "{told}");
    assert!(goes["old"]["log_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{told}");
    assert_eq!(goes["kept"], Value::Null, "{told}");
    for (params, fault) in [
        (json!({"dryRun": true}), "there is no such parameter; there are: dry-run"),
        (json!({"dry-run": "yes"}), "must be true or false"),
    ] {
        let answer = farm.rest().try_call("masters/1", "gc", &params, None).expect("an answer");
        assert!(answer.status == 400 && answer.text.contains(fault), "{params}: {}", answer.text);
    }
    assert_eq!(total(&farm, "builds"), 9, "a dry run removes nothing");

    let begun = gc(&farm, &[]);
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    eventually("two builds less", || (total(&farm, "builds") == 7).then_some(()));
    for gone in [ids[1], ids[2]] {
        let answer = farm.rest().try_get(&format!("/api/v2/builds/{gone}")).expect("an answer");
        assert_eq!(answer.status, 404, "{}", answer.text);
    }
    assert_eq!(farm.rest().get(&format!("builds/{}", ids[0]))["builds"][0]["number"], 1);
    assert_eq!(farm.lines(&builds[0], "say", 'o'), ["one"], "a pinned one keeps its logs");
    eventually("the logs of one more are gone", || {
        let step = farm.step(&builds[3], "say")["stepid"].as_i64()?;
        farm.rest().list(&format!("steps/{step}/logs")).is_empty().then_some(())
    });
    let counted = eventually("the janitor's look has ended", || {
        let text = farm.rest().try_get("/metrics").ok()?.text;
        text.contains("greenroom_retention_looks_total 1").then_some(text)
    });
    assert!(counted.contains("greenroom_retention_builds_deleted_total 2"), "{counted}");

    // What was shown from memory is what is stored, and it goes on from there.
    farm.kill_master();
    farm.start();
    assert_eq!(total(&farm, "builds"), 7);
    let _agent = farm.agent("w1");
    let next = farm.expect_build(farm.force("old", &json!({})), SUCCESS);
    assert_eq!(next["number"], 6);
    farm.rest().call(&format!("builds/{}", ids[0]), "unpin", &json!({}));
    gc(&farm, &[]);
    eventually("the build that was pinned goes", || {
        (farm.rest().try_get(&format!("/api/v2/builds/{}", ids[0])).ok()?.status == 404).then_some(())
    });
}

#[test]
fn without_a_master_it_says_how() {
    let nowhere = binary().args(["gc", "--dry-run", "--master", "http://127.0.0.1:9/"]).output();
    let told = nowhere.expect("the program runs");
    assert!(!told.status.success());
    assert!(String::from_utf8_lossy(&told.stderr).contains("only a running master removes history"));
}
