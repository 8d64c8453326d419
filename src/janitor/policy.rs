//! Which of a builder's builds go: plain, over facts that come newest first.

use std::collections::HashMap;

use greenroom_config::RetentionPolicy;
use greenroom_data::retention::BuildFacts;
use greenroom_model::{Results, Timestamp};

/// What becomes of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// It stays, its logs go.
    DropLogs,
    /// It goes.
    Drop,
}

/// What was seen of a branch so far.
#[derive(Default)]
struct Branch {
    builds: u32,
    good: u32,
    log_bytes: u64,
}

/// A walk through a builder's history, from its newest build on.
pub struct Walk {
    policy: RetentionPolicy,
    now: Timestamp,
    branches: HashMap<Option<String>, Branch>,
    is_first: bool,
}

impl Walk {
    /// At a builder's newest build.
    pub fn new(policy: RetentionPolicy, now: Timestamp) -> Self {
        Self { policy, now, branches: HashMap::new(), is_first: true }
    }

    /// Whether the bytes of logs decide.
    pub fn needs_bytes(&self) -> bool {
        self.policy.log_bytes.is_some()
    }

    /// The next older build; `log_bytes` is how much text its logs have.
    pub fn next(&mut self, build: &BuildFacts, log_bytes: u64) -> Verdict {
        let newest = std::mem::take(&mut self.is_first);
        let Some(ended) = build.complete_at else { return Verdict::Keep };
        let branch = self.branches.entry(build.branch.clone()).or_default();
        branch.builds = branch.builds.saturating_add(1);
        branch.log_bytes = branch.log_bytes.saturating_add(log_bytes);
        let good = matches!(build.results, Some(Results::Success | Results::Warnings));
        branch.good = branch.good.saturating_add(u32::from(good));
        if !self.policy.enabled || build.pinned || (good && branch.good <= self.policy.keep_good) {
            return Verdict::Keep;
        }
        let age = u64::try_from(self.now.micros_since(ended)).unwrap_or(0);
        let over = |count: u32, limit: u32| count > limit;
        let goes = age > self.policy.build_age.as_micros() || over(branch.builds, self.policy.build_count);
        // Its number is where the next one counts on from.
        if goes && !newest {
            return Verdict::Drop;
        }
        let logs_go = age > self.policy.log_age.as_micros()
            || over(branch.builds, self.policy.log_count)
            || self.policy.log_bytes.is_some_and(|limit| branch.log_bytes > limit);
        if logs_go && !newest && !build.logs_removed { Verdict::DropLogs } else { Verdict::Keep }
    }
}

#[cfg(test)]
mod tests {
    use greenroom_config::values::Duration;
    use greenroom_model::BuildId;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn policy() -> RetentionPolicy {
        RetentionPolicy {
            enabled: true,
            build_age: Duration::from_secs(100 * 3600),
            build_count: 100,
            keep_good: 0,
            log_age: Duration::from_secs(50 * 3600),
            log_count: 100,
            log_bytes: None,
        }
    }

    /// A build of `main` that ended so many hours ago.
    fn build(number: i64, hours: i64, results: Results) -> BuildFacts {
        BuildFacts {
            id: BuildId(number),
            number,
            results: Some(results),
            complete_at: Some(Timestamp(1_000 * HOUR - hours * HOUR)),
            branch: Some("main".into()),
            pinned: false,
            logs_removed: false,
        }
    }

    fn walk(policy: RetentionPolicy, builds: &[BuildFacts]) -> String {
        let mut walk = Walk::new(policy, Timestamp(1_000 * HOUR));
        let letter = |b: &BuildFacts| match walk.next(b, 10) {
            Verdict::Keep => 'k',
            Verdict::DropLogs => 'l',
            Verdict::Drop => 'd',
        };
        builds.iter().map(letter).collect()
    }

    use Results::{Failure, Success};

    #[test]
    fn age_takes_logs_first_and_builds_later_but_never_the_newest() {
        let ages = [200, 10, 60, 120];
        let builds: Vec<_> = (0..4).zip(ages).map(|(i, hours)| build(9 - i, hours, Failure)).collect();
        assert_eq!(walk(policy(), &builds), "kkld");
        let gone: Vec<_> = builds.into_iter().map(|b| BuildFacts { logs_removed: true, ..b }).collect();
        assert_eq!(walk(policy(), &gone), "kkkd", "logs go once");
    }

    #[test]
    fn counts_are_by_branch() {
        let other = |b: BuildFacts| BuildFacts { branch: None, ..b };
        let builds = [
            build(9, 1, Failure),
            build(8, 1, Failure),
            other(build(7, 1, Failure)),
            build(6, 1, Failure),
            other(build(5, 1, Failure)),
        ];
        let few = RetentionPolicy { build_count: 2, log_count: 1, ..policy() };
        assert_eq!(walk(few, &builds), "klkdl");
    }

    #[test]
    fn the_last_good_ones_pinned_ones_and_running_ones_stay() {
        let pinned = BuildFacts { pinned: true, ..build(5, 500, Failure) };
        let running = BuildFacts { complete_at: None, results: None, ..build(4, 0, Failure) };
        let builds = [
            build(9, 1, Failure),
            build(8, 500, Success),
            build(7, 500, Failure),
            build(6, 500, Success),
            pinned,
            running,
            build(3, 600, Success),
        ];
        let two = RetentionPolicy { keep_good: 2, ..policy() };
        assert_eq!(walk(two, &builds), "kkdkkkd");
        assert_eq!(walk(RetentionPolicy { enabled: false, ..two }, &builds), "kkkkkkk");
    }

    #[test]
    fn bytes_take_the_oldest_logs() {
        let builds: Vec<_> = (0..4).map(|i| build(9 - i, 1, Failure)).collect();
        let small = RetentionPolicy { log_bytes: Some(25), ..policy() };
        assert_eq!(walk(small, &builds), "kkll");
    }
}
