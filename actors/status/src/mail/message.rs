//! A mail as it goes over the wire: headers, a text and an HTML part, an attached log.
//!
//! Everything that comes from builds is made one line before it becomes part of a header, and lettre then writes it so that it
//! cannot end the header; either alone would do.

use std::time::{Duration, UNIX_EPOCH};

use greenroom_config::{Mail, MailAddress};
use lettre::Message;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use sha2::{Digest, Sha256};

use super::people::Recipients;
use crate::notice::Notice;
use crate::transport::Outgoing;

/// The longest subject, in characters.
const MAX_SUBJECT: usize = 200;
/// The longest other value of a header that is made of names, in characters.
const MAX_VALUE: usize = 300;

/// The parts of a mail.
pub(super) struct Parts {
    /// The subject, as rendered.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
    /// The attached log: file name and content.
    pub log: Option<(String, Vec<u8>)>,
}

/// Builds the mail.
///
/// # Errors
/// A reason for people: an address or a header that cannot be written.
pub(super) fn message(
    config: &Mail,
    message: &Outgoing,
    to: &Recipients,
    parts: Parts,
) -> Result<Message, String> {
    let from = mailbox(&config.from)?;
    let mut builder = Message::builder()
        .from(from)
        .subject(one_line(&parts.subject, MAX_SUBJECT))
        .date(UNIX_EPOCH + Duration::from_micros(u64::try_from(message.at.0).unwrap_or(0)))
        .message_id(Some(message_id(config, message)));
    let (first, second) =
        if to.fixed.is_empty() { (&to.interested, &to.fixed) } else { (&to.fixed, &to.interested) };
    for address in first {
        builder = builder.to(mailbox(address)?);
    }
    for address in second {
        builder = builder.cc(mailbox(address)?);
    }
    if let Some(root) = thread_id(config, message) {
        builder = builder.in_reply_to(root.clone()).references(root);
    }
    for (name, value) in own_headers(message) {
        builder = builder.raw_header(header(name, &value)?);
    }
    for (name, value) in &config.headers {
        builder = builder.raw_header(header(name, value)?);
    }
    // The envelope is the relay's business: it names recipients one by one.
    let unused = Envelope::new(None, vec![mailbox(&config.from)?.email]).map_err(|it| it.to_string())?;
    let both = MultiPart::alternative()
        .singlepart(SinglePart::plain(parts.text))
        .singlepart(SinglePart::html(parts.html));
    let whole = match parts.log {
        None => both,
        Some((name, content)) => {
            let log = Attachment::new(file_name(&name)).body(content, ContentType::TEXT_PLAIN);
            MultiPart::mixed().multipart(both).singlepart(log)
        }
    };
    builder.envelope(unused).multipart(whole).map_err(|it| it.to_string())
}

/// Headers that say what kind of mail this is, so that nothing answers it and everybody can sort it.
fn own_headers(message: &Outgoing) -> Vec<(&'static str, String)> {
    let host = host_of(&message.farm.url);
    let list = format!("{}.{host}", label(&message.notifier));
    let mut headers = vec![
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        ("List-Id", format!("<{list}>")),
        ("X-Greenroom-Event", crate::payload::event(&message.notice).to_owned()),
    ];
    if let Notice::Build(it) = &message.notice {
        headers.push(("X-Greenroom-Builder", it.builder_name.clone()));
        headers.extend(it.results.map(|it| ("X-Greenroom-Result", it.word().to_owned())));
    }
    headers
}

fn header(name: &str, value: &str) -> Result<HeaderValue, String> {
    let name = HeaderName::new_from_ascii(name.to_owned()).map_err(|it| format!("{name}: {it}"))?;
    Ok(HeaderValue::new(name, one_line(value, MAX_VALUE)))
}

fn mailbox(address: &MailAddress) -> Result<Mailbox, String> {
    let email = address.address.parse().map_err(|it| format!("{}: {it}", address.address))?;
    Ok(Mailbox::new(address.name.as_deref().map(|it| one_line(it, MAX_VALUE)), email))
}

