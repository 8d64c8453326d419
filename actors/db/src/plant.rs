//! Faults that such systems are known to have, planted into the real code by tests, which show that they would be noticed.

/// A planted fault. Only [`Store::planted_for_test`](crate::Store::planted_for_test) sets one: no setting, no url, no message does.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plant {
    /// None: what always runs.
    #[default]
    Nothing,
    /// Events are taken as long as they are newer than the last (`seq > last`), in whichever order they come.
    AnythingNewer,
    /// An entity's version is delivered although an earlier one was not.
    SkippedVersion,
    /// An event's number is taken before its transaction is committed, for good.
    NumberBeforeCommit,
    /// Events are told before their transaction is committed.
    ToldBeforeCommit,
    /// A write that is asked for again is done again.
    DoneAgain,
    /// A master whose place was taken writes on.
    NoFence,
    /// A hub that missed something hands on what comes next.
    AcrossGap,
    /// What happened between a snapshot and the subscription since its clock is forgotten.
    ForgetsBetween,
    /// A clock of which events were removed is resumed from all the same.
    TrustsPruned,
    /// A clock of another life of the database, or from the future, is resumed from all the same.
    TrustsAnyClock,
}
