//! Starting the layer, giving it another configuration, and the two phases of a stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;
use greenroom_config::Settings;
use greenroom_data::{DataError, Rw};
use greenroom_model::*;
use greenroom_runtime::{
    AskError, ChildSpec, Front, Restart, StopOrder, Supervised, Supervisor, SupervisorSpec,
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::builders::{BuilderActor, Distributor};
use crate::builds::{BuildActor, BuildBook};
use crate::change_sources::GitPoller;
use crate::claims::release_all;
use crate::components::{Components, Wanted};
use crate::control_desk::ControlDesk;
use crate::handles::{Handles, Inner};
use crate::messages::{AbandonBuild, Reconfigure, StopClaiming, Stranded};
use crate::outside::Outside;
use crate::properties::shelf::Shelf;
use crate::recovery::recover;
use crate::runner::CommandRunner;
use crate::schedulers::{AnyBranch, ForceScheduler, SingleBranch};
use crate::setup::{Setup, Setups};
use crate::takeover::Takeover;

/// How long the sources of work may take to stop, before builds are waited for.
const INTAKE_GRACE: Duration = Duration::from_secs(5);
/// How long builds that are given up may take to store that.
const ABANDON_GRACE: Duration = Duration::from_secs(5);

/// How often the distributor is told of a configuration while it is away, and the pause between.
const RECONFIGURE_TRIES: u32 = 100;
const RECONFIGURE_AGAIN: Duration = Duration::from_millis(50);

/// What the layer needs to start.
pub struct ProcessOptions {
    /// The configuration, stored already ([`configure`](crate::configure)).
    pub settings: Arc<Settings>,
    /// Its number, which builds record.
    pub configuration: i64,
    /// The way to the data layer.
    pub rw: Rw,
    /// The way to the workers.
    pub runner: Arc<dyn CommandRunner>,
    /// Who carries out acts on what lives outside this layer.
    pub outside: Arc<dyn Outside>,
    /// The supervisor that this layer's own supervisor becomes a child of.
    pub parent: Supervisor,
    /// Where pollers keep their mirrors.
    pub data_dir: PathBuf,
    /// Where pollers run: they wait for other systems, so not beside builds. None: where the parent's children run.
    pub polling: Option<ArbiterHandle>,
}

/// Why the layer could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The data layer.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Something of the configuration is not stored.
    #[error("the {what} `{name}` is not stored: the configuration must be stored before this layer starts")]
    NotStored {
        /// Which kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

/// A row of this layer's part of the supervision tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The supervisor.
    pub supervisor: &'static str,
    /// Names of its children; `*` stands for a name or number.
    pub name: &'static str,
    /// Their kind, as in `[supervision.kinds]`.
    pub kind: &'static str,
    /// When they are born again.
    pub restart: Restart,
}

/// The supervision tree of this layer, in the order of starting; it is stopped from the end.
pub const TREE: &[Row] = &[
    row::<BuildActor>("builds", "build/*", Restart::Transient),
    row::<BuilderActor>("builders", "builder/*", Restart::Permanent),
    row::<Distributor>("builders", "distributor", Restart::Permanent),
    row::<SingleBranch>("schedulers", "scheduler/*", Restart::Permanent),
    row::<AnyBranch>("schedulers", "scheduler/*", Restart::Permanent),
    row::<ForceScheduler>("schedulers", "scheduler/*", Restart::Permanent),
    row::<GitPoller>("change-sources", "change-source/*", Restart::Permanent),
    row::<ControlDesk>("process", "control-desk", Restart::Permanent),
    row::<Takeover>("process", "takeover", Restart::Permanent),
];

const fn row<A: Supervised>(supervisor: &'static str, name: &'static str, restart: Restart) -> Row {
    Row { supervisor, name, kind: A::KIND, restart }
}

/// What a stop did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopSummary {
    /// Builds that ended by themselves within the grace.
    pub finished: usize,
    /// Builds that did not, by name; they end as retry.
    pub abandoned: Vec<String>,
    /// Actors that did not end in order.
    pub cut_off: Vec<String>,
}

/// The running layer.
pub struct ProcessLayer {
    h: Handles,
    supervisor: Supervisor,
    components: Components,
    distributor: Front<Distributor>,
}

/// What a new configuration leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Requests that wait for builders that are not configured any more.
    pub stranded: Vec<Stranded>,
}

