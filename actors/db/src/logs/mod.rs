//! Log text: the LogWriter and LogReader actors over a log store.

mod assembly;
mod moves;
mod objects;
mod reader;
pub(crate) mod store;
mod sweep;
mod writer;

pub use moves::OBJECT;
pub use objects::{S3Options, TextStore};
pub use reader::LogReader;
pub use store::LogReads;
pub use writer::LogWriter;
