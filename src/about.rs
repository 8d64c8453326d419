//! What the status layer is told of this master: its settings, and why requests wait.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_config::Settings;
use greenroom_model::BuildRequestId;
use greenroom_process::{Distributor, WhyWaiting};
use greenroom_runtime::Front;
use greenroom_status::AboutFarm;

/// See the module.
pub struct AboutMaster {
    settings: ArcSwap<Settings>,
    distributor: Front<Distributor>,
}

impl AboutMaster {
    /// With the settings in force and whoever knows the queue.
    pub fn new(settings: Arc<Settings>, distributor: Front<Distributor>) -> Self {
        Self { settings: ArcSwap::new(settings), distributor }
    }

    /// Other settings are in force.
    pub fn apply(&self, settings: Arc<Settings>) {
        self.settings.store(settings);
    }
}

impl AboutFarm for AboutMaster {
    fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    fn why_waits(&self, request: BuildRequestId) -> BoxFuture<'static, Option<String>> {
        let distributor = self.distributor.clone();
        async move { distributor.ask(WhyWaiting(request)).await.ok().flatten() }.boxed()
    }
}