impl ProcessLayer {
    /// Ends what an earlier life of this master left unfinished, then starts every actor of the layer.
    ///
    /// # Errors
    /// When the data layer fails, or the configuration is not stored.
    pub async fn start(options: ProcessOptions) -> Result<Self, StartupError> {
        let ProcessOptions { settings, configuration, rw, runner, outside, parent, data_dir, polling } =
            options;
        let hot = rw.ro().hot();
        let setup = Setup::new(configuration, settings, &hot, None)?;
        let wanted = Wanted::of(&setup, &hot)?;
        let setups = Setups::new(setup);
        let (runtime, builds, properties) = (parent.runtime(), BuildBook::default(), Shelf::default());
        let h = Handles::new(Inner { rw, runner, outside, runtime, setups, builds, properties });
        recover(&h).await?;

        let supervisor = parent.supervisor(SupervisorSpec::new("process").group());
        let builds = SupervisorSpec::new("builds").stop_order(StopOrder::Together);
        h.builds.set_supervisor(supervisor.supervisor(builds.intensity(100, Duration::from_secs(60))));
        let builders = supervisor.supervisor(SupervisorSpec::new("builders").group());
        let together = |name: &str| SupervisorSpec::new(name).stop_order(StopOrder::Together);
        let schedulers = supervisor.supervisor(together("schedulers"));
        let mut sources = together("change-sources");
        if let Some(polling) = polling {
            sources = sources.arbiter(polling);
        }
        let sources = supervisor.supervisor(sources);
        let components = Components::new(builders.clone(), schedulers, sources, data_dir);
        components.start_builders(&h, &wanted).await;
        let for_distributor = h.clone();
        let distributor = builders.spawn(ChildSpec::new("distributor"), move |birth| {
            Distributor::new(for_distributor.clone(), birth.clone())
        });
        components.put_schedulers(&h, &wanted).await;
        components.put_sources(&h, &wanted).await;
        let (for_desk, owners) = (h.clone(), Arc::clone(&components.owners));
        supervisor.spawn(ChildSpec::new("control-desk"), move |birth| {
            ControlDesk::new(for_desk.clone(), birth.clone(), Arc::clone(&owners))
        });
        let for_takeover = h.clone();
        supervisor.spawn(ChildSpec::new("takeover"), move |birth| {
            Takeover::new(for_takeover.clone(), birth.clone())
        });
        Ok(Self { h, supervisor, components, distributor })
    }

    /// Puts another configuration in force, which is stored already ([`configure`](crate::configure)): what it changes is
    /// started, stopped or started again, everything else goes on undisturbed, and so do all builds that run. Asking again
    /// for the same configuration finishes what an earlier asking did not.
    ///
    /// # Errors
    /// If something of it is not stored; then nothing was changed.
    pub async fn apply(&self, settings: Arc<Settings>, configuration: i64) -> Result<Applied, StartupError> {
        let hot = self.h.ro().hot();
        let setup = Setup::new(configuration, settings, &hot, Some(&*self.h.setup()))?;
        let wanted = Wanted::of(&setup, &hot)?;
        self.h.setups.replace(setup);
        self.components.start_builders(&self.h, &wanted).await;
        let stranded = self.reconfigure_distributor().await;
        self.components.put_schedulers(&self.h, &wanted).await;
        self.components.put_sources(&self.h, &wanted).await;
        self.components.stop_builders(&wanted).await;
        Ok(Applied { stranded })
    }

    /// The distributor takes up the configuration in force. One that is born again does so by itself.
    async fn reconfigure_distributor(&self) -> Vec<Stranded> {
        let mut patience = RECONFIGURE_TRIES;
        loop {
            match self.distributor.ask(Reconfigure).await {
                Ok(stranded) => return stranded,
                Err(AskError::Stopped) => return Vec::new(),
                Err(error) if patience == 0 => {
                    tracing::warn!(%error, "the distributor was not told of the configuration");
                    return Vec::new();
                }
                Err(_) => {
                    patience -= 1;
                    sleep(RECONFIGURE_AGAIN).await;
                }
            }
        }
    }

    /// The distributor, to be asked why a request waits.
    pub fn distributor(&self) -> Front<Distributor> {
        self.distributor.clone()
    }

    /// Stops in two phases: nothing new is taken in or claimed; builds that run have `grace` to end; those that do not are
    /// interrupted and end as retry, and are named.
    pub async fn stop(self, grace: Duration) -> StopSummary {
        let until = Instant::now() + grace;
        let mut summary = StopSummary::default();
        for intake in [&self.components.sources, &self.components.schedulers] {
            let report = intake.stop(Some(INTAKE_GRACE)).await;
            summary.cut_off.extend(report.cut_off.into_iter().map(|it| it.name));
        }
        // Not only with the end of the builds: others may go on at once.
        if let Err(error) = release_all(&self.h).await {
            tracing::warn!(%error, "schedulers and change sources are given up only with the end of this master");
        }
        if let Err(error) = self.distributor.ask_within(INTAKE_GRACE, StopClaiming).await {
            tracing::debug!(%error, "the distributor is gone before the stop");
        }
        let running = self.h.builds.all();
        let mut left = Vec::new();
        for (id, front) in running {
            match timeout_at(until, front.wait_ended()).await {
                Ok(_) => summary.finished += 1,
                Err(_) => left.push((id, front)),
            }
        }
        for (id, front) in &left {
            summary.abandoned.push(self.name_of(*id));
            if let Err(error) = front.tell(AbandonBuild { why: "the master stops".to_owned() }) {
                tracing::debug!(build.id = id.0, %error, "a build ended before it was given up");
            }
        }
        let until = Instant::now() + ABANDON_GRACE;
        for (_, front) in &left {
            // one that does not store its end in time is ended at the next start
            let _ = timeout_at(until, front.wait_ended()).await;
        }
        let report = self.supervisor.stop(Some(INTAKE_GRACE)).await;
        summary.cut_off.extend(report.cut_off.into_iter().map(|it| it.name));
        summary
    }

    fn name_of(&self, id: BuildId) -> String {
        let hot = self.h.ro().hot();
        let build = hot.builds.get(&id.0);
        let builder = build.and_then(|it| hot.builders.get(&it.builder.0));
        match (build, builder) {
            (Some(build), Some(builder)) => format!("{} #{}", builder.name, build.number),
            _ => format!("build {id}"),
        }
    }
}
