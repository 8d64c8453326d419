//! The envelope: requests and responses, numbered by the side that asks.

use bytes::Bytes;
use bytestring::ByteString;

use crate::batch::{self, Batch, BatchFields, Source};
use crate::command::Command;
use crate::error::{DecodeError, Inside, Problem};
use crate::reader::Reader;
use crate::settings::Settings;
use crate::update::UpdateItem;
use crate::value::{CommandId, Value};
use crate::writer::Writer;

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Most pairs accepted in one update.
const MAX_PAIRS: usize = 1 << 16;

/// One WebSocket message: a request of the side that `Op` belongs to, or its response to the other's.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame<Op> {
    /// Something asked for; wants exactly one response with the same number.
    Request {
        /// The asking side's own count, from 0 for each connection.
        seq: u64,
        /// What is asked for.
        op: Op,
    },
    /// The answer to a request of the other side.
    Response(Response),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Number of the request.
    pub seq: u64,
    /// Its result, or the text of the error.
    pub result: Result<Value, String>,
}

/// A frame a master sends.
pub type MasterFrame = Frame<MasterOp>;
/// A frame a worker sends.
pub type WorkerFrame = Frame<WorkerOp>;

/// What a master asks of a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum MasterOp {
    /// Write a message to the worker's own log.
    Print {
        /// The message.
        message: String,
    },
    /// Show that the connection lives.
    Keepalive,
    /// Ask for [`crate::WorkerInfo`].
    GetWorkerInfo,
    /// How output of commands started later is collected.
    SetWorkerSettings(Settings),
    /// Start a command. Its updates and its end may arrive before the response.
    StartCommand {
        /// The master's name of this run.
        command_id: CommandId,
        /// What to run.
        command: Command,
    },
    /// Stop a command; also answered with nil if the id is unknown.
    InterruptCommand {
        /// The run to stop.
        command_id: CommandId,
        /// Reason, for the worker's log.
        why: String,
    },
    /// End the worker's process.
    Shutdown,
    /// An operation this crate does not know.
    Unknown {
        /// Its name.
        op: String,
    },
}

/// What a worker asks of a master.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerOp {
    /// Facts about a running command.
    Update {
        /// The run.
        command_id: CommandId,
        /// The facts, in order.
        items: Vec<UpdateItem>,
    },
    /// The end of a command; nothing follows.
    Complete {
        /// The run.
        command_id: CommandId,
        /// Text of the failure if the command itself broke; then a failure whatever its `rc` said.
        failure: Option<String>,
        /// Bytes of each source that had any, if they came in batches.
        totals: Option<Vec<(Source, u64)>>,
    },
    /// Output in a batch: only if the master enabled that.
    Output {
        /// The run.
        command_id: CommandId,
        /// What it wrote.
        batch: Batch,
    },
    /// A block of an uploaded file.
    UploadFileWrite {
        /// The run.
        command_id: CommandId,
        /// The block.
        block: Bytes,
    },
    /// End of an uploaded file; also sent when it could not be opened.
    UploadFileClose {
        /// The run.
        command_id: CommandId,
    },
    /// Times of an uploaded file, in seconds since 1970.
    UploadFileUtime {
        /// The run.
        command_id: CommandId,
        /// Last access.
        access_time: Option<f64>,
        /// Last change.
        modified_time: Option<f64>,
    },
    /// A block of the tar stream of an uploaded directory.
    UploadDirectoryWrite {
        /// The run.
        command_id: CommandId,
        /// The block.
        block: Bytes,
    },
    /// End of the tar stream: unpack it.
    UploadDirectoryUnpack {
        /// The run.
        command_id: CommandId,
    },
    /// Ask for the next block of a download; empty means its end.
    ReadFile {
        /// The run.
        command_id: CommandId,
        /// Most bytes to answer with.
        length: u64,
    },
    /// End of a download.
    ReadFileClose {
        /// The run.
        command_id: CommandId,
    },
    /// An operation this crate does not know.
    Unknown {
        /// Its name.
        op: String,
    },
}

