//! `console`: the newest changes with what was built of them.

use std::collections::BTreeSet;

use greenroom_data::{ConsoleCell, ConsoleOf, ConsoleRow};
use greenroom_model::{BuilderId, ChangeId, Results, Timestamp};
use serde::Serialize;

use crate::error::ApiError;
use crate::json;
use crate::router::{Answer, Call, Items, Paging, Route, route};

pub(super) const ROUTES: &[Route] = &[route!("console", "console", c => console(&c))];

/// How many changes there are in a reply if nothing is said, and at most.
const CHANGES: (u64, u64) = (50, 200);
/// The most characters of a change's line.
const WHAT_CHARS: usize = 200;

// Fields in the order of their names, as everywhere in replies.

#[derive(Serialize)]
struct RowForm<'a> {
    author: &'a str,
    branch: Option<&'a str>,
    cells: Vec<CellForm>,
    changeid: i64,
    codebase: &'a str,
    project: &'a str,
    repository: &'a str,
    revision: Option<&'a str>,
    revlink: Option<&'a str>,
    ssid: i64,
    what: String,
    when_timestamp: i64,
}

#[derive(Serialize)]
struct CellForm {
    builderid: i64,
    buildid: Option<i64>,
    builds: u64,
    complete_at: Option<i64>,
    number: Option<i64>,
    open: Vec<i64>,
    results: Option<i64>,
    started_at: Option<i64>,
    waiting: usize,
}

async fn console(call: &Call) -> Result<Answer, ApiError> {
    let (wanted, tags) = wanted(call)?;
    let builders: Option<BTreeSet<BuilderId>> = (!tags.is_empty()).then(|| {
        let tagged = call.hot.builders.values().filter(|b| b.tags.iter().any(|tag| tags.contains(tag)));
        tagged.map(|b| b.id).collect()
    });
    let limit = wanted.limit;
    let found = call.www.ro.console(wanted).await?;
    let shown = |cell: &ConsoleCell| builders.as_ref().is_none_or(|all| all.contains(&cell.builder));
    let rows = found.value.rows.iter().map(|row| json::compact(&form(row, &shown)).into()).collect();
    let last = found.value.rows.last().filter(|_| found.value.more && limit > 0);
    let next = last.map(|row| call.next_page("changeid", true, row.change.id.0));
    // Which builders have a tag was looked up in the hot state, which may be older.
    let clock = if builders.is_some() { found.clock.meet(&call.hot.clock) } else { found.clock };
    Ok(Answer::Items(Items {
        plural: "console",
        items: rows,
        total: None,
        clock: Some(clock),
        lasting: true,
        paging: Paging { at_least: false, more: Some(found.value.more), next },
    }))
}

/// What is asked for, and of which tags builders are wanted.
fn wanted(call: &Call) -> Result<(ConsoleOf, Vec<String>), ApiError> {
    let mut of = ConsoleOf { limit: CHANGES.0, ..ConsoleOf::default() };
    let mut tags = Vec::new();
    for (name, value) in call.params.iter() {
        let number =
            || value.trim().parse::<i64>().map_err(|_| ApiError::BadQuery(format!("invalid {name}")));
        let text = value.clone();
        match name.as_str() {
            "branch" => of.branches.push(text),
            "codebase" => of.codebases.push(text),
            "project" => of.projects.push(text),
            "repository" => of.repositories.push(text),
            "tag" => tags.push(text),
            "limit" => of.limit = u64::try_from(number()?).unwrap_or(CHANGES.0).min(CHANGES.1),
            "changeid__lt" => of.before = Some(ChangeId(number()?)),
            _ => return Err(ApiError::BadQuery(format!("unrecognized query parameter '{name}'"))),
        }
    }
    Ok((of, tags))
}

fn form<'a>(row: &'a ConsoleRow, shown: &dyn Fn(&ConsoleCell) -> bool) -> RowForm<'a> {
    let change = &*row.change;
    let what = change.comments.trim_start().lines().next().unwrap_or_default();
    RowForm {
        author: &change.author,
        branch: change.branch.as_deref(),
        cells: row.cells.iter().filter(|cell| shown(cell)).map(cell).collect(),
        changeid: change.id.0,
        codebase: &change.codebase,
        project: &change.project,
        repository: &change.repository,
        revision: change.revision.as_deref(),
        revlink: change.revlink.as_deref(),
        ssid: change.sourcestamp.id.0,
        what: what.chars().take(WHAT_CHARS).collect(),
        when_timestamp: change.when.seconds(),
    }
}

fn cell(cell: &ConsoleCell) -> CellForm {
    let latest = cell.latest.as_ref();
    CellForm {
        builderid: cell.builder.0,
        buildid: latest.map(|b| b.id.0),
        builds: cell.builds,
        complete_at: latest.and_then(|b| b.complete_at).map(Timestamp::seconds),
        number: latest.map(|b| b.number),
        open: cell.open.iter().map(|(id, _)| id.0).collect(),
        results: latest.and_then(|b| b.results).map(Results::code),
        started_at: latest.map(|b| b.started_at.seconds()),
        waiting: cell.open.iter().filter(|(_, claimed)| !claimed).count(),
    }
}
