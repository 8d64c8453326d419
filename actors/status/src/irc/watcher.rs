//! Tells the end of builds that somebody asked to `watch`. Which they are is kept with the other wishes; so a build that ended while
//! we were away is told afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use greenroom_config::Notifier;
use greenroom_config::mask::SharedMasks;
use greenroom_data::{DataError, Delivery, Ro, Subscription};
use greenroom_model::{Build, BuildId, Pattern};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::announce::Style;
use super::connection::say;
use super::driver::{Order, Status};
use super::wishes::WishBook;
use crate::notice::BuildEvent;
use crate::notifier::enrich::Enrich;
use crate::notifier::facts::Facts;
use crate::transport::Farm;

/// How long to wait before trying again what could not be done.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone)]
pub struct Watcher {
    /// Reads and follows.
    pub ro: Ro,
    /// Where watched builds are kept.
    pub book: Arc<WishBook>,
    /// Whose messages they are.
    pub notifier: Arc<Notifier>,
    /// Who speaks.
    pub farm: Arc<Farm>,
    /// What must not be told.
    pub masks: SharedMasks,
    /// How lines look.
    pub style: Style,
}

impl Watcher {
    /// Runs for ever.
    pub async fn run(self, orders: mpsc::Sender<Order>, mut status: watch::Receiver<Status>) {
        let mut wishes = self.book.follow();
        loop {
            let watching = wishes.wait_for(|it| it.watched().next().is_some()).await.is_ok();
            if !watching || status.wait_for(|it| it.settled).await.is_err() {
                return;
            }
            if let Err(why) = self.follow(&orders, &mut wishes).await {
                tracing::debug!(%why, "watching builds is tried again");
                sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Until nothing is watched any more, or something cannot be done now.
    async fn follow(
        &self,
        orders: &mpsc::Sender<Order>,
        wishes: &mut watch::Receiver<Arc<super::wishes::Wishes>>,
    ) -> Result<(), String> {
        // Following begins before looking, so that no end falls between.
        let mut ends = self.subscribe().await.map_err(|error| error.to_string())?;
        loop {
            let watched: BTreeMap<BuildId, Vec<String>> = wishes
                .borrow_and_update()
                .watched()
                .map(|(build, places)| (build, places.iter().cloned().collect()))
                .collect();
            if watched.is_empty() {
                return Ok(());
            }
            for (build, places) in watched {
                self.look(build, places, orders).await?;
            }
            tokio::select! {
                _ = wishes.changed() => {}
                delivery = ends.next() => {
                    if matches!(delivery, Delivery::Ended(_)) {
                        ends = self.subscribe().await.map_err(|error| error.to_string())?;
                    }
                }
            }
        }
    }

    async fn subscribe(&self) -> Result<Subscription, DataError> {
        self.ro.subscribe(vec![Pattern::parse("builds/*/finished")], None).await
    }

    /// Tells of a build if it has ended.
    async fn look(
        &self,
        build: BuildId,
        places: Vec<String>,
        orders: &mpsc::Sender<Order>,
    ) -> Result<(), String> {
        let found = self.ro.get::<Build>(build.0).await.map_err(|error| error.to_string())?.value;
        if found.as_ref().is_some_and(|it| it.complete_at.is_none()) {
            return Ok(());
        }
        if let Some(line) = self.line(found.map(|it| it.entity)).await.map_err(|error| error.to_string())? {
            let lines = places.into_iter().map(|place| (place, vec![line.clone()])).collect();
            say(orders.clone(), lines).await.map_err(|error| error.to_string())?;
        }
        self.book
            .change(|wishes, _| {
                wishes.unwatch(build);
                Ok(())
            })
            .await
    }

    /// What is said; none of a build that is no more.
    async fn line(&self, build: Option<Arc<Build>>) -> Result<Option<String>, DataError> {
        let Some(build) = build else { return Ok(None) };
        let Some(facts) = Facts::read(&self.ro, &build).await? else { return Ok(None) };
        let enrich =
            Enrich { ro: &self.ro, notifier: &self.notifier, farm: &self.farm, masks: self.masks.current() };
        let notice = enrich.build(&facts, BuildEvent::Finished).await?;
        Ok(Some(self.style.build(&notice)))
    }
}
