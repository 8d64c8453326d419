//! Messages between master and worker.
//!
//! The protocol is the one of stock workers (`msgpack_experimental_v7`): each WebSocket message is one MessagePack
//! map with `op` and `seq_number`; each side numbers its own requests from 0 and answers each of the other's
//! with exactly one response, in any order. This crate turns bytes into typed [`Frame`]s and back; it does no
//! I/O and keeps no state.
//!
//! # Compatibility
//!
//! - *Old reader, new data*: unknown keys are ignored at every level, in any order; an unknown operation, command or
//!   update pair is a value of its own (`Unknown`), never an error, so that the reader can answer or skip it.
//! - *New reader, old data*: every key added later must have a default that means what was meant without it.
//! - *Old writer, writing back*: nothing is written back; only an update pair that is not known keeps its bytes.
//! - Types are strict: a text where a number belongs is an error that says where. Two loose ones are known of
//!   stock programs and accepted: 0 or 1 for a boolean, an integer for a float.
//! - Extensions of our agent are announced in its info under [`EXTENSIONS_KEY`] by name and version; a
//!   master uses only what was announced, so either side may be older.
//!
//! # Cost
//!
//! Output in [batches](Batch) is neither looked at nor unpacked when a frame is read. Log text and file contents are slices of the received [`bytes::Bytes`]; nothing is copied a line. Line positions and
//! times are skipped. Lengths are checked against the frame before anything is allocated.

mod batch;
mod command;
mod error;
mod frame;
mod info;
mod reader;
mod settings;
mod update;
mod value;
mod writer;

pub use batch::{
    Batch, Chunk, Damaged, MAX_BATCH, MAX_CHUNKS, OUTPUT_BATCHES, OUTPUT_BATCHES_VERSION, Packer, Source,
};
pub use bytestring::ByteString;
pub use command::{
    Command, CommandLine, Cpdir, DEFAULT_TIMEOUT, DownloadFile, EnvValue, Logfile, Rmdir, Shell,
    UploadDirectory, UploadFile,
};
pub use error::{DecodeError, Problem};
pub use frame::{
    Frame, MasterFrame, MasterOp, Operation, Response, WorkerFrame, WorkerOp, decode_from_master,
    decode_from_worker, encode, encode_request, encode_response,
};
pub use info::{COMMAND_VERSION, EXTENSIONS_KEY, InfoError, WorkerInfo};
pub use settings::Settings;
pub use update::{FileStat, LogText, UpdateItem};
pub use value::{CommandId, Value};

/// Largest WebSocket message accepted, in bytes. Stock workers send whole lines, however long.
pub const MAX_FRAME: usize = 32 * 1024 * 1024;
