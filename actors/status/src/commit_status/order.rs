//! So that no older state is shown over a newer one of the same commit and name.
//!
//! Within a life of the notifier that is remembered. What a former life has shown is not, so a message that is tried again is held
//! against the builds themselves.

use std::collections::{HashMap, VecDeque};

use greenroom_data::{DataError, Ro};
use greenroom_model::query::{Compare, Filter, Query};
use greenroom_model::{Build, BuildRequest, Buildset};

use crate::notice::{BuildEvent, BuildNotice, SourceNotice};
use crate::notifier::enrich::sources;

/// For how many commits and names the last state is remembered.
const MAX_REMEMBERED: usize = 5_000;
/// Among how many newer builds one of the same revision is looked for.
const MAX_LOOKED_AT: u64 = 20;

/// A point in the order of states: builds by age, each begins before it ends.
pub(super) type Age = (i64, BuildEvent);

/// What has been shown, or was tried to be.
#[derive(Default)]
pub(super) struct Shown {
    last: HashMap<String, Age>,
    order: VecDeque<String>,
}

impl Shown {
    /// Notes that a state is about to be shown; false if a newer one was.
    pub fn advance(&mut self, repository: &str, revision: &str, context: &str, age: Age) -> bool {
        let key = format!("{repository}\n{revision}\n{context}");
        if let Some(last) = self.last.get_mut(&key) {
            let newer = rank(age) >= rank(*last);
            if newer {
                *last = age;
            }
            return newer;
        }
        if self.order.len() >= MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.last.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.last.insert(key, age);
        true
    }
}

fn rank((build, event): Age) -> (i64, u8) {
    (
        build,
        match event {
            BuildEvent::Started => 0,
            BuildEvent::Finished => 1,
        },
    )
}

/// Why a state is out of date, if it is: its build has ended since it began, or a newer build of its builder has the same revision.
pub(super) async fn out_of_date(ro: &Ro, notice: &BuildNotice) -> Result<Option<&'static str>, DataError> {
    if notice.event == BuildEvent::Started {
        let build = ro.get::<Build>(notice.build.0).await?.value;
        if build.is_some_and(|it| it.complete_at.is_some()) {
            return Ok(Some("the build has ended since"));
        }
    }
    let mut newer = Query::default().eq("builderid", notice.builder.0).limit(MAX_LOOKED_AT);
    let after = Filter { field: "number", compare: Compare::Gt, values: vec![notice.number.into()] };
    newer.filters.push(after);
    for build in ro.list::<Build>(newer).await?.value.items {
        let Some(request) = ro.get::<BuildRequest>(build.request.0).await?.value else { continue };
        let Some(buildset) = ro.get::<Buildset>(request.buildset.0).await?.value else { continue };
        let properties = ro.build_properties(&[build.id]).await?.value;
        let properties = properties.get(&build.id).cloned().unwrap_or_default();
        let newer = sources(&buildset.sourcestamps, &properties);
        let same = |it: &SourceNotice, other: &SourceNotice| {
            it.revision.is_some() && it.revision == other.revision && it.repository == other.repository
        };
        if newer.iter().any(|it| notice.sources.iter().any(|other| same(it, other))) {
            return Ok(Some("a newer build of the same revision has begun since"));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_go_forward_only() {
        use BuildEvent::{Finished, Started};
        let mut shown = Shown::default();
        let mut advance = |age| shown.advance("octo/hello", "abc", "ci/linux", age);
        assert!(advance((1, Started)));
        assert!(advance((1, Started)), "a repetition after a crash");
        assert!(advance((1, Finished)));
        assert!(!advance((1, Started)), "the pending state comes late");
        assert!(advance((2, Started)), "a rebuild");
        assert!(!advance((1, Finished)), "the end of the former build comes late");
        assert!(advance((2, Finished)));
        assert!(shown.advance("octo/hello", "abc", "ci/windows", (1, Started)), "another name");
        assert!(shown.advance("octo/hello", "def", "ci/linux", (1, Started)), "another commit");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut shown = Shown::default();
        for revision in 0..MAX_REMEMBERED as i64 + 10 {
            shown.advance("octo/hello", &revision.to_string(), "ci", (revision, BuildEvent::Started));
        }
        assert_eq!((shown.last.len(), shown.order.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
    }
}
