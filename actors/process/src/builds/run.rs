//! The run of a build: one straight line from its first step to its stored result.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use greenroom_config::{Step as StepConfig, StepAction};
use greenroom_data::{DataError, Journal};
use greenroom_model::*;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::builds::plan::{Begun, Plan, begin_ops, runs_commands};
use crate::builds::tally::{Interruption, Rules, Tally};
use crate::handles::Handles;
use crate::properties::{builder_view, source, worker_view};
use crate::runner::{CommandEnd, CommandOrder, Finished, NotStarted, WorkerCommand};
use crate::steps::render::View;
use crate::steps::{StepEnd, git, render, set_property, shell};

/// How long a command may take to end after it was interrupted.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(60);
/// The same when the master itself is about to stop.
const ABANDON_PATIENCE: Duration = Duration::from_secs(2);
/// A command that takes longer lets what was held back for the next write be stored meanwhile.
const SHOWN_AFTER: Duration = Duration::from_millis(100);

/// Why a run ended without a result of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Somebody else has ended the build.
    #[error("the build has ended already")]
    Ended,
    /// The data layer.
    #[error(transparent)]
    Data(#[from] DataError),
}

pub(crate) type Result<T, E = RunError> = std::result::Result<T, E>;

/// What a run is told from outside: counted, so that each interruption is taken once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders {
    pub serial: u32,
    pub interruption: Option<Interruption>,
}

/// What a run shows of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub step: Option<String>,
    pub commands: u64,
}

/// How a worker command ended, from the step's view.
#[derive(Debug)]
pub(crate) enum CommandResult {
    /// By itself.
    Finished(Finished),
    /// Broken off.
    Interrupted(Interruption),
    /// The worker is lost.
    Lost(String),
}

/// A running build.
pub(crate) struct Run {
    pub(crate) h: Handles,
    pub(crate) plan: Plan,
    journal: Journal,
    /// Operations that go with the next awaited write.
    held: Vec<Op>,
    /// Commands whose end will be stored by that write.
    to_forget: Vec<String>,
    tally: Tally,
    orders: watch::Receiver<Orders>,
    seen: u32,
    deadline: Option<Instant>,
    progress: Rc<RefCell<Progress>>,
}

impl Run {
    pub fn new(
        h: Handles,
        plan: Plan,
        tally: Tally,
        orders: watch::Receiver<Orders>,
        progress: Rc<RefCell<Progress>>,
    ) -> Self {
        let deadline = plan.recipe.config.options.max_time.map(|max| {
            let past = h.now().micros_since(plan.build.started_at);
            let past = Duration::from_micros(u64::try_from(past).unwrap_or(0)).min(max.get());
            Instant::now() + (max.get() - past)
        });
        let journal = h.rw.journal();
        let (held, to_forget) = (Vec::new(), Vec::new());
        Self { h, plan, journal, held, to_forget, tally, orders, seen: 0, deadline, progress }
    }

    /// Runs the steps from index `from` on and stores the result.
    pub async fn go(mut self, from: usize) -> Result<Results> {
        self.set_property("buildnumber", json!(self.plan.build.number), source::BUILD);
        if let Some(fault) = self.plan.fault.clone() {
            self.tally.add(Rules::of_machinery(), "properties", &StepEnd::exception(fault));
        }
        for index in from..self.plan.steps.len() {
            let recipe = Arc::clone(&self.plan.recipe);
            let Some(config) = recipe.config.steps.get(index) else { break };
            let begun = self.plan.begun.take_if(|begun| begun.index == index);
            if begun.is_none() && !self.may_run(config) {
                self.skip(index, "not run");
                continue;
            }
            if begun.is_none()
                && let Some(condition) = &config.options.condition
            {
                match render::condition(self.view(), condition.clone()).await {
                    Ok(true) => {}
                    Ok(false) => {
                        self.skip(index, "skipped: its condition is false");
                        continue;
                    }
                    Err(why) => {
                        self.fail(index, config, &StepEnd::exception(why));
                        continue;
                    }
                }
            }
            self.step(index, config, begun).await?;
        }
        self.finish().await
    }

