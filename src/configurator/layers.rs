//! The layers of a running master, as a new configuration reaches them.

use std::sync::Arc;

use greenroom_config::Settings;
use greenroom_config::mask::SharedMasks;
use greenroom_data::Ro;
use greenroom_link::{LinkLayer, LinkStartError, Prepared};
use greenroom_process::{Applied, ProcessLayer, StartupError};
use greenroom_runtime::Runtime;
use greenroom_status::StatusLayer;
use greenroom_www::{ConfigurationState, Www};
use tokio::sync::Mutex;

use crate::about::AboutMaster;

/// Who hears of a new configuration.
pub struct Layers {
    pub runtime: Runtime,
    pub ro: Ro,
    pub masks: SharedMasks,
    pub link: LinkLayer,
    /// None: the master stops.
    pub process: Arc<Mutex<Option<ProcessLayer>>>,
    pub status: StatusLayer,
    pub about: Arc<AboutMaster>,
    pub www: Www,
}

/// Why a configuration did not reach all layers.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It comes too late.
    #[error("the master is stopping")]
    Stopping,
    /// Schedulers and builders.
    #[error(transparent)]
    Process(#[from] StartupError),
}

impl Layers {
    /// Whatever can fail is done before anything is changed.
    ///
    /// # Errors
    /// If a new local worker cannot be prepared.
    pub async fn prepare(&self, settings: &Settings) -> Result<Prepared, LinkStartError> {
        self.link.prepare(&settings.workers).await
    }

    /// Brings a configuration to every layer; it is stored already. Doing so again finishes what was broken off.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn apply(
        &self,
        settings: &Arc<Settings>,
        prepared: Prepared,
        state: ConfigurationState,
    ) -> Result<Applied, ApplyError> {
        // first, so that nothing new is ever shown
        self.masks.add(&settings.secrets);
        self.runtime.set_policies((&settings.supervision).into());
        let process = self.process.lock().await;
        let process = process.as_ref().ok_or(ApplyError::Stopping)?;
        let applied = process.apply(Arc::clone(settings), state.number).await?;
        self.link.apply(prepared);
        self.about.apply(Arc::clone(settings));
        self.status.apply(settings).await;
        self.www.apply(Arc::clone(settings), state);
        Ok(applied)
    }

    /// Tells pages and probes how the last reload went.
    pub fn tell(&self, settings: &Arc<Settings>, state: ConfigurationState) {
        self.www.apply(Arc::clone(settings), state);
    }
}
