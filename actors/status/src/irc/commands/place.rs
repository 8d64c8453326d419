//! What changes what is told in a place, or where we are.

use std::collections::BTreeSet;

use super::parse::Notify;
use super::{Answer, Desk, Membership, enumerate, named};
use crate::irc::events::EventWord;
use crate::irc::names::is_channel;

/// How many builds one `watch` names.
const NAMED: usize = 10;

impl Desk {
    /// What a place hears of when it has said nothing.
    pub fn configured_for(&self, place: &str) -> BTreeSet<EventWord> {
        let configured = self.config.channels.iter().any(|it| it.name.eq_ignore_ascii_case(place));
        if configured { self.configured.clone() } else { BTreeSet::new() }
    }

    pub(super) async fn notify(&self, notify: Notify, place: &str) -> Result<String, String> {
        let configured = self.configured_for(place);
        let change = match notify {
            Notify::List => None,
            Notify::On(events) => Some((true, events)),
            Notify::Off(events) => Some((false, events)),
        };
        let events = match change {
            None => self.book.now().events(place, &configured),
            Some((on, changed)) => {
                let new = |mut events: BTreeSet<EventWord>| {
                    match (on, changed.is_empty()) {
                        (true, _) => events.extend(changed),
                        (false, true) => events.clear(),
                        (false, false) => events.retain(|it| !changed.contains(it)),
                    }
                    events
                };
                self.book
                    .change(|wishes, _| {
                        let events = new(wishes.events(place, &configured));
                        wishes.set_events(place, events.clone())?;
                        Ok(events)
                    })
                    .await?
            }
        };
        let words: Vec<String> = events.iter().map(EventWord::to_string).collect();
        let words = if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
        let muted = if self.book.now().muted(place) { " (but I am muted here)" } else { "" };
        Ok(format!("told here: {words}{muted}"))
    }

    pub(super) async fn watch(&self, builder: &str, place: &str) -> Result<String, String> {
        let hot = self.ro.hot();
        let builder = self.builder(&hot, builder)?;
        let name = named(&builder.name);
        let builds: Vec<_> =
            hot.running_builds().filter(|it| it.builder == builder.id).map(|it| (it.id, it.number)).collect();
        if builds.is_empty() {
            return Err(format!("no build of {name} is running"));
        }
        self.book
            .change(|wishes, _| builds.iter().try_for_each(|(build, _)| wishes.watch(*build, place)))
            .await?;
        let numbers = builds.iter().map(|(_, number)| format!("#{number}")).collect();
        Ok(format!("I will tell when {name} {} ends", enumerate(numbers, NAMED)))
    }

    pub(super) async fn mute(
        &self,
        channel: Option<String>,
        place: &str,
        muted: bool,
    ) -> Result<Answer, String> {
        let channel = channel_or_here(channel, place)?;
        self.book.change(|wishes, _| wishes.set_muted(&channel, muted)).await?;
        let said = if muted { "quiet" } else { "speaking again" };
        Ok(Answer::line(format!("{said} in {}", named(&channel))))
    }

    pub(super) async fn join(&self, channel: &str) -> Result<Answer, String> {
        self.book.change(|wishes, config| wishes.join(channel, &config.channels)).await?;
        let lines = vec![format!("coming to {}", named(channel))];
        Ok(Answer { lines, membership: Some(Membership::Join(channel.to_owned())) })
    }

    pub(super) async fn leave(&self, channel: Option<String>, place: &str) -> Result<Answer, String> {
        let channel = channel_or_here(channel, place)?;
        self.book.change(|wishes, config| wishes.leave(&channel, &config.channels)).await?;
        let lines = vec![format!("leaving {}", named(&channel))];
        Ok(Answer { lines, membership: Some(Membership::Leave(channel)) })
    }
}

fn channel_or_here(channel: Option<String>, place: &str) -> Result<String, String> {
    match channel {
        Some(channel) => Ok(channel),
        None if is_channel(place) => Ok(place.to_owned()),
        None => Err("which channel?".to_owned()),
    }
}
