//! Storage: DbWriter, DbReader, LogWriter and LogReader actors over one schema and several engines.
//!
//! A [`Store`] is opened once a process and takes the master's row; the actors are made from it, again after each restart.
//! Only the [`DbWriter`] changes the database, and every change bears its events in the same transaction.

mod ids;
mod logs;
mod messages;
mod reader;
mod store;
mod writer;

pub use ids::{Exhausted, IdAllocator};
pub use logs::{LogReader, LogWriter};
pub use messages::*;
pub use reader::{DbReader, Stored};
pub use store::{OpenError, Store, migrate};
pub use writer::DbWriter;
