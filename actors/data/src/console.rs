//! The console from the hot state.

use std::sync::Arc;

use greenroom_db::{ConsoleOf, ConsolePage, ConsoleRow};
use greenroom_model::*;

use crate::hot::Hot;

/// What the hot state has of a page of the console.
pub(crate) enum Kept {
    /// All of it.
    Page(ConsolePage),
    /// Its changes, without the cells of these source stamps.
    Without(Vec<SourceStampId>),
    /// Not even its changes.
    Nothing,
}

impl Kept {
    /// Looks for a page.
    pub fn find(hot: &Hot, wanted: &ConsoleOf) -> Self {
        let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
        let above =
            hot.changes.range((std::ops::Bound::Excluded(hot.changes_floor), std::ops::Bound::Unbounded));
        let passing = above.rev().map(|(_, change)| &change.entity).filter(|change| passes(change, wanted));
        let mut changes: Vec<&Arc<Change>> = passing.take(limit.saturating_add(1)).collect();
        let more = changes.len() > limit;
        if !more && hot.changes_floor > 0 {
            return Kept::Nothing;
        }
        changes.truncate(limit);
        let stamps = changes.iter().map(|change| change.sourcestamp.id);
        let missing: Vec<_> = stamps.filter(|stamp| !hot.console.contains_key(stamp)).collect();
        if !missing.is_empty() {
            return Kept::Without(missing);
        }
        let row = |change: &Arc<Change>| {
            let cells = hot.console.get(&change.sourcestamp.id);
            let cells = cells.into_iter().flat_map(|cells| cells.values().cloned()).collect();
            ConsoleRow { change: Arc::clone(change), cells }
        };
        Kept::Page(ConsolePage { rows: changes.into_iter().map(row).collect(), more })
    }
}

fn passes(change: &Change, wanted: &ConsoleOf) -> bool {
    let one_of = |values: &[String], it: &str| values.is_empty() || values.iter().any(|value| value == it);
    let of_branch = match change.branch.as_deref() {
        Some(branch) => one_of(&wanted.branches, branch),
        None => wanted.branches.is_empty(),
    };
    of_branch
        && one_of(&wanted.codebases, &change.codebase)
        && one_of(&wanted.projects, &change.project)
        && one_of(&wanted.repositories, &change.repository)
        && wanted.before.is_none_or(|before| change.id < before)
}
