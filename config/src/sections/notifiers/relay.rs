//! What takes mail: an SMTP server, or a program of this machine.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer};

use crate::values::serde_fault;

/// How a relay is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relay {
    /// `smtp://`, `smtp+starttls://` or `smtps://`.
    Smtp(SmtpRelay),
    /// `sendmail:` or `sendmail:/path`: a program that takes a mail as sendmail does.
    Sendmail(PathBuf),
}

/// An SMTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpRelay {
    /// How the connection is encrypted.
    pub security: Security,
    /// Its name or address.
    pub host: String,
    /// Its port; 25, 587 and 465 when the url has none.
    pub port: u16,
    /// Whom to log in as.
    pub user: Option<String>,
}

/// How a connection to an SMTP server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not.
    None,
    /// After `STARTTLS`, without which nothing is sent.
    StartTls,
    /// From the first byte.
    Tls,
}

const HELP: &str = "write smtp://host:25, smtp+starttls://user@host, smtps://user@host, sendmail: or sendmail:/usr/sbin/sendmail";

impl Relay {
    /// Reads the url.
    ///
    /// # Errors
    /// A message for people, without any password.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sendmail:") {
            return match path {
                "" => Ok(Relay::Sendmail(PathBuf::from("/usr/sbin/sendmail"))),
                path if path.starts_with('/') => Ok(Relay::Sendmail(PathBuf::from(path))),
                _ => Err("the path of sendmail must begin with `/`".to_owned()),
            };
        }
        let (scheme, rest) = text.split_once("://").ok_or("this is no url of a mail relay")?;
        let (security, standard) = match scheme {
            "smtp" => (Security::None, 25),
            "smtp+starttls" => (Security::StartTls, 587),
            "smtps" => (Security::Tls, 465),
            other => return Err(format!("unknown kind of relay `{other}`")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        if user.is_some_and(|it| it.contains(':')) {
            return Err("a password in a url would be shown; write it as `password`".to_owned());
        }
        let (host, port) = host_and_port(place, standard)?;
        let user = user.map(|it| percent_decode_str(it).decode_utf8_lossy().into_owned());
        Ok(Relay::Smtp(SmtpRelay { security, host, port, user: user.filter(|it| !it.is_empty()) }))
    }
}

fn host_and_port(place: &str, standard: u16) -> Result<(String, u16), String> {
    let (host, port) = match place.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let odd = |it: char| !(it.is_alphanumeric() || matches!(it, '.' | '-' | '_' | ':'));
    if host.is_empty() || host.contains(odd) {
        return Err("the url names no host".to_owned());
    }
    let port = match port {
        None => standard,
        Some(text) => text.parse().ok().filter(|it| *it > 0).ok_or_else(|| format!("`{text}` is no port"))?,
    };
    Ok((host.to_owned(), port))
}

impl SmtpRelay {
    /// Whether the relay is this machine, so that nobody listens on the way.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Relay::Sendmail(path) => write!(f, "sendmail:{}", path.display()),
            Relay::Smtp(it) => {
                let scheme = match it.security {
                    Security::None => "smtp",
                    Security::StartTls => "smtp+starttls",
                    Security::Tls => "smtps",
                };
                write!(f, "{scheme}://{}:{}", it.host, it.port)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Relay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Relay::parse(&text).map_err(|message| serde_fault(message, HELP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smtp(text: &str) -> (Security, String, u16, Option<String>) {
        match Relay::parse(text) {
            Ok(Relay::Smtp(it)) => (it.security, it.host, it.port, it.user),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(smtp("smtp://127.0.0.1:2525"), (Security::None, "127.0.0.1".into(), 2525, None));
        assert_eq!(smtp("smtps://mail.example.org/"), (Security::Tls, "mail.example.org".into(), 465, None));
        let user = Some("bot@example.org".to_owned());
        let starttls = (Security::StartTls, "mail.example.org".to_owned(), 587, user);
        assert_eq!(smtp("smtp+starttls://bot%40example.org@mail.example.org"), starttls);
        assert_eq!(smtp("smtp+starttls://bot@example.org@mail.example.org"), starttls);
        assert_eq!(smtp("smtp://[::1]:26"), (Security::None, "::1".into(), 26, None));
        assert_eq!(Relay::parse("sendmail:"), Ok(Relay::Sendmail("/usr/sbin/sendmail".into())));
        assert_eq!(Relay::parse("sendmail:/bin/x"), Ok(Relay::Sendmail("/bin/x".into())));
    }

    #[test]
    fn what_is_no_relay_is_refused() {
        for text in [
            "",
            "mail.example.org",
            "http://x",
            "smtp://",
            "smtp://:25",
            "smtp://x:0",
            "smtp://x:99999",
            "sendmail:x",
        ] {
            assert!(Relay::parse(text).is_err(), "{text}");
        }
        let refused = Relay::parse("smtp://me:hunter2@host").unwrap_err();
        assert!(refused.contains("`password`") && !refused.contains("hunter2"), "{refused}");
    }
}
