//! What each operation does: a file per resource, over the unit of work. To add one: its variant in
//! [`Op`], its function here, its events in the conformance suite.

mod builds;
mod buildsets;
mod changes;
mod claims;
mod configure;
mod control;
mod logs;
mod masters;
mod notifiers;
mod pins;
mod remove;
mod schedulers;
mod steps;
mod workers;

use greenroom_model::{Op, Outcome};

use crate::work::{Fault, Unit};

pub use masters::{lease_of_head, start as start_master};
pub use remove::{gone_counter, remove};

/// Does one operation.
pub async fn apply(unit: &mut Unit<'_>, op: &Op) -> Result<Outcome, Fault> {
    match op {
        Op::AddChange(new) => return changes::add(unit, new).await,
        Op::AddBuildset(new) => return buildsets::add(unit, new).await,
        Op::StartBuild(new) => return builds::start(unit, new).await,
        Op::AskControl(new) => return control::ask(unit, new).await,
        Op::EndBuilds { master, limit } => return masters::end_builds(unit, *master, *limit).await,
        Op::Configure(configuration) => configure::configure(unit, configuration).await?,
        Op::AddConfiguration(new) => configure::number(unit, new).await?,
        Op::SaveScheduler { scheduler, state } => schedulers::save(unit, *scheduler, state).await?,
        Op::SaveChangeSource { source, state } => schedulers::save_source(unit, *source, state).await?,
        Op::EnableScheduler { scheduler, enabled } => schedulers::enable(unit, *scheduler, *enabled).await?,
        Op::DescribeBuild { build, state_string } => builds::describe(unit, *build, state_string).await?,
        Op::SetProperties { build, properties } => builds::set_properties(unit, *build, properties).await?,
        Op::AddStep { id, build, number, name, hidden } => {
            steps::add(unit, *id, *build, *number, name, *hidden).await?;
        }
        Op::StartStep { step, state_string } => steps::start(unit, *step, state_string).await?,
        Op::SetStepCommand { step, command } => steps::set_command(unit, *step, command).await?,
        Op::DescribeStep { step, state_string, urls } => {
            steps::describe(unit, *step, state_string.as_deref(), urls).await?;
        }
        Op::FinishStep { step, results, state_string, hidden } => {
            steps::finish(unit, *step, *results, state_string, *hidden).await?;
        }
        Op::AddLog { id, step, name, kind } => logs::add(unit, *id, *step, name, *kind).await?,
        Op::GrowLog { log, num_lines } => logs::grow(unit, *log, *num_lines).await?,
        Op::FinishLog { log, num_lines } => logs::finish(unit, *log, *num_lines).await?,
        Op::FinishBuild { build, results, state_string } => {
            builds::finish(unit, *build, *results, state_string).await?;
        }
        Op::CancelRequest { request } => buildsets::cancel_request(unit, *request).await?,
        Op::ConnectWorker { worker, info } => workers::connect(unit, *worker, info).await?,
        Op::DisconnectWorker { worker } => workers::disconnect(unit, *worker).await?,
        Op::PauseWorker { worker, paused, reason } => {
            workers::pause(unit, *worker, *paused, reason.as_deref()).await?;
        }
        Op::SetWorkerGraceful { worker, graceful } => workers::set_graceful(unit, *worker, *graceful).await?,
        Op::AnswerControl { act, answer } => control::answer(unit, *act, answer).await?,
        Op::SaveListener { name, state } => schedulers::save_listener(unit, name, state)?,
        Op::Claim(duty) => claims::claim(unit, duty).await?,
        Op::Release(duty) => claims::release(unit, duty).await?,
        Op::AddDelivery(new) => notifiers::add(unit, new).await?,
        Op::RetryDelivery { delivery, due_at, reason } => {
            notifiers::retry(unit, *delivery, *due_at, reason).await?;
        }
        Op::SettleDelivery { delivery, state, attempted, target, reason } => {
            notifiers::settle(unit, *delivery, (*state, *attempted), target.as_deref(), reason.as_deref())
                .await?;
        }
        Op::PruneDeliveries { notifier, keep } => notifiers::prune(unit, notifier, *keep).await?,
        Op::PinBuild { build, pinned, by } => pins::pin(unit, *build, *pinned, by).await?,
        Op::Heartbeat => masters::heartbeat(unit).await?,
        Op::StopMaster => masters::stop(unit).await?,
        Op::TakeOver { master } => masters::take_over(unit, *master).await?,
    }
    Ok(Outcome::Done)
}
