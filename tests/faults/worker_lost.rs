//! Workers that die, come twice or are not who they say.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{EXCEPTION, Farm, RETRY, SUCCESS, eventually, patience};

const CONFIG: &str = r#"
[workers.w1]
password = "pw"
[schedulers.force]
kind = "force"
builders = "*"
[builders.linux]
[[builders.linux.steps]]
name = "work"
run = "echo begun; until [ -e GO ]; do sleep 0.05; done; echo done"
"#;

fn farm() -> Farm {
    let mut farm = crate::harness::Plan::new("").lay_out();
    farm.add_config(&CONFIG.replace("GO", &farm.path("go").display().to_string()));
    farm.start();
    farm
}

/// What both kinds of worker do.
trait Worker {
    fn die(&mut self);
    fn come_back(&mut self, farm: &Farm);
}

impl Worker for crate::harness::Agent {
    fn die(&mut self) {
        self.kill();
    }

    fn come_back(&mut self, farm: &Farm) {
        *self = farm.launch_agent("w1", "pw");
    }
}

impl Worker for crate::harness::StockWorker {
    fn die(&mut self) {
        self.kill();
    }

    fn come_back(&mut self, _: &Farm) {
        self.start();
    }
}

fn results(builds: &[Value]) -> Vec<i64> {
    builds.iter().filter_map(|it| it["results"].as_i64()).collect()
}

fn a_lost_build_is_retried(farm: &Farm, worker: &mut impl Worker) {
    let request = farm.force("linux", &json!({}));
    farm.await_running(request, "work");
    worker.die();
    patience(Duration::from_secs(30), "the end of the lost build", || {
        (results(&farm.builds_of(request)) == [RETRY]).then_some(())
    });
    assert_eq!(farm.request(request)["complete"], false, "the request waits again");
    std::fs::write(farm.path("go"), "").expect("a file");
    worker.come_back(farm);
    farm.expect_build(request, SUCCESS);
    assert_eq!(results(&farm.builds_of(request)), [RETRY, SUCCESS]);
}

fn four_losses_are_an_exception(farm: &Farm, worker: &mut impl Worker) {
    let request = farm.force("linux", &json!({}));
    for attempt in 1..=4 {
        eventually(&format!("attempt {attempt} to run"), || {
            let builds = farm.builds_of(request);
            (builds.len() == attempt && builds[attempt - 1]["complete"] == false).then_some(())
        });
        farm.await_running(request, "work");
        worker.die();
        farm.await_loss("w1");
        worker.come_back(farm);
    }
    let ended = farm.await_request(request);
    assert_eq!(ended["results"], EXCEPTION, "{ended}");
    assert_eq!(farm.builds_of(request).len(), 4, "one attempt and three retries");
}

#[test]
fn our_agent_is_killed_in_a_step() {
    let farm = farm();
    let mut agent = farm.agent("w1");
    a_lost_build_is_retried(&farm, &mut agent);
}

#[test]
fn a_stock_worker_is_killed_in_a_step() {
    let farm = farm();
    let mut worker = farm.stock_worker("w1");
    a_lost_build_is_retried(&farm, &mut worker);
}

#[test]
fn our_agent_is_killed_in_every_attempt() {
    let farm = farm();
    let mut agent = farm.agent("w1");
    four_losses_are_an_exception(&farm, &mut agent);
}

#[test]
fn a_stock_worker_is_killed_in_every_attempt() {
    let farm = farm();
    let mut worker = farm.stock_worker("w1");
    four_losses_are_an_exception(&farm, &mut worker);
}

#[test]
fn a_second_worker_of_the_same_name_is_refused_and_disturbs_nothing() {
    let farm = farm();
    let first = farm.stock_worker("w1");
    let request = farm.force("linux", &json!({}));
    farm.await_running(request, "work");
    let second = farm.launch_agent("w1", "pw");
    eventually("the refusal of the second", || second.log().contains("disconnected").then_some(()));
    assert!(farm.is_connected("w1"), "the first stays");
    std::fs::write(farm.path("go"), "").expect("a file");
    farm.expect_build(request, SUCCESS);
    assert_eq!(farm.builds_of(request).len(), 1, "the build of the first was not disturbed");
    assert!(first.dir().join("linux/build").exists(), "it ran on the first");
}

#[test]
fn a_wrong_password_and_an_unknown_name_are_refused() {
    let farm = farm();
    let wrong = farm.launch_agent("w1", "guess");
    let unknown = farm.launch_agent("nobody", "pw");
    let stock = farm.launch_stock_worker("w1", "guess", "stock");
    eventually("the refusal of the wrong password", || wrong.log().contains("401").then_some(()));
    eventually("the refusal of the unknown name", || unknown.log().contains("401").then_some(()));
    eventually("the refusal of the stock worker", || stock.log().contains("401").then_some(()));
    assert!(!farm.is_connected("w1"));
    let _right = farm.agent("w1");
}
