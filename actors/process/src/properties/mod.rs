//! The properties that a build begins with.
//!
//! Later wins: the builder's, those of the buildset (which hold the changes' and the scheduler's), the worker's, and the
//! standard ones, which nobody can override.

pub(crate) mod shelf;

use greenroom_model::*;
use serde_json::{Value, json};

use crate::runner::WorkerPlace;
use crate::setup::{Recipe, WorkerSetup};
use crate::steps::names::directory;
use crate::steps::render::{self, View};

/// Where a build's first properties come from.
pub(crate) struct Origins<'a> {
    /// The number of the configuration.
    pub configuration: i64,
    pub recipe: &'a Recipe,
    pub worker: &'a WorkerSetup,
    pub place: &'a WorkerPlace,
    pub buildset: &'a Buildset,
    /// The buildset's properties.
    pub given: &'a Properties,
}

/// Sources of properties, as shown beside them.
pub(crate) mod source {
    pub const BUILD: &str = "Build";
    pub const BUILDER: &str = "Builder";
    pub const WORKER: &str = "Worker";
    pub const SCHEDULER: &str = "Scheduler";
    pub const CHANGE: &str = "Change";
    pub const FORCE: &str = "Force Build Form";
    pub const STOP: &str = "Stop";
    pub const SET_PROPERTY: &str = "SetProperty Step";
    pub const GIT: &str = "Git";
}

/// The property by which a build records the number of the configuration that it began with.
pub(crate) const CONFIGURATION: &str = "configuration";

/// The directory of a builder on a worker.
pub(crate) fn builder_directory(recipe: &Recipe, place: &WorkerPlace) -> String {
    place.join(&place.basedir, &directory(&recipe.name))
}

/// The properties, and what is wrong with the builder's own if they cannot be evaluated.
pub(crate) async fn assemble(origins: &Origins<'_>) -> (Properties, Option<String>) {
    let mut properties = origins.given.clone();
    for (name, value) in &origins.worker.config.properties {
        set(&mut properties, name, value.clone(), source::WORKER);
    }
    standard(origins, &mut properties);
    match builder_properties(origins, &properties).await {
        Ok(own) => {
            for (name, property) in own {
                properties.entry(name).or_insert(property);
            }
            (properties, None)
        }
        Err(why) => (properties, Some(format!("the builder's properties: {why}"))),
    }
}

fn set(properties: &mut Properties, name: &str, value: Value, source: &str) {
    properties.insert(name.to_owned(), Property(value, source.to_owned()));
}

fn standard(origins: &Origins<'_>, properties: &mut Properties) {
    let Origins { recipe, worker, place, buildset, .. } = origins;
    set(properties, CONFIGURATION, json!(origins.configuration), source::BUILD);
    set(properties, "buildername", json!(recipe.name), source::BUILDER);
    set(properties, "builderid", json!(recipe.id.0), source::BUILDER);
    if let Some(project) = &recipe.config.options.project {
        set(properties, "projectname", json!(project), source::BUILDER);
    }
    set(properties, "workername", json!(worker.name), source::WORKER);
    set(properties, "basedir", json!(place.basedir), source::WORKER);
    set(properties, "builddir", json!(builder_directory(recipe, place)), source::WORKER);
    if let Some(scheduler) = &buildset.scheduler {
        set(properties, "scheduler", json!(scheduler), source::SCHEDULER);
    }
    if !properties.contains_key("reason") {
        set(properties, "reason", json!(buildset.reason), source::SCHEDULER);
    }
    if let Some(Property(owner, _)) = properties.get("owner").cloned() {
        set(properties, "owners", json!([owner]), source::BUILD);
    }
    sources(&buildset.sourcestamps, properties);
}

/// One codebase: plain values. Several: maps by codebase.
fn sources(stamps: &[std::sync::Arc<SourceStamp>], properties: &mut Properties) {
    type Read = fn(&SourceStamp) -> Value;
    let fields: [(&str, Read); 5] = [
        ("branch", |s| json!(s.branch)),
        ("revision", |s| json!(s.revision)),
        ("repository", |s| json!(s.repository)),
        ("codebase", |s| json!(s.codebase)),
        ("project", |s| json!(s.project)),
    ];
    for (name, read) in fields {
        let value = match stamps {
            [] => continue,
            [one] => read(one),
            several => Value::Object(several.iter().map(|s| (s.codebase.clone(), read(s))).collect()),
        };
        set(properties, name, value, source::BUILD);
    }
}

async fn builder_properties(origins: &Origins<'_>, known: &Properties) -> Result<Properties, String> {
    let templates = &origins.recipe.config.options.properties;
    if templates.is_empty() {
        return Ok(Properties::new());
    }
    let view = View {
        properties: known.clone(),
        stamps: origins.buildset.sourcestamps.clone(),
        change: None,
        worker: worker_view(origins.worker, origins.place),
        builder: builder_view(origins.recipe),
        build: json!({}),
        secrets: Vec::new(),
    };
    let templates = templates.clone();
    if templates.values().all(render::is_literal) {
        let scope = greenroom_config::expr::Scope::new();
        let values = templates.iter().map(|(name, it)| Ok((name.clone(), it.render(&scope)?)));
        let values = values.collect::<Result<Vec<_>, greenroom_config::expr::ExprError>>();
        return values.map(owned_by_builder).map_err(|error| error.to_string());
    }
    let values = render::evaluate(view, move |scope| {
        templates
            .iter()
            .map(|(name, it)| Ok((name.clone(), it.render(scope)?)))
            .collect::<Result<Vec<_>, _>>()
    });
    values.await.map(owned_by_builder)
}

fn owned_by_builder(values: Vec<(String, Value)>) -> Properties {
    values.into_iter().map(|(name, value)| (name, Property(value, source::BUILDER.to_owned()))).collect()
}

/// What `worker` is in expressions.
pub(crate) fn worker_view(worker: &WorkerSetup, place: &WorkerPlace) -> Value {
    json!({
        "name": worker.name, "id": worker.id.0, "basedir": place.basedir,
        "system": if place.windows { "windows" } else { "posix" }, "properties": worker.config.properties,
    })
}

/// What `builder` is in expressions.
pub(crate) fn builder_view(recipe: &Recipe) -> Value {
    let options = &recipe.config.options;
    json!({ "name": recipe.name, "id": recipe.id.0, "tags": options.tags, "project": options.project })
}
