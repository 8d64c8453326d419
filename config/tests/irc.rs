//! What holds when a notifier of kind irc says little, and what is told when it says something wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use greenroom_config::{Irc, IrcAct, NotifierKind, Sasl, load_text};

const LEAST: &str = "
[notifiers.team]
kind = 'irc'
server = 'irc.example.org'
nick = 'greenroom'
channels = ['#builds']
";

fn load(text: &str) -> Irc {
    let loaded = load_text(text, Path::new("/srv/ci")).unwrap_or_else(|faults| panic!("{faults}"));
    match &loaded.settings.notifiers["team"].kind {
        NotifierKind::Irc(irc) => irc.clone(),
        other => panic!("{other:?}"),
    }
}

/// The only fault: key and message.
#[track_caller]
fn fault(text: &str) -> (String, String) {
    let faults = load_text(text, Path::new("/srv/ci")).expect_err(text).into_vec();
    let errors: Vec<_> =
        faults.iter().filter(|it| it.severity == greenroom_config::Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    (errors[0].key.clone(), errors[0].message.clone())
}

#[test]
fn the_least_is_enough() {
    let irc = load(LEAST);
    assert_eq!(irc.host_and_port(), ("irc.example.org", 6697));
    assert!(irc.tls && irc.commands && irc.authz.is_empty() && irc.sasl == Sasl::None);
    assert!(!irc.uses_nickserv());
    assert_eq!(load(&format!("{LEAST}tls = false")).host_and_port(), ("irc.example.org", 6667));
}

#[test]
fn all_of_it() {
    let irc = load(
        "
[notifiers.team]
kind = 'irc'
server = '[::1]:6698'
tls-ca = 'ca.pem'
tls-certificate = '/etc/bot.pem'
nick = 'greenroom'
sasl = 'external'
channels = ['#builds', { name = '#quiet', key = 'sesame' }]
colors = true
[notifiers.team.authz]
'account:ada' = ['force', 'stop']
'account:*' = ['rebuild']
",
    );
    assert_eq!(irc.host_and_port(), ("::1", 6698));
    assert_eq!(irc.tls_ca.as_deref(), Some(Path::new("/srv/ci/ca.pem")));
    assert_eq!(irc.tls_certificate.as_deref(), Some(Path::new("/etc/bot.pem")));
    assert_eq!(irc.authz["account:ada"], [IrcAct::Force, IrcAct::Stop]);
    assert_eq!(irc.channels[1].key.as_ref().map(|key| key.expose()), Some("sesame"));
    assert!(!format!("{irc:?}").contains("sesame"));
}

#[test]
fn what_is_wrong_is_named_where_it_stands() {
    for (more, key, message) in [
        ("sasl = 'plain'", "notifiers.team.sasl", "SASL PLAIN needs a password"),
        ("sasl = 'external'", "notifiers.team.sasl", "SASL EXTERNAL needs a certificate"),
        ("tls = false\ntls-ca = 'x.pem'", "notifiers.team.tls-ca", "certificates are for TLS, which is off"),
        ("authz = { ada = ['force'] }", "notifiers.team.authz", "`ada` is no services account"),
        ("account = 'two words'", "notifiers.team.account", "this must be one word"),
    ] {
        assert_eq!(fault(&format!("{LEAST}{more}")), (key.to_owned(), message.to_owned()), "{more}");
    }
    for (from, to, key) in [
        ("'irc.example.org'", "'irc://example.org'", "notifiers.team.server"),
        ("'greenroom'", "'green room'", "notifiers.team.nick"),
        ("'greenroom'", "'1green'", "notifiers.team.nick"),
        ("['#builds']", "['builds']", "notifiers.team.channels[0]"),
        ("['#builds']", "['#a,#b']", "notifiers.team.channels[0]"),
        ("['#builds']", "[{ name = '#a', key = 'two words' }]", "notifiers.team.channels[0]"),
        ("['#builds']", "['#builds']\nauthz = { 'account:ada' = ['dance'] }", "notifiers.team.authz"),
    ] {
        let (found, message) = fault(&LEAST.replace(from, to));
        assert!(found.starts_with(key), "{to}: {found} {message}");
    }
}
