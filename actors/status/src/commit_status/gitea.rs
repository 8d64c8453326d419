//! Gitea and Forgejo (`base-url = "https://git.example.org/"`).

use greenroom_model::Results;
use reqwest::Method;

use super::forge::{Call, Forge, State, Status};

/// See the module.
pub(super) struct Gitea;

impl Forge for Gitea {
    fn base(&self) -> Option<&'static str> {
        None
    }

    fn proof(&self, token: &str) -> (&'static str, String) {
        ("authorization", format!("token {token}"))
    }

    fn description_limit(&self) -> usize {
        255
    }

    fn call(&self, status: &Status<'_>) -> Call {
        Call::of_status(repository(status.repository), status, word(status.state))
    }

    fn trial(&self, path: Option<&str>) -> Call {
        let user = || ["api", "v1", "user"].map(str::to_owned).to_vec();
        Call { method: Method::GET, path: path.map_or_else(user, repository), body: None }
    }

    fn needs(&self) -> &'static str {
        "the token needs the scope write:repository, and its user the right to write to the repository"
    }
}

fn repository(path: &str) -> Vec<String> {
    ["api", "v1", "repos"].into_iter().chain(path.split('/')).map(str::to_owned).collect()
}

fn word(state: State) -> &'static str {
    match state {
        State::Running | State::Ended(Results::Retry) => "pending",
        State::Ended(Results::Success | Results::Skipped) => "success",
        State::Ended(Results::Warnings) => "warning",
        State::Ended(Results::Failure) => "failure",
        State::Ended(Results::Exception | Results::Cancelled) => "error",
    }
}
