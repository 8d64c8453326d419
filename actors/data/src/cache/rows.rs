//! How the rows of builders follow events.

use std::collections::BTreeSet;
use std::sync::Arc;

use greenroom_db::{BuilderHistory, Source};
use greenroom_model::*;

use super::Cache;
use crate::builder_rows::{BuilderRow, Line};
use crate::hot::Shown;

impl Cache {
    /// Begins the rows of all builders.
    pub(super) fn begin_rows(
        &mut self,
        histories: Vec<BuilderHistory>,
        totals: &std::collections::HashMap<BuilderId, (u64, u64)>,
    ) {
        for history in histories {
            let builder = history.builder;
            let mut row = BuilderRow::begin(history);
            (row.total_builds, row.total_requests) = totals.get(&builder).copied().unwrap_or_default();
            self.hot.rows.insert_mut(builder.0, Arc::new(row));
        }
        let requests: Vec<_> = self.hot.requests.values().map(|r| r.entity.clone()).collect();
        for request in requests {
            self.row(request.builder, |row| row.put_request(&request));
        }
        let workers: Vec<_> = self.hot.workers.values().map(|w| w.entity.clone()).collect();
        for worker in workers {
            self.count_worker(&worker, 1);
        }
        for change in self.hot.changes.values() {
            self.stamp_changes.insert(change.sourcestamp.id, change.id);
        }
    }

    fn row(&mut self, builder: BuilderId, edit: impl FnOnce(&mut BuilderRow)) {
        let mut row = match self.hot.rows.get(&builder.0) {
            Some(row) => (**row).clone(),
            None => BuilderRow::new(),
        };
        edit(&mut row);
        self.hot.rows.insert_mut(builder.0, Arc::new(row));
    }

    /// A builder is there, perhaps for the first time.
    pub(super) fn row_of_builder(&mut self, builder: BuilderId) {
        if !self.hot.rows.contains_key(&builder.0) {
            self.hot.rows.insert_mut(builder.0, Arc::new(BuilderRow::new()));
        }
    }

    /// A worker is about to become what `now` is.
    pub(super) fn row_of_worker(&mut self, now: &Worker) {
        if let Some(old) = self.hot.workers.get(&now.id.0).map(|w| w.entity.clone()) {
            if old.configured_on == now.configured_on
                && old.connected_to.is_empty() == now.connected_to.is_empty()
            {
                return;
            }
            self.count_worker(&old, -1);
        }
        self.count_worker(now, 1);
    }

    fn count_worker(&mut self, worker: &Worker, by: i64) {
        let builders: BTreeSet<BuilderId> = worker.configured_on.iter().map(|(_, b)| *b).collect();
        let connected = if worker.connected_to.is_empty() { 0 } else { by };
        for builder in builders {
            self.row(builder, |row| {
                row.workers.0 += by;
                row.workers.1 += connected;
            });
        }
    }

    /// A request has changed.
    pub(super) fn row_of_request(&mut self, request: &BuildRequest, name: EventName) {
        self.row(request.builder, |row| {
            row.total_requests += u64::from(name == EventName::New);
            row.put_request(request);
        });
    }

    /// A request was removed.
    pub(super) fn row_without_request(&mut self, request: &BuildRequest) {
        self.row(request.builder, |row| {
            row.total_requests = row.total_requests.saturating_sub(1);
            row.waiting.remove_mut(&request.id.0);
        });
    }

    /// A build has changed.
    pub(super) fn row_of_build(&mut self, build: &Arc<Build>, json: &Arc<str>, name: EventName) {
        let known = self.hot.rows.get(&build.builder.0).and_then(|row| row.source_of(build.id));
        let source = known.unwrap_or_else(|| self.source(build));
        let line = Line { build: Shown { entity: build.clone(), json: json.clone() }, source };
        let mut exact = true;
        self.row(build.builder, |row| {
            row.total_builds += u64::from(name == EventName::New);
            if build.complete_at.is_some() {
                row.finish(line);
                exact = row.streak().1;
            } else {
                row.put_running(line);
            }
        });
        if !exact {
            self.wanted.insert(build.builder);
        }
    }

    /// A build was removed.
    pub(super) fn row_without_build(&mut self, build: &Build) {
        let mut wanted = false;
        self.row(build.builder, |row| {
            row.total_builds = row.total_builds.saturating_sub(1);
            wanted = row.remove(build);
        });
        self.gone.insert(build.id);
        if wanted {
            self.wanted.insert(build.builder);
        }
    }

    /// Where a new build comes from. If that is not known here, it is read.
    fn source(&mut self, build: &Build) -> Arc<Source> {
        let hot = &self.hot;
        let request = hot.requests.get(&build.request.0);
        let set = request.and_then(|request| hot.buildsets.get(&request.buildset.0));
        let (Some(request), Some(set)) = (request, set) else {
            self.wanted.insert(build.builder);
            return Arc::default();
        };
        let change_of = |stamp| Some(hot.changes.get(&self.stamp_changes.get(&stamp)?.0)?.entity.clone());
        let source = Source::of(request, set, change_of);
        // A revision that no kept change stands for may have an older one.
        let may_be_older = hot.changes_floor > 0 && set.sourcestamps.iter().any(|s| s.revision.is_some());
        if source.change.is_none() && may_be_older {
            self.wanted.insert(build.builder);
        }
        Arc::new(source)
    }

    /// The builders whose rows must be read (again), if there are any. What is removed from now on is remembered until the answer
    /// is adopted.
    pub fn take_wanted(&mut self) -> Vec<BuilderId> {
        self.gone.clear();
        std::mem::take(&mut self.wanted).into_iter().collect()
    }

    /// These rows could not be read.
    pub fn want_rows(&mut self, builders: Vec<BuilderId>) {
        self.wanted.extend(builders);
    }

    /// Takes over rows that were read at a clock that the cache has reached.
    pub fn adopt_rows(&mut self, histories: Vec<BuilderHistory>) {
        let gone = std::mem::take(&mut self.gone);
        for history in histories {
            let builder = history.builder;
            self.row(builder, |row| row.adopt(history, &|build| gone.contains(&build)));
            if self.hot.rows.get(&builder.0).is_some_and(|row| !row.streak().1) {
                self.wanted.insert(builder);
            }
        }
    }
}
