//! Puts the parts of an IRC notifier together.

use std::collections::BTreeSet;
use std::sync::Arc;

use greenroom_config::Irc;
use greenroom_runtime::ChildSpec;
use tokio::sync::watch;

use super::announce::Style;
use super::commands::Desk;
use super::connection::{IrcConnection, Parts};
use super::events::EventWord;
use super::transport::IrcTransport;
use super::watcher::Watcher;
use super::wishes::WishBook;
use crate::kinds::Context;
use crate::transport::{MakeTransport, Transport};

/// Starts the connection, which waits until this master runs the notifier; gives what makes the transport over it.
pub(crate) fn start(context: &Context, irc: &Irc) -> MakeTransport {
    let config = Arc::new(irc.clone());
    let mut configured: BTreeSet<EventWord> =
        context.notifier.modes().into_iter().map(EventWord::of_mode).collect();
    if context.notifier.options.worker_missing.is_some() {
        configured.insert(EventWord::Worker);
    }
    let book = Arc::new(WishBook::new(config.clone(), context.own_state.clone()));
    let desk = Arc::new(Desk {
        notifier: context.name.clone(),
        config,
        configured,
        ro: context.ro.clone(),
        control: context.control.clone(),
        book: book.clone(),
        about: context.about.clone(),
        farm: context.farm.clone(),
        masks: context.masks.clone(),
        clock: context.supervisor.runtime().clock(),
    });
    let watcher = Watcher {
        ro: context.ro.clone(),
        book,
        notifier: Arc::new(context.notifier.clone()),
        farm: context.farm.clone(),
        masks: context.masks.clone(),
        style: Style { colors: irc.colors },
    };
    let parts = Arc::new(Parts {
        desk,
        watcher,
        status: Arc::default(),
        claims: watch::Sender::new(watch::channel(false).1),
    });
    let spec = ChildSpec::new(format!("irc/{}", context.name)).permanent();
    let for_births = parts.clone();
    let front = context.supervisor.spawn(spec, move |birth| IrcConnection::new(birth, for_births.clone()));
    Arc::new(move || Ok(Box::new(IrcTransport::new(parts.clone(), front.clone())) as Box<dyn Transport>))
}
