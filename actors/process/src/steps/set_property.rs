//! Step `set-property`: a property from an expression or from a command's output.

use greenroom_config::{SetPropertyStep, Step};
use greenroom_model::Results;
use greenroom_model::properties::MAX_PROPERTY_BYTES;
use serde_json::{Value, json};

use crate::builds::plan::Begun;
use crate::builds::run::{CommandResult, Result, Run};
use crate::properties::source;
use crate::steps::{StepEnd, render, shell};

/// Runs the step.
pub(crate) async fn run(
    run: &mut Run,
    config: &Step,
    step: &SetPropertyStep,
    begun: &Begun,
) -> Result<StepEnd> {
    let value = match (&step.value, &step.run) {
        (Some(template), _) => {
            let template = template.clone();
            match render::evaluate(run.view(), move |scope| template.render(scope)).await {
                Ok(value) => value,
                Err(why) => return Ok(StepEnd::exception(why)),
            }
        }
        (None, Some(program)) => match output(run, config, program, begun).await? {
            Ok(value) => value,
            Err(end) => return Ok(end),
        },
        (None, None) => return Ok(StepEnd::exception("neither a value nor a command is given")),
    };
    if value.to_string().len() > MAX_PROPERTY_BYTES {
        return Ok(StepEnd::exception(format!("the value is longer than {} KiB", MAX_PROPERTY_BYTES / 1024)));
    }
    let text = format!("{} set", step.property);
    run.set_property(&step.property, value, source::SET_PROPERTY);
    Ok(StepEnd::new(Results::Success, text))
}

/// The output of a command without white space around it, or how the step ends instead.
async fn output(
    run: &mut Run,
    config: &Step,
    program: &greenroom_config::expr::Run,
    begun: &Begun,
) -> Result<std::result::Result<Value, StepEnd>> {
    let command = match shell::prepare(run, config, program).await {
        Ok(command) => command,
        Err(why) => {
            run.say(begun.log, &why).await?;
            return Ok(Err(StepEnd::exception(why)));
        }
    };
    let id = begun.command.clone().unwrap_or_else(|| run.h.command_id());
    let capture = Some(MAX_PROPERTY_BYTES + 1);
    let result = run.command(id, command, begun.log, capture, begun.perhaps_sent).await?;
    let CommandResult::Finished(finished) = result else { return Ok(Err(run.broken_off(result))) };
    let end = shell::judge(&finished, &Default::default());
    if end.results != Results::Success {
        return Ok(Err(end));
    }
    let captured = finished.captured.unwrap_or_default();
    if captured.len() > MAX_PROPERTY_BYTES {
        return Ok(Err(StepEnd::exception(format!(
            "the output is longer than {} KiB",
            MAX_PROPERTY_BYTES / 1024
        ))));
    }
    Ok(Ok(json!(String::from_utf8_lossy(&captured).trim())))
}
