//! From configured templates to values: the scope that expressions see, and where evaluation runs.
//!
//! An evaluation is bounded but may take long, so templates with expressions are evaluated on the blocking pool, a few at a
//! time; those without (the most of them) are taken as they stand, on the spot.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_config::expr::{Expr, ExprError, MAX_LIST, Run, Scope, Template, TemplateValue};
use greenroom_config::values::Secret;
use greenroom_model::*;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::runner::Program;

/// Evaluations at the same time: threads of the blocking pool are needed for logs and files too.
static AT_ONCE: Semaphore = Semaphore::const_new(8);
/// How long an evaluation may wait for its turn. One takes some seconds at most, by the bounds of expressions.
const PATIENCE: Duration = Duration::from_secs(60);

/// What of a build expressions see.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub properties: Properties,
    pub stamps: Vec<std::sync::Arc<SourceStamp>>,
    pub change: Option<std::sync::Arc<Change>>,
    pub worker: Value,
    pub builder: Value,
    pub build: Value,
    /// The secrets that the builder names; the configuration sees to where they can be used.
    pub secrets: Vec<(String, Secret)>,
}

impl View {
    fn scope(&self) -> Result<Scope, ExprError> {
        let mut scope = Scope::new();
        let properties: Map<String, Value> =
            self.properties.iter().map(|(name, property)| (name.clone(), property.0.clone())).collect();
        scope.set("prop", Value::Object(properties))?;
        scope.set("src", self.source())?;
        scope.set("worker", self.worker.clone())?;
        scope.set("builder", self.builder.clone())?;
        scope.set("build", self.build.clone())?;
        scope.set("change", self.change.as_deref().map_or_else(|| json!({}), change))?;
        for (name, secret) in &self.secrets {
            scope.set_secret(name, secret.clone());
        }
        Ok(scope)
    }

    /// The fields of the default (or only) codebase, and each named codebase under its name.
    fn source(&self) -> Value {
        let mut source = Map::new();
        for stamp in &self.stamps {
            if !stamp.codebase.is_empty() {
                source.insert(stamp.codebase.clone(), Value::Object(stamp_fields(stamp)));
            }
        }
        let main = self.stamps.iter().find(|s| s.codebase.is_empty()).or(self.stamps.first());
        if let Some(stamp) = main {
            source.extend(stamp_fields(stamp));
        }
        Value::Object(source)
    }
}

