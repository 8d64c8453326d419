//! What an earlier life of this master left behind.

use std::time::Duration;

use greenroom_data::DataError;
use greenroom_model::*;
use tokio::time::timeout;

use crate::handles::Handles;
use crate::lost_logs;

/// Builds ended in one write when a master starts.
const RECOVERED_AT_ONCE: usize = 50;

/// Builds of this master that nobody runs any more end as retry: their requests are free again (or end as exception, when
/// that happened too often).
pub(crate) async fn recover(h: &Handles) -> Result<(), DataError> {
    let hot = h.ro().hot();
    let left: Vec<BuildId> = hot.running_builds().filter(|it| it.master == h.me()).map(|it| it.id).collect();
    let mut last = None;
    for some in left.chunks(RECOVERED_AT_ONCE) {
        let ended = |build: &BuildId| Op::FinishBuild {
            build: *build,
            results: Results::Retry,
            state_string: "lost: the master was restarted".to_owned(),
        };
        lost_logs::end(h, some, "the master was restarted while the command ran").await?;
        match h.persist(some.iter().map(ended).collect()).await {
            Ok(committed) => last = Some(committed),
            Err(DataError::Refused(_)) => {
                // one of them spoils the others: each alone
                for build in some {
                    match h.persist(vec![ended(build)]).await {
                        Ok(committed) => last = Some(committed),
                        Err(DataError::Refused(refusal)) => {
                            tracing::debug!(build.id = build.0, %refusal, "a build had ended already");
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    if !left.is_empty() {
        tracing::info!(
            builds = left.len(),
            "builds of an earlier life of this master were ended; they are repeated"
        );
    }
    match last {
        Some(committed) => timeout(Duration::from_secs(60), h.settle(&committed))
            .await
            .unwrap_or_else(|_| Err(DataError::unavailable("recovery is not published"))),
        None => Ok(()),
    }
}
