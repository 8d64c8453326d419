//! What a notifier's filters look at, and whether a build passes them.

use std::sync::Arc;

use greenroom_config::Notifier;
use greenroom_config::expr::Scope;
use greenroom_data::{DataError, Ro};
use greenroom_model::{Build, BuildRequest, Builder, Buildset, Properties, SourceStamp};
use serde_json::{Map, Value, json};

/// A build, with what belongs to it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The build.
    pub build: Arc<Build>,
    /// Its builder.
    pub builder: Arc<Builder>,
    /// Its buildset.
    pub buildset: Arc<Buildset>,
}

impl Facts {
    /// Reads what belongs to a build; mostly from memory. None if it is gone.
    pub async fn read(ro: &Ro, build: &Arc<Build>) -> Result<Option<Self>, DataError> {
        let hot = ro.hot();
        let Some(builder) = hot.builders.get(&build.builder.0).map(|it| it.entity.clone()) else {
            return Ok(None);
        };
        let Some(request) = ro.get::<BuildRequest>(build.request.0).await?.value else { return Ok(None) };
        let Some(buildset) = ro.get::<Buildset>(request.buildset.0).await?.value else { return Ok(None) };
        Ok(Some(Self { build: build.clone(), builder, buildset: buildset.entity }))
    }

    /// The branch of the first source; empty when it has none.
    pub fn branch(&self) -> &str {
        branch_of(&self.buildset)
    }
}

/// The branch of the first source; empty when it has none.
pub fn branch_of(buildset: &Buildset) -> &str {
    buildset.sourcestamps.first().and_then(|it| it.branch.as_deref()).unwrap_or("")
}

/// Whether a notifier cares for a builder at all.
pub fn builder_passes(notifier: &Notifier, builder: &Builder) -> bool {
    let options = &notifier.options;
    options.builders.matches(&builder.name)
        && options.tags.as_ref().is_none_or(|tags| builder.tags.iter().any(|tag| tags.matches(tag)))
}

/// Whether it cares for a build of that buildset, as far as globs tell.
pub fn buildset_passes(notifier: &Notifier, buildset: &Buildset) -> bool {
    let options = &notifier.options;
    options.branches.as_ref().is_none_or(|it| it.matches(branch_of(buildset)))
        && options
            .schedulers
            .as_ref()
            .is_none_or(|it| it.matches(buildset.scheduler.as_deref().unwrap_or("")))
}

/// Whether a build passes all filters, the condition too. A condition that cannot be evaluated, such as over a property that the
/// build has not, does not hold.
pub async fn passes(ro: &Ro, notifier: &Notifier, facts: &Facts) -> Result<bool, DataError> {
    if !builder_passes(notifier, &facts.builder) || !buildset_passes(notifier, &facts.buildset) {
        return Ok(false);
    }
    let Some(condition) = notifier.options.condition.clone() else { return Ok(true) };
    let properties = ro.build_properties(&[facts.build.id]).await?.value;
    let properties = properties.get(&facts.build.id).cloned().unwrap_or_default();
    let values = values(ro, facts, &properties);
    // Expressions are not evaluated on an actor's thread.
    let holds = tokio::task::spawn_blocking(move || {
        let mut scope = Scope::new();
        for (name, value) in values {
            scope.set(name, value)?;
        }
        condition.is_true(&scope)
    });
    match holds.await {
        Ok(Ok(holds)) => Ok(holds),
        Ok(Err(error)) => {
            tracing::debug!(build.id = facts.build.id.0, %error, "a notifier's condition does not hold");
            Ok(false)
        }
        Err(error) => Err(DataError::unavailable(error)),
    }
}

/// What a condition sees.
fn values(ro: &Ro, facts: &Facts, properties: &Properties) -> Vec<(&'static str, Value)> {
    let hot = ro.hot();
    let properties: Map<String, Value> =
        properties.iter().map(|(name, it)| (name.clone(), it.0.clone())).collect();
    let worker = hot.workers.get(&facts.build.worker.0).map_or("", |it| it.name.as_str());
    let project = facts.builder.project.and_then(|it| hot.projects.get(&it.0)).map(|it| it.name.clone());
    let (build, builder) = (&facts.build, &facts.builder);
    vec![
        ("prop", Value::Object(properties)),
        ("src", source(&facts.buildset.sourcestamps)),
        ("worker", json!({"name": worker, "id": build.worker.0})),
        (
            "builder",
            json!({"name": builder.name, "id": builder.id.0, "tags": builder.tags, "project": project}),
        ),
        (
            "build",
            json!({
                "id": build.id.0, "number": build.number, "results": build.results.map(|it| it.word()),
                "state": build.state_string, "scheduler": facts.buildset.scheduler, "reason": facts.buildset.reason,
            }),
        ),
    ]
}

/// As in steps: the fields of the default (or only) codebase, and each named codebase under its name.
fn source(stamps: &[Arc<SourceStamp>]) -> Value {
    let fields = |stamp: &SourceStamp| {
        json!({
            "branch": stamp.branch, "revision": stamp.revision, "repository": stamp.repository,
            "project": stamp.project, "codebase": stamp.codebase,
        })
    };
    let mut source = Map::new();
    for stamp in stamps.iter().filter(|it| !it.codebase.is_empty()) {
        source.insert(stamp.codebase.clone(), fields(stamp));
    }
    let main = stamps.iter().find(|it| it.codebase.is_empty()).or(stamps.first());
    if let Some(Value::Object(main)) = main.map(|it| fields(it)) {
        source.extend(main);
    }
    Value::Object(source)
}