/// The same over every attempt at a message and for no other one, so that a repetition after a crash can be told.
pub(super) fn message_id(config: &Mail, message: &Outgoing) -> String {
    id(config, message, &message.dedup_key)
}

/// What the mails of one failure and its repair all refer to. There is no mail of this id: so none must have come first.
fn thread_id(config: &Mail, message: &Outgoing) -> Option<String> {
    match &message.notice {
        Notice::Build(it) => Some(id(config, message, &format!("thread {}", it.thread))),
        Notice::WorkerMissing(it) => Some(id(config, message, &format!("worker {}", it.worker))),
        Notice::Buildset(_) | Notice::Digest(_) | Notice::Test(_) => None,
    }
}

/// An id out of what makes it unique: the farm, the notifier and a text.
fn id(config: &Mail, message: &Outgoing, text: &str) -> String {
    let mut hash = Sha256::new();
    for part in [message.farm.url.as_str(), &message.notifier, text] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hex: String = hash.finalize().iter().take(16).map(|it| format!("{it:02x}")).collect();
    format!("<{hex}.greenroom@{}>", config.from.domain())
}

/// One line without control characters (also those that turn the direction of text), of bounded length.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let spaced: String = text.chars().map(|it| if it.is_control() || turns(it) { ' ' } else { it }).collect();
    let mut words = spaced.split(' ').filter(|it| !it.is_empty());
    let line = words
        .by_ref()
        .fold(String::new(), |line, word| if line.is_empty() { word.to_owned() } else { line + " " + word });
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn turns(it: char) -> bool {
    matches!(it, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text as one part of a domain.
fn label(text: &str) -> String {
    let fits = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { '-' };
    let made: String = text.chars().map(fits).take(60).collect();
    let made = made.trim_matches('-');
    if made.is_empty() { "greenroom".to_owned() } else { made.to_owned() }
}

fn host_of(url: &str) -> String {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', ':', '?']).next().unwrap_or("");
    let fits = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-');
    if host.is_empty() || !host.chars().all(fits) { "localhost".to_owned() } else { host.to_owned() }
}

/// A name for an attached file that is one everywhere.
fn file_name(text: &str) -> String {
    let fits = |it: char| if it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_') { it } else { '-' };
    text.chars().map(fits).take(100).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::examples;
    use crate::notice::BuildNotice;

    const INJECTION: &str =
        "x\r\nBcc: eve@evil.example\r\n\r\nsmuggled\u{2028}\u{0}\u{1b}[31m\r.\r\nMAIL FROM:<a@b>";

    fn config() -> Mail {
        serde_json::from_value(json!({
            "relay": "smtp://127.0.0.1:25", "from": "CI <ci@example.org>", "to": ["team@example.org"],
            "headers": {"X-Team": "core"},
        }))
        .unwrap()
    }

    fn parts() -> Parts {
        Parts { subject: "subject".into(), text: "text\n".into(), html: "<p>html</p>".into(), log: None }
    }

    fn recipients() -> Recipients {
        Recipients { fixed: config().to, ..Recipients::default() }
    }

    /// The headers of a mail, unfolded.
    fn headers(mail: &Message) -> Vec<(String, String)> {
        let text = String::from_utf8(mail.formatted()).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        unfolded
            .split("\r\n")
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn value(mail: &Message, name: &str) -> Option<String> {
        let mut found = headers(mail).into_iter().filter(|(it, _)| it == name);
        let first = found.next().map(|(_, value)| value);
        assert!(found.next().is_none(), "{name} stands there twice");
        first
    }

    fn of(notice: BuildNotice) -> Outgoing {
        examples::outgoing(Notice::Build(Box::new(notice)))
    }

    #[test]
    fn names_of_builds_cannot_end_a_header() {
        let notice =
            BuildNotice { builder_name: INJECTION.into(), thread: INJECTION.into(), ..examples::failed() };
        let mut outgoing = of(notice);
        outgoing.notifier = INJECTION.to_owned();
        outgoing.dedup_key = INJECTION.to_owned();
        let mut config = config();
        let plain = headers(&message(&config, &of(examples::failed()), &recipients(), parts()).unwrap());
        config.from.name = Some(INJECTION.to_owned());
        let mut to = recipients();
        to.fixed[0].name = Some(INJECTION.to_owned());
        let parts = Parts {
            subject: INJECTION.to_owned(),
            log: Some((INJECTION.to_owned(), b"log\n".to_vec())),
            ..parts()
        };
        let mail = message(&config, &outgoing, &to, parts).unwrap();
        let names = |all: &[(String, String)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&headers(&mail)), names(&plain), "no header more than in a harmless mail");
        let text = String::from_utf8(mail.formatted()).unwrap();
        assert!(
            !text.contains("\r\nBcc") && !text.contains("\r\nsmuggled") && !text.contains("\r\nMAIL"),
            "{text}"
        );
    }

    #[test]
    fn an_address_cannot_hold_more_than_an_address() {
        let mut to = recipients();
        to.fixed[0].address = "a@example.org\r\nBcc: eve@evil.example".to_owned();
        assert!(message(&config(), &of(examples::failed()), &to, parts()).is_err());
    }

    #[test]
    fn the_mails_of_a_failure_are_one_thread_until_it_is_mended() {
        let mail = |notice: BuildNotice, key: &str| {
            let mut outgoing = of(notice);
            outgoing.dedup_key = key.to_owned();
            message(&config(), &outgoing, &recipients(), parts()).unwrap()
        };
        let (broken, mended) = (mail(examples::failed(), "a"), mail(examples::fixed(), "b"));
        let next = mail(BuildNotice { thread: "linux-main-1043".into(), ..examples::failed() }, "c");
        let root = |mail: &Message| (value(mail, "References"), value(mail, "In-Reply-To"));
        assert!(root(&broken).0.is_some());
        assert_eq!(root(&broken), root(&mended));
        assert_ne!(root(&broken), root(&next));
        assert_ne!(value(&broken, "Message-ID"), value(&mended, "Message-ID"));
    }

    #[test]
    fn a_repetition_is_byte_for_byte_the_same_but_for_its_boundaries() {
        let once = message(&config(), &of(examples::failed()), &recipients(), parts()).unwrap();
        let mut later = of(examples::failed());
        later.attempt = 2;
        let again = message(&config(), &later, &recipients(), parts()).unwrap();
        for name in ["Message-ID", "Date", "Subject", "References"] {
            assert_eq!(value(&once, name), value(&again, name));
        }
        let mut elsewhere = of(examples::failed());
        elsewhere.farm =
            std::sync::Arc::new(crate::Farm { title: "x".into(), url: "https://other.example/".into() });
        let elsewhere = message(&config(), &elsewhere, &recipients(), parts()).unwrap();
        assert_ne!(value(&once, "Message-ID"), value(&elsewhere, "Message-ID"), "another farm");
    }

    #[test]
    fn programs_can_tell_what_it_is() {
        let mail = message(&config(), &of(examples::failed()), &recipients(), parts()).unwrap();
        let value = |name: &str| value(&mail, name);
        assert_eq!(value("Auto-Submitted").as_deref(), Some("auto-generated"));
        assert_eq!(value("List-Id").as_deref(), Some("<post.ci.example.org>"));
        assert_eq!(value("X-Greenroom-Result").as_deref(), Some("failure"));
        assert_eq!(value("X-Team").as_deref(), Some("core"));
        assert_eq!(value("Date").as_deref(), Some("Fri, 15 Jan 2027 08:01:35 +0000"));
    }

    #[test]
    fn lines_are_one_line_and_bounded() {
        assert_eq!(one_line(" a\r\n b\u{2028}c\u{0}\u{202e}d ", 100), "a b c d");
        assert_eq!(one_line(&"ä".repeat(500), 3), "äää…");
    }
}
