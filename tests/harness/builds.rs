//! What users do with builds, and what they expect of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::farm::Farm;
use super::rest::Rest;
use super::wait::{eventually, patience};

pub const SUCCESS: i64 = 0;
pub const WARNINGS: i64 = 1;
pub const FAILURE: i64 = 2;
pub const EXCEPTION: i64 = 4;
pub const RETRY: i64 = 5;
pub const CANCELLED: i64 = 6;

impl Farm {
    /// Pushes a change through the hook.
    #[track_caller]
    pub fn push_change(&self, branch: &str, revision: &str) {
        let body = json!({"author": "Ada <ada@example.org>", "branch": branch, "revision": revision,
                          "comments": "a change", "files": ["src/main.c"]});
        let headers = [("content-type", "application/json")];
        let answer = self.rest().try_post("/change_hook/base", &headers, body.to_string().as_bytes());
        let answer = answer.unwrap_or_else(|e| panic!("the hook: {e}"));
        assert_eq!(answer.status, 200, "the hook: {}", answer.text);
    }

    /// Forces a build; gives its request's id. `params` are added to what the force scheduler `force` is asked.
    #[track_caller]
    pub fn force(&self, builder: &str, params: &Value) -> i64 {
        let mut all = json!({"builderNames": [builder], "reason": "a story"});
        if let (Some(all), Some(params)) = (all.as_object_mut(), params.as_object()) {
            all.extend(params.clone());
        }
        request_of(&self.rest().call("forceschedulers/force", "force", &all))
    }

    /// A build request as it is.
    #[track_caller]
    pub fn request(&self, id: i64) -> Value {
        self.rest().list(&format!("buildrequests/{id}"))[0].clone()
    }

    /// The builds of a request, oldest first.
    #[track_caller]
    pub fn builds_of(&self, request: i64) -> Vec<Value> {
        self.rest().list(&format!("builds?buildrequestid={request}&order=buildid"))
    }

    /// Waits for a request's end; gives it.
    #[track_caller]
    pub fn await_request(&self, id: i64) -> Value {
        self.await_request_within(id, Duration::from_secs(90))
    }

    #[track_caller]
    pub fn await_request_within(&self, id: i64, time: Duration) -> Value {
        patience(time, &format!("the end of build request {id}"), || {
            Some(self.request(id)).filter(|it| it["complete"] == true)
        })
    }

    /// Waits for a request to end with this result; gives the last of its builds.
    #[track_caller]
    pub fn expect_build(&self, request: i64, results: i64) -> Value {
        let request_row = self.await_request(request);
        let build = self.builds_of(request).pop().unwrap_or_default();
        assert_eq!(request_row["results"], results, "{request_row}\n{build}\n{}", self.story_of(&build));
        build
    }

    /// Waits until a request has a build that runs a step of this name; gives the build.
    #[track_caller]
    pub fn await_running(&self, request: i64, step: &str) -> Value {
        eventually(&format!("request {request} to run step {step}"), || {
            let build = self.builds_of(request).pop().filter(|it| it["complete"] == false)?;
            let steps = self.steps(&build);
            steps
                .iter()
                .any(|it| it["name"] == step && it["complete"] == false && !it["started_at"].is_null())
                .then_some(build)
        })
    }

    /// The steps of a build.
    #[track_caller]
    pub fn steps(&self, build: &Value) -> Vec<Value> {
        self.rest().list(&format!("builds/{}/steps", build["buildid"]))
    }

    /// A step of a build by its name.
    #[track_caller]
    pub fn step(&self, build: &Value, name: &str) -> Value {
        let steps = self.steps(build);
        let found = steps.iter().find(|it| it["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("no step {name} in {steps:?}"))
    }

    /// What a step's log holds, each line with its stream's letter before it.
    #[track_caller]
    pub fn log(&self, build: &Value, step: &str) -> String {
        let step = self.step(build, step);
        let log = &self.rest().list(&format!("steps/{}/logs", step["stepid"]))[0];
        let chunks = self.rest().list_of(&format!("logs/{}/contents", log["logid"]), "logchunks");
        chunks.iter().filter_map(|it| it["content"].as_str()).collect()
    }

    /// The lines of one stream (`o`, `e`, `h`) of a step's log.
    #[track_caller]
    pub fn lines(&self, build: &Value, step: &str, stream: char) -> Vec<String> {
        self.log(build, step)
            .split('\n')
            .filter_map(|line| line.strip_prefix(stream))
            .map(str::to_owned)
            .collect()
    }

    /// A property of a build.
    #[track_caller]
    pub fn property(&self, build: &Value, name: &str) -> Value {
        let all = self.rest().get(&format!("builds/{}/properties", build["buildid"]));
        all["properties"][0][name][0].clone()
    }

    /// A build with steps and logs in words, for messages of failures.
    pub fn story_of(&self, build: &Value) -> String {
        if build["buildid"].is_null() {
            return "(no build)".to_owned();
        }
        let steps = self.steps(build);
        let told = steps.iter().map(|step| {
            let logs = self.rest().list(&format!("steps/{}/logs", step["stepid"]));
            let texts = logs.iter().map(|log| {
                let raw = self.rest().try_get(&format!("/api/v2/logs/{}/raw", log["logid"]));
                raw.map(|it| it.text.chars().take(2_000).collect::<String>()).unwrap_or_default()
            });
            format!("{step}\n{}", texts.collect::<String>())
        });
        told.collect()
    }
}

/// The only request of a force's result.
#[track_caller]
pub fn request_of(result: &Value) -> i64 {
    let requests = result[1].as_object().unwrap_or_else(|| panic!("no requests in {result}"));
    assert_eq!(requests.len(), 1, "one builder was forced: {result}");
    requests.values().next().and_then(Value::as_i64).expect("a request's id")
}

/// Eight builders `linux-0` to `linux-7` with these steps, since a worker runs one build of a builder at a time, and the force
/// scheduler for jobs. `JOB` and `BUILD` are in the environment of every command.
pub fn eight_builders(steps: &str) -> String {
    let head = r#"
[schedulers.force]
kind = "force"
builders = "*"
parameters = [{ name = "job", kind = "int" }]
"#;
    let builder = |n: u64| {
        let env = "{ JOB = \"${{ prop.job }}\", BUILD = \"${{ build.number }}\" }";
        let steps = steps.replace("[[steps]]", &format!("[[builders.linux-{n}.steps]]"));
        format!("[builders.linux-{n}]\nworkers = [\"w1\"]\nenv = {env}\n{steps}\n")
    };
    head.to_owned() + &(0..8).map(builder).collect::<String>()
}

/// Forces a build for a job, on one of the [`eight_builders`], asking again with the same key until there is an answer; gives its request's id.
#[track_caller]
pub fn force_once(rest: &Rest, job: u64) -> i64 {
    let params =
        json!({"builderNames": [format!("linux-{}", job % 8)], "reason": "load", "job": job.to_string()});
    let key = format!("job-{job}");
    patience(Duration::from_secs(60), &format!("an answer for job {job}"), || {
        let answer = rest.try_call("forceschedulers/force", "force", &params, Some(&key)).ok()?;
        assert!([200, 503, 504].contains(&answer.status), "job {job}: {} {}", answer.status, answer.text);
        (answer.status == 200).then(|| request_of(&answer.json()["result"]))
    })
}
