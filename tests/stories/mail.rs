//! People who get mail about what they broke, programs that are told by webhook, and states beside commits: over a kill of the master
//! and servers that are away.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{FAILURE, Farm, HttpSink, Plan, Reply, SUCCESS, SmtpSink, eventually, patience};

/// How long the mail server is away: a real minute.
const AWAY: Duration = Duration::from_secs(60);

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// A builder for changes, whose step fails on the branch `broken`.
const BUILDER: &str = "
[workers.w1]
password = 'pw'
[schedulers.all]
kind = 'any-branch'
builders = ['linux']
tree-stable-timer = '0s'
[schedulers.force]
kind = 'force'
builders = '*'
parameters = [{ name = 'code' }]
[builders.linux]
[[builders.linux.steps]]
name = 'test'
run = 'echo compiling; echo \"main.c:7: error: it is broken\"; exit ${{ has(prop.code) ? prop.code : \"1\" }}'
";

fn mail(port: u16, more: &str) -> String {
    format!(
        "{BUILDER}
[notifiers.post]
kind = 'mail'
relay = 'smtp://127.0.0.1:{port}'
from = 'Greenroom <ci@example.org>'
to = ['team@example.org']
interested = true
attach-log = true
modes = ['failing', 'change']
repeats = true
timeout = '5s'
{more}"
    )
}

fn deliveries(farm: &Farm, notifier: &str) -> Vec<Value> {
    farm.rest().list(&format!("notifiers/{notifier}/deliveries"))
}

#[track_caller]
fn await_settled(farm: &Farm, notifier: &str, count: usize) -> Vec<Value> {
    patience(Duration::from_secs(60), &format!("{count} settled messages of {notifier}"), || {
        let all = deliveries(farm, notifier);
        let settled = all.iter().filter(|it| it["state"] != "waiting").count();
        (settled >= count).then_some(all)
    })
}

/// Forces a build that ends with this exit code.
#[track_caller]
fn build(farm: &Farm, code: &str, results: i64) -> Value {
    let request = farm.force("linux", &json!({"code": code}));
    farm.expect_build(request, results)
}

#[test]
fn the_author_of_what_broke_gets_a_mail() {
    let sink = SmtpSink::start(&[]);
    let farm = Farm::raise(&mail(sink.port(), ""));
    let _w1 = farm.agent("w1");
    farm.push_change("main", SHA);
    let mail = sink.expect(1).remove(0);
    assert_eq!(mail.to(), ["team@example.org", "ada@example.org"], "the hook's change is Ada's");
    let subject = mail.header("Subject").expect("a subject");
    assert!(subject.contains("linux failed on main: test"), "{subject}");
    assert!(mail.text.contains("main.c:7: error: it is broken"), "the reason: {}", mail.text);
    assert!(mail.text.contains("linux-1-test-stdio.txt"), "the log is attached");
    assert_eq!(mail.header("Auto-Submitted").as_deref(), Some("auto-generated"));
    let delivery = await_settled(&farm, "post", 1).remove(0);
    assert_eq!(delivery["state"], "sent", "{delivery}");
}

#[test]
fn a_failure_and_its_repair_are_one_thread() {
    let sink = SmtpSink::start(&[]);
    let farm = Farm::raise(&mail(sink.port(), ""));
    let _w1 = farm.agent("w1");
    for (count, (code, results)) in
        [("1", FAILURE), ("1", FAILURE), ("0", SUCCESS), ("1", FAILURE)].into_iter().enumerate()
    {
        build(&farm, code, results);
        sink.expect(count + 1);
    }
    let mails = sink.mails();
    let roots: Vec<_> = mails.iter().map(|it| it.header("References").expect("a thread")).collect();
    assert!(roots[0] == roots[1] && roots[1] == roots[2], "until it is mended: {roots:?}");
    assert_ne!(roots[2], roots[3], "another failure is another thread");
    let ids: std::collections::BTreeSet<_> = mails.iter().map(|it| it.header("Message-ID")).collect();
    assert_eq!(ids.len(), 4, "each mail has an id of its own");
}

#[test]
fn a_kill_between_sending_and_recording_repeats_a_mail_once_under_the_same_id() {
    let sink = SmtpSink::start(&[]);
    // The server takes mails and does not say so: the master cannot record that they are sent.
    sink.mode("hang");
    let mut farm = Plan::new(&mail(sink.port(), "").replace("timeout = '5s'", "timeout = '60s'")).lay_out();
    farm.start();
    let w1 = farm.agent("w1");
    build(&farm, "1", FAILURE);
    sink.expect(1);
    farm.kill_master();
    sink.mode("ok");
    farm.start();
    let all = await_settled(&farm, "post", 1);
    assert_eq!((all.len(), &all[0]["state"]), (1, &json!("sent")), "{all:?}");
    let mails = sink.mails();
    assert_eq!(mails.len(), 2, "at most one repetition");
    for header in ["Message-ID", "Date", "Subject", "References"] {
        assert_eq!(mails[0].header(header), mails[1].header(header), "the repetition can be told");
    }
    drop(w1);
}

