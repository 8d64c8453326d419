//! What all forges have in common: a state of a commit, under a name, with a text and a link.

use greenroom_model::Results;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde_json::{Value, json};

/// The state of a build as a forge shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It runs, or is run again.
    Running,
    /// It has ended so.
    Ended(Results),
}

/// What is shown beside a commit.
#[derive(Debug)]
pub(super) struct Status<'a> {
    /// The repository's path on the forge.
    pub repository: &'a str,
    /// The commit.
    pub revision: &'a str,
    /// The branch, where a forge wants it.
    pub branch: Option<&'a str>,
    /// The state.
    pub state: State,
    /// Its name: a later state of the same name replaces it.
    pub context: &'a str,
    /// The text.
    pub description: &'a str,
    /// The build's page.
    pub url: &'a str,
}

/// A request, without what all have in common.
#[derive(Debug, PartialEq)]
pub(super) struct Call {
    /// How.
    pub method: Method,
    /// The path's parts after the base URL; they are escaped one by one.
    pub path: Vec<String>,
    /// What is sent.
    pub body: Option<Value>,
}

impl Call {
    /// A status below its repository, in the form of GitHub, which others took over; `state` is the forge's own word.
    pub fn of_status(mut repository: Vec<String>, status: &Status<'_>, state: &'static str) -> Self {
        repository.extend(["statuses".to_owned(), status.revision.to_owned()]);
        let body = json!({
            "state": state,
            "context": status.context,
            "description": status.description,
            "target_url": status.url,
        });
        Self { method: Method::POST, path: repository, body: Some(body) }
    }
}

/// One sort of forge. To add one: a file with an implementation, an arm in [`super::CommitStatusTransport::new`], and a kind in the
/// configuration.
pub(super) trait Forge: Send + Sync {
    /// The base URL when the configuration has none.
    fn base(&self) -> Option<&'static str>;

    /// The names under which the forge whose API is at `base` gives out clones.
    fn hosts(&self, base: &Url) -> Vec<String> {
        base.host_str().map(str::to_owned).into_iter().collect()
    }

    /// How the token is shown: header and value.
    fn proof(&self, token: &str) -> (&'static str, String);

    /// The most characters of a description.
    fn description_limit(&self) -> usize;

    /// Whether repositories may be nested deeper than `owner/name`.
    fn nests(&self) -> bool {
        false
    }

    /// The request that shows a state.
    fn call(&self, status: &Status<'_>) -> Call;

    /// A request that changes nothing and fails with a bad token, or one that cannot see the repository.
    fn trial(&self, repository: Option<&str>) -> Call;

    /// Whether a refusal means that the state is shown already.
    fn shown_already(&self, _status: u16, _body: &str) -> bool {
        false
    }

    /// What the token needs, for people.
    fn needs(&self) -> &'static str;
}

/// Whether a refusal is for the moment only: a limit of requests.
pub(super) fn is_limit(status: u16, headers: &HeaderMap) -> bool {
    let none_left = || headers.get("x-ratelimit-remaining").is_some_and(|it| it.as_bytes() == b"0");
    status == 429 || (status == 403 && (headers.contains_key("retry-after") || none_left()))
}
