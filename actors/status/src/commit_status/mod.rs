//! Commit statuses: the state of each build beside its commit on GitHub, GitLab, Gitea and Forgejo.
//!
//! | file | |
//! |---|---|
//! | `forge.rs` | what forges have in common; how to add one |
//! | `github.rs`, `gitlab.rs`, `gitea.rs` | one each |
//! | `repository.rs` | which repository a URL means |
//! | `order.rs` | no older state over a newer one |

mod forge;
mod gitea;
mod github;
mod gitlab;
mod order;
mod repository;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_config::{CommitStatus, NotifierKind};
use greenroom_data::Ro;
use reqwest::header::{ACCEPT, HeaderName, HeaderValue};
use reqwest::{Request, Url};
use serde_json::json;

use self::forge::{Call, Forge, State, Status, is_limit};
use self::order::{Shown, out_of_date};
use crate::http::{Answer, Client, HttpError, one_line};
use crate::notice::{BuildEvent, BuildNotice, Notice, SourceNotice};
use crate::payload::payload;
use crate::transport::{Outgoing, SendError, Sent, Transport};

/// The longest name of a status, in characters; all forges take as many.
const MAX_CONTEXT: usize = 255;

/// Shows the states of builds beside their commits.
pub struct CommitStatusTransport {
    forge: Box<dyn Forge>,
    config: CommitStatus,
    base: Url,
    client: Client,
    shown: Shown,
    /// Where messages that are tried again are held against the builds; none in tests of the requests alone.
    ro: Option<Ro>,
    sent: u64,
}

impl CommitStatusTransport {
    /// For a notifier of one of the kinds `…-status`. `timeout` is for one request.
    ///
    /// # Errors
    /// A reason for people.
    pub fn new(kind: &NotifierKind, ro: Option<Ro>, timeout: Duration) -> Result<Self, String> {
        let (forge, config): (Box<dyn Forge>, &CommitStatus) = match kind {
            NotifierKind::GithubStatus(config) => (Box::new(github::Github), config),
            NotifierKind::GitlabStatus(config) => (Box::new(gitlab::Gitlab), config),
            NotifierKind::GiteaStatus(config) => (Box::new(gitea::Gitea), config),
            _ => return Err("this kind shows no states of commits".to_owned()),
        };
        let base = config.base_url.as_ref().map(|it| it.as_str()).or_else(|| forge.base());
        let base = Url::parse(base.ok_or("base-url is missing")?).map_err(|it| format!("base-url: {it}"))?;
        let client = Client::new(config.allow_private, config.tls_ca.as_deref(), timeout);
        let client = client.map_err(|it| it.to_string())?;
        Ok(Self { forge, config: config.clone(), base, client, shown: Shown::default(), ro, sent: 0 })
    }

    async fn show(&mut self, message: &Outgoing) -> Result<Sent, SendError> {
        match &message.notice {
            Notice::Build(it) => self.show_build(message, it).await,
            Notice::Buildset(it) => {
                let mut last = Err(SendError::Nobody { why: "the buildset has no builds".to_owned() });
                for build in &it.builds {
                    match self.show_build(message, build).await {
                        Err(SendError::Nobody { .. }) if last.is_ok() => {}
                        Err(error @ (SendError::Later { .. } | SendError::Never { .. })) => {
                            return Err(error);
                        }
                        other => last = other,
                    }
                }
                last
            }
            Notice::Test(_) => self.try_token().await,
            Notice::Digest(_) | Notice::WorkerMissing(_) => {
                Err(SendError::Nobody { why: "only builds have commits".to_owned() })
            }
        }
    }

    /// One state for each source of the build that is on this forge.
    async fn show_build(&mut self, message: &Outgoing, build: &BuildNotice) -> Result<Sent, SendError> {
        if message.attempt > 1
            && let Some(ro) = &self.ro
            && let Some(why) = out_of_date(ro, build).await.map_err(|it| SendError::later(it.to_string()))?
        {
            return Err(SendError::Nobody { why: why.to_owned() });
        }
        let one = Outgoing { notice: Notice::Build(Box::new(build.clone())), ..message.clone() };
        let values = payload(&one);
        let text = |it: &greenroom_config::values::Template| {
            it.render(&values).map_err(|it| SendError::never(it.to_string()))
        };
        let context = cut(&one_line(&text(&self.config.context)?), MAX_CONTEXT);
        let description = cut(&one_line(&text(&self.config.description)?), self.forge.description_limit());
        let mut targets = Vec::new();
        let mut why_not = "the build has no source".to_owned();
        for source in &build.sources {
            let (repository, revision) = match self.commit_of(source) {
                Ok(found) => found,
                Err(why) => {
                    why_not = why;
                    continue;
                }
            };
            if !self.shown.advance(&repository, &revision, &context, (build.build.0, build.event)) {
                why_not = "a newer state is shown already".to_owned();
                continue;
            }
            let state = match (build.event, build.results) {
                (BuildEvent::Finished, Some(results)) => State::Ended(results),
                _ => State::Running,
            };
            let status = Status {
                repository: &repository,
                revision: &revision,
                branch: source.branch.as_deref(),
                state,
                context: &context,
                description: &description,
                url: &build.url,
            };
            let answer = self.call(self.forge.call(&status)).await?;
            self.judge(&answer)?;
            targets.push(format!("{repository}@{}", &revision[..12]));
        }
        if targets.is_empty() {
            return Err(SendError::Nobody { why: why_not });
        }
        self.sent += 1;
        Ok(Sent { target: targets.join(", "), note: Some(context) })
    }

