//! Announcements: to whom a message goes, and when it counts as sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use greenroom_config::{Irc, Mode};
use greenroom_runtime::{AskError, Front};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::announce::Style;
use super::connection::{IrcConnection, Parts, Say};
use super::driver::Status;
use super::events::EventWord;
use super::outbox::{NotSaid, Spoken};
use super::wishes::{WishBook, Wishes};
use crate::notice::{BuildNotice, Notice};
use crate::transport::{Outgoing, SendError, Sent, Transport};

/// How long a connection is waited for before the attempt counts as failed; the next begins at once.
const CONNECTED_WITHIN: Duration = Duration::from_secs(20);
/// How soon the next attempt begins, since it is waiting that fails.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How soon another attempt is worth while when no channel would have us.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How long the connection may take to say it. The notifier's own `timeout` is shorter, unless somebody set it higher.
const SAID_WITHIN: Duration = Duration::from_secs(3_600);

/// Carries notices to channels and people.
pub struct IrcTransport {
    parts: Arc<Parts>,
    front: Front<IrcConnection>,
    status: watch::Receiver<Status>,
    style: Style,
    /// The message that is being said. When the notifier's patience ends before flood control has let all of it out, the next
    /// attempt waits for the rest instead of saying it all again.
    saying: Option<(i64, Saying)>,
}

type Saying = BoxFuture<'static, Result<Result<Spoken, NotSaid>, AskError>>;

impl IrcTransport {
    /// Over this connection.
    pub fn new(parts: Arc<Parts>, front: Front<IrcConnection>) -> Self {
        let style = Style { colors: parts.desk.config.colors };
        let status = parts.status.subscribe();
        Self { parts, front, status, style, saying: None }
    }

    async fn announce(&mut self, message: Arc<Outgoing>) -> Result<Sent, SendError> {
        let under_way = self.saying.as_ref().is_some_and(|(id, _)| *id == message.id);
        if !under_way {
            let to = self.places(&message.notice)?;
            self.connected().await?;
            let lines = self.style.lines(&message);
            let lines: Vec<_> = to.into_iter().map(|place| (place, lines.clone())).collect();
            let front = self.front.clone();
            let saying: Saying = Box::pin(async move { front.ask_within(SAID_WITHIN, Say { lines }).await });
            self.saying = Some((message.id, saying));
        }
        let said = match &mut self.saying {
            Some((_, saying)) => saying.await,
            None => return Err(later("nothing was said".to_owned())),
        };
        self.saying = None;
        match said {
            Ok(Ok(spoken)) => self.outcome(spoken).await,
            Ok(Err(lost)) => Err(later(lost.0)),
            Err(error) => Err(later(format!("the connection: {error}"))),
        }
    }

    /// To whom it goes.
    fn places(&self, notice: &Notice) -> Result<Vec<String>, SendError> {
        let desk = &self.parts.desk;
        let Readers { to, muted } = readers(notice, &desk.config, &desk.configured, &desk.book.now());
        if to.is_empty() {
            let why = match muted.is_empty() {
                true => "nobody wants to hear of it".to_owned(),
                false => format!("muted in {}", muted.join(", ")),
            };
            return Err(SendError::Nobody { why });
        }
        Ok(to)
    }

    /// What the record says of it.
    async fn outcome(&mut self, spoken: Spoken) -> Result<Sent, SendError> {
        forget_absent(&self.parts.desk.book, &spoken.refused).await;
        let refusals: Vec<String> =
            spoken.refused.iter().map(|(place, why)| format!("{place}: {why}")).collect();
        let refusals = refusals.join("; ");
        if spoken.delivered.is_empty() {
            let why = format!("refused by {refusals}");
            return Err(SendError::Later { why, retry_after: Some(REFUSED_AGAIN_AFTER) });
        }
        let note = (!refusals.is_empty()).then(|| format!("not to {refusals}"));
        Ok(Sent { target: spoken.delivered.join(", "), note })
    }

    /// Waits until we are in our channels, or know that they would not have us.
    async fn connected(&mut self) -> Result<(), SendError> {
        match timeout(CONNECTED_WITHIN, self.status.wait_for(|it| it.settled)).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                let status = self.parts.status.borrow();
                let why = status.last_error.clone().unwrap_or_else(|| format!("still {}", status.state));
                Err(later(format!("not connected: {why}")))
            }
        }
    }
}

fn later(why: String) -> SendError {
    SendError::Later { why, retry_after: Some(AGAIN_AFTER) }
}

impl Transport for IrcTransport {
    fn send(&mut self, message: Arc<Outgoing>) -> BoxFuture<'_, Result<Sent, SendError>> {
        Box::pin(self.announce(message))
    }

    fn wishes(&self) -> Option<watch::Receiver<Vec<Mode>>> {
        Some(self.parts.desk.book.modes())
    }

    fn while_claimed(&mut self, claimed: watch::Receiver<bool>) {
        self.parts.claims.send_replace(claimed);
    }

    fn observe(&self) -> serde_json::Value {
        let status = self.status.borrow();
        json!({"state": status.state, "nick": status.nick})
    }
}

/// Who hears a message.
#[derive(Debug, PartialEq, Eq)]
struct Readers {
    to: Vec<String>,
    /// Who would, were we not to be quiet there.
    muted: Vec<String>,
}