fn stamp_fields(stamp: &SourceStamp) -> Map<String, Value> {
    let fields = [
        ("branch", json!(stamp.branch)),
        ("revision", json!(stamp.revision)),
        ("repository", json!(stamp.repository)),
        ("project", json!(stamp.project)),
        ("codebase", json!(stamp.codebase)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn change(change: &Change) -> Value {
    let mut fields = change_fields(change);
    fields.insert("files".to_owned(), json!(change.files.iter().take(MAX_LIST).collect::<Vec<_>>()));
    Value::Object(fields)
}

/// What expressions see of a change, apart from its files.
pub(crate) fn change_fields(change: &Change) -> Map<String, Value> {
    let properties = change.properties.iter().map(|(name, it)| (name.clone(), it.0.clone()));
    let fields = [
        ("id", json!(change.id.0)),
        ("author", json!(change.author)),
        ("committer", json!(change.committer)),
        ("comments", json!(change.comments)),
        ("branch", json!(change.branch)),
        ("revision", json!(change.revision)),
        ("category", json!(change.category)),
        ("repository", json!(change.repository)),
        ("project", json!(change.project)),
        ("codebase", json!(change.codebase)),
        ("properties", Value::Object(properties.collect())),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A command as it will be run, and what its expressions add to its environment.
#[derive(Clone, PartialEq)]
pub(crate) struct RenderedRun {
    pub program: Program,
    pub env: Vec<(String, String)>,
}

/// Everything a command takes from templates.
#[derive(Debug, Clone)]
pub(crate) struct CommandTemplates {
    pub run: Run,
    /// Whether the worker runs on Windows.
    pub windows: bool,
    pub workdir: Option<Template>,
    pub env: BTreeMap<String, Template>,
}

/// The same, rendered. Cannot be printed: the environment may hold secrets.
#[derive(Clone, PartialEq)]
pub(crate) struct CommandValues {
    pub run: RenderedRun,
    pub workdir: Option<String>,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EvaluationError {
    /// The expression's own fault: it would be the same again.
    #[error("{0}")]
    Failed(String),
    /// It did not get its turn, or was broken off; nothing is known of it.
    #[error("an expression could not be evaluated: {0}")]
    Prevented(&'static str),
}

/// Evaluates over what of a build expressions see.
pub(crate) async fn evaluate<T: Send + 'static>(
    view: View,
    work: impl FnOnce(&Scope) -> Result<T, ExprError> + Send + 'static,
) -> Result<T, String> {
    on_pool(move || work(&view.scope()?)).await.map_err(|error| error.to_string())
}

/// Evaluates on the blocking pool.
pub(crate) async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExprError> + Send + 'static,
) -> Result<T, EvaluationError> {
    let Ok(Ok(permit)) = timeout(PATIENCE, AT_ONCE.acquire()).await else {
        return Err(EvaluationError::Prevented("too many others are"));
    };
    let evaluation = tokio::task::spawn_blocking(move || {
        let value = work();
        drop(permit);
        value
    });
    match evaluation.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(EvaluationError::Failed(error.to_string())),
        Err(end) if end.is_panic() => {
            Err(EvaluationError::Failed("the evaluator of expressions failed".to_owned()))
        }
        Err(_) => Err(EvaluationError::Prevented("its evaluation was broken off")),
    }
}

/// Renders a command; `view` is asked for only if there is an expression in it.
pub(crate) async fn command(
    templates: CommandTemplates,
    view: impl FnOnce() -> View,
) -> Result<CommandValues, String> {
    let literal = run_is_literal(&templates.run)
        && templates.workdir.as_ref().is_none_or(|it| it.as_literal().is_some())
        && templates.env.values().all(|it| it.as_literal().is_some());
    if literal {
        return render_command(&templates, &Scope::new()).map_err(|error| error.to_string());
    }
    evaluate(view(), move |scope| render_command(&templates, scope)).await
}

/// Whether a step's condition holds.
pub(crate) async fn condition(view: View, condition: Expr) -> Result<bool, String> {
    let holds = evaluate(view, move |scope| condition.is_true(scope)).await;
    holds.map_err(|why| format!("its condition cannot be evaluated: {why}"))
}

fn render_command(templates: &CommandTemplates, scope: &Scope) -> Result<CommandValues, ExprError> {
    let mut env = Vec::with_capacity(templates.env.len());
    for (name, template) in &templates.env {
        env.push((name.clone(), environment_text(template, scope)?));
    }
    let program = match &templates.run {
        Run::Script(script) => {
            let rendered = script.render(scope)?;
            env.extend(rendered.env.into_iter().map(|(name, value)| (name, escape(&value))));
            match script.shell().and_then(|it| it.argv(&rendered.script, templates.windows)) {
                Some(argv) => Program::Argv(argv),
                None => Program::Script(rendered.script),
            }
        }
        Run::Argv(argv) => Program::Argv(argv.render(scope)?),
    };
    let workdir = templates.workdir.as_ref().map(|it| it.render_text(scope)).transpose()?;
    Ok(CommandValues { run: RenderedRun { program, env }, workdir })
}

fn run_is_literal(run: &Run) -> bool {
    match run {
        Run::Script(script) => !script.source().contains("${{"),
        Run::Argv(argv) => argv.source().iter().all(|it| !it.contains("${{")),
    }
}

/// Whether there is no expression in a value.
pub(crate) fn is_literal(value: &TemplateValue) -> bool {
    match value {
        TemplateValue::Plain(_) => true,
        TemplateValue::Text(template) => template.as_literal().is_some(),
        TemplateValue::List(items) => items.iter().all(is_literal),
        TemplateValue::Map(map) => map.values().all(is_literal),
    }
}

/// A worker replaces `${NAME}` in the values of variables by its own variables. That is wanted where the configuration
/// says it (`PATH = "/opt/bin:${PATH}"`) and nowhere else: whatever an expression brought is kept as it is.
fn environment_text(template: &Template, scope: &Scope) -> Result<String, ExprError> {
    let text = template.render_text(scope)?;
    if template.as_literal().is_some() {
        return Ok(text);
    }
    Ok(escape_except(&text, |reference| template.source().contains(reference)))
}

/// Keeps a worker from replacing anything: `$${}{` is read by it as `$`, an empty reference, `{`.
fn escape(text: &str) -> String {
    escape_except(text, |_| false)
}

fn escape_except(text: &str, keep: impl Fn(&str) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        escaped.push_str(before);
        let whole = reference.find('}').map(|end| &reference[..=end]);
        escaped.push_str(if whole.is_some_and(&keep) { "${" } else { "$${}{" });
        rest = &reference[2..];
    }
    escaped.push_str(rest);
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stock worker makes of a value, with `HOME=/home/w` in its own environment.
    fn expanded_by_worker(value: &str) -> String {
        let mut out = String::new();
        let mut rest = value;
        while let Some(at) = rest.find("${") {
            let name: String =
                rest[at + 2..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let after = at + 2 + name.len();
            if rest[after..].starts_with('}') {
                out.push_str(&rest[..at]);
                out.push_str(if name == "HOME" { "/home/w" } else { "" });
                rest = &rest[after + 1..];
            } else {
                out.push_str(&rest[..at + 2]);
                rest = &rest[at + 2..];
            }
        }
        out + rest
    }

    #[test]
    fn a_value_arrives_as_it_is() {
        for value in ["plain", "${HOME}", "a${HOME}b${X}", "${", "$${HOME}", "${}", "$", "${HOME", "${ä}"] {
            assert_eq!(expanded_by_worker(&escape(value)), value, "{value}");
        }
    }

    #[test]
    fn a_written_reference_is_still_expanded() {
        let template = Template::parse("${HOME}/bin:${{ prop.x }}").unwrap();
        let mut scope = Scope::new();
        scope.set("prop", json!({"x": "${SECRET}"})).unwrap();
        let text = environment_text(&template, &scope).unwrap();
        assert_eq!(expanded_by_worker(&text), "/home/w/bin:${SECRET}");
    }
}
