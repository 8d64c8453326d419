//! The layer's life: a notifier for each `[notifiers.NAME]`, started, exchanged when its settings change, stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use greenroom_config::mask::SharedMasks;
use greenroom_config::{self as config, Settings};
use greenroom_data::{Control, DataError, ListenerState, Ro};
use greenroom_model::{BuildRequestId, DeliveryId, Notifier as Row, Query};
use greenroom_runtime::{ChildSpec, CutOff, Front, StopOrder, Supervisor, SupervisorSpec};
use tokio::sync::Mutex;

use crate::kinds::{self, Context};
use crate::notifier::{Notifier, Plan, SendTest};
use crate::transport::{Farm, MakeTransport};

/// How long the note that a notifier is gone may take.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);
/// How long a trial message may take to be stored.
const TEST_WITHIN: Duration = Duration::from_secs(8);

/// What commands of people need to know of the farm beyond its stored state.
pub trait AboutFarm: Send + Sync + 'static {
    /// The settings that hold now.
    fn settings(&self) -> Arc<Settings>;

    /// Why a build request waits, for people; none if it does not wait.
    fn why_waits(&self, request: BuildRequestId) -> BoxFuture<'static, Option<String>>;
}

/// Gives the stored state of a name.
pub type MakeState = Arc<dyn Fn(&str) -> ListenerState + Send + Sync>;

/// What the layer stands on.
#[derive(Clone)]
pub struct StatusOptions {
    /// Reads and follows.
    pub ro: Ro,
    /// For commands, bound per call to who spoke.
    pub control: Control,
    /// The outbox and clock of a notifier, by its name.
    pub state: MakeState,
    /// What a kind of notifier keeps for itself, by a name of its own.
    pub own_state: MakeState,
    /// What must not be told.
    pub masks: SharedMasks,
    /// What commands need to know.
    pub about: Arc<dyn AboutFarm>,
    /// The supervisor above; its arbiter is where notifiers run.
    pub parent: Supervisor,
}

/// The notifiers that run here. Cheap to clone.
#[derive(Clone)]
pub struct StatusLayer(Arc<Inner>);

struct Inner {
    options: StatusOptions,
    supervisor: Supervisor,
    running: Mutex<BTreeMap<String, Running>>,
    /// Instead of the real transports, for tests.
    transports: Option<TestTransports>,
}

/// Makes the transport of a notifier, by its name.
pub type TestTransports = Arc<dyn Fn(&str) -> MakeTransport + Send + Sync>;

struct Running {
    notifier: config::Notifier,
    farm: Arc<Farm>,
    supervisor: Supervisor,
    front: Front<Notifier>,
}

/// Why a trial message was not even tried.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// There is no such notifier here.
    #[error("there is no notifier {0}")]
    Unknown(String),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
}

impl StatusLayer {
    /// Starts a notifier for each that is configured.
    pub async fn start(options: StatusOptions, settings: &Settings) -> Self {
        Self::start_over(options, settings, None).await
    }

    /// As [`StatusLayer::start`], with other transports. For tests.
    pub async fn start_over(
        options: StatusOptions,
        settings: &Settings,
        transports: Option<TestTransports>,
    ) -> Self {
        let spec = SupervisorSpec::new("notifiers").stop_order(StopOrder::Together);
        let supervisor = options.parent.supervisor(spec);
        let running = Mutex::new(BTreeMap::new());
        let layer = Self(Arc::new(Inner { options, supervisor, running, transports }));
        layer.release_stale(settings).await;
        layer.apply(settings).await;
        layer
    }

    /// Makes what runs that of the settings: only notifiers that changed are started anew. What waits in their outboxes waits on.
    pub async fn apply(&self, settings: &Settings) {
        let farm = Arc::new(Farm {
            title: settings.master.title.clone(),
            url: settings.master.url.as_str().to_owned(),
        });
        let mut running = self.0.running.lock().await;
        let names: Vec<String> = running.keys().cloned().collect();
        for name in names {
            let wanted = settings.notifiers.get(&name);
            let stays = |it: &Running| wanted == Some(&it.notifier) && it.farm == farm;
            if running.get(&name).is_some_and(stays) {
                continue;
            }
            if let Some(old) = running.remove(&name) {
                old.supervisor.stop(None).await;
            }
            if wanted.is_none() {
                self.release(&name).await;
            }
        }
        for (name, notifier) in &settings.notifiers {
            if !running.contains_key(name) {
                let started = self.begin(name, notifier, &farm);
                running.insert(name.clone(), started);
            }
        }
    }

    fn begin(&self, name: &str, notifier: &config::Notifier, farm: &Arc<Farm>) -> Running {
        let options = &self.0.options;
        let supervisor = self.0.supervisor.supervisor(SupervisorSpec::new(format!("notifiers/{name}")));
        let make = match &self.0.transports {
            Some(transports) => transports(name),
            None => kinds::transport(Context {
                name: name.to_owned(),
                notifier: notifier.clone(),
                farm: farm.clone(),
                ro: options.ro.clone(),
                control: options.control.clone(),
                own_state: (options.own_state)(&format!("{}/{name}", notifier.kind())),
                masks: options.masks.clone(),
                about: options.about.clone(),
                supervisor: supervisor.clone(),
            }),
        };
        let plan = Arc::new(Plan {
            name: name.to_owned(),
            notifier: notifier.clone(),
            modes: notifier.modes(),
            farm: farm.clone(),
            masks: options.masks.clone(),
        });
        let state = (options.state)(name);
        let spec = ChildSpec::new(format!("notifier/{name}")).permanent();
        let front = supervisor
            .spawn(spec, move |birth| Notifier::new(birth, plan.clone(), state.clone(), make.clone()));
        Running { notifier: notifier.clone(), farm: farm.clone(), supervisor, front }
    }

    /// Notes for those that were configured here and are no more.
    async fn release_stale(&self, settings: &Settings) {
        let options = &self.0.options;
        let mine = Query::default().eq("masterid", options.ro.me().0);
        match options.ro.list::<Row>(mine).await {
            Ok(page) => {
                let stale = page.value.items.into_iter().map(|it| it.name.clone());
                for name in stale.filter(|it| !settings.notifiers.contains_key(it)) {
                    self.release(&name).await;
                }
            }
            Err(error) => tracing::warn!(%error, "the stored notifiers could not be read"),
        }
    }

    async fn release(&self, name: &str) {
        if let Err(error) = (self.0.options.state)(name).release(RELEASE_WITHIN).await {
            tracing::warn!(notifier.name = name, %error, "that a notifier is gone could not be stored");
        }
    }

    /// Sends a trial message through a notifier. Answers when it is in the outbox; its delivery tells the rest.
    ///
    /// # Errors
    /// If there is no such notifier here, or the message could not be stored in time.
    pub async fn test(&self, name: &str, by: &str) -> Result<DeliveryId, TestError> {
        let front = self.0.running.lock().await.get(name).map(|it| it.front.clone());
        let front = front.ok_or_else(|| TestError::Unknown(name.to_owned()))?;
        let asked = front.ask_within(TEST_WITHIN, SendTest { by: by.to_owned() }).await;
        let sent: Result<DeliveryId, DataError> =
            asked.map_err(|error| TestError::Unavailable(error.to_string()))?;
        sent.map_err(|error| TestError::Unavailable(error.to_string()))
    }

    /// Stops all; what is being sent may end. Says who was cut off.
    pub async fn stop(&self, within: Option<Duration>) -> Vec<CutOff> {
        self.0.supervisor.stop(within).await.cut_off
    }
}
