//! What a build is made of, and the one write that starts it.

use std::sync::Arc;

use greenroom_config::StepAction;
use greenroom_data::DataError;
use greenroom_model::write::{NewBuild, Outcome};
use greenroom_model::*;

use crate::handles::Handles;
use crate::properties::{self, Origins};
use crate::runner::WorkerPlace;
use crate::setup::{Began, Recipe, WorkerSetup};
use crate::steps::names::unique_names;

/// The name of the step that every build begins with.
pub(crate) const PREPARATION: &str = "worker_preparation";
/// The name of the log that a command's streams go to.
pub(crate) const STDIO: &str = "stdio";

/// A step of the recipe with its record. The recipe's step `i` is the build's step number `i + 1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedStep {
    pub id: StepId,
    pub name: String,
}

/// A step that is stored as started, with its log and the command that it is about to run (or runs).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Index in the recipe.
    pub index: usize,
    pub log: Option<LogId>,
    pub command: Option<String>,
    /// Whether the command may have been sent already, by an earlier birth.
    pub perhaps_sent: bool,
}

/// A build, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub build: Arc<Build>,
    /// The number of the configuration that it began with.
    pub configuration: i64,
    pub recipe: Arc<Recipe>,
    pub worker: Arc<WorkerSetup>,
    pub place: WorkerPlace,
    pub stamps: Vec<Arc<SourceStamp>>,
    pub properties: Properties,
    pub steps: Vec<PlannedStep>,
    /// The step that has begun.
    pub begun: Option<Begun>,
    /// Why the build cannot run at all.
    pub fault: Option<String>,
}

impl Plan {
    /// What the build keeps over its actor's births.
    pub fn began(&self) -> Began {
        let (recipe, worker) = (Arc::clone(&self.recipe), Arc::clone(&self.worker));
        Began { configuration: self.configuration, recipe, worker }
    }
}

/// Why a build was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The request is taken or done. Normal.
    #[error("the build request is claimed or complete")]
    ClaimLost,
    /// The worker went away.
    #[error("the worker is not connected")]
    WorkerGone,
    /// The data layer.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Claims a request and starts its build, in one write that also holds the preparation step, all steps of the recipe as
/// pending, and the begin of the first one with the id of its command.
pub(crate) async fn start_build(
    h: &Handles,
    id: BuildId,
    request: &BuildRequest,
    began: Began,
) -> Result<Plan, StartError> {
    let Began { configuration, recipe, worker } = began;
    let place = h.runner.place(worker.id).ok_or(StartError::WorkerGone)?;
    let buildset = buildset_of(h, request).await?;
    let given = h.buildset_properties(request.buildset).await?;
    let origins = Origins {
        configuration,
        recipe: &recipe,
        worker: &worker,
        place: &place,
        buildset: &buildset,
        given: &given,
    };
    let (properties, fault) = properties::assemble(&origins).await;
    let steps = plan_steps(h, &recipe).await?;

    let mut ops = vec![Op::StartBuild(Box::new(NewBuild {
        id,
        request: request.id,
        worker: worker.id,
        state_string: "building".to_owned(),
        properties: properties.clone(),
    }))];
    let begun = push_steps(h, id, &recipe, &steps, fault.is_none(), &mut ops).await?;
    let committed = match h.rw.write(ops).await {
        Err(DataError::Refused(Refusal::ClaimLost | Refusal::Final(_) | Refusal::NotFound(_))) => {
            return Err(StartError::ClaimLost);
        }
        other => other?,
    };
    let build = committed.outcomes.into_iter().find_map(|outcome| match outcome {
        Outcome::Build(build) => Some(build),
        _ => None,
    });
    let build = build.ok_or_else(|| DataError::unavailable("a build was started without an answer"))?;
    Ok(Plan {
        build,
        configuration,
        recipe,
        worker,
        place,
        stamps: buildset.sourcestamps.clone(),
        properties,
        steps,
        begun,
        fault,
    })
}

pub(crate) async fn buildset_of(h: &Handles, request: &BuildRequest) -> Result<Arc<Buildset>, DataError> {
    let shown = h.ro().get::<Buildset>(request.buildset.0).await?.value;
    shown
        .map(|shown| shown.entity)
        .ok_or_else(|| DataError::Refused(Refusal::NotFound(format!("buildset {}", request.buildset))))
}

async fn plan_steps(h: &Handles, recipe: &Recipe) -> Result<Vec<PlannedStep>, DataError> {
    let mut steps = Vec::with_capacity(recipe.config.steps.len());
    for name in step_names(recipe) {
        steps.push(PlannedStep { id: h.new_id().await?, name });
    }
    Ok(steps)
}

/// The names of the recipe's steps, as stored.
pub(crate) fn step_names(recipe: &Recipe) -> Vec<String> {
    let names = recipe.config.steps.iter().map(greenroom_config::Step::name);
    unique_names(std::iter::once(PREPARATION.to_owned()).chain(names)).split_off(1)
}

async fn push_steps(
    h: &Handles,
    build: BuildId,
    recipe: &Recipe,
    steps: &[PlannedStep],
    can_begin: bool,
    ops: &mut Vec<Op>,
) -> Result<Option<Begun>, DataError> {
    let preparation = h.new_id().await?;
    ops.push(Op::AddStep { id: preparation, build, number: 0, name: PREPARATION.to_owned(), hidden: false });
    ops.push(Op::StartStep { step: preparation, state_string: "preparing".to_owned() });
    // A shell command makes its own directory, so there is nothing left to prepare.
    let (results, state_string) = (Results::Success, "worker ready".to_owned());
    ops.push(Op::FinishStep { step: preparation, results, state_string, hidden: false });
    for (number, (step, config)) in (1..).zip(steps.iter().zip(&recipe.config.steps)) {
        let (name, hidden) = (step.name.clone(), config.options.hide);
        ops.push(Op::AddStep { id: step.id, build, number, name, hidden });
    }
    match (steps.first(), recipe.config.steps.first()) {
        // Whether a condition holds is found out by the run.
        (Some(step), Some(config))
            if can_begin && config.options.condition.is_none() && runs_commands(&config.action) =>
        {
            let (log, command) = (h.new_id().await?, h.command_id());
            ops.extend(begin_ops(step.id, log, &command));
            Ok(Some(Begun { index: 0, log: Some(log), command: Some(command), perhaps_sent: false }))
        }
        _ => Ok(None),
    }
}

/// The operations that begin a step that runs commands.
pub(crate) fn begin_ops(step: StepId, log: LogId, command: &str) -> [Op; 3] {
    [
        Op::StartStep { step, state_string: "running".to_owned() },
        Op::AddLog { id: log, step, name: STDIO.to_owned(), kind: LogKind::Stdio },
        Op::SetStepCommand { step, command: command.to_owned() },
    ]
}

/// Whether a step needs a worker command and a log.
pub(crate) fn runs_commands(action: &StepAction) -> bool {
    match action {
        StepAction::Shell(_) | StepAction::Git(_) => true,
        StepAction::SetProperty(step) => step.run.is_some(),
    }
}
