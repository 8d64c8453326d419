//! Storage: DbWriter, DbReader, LogWriter and LogReader actors over one schema and several engines.
//!
//! A [`Store`] is opened once a process and takes the master's row; the actors are made from it, again after each restart.
//! Only the [`DbWriter`] changes the database, and every change bears its events in the same transaction.

pub mod copy;
mod core;
mod engine;
mod fill;
mod history;
mod ids;
mod logs;
mod messages;
mod metrics;
mod ops;
mod options;
mod pages;
mod plant;
mod query;
mod reader;
mod reads;
mod reads_retention;
mod replica;
mod rows;
mod schema;
mod store;
mod work;
mod writer;

pub use engine::migrate::{Migrated, Upto};
#[doc(hidden)]
pub use engine::troubled::{Fate, Fates};
pub use fill::{FillError, Filling};
pub use history::{
    Before, BuildContext, BuildContextOf, BuilderHistory, ChangesOfStamps, ConsoleCell, ConsoleCells,
    ConsoleCellsOf, ConsoleOf, ConsolePage, ConsoleRow, HistoriesOf, LONGEST_STREAK, LatestBuild,
    RECENT_OF_BUILDER, SETS_OF_STAMP, Source, Streak, Verdict, took, verdict,
};
pub use ids::{Exhausted, IdAllocator};
pub use logs::{LogReader, LogReads, LogWriter, S3Options, TextStore};
pub use messages::*;
pub use metrics::WriterMetrics;
pub use options::{DatabaseOptions, LEASE};
#[doc(hidden)]
pub use plant::Plant;
pub use reader::{DbReader, Stored};
#[doc(hidden)]
pub use store::migration_statements;
pub use store::{OpenError, Store, migrate, migrate_to};
pub use writer::DbWriter;