    /// The repository and the revision of a source, or why it has none here.
    fn commit_of(&self, source: &SourceNotice) -> Result<(String, String), String> {
        if source.patched {
            return Err("a patch lay over the revision".to_owned());
        }
        let revision = source.revision.as_deref().unwrap_or_default();
        let whole = matches!(revision.len(), 40 | 64) && revision.bytes().all(|it| it.is_ascii_hexdigit());
        if !whole {
            return Err("the build has no whole revision".to_owned());
        }
        let known = self.config.repositories.get(&source.repository).or(self.config.repository.as_ref());
        let path = match known {
            Some(path) => path.clone(),
            None => {
                let root = self.base.path().trim_matches('/');
                repository::path_on(&self.forge.hosts(&self.base), root, &source.repository)?
            }
        };
        if !self.forge.nests() && path.matches('/').count() != 1 {
            return Err(format!("{path} is no repository here: it has more than an owner and a name"));
        }
        Ok((path, revision.to_ascii_lowercase()))
    }

    /// Asks for something that a bad token does not get.
    async fn try_token(&mut self) -> Result<Sent, SendError> {
        let answer = self.call(self.forge.trial(self.config.repository.as_deref())).await?;
        self.judge(&answer)?;
        let host = self.base.host_str().unwrap_or_default();
        let target =
            self.config.repository.as_ref().map_or_else(|| host.to_owned(), |it| format!("{it} on {host}"));
        Ok(Sent { target, note: Some("the token was taken; no state was set".to_owned()) })
    }

    async fn call(&self, call: Call) -> Result<Answer, SendError> {
        let request = self.request(call).map_err(SendError::never)?;
        self.client.send(request).await.map_err(|error| match error {
            HttpError::Private(_) => SendError::never(error.to_string()),
            HttpError::Failed(_) | HttpError::SetUp(_) => SendError::later(error.to_string()),
        })
    }

    fn request(&self, call: Call) -> Result<Request, String> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| "base-url has no path")?.pop_if_empty().extend(&call.path);
        let (name, proof) = self.forge.proof(self.config.token.expose());
        let mut proof = HeaderValue::from_str(&proof).map_err(|_| "the token holds what no header can")?;
        proof.set_sensitive(true);
        let builder = self.client.builder().request(call.method, url).header(ACCEPT, "application/json");
        let builder = builder.header(HeaderName::from_static(name), proof);
        let builder = match call.body {
            None => builder,
            Some(body) => builder.header("content-type", "application/json").body(body.to_string()),
        };
        builder.build().map_err(|it| it.without_url().to_string())
    }

    fn judge(&self, answer: &Answer) -> Result<(), SendError> {
        let said = one_line(&answer.body);
        let status = answer.status;
        let why =
            |hint: &str| format!("status {status}{hint}: {said}").trim_end_matches([' ', ':']).to_owned();
        match status {
            200..300 => Ok(()),
            _ if self.forge.shown_already(status, &answer.body) => Ok(()),
            _ if is_limit(status, &answer.headers) => {
                Err(SendError::Later { why: why(", too many requests"), retry_after: answer.wait })
            }
            408 | 421 | 425 | 500.. => Err(SendError::Later { why: why(""), retry_after: answer.wait }),
            401 => Err(SendError::never(why(", the token is not valid"))),
            403 => {
                Err(SendError::never(why(&format!(", the token may not do this ({})", self.forge.needs()))))
            }
            404 => Err(SendError::never(why(&format!(
                ", there is no such repository or the token does not see it ({})",
                self.forge.needs()
            )))),
            422 => Err(SendError::never(why(
                ", the forge does not know the revision, or takes no more states of it",
            ))),
            300..=399 => {
                Err(SendError::never(why(", redirects are not followed: the repository may have a new name")))
            }
            _ => Err(SendError::never(why(""))),
        }
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

impl Transport for CommitStatusTransport {
    fn send(&mut self, message: Arc<Outgoing>) -> BoxFuture<'_, Result<Sent, SendError>> {
        async move { self.show(&message).await }.boxed()
    }

    fn observe(&self) -> serde_json::Value {
        json!({"forge": self.base.host_str(), "sent": self.sent})
    }
}
