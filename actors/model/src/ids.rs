//! Identifiers: one newtype per resource, so that a build's id cannot be passed where a step's is meant.
//!
//! All are 64-bit integers, unique per resource over the whole cluster, allocated in blocks by the data
//! layer before the row is written (so that a writer knows the id of what it has not yet stored).

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
            #[serde(transparent)]
            pub struct $name(pub i64);

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(f)
                }
            }

            impl From<i64> for $name {
                fn from(id: i64) -> Self {
                    Self(id)
                }
            }

            impl AllocatedId for $name {
                const KIND: IdKind = IdKind::$kind;
            }
        )*

        /// The resources whose ids are allocated; each has a counter of its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum IdKind { $(#[doc = concat!("Ids of `", stringify!($name), "`.")] $kind),* }

        impl IdKind {
            /// Every kind, in the order of their discriminants.
            pub const ALL: &[IdKind] = &[$(IdKind::$kind),*];

            /// The kind's name as stored in the table of counters.
            pub fn name(self) -> &'static str {
                match self { $(IdKind::$kind => stringify!($kind)),* }
            }
        }
    };
}

/// An id that the data layer allocates.
pub trait AllocatedId: From<i64> + Copy {
    /// Which counter it comes from.
    const KIND: IdKind;
}

ids! {
    /// A master (one buildmaster process's identity over its restarts).
    MasterId => Master,
    /// A builder.
    BuilderId => Builder,
    /// A worker.
    WorkerId => Worker,
    /// A scheduler.
    SchedulerId => Scheduler,
    /// A change source.
    ChangeSourceId => ChangeSource,
    /// A project.
    ProjectId => Project,
    /// A codebase.
    CodebaseId => Codebase,
    /// A change.
    ChangeId => Change,
    /// A source stamp.
    SourceStampId => SourceStamp,
    /// A patch of a source stamp.
    PatchId => Patch,
    /// A buildset.
    BuildsetId => Buildset,
    /// A build request.
    BuildRequestId => BuildRequest,
    /// A build (unique over all builders; its *number* counts per builder).
    BuildId => Build,
    /// A step.
    StepId => Step,
    /// A log.
    LogId => Log,
    /// A control act.
    ControlId => Control,
    /// A version of a master's configuration (unique over all masters; its *number* counts per master).
    ConfigurationId => Configuration,
    /// A notifier.
    NotifierId => Notifier,
    /// A message of a notifier.
    DeliveryId => Delivery,
}
