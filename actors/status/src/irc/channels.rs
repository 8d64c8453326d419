//! The channels that we want to be in, and how far that is.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_config::Channel;
use greenroom_config::values::Secret;
use irc_proto::Command;
use tokio::time::Instant;

use super::names::CaseMapping;

/// The first wait before a channel that refused us is asked again; it doubles.
const AGAIN_AFTER: Duration = Duration::from_secs(15);
/// The longest.
const AGAIN_AT_MOST: Duration = Duration::from_secs(600);
/// How long the answer to a join may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The most channels, the configured ones included.
pub const MOST_CHANNELS: usize = 50;

/// How far one channel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// To be joined as soon as there is a connection.
    Wanted,
    /// Asked for.
    Joining {
        /** Given up then. */
        until: Instant,
    },
    /// We are in it.
    Joined,
    /// It would not have us; it is asked again.
    Refused {
        /** In the server's words. */
        why: String,
        /** When. */
        again_at: Instant,
    },
}

#[derive(Debug)]
struct Member {
    /// As it is written.
    name: String,
    key: Option<Secret>,
    presence: Presence,
    refusals: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Channels {
    members: BTreeMap<String, Member>,
}

impl Channels {
    /// Those that are configured.
    pub fn new(wanted: &[Channel], case: CaseMapping) -> Self {
        let mut all = Self::default();
        for channel in wanted {
            all.want(channel, case);
        }
        all
    }

    /// Wants one more; none is added past the bound.
    pub fn want(&mut self, channel: &Channel, case: CaseMapping) {
        let key = case.fold(&channel.name);
        if self.members.len() < MOST_CHANNELS {
            let member = || Member {
                name: channel.name.clone(),
                key: channel.key.clone(),
                presence: Presence::Wanted,
                refusals: 0,
            };
            self.members.entry(key).or_insert_with(member);
        }
    }

    /// Wants one no more; whether it was wanted.
    pub fn unwant(&mut self, name: &str, case: CaseMapping) -> bool {
        self.members.remove(&case.fold(name)).is_some()
    }

    /// The server compares names in another way than was thought.
    pub fn refold(&mut self, case: CaseMapping) {
        let members = std::mem::take(&mut self.members);
        self.members = members.into_values().map(|m| (case.fold(&m.name), m)).collect();
    }

    /// How far a channel is, if it is wanted.
    pub fn presence(&self, name: &str, case: CaseMapping) -> Option<&Presence> {
        self.members.get(&case.fold(name)).map(|m| &m.presence)
    }

    /// Whether we are in it.
    pub fn joined(&self, name: &str, case: CaseMapping) -> bool {
        self.presence(name, case) == Some(&Presence::Joined)
    }

    /// All, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Presence)> {
        self.members.values().map(|m| (m.name.as_str(), &m.presence))
    }

    /// Whether none is still on the way.
    pub fn settled(&self) -> bool {
        !self.members.values().any(|m| matches!(m.presence, Presence::Wanted | Presence::Joining { .. }))
    }

    /// Commands for all that are to be joined now.
    pub fn due(&mut self, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        for member in self.members.values_mut() {
            let due = match &member.presence {
                Presence::Wanted => true,
                Presence::Refused { again_at, .. } => *again_at <= now,
                Presence::Joining { until } => *until <= now,
                Presence::Joined => false,
            };
            if due {
                member.presence = Presence::Joining { until: now + ANSWER_WITHIN };
                let key = member.key.as_ref().map(|key| key.expose().to_owned());
                commands.push(Command::JOIN(member.name.clone(), key, None));
            }
        }
        commands
    }

    /// Those that would not have us are worth another try at once: we are somebody else now.
    pub fn retry(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            if let Presence::Refused { again_at, .. } = &mut member.presence {
                *again_at = now;
            }
        }
    }

    /// We are in it; whether that is news of a channel that is wanted.
    pub fn entered(&mut self, name: &str, case: CaseMapping) -> bool {
        let Some(member) = self.members.get_mut(&case.fold(name)) else { return false };
        let news = member.presence != Presence::Joined;
        member.presence = Presence::Joined;
        member.refusals = 0;
        news
    }

    /// It would not have us, or has thrown us out; whether that is news of a channel that is wanted.
    pub fn refused(&mut self, name: &str, why: &str, now: Instant, case: CaseMapping) -> bool {
        let Some(member) = self.members.get_mut(&case.fold(name)) else { return false };
        let wait = AGAIN_AFTER * 2u32.saturating_pow(member.refusals.min(16));
        member.refusals += 1;
        let again_at = now + wait.min(AGAIN_AT_MOST);
        member.presence = Presence::Refused { why: why.to_owned(), again_at };
        true
    }

    /// Whether we wait for the answer to a join.
    pub fn joining(&self, name: &str, case: CaseMapping) -> bool {
        matches!(self.presence(name, case), Some(Presence::Joining { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: CaseMapping = CaseMapping::Rfc1459;

    fn channels() -> Channels {
        let wanted = [
            Channel { name: "#Open".into(), key: None },
            Channel { name: "#locked".into(), key: Some(Secret::new("sesame")) },
        ];
        Channels::new(&wanted, CASE)
    }

    fn texts(commands: Vec<Command>) -> Vec<String> {
        commands.iter().map(String::from).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn wanted_channels_are_joined_with_their_keys_once() {
        let now = Instant::now();
        let mut it = channels();
        assert_eq!(texts(it.due(now)), ["JOIN #locked sesame", "JOIN #Open"]);
        assert!(it.due(now).is_empty());
        assert!(!it.settled());
        assert!(it.entered("#open", CASE) && !it.entered("#OPEN", CASE));
        assert!(!it.entered("#elsewhere", CASE));
        assert!(it.joined("#Open", CASE));
        assert!(!format!("{it:?}").contains("sesame"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_asked_again_later_and_later() {
        let start = Instant::now();
        let mut now = start;
        let mut it = channels();
        it.due(now);
        it.entered("#open", CASE);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert!(it.refused("#locked", "bad key", now, CASE));
            assert!(it.settled());
            let Some(Presence::Refused { again_at, .. }) = it.presence("#locked", CASE).cloned() else {
                panic!("refused")
            };
            waits.push((again_at - now).as_secs());
            assert!(it.due(now).is_empty());
            now = again_at;
            assert_eq!(it.due(now).len(), 1);
        }
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 600, 600]);
        it.refused("#locked", "registered only", now, CASE);
        it.retry(now);
        assert_eq!(it.due(now).len(), 1, "another identity is another try");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_not_waited_for_for_ever() {
        let now = Instant::now();
        let mut it = channels();
        it.due(now);
        assert_eq!(it.due(now + ANSWER_WITHIN).len(), 2);
    }

    #[test]
    fn channels_are_bounded_and_may_be_left() {
        let mut it = channels();
        for n in 0..100 {
            it.want(&Channel { name: format!("#{n}"), key: None }, CASE);
        }
        assert_eq!(it.all().count(), MOST_CHANNELS);
        assert!(it.unwant("#OPEN", CASE) && !it.unwant("#open", CASE));
        it.refold(CaseMapping::Ascii);
        assert_eq!(it.all().count(), MOST_CHANNELS - 1);
    }
}
