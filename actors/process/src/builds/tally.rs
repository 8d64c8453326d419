//! How the results of steps make the result of a build.

use greenroom_config::Step;
use greenroom_model::Results;

use crate::steps::StepEnd;

/// Why a run is broken off from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// Somebody stopped the build. Steps that always run still run.
    Stop {
        /// Their words.
        reason: String,
    },
    /// The build took longer than it may. Steps that always run still run.
    TimedOut,
    /// The master gives the build up: it will be built again.
    Abandon {
        /// Why.
        why: String,
    },
}

/// Which results of a step count how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub halt_on_failure: bool,
    pub flunk_on_failure: bool,
    pub flunk_on_warnings: bool,
    pub warn_on_failure: bool,
    pub warn_on_warnings: bool,
}

impl Rules {
    pub fn of(step: &Step) -> Self {
        let options = &step.options;
        Self {
            halt_on_failure: step.halts_on_failure(),
            flunk_on_failure: options.flunk_on_failure,
            flunk_on_warnings: options.flunk_on_warnings,
            warn_on_failure: options.warn_on_failure,
            warn_on_warnings: options.warn_on_warnings,
        }
    }

    /// Of what is no configured step.
    pub fn of_machinery() -> Self {
        Self {
            halt_on_failure: true,
            flunk_on_failure: true,
            flunk_on_warnings: false,
            warn_on_failure: false,
            warn_on_warnings: true,
        }
    }

    /// What a step's result means for its build, and whether it ends it.
    fn weigh(self, results: Results) -> (Results, bool) {
        match results {
            Results::Failure => {
                let counts = match (self.flunk_on_failure, self.warn_on_failure) {
                    (true, _) => Results::Failure,
                    (false, true) => Results::Warnings,
                    (false, false) => Results::Success,
                };
                (counts, self.halt_on_failure)
            }
            Results::Warnings => match (self.flunk_on_warnings, self.warn_on_warnings) {
                (true, _) => (Results::Failure, false),
                (false, true) => (Results::Warnings, false),
                (false, false) => (Results::Success, false),
            },
            Results::Exception | Results::Retry | Results::Cancelled => (results, true),
            Results::Success | Results::Skipped => (results, false),
        }
    }
}

/// The sum of what has happened in a build so far.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    results: Results,
    halted: bool,
    gone: bool,
    /// The step (or event) that made the result what it is.
    cause: Option<String>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { results: Results::Skipped, halted: false, gone: false, cause: None }
    }
}

impl Tally {
    /// Counts a step that ended.
    pub fn add(&mut self, rules: Rules, name: &str, end: &StepEnd) {
        let (counts, halts) = rules.weigh(end.results);
        self.take(counts, || format!("{name} ({})", end.text));
        self.halted |= halts;
        self.gone |= end.results == Results::Retry;
    }

    /// Counts an interruption. (The step that ran then is counted by its own result.)
    pub fn interrupt(&mut self, interruption: &Interruption) {
        self.halted = true;
        match interruption {
            Interruption::Stop { reason } => {
                self.take(Results::Cancelled, || {
                    if reason.is_empty() { "stopped".into() } else { reason.clone() }
                });
            }
            Interruption::TimedOut => self.take(Results::Failure, || "took longer than max-time".to_owned()),
            Interruption::Abandon { why } => {
                self.gone = true;
                self.take(Results::Retry, || why.clone());
            }
        }
    }

    fn take(&mut self, results: Results, cause: impl FnOnce() -> String) {
        let worse = self.results.worst_of(results);
        if worse != self.results {
            self.results = worse;
            self.cause = Some(cause());
        }
    }

    /// Whether a step is to be run.
    pub fn lets_run(&self, always_run: bool) -> bool {
        !self.gone && (!self.halted || always_run)
    }

    /// Whether nothing more can be run: the worker is lost or the build given up.
    pub fn is_over(&self) -> bool {
        self.gone
    }

