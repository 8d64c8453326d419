//! What people ask for and what they are answered.
//!
//! | file | what it is about |
//! |---|---|
//! | `parse.rs` | from text to a [`Request`] |
//! | `look.rs` | answers from the state: `list`, `status`, `last`, `why` |
//! | `act.rs` | what changes the farm, through `Control`: `force`, `stop`, `rebuild`, `pause`, `unpause` |
//! | `place.rs` | what changes what is told here: `notify`, `watch`, `mute`, `join`, … |
//!
//! To add one: a variant of [`Request`] with its line in `USAGE`, a word of `IrcAct` if it changes something, an arm below.

mod act;
mod look;
mod parse;
mod place;

use std::collections::BTreeSet;
use std::sync::Arc;

use greenroom_config::mask::SharedMasks;
use greenroom_config::{Irc, IrcAct};
use greenroom_data::{Control, Hot, Ro};
use greenroom_model::Build;
use greenroom_runtime::Clock;

pub use parse::{Request, USAGE};

use super::announce::joined;
use super::authz;
use super::events::EventWord;
use super::text::{brief, plain};
use super::wishes::WishBook;
use crate::layer::AboutFarm;
use crate::notifier::links;
use crate::transport::Farm;

/// The most lines of one answer, whatever was asked.
pub const MOST_LINES: usize = 10;

/// What commands work with.
pub struct Desk {
    /// The notifier's name.
    pub notifier: String,
    /// Its settings.
    pub config: Arc<Irc>,
    /// The events of its configured modes.
    pub configured: BTreeSet<EventWord>,
    /// Reads the state.
    pub ro: Ro,
    /// Asks for acts, once bound to who asks.
    pub control: Control,
    /// Keeps wishes.
    pub book: Arc<WishBook>,
    /// Knows the force schedulers, and why requests wait.
    pub about: Arc<dyn AboutFarm>,
    /// For links.
    pub farm: Arc<Farm>,
    /// What must not be told.
    pub masks: SharedMasks,
    /// For how long ago something was.
    pub clock: Arc<dyn Clock>,
}

/// Who asks, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The services account, if it was needed and there is one.
    pub account: Option<String>,
    /// The nick at that moment.
    pub nick: String,
    /// The channel or nick where the answer goes.
    pub place: String,
}

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Lines for the place where it was asked.
    pub lines: Vec<String>,
    /// A channel to join or leave.
    pub membership: Option<Membership>,
}

/// A change of where we are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Membership {
    Join(String),
    Leave(String),
}

impl Answer {
    fn line(text: impl Into<String>) -> Self {
        Answer { lines: vec![text.into()], membership: None }
    }

    fn lines(lines: Vec<String>) -> Self {
        Answer { lines, membership: None }
    }
}

impl Desk {
    /// Answers a request. What it needs a permission for must have been allowed to the asker's account before, see
    /// [`Self::allowed`]; it is looked at here once more, so that no way leads around it.
    pub async fn answer(&self, request: Request, asker: &Asker) -> Answer {
        let allowed = request.act().map_or(Ok(()), |act| self.allowed(asker.account.as_deref(), act));
        let answered = match allowed {
            Err(no) => Err(no),
            Ok(()) => self.dispatch(request, asker).await,
        };
        let mut answer = answered.unwrap_or_else(Answer::line);
        let masks = self.masks.current();
        for line in &mut answer.lines {
            *line = masks.mask(line).into_owned();
        }
        if answer.lines.len() > MOST_LINES {
            answer.lines.truncate(MOST_LINES - 1);
            answer.lines.push(joined(&["… and more".to_owned(), plain(&self.farm.url)]));
        }
        answer
    }

    async fn dispatch(&self, request: Request, asker: &Asker) -> Result<Answer, String> {
        Ok(match request {
            Request::Help(command) => help(command.as_deref()),
            Request::Version => Answer::line(format!("Greenroom {}", env!("CARGO_PKG_VERSION"))),
            Request::List { what, all, rows } => Answer::lines(self.list(what, all, rows).await?),
            Request::Status(scope) => Answer::lines(self.status(scope).await?),
            Request::Last(scope) => Answer::lines(self.last(scope).await?),
            Request::Why(what) => Answer::lines(self.why_waits(&what).await?),
            Request::Watch(builder) => Answer::line(self.watch(&builder, &asker.place).await?),
            Request::Notify(notify) => Answer::line(self.notify(notify, &asker.place).await?),
            Request::Mute(channel) => self.mute(channel, &asker.place, true).await?,
            Request::Unmute(channel) => self.mute(channel, &asker.place, false).await?,
            Request::Join(channel) => self.join(&channel).await?,
            Request::Leave(channel) => self.leave(channel, &asker.place).await?,
            Request::Force(force) => Answer::line(self.force(force, asker).await?),
            Request::Stop { builder, number, reason } => {
                Answer::lines(self.stop(&builder, number, &reason, asker).await?)
            }
            Request::Rebuild { builder, number } => {
                Answer::line(self.rebuild(&builder, number, asker).await?)
            }
            Request::Pause { worker, reason } => {
                Answer::line(self.pause(&worker, true, &reason, asker).await?)
            }
            Request::Unpause(worker) => Answer::line(self.pause(&worker, false, "", asker).await?),
        })
    }

    /// Whether somebody with this account may do it; else what they are told.
    pub fn allowed(&self, account: Option<&str>, act: IrcAct) -> Result<(), String> {
        match account {
            Some(account) if authz::allows(&self.config, account, act) => Ok(()),
            Some(account) => Err(format!("the account {} may not do that", brief(account, 40))),
            None => Err("that needs a services account with a permission, and you are not logged in to one"
                .to_owned()),
        }
    }

    /// Whether any account may do it: if not there is no need to ask for one.
    pub fn anybody_may(&self, act: IrcAct) -> bool {
        self.config.authz.values().any(|acts| acts.contains(&act) || acts.contains(&IrcAct::All))
    }

    /// A page, such as `builders`.
    fn page(&self, path: &str) -> String {
        format!("{}{path}", plain(&self.farm.url))
    }

    /// The page of a build.
    fn build_page(&self, hot: &Hot, build: &Build) -> String {
        let builder = hot.builders.get(&build.builder.0);
        builder.map_or_else(String::new, |it| plain(&links::build(&self.farm, &it.name, build.number)))
    }
}

fn help(command: Option<&str>) -> Answer {
    let known = command.and_then(|word| USAGE.iter().find(|(known, ..)| *known == word));
    if let Some((word, arguments, about)) = known {
        let usage = format!("{word} {arguments}");
        let more =
            if *word == "notify" { format!("events: {}", EventWord::all_words()) } else { String::new() };
        return Answer::line(joined(&[format!("{}: {about}", usage.trim_end()), more]));
    }
    let words: Vec<&str> = USAGE.iter().map(|(word, ..)| *word).collect();
    Answer::line(format!("I understand {}. help COMMAND says more.", words.join(", ")))
}

/// A name in an answer.
fn named(name: &str) -> String {
    brief(name, 60)
}

/// `a, b and 998 more`; at most `rows`.
fn enumerate(names: Vec<String>, rows: usize) -> String {
    let more = names.len().saturating_sub(rows);
    let shown = names.into_iter().take(rows).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
