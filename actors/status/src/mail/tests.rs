//! Mails to a real server that refuses, puts off, hangs and goes away.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::MailTransport;
use crate::examples;
use crate::notice::{BuildNotice, Notice};
use crate::sinks::SmtpSink;
use crate::transport::{Outgoing, SendError, Sent, Transport};

fn transport(relay: &str, more: Value) -> MailTransport {
    let mut all = json!({"relay": relay, "from": "Greenroom <ci@example.org>", "to": ["team@example.org"]});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    MailTransport::new(serde_json::from_value(all).unwrap(), None).unwrap()
}

fn message() -> Arc<Outgoing> {
    Arc::new(examples::outgoing(Notice::Build(Box::new(examples::failed()))))
}

fn blaming(blame: &[&str]) -> Arc<Outgoing> {
    let blame = blame.iter().map(|it| (*it).to_owned()).collect();
    let notice = BuildNotice { owners: Vec::new(), blame, ..examples::failed() };
    Arc::new(examples::outgoing(Notice::Build(Box::new(notice))))
}

fn plain(sink: &SmtpSink) -> String {
    format!("smtp://127.0.0.1:{}", sink.port())
}

/// Whether to try again, and why.
fn why(outcome: Result<Sent, SendError>) -> (bool, String) {
    match outcome {
        Err(SendError::Later { why, .. }) => (true, why),
        Err(SendError::Never { why }) => (false, why),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_mail_arrives() {
    let sink = SmtpSink::start(&[]);
    let sent = transport(&plain(&sink), json!({})).send(message()).await.unwrap();
    assert_eq!(sent, Sent { target: "team@example.org".to_owned(), note: None });
    let mail = &sink.mails()[0];
    assert_eq!(mail.envelope["from"], "ci@example.org");
    assert_eq!(mail.header("Subject").as_deref(), Some("[Example CI] linux failed on main: test"));
    assert_eq!(mail.header("From").as_deref(), Some("Greenroom <ci@example.org>"));
    assert!(mail.text.contains("multipart/alternative") && mail.text.contains("text/html"));
}

#[tokio::test]
async fn starttls_and_a_login_are_used() {
    let sink = SmtpSink::start(&["--starttls", "--user", "bot:pass word"]);
    let relay = format!("smtp+starttls://bot@127.0.0.1:{}", sink.port());
    let ca = json!({"password": "pass word", "tls-ca": sink.ca()});
    transport(&relay, ca).send(message()).await.unwrap();
    let envelope = &sink.mails()[0].envelope;
    assert_eq!((&envelope["tls"], &envelope["user"]), (&json!(true), &json!("bot")));
}

#[tokio::test]
async fn a_wrong_password_is_refused_for_good_and_not_told() {
    let sink = SmtpSink::start(&["--starttls", "--user", "bot:right"]);
    let relay = format!("smtp+starttls://bot@127.0.0.1:{}", sink.port());
    let (later, why) =
        why(transport(&relay, json!({"password": "wr0ng", "tls-ca": sink.ca()})).send(message()).await);
    assert!(!later && why.contains("535") && !why.contains("wr0ng"), "{why}");
}

#[tokio::test]
async fn tls_from_the_first_byte_with_an_authority_of_ones_own() {
    let sink = SmtpSink::start(&["--tls"]);
    let relay = format!("smtps://localhost:{}", sink.port());
    transport(&relay, json!({"tls-ca": sink.ca()})).send(message()).await.unwrap();
    assert_eq!(sink.mails()[0].envelope["tls"], true);
    let (later, why) = why(transport(&relay, json!({})).send(message()).await);
    assert!(later && why.to_lowercase().contains("certificate"), "an authority that nobody trusts: {why}");
}

#[tokio::test]
async fn without_starttls_nothing_is_sent_in_the_clear() {
    let sink = SmtpSink::start(&[]);
    let relay = format!("smtp+starttls://127.0.0.1:{}", sink.port());
    let (_, why) = why(transport(&relay, json!({})).send(message()).await);
    assert!(why.contains("STARTTLS"), "{why}");
    assert!(sink.mails().is_empty());
}

#[tokio::test]
async fn what_the_server_refuses_for_good_is_not_tried_again() {
    let sink = SmtpSink::start(&[]);
    for (mode, again) in [
        ("554 5.7.1 spam", false),
        ("552 5.2.3 too large", false),
        ("451 4.3.0 later", true),
        ("421 going down", true),
    ] {
        sink.mode(mode);
        let (later, why) = why(transport(&plain(&sink), json!({})).send(message()).await);
        assert_eq!(later, again, "{mode}: {why}");
        assert!(why.contains(&mode[..3]), "{why}");
    }
}

#[tokio::test]
async fn one_bad_address_does_not_keep_the_mail_from_the_others() {
    let sink = SmtpSink::start(&[]);
    let to = json!({"to": ["never@example.org", "team@example.org"]});
    let sent = transport(&plain(&sink), to).send(message()).await.unwrap();
    assert_eq!(sent.target, "team@example.org");
    assert!(sent.note.unwrap().starts_with("never@example.org was refused: 550"));
    let (later, why) =
        why(transport(&plain(&sink), json!({"to": ["never@example.org"]})).send(message()).await);
    assert!(!later && why.contains("550"), "nobody took it: {why}");
}

#[tokio::test]
async fn who_was_put_off_gets_it_later_and_the_others_once() {
    let sink = SmtpSink::start(&[]);
    let to = json!({"to": ["team@example.org", "later@example.org"]});
    let mut transport = transport(&plain(&sink), to);
    for _ in 0..2 {
        let (later, why) = why(transport.send(message()).await);
        assert!(later && why.contains("later@example.org"), "{why}");
    }
    let mails = sink.mails();
    assert_eq!(mails.len(), 1, "the second attempt was for the other one alone");
    assert_eq!(mails[0].to(), ["team@example.org"]);
}

#[tokio::test]
async fn people_get_mail_about_what_they_may_have_broken() {
    let sink = SmtpSink::start(&[]);
    let mut transport = transport(&plain(&sink), json!({"interested": true}));
    let sent = transport.send(blaming(&["Ada <ada@example.org>", "eve@elsewhere.example"])).await.unwrap();
    assert_eq!(sent.note.as_deref(), Some("1 without an allowed address"));
    let mail = &sink.mails()[0];
    assert_eq!(mail.to(), ["team@example.org", "ada@example.org"]);
    assert_eq!(mail.header("Cc").as_deref(), Some("Ada <ada@example.org>"));
}

#[tokio::test]
async fn a_mail_to_nobody_is_no_failure() {
    let mut transport = transport("smtp://127.0.0.1:1", json!({"to": [], "interested": true}));
    let outcome = transport.send(blaming(&["eve@elsewhere.example"])).await;
    assert!(
        matches!(&outcome, Err(SendError::Nobody { why }) if why.contains("none of the 1")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_server_that_hangs_or_is_away_is_tried_again() {
    let mut sink = SmtpSink::start(&[]);
    for mode in ["deaf", "hang"] {
        sink.mode(mode);
        let mut transport = transport(&plain(&sink), json!({}));
        // The notifier gives an attempt up by dropping it.
        let outcome = tokio::time::timeout(Duration::from_secs(1), transport.send(message())).await;
        assert!(outcome.is_err(), "{mode}: {outcome:?}");
    }
    sink.mode("drop");
    assert!(why(transport(&plain(&sink), json!({})).send(message()).await).0);
    let relay = plain(&sink);
    sink.stop();
    let (later, why) = why(transport(&relay, json!({})).send(message()).await);
    assert!(later && why.to_lowercase().contains("refused"), "{why}");
    sink.resume();
    sink.mode("ok");
    transport(&relay, json!({})).send(message()).await.unwrap();
    let ids: Vec<_> = sink.mails().iter().map(|it| it.header("Message-ID")).collect();
    assert!(
        ids.len() >= 3 && ids.iter().all(|it| it.is_some() && *it == ids[0]),
        "repetitions can be told: {ids:?}"
    );
}

#[tokio::test]
async fn hostile_builds_arrive_as_one_harmless_mail() {
    let evil = "x\r\nBcc: all@example.org\r\n\r\n.\r\nMAIL FROM:<eve@evil.example>\r\nRCPT TO:<all@example.org>\r\nDATA\r\n";
    let mut notice = examples::failed();
    for source in &mut notice.sources {
        (source.branch, source.repository) = (Some(evil.to_owned()), evil.to_owned());
    }
    for change in &mut notice.changes {
        (change.author, change.comments) = (evil.to_owned(), evil.to_owned());
    }
    if let Some(step) = &mut notice.step {
        (step.name, step.tail) = (evil.to_owned(), vec![".".to_owned(), evil.to_owned(), ".".to_owned()]);
    }
    let notice = BuildNotice {
        builder_name: evil.to_owned(),
        blame: vec![evil.to_owned()],
        reason: evil.to_owned(),
        ..notice
    };
    let sink = SmtpSink::start(&[]);
    let mut transport = transport(&plain(&sink), json!({"interested": true, "domain": "example.org"}));
    transport.send(Arc::new(examples::outgoing(Notice::Build(Box::new(notice))))).await.unwrap();
    let mails = sink.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to(), ["team@example.org", "grace@example.org"]);
    assert_eq!(mails[0].header("Bcc"), None);
    assert!(mails[0].text.trim_end().ends_with("--"), "it came whole");
}

/// A program in the place of sendmail.
fn sendmail(dir: &std::path::Path, script: &str) -> String {
    let path = dir.join("sendmail");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("sendmail:{}", path.display())
}

#[tokio::test]
async fn sendmail_gets_the_addresses_and_the_mail() {
    let dir = tempfile::tempdir().unwrap();
    let (arguments, mail) = (dir.path().join("arguments"), dir.path().join("mail"));
    let script = format!("echo \"$@\" > {}; cat > {}", arguments.display(), mail.display());
    let relay = sendmail(dir.path(), &script);
    transport(&relay, json!({})).send(message()).await.unwrap();
    assert_eq!(std::fs::read_to_string(arguments).unwrap(), "-i -f ci@example.org -- team@example.org\n");
    let mail = std::fs::read_to_string(mail).unwrap();
    assert!(mail.starts_with("From: Greenroom <ci@example.org>\n") && !mail.contains('\r'), "{mail}");
}

#[tokio::test]
async fn sendmails_exit_code_says_whether_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    for (script, again) in
        [("echo no such user >&2; exit 67", false), ("echo busy >&2; exit 75", true), ("kill -9 $$", true)]
    {
        let (later, why) = why(transport(&sendmail(dir.path(), script), json!({})).send(message()).await);
        assert_eq!(later, again, "{script}: {why}");
        assert!(again || why.contains("no such user"), "{why}");
    }
    let (later, why) = why(transport("sendmail:/nonexistent/sendmail", json!({})).send(message()).await);
    assert!(later && why.contains("/nonexistent/sendmail"), "{why}");
}
