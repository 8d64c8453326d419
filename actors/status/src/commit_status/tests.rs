//! States of commits, as the three sorts of forges want them.

use std::sync::Arc;
use std::time::Duration;

use greenroom_config::NotifierKind;
use greenroom_model::{BuildId, Results};
use serde_json::{Value, json};

use super::CommitStatusTransport;
use crate::examples;
use crate::notice::{BuildNotice, Notice, TestNotice};
use crate::sinks::{HttpSink, Reply};
use crate::transport::{Outgoing, SendError, Sent, Transport};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    Github,
    Gitlab,
    Gitea,
}

fn transport(sort: Sort, base: &str, more: Value) -> CommitStatusTransport {
    let mut all = json!({
        "base-url": base, "token": "t0ken", "allow-private": true,
        "repositories": {"https://github.com/octo/hello.git": "octo/hello"},
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = serde_json::from_value(all).unwrap();
    let kind = match sort {
        Sort::Github => NotifierKind::GithubStatus(config),
        Sort::Gitlab => NotifierKind::GitlabStatus(config),
        Sort::Gitea => NotifierKind::GiteaStatus(config),
    };
    CommitStatusTransport::new(&kind, None, Duration::from_secs(2)).unwrap()
}

fn of(notice: BuildNotice) -> Arc<Outgoing> {
    Arc::new(examples::outgoing(Notice::Build(Box::new(notice))))
}

fn nobody(outcome: Result<Sent, SendError>) -> String {
    match outcome {
        Err(SendError::Nobody { why }) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn github_gets_a_pending_and_a_final_state() {
    let sink = HttpSink::start();
    let mut transport = transport(Sort::Github, &format!("{}api/v3", sink.url()), json!({}));
    transport.send(of(examples::started())).await.unwrap();
    let sent = transport.send(of(examples::failed())).await.unwrap();
    assert_eq!(sent.target, "octo/hello@0123456789ab");
    let requests = sink.requests();
    for request in &requests {
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("POST", format!("/api/v3/repos/octo/hello/statuses/{SHA}").as_str())
        );
        assert_eq!(request.header("authorization"), Some("Bearer t0ken"));
        assert!(request.header("user-agent").is_some_and(|it| it.starts_with("greenroom/")));
    }
    assert_eq!(requests[0].json()["state"], "pending");
    assert_eq!(
        requests[1].json(),
        json!({
            "state": "failure",
            "context": "greenroom/linux",
            "description": "failure in 95 s: test: main.c:7: error: expected ';' before '}' token",
            "target_url": "https://ci.example.org/#/builders/1/builds/42",
        })
    );
}

#[tokio::test]
async fn gitlab_gets_the_project_as_one_part_and_the_branch() {
    let sink = HttpSink::start();
    let more = json!({"repository": "group/sub/hello"});
    let mut transport = transport(Sort::Gitlab, &format!("{}gitlab/", sink.url()), more);
    transport.send(of(examples::started())).await.unwrap();
    transport.send(of(examples::fixed())).await.unwrap();
    let requests = sink.requests();
    assert_eq!(requests[0].path, format!("/gitlab/api/v4/projects/octo%2Fhello/statuses/{SHA}"));
    assert_eq!(requests[0].header("private-token"), Some("t0ken"));
    let (first, second) = (requests[0].json(), requests[1].json());
    assert_eq!(
        (&first["state"], &first["ref"], &first["name"]),
        (&json!("running"), &json!("main"), &json!("greenroom/linux"))
    );
    assert_eq!(second["state"], "success");
}

#[tokio::test]
async fn gitea_gets_its_own_words() {
    let sink = HttpSink::start();
    let mut transport = transport(Sort::Gitea, &sink.url(), json!({}));
    let ended =
        |id: i64, results| BuildNotice { build: BuildId(id), results: Some(results), ..examples::failed() };
    transport.send(of(examples::started())).await.unwrap();
    for (id, results) in
        [(2_000, Results::Warnings), (2_001, Results::Exception), (2_002, Results::Cancelled)]
    {
        transport.send(of(ended(id, results))).await.unwrap();
    }
    let requests = sink.requests();
    assert_eq!(requests[0].path, format!("/api/v1/repos/octo/hello/statuses/{SHA}"));
    assert_eq!(requests[0].header("authorization"), Some("token t0ken"));
    let states: Vec<Value> = requests.iter().map(|it| it.json()["state"].clone()).collect();
    assert_eq!(states, ["pending", "warning", "error", "error"]);
}

#[tokio::test]
async fn no_older_state_is_shown_over_a_newer_one() {
    let sink = HttpSink::start();
    let mut transport = transport(Sort::Github, &sink.url(), json!({}));
    sink.script([Reply::status(502)]);
    assert!(matches!(transport.send(of(examples::started())).await, Err(SendError::Later { .. })));
    transport.send(of(examples::failed())).await.unwrap();
    // The state that was put off comes again, after the end.
    let late = Arc::new(Outgoing { attempt: 2, ..(*of(examples::started())).clone() });
    assert_eq!(nobody(transport.send(late).await), "a newer state is shown already");
    let states: Vec<Value> = sink.requests().iter().map(|it| it.json()["state"].clone()).collect();
    assert_eq!(states, ["pending", "failure"], "the last word is the end");
}

#[tokio::test]
async fn limits_are_waited_for_and_refusals_are_not() {
    let sink = HttpSink::start();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let reset = (now + 100).to_string();
    sink.script([
        Reply::with(
            403,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset)],
            "API rate limit exceeded",
        ),
        Reply::with(403, &[("retry-after", "60")], "You have exceeded a secondary rate limit"),
        Reply::with(429, &[("retry-after", "30")], ""),
        Reply::status(502),
    ]);
    let mut transport = transport(Sort::Github, &sink.url(), json!({}));
    let mut waits = Vec::new();
    for _ in 0..4 {
        match transport.send(of(examples::failed())).await {
            Err(SendError::Later { retry_after, .. }) => waits.push(retry_after.map(|it| it.as_secs())),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(waits[0], Some(95..=102)), "{waits:?}");
    assert_eq!(waits[1..], [Some(60), Some(30), None]);
    for (status, hint) in [
        (401, "token is not valid"),
        (403, "Commit statuses: write"),
        (404, "does not see it"),
        (422, "does not know the revision"),
        (301, "new name"),
    ] {
        sink.script([Reply::with(status, &[], "{\"message\": \"No\"}")]);
        match transport.send(of(examples::failed())).await {
            Err(SendError::Never { why }) => {
                assert!(
                    why.contains(hint) && why.contains(&status.to_string()) && !why.contains("t0ken"),
                    "{why}"
                );
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn gitlab_refusing_a_repetition_is_no_failure() {
    let sink = HttpSink::start();
    let body = "{\"message\":\"Cannot transition status via :run from :running (Reason(s): Status cannot transition)\"}";
    sink.script([Reply::with(400, &[], body)]);
    transport(Sort::Gitlab, &sink.url(), json!({})).send(of(examples::started())).await.unwrap();
}

#[tokio::test]
async fn what_is_on_no_commit_of_this_forge_is_left_alone() {
    let sink = HttpSink::start();
    let mut transport = transport(Sort::Github, &sink.url(), json!({"repositories": {}}));
    let with = |change: &dyn Fn(&mut crate::notice::SourceNotice)| {
        let mut notice = examples::failed();
        change(&mut notice.sources[0]);
        of(notice)
    };
    let elsewhere = nobody(transport.send(with(&|_| {})).await);
    assert!(elsewhere.contains("on github.com, not on 127.0.0.1"), "{elsewhere}");
    let short = nobody(transport.send(with(&|it| it.revision = Some("HEAD".into()))).await);
    assert!(short.contains("no whole revision"), "{short}");
    let patched = nobody(transport.send(with(&|it| it.patched = true)).await);
    assert!(patched.contains("patch"), "{patched}");
    let none = BuildNotice { sources: Vec::new(), ..examples::failed() };
    assert!(nobody(transport.send(of(none)).await).contains("no source"));
    assert!(sink.requests().is_empty(), "and the token went nowhere");
}

#[tokio::test]
async fn a_description_fits_the_forge() {
    let sink = HttpSink::start();
    let mut notice = examples::failed();
    if let Some(step) = &mut notice.step {
        step.first_error = Some(format!("line one\r\n{}", "ä".repeat(1_000)));
    }
    for (sort, limit) in [(Sort::Github, 140), (Sort::Gitlab, 255), (Sort::Gitea, 255)] {
        transport(sort, &sink.url(), json!({})).send(of(notice.clone())).await.unwrap();
        let body = sink.requests().pop().unwrap().json();
        let text = body["description"].as_str().unwrap().to_owned();
        assert_eq!(text.chars().count(), limit, "{sort:?}: {text}");
        assert!(text.ends_with('…') && !text.contains('\n'));
    }
}

#[tokio::test]
async fn a_test_tries_the_token() {
    let sink = HttpSink::start();
    let test = || {
        Arc::new(examples::outgoing(Notice::Test(TestNotice {
            by: "ada".into(),
            at: greenroom_model::Timestamp(0),
        })))
    };
    transport(Sort::Gitea, &sink.url(), json!({})).send(test()).await.unwrap();
    transport(Sort::Gitlab, &sink.url(), json!({"repository": "group/hello"})).send(test()).await.unwrap();
    let asked: Vec<_> = sink.requests().iter().map(|it| format!("{} {}", it.method, it.path)).collect();
    assert_eq!(asked, ["GET /api/v1/user", "GET /api/v4/projects/group%2Fhello"]);
    sink.script([Reply::status(401)]);
    let refused = transport(Sort::Github, &sink.url(), json!({})).send(test()).await;
    assert!(matches!(refused, Err(SendError::Never { .. })), "{refused:?}");
}