impl WorkerOp {
    /// The command this belongs to.
    pub fn command_id(&self) -> Option<&CommandId> {
        match self {
            WorkerOp::Update { command_id, .. }
            | WorkerOp::Complete { command_id, .. }
            | WorkerOp::Output { command_id, .. }
            | WorkerOp::UploadFileWrite { command_id, .. }
            | WorkerOp::UploadFileClose { command_id }
            | WorkerOp::UploadFileUtime { command_id, .. }
            | WorkerOp::UploadDirectoryWrite { command_id, .. }
            | WorkerOp::UploadDirectoryUnpack { command_id }
            | WorkerOp::ReadFile { command_id, .. }
            | WorkerOp::ReadFileClose { command_id } => Some(command_id),
            WorkerOp::Unknown { .. } => None,
        }
    }
}

impl Response {
    /// A success.
    pub fn ok(seq: u64, value: Value) -> Self {
        Self { seq, result: Ok(value) }
    }

    /// A success without a value.
    pub fn nil(seq: u64) -> Self {
        Self::ok(seq, Value::Nil)
    }

    /// A failure, with the text of the error.
    pub fn error(seq: u64, text: impl Into<String>) -> Self {
        Self { seq, result: Err(text.into()) }
    }

    fn write(&self, writer: &mut Writer) {
        // `is_exception` counts as a failure by its mere presence, so a success leaves it out.
        writer.map(if self.result.is_ok() { 3 } else { 4 });
        writer.text("op");
        writer.text("response");
        writer.text("seq_number");
        writer.uint(self.seq);
        writer.text("result");
        match &self.result {
            Ok(value) => value.write(writer),
            Err(text) => {
                writer.text(text);
                writer.text("is_exception");
                writer.bool(true);
            }
        }
    }
}

mod sealed {
    use super::{CommandId, Fields, Result, Writer};

    /// Operations of one side. Sealed: the two sides are all there are.
    pub trait Operation: Sized {
        fn decode(op: &str, fields: &Fields<'_>) -> Result<Self>;
        fn write(&self, seq: u64, writer: &mut Writer);
        fn size_hint(&self) -> usize;
    }

    pub(super) fn begin(writer: &mut Writer, op: &str, extra: usize, seq: u64) {
        writer.map(2 + extra);
        writer.text("op");
        writer.text(op);
        writer.text("seq_number");
        writer.uint(seq);
    }

    pub(super) fn begin_for(writer: &mut Writer, op: &str, extra: usize, seq: u64, id: &CommandId) {
        begin(writer, op, 1 + extra, seq);
        writer.text("command_id");
        id.write(writer);
    }
}
use sealed::{begin, begin_for};

/// Operations of one side: [`MasterOp`] or [`WorkerOp`].
pub trait Operation: sealed::Operation {}
impl Operation for MasterOp {}
impl Operation for WorkerOp {}

/// The top-level keys of a message, found in any order and read when the operation is known.
#[derive(Debug)]
pub struct Fields<'a> {
    whole: Reader<'a>,
    op: Option<Reader<'a>>,
    seq_number: Option<Reader<'a>>,
    command_id: Option<Reader<'a>>,
    command_name: Option<Reader<'a>>,
    args: Option<Reader<'a>>,
    message: Option<Reader<'a>>,
    why: Option<Reader<'a>>,
    result: Option<Reader<'a>>,
    is_exception: bool,
    length: Option<Reader<'a>>,
    access_time: Option<Reader<'a>>,
    modified_time: Option<Reader<'a>>,
    chunks: Option<Reader<'a>>,
    size: Option<Reader<'a>>,
    encoding: Option<Reader<'a>>,
    data: Option<Reader<'a>>,
    output: Option<Reader<'a>>,
}

