//! Which `Host` and `Origin` are ours.
//!
//! Where nobody logs in, reaching the port is the permission; so a foreign site must not reach it through a
//! visitor's browser, neither by a name of its own that resolves to us (DNS rebinding: the Host check) nor by
//! a request that the browser sends along (the Origin check).

use std::net::IpAddr;

use actix_web::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use greenroom_config::values::WebUrl;

/// Says whether the browser sees the request as coming from another site.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The hosts and origins that are ours.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    /// Host of the configured URL, lower case, without port.
    host: String,
    /// Origin of the configured URL, lower case.
    pub(crate) origin: String,
}

impl Origins {
    /// Those of the configured URL.
    pub(crate) fn new(url: &WebUrl) -> Self {
        let scheme = if url.as_str().starts_with("https:") { "https" } else { "http" };
        Self {
            host: url.host().to_ascii_lowercase(),
            origin: format!("{scheme}://{}", url.authority().to_ascii_lowercase()),
        }
    }

    /// Whether every host that the request names is one of ours. `authority` is that of an absolute-form target.
    pub(crate) fn hosts_allowed(&self, headers: &HeaderMap, authority: Option<&str>) -> bool {
        let mut hosts = headers.get_all(HOST).map(|h| h.to_str().unwrap_or("")).chain(authority).peekable();
        hosts.peek().is_some() && hosts.all(|host| self.host_allowed(host))
    }

    fn host_allowed(&self, host: &str) -> bool {
        let name = host_of(host).to_ascii_lowercase();
        let loopback = name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        loopback || name == "localhost" || (!name.is_empty() && name == self.host)
    }

    /// Whether a request that acts, or listens, comes from our own page or from no page at all. (A link on another site may
    /// lead here to read; it may not act.)
    pub(crate) fn may_act(&self, headers: &HeaderMap) -> bool {
        let cross_site = headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site");
        !cross_site && self.origin_allowed(headers)
    }

    /// Whether what `Origin` says, if it is there, is one of ours.
    pub(crate) fn origin_allowed(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or("").to_ascii_lowercase();
        headers.get_all(ORIGIN).all(|origin| {
            let origin = origin.to_str().unwrap_or("").to_ascii_lowercase();
            let same_host = ["http://", "https://"]
                .iter()
                .any(|scheme| origin.strip_prefix(scheme).is_some_and(|it| !it.is_empty() && it == host));
            same_host || origin == self.origin
        })
    }
}

/// The host of `host[:port]`; an IPv6 address without its brackets.
fn host_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn ours() -> Origins {
        Origins::new(&serde_json::from_value(serde_json::json!("http://CI.example.org:8010/")).unwrap())
    }

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_our_own_names_are_served() {
        for (host, wanted) in [
            ("localhost:8010", true),
            ("LOCALHOST", true),
            ("127.0.0.1:1", true),
            ("127.8.8.8", true),
            ("[::1]:8010", true),
            ("ci.example.org", true),
            ("evil.example.org", false),
            ("localhost.evil.org", false),
            ("127.0.0.1.evil.org", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(ours().hosts_allowed(&headers(&[(HOST, host)]), None), wanted, "{host}");
        }
        assert!(!ours().hosts_allowed(&headers(&[]), None));
        assert!(!ours().hosts_allowed(&headers(&[(HOST, "localhost")]), Some("evil.org")));
        assert!(!ours().hosts_allowed(&headers(&[(HOST, "localhost"), (HOST, "evil.org")]), None));
    }

    #[test]
    fn only_our_own_pages_may_act() {
        for (origin, wanted) in [
            ("http://127.0.0.1:8010", true),
            ("http://ci.example.org:8010", true),
            ("http://127.0.0.1:8011", false),
            ("http://ci.example.org", false),
            ("http://evil.org", false),
            ("null", false),
            ("", false),
        ] {
            let found = ours().origin_allowed(&headers(&[(HOST, "127.0.0.1:8010"), (ORIGIN, origin)]));
            assert_eq!(found, wanted, "{origin}");
        }
        assert!(ours().origin_allowed(&headers(&[(HOST, "127.0.0.1:8010")])));
        let linked = headers(&[(HOST, "localhost"), (FETCH_SITE, "cross-site")]);
        assert!(ours().origin_allowed(&linked) && !ours().may_act(&linked));
    }
}
