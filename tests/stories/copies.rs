//! A farm moves from one database to another, and comes back from a backup.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::databases;
use crate::harness::{Farm, Plan, RETRY, SUCCESS, binary, patience};

const BUILDER: &str = r#"
[workers.w1]
password = "pw"
max-builds = 4
[schedulers.force]
kind = "force"
builders = "*"
parameters = [{ name = "job", kind = "int" }]
[builders.b]
workers = ["w1"]
[[builders.b.steps]]
name = "work"
run = "echo job $JOB; seq 5000; printf 'caf\\303\\251\\n'"
env = { JOB = "${{ prop.job }}" }
[builders.endless]
workers = ["w1"]
[[builders.endless.steps]]
name = "endless"
run = "echo begun; sleep 1000"
"#;

fn laid_out(database: &str) -> Farm {
    Plan::new(&format!("[database]\nurl = \"{database}\"\n{BUILDER}")).lay_out()
}

fn answer(command: &mut Command) -> Output {
    command.output().expect("the program runs")
}

#[track_caller]
fn said(command: &mut Command) -> String {
    let answer = answer(command);
    let (out, err) = (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    assert!(answer.status.success(), "{command:?}: {out}{err}");
    out.into_owned()
}

fn config(farm: &Farm) -> std::path::PathBuf {
    farm.path("farm.toml")
}

/// Everything that the past left, as REST tells it: what is complete, with properties, steps and text.
fn past(farm: &Farm) -> Value {
    let rest = farm.rest();
    let list = |path: &str| Value::from(rest.list(path));
    let builds = rest.list("builds?order=buildid");
    let of_builds = builds.iter().map(|build| {
        let steps = farm.steps(build);
        let texts = steps.iter().flat_map(|step| {
            rest.list(&format!("steps/{}/logs", step["stepid"])).into_iter().map(|log| {
                let raw = rest.try_get(&format!("/api/v2/logs/{}/raw", log["logid"])).expect("text");
                assert_eq!(raw.status, 200, "{}", raw.text);
                json!([log, raw.text])
            })
        });
        let texts: Vec<Value> = texts.collect();
        let properties = rest.get(&format!("builds/{}/properties", build["buildid"]));
        json!({"properties": properties["properties"], "steps": steps, "texts": texts})
    });
    let of_builds: Vec<Value> = of_builds.collect();
    json!({
        "changes": list("changes?order=changeid"), "buildsets": list("buildsets?order=bsid"),
        "requests": list("buildrequests?order=buildrequestid"), "builds": builds, "of-builds": of_builds,
    })
}

#[test]
fn a_farm_moves_from_sqlite_over_postgresql_and_mariadb_and_back() {
    let mut farm = laid_out("sqlite://greenroom.db");
    farm.start();
    let agent = farm.agent("w1");
    farm.push_change("main", "abc");
    for job in 0..5 {
        let request = farm.force("b", &json!({"job": job.to_string()}));
        assert_eq!(farm.await_request(request)["results"], SUCCESS);
    }
    let before = past(&farm);
    assert!(
        before["of-builds"][4]["texts"][0][1].as_str().is_some_and(|it| it.contains("5000\n")),
        "{before}"
    );
    // Not under a master that runs.
    let next = laid_out(&databases::fresh("postgres"));
    let early = answer(binary().arg("copy-db").args([config(&farm), config(&next)]));
    assert!(!early.status.success(), "{early:?}");
    assert!(String::from_utf8_lossy(&early.stderr).contains("another master uses"), "{early:?}");
    drop(agent);
    farm.kill_master();
    let way = [next, laid_out(&databases::fresh("mariadb")), laid_out("sqlite://greenroom.db")];
    for mut next in way {
        let told = said(binary().arg("copy-db").args([config(&farm), config(&next)]));
        assert!(told.contains("verified") && told.contains("checksum"), "{told}");
        next.start();
        let after = past(&next);
        assert!(after == before, "{after}\n{before}");
        next.kill_master();
        farm = next;
    }
    farm.start();
    let _agent = farm.agent("w1");
    let request = farm.force("b", &json!({"job": "99"}));
    let build = farm.expect_build(request, SUCCESS);
    assert_eq!(build["number"], 6, "it goes on where it was");
}

/// The clock of what a master shows now.
fn clock(farm: &Farm) -> String {
    let answer = farm.rest().try_get("/api/v2/builders").expect("an answer");
    answer.header("greenroom-clock").expect("a clock").to_owned()
}

/// What a client that has seen this clock is told.
fn events_since(farm: &Farm, clock: &str) -> u16 {
    let path = format!("/api/v2/events?topic=builds/*/*&since={clock}&wait=0s");
    farm.rest().try_get(&path).expect("an answer").status
}

fn back_up(farm: &Farm, target: &Path) -> String {
    said(binary().args(["backup", "--config"]).arg(config(farm)).arg(target))
}

#[test]
fn a_backup_of_a_running_master_is_restored_as_another_life() {
    let mut farm = laid_out("sqlite://greenroom.db");
    farm.start();
    let agent = farm.agent("w1");
    let first = farm.force("b", &json!({"job": "1"}));
    assert_eq!(farm.await_request(first)["results"], SUCCESS);
    let running = farm.force("endless", &json!({}));
    let build = farm.await_running(running, "endless");
    patience(Duration::from_secs(20), "output of the build that runs", || {
        farm.log(&build, "endless").contains("begun").then_some(())
    });
    let backup = farm.path("backups").join("farm.db");
    let told = back_up(&farm, &backup);
    assert!(told.contains("was backed up to"), "{told}");
    // In a directory it is named by the time.
    back_up(&farm, backup.parent().expect("a directory"));
    assert_eq!(std::fs::read_dir(farm.path("backups")).expect("backups").count(), 4, "two of two files");
    let later = farm.force("b", &json!({"job": "2"}));
    assert_eq!(farm.await_request(later)["results"], SUCCESS);
    let seen = clock(&farm);
    assert_eq!(events_since(&farm, &seen), 200);
    drop(agent);
    farm.kill_master();
    // One of its two files alone would be logs without text.
    let torso = farm.path("torso.db");
    std::fs::copy(&backup, &torso).expect("a copy");
    let nowhere = laid_out("sqlite://greenroom.db");
    let refused = answer(binary().args(["restore", "--config"]).arg(config(&nowhere)).arg(&torso));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("torso.logs.db"), "{refused:?}");
    assert!(!farm.path("torso.logs.db").exists(), "nothing is made beside it");
    for database in ["sqlite://greenroom.db".to_owned(), databases::fresh("postgres")] {
        let mut restored = laid_out(&database);
        said(binary().args(["restore", "--config"]).arg(config(&restored)).arg(&backup));
        restored.start();
        assert_eq!(events_since(&restored, &seen), 410, "it must take a new snapshot");
        assert_eq!(events_since(&restored, &clock(&restored)), 200);
        assert_eq!(restored.request(first)["results"], SUCCESS);
        assert!(restored.log(&restored.builds_of(first)[0], "work").contains("5000"));
        assert_eq!(restored.rest().list("buildrequests").len(), 2, "what came after is not there");
        // What ran when the backup was made is lost and will be repeated; what it said until then is there.
        let cut = patience(Duration::from_secs(20), "the end of the build that ran", || {
            restored.builds_of(running).into_iter().next().filter(|it| it["complete"] == true)
        });
        assert_eq!(cut["results"], RETRY, "{cut}");
        assert!(restored.log(&cut, "endless").contains("begun"), "{cut}");
        // A second life, for whoever put the database back by other means.
        let of_restored = clock(&restored);
        restored.kill_master();
        said(binary().args(["restore", "--config"]).arg(config(&restored)));
        restored.start();
        assert_eq!(events_since(&restored, &of_restored), 410);
    }
    let server = laid_out(&databases::fresh("mariadb"));
    let refused = answer(binary().args(["backup", "--config"]).arg(config(&server)).arg(farm.path("x.db")));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("mariadb-dump"), "{refused:?}");
}
