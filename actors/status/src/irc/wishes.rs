//! What channels and people have asked of us, kept over restarts: which events they want to hear of, where we are quiet, where we
//! have come to or gone from, whose end is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use greenroom_config::{Channel, Irc, Mode};
use greenroom_data::{DataError, ListenerState};
use greenroom_model::BuildId;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use super::channels::MOST_CHANNELS;
use super::events::EventWord;
use super::names::CaseMapping;

/// The most places with wishes of their own.
const MOST_PLACES: usize = 200;
/// The most builds that are watched.
const MOST_WATCHED: usize = 200;
/// The most transitions and other events of one place.
const MOST_EVENTS: usize = 40;
/// How long a change may take to be stored.
const STORE_WITHIN: Duration = Duration::from_secs(10);

/// What is kept. Names are folded as the protocol does by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    places: BTreeMap<String, Place>,
    /// Channels that we were asked to come to, as they are written.
    joined: BTreeMap<String, String>,
    /// Configured channels that we were asked to leave.
    left: BTreeSet<String>,
    watched: BTreeMap<i64, BTreeSet<String>>,
}

/// What one channel or nick wants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    /// As it is written.
    name: String,
    /// None: what the configuration says.
    events: Option<BTreeSet<EventWord>>,
    muted: bool,
}

fn fold(name: &str) -> String {
    CaseMapping::Rfc1459.fold(name)
}

impl Wishes {
    /// What a place wants to hear of; `configured` holds for those that have said nothing.
    pub fn events(&self, place: &str, configured: &BTreeSet<EventWord>) -> BTreeSet<EventWord> {
        let own = self.places.get(&fold(place)).and_then(|it| it.events.clone());
        own.unwrap_or_else(|| configured.clone())
    }

    /// Sets it.
    pub fn set_events(&mut self, place: &str, events: BTreeSet<EventWord>) -> Result<(), String> {
        if events.len() > MOST_EVENTS {
            return Err(format!("at most {MOST_EVENTS} events"));
        }
        self.place(place)?.events = Some(events);
        Ok(())
    }

    /// Whether we are quiet there.
    pub fn muted(&self, place: &str) -> bool {
        self.places.get(&fold(place)).is_some_and(|it| it.muted)
    }

    /// Sets it.
    pub fn set_muted(&mut self, place: &str, muted: bool) -> Result<(), String> {
        self.place(place)?.muted = muted;
        Ok(())
    }

    fn place(&mut self, name: &str) -> Result<&mut Place, String> {
        let key = fold(name);
        if self.places.len() >= MOST_PLACES && !self.places.contains_key(&key) {
            return Err("too many places have wishes of their own".to_owned());
        }
        Ok(self.places.entry(key).or_insert_with(|| Place { name: name.to_owned(), ..Place::default() }))
    }

    /// Every place that has said what it wants to hear of.
    pub fn places(&self) -> impl Iterator<Item = (&str, &BTreeSet<EventWord>)> {
        self.places.values().filter_map(|it| Some((it.name.as_str(), it.events.as_ref()?)))
    }

    /// All that a person who is gone had wished.
    pub fn forget(&mut self, place: &str) {
        self.places.remove(&fold(place));
        self.watched.retain(|_, places| {
            places.retain(|it| fold(it) != fold(place));
            !places.is_empty()
        });
    }

    /// The channels to be in: the configured ones without those left, and those we were asked to come to.
    pub fn channels(&self, configured: &[Channel]) -> Vec<Channel> {
        let stay = configured.iter().filter(|it| !self.left.contains(&fold(&it.name))).cloned();
        let more = self.joined.values().map(|name| Channel { name: name.clone(), key: None });
        stay.chain(more).collect()
    }

    /// Comes to a channel.
    pub fn join(&mut self, channel: &str, configured: &[Channel]) -> Result<(), String> {
        self.left.remove(&fold(channel));
        if !configured.iter().any(|it| fold(&it.name) == fold(channel)) {
            self.joined.insert(fold(channel), channel.to_owned());
        }
        if self.channels(configured).len() > MOST_CHANNELS {
            return Err(format!("at most {MOST_CHANNELS} channels"));
        }
        Ok(())
    }

    /// Goes from a channel.
    pub fn leave(&mut self, channel: &str, configured: &[Channel]) -> Result<(), String> {
        let was_joined = self.joined.remove(&fold(channel)).is_some();
        let is_configured = configured.iter().any(|it| fold(&it.name) == fold(channel));
        if !was_joined && !is_configured {
            return Err(format!("I am not in {channel}"));
        }
        if is_configured {
            self.left.insert(fold(channel));
        }
        Ok(())
    }

    /// Waits for a build's end on behalf of a place.
    pub fn watch(&mut self, build: BuildId, place: &str) -> Result<(), String> {
        if self.watched.len() >= MOST_WATCHED && !self.watched.contains_key(&build.0) {
            return Err("too many builds are watched".to_owned());
        }
        let places = self.watched.entry(build.0).or_default();
        if places.len() >= MOST_CHANNELS {
            return Err("too many watch this build".to_owned());
        }
        places.insert(place.to_owned());
        Ok(())
    }

    /// The builds whose end is waited for, and by whom.
    pub fn watched(&self) -> impl Iterator<Item = (BuildId, &BTreeSet<String>)> {
        self.watched.iter().map(|(build, places)| (BuildId(*build), places))
    }

    /// The end of a build was told.
    pub fn unwatch(&mut self, build: BuildId) {
        self.watched.remove(&build.0);
    }

    /// The modes without which somebody would not hear what they want.
    fn modes(&self) -> Vec<Mode> {
        let wanted: BTreeSet<Mode> =
            self.places().flat_map(|(_, events)| events.iter().filter_map(|it| it.mode())).collect();
        wanted.into_iter().collect()
    }
}