/// The channels where we are to be and everybody with wishes, as far as the message is what they want to hear.
fn readers(notice: &Notice, config: &Irc, configured: &BTreeSet<EventWord>, wishes: &Wishes) -> Readers {
    let mut all: Vec<(String, BTreeSet<EventWord>)> = Vec::new();
    let case = super::names::CaseMapping::Rfc1459;
    for channel in wishes.channels(&config.channels) {
        let is_configured = config.channels.iter().any(|it| case.same(&it.name, &channel.name));
        let own = if is_configured { configured.clone() } else { BTreeSet::new() };
        all.push((channel.name.clone(), wishes.events(&channel.name, &own)));
    }
    let trial = matches!(notice, Notice::Test(_));
    for (place, events) in wishes.places().filter(|_| !trial) {
        let listed = all.iter().any(|(known, _)| case.same(known, place));
        // Wishes of a channel that we have left stay for when we come again.
        if !listed && !super::names::is_channel(place) {
            all.push((place.to_owned(), events.clone()));
        }
    }
    let wanting = all.into_iter().filter(|(_, events)| wants(events, notice)).map(|(place, _)| place);
    let (muted, to) = wanting.partition(|place: &String| wishes.muted(place));
    Readers { to, muted }
}

fn wants(events: &BTreeSet<EventWord>, notice: &Notice) -> bool {
    let fits = |build: &BuildNotice| events.iter().any(|it| it.fits(build));
    match notice {
        Notice::Build(build) => fits(build),
        Notice::Buildset(buildset) => buildset.builds.iter().any(fits),
        // One message for all is for whoever would have heard some of it.
        Notice::Digest(_) => events.iter().any(|it| *it != EventWord::Worker),
        // A worker's absence is told where it is configured, and to those who asked for it.
        Notice::WorkerMissing(_) => events.contains(&EventWord::Worker),
        Notice::Test(_) => true,
    }
}

/// What a person who is gone had wished is forgotten: the next one of that nick did not ask for it.
async fn forget_absent(book: &WishBook, refused: &[(String, String)]) {
    let gone: Vec<&String> =
        refused.iter().map(|(place, _)| place).filter(|it| !super::names::is_channel(it)).collect();
    if gone.is_empty() {
        return;
    }
    let forgotten = book.change(|wishes, _| {
        gone.iter().for_each(|place| wishes.forget(place));
        Ok(())
    });
    if let Err(why) = forgotten.await {
        tracing::warn!(%why, "the wishes of somebody who is gone are still kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;
    use greenroom_config::{NotifierKind, load_text};

    fn config() -> Irc {
        let text = "[notifiers.team]\nkind = 'irc'\nserver = 'h'\nnick = 'bot'\nchannels = ['#a', '#b']";
        let loaded = load_text(text, std::path::Path::new("/")).unwrap_or_else(|e| panic!("{e}"));
        match loaded.settings.notifiers["team"].kind.clone() {
            NotifierKind::Irc(irc) => irc,
            other => panic!("{other:?}"),
        }
    }

    fn to(notice: &Notice, wishes: &Wishes) -> (Vec<String>, Vec<String>) {
        let configured = BTreeSet::from([EventWord::Problem]);
        let Readers { to, muted } = readers(notice, &config(), &configured, wishes);
        (to, muted)
    }

    fn build(notice: BuildNotice) -> Notice {
        Notice::Build(Box::new(notice))
    }

    #[test]
    fn each_place_hears_what_it_wishes() {
        let (failed, fixed) = (build(examples::failed()), build(examples::fixed()));
        let mut wishes = Wishes::default();
        assert_eq!(to(&failed, &wishes).0, ["#a", "#b"]);
        assert!(to(&fixed, &wishes).0.is_empty());
        let recovery = BTreeSet::from([EventWord::Recovery]);
        wishes.set_events("#B", recovery.clone()).unwrap();
        wishes.set_events("ada", recovery.clone()).unwrap();
        wishes.set_events("#left-long-ago", recovery).unwrap();
        assert_eq!(to(&failed, &wishes).0, ["#a"]);
        assert_eq!(to(&fixed, &wishes).0, ["#b", "ada"]);
        wishes.set_muted("ada", true).unwrap();
        assert_eq!(to(&fixed, &wishes), (vec!["#b".to_owned()], vec!["ada".to_owned()]));
        wishes.leave("#b", &config().channels).unwrap();
        wishes.join("#c", &config().channels).unwrap();
        assert!(to(&fixed, &wishes).0.is_empty(), "a channel that it came to begins with nothing");
    }

    #[test]
    fn transitions_compare_with_the_build_before() {
        let wants = |words: &[&str], notice: BuildNotice| {
            let events = words.iter().map(|it| EventWord::parse(it).expect(it)).collect();
            super::wants(&events, &build(notice))
        };
        for word in ["failure", "finished", "problem", "change", "worse", "successToFailure"] {
            assert!(wants(&[word], examples::failed()), "{word}");
            assert_eq!(wants(&[word], examples::fixed()), ["finished", "change"].contains(&word), "{word}");
        }
        for word in ["success", "recovery", "better", "failureToSuccess"] {
            assert!(wants(&[word], examples::fixed()) && !wants(&[word], examples::failed()), "{word}");
        }
        assert!(!wants(&["started", "worker"], examples::failed()));
    }
}