impl<'a> Fields<'a> {
    fn read(frame: &'a Bytes) -> Result<Self> {
        let mut reader = Reader::new(frame);
        let mut fields = Fields {
            whole: Reader::new(frame),
            op: None,
            seq_number: None,
            command_id: None,
            command_name: None,
            args: None,
            message: None,
            why: None,
            result: None,
            is_exception: false,
            length: None,
            access_time: None,
            modified_time: None,
            chunks: None,
            size: None,
            encoding: None,
            data: None,
            output: None,
        };
        for _ in 0..reader.map()? {
            let key = reader.key()?;
            let value = Some(reader.value()?);
            match key {
                b"op" => fields.op = value,
                b"seq_number" => fields.seq_number = value,
                b"command_id" => fields.command_id = value,
                b"command_name" => fields.command_name = value,
                b"args" => fields.args = value,
                b"message" => fields.message = value,
                b"why" => fields.why = value,
                b"result" => fields.result = value,
                b"is_exception" => fields.is_exception = true,
                b"length" => fields.length = value,
                b"access_time" => fields.access_time = value,
                b"modified_time" => fields.modified_time = value,
                b"chunks" => fields.chunks = value,
                b"size" => fields.size = value,
                b"encoding" => fields.encoding = value,
                b"data" => fields.data = value,
                b"output" => fields.output = value,
                _ => {}
            }
        }
        if !reader.is_at_end() {
            return Err(reader.error(Problem::TrailingBytes));
        }
        Ok(fields)
    }

    fn get<T>(
        &self,
        field: &Option<Reader<'a>>,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T>,
    ) -> Result<T> {
        match field {
            Some(reader) => read(&mut reader.clone()).inside(key),
            None => Err(self.whole.error(Problem::Missing(key))),
        }
    }

    fn id(&self) -> Result<CommandId> {
        self.get(&self.command_id, "command_id", CommandId::read)
    }

    fn block(&self) -> Result<Bytes> {
        self.get(&self.args, "args", Reader::bin)
    }

    fn time(&self, field: &Option<Reader<'a>>, key: &'static str) -> Result<Option<f64>> {
        self.get(field, key, |reader| reader.optional(Reader::number))
    }

    fn batch(&self) -> Result<Batch> {
        let whole = |field: &Option<Reader<'a>>, key| self.get(field, key, |reader| Ok(reader.clone()));
        Batch::read(BatchFields {
            chunks: whole(&self.chunks, "chunks")?,
            size: whole(&self.size, "size")?,
            encoding: self.encoding.clone().filter(|reader| !reader.clone().nil()),
            data: whole(&self.data, "data")?,
        })
    }

    fn totals(&self) -> Result<Option<Vec<(Source, u64)>>> {
        match &self.output {
            Some(_) => self.get(&self.output, "output", |reader| reader.optional(batch::read_totals)),
            None => Ok(None),
        }
    }

    fn response(&self, seq: u64) -> Result<Response> {
        let value = self.get(&self.result, "result", Value::read)?;
        let result = match (self.is_exception, value) {
            (false, value) => Ok(value),
            (true, Value::Text(text)) => Err(text.to_string()),
            (true, other) => Err(format!("{other:?}")),
        };
        Ok(Response { seq, result })
    }
}

fn read_items(reader: &mut Reader<'_>) -> Result<Vec<UpdateItem>> {
    let at = reader.clone();
    let count = reader.array()?;
    if count > MAX_PAIRS {
        return Err(at.error(Problem::TooManyItems));
    }
    let mut items = Vec::with_capacity(count.min(16));
    for index in 0..count {
        items.push(UpdateItem::read(reader).map_err(|error| error.inside(&index.to_string()))?);
    }
    Ok(items)
}

