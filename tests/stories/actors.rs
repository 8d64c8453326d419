//! `greenroom actors`: looking at the tree, and ending and restarting actors on purpose.

use std::process::Output;

use serde_json::Value;

use crate::harness::{Farm, SUCCESS, binary, eventually, force_once};

const CONFIG: &str = r#"
[workers.local]
kind = "local"
[schedulers.force]
kind = "force"
builders = "*"
[[builders.linux-0.steps]]
run = "true"
[supervision]
intensity = 20
[supervision.kinds.broker]
intensity = 0
"#;

fn greenroom(farm: &Farm, words: &[&str]) -> Output {
    let master = format!("http://127.0.0.1:{}/", farm.port());
    binary().arg("actors").args(words).args(["--master", &master]).output().expect("the program")
}

/// What it prints when all goes well.
fn told(farm: &Farm, words: &[&str]) -> String {
    let output = greenroom(farm, words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// What it complains of.
fn refused(farm: &Farm, words: &[&str]) -> String {
    let output = greenroom(farm, words);
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn births(farm: &Farm, name: &str) -> i64 {
    farm.births()[name]
}

#[test]
fn the_tree_is_shown_and_actors_are_ended_and_restarted_by_hand() {
    let farm = Farm::raise(CONFIG);
    farm.await_worker("local");
    let tree = told(&farm, &[]);
    for part in ["NAME", "├─ data-layer", "│  ├─ db-writer", "scheduler/force", "0/20", "0/0*"] {
        assert!(tree.contains(part), "{part} in\n{tree}");
    }
    let json: Vec<Value> = serde_json::from_str(&told(&farm, &["--json"])).expect("JSON");
    assert!(json.iter().any(|it| it["name"] == "distributor"));

    // all that the answer of an act passes through, the desk itself first
    for name in ["control-desk", "db-writer", "data", "hub/actors", "db-reader", "scheduler/force"] {
        let words = told(&farm, &["kill", name]);
        assert!(words.contains(&format!("{name} runs again (birth 2) after ")), "{words}");
    }
    let words = told(&farm, &["restart", "control-desk"]);
    assert!(words.contains("runs again (birth 3)"), "{words}");
    assert_eq!(births(&farm, "control-desk"), 3, "each act was carried out once");
    let words = told(&farm, &["kill", "session/local"]);
    assert!(words.contains("it does not come back by itself"), "{words}");
    farm.await_worker("local");

    let about = told(&farm, &["show", "control-desk"]);
    for part in ["killed", "lived", "back after", "[supervision]", "1 within 60 s; 20 granted"] {
        assert!(about.contains(part), "{part} in\n{about}");
    }
    let log = farm.master_log();
    assert!(
        log.contains("an actor was ended by hand actor.name=db-writer action=kill-actor identity="),
        "{log}"
    );

    let near = "there is no actor called `distribotor`: did you mean `distributor`?";
    for act in ["kill", "restart", "show"] {
        assert!(refused(&farm, &[act, "distribotor"]).contains(near));
    }
    assert!(refused(&farm, &["kill", "process"]).contains("`process` is a supervisor"));
    assert_eq!(farm.rest().try_get("/api/v2/actors/distribotor").expect("an answer").status, 404);
    assert_eq!(farm.rest().list_of("actors/scheduler%2Fforce", "actors")[0]["kind"], "force-scheduler");
    assert_eq!(farm.rest().list_of("actors/scheduler/force", "actors")[0]["kind"], "force-scheduler");
    farm.expect_build(force_once(farm.rest(), 0), SUCCESS);
}

#[test]
fn an_act_that_ends_the_master_is_not_carried_out_again_by_the_next() {
    // no supervisor up to the root grants one
    let mut farm = Farm::raise(&format!("{CONFIG}[supervision.kinds.supervisor]\nintensity = 0\n"));
    let words = refused(&farm, &["kill", "broker"]);
    let status = eventually("the master to give up", || farm.master().ended());
    assert_eq!(status.code(), Some(70), "{words}");
    assert!(farm.master_log().contains("actor broker (kind broker) killed"));
    farm.kill_master();
    farm.start();
    // a later act has been answered, so the earlier one has been looked at
    told(&farm, &["restart", "db-reader"]);
    assert_eq!(births(&farm, "broker"), 1);
}
