//! Which builds are worth a message: modes, by the result of a build and of the one before.

use greenroom_config::Mode;
use greenroom_model::Results;

/// The modes that the end of a build fits. `previous` is the result of the build before on the same builder and branch.
///
/// A failure without a build before it counts as a problem: nobody knew of it yet.
pub fn detected(results: Results, previous: Option<Results>) -> Vec<Mode> {
    let mut modes = Vec::new();
    let plain = match results {
        Results::Success => Some(Mode::Passing),
        Results::Warnings => Some(Mode::Warnings),
        Results::Failure => Some(Mode::Failing),
        Results::Exception => Some(Mode::Exception),
        Results::Cancelled => Some(Mode::Cancelled),
        // Neither a skipped nor a repeated build says anything of the code.
        Results::Skipped | Results::Retry => None,
    };
    modes.extend(plain);
    if results == Results::Failure && previous != Some(Results::Failure) {
        modes.push(Mode::Problem);
    }
    if plain.is_some() && previous.is_some_and(|it| it != results) {
        modes.push(Mode::Change);
    }
    modes
}

/// Whether a notifier that tells of `wanted` tells of an end that fits `detected`.
pub fn is_told(wanted: &[Mode], detected: &[Mode]) -> bool {
    let any = |mode: &Mode| *mode != Mode::Started && wanted.contains(mode);
    detected.iter().any(any) || (wanted.contains(&Mode::All) && !detected.is_empty())
}

/// Whether an end with these results may be told at all, whatever came before it.
pub fn may_be_told(wanted: &[Mode], results: Results) -> bool {
    let possible = [None, Some(Results::Success), Some(Results::Failure)];
    possible.into_iter().any(|previous| is_told(wanted, &detected(results, previous)))
}

/// Whether the build before must be known to decide.
pub fn asks_for_previous(wanted: &[Mode]) -> bool {
    wanted.iter().any(|it| matches!(it, Mode::Problem | Mode::Change))
}

/// Whether a result says something of the code, so that the next one is compared with it.
pub fn is_verdict(results: Results) -> bool {
    matches!(results, Results::Success | Results::Warnings | Results::Failure | Results::Exception)
}

/// Whether a result is good enough to end a failure.
pub fn is_good(results: Results) -> bool {
    matches!(results, Results::Success | Results::Warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Results::*;

    /// Each mode, and for which (results, previous) it is told.
    #[test]
    fn each_mode_tells_what_it_says() {
        let ends = [Success, Warnings, Failure, Skipped, Exception, Retry, Cancelled];
        let before = [None, Some(Success), Some(Warnings), Some(Failure), Some(Exception)];
        for results in ends {
            for previous in before {
                let told = |mode| is_told(&[mode], &detected(results, previous));
                let verdict = !matches!(results, Skipped | Retry);
                assert_eq!(told(Mode::Failing), results == Failure);
                assert_eq!(told(Mode::Passing), results == Success);
                assert_eq!(told(Mode::Warnings), results == Warnings);
                assert_eq!(told(Mode::Exception), results == Exception);
                assert_eq!(told(Mode::Cancelled), results == Cancelled);
                assert_eq!(told(Mode::Problem), results == Failure && previous != Some(Failure));
                assert_eq!(
                    told(Mode::Change),
                    verdict && previous.is_some_and(|it| it != results),
                    "{results} {previous:?}"
                );
                assert_eq!(told(Mode::All), verdict);
                assert!(!told(Mode::Started));
            }
        }
    }

    #[test]
    fn what_can_never_be_told_is_known_early() {
        assert!(!may_be_told(&[Mode::Failing, Mode::Problem], Success));
        assert!(may_be_told(&[Mode::Change], Success));
        assert!(!may_be_told(&[Mode::All], Retry));
        for results in Results::ALL {
            for mode in [Mode::Failing, Mode::Passing, Mode::Problem, Mode::Change, Mode::All] {
                let ever = [None, Some(Success), Some(Warnings), Some(Failure), Some(Exception)]
                    .into_iter()
                    .any(|previous| is_told(&[mode], &detected(results, previous)));
                assert_eq!(may_be_told(&[mode], results), ever, "{results} {mode:?}");
            }
        }
    }
}
