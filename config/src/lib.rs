//! Typed settings: layered TOML and environment, one file per section, all faults at once.
//!
//! [`load`] reads the layers, later wins: built-in defaults (`defaults.toml`), the system directory, the named files in
//! order, each file's `NAME.d/*.toml`, `GREENROOM_…` variables, `--set`. What comes out is a [`Settings`] in which every
//! value has been checked, or [`Faults`] with all that is wrong at once.

pub mod check;
mod cross;
pub mod difference;
mod effect;
mod expand;
pub mod explain;
pub mod expr;
mod extract;
mod fault;
mod fold;
mod globs;
mod include;
mod layers;
mod load;
pub mod mask;
mod matrix;
mod places;
mod reach;
mod recipes;
pub mod schema;
mod secrets;
pub mod sections;
mod settings;
pub mod show;
mod source;
mod stored;
pub mod supervised;
mod telling;
pub mod values;

pub use difference::{Difference, Values};
pub use fault::{Fault, Faults, Note, Place, Severity};
pub use layers::LoadOptions;
pub use load::{Loaded, Origin, load, load_text};
pub use secrets::Secrets;
pub use stored::{Layers, StoredError, load_layers};

pub use sections::builders::{Builder, BuilderOptions, Collapse};
pub use sections::change_sources::{ChangeSource, GitPoller};
pub use sections::database::{Database, DatabaseUrl};
pub use sections::logs::{LogStoreKind, Logs};
pub use sections::master::Master;
pub use sections::mq::{Mq, MqUrl};
pub use sections::notifiers::{
    AddressRule, Channel, CommitStatus, Irc, IrcAct, Mail, MailAddress, MailDomain, Mode, Notifier,
    NotifierKind, NotifierOptions, Per, PersonPattern, Relay, Sasl, Security, SmtpRelay, Webhook,
    is_repository,
};
pub use sections::retention::{Retention, RetentionPatch, RetentionPolicy};
pub use sections::schedulers::{
    ChangeScheduler, Filter, FilterInput, ForceScheduler, Parameter, ParameterKind, Scheduler,
};
pub use sections::steps::{
    ExitCode, GitMethod, GitMode, GitStep, ResultName, SetPropertyStep, ShellStep, Step, StepAction,
    StepOptions,
};
pub use sections::supervision::{Backoff, Policy, PolicyPatch, Restart, Strategy, Supervision};
pub use sections::workers::{Worker, WorkerKind};
pub use sections::www::{Auth, ChangeHook, Www};
pub use settings::Settings;
