//! Names, URLs and listen addresses.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Deserializer};

use super::serde_fault;

/// A name that is not empty and has no control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.trim().is_empty() {
            return Err(serde_fault("a name cannot be empty", ""));
        }
        if text.chars().any(char::is_control) {
            return Err(serde_fault("a name cannot hold control characters", ""));
        }
        Ok(Name(text))
    }
}

/// An `http` or `https` URL that ends in `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl(String);

impl WebUrl {
    /// The built-in URL follows the port that is listened on: links in messages must lead somewhere.
    pub(crate) fn follow(&mut self, port: u16) {
        if self.0 == "http://localhost:8010/" && port != 0 {
            self.0 = format!("http://localhost:{port}/");
        }
    }

    /// The URL, with `/` at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port as written, such as `ci.example.org:8443`.
    pub fn authority(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or("")
    }

    /// What follows host and port, without the `/` that it begins with: empty, or a path that ends in `/`.
    pub fn path(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.split_once('/').map_or("", |(_, path)| path)
    }

    /// The host without port; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => authority.split(':').next().unwrap_or(""),
        }
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for WebUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        let help = "write it like \"http://localhost:8010/\"";
        if !(text.starts_with("http://") || text.starts_with("https://")) {
            return Err(serde_fault("not an http or https URL", help));
        }
        if text.contains(['?', '#', '@']) || text.contains(char::is_whitespace) {
            return Err(serde_fault("a URL without user, query or fragment is needed", help));
        }
        if !text.ends_with('/') {
            text.push('/');
        }
        let url = WebUrl(text);
        if url.host().is_empty() { Err(serde_fault("the URL names no host", help)) } else { Ok(url) }
    }
}

/// An address and port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Listen {
    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Listen).map_err(|_| serde_fault("not an address with a port", listen_help(&text)))
    }
}

/// What a listen address that does not parse probably meant.
fn listen_help(text: &str) -> String {
    let port = text.rsplit(':').next().unwrap_or("");
    match port.parse::<u16>() {
        Ok(port) if text.matches(':').count() <= 1 => format!("did you mean \"127.0.0.1:{port}\"?"),
        _ => "write it like \"127.0.0.1:8010\" or \"[::1]:8010\"".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_found() {
        let host =
            |text: &str| serde_json::from_value::<WebUrl>(text.into()).map(|it| it.host().to_owned()).ok();
        assert_eq!(host("http://localhost:8010"), Some("localhost".to_owned()));
        assert_eq!(host("https://[::1]:8010/x"), Some("::1".to_owned()));
        assert_eq!(host("http:///x"), None);
        assert_eq!(host("ftp://x/"), None);
    }

    #[test]
    fn loopback_counts_in_each_of_its_forms() {
        let loopback = |text: &str| Listen(text.parse().unwrap()).is_loopback();
        assert!(loopback("127.1.2.3:1") && loopback("[::1]:1") && loopback("[::ffff:127.0.0.1]:1"));
        assert!(!loopback("0.0.0.0:1") && !loopback("[::]:1") && !loopback("192.168.0.1:1"));
    }
}
