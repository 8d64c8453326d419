//! One file per section of the configuration. To add a section: a struct here with
//! `deny_unknown_fields` and kebab-case names, a field in [`Settings`](crate::Settings), a line in
//! `extract.rs` and its defaults in `defaults.toml`.

pub mod builders;
pub mod change_sources;
pub mod database;
pub mod logs;
pub mod master;
pub mod mq;
pub mod notifiers;
pub mod retention;
pub mod schedulers;
pub mod steps;
pub mod supervision;
pub mod workers;
pub mod www;