#[test]
fn a_mail_server_that_is_away_for_a_minute_loses_nothing() {
    let mut sink = SmtpSink::start(&[]);
    let farm = Farm::raise(&mail(sink.port(), ""));
    let _w1 = farm.agent("w1");
    sink.stop();
    let gone = std::time::Instant::now();
    for code in ["1", "1", "1"] {
        build(&farm, code, FAILURE);
    }
    eventually("an attempt that failed", || {
        let all = deliveries(&farm, "post");
        all.iter()
            .any(|it| it["attempts"].as_i64() > Some(0) && it["reason"].as_str().is_some())
            .then_some(())
    });
    // Builds go on meanwhile, and the minute is a real one: what is tested is that the waits between attempts do not outgrow it.
    while gone.elapsed() < AWAY {
        build(&farm, "0", SUCCESS);
        build(&farm, "1", FAILURE);
        std::thread::sleep(Duration::from_secs(10));
    }
    sink.resume();
    let back = std::time::Instant::now();
    let wanted = deliveries(&farm, "post").len();
    patience(Duration::from_secs(120), "every mail", || (sink.mails().len() >= wanted).then_some(()));
    println!("{wanted} mails, the last {:?} after the server was back", back.elapsed());
    let all = await_settled(&farm, "post", wanted);
    assert!(all.iter().all(|it| it["state"] == "sent"), "{all:?}");
    let ids: std::collections::BTreeSet<_> = sink.mails().iter().map(|it| it.header("Message-ID")).collect();
    assert_eq!((ids.len(), sink.mails().len()), (wanted, wanted), "each once");
}

#[test]
fn a_webhook_that_fails_and_doubles_is_told_once_per_delivery() {
    let sink = HttpSink::start();
    sink.script([Reply::with(503, &[("retry-after", "1")], "busy"), Reply::Cut]);
    let farm = Farm::raise(&format!(
        "{BUILDER}[notifiers.hook]\nkind = 'webhook'\nurl = '{}in/S3CRET'\nsecret = 'signing'\nallow-private = true\n",
        sink.url()
    ));
    let _w1 = farm.agent("w1");
    build(&farm, "1", FAILURE);
    let requests = sink.expect_within(3, Duration::from_secs(60));
    let deliveries_of: std::collections::BTreeSet<_> =
        requests.iter().map(|it| it.header("greenroom-delivery").map(str::to_owned)).collect();
    assert_eq!(deliveries_of.len(), 1, "three attempts at one delivery");
    assert_eq!(requests[2].json()["build"]["result"], "failure");
    assert!(requests[2].header("greenroom-signature").is_some());
    let delivery = await_settled(&farm, "hook", 1).remove(0);
    assert_eq!(delivery["state"], "sent", "{delivery}");
    assert!(!delivery.to_string().contains("S3CRET") && !farm.master_log().contains("S3CRET"));
}

#[test]
fn a_webhook_to_a_private_address_is_refused() {
    let sink = HttpSink::start();
    let farm = Farm::raise(&format!(
        "{BUILDER}[notifiers.hook]\nkind = 'webhook'\nurl = 'http://localhost:{}/'\n",
        sink.port()
    ));
    let _w1 = farm.agent("w1");
    build(&farm, "1", FAILURE);
    let delivery = await_settled(&farm, "hook", 1).remove(0);
    assert_eq!(delivery["state"], "failed", "{delivery}");
    assert!(delivery["reason"].as_str().is_some_and(|it| it.contains("allow-private")), "{delivery}");
    assert!(sink.requests().is_empty());
}

#[test]
fn a_commit_has_a_pending_state_and_then_the_result() {
    let sink = HttpSink::start();
    let forges = ["github", "gitlab", "gitea"].map(|it| {
        let url = sink.url();
        format!(
            "[notifiers.{it}]\nkind = '{it}-status'\nbase-url = '{url}{it}/'\ntoken = 't0ken'\nrepository = 'octo/hello'\n\
             allow-private = true\n"
        )
    });
    let farm = Farm::raise(&format!("{BUILDER}{}", forges.concat()));
    let _w1 = farm.agent("w1");
    farm.push_change("main", SHA);
    let states = eventually("six states", || {
        let requests = sink.requests();
        (requests.len() >= 6).then_some(requests)
    });
    for (forge, wanted) in [
        ("github", ["pending", "failure"]),
        ("gitlab", ["running", "failed"]),
        ("gitea", ["pending", "failure"]),
    ] {
        let of: Vec<_> = states.iter().filter(|it| it.path.starts_with(&format!("/{forge}/"))).collect();
        assert!(of.iter().all(|it| it.path.ends_with(&format!("/statuses/{SHA}"))), "{of:?}");
        let states: Vec<Value> = of.iter().map(|it| it.json()["state"].clone()).collect();
        assert_eq!(states, wanted, "{forge}");
    }
}
