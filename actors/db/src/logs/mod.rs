//! Log text: the LogWriter and LogReader actors over a log store.

mod assembly;
mod reader;
pub(crate) mod store;
mod sweep;
pub(crate) mod tables;
mod writer;

pub use reader::LogReader;
pub use writer::LogWriter;