impl sealed::Operation for MasterOp {
    fn decode(op: &str, fields: &Fields<'_>) -> Result<Self> {
        Ok(match op {
            "print" => MasterOp::Print { message: fields.get(&fields.message, "message", Reader::string)? },
            "keepalive" => MasterOp::Keepalive,
            "get_worker_info" => MasterOp::GetWorkerInfo,
            "set_worker_settings" => {
                MasterOp::SetWorkerSettings(fields.get(&fields.args, "args", Settings::read)?)
            }
            "start_command" => {
                let command_id = fields.id()?;
                let name = fields.get(&fields.command_name, "command_name", Reader::text)?;
                let command = fields.get(&fields.args, "args", |reader| Command::read(&name, reader))?;
                MasterOp::StartCommand { command_id, command }
            }
            "interrupt_command" => MasterOp::InterruptCommand {
                command_id: fields.id()?,
                why: fields.get(&fields.why, "why", Reader::string)?,
            },
            "shutdown" => MasterOp::Shutdown,
            other => MasterOp::Unknown { op: other.to_owned() },
        })
    }

    fn write(&self, seq: u64, writer: &mut Writer) {
        match self {
            MasterOp::Print { message } => {
                begin(writer, "print", 1, seq);
                writer.text("message");
                writer.text(message);
            }
            MasterOp::Keepalive => begin(writer, "keepalive", 0, seq),
            MasterOp::GetWorkerInfo => begin(writer, "get_worker_info", 0, seq),
            MasterOp::SetWorkerSettings(settings) => {
                begin(writer, "set_worker_settings", 1, seq);
                writer.text("args");
                settings.write(writer);
            }
            MasterOp::StartCommand { command_id, command } => {
                begin_for(writer, "start_command", 2, seq, command_id);
                writer.text("command_name");
                writer.text(command.name());
                writer.text("args");
                command.write(writer);
            }
            MasterOp::InterruptCommand { command_id, why } => {
                begin_for(writer, "interrupt_command", 1, seq, command_id);
                writer.text("why");
                writer.text(why);
            }
            MasterOp::Shutdown => begin(writer, "shutdown", 0, seq),
            MasterOp::Unknown { op } => begin(writer, op, 0, seq),
        }
    }

    fn size_hint(&self) -> usize {
        512
    }
}

impl sealed::Operation for WorkerOp {
    fn decode(op: &str, fields: &Fields<'_>) -> Result<Self> {
        Ok(match op {
            "update" => WorkerOp::Update {
                command_id: fields.id()?,
                items: fields.get(&fields.args, "args", read_items)?,
            },
            "complete" => WorkerOp::Complete {
                command_id: fields.id()?,
                failure: fields.get(&fields.args, "args", |reader| reader.optional(Reader::string))?,
                totals: fields.totals()?,
            },
            "output" => WorkerOp::Output { command_id: fields.id()?, batch: fields.batch()? },
            "update_upload_file_write" => {
                WorkerOp::UploadFileWrite { command_id: fields.id()?, block: fields.block()? }
            }
            "update_upload_file_close" => WorkerOp::UploadFileClose { command_id: fields.id()? },
            "update_upload_file_utime" => WorkerOp::UploadFileUtime {
                command_id: fields.id()?,
                access_time: fields.time(&fields.access_time, "access_time")?,
                modified_time: fields.time(&fields.modified_time, "modified_time")?,
            },
            "update_upload_directory_write" => {
                WorkerOp::UploadDirectoryWrite { command_id: fields.id()?, block: fields.block()? }
            }
            "update_upload_directory_unpack" => WorkerOp::UploadDirectoryUnpack { command_id: fields.id()? },
            "update_read_file" => WorkerOp::ReadFile {
                command_id: fields.id()?,
                length: fields.get(&fields.length, "length", Reader::uint)?,
            },
            "update_read_file_close" => WorkerOp::ReadFileClose { command_id: fields.id()? },
            other => WorkerOp::Unknown { op: other.to_owned() },
        })
    }