/// The wishes of one notifier, in memory and in the database.
pub struct WishBook {
    state: ListenerState,
    config: Arc<Irc>,
    wishes: Mutex<()>,
    current: watch::Sender<Arc<Wishes>>,
    modes: watch::Sender<Vec<Mode>>,
}

impl WishBook {
    /// Nothing is read before [`Self::load`].
    pub fn new(config: Arc<Irc>, state: ListenerState) -> Self {
        Self {
            state,
            config,
            wishes: Mutex::new(()),
            current: watch::Sender::new(Arc::default()),
            modes: watch::Sender::new(Vec::new()),
        }
    }

    /// Reads what is stored. What cannot be read any more is left out, with a warning.
    pub async fn load(&self) -> Result<(), DataError> {
        let _one = self.wishes.lock().await;
        let stored = self.state.load().await?.settings;
        let wishes = if stored.is_null() {
            Wishes::default()
        } else {
            serde_json::from_value(stored).unwrap_or_else(|error| {
                tracing::warn!(%error, "what was wished over IRC cannot be read and is forgotten");
                Wishes::default()
            })
        };
        self.publish(wishes);
        Ok(())
    }

    /// Changes what is kept; it is stored when this returns.
    ///
    /// # Errors
    /// What `change` says, or that it could not be stored; then nothing has changed.
    pub async fn change<T>(
        &self,
        change: impl FnOnce(&mut Wishes, &Irc) -> Result<T, String>,
    ) -> Result<T, String> {
        let _one = self.wishes.lock().await;
        let mut wishes = Wishes::clone(&self.now());
        let told = change(&mut wishes, &self.config)?;
        if wishes != *self.now() {
            let settings = serde_json::to_value(&wishes).map_err(|error| error.to_string())?;
            let record = greenroom_model::write::ListenerRecord { clock: None, settings };
            match tokio::time::timeout(STORE_WITHIN, self.state.save(record)).await {
                Ok(Ok(())) => self.publish(wishes),
                Ok(Err(error)) => return Err(format!("it could not be stored: {error}")),
                Err(_) => return Err("it could not be stored in time".to_owned()),
            }
        }
        Ok(told)
    }

    fn publish(&self, wishes: Wishes) {
        self.modes.send_replace(wishes.modes());
        self.current.send_replace(Arc::new(wishes));
    }

    /// What is wished now.
    pub fn now(&self) -> Arc<Wishes> {
        self.current.borrow().clone()
    }

    /// Follows what is wished.
    pub fn follow(&self) -> watch::Receiver<Arc<Wishes>> {
        self.current.subscribe()
    }

    /// Follows the modes that are wished.
    pub fn modes(&self) -> watch::Receiver<Vec<Mode>> {
        self.modes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel { name: name.to_owned(), key: None }
    }

    #[test]
    fn a_place_begins_with_what_is_configured() {
        let configured = BTreeSet::from([EventWord::Problem]);
        let mut wishes = Wishes::default();
        assert_eq!(wishes.events("#A", &configured), configured);
        assert!(wishes.modes().is_empty());
        wishes.set_events("#A", BTreeSet::from([EventWord::Started, EventWord::Recovery])).unwrap();
        assert_eq!(wishes.modes(), [Mode::Started, Mode::Change]);
        assert_eq!(wishes.events("#a", &configured).len(), 2);
        wishes.set_muted("#A", true).unwrap();
        assert!(wishes.muted("#a") && !wishes.muted("#b"));
        wishes.forget("#a");
        assert_eq!(wishes, Wishes::default());
    }

    #[test]
    fn channels_may_be_left_and_come_to() {
        let configured = [channel("#a"), channel("#b")];
        let names = |w: &Wishes| w.channels(&configured).into_iter().map(|c| c.name).collect::<Vec<_>>();
        let mut wishes = Wishes::default();
        wishes.leave("#A", &configured).unwrap();
        wishes.join("#c", &configured).unwrap();
        wishes.join("#b", &configured).unwrap();
        assert_eq!(names(&wishes), ["#b", "#c"]);
        assert!(wishes.leave("#x", &configured).is_err());
        wishes.join("#a", &configured).unwrap();
        wishes.leave("#c", &configured).unwrap();
        assert_eq!(names(&wishes), ["#a", "#b"]);
    }

    #[test]
    fn all_of_it_comes_back_from_the_database() {
        let mut wishes = Wishes::default();
        wishes.set_events("#a", BTreeSet::from([EventWord::parse("successToFailure").unwrap()])).unwrap();
        wishes.join("#c", &[]).unwrap();
        wishes.watch(BuildId(7), "ada").unwrap();
        let stored = serde_json::to_value(&wishes).unwrap();
        assert_eq!(serde_json::from_value::<Wishes>(stored).unwrap(), wishes);
    }

    #[test]
    fn everything_is_bounded() {
        let mut wishes = Wishes::default();
        let muted = (0..1_000).filter(|n| wishes.set_muted(&format!("#{n}"), true).is_ok()).count();
        let watched = (0..1_000).filter(|n| wishes.watch(BuildId(*n), "#a").is_ok()).count();
        let joined = (0..1_000).filter(|n| wishes.clone().join(&format!("#j{n}"), &[]).is_ok()).count();
        assert_eq!((muted, watched, joined), (MOST_PLACES, MOST_WATCHED, 1_000));
        let joined = (0..1_000)
            .filter(|n| {
                let mut tried = wishes.clone();
                let fine = tried.join(&format!("#j{n}"), &[]).is_ok();
                if fine {
                    wishes = tried;
                }
                fine
            })
            .count();
        assert_eq!(joined, MOST_CHANNELS);
    }
}
