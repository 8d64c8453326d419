//! GitLab, theirs and one's own (`base-url = "https://gitlab.example.org/"`).

use greenroom_model::Results;
use reqwest::Method;
use serde_json::json;

use super::forge::{Call, Forge, State, Status};

/// See the module.
pub(super) struct Gitlab;

impl Forge for Gitlab {
    fn base(&self) -> Option<&'static str> {
        Some("https://gitlab.com/")
    }

    fn proof(&self, token: &str) -> (&'static str, String) {
        ("private-token", token.to_owned())
    }

    fn description_limit(&self) -> usize {
        255
    }

    fn nests(&self) -> bool {
        true
    }

    fn call(&self, status: &Status<'_>) -> Call {
        let mut path = project(status.repository);
        path.extend(["statuses".to_owned(), status.revision.to_owned()]);
        let mut body = json!({
            "state": word(status.state),
            "name": status.context,
            "description": status.description,
            "target_url": status.url,
        });
        if let Some(branch) = status.branch {
            // Without it GitLab guesses to which of a commit's branches the state belongs.
            body["ref"] = json!(branch);
        }
        Call { method: Method::POST, path, body: Some(body) }
    }

    fn trial(&self, path: Option<&str>) -> Call {
        let path = path.map_or_else(|| api(&["user"]), project);
        Call { method: Method::GET, path, body: None }
    }

    /// GitLab refuses to set a running state to running: a repetition of what it has.
    fn shown_already(&self, status: u16, body: &str) -> bool {
        status == 400 && body.contains("Cannot transition status")
    }

    fn needs(&self) -> &'static str {
        "the token needs the scope api, and the role Developer in the project"
    }
}

fn api(parts: &[&str]) -> Vec<String> {
    ["api", "v4"].iter().chain(parts).map(|it| (*it).to_owned()).collect()
}

/// The whole path of a project is one part of the API's path.
fn project(path: &str) -> Vec<String> {
    api(&["projects", path])
}

fn word(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Ended(Results::Retry) => "pending",
        State::Ended(Results::Success | Results::Warnings | Results::Skipped) => "success",
        State::Ended(Results::Failure | Results::Exception) => "failed",
        State::Ended(Results::Cancelled) => "canceled",
    }
}
