//! Step `shell`: a command on the worker.

use std::collections::BTreeMap;

use greenroom_config::expr::{Run as RunTemplate, Template};
use greenroom_config::{ExitCode, ResultName, ShellStep, Step};
use greenroom_model::Results;

use crate::builds::plan::Begun;
use crate::builds::run::{CommandResult, Result, Run};
use crate::properties::builder_directory;
use crate::runner::{Execution, Finished, WorkerCommand};
use crate::steps::render::{self, CommandTemplates, CommandValues};
use crate::steps::{StepEnd, warnings};

/// The directory of the sources below the builder's own.
const DEFAULT_WORKDIR: &str = "build";

/// Runs the step.
pub(crate) async fn run(run: &mut Run, config: &Step, step: &ShellStep, begun: &Begun) -> Result<StepEnd> {
    let command = match prepare(run, config, &step.run).await {
        Ok(command) => command,
        Err(why) => {
            run.say(begun.log, &why).await?;
            return Ok(StepEnd::exception(why));
        }
    };
    let id = begun.command.clone().unwrap_or_else(|| run.h.command_id());
    let result = run.command(id, command, begun.log, None, begun.perhaps_sent).await?;
    let CommandResult::Finished(finished) = result else { return Ok(run.broken_off(result)) };
    let mut end = judge(&finished, &step.decode_rc);
    if let (Some(pattern), Some(log)) = (&step.warnings, begun.log) {
        // what the log store has taken is complete only once the log is ended
        run.h.rw.finish_log(log).await?;
        let count = warnings::count(run.h.ro(), log, pattern).await?;
        if count > 0 {
            run.set_property(
                "warnings-count",
                serde_json::json!(count),
                &run.plan.steps[begun.index].name.clone(),
            );
            if end.results == Results::Success {
                end.results = Results::Warnings;
            }
            end.text = format!("{} ({count} warning{})", end.text, if count == 1 { "" } else { "s" });
        }
    }
    Ok(end)
}

/// The command as the worker gets it.
pub(crate) async fn prepare(
    run: &Run,
    config: &Step,
    program: &RunTemplate,
) -> Result<WorkerCommand, String> {
    let options = &run.plan.recipe.config.options;
    let mut env: BTreeMap<String, Template> = options.env.clone();
    env.extend(config.options.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    let (workdir, windows) = (workdir_template(run, config), run.plan.place.windows);
    let templates = CommandTemplates { run: program.clone(), windows, workdir, env };
    let literal = templates.workdir.as_ref().is_none_or(|it| it.as_literal().is_some());
    let values = render::command(templates, || run.view()).await?;
    let CommandValues { run: rendered, workdir } = values;
    Ok(WorkerCommand::Execute(Execution {
        workdir: workdir_path(run, workdir.as_deref(), literal)?,
        program: rendered.program,
        env: rendered.env,
        timeout_s: config.options.timeout.map(|it| it.get().as_secs_f64()),
        max_time_s: config.options.max_time.map(|it| it.get().as_secs_f64()),
    }))
}

/// The step's directory, or else the builder's.
pub(crate) fn workdir_template(run: &Run, config: &Step) -> Option<Template> {
    config.options.workdir.clone().or_else(|| run.plan.recipe.config.options.workdir.clone())
}

/// Below the builder's own directory. What an expression says may not lead out of it.
pub(crate) fn workdir_path(run: &Run, workdir: Option<&str>, literal: bool) -> Result<String, String> {
    let base = builder_directory(&run.plan.recipe, &run.plan.place);
    let below = workdir.unwrap_or(DEFAULT_WORKDIR);
    let absolute = below.starts_with(['/', '\\']) || below.get(1..2) == Some(":");
    if absolute && literal {
        return Ok(below.to_owned());
    }
    if absolute || below.split(['/', '\\']).any(|part| part == "..") || below.contains('\0') {
        return Err(format!("the workdir `{below}` lies outside the builder's directory"));
    }
    Ok(run.plan.place.join(&base, below))
}

/// What an exit means.
pub(crate) fn judge(finished: &Finished, decode: &BTreeMap<ExitCode, ResultName>) -> StepEnd {
    if let Some(why) = &finished.failure {
        return StepEnd::exception(why);
    }
    match finished.failure_reason.as_deref() {
        Some("timeout_without_output") => return StepEnd::new(Results::Failure, "timed out without output"),
        Some("timeout") => return StepEnd::new(Results::Failure, "took longer than its max-time"),
        Some("max_lines_failure") => return StepEnd::new(Results::Failure, "too many lines of output"),
        Some(other) => return StepEnd::new(Results::Failure, other),
        None => {}
    }
    let Some(rc) = finished.rc else { return StepEnd::exception("the worker told no exit code") };
    let decoded = i32::try_from(rc).ok().and_then(|rc| decode.get(&ExitCode(rc)).copied());
    let results = match decoded {
        Some(name) => Results::from(name),
        None if rc == 0 => Results::Success,
        None => Results::Failure,
    };
    match rc {
        0 => StepEnd::new(results, "finished"),
        -1 => StepEnd::new(results, "killed by a signal"),
        code => StepEnd::new(results, format!("exit code {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(rc: i64) -> Finished {
        Finished { rc: Some(rc), ..Finished::default() }
    }

    #[test]
    fn exit_codes_are_results() {
        let decode =
            BTreeMap::from([(ExitCode(77), ResultName::Skipped), (ExitCode(0), ResultName::Warnings)]);
        let judged = |finished: &Finished, decode: &BTreeMap<_, _>| judge(finished, decode).results;
        assert_eq!(judged(&exit(0), &BTreeMap::new()), Results::Success);
        assert_eq!(judged(&exit(2), &BTreeMap::new()), Results::Failure);
        assert_eq!(judged(&exit(77), &decode), Results::Skipped);
        assert_eq!(judged(&exit(0), &decode), Results::Warnings);
        assert_eq!(judged(&Finished::default(), &decode), Results::Exception);
    }

    #[test]
    fn a_timeout_is_a_failure_that_says_so() {
        let finished = Finished { failure_reason: Some("timeout_without_output".into()), ..exit(-1) };
        assert_eq!(
            judge(&finished, &BTreeMap::new()),
            StepEnd::new(Results::Failure, "timed out without output")
        );
    }
}
