//! `projects`. A project is active if one of its builders is configured on a master; that is shown only to
//! those who ask for it by the filter `active`.

use std::rc::Rc;

use greenroom_data::Shown;
use greenroom_model::{Builder, Project, ProjectId};
use serde_json::Value;

use crate::collection;
use crate::error::ApiError;
use crate::query::boolean;
use crate::router::{Answer, Arg, Call, Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("projects", "projects", c => all(&c)),
    route!("projects/n:projectid", "projects", c => one(&c)),
    route!("projects/i:projectname", "projects", c => one(&c)),
    route!("projects/n:projectid/builders", "builders",
        c => async { collection::of::<Builder>(&c, "projectid", c.number(0)?).await }),
];

async fn all(call: &Call) -> Result<Answer, ApiError> {
    let asks = |name: &str| matches!(name, "active" | "active__eq");
    let Some((_, wanted)) = call.params.iter().find(|(name, _)| asks(name)) else {
        return collection::all::<Project>(call).await;
    };
    let wanted =
        boolean(wanted).ok_or_else(|| ApiError::BadQuery("invalid filter value for active".into()))?;
    let chosen = call.hot.projects.values().filter(|it| is_active(call, it.id) == wanted);
    let rows = chosen.filter_map(|it| with_active(it, wanted)).collect();
    let mut rest = call.clone();
    rest.params = Rc::new(call.params.iter().filter(|(name, _)| !asks(name)).cloned().collect());
    collection::plain(&rest, "projects", greenroom_model::Resource::Projects.fields(), rows)
}

async fn one(call: &Call) -> Result<Answer, ApiError> {
    let project = match call.arg(0)? {
        Arg::Number(id) => call.hot.projects.get(id).cloned(),
        Arg::Text(name) => call.hot.projects.values().find(|it| it.name == *name).cloned(),
    };
    collection::found(call, project).await
}

fn is_active(call: &Call, project: ProjectId) -> bool {
    call.hot.builders.values().any(|it| it.project == Some(project) && !it.masters.is_empty())
}

fn with_active(project: &Shown<Project>, active: bool) -> Option<Value> {
    let mut row: Value = serde_json::from_str(&project.json).ok()?;
    row["active"] = active.into();
    Some(row)
}