    /// The result of the whole.
    pub fn results(&self) -> Results {
        if self.gone && self.results != Results::Cancelled {
            Results::Retry
        } else {
            Results::combine([self.results])
        }
    }

    /// The build's text.
    pub fn text(&self) -> String {
        let cause = self.cause.as_deref().unwrap_or_default();
        match self.results() {
            Results::Success | Results::Skipped => "build successful".to_owned(),
            Results::Warnings => format!("warnings {cause}"),
            Results::Failure => format!("failed {cause}"),
            Results::Exception => format!("exception {cause}"),
            Results::Retry => format!("lost: {cause}"),
            Results::Cancelled => format!("cancelled: {cause}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Rules = Rules {
        halt_on_failure: false,
        flunk_on_failure: true,
        flunk_on_warnings: false,
        warn_on_failure: false,
        warn_on_warnings: false,
    };

    fn after(steps: &[(Rules, Results)]) -> Tally {
        let mut tally = Tally::default();
        for (rules, results) in steps {
            tally.add(*rules, "step", &StepEnd::new(*results, "text"));
        }
        tally
    }

    #[test]
    fn flags_decide_what_a_failure_means() {
        use Results::*;
        let quiet = Rules { flunk_on_failure: false, ..PLAIN };
        let warning = Rules { warn_on_failure: true, ..quiet };
        assert_eq!(after(&[(PLAIN, Failure), (PLAIN, Success)]).results(), Failure);
        assert_eq!(after(&[(quiet, Failure)]).results(), Success);
        assert_eq!(after(&[(warning, Failure)]).results(), Warnings);
        assert_eq!(after(&[(Rules { warn_on_failure: true, ..PLAIN }, Failure)]).results(), Failure);
    }

    #[test]
    fn flags_decide_what_warnings_mean() {
        use Results::*;
        assert_eq!(after(&[(PLAIN, Warnings)]).results(), Success);
        assert_eq!(after(&[(Rules { warn_on_warnings: true, ..PLAIN }, Warnings)]).results(), Warnings);
        let strict = Rules { warn_on_warnings: true, flunk_on_warnings: true, ..PLAIN };
        assert_eq!(after(&[(strict, Warnings)]).results(), Failure);
    }

    #[test]
    fn only_a_halting_failure_keeps_later_steps_from_running() {
        let go_on = after(&[(PLAIN, Results::Failure)]);
        assert!(go_on.lets_run(false));
        let halted = after(&[(Rules { halt_on_failure: true, ..PLAIN }, Results::Failure)]);
        assert!(!halted.lets_run(false) && halted.lets_run(true));
        assert_eq!(halted.text(), "failed step (text)");
    }

    #[test]
    fn a_lost_worker_outweighs_an_earlier_failure_and_nothing_runs_any_more() {
        let lost = after(&[(PLAIN, Results::Failure), (PLAIN, Results::Retry)]);
        assert_eq!(lost.results(), Results::Retry);
        assert!(!lost.lets_run(true));
    }

    #[test]
    fn a_stopped_build_is_cancelled_whatever_its_steps_said() {
        let mut tally = after(&[(PLAIN, Results::Failure)]);
        tally.interrupt(&Interruption::Stop { reason: "wrong branch".into() });
        tally.add(PLAIN, "clean up", &StepEnd::new(Results::Success, "finished"));
        assert_eq!((tally.results(), tally.text()), (Results::Cancelled, "cancelled: wrong branch".into()));
        tally.interrupt(&Interruption::Abandon { why: "the master stops".into() });
        assert_eq!(tally.results(), Results::Cancelled, "who stopped it does not want it again");
    }

    #[test]
    fn skipped_steps_do_not_count() {
        assert_eq!(after(&[(PLAIN, Results::Skipped)]).results(), Results::Success);
        assert_eq!(after(&[]).results(), Results::Success);
    }
}
