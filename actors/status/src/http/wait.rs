//! How long a server wants us to wait.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The longest wait that a server may ask for. The limits of forges are told anew every hour.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// What `Retry-After` says, in seconds or as a date; else, when the limit of requests is used up, what is left until its reset.
pub(crate) fn wait_of(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).map(str::trim);
    // The server's dates are by its own clock, which it tells.
    let now = text(DATE.as_str()).and_then(|it| httpdate::parse_http_date(it).ok()).unwrap_or(now);
    let asked = text(RETRY_AFTER.as_str()).and_then(|it| match it.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(it).ok()?.duration_since(now).unwrap_or_default()),
    });
    asked.or_else(|| reset(&text, now)).map(|it| it.min(LONGEST))
}

/// The end of a used-up limit, in seconds since 1970: `X-RateLimit-Reset` (GitHub, Gitea) or `RateLimit-Reset` (GitLab).
fn reset<'a>(text: &impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Option<Duration> {
    ["x-ratelimit", "ratelimit"].iter().find_map(|family| {
        if text(&format!("{family}-remaining"))? != "0" {
            return None;
        }
        let at = text(&format!("{family}-reset"))?.parse::<u64>().ok()?;
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(at))?;
        // One second more: the reset may fall within the second that is named.
        Some(at.duration_since(now).unwrap_or_default() + Duration::from_secs(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        wait_of(&map, UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")]), Some(Duration::from_secs(3)));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn dates_are_by_the_servers_clock() {
        let date = ("date", "Sun, 06 Nov 2033 08:00:00 GMT");
        assert_eq!(
            wait(&[date, ("retry-after", "Sun, 06 Nov 2033 08:00:30 GMT")]),
            Some(Duration::from_secs(30))
        );
    }

    #[test]
    fn a_used_up_limit_is_waited_for() {
        let reset = |name: &'static str, left: &'static str, end: &'static str| {
            wait(&[(name, left), (end, "784111787")])
        };
        assert_eq!(reset("x-ratelimit-remaining", "0", "x-ratelimit-reset"), Some(Duration::from_secs(11)));
        assert_eq!(reset("ratelimit-remaining", "0", "ratelimit-reset"), Some(Duration::from_secs(11)));
        assert_eq!(reset("x-ratelimit-remaining", "12", "x-ratelimit-reset"), None);
    }

    #[test]
    fn nobody_makes_us_wait_for_ever() {
        assert_eq!(wait(&[("retry-after", "99999999999")]), Some(LONGEST));
    }
}
