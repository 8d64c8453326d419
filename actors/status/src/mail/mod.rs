//! Mail: a text and an HTML part, to fixed addresses and to the people whom it is about.
//!
//! | file | |
//! |---|---|
//! | `people.rs` | who gets it |
//! | `render.rs`, `templates/` | what it says |
//! | `message.rs` | headers and parts, threads, ids |
//! | `log.rs` | the attached log |
//! | `relay.rs` | handing it in by SMTP or sendmail |

mod log;
mod message;
mod people;
mod relay;
mod render;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_config::mask::SharedMasks;
use greenroom_config::{Mail, MailAddress};
use greenroom_data::Ro;
use serde_json::json;

use self::people::Recipients;
use self::relay::{Handed, Post};
use crate::transport::{Outgoing, SendError, Sent, Transport};

/// Of how many messages it is remembered who has them already, while others are tried again.
const MAX_PARTLY: usize = 1_000;
/// How many addresses are named to people.
const MAX_NAMED: usize = 3;

/// Sends mails.
pub struct MailTransport {
    config: Mail,
    post: Post,
    /// Where attached logs are read.
    ro: Option<Ro>,
    /// What attached logs must not show: they were masked when they were stored, but not by secrets that came later.
    masks: SharedMasks,
    /// Who has a message already whose other recipients were put off, in lower case, by the delivery's id.
    partly: BTreeMap<i64, BTreeSet<String>>,
    sent: u64,
}

impl MailTransport {
    /// Without `ro` no logs are attached.
    ///
    /// # Errors
    /// A reason for people.
    pub fn new(config: Mail, ro: Option<Ro>) -> Result<Self, String> {
        let post = Post::new(&config)?;
        Ok(Self { config, post, ro, masks: SharedMasks::default(), partly: BTreeMap::new(), sent: 0 })
    }

    /// Masks attached logs by these.
    #[must_use]
    pub fn masked(self, masks: SharedMasks) -> Self {
        Self { masks, ..self }
    }

    async fn mail(&mut self, message: &Outgoing) -> Result<Sent, SendError> {
        let to = people::recipients(&self.config, &message.notice);
        if to.is_empty() {
            return Err(SendError::Nobody { why: nobody(&to) });
        }
        let rendered = render::render(&self.config, message);
        if let Some(fault) = &rendered.fault {
            tracing::warn!(notifier.name = message.notifier, error = %fault, "a template failed; the built-in one was used");
        }
        let log = log::attached(&self.config, self.ro.as_ref(), &self.masks.current(), &message.notice).await;
        let parts =
            message::Parts { subject: rendered.subject, text: rendered.text, html: rendered.html, log };
        let mail = message::message(&self.config, message, &to, parts).map_err(SendError::never)?;
        let served = self.partly.get(&message.id);
        let missing =
            |it: &&MailAddress| served.is_none_or(|served| !served.contains(&it.address.to_lowercase()));
        let left: Vec<MailAddress> = to.all().filter(missing).cloned().collect();
        let handed = self.post.hand(&left, &mail.formatted()).await?;
        self.outcome(message, &to, &handed, rendered.fault.is_some())
    }

    /// Sent, when nobody was put off.
    fn outcome(
        &mut self,
        message: &Outgoing,
        to: &Recipients,
        handed: &Handed,
        template_failed: bool,
    ) -> Result<Sent, SendError> {
        let mut served = self.partly.remove(&message.id).unwrap_or_default();
        served.extend(handed.taken.iter().map(|it| it.to_lowercase()));
        if let Some((address, reply)) = handed.put_off.first() {
            let why = format!("{address} and {} more were put off: {reply}", handed.put_off.len() - 1);
            while self.partly.len() >= MAX_PARTLY {
                self.partly.pop_first();
            }
            self.partly.insert(message.id, served);
            return Err(SendError::later(why.replace(" and 0 more were", " was")));
        }
        let refused = handed.refused.first().map(|(address, reply)| {
            let more = handed.refused.len() - 1;
            if more == 0 {
                format!("{address} was refused: {reply}")
            } else {
                format!("{address} and {more} more were refused: {reply}")
            }
        });
        if served.is_empty() {
            return Err(SendError::never(
                refused.unwrap_or_else(|| "there is nobody to send it to".to_owned()),
            ));
        }
        self.sent += 1;
        let mut notes: Vec<String> = refused.into_iter().collect();
        if to.left_out > 0 {
            notes.push(format!("{} without an allowed address", to.left_out));
        }
        if template_failed {
            notes.push("a template failed, see the log".to_owned());
        }
        let note = Some(notes.join("; ")).filter(|it| !it.is_empty());
        let served: Vec<&str> =
            to.all().map(|it| it.address.as_str()).filter(|it| served.contains(&it.to_lowercase())).collect();
        Ok(Sent { target: named(&served), note })
    }
}

fn nobody(to: &Recipients) -> String {
    match to.left_out {
        0 => "it is about nobody".to_owned(),
        count => format!("none of the {count} people whom it is about has an allowed address"),
    }
}

/// `ada@example.org, grace@example.org, 2 more`.
fn named(addresses: &[&str]) -> String {
    let (first, rest) = addresses.split_at(addresses.len().min(MAX_NAMED));
    let first = first.join(", ");
    if rest.is_empty() { first } else { format!("{first}, {} more", rest.len()) }
}

impl Transport for MailTransport {
    fn send(&mut self, message: Arc<Outgoing>) -> BoxFuture<'_, Result<Sent, SendError>> {
        async move { self.mail(&message).await }.boxed()
    }

    fn observe(&self) -> serde_json::Value {
        json!({"relay": self.config.relay.to_string(), "sent": self.sent, "partly": self.partly.len()})
    }
}
