//! GitHub, and GitHub Enterprise Server (`base-url = "https://github.example.org/api/v3/"`).

use greenroom_model::Results;
use reqwest::{Method, Url};

use super::forge::{Call, Forge, State, Status};

/// See the module.
pub(super) struct Github;

impl Forge for Github {
    fn base(&self) -> Option<&'static str> {
        Some("https://api.github.com/")
    }

    fn hosts(&self, base: &Url) -> Vec<String> {
        match base.host_str() {
            Some("api.github.com") => vec!["github.com".to_owned()],
            // With subdomain isolation the API has a host of its own.
            Some(host) => {
                let bare = host.strip_prefix("api.").unwrap_or(host);
                if bare == host { vec![host.to_owned()] } else { vec![bare.to_owned(), host.to_owned()] }
            }
            None => Vec::new(),
        }
    }

    fn proof(&self, token: &str) -> (&'static str, String) {
        ("authorization", format!("Bearer {token}"))
    }

    fn description_limit(&self) -> usize {
        140
    }

    fn call(&self, status: &Status<'_>) -> Call {
        Call::of_status(repository(status.repository), status, word(status.state))
    }

    fn trial(&self, path: Option<&str>) -> Call {
        let path = path.map_or_else(|| vec!["user".to_owned()], repository);
        Call { method: Method::GET, path, body: None }
    }

    fn needs(&self) -> &'static str {
        "a fine-grained token needs the permission \"Commit statuses: write\", a classic one the scope repo:status"
    }
}

fn repository(path: &str) -> Vec<String> {
    std::iter::once("repos").chain(path.split('/')).map(str::to_owned).collect()
}

fn word(state: State) -> &'static str {
    match state {
        State::Running | State::Ended(Results::Retry) => "pending",
        State::Ended(Results::Success | Results::Warnings | Results::Skipped) => "success",
        State::Ended(Results::Failure) => "failure",
        State::Ended(Results::Exception | Results::Cancelled) => "error",
    }
}