    fn may_run(&mut self, config: &StepConfig) -> bool {
        if let Some(interruption) = self.take_order() {
            self.tally.interrupt(&interruption);
        }
        self.tally.lets_run(config.options.always_run)
    }

    /// The end of a step that could not even begin.
    fn fail(&mut self, index: usize, config: &StepConfig, end: &StepEnd) {
        let step = self.plan.steps[index].id;
        self.held.push(Op::StartStep { step, state_string: "running".to_owned() });
        let (results, state_string) = (end.results, end.text.clone());
        self.held.push(Op::FinishStep { step, results, state_string, hidden: config.options.hide });
        let name = self.plan.steps[index].name.clone();
        self.tally.add(Rules::of(config), &name, end);
    }

    fn skip(&mut self, index: usize, why: &str) {
        if self.tally.is_over() {
            return;
        }
        let (step, hidden) = (self.plan.steps[index].id, self.hides(index));
        self.held.push(Op::FinishStep {
            step,
            results: Results::Skipped,
            state_string: why.to_owned(),
            hidden,
        });
    }

    fn hides(&self, index: usize) -> bool {
        self.plan.recipe.config.steps.get(index).is_some_and(|it| it.options.hide)
    }

    async fn step(&mut self, index: usize, config: &StepConfig, begun: Option<Begun>) -> Result<()> {
        let name = self.plan.steps[index].name.clone();
        self.progress.borrow_mut().step = Some(name.clone());
        let begun = match begun {
            Some(begun) => begun,
            None if runs_commands(&config.action) => self.begin(index).await?,
            None => {
                let (step, state_string) = (self.plan.steps[index].id, "running".to_owned());
                self.held.push(Op::StartStep { step, state_string });
                Begun { index, log: None, command: None, perhaps_sent: false }
            }
        };
        let end = self.execute(config, &begun).await?;
        if let Some(log) = begun.log {
            let num_lines = self.finish_log(log).await?;
            self.held.push(Op::FinishLog { log, num_lines });
        }
        self.held.push(Op::FinishStep {
            step: self.plan.steps[index].id,
            results: end.results,
            state_string: end.text.clone(),
            hidden: config.options.hide,
        });
        self.tally.add(Rules::of(config), &name, &end);
        Ok(())
    }

    async fn execute(&mut self, config: &StepConfig, begun: &Begun) -> Result<StepEnd> {
        match &config.action {
            StepAction::Shell(step) => shell::run(self, config, step, begun).await,
            StepAction::Git(step) => git::run(self, config, step, begun).await,
            StepAction::SetProperty(step) => set_property::run(self, config, step, begun).await,
        }
    }

    /// Starts a step that runs commands: durable, with its log and its first command's id, when this answers.
    async fn begin(&mut self, index: usize) -> Result<Begun> {
        let (log, command) = (self.h.new_id().await?, self.h.command_id());
        self.held.extend(begin_ops(self.plan.steps[index].id, log, &command));
        self.write_held().await?;
        Ok(Begun { index, log: Some(log), command: Some(command), perhaps_sent: false })
    }

    /// A further command's id for a step, durable when this answers.
    pub(crate) async fn next_command(&mut self, begun: &Begun) -> Result<String> {
        let command = self.h.command_id();
        self.held
            .push(Op::SetStepCommand { step: self.plan.steps[begun.index].id, command: command.clone() });
        self.write_held().await?;
        Ok(command)
    }

    async fn write_held(&mut self) -> Result<()> {
        let ops = std::mem::take(&mut self.held);
        loop {
            match self.journal.write(ops.clone()).await {
                Ok(_) => break,
                Err(DataError::Unavailable { why, retry_after }) => {
                    tracing::warn!(build.id = self.plan.build.id.0, %why, "a build waits for the data layer");
                    tokio::time::sleep(retry_after).await;
                }
                Err(DataError::Refused(Refusal::Final(_))) => return Err(RunError::Ended),
                Err(other) => return Err(other.into()),
            }
        }
        for command in std::mem::take(&mut self.to_forget) {
            self.h.runner.forget(self.plan.worker.id, &command);
        }
        Ok(())
    }

