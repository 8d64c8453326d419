//! G4: when all is calm again everything has its end, and the ends agree.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Final, Findings};

const RETRY: i64 = 5;

pub(super) fn judge(state: &Final, findings: &mut Findings) {
    if !state.settled() {
        return;
    }
    for (what, id) in [("buildsets", "bsid"), ("buildrequests", "buildrequestid"), ("builds", "buildid")] {
        for row in state.rows(what) {
            let has_result = row["results"].as_i64().is_some_and(|it| it >= 0);
            if row["complete"] != true || !has_result {
                findings.fault("G4", format!("{what} {} has no end: {row}", row[id]));
            }
        }
    }
    let mut last: BTreeMap<i64, &Value> = BTreeMap::new();
    // Ids come from each master's own block; numbers of a builder are in order.
    let mut builds: Vec<&Value> = state.rows("builds").iter().collect();
    builds.sort_by_key(|it| it["number"].as_i64());
    for build in builds {
        let request = build["buildrequestid"].as_i64().unwrap_or_default();
        if let Some(earlier) = last.insert(request, build)
            && earlier["results"] != RETRY
        {
            let what = format!("build {} was followed by {}", earlier["buildid"], build["buildid"]);
            findings.fault("G4", what);
        }
    }
    for request in state.rows("buildrequests") {
        let build = request["buildrequestid"].as_i64().and_then(|id| last.get(&id));
        if let Some(build) = build.filter(|it| it["results"] != request["results"]) {
            let what = format!(
                "request {} ended as {}, its last build {} as {}",
                request["buildrequestid"], request["results"], build["buildid"], build["results"]
            );
            findings.fault("G4", what);
        }
    }
}
