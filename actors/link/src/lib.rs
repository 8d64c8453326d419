//! The master's side of worker connections: one session actor each.

mod command;
mod facts;
mod workers;

pub use command::{CommandEnd, CommandStart, LinkError};
pub use facts::WorkerFacts;
pub use greenroom_protocol::{
    Command, CommandLine, Cpdir, DownloadFile, EnvValue, FileStat, Logfile, Rmdir, Shell, UploadDirectory,
    UploadFile,
};
pub use workers::Workers;