    /// What is held back is stored soon, without waiting for it.
    fn show_held(&mut self) {
        for op in std::mem::take(&mut self.held) {
            self.journal.push(op);
        }
    }

    async fn finish_log(&self, log: LogId) -> Result<i64> {
        loop {
            match self.h.rw.finish_log(log).await {
                Err(DataError::Unavailable { retry_after, .. }) => tokio::time::sleep(retry_after).await,
                other => return Ok(other?),
            }
        }
    }

    /// Adds lines to a step's log that the machinery says.
    pub(crate) async fn say(&self, log: Option<LogId>, text: &str) -> Result<()> {
        let Some(log) = log else { return Ok(()) };
        let text = format!("{text}\n");
        match self.h.rw.append_log(log, greenroom_data::LogStream::Header, text.into()).await {
            // words of explanation are not worth waiting for
            Err(DataError::Unavailable { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Sends a command (unless an earlier birth may have done so) and waits for its end, for an interruption, or for the loss
    /// of the worker.
    pub(crate) async fn command(
        &mut self,
        id: String,
        command: WorkerCommand,
        log: Option<LogId>,
        capture: Option<usize>,
        perhaps_sent: bool,
    ) -> Result<CommandResult> {
        let (h, worker) = (self.h.clone(), self.plan.worker.id);
        self.progress.borrow_mut().commands += 1;
        self.to_forget.push(id.clone());
        let order = CommandOrder { id: id.clone(), command, log, capture };
        if !perhaps_sent {
            match h.runner.start(worker, order).await {
                Ok(()) => {}
                Err(NotStarted::WorkerGone(why)) => return Ok(CommandResult::Lost(why)),
                Err(NotStarted::Refused(why)) => {
                    return Ok(CommandResult::Finished(Finished {
                        failure: Some(why),
                        ..Finished::default()
                    }));
                }
            }
        }
        let wait = h.runner.wait(worker, &id);
        tokio::pin!(wait);
        let end = loop {
            tokio::select! {
                biased;
                end = &mut wait => break end,
                interruption = self.interruption() => return self.interrupt(&id, log, interruption).await,
                () = tokio::time::sleep(SHOWN_AFTER), if !self.held.is_empty() => self.show_held(),
            }
        };
        Ok(match end {
            CommandEnd::Finished(finished) => CommandResult::Finished(finished),
            CommandEnd::Lost { why } => CommandResult::Lost(why),
            // Never sent, or sent over a connection that is gone: nobody can tell, so it is not sent again.
            CommandEnd::Unknown => {
                let why = "the connection that the command was sent over is gone";
                self.say(log, &format!("This log may be incomplete: {why}.")).await?;
                CommandResult::Lost(why.into())
            }
        })
    }

    async fn interrupt(
        &mut self,
        id: &str,
        log: Option<LogId>,
        interruption: Interruption,
    ) -> Result<CommandResult> {
        let (h, worker) = (self.h.clone(), self.plan.worker.id);
        let (why, patience) = match &interruption {
            Interruption::Stop { reason } => (reason.clone(), INTERRUPT_PATIENCE),
            Interruption::TimedOut => ("the build took too long".to_owned(), INTERRUPT_PATIENCE),
            Interruption::Abandon { why } => (why.clone(), ABANDON_PATIENCE),
        };
        let until = Instant::now() + patience;
        let end = async {
            h.runner.interrupt(worker, id, &why).await;
            h.runner.wait(worker, id).await
        };
        tokio::pin!(end);
        let (ended, interruption) = tokio::select! {
            ended = timeout_at(until, &mut end) => (ended, interruption),
            // whoever asks again does not wait so long, and what he asks counts as well
            second = self.interruption() => {
                self.tally.interrupt(&second);
                let ended = timeout_at(until.min(Instant::now() + ABANDON_PATIENCE), &mut end).await;
                (ended, if matches!(second, Interruption::Abandon { .. }) { second } else { interruption })
            }
        };
        if ended.is_err() {
            tracing::warn!(build.id = self.plan.build.id.0, worker.name = %self.plan.worker.name,
                "an interrupted command does not end; it is left alone");
            self.say(log, "This log is incomplete: the command was interrupted, and did not end in time.")
                .await?;
        }
        Ok(CommandResult::Interrupted(interruption))
    }

    fn take_order(&mut self) -> Option<Interruption> {
        let orders = self.orders.borrow_and_update();
        if orders.serial == self.seen {
            return None;
        }
        self.seen = orders.serial;
        orders.interruption.clone()
    }

    async fn interruption(&mut self) -> Interruption {
        loop {
            if let Some(interruption) = self.take_order() {
                return interruption;
            }
            let deadline = self.deadline;
            let timed_out = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.orders.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = timed_out => {
                    self.deadline = None;
                    return Interruption::TimedOut;
                }
            }
        }
    }

    /// The end of a step whose command was broken off or lost.
    pub(crate) fn broken_off(&mut self, result: CommandResult) -> StepEnd {
        match result {
            CommandResult::Interrupted(interruption) => {
                self.tally.interrupt(&interruption);
                match interruption {
                    Interruption::Stop { reason } if reason.is_empty() => {
                        StepEnd::new(Results::Cancelled, "stopped")
                    }
                    Interruption::Stop { reason } => {
                        StepEnd::new(Results::Cancelled, format!("stopped: {reason}"))
                    }
                    Interruption::TimedOut => {
                        StepEnd::new(Results::Failure, "stopped: the build took too long")
                    }
                    Interruption::Abandon { why } => StepEnd::new(Results::Retry, why),
                }
            }
            CommandResult::Lost(why) => StepEnd::new(Results::Retry, format!("worker lost: {why}")),
            CommandResult::Finished(_) => StepEnd::exception("a command that ended was taken for lost"),
        }
    }

    /// Sets a property of the build. It is stored with the next awaited write, or while a longer command runs: so a build of
    /// short steps costs no write of its own for it.
    pub(crate) fn set_property(&mut self, name: &str, value: Value, source: &str) {
        let property = Property(value, source.to_owned());
        if self.plan.properties.get(name) == Some(&property) {
            return;
        }
        self.plan.properties.insert(name.to_owned(), property.clone());
        let properties = Properties::from([(name.to_owned(), property)]);
        self.held.push(Op::SetProperties { build: self.plan.build.id, properties });
    }

    /// What expressions see now.
    pub(crate) fn view(&self) -> View {
        let plan = &self.plan;
        let hot = self.h.ro().hot();
        let main = plan.stamps.iter().find(|s| s.codebase.is_empty()).or(plan.stamps.first());
        let change = main.and_then(|stamp| {
            hot.changes.values().rev().find(|it| it.sourcestamp.id == stamp.id).map(|it| it.entity.clone())
        });
        View {
            properties: plan.properties.clone(),
            stamps: plan.stamps.clone(),
            change,
            worker: worker_view(&plan.worker, &plan.place),
            builder: builder_view(&plan.recipe),
            build: json!({
                "id": plan.build.id.0, "number": plan.build.number, "results": self.tally.results().to_string(),
            }),
            secrets: plan.recipe.secrets.clone(),
        }
    }

    async fn finish(mut self) -> Result<Results> {
        let (build, results) = (self.plan.build.id, self.tally.results());
        self.held.push(Op::FinishBuild { build, results, state_string: self.tally.text() });
        self.write_held().await?;
        tracing::debug!(build.id = build.0, %results, "a build ended");
        Ok(results)
    }
}