    fn write(&self, seq: u64, writer: &mut Writer) {
        match self {
            WorkerOp::Update { command_id, items } => {
                begin_for(writer, "update", 1, seq, command_id);
                writer.text("args");
                writer.array(items.len());
                for item in items {
                    item.write(writer);
                }
            }
            WorkerOp::Complete { command_id, failure, totals } => {
                begin_for(writer, "complete", 1 + usize::from(totals.is_some()), seq, command_id);
                writer.text("args");
                writer.optional(failure.as_deref(), Writer::text);
                if let Some(totals) = totals {
                    writer.text("output");
                    batch::write_totals(writer, totals);
                }
            }
            WorkerOp::Output { command_id, batch } => {
                begin_for(writer, "output", Batch::KEYS, seq, command_id);
                batch.write(writer);
            }
            WorkerOp::UploadFileWrite { command_id, block } => {
                begin_for(writer, "update_upload_file_write", 1, seq, command_id);
                writer.text("args");
                writer.bin(block);
            }
            WorkerOp::UploadFileClose { command_id } => {
                begin_for(writer, "update_upload_file_close", 0, seq, command_id);
            }
            WorkerOp::UploadFileUtime { command_id, access_time, modified_time } => {
                begin_for(writer, "update_upload_file_utime", 2, seq, command_id);
                writer.text("access_time");
                writer.optional(*access_time, Writer::float);
                writer.text("modified_time");
                writer.optional(*modified_time, Writer::float);
            }
            WorkerOp::UploadDirectoryWrite { command_id, block } => {
                begin_for(writer, "update_upload_directory_write", 1, seq, command_id);
                writer.text("args");
                writer.bin(block);
            }
            WorkerOp::UploadDirectoryUnpack { command_id } => {
                begin_for(writer, "update_upload_directory_unpack", 0, seq, command_id);
            }
            WorkerOp::ReadFile { command_id, length } => {
                begin_for(writer, "update_read_file", 1, seq, command_id);
                writer.text("length");
                writer.uint(*length);
            }
            WorkerOp::ReadFileClose { command_id } => {
                begin_for(writer, "update_read_file_close", 0, seq, command_id);
            }
            WorkerOp::Unknown { op } => begin(writer, op, 0, seq),
        }
    }

    fn size_hint(&self) -> usize {
        match self {
            WorkerOp::Update { items, .. } => 96 + items.iter().map(UpdateItem::size_hint).sum::<usize>(),
            WorkerOp::Output { batch, .. } => batch.size_hint(),
            WorkerOp::UploadFileWrite { block, .. } | WorkerOp::UploadDirectoryWrite { block, .. } => {
                block.len() + 128
            }
            _ => 128,
        }
    }
}

/// The bytes of one binary WebSocket message.
pub fn encode<Op: Operation>(frame: &Frame<Op>) -> Bytes {
    match frame {
        Frame::Request { seq, op } => encode_request(*seq, op),
        Frame::Response(response) => encode_response(response),
    }
}

/// The bytes of a request.
pub fn encode_request<Op: Operation>(seq: u64, op: &Op) -> Bytes {
    let mut writer = Writer::with_capacity(op.size_hint());
    op.write(seq, &mut writer);
    Bytes::from(writer.into_inner())
}

/// The bytes of a response.
pub fn encode_response(response: &Response) -> Bytes {
    let mut writer = Writer::with_capacity(64);
    response.write(&mut writer);
    Bytes::from(writer.into_inner())
}

fn decode<Op: Operation>(frame: &Bytes) -> Result<Frame<Op>> {
    let fields = Fields::read(frame)?;
    let op: ByteString = fields.get(&fields.op, "op", Reader::text)?;
    let seq = fields.get(&fields.seq_number, "seq_number", Reader::uint)?;
    if &*op == "response" {
        return fields.response(seq).map(Frame::Response);
    }
    let op = Op::decode(&op, &fields).map_err(|error| error.with_seq(seq))?;
    Ok(Frame::Request { seq, op })
}

/// Reads a message of a worker. Texts and blocks in it are slices of `frame`.
///
/// # Errors
/// See [`DecodeError`]: with a number, answer it with an error response; without, end the connection.
pub fn decode_from_worker(frame: &Bytes) -> Result<WorkerFrame> {
    decode(frame)
}

/// Reads a message of a master.
///
/// # Errors
/// See [`DecodeError`]: with a number, answer it with an error response; without, end the connection.
pub fn decode_from_master(frame: &Bytes) -> Result<MasterFrame> {
    decode(frame)
}
