//! What every actor of this layer is given at birth: the way to the data layer, to the workers, and to the configuration.

use std::sync::Arc;
use std::time::Duration;

use greenroom_data::{DataError, Ro, Rw};
use greenroom_model::*;
use greenroom_runtime::Runtime;

use crate::builds::BuildBook;
use crate::outside::Outside;
use crate::properties::shelf::Shelf;
use crate::runner::CommandRunner;
use crate::setup::{Setup, Setups};

/// How often ids, clocks and the like are looked at again when the data layer is behind.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How long to wait for the published state to contain a write of ours.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// Shared, immutable handles. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handles(Arc<Inner>);

pub(crate) struct Inner {
    pub rw: Rw,
    pub runner: Arc<dyn CommandRunner>,
    pub outside: Arc<dyn Outside>,
    pub runtime: Runtime,
    pub setups: Setups,
    pub builds: BuildBook,
    pub properties: Shelf,
}

impl std::ops::Deref for Handles {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Handles {
    pub fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    pub fn ro(&self) -> &Ro {
        self.rw.ro()
    }

    pub fn me(&self) -> MasterId {
        self.rw.ro().me()
    }

    /// The configuration in force.
    pub fn setup(&self) -> Arc<Setup> {
        self.setups.now()
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.runtime.now_micros())
    }

    /// A new id, also when the ids reserved ahead are used up for a moment.
    pub async fn new_id<I: AllocatedId>(&self) -> Result<I, DataError> {
        new_id(&self.rw).await
    }

    /// A new worker command's id: 128 random bits.
    pub fn command_id(&self) -> String {
        let dice = self.runtime.dice();
        format!("{:016x}{:016x}", dice.next_u64(), dice.next_u64())
    }

    /// Writes, however long the data layer is away. Only a refusal or the loss of this master's place ends it.
    pub async fn persist(&self, ops: Vec<Op>) -> Result<Committed, DataError> {
        let write = self.rw.prepare(ops);
        loop {
            match self.rw.commit(&write).await {
                Err(DataError::Unavailable { why, retry_after }) => {
                    tracing::warn!(%why, "a write waits for the data layer");
                    tokio::time::sleep(retry_after).await;
                    // an actor that handles nothing else meanwhile waits for a good reason
                    greenroom_runtime::still_alive();
                }
                other => return other,
            }
        }
    }

    /// The properties of a buildset.
    pub async fn buildset_properties(&self, buildset: BuildsetId) -> Result<Arc<Properties>, DataError> {
        match self.properties.get(buildset) {
            Some(properties) => Ok(properties),
            None => Ok(self.ro().buildset_properties(buildset).await?.value.unwrap_or_default()),
        }
    }

    /// Waits until the published state contains a write.
    pub async fn settle(&self, committed: &Committed) -> Result<(), DataError> {
        settle(self.ro(), committed).await
    }

    /// To be awaited by an actor that is born *again*, before it reads the truth: when this answers, every write that
    /// its dead predecessor may have left under way has happened or never will, and is in the published state.
    /// (Writes are committed in the order of their arrival, so one that comes after them is a barrier.)
    pub async fn barrier(&self) -> Result<(), DataError> {
        let committed = self.persist(vec![Op::Heartbeat]).await?;
        self.settle(&committed).await
    }
}

pub(crate) async fn new_id<I: AllocatedId>(rw: &Rw) -> Result<I, DataError> {
    loop {
        match rw.new_id() {
            Err(DataError::Unavailable { .. }) => tokio::time::sleep(LOOK_AGAIN).await,
            other => return other,
        }
    }
}

pub(crate) async fn settle(ro: &Ro, committed: &Committed) -> Result<(), DataError> {
    let (master, seq) = committed.at;
    let look = async {
        while !ro.hot().clock.contains(master, seq) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(SETTLED_WITHIN, look)
        .await
        .map_err(|_| DataError::unavailable("the published state does not follow the writes"))
}
