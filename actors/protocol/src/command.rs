//! The commands a master starts, with their typed arguments.
//!
//! *To add one*: a variant of [`Command`], its name in `name` and `read`, its arguments in `Args` and `write`, a golden
//! frame in `tests/`. Unknown arguments are ignored, so an older worker runs a command of a newer master as far
//! as it understands it; an argument that must not be ignored needs a new command name.

use crate::error::{DecodeError, Inside, Problem};
use crate::reader::Reader;
use crate::writer::Writer;

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Seconds without output after which `rmdir` and `cpdir` are killed unless told otherwise.
pub const DEFAULT_TIMEOUT: f64 = 120.0;

/// A command with its arguments. All paths are absolute.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Runs a program.
    Shell(Box<Shell>),
    /// Makes directories and their parents.
    Mkdir {
        /// The directories; existing ones are fine.
        paths: Vec<String>,
    },
    /// Removes directories or files with everything in them.
    Rmdir(Rmdir),
    /// Removes one file.
    Rmfile {
        /// The file.
        path: String,
    },
    /// Copies a directory.
    Cpdir(Cpdir),
    /// Reads a file's facts.
    Stat {
        /// The file.
        path: String,
    },
    /// Lists the files that match a pattern.
    Glob {
        /// The pattern; `**` crosses directories.
        path: String,
    },
    /// Lists a directory.
    Listdir {
        /// The directory.
        path: String,
    },
    /// Sends a file to the master.
    UploadFile(UploadFile),
    /// Sends a directory to the master as a tar stream.
    UploadDirectory(UploadDirectory),
    /// Writes a file with contents of the master.
    DownloadFile(DownloadFile),
    /// A command this crate does not know.
    Unknown {
        /// Its name.
        name: String,
    },
}

/// What a shell command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for `/bin/sh -c`.
    Shell(String),
    /// Program and arguments, executed directly.
    Argv(Vec<String>),
}

/// What happens to one variable of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// Set to this text, in which `${NAME}` stands for the worker's own variable.
    Text(String),
    /// Set to these texts, joined with `:`.
    List(Vec<String>),
    /// Removed.
    Unset,
}

/// A file whose contents are sent as a log of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logfile {
    /// Path relative to the working directory.
    pub filename: String,
    /// Only what is appended after the start is sent.
    pub follow: bool,
}

/// Arguments of `shell`.
#[derive(Debug, Clone, PartialEq)]
pub struct Shell {
    /// Working directory; made if missing.
    pub workdir: String,
    /// What to run.
    pub command: CommandLine,
    /// Changes to the worker's environment.
    pub env: Vec<(String, EnvValue)>,
    /// False: standard output is read and dropped.
    pub want_stdout: bool,
    /// False: standard error is read and dropped.
    pub want_stderr: bool,
    /// Files to follow, by the name of their log.
    pub logfiles: Vec<(String, Logfile)>,
    /// Seconds without output until it is killed.
    pub timeout: Option<f64>,
    /// Seconds until it is killed.
    pub max_time: Option<f64>,
    /// Lines of output until it is killed.
    pub max_lines: Option<u64>,
    /// When it is killed: seconds between SIGTERM and the interrupt signal; no SIGTERM without it.
    pub sigterm_time: Option<f64>,
    /// Signal that ends it, without `SIG`.
    pub interrupt_signal: String,
    /// Run in a pseudo terminal.
    pub use_pty: bool,
    /// Write the environment to the header.
    pub log_environ: bool,
    /// Text for its standard input.
    pub initial_stdin: Option<String>,
}

impl Shell {
    /// A command with every argument at its default: no limits, both streams wanted, environment logged.
    pub fn new(workdir: impl Into<String>, command: CommandLine) -> Self {
        Self {
            workdir: workdir.into(),
            command,
            env: Vec::new(),
            want_stdout: true,
            want_stderr: true,
            logfiles: Vec::new(),
            timeout: None,
            max_time: None,
            max_lines: None,
            sigterm_time: None,
            interrupt_signal: "KILL".to_owned(),
            use_pty: false,
            log_environ: true,
            initial_stdin: None,
        }
    }
}

/// Arguments of `rmdir`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rmdir {
    /// What to remove; not empty.
    pub paths: Vec<String>,
    /// Write the environment to the header.
    pub log_environ: bool,
    /// Seconds without output until it is killed.
    pub timeout: Option<f64>,
    /// Seconds until it is killed.
    pub max_time: Option<f64>,
}

/// Arguments of `cpdir`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cpdir {
    /// Directory to copy.
    pub from_path: String,
    /// Where the copy goes; its parent is made.
    pub to_path: String,
    /// Write the environment to the header.
    pub log_environ: bool,
    /// Seconds without output until it is killed.
    pub timeout: Option<f64>,
    /// Seconds until it is killed.
    pub max_time: Option<f64>,
}

/// Arguments of `upload_file`.
#[derive(Debug, Clone, PartialEq)]
pub struct UploadFile {
    /// File to send.
    pub path: String,
    /// Bytes a block.
    pub blocksize: u64,
    /// Most bytes to send.
    pub maxsize: Option<u64>,
    /// Send its times as well.
    pub keepstamp: bool,
}

/// Arguments of `upload_directory`.
#[derive(Debug, Clone, PartialEq)]
pub struct UploadDirectory {
    /// Directory to send.
    pub path: String,
    /// Bytes a block.
    pub blocksize: u64,
    /// Most bytes to send.
    pub maxsize: Option<u64>,
    /// `gz` or `bz2`.
    pub compress: Option<String>,
}

/// Arguments of `download_file`.
#[derive(Debug, Clone, PartialEq)]
pub struct DownloadFile {
    /// File to write; its parents are made.
    pub path: String,
    /// Bytes a block.
    pub blocksize: u64,
    /// Most bytes to write.
    pub maxsize: Option<u64>,
    /// Permissions, as in 0o644.
    pub mode: Option<u32>,
}

/// Every argument of any command, as found. One pass over the map fills it.
#[derive(Default)]
struct Args {
    workdir: Option<String>,
    command: Option<CommandLine>,
    env: Vec<(String, EnvValue)>,
    want_stdout: Option<bool>,
    want_stderr: Option<bool>,
    logfiles: Vec<(String, Logfile)>,
    timeout: Option<Option<f64>>,
    max_time: Option<f64>,
    max_lines: Option<u64>,
    sigterm_time: Option<f64>,
    interrupt_signal: Option<String>,
    use_pty: Option<bool>,
    log_environ: Option<bool>,
    initial_stdin: Option<String>,
    paths: Option<Vec<String>>,
    path: Option<String>,
    from_path: Option<String>,
    to_path: Option<String>,
    blocksize: Option<u64>,
    maxsize: Option<u64>,
    keepstamp: Option<bool>,
    compress: Option<String>,
    mode: Option<u32>,
}

impl Args {
    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let mut args = Args::default();
        for _ in 0..reader.map()? {
            let key = reader.key()?;
            args.read_one(key, reader).map_err(|error| error.inside(&String::from_utf8_lossy(key)))?;
        }
        Ok(args)
    }

    fn read_one(&mut self, key: &[u8], reader: &mut Reader<'_>) -> Result<()> {
        match key {
            b"workdir" => self.workdir = reader.optional(Reader::string)?,
            b"command" => self.command = Some(read_command_line(reader)?),
            b"env" => self.env = reader.optional(read_env)?.unwrap_or_default(),
            b"want_stdout" => self.want_stdout = Some(read_flag(reader)?),
            b"want_stderr" => self.want_stderr = Some(read_flag(reader)?),
            b"logfiles" => self.logfiles = reader.optional(read_logfiles)?.unwrap_or_default(),
            b"timeout" => self.timeout = Some(reader.optional(read_seconds)?),
            b"maxTime" => self.max_time = reader.optional(read_seconds)?,
            b"max_lines" => self.max_lines = reader.optional(Reader::uint)?,
            b"sigtermTime" => self.sigterm_time = reader.optional(read_seconds)?,
            b"interruptSignal" => self.interrupt_signal = reader.optional(Reader::string)?,
            b"usePTY" => self.use_pty = Some(read_flag(reader)?),
            b"logEnviron" => self.log_environ = Some(read_flag(reader)?),
            b"initial_stdin" => self.initial_stdin = reader.optional(Reader::string)?,
            b"paths" => self.paths = Some(reader.strings()?),
            b"path" => self.path = Some(reader.string()?),
            b"from_path" => self.from_path = Some(reader.string()?),
            b"to_path" => self.to_path = Some(reader.string()?),
            b"blocksize" => self.blocksize = Some(reader.uint()?),
            b"maxsize" => self.maxsize = reader.optional(Reader::uint)?,
            b"keepstamp" => self.keepstamp = Some(read_flag(reader)?),
            b"compress" => self.compress = reader.optional(Reader::string)?,
            b"mode" => self.mode = reader.optional(read_mode)?,
            _ => reader.skip()?,
        }
        Ok(())
    }
}

/// Takes an argument that must be there.
fn required<T>(argument: Option<T>, key: &'static str) -> Result<T, Problem> {
    argument.ok_or(Problem::Missing(key))
}

/// Each command from its arguments; fails if a required one is missing.
impl Args {
    fn shell(self) -> Result<Command, Problem> {
        Ok(Command::Shell(Box::new(Shell {
            workdir: required(self.workdir, "workdir")?,
            command: required(self.command, "command")?,
            env: self.env,
            want_stdout: self.want_stdout.unwrap_or(true),
            want_stderr: self.want_stderr.unwrap_or(true),
            logfiles: self.logfiles,
            timeout: self.timeout.flatten(),
            max_time: self.max_time,
            max_lines: self.max_lines,
            sigterm_time: self.sigterm_time,
            interrupt_signal: self.interrupt_signal.unwrap_or_else(|| "KILL".to_owned()),
            use_pty: self.use_pty.unwrap_or(false),
            log_environ: self.log_environ.unwrap_or(true),
            initial_stdin: self.initial_stdin,
        })))
    }

    fn mkdir(self) -> Result<Command, Problem> {
        Ok(Command::Mkdir { paths: required(self.paths, "paths")? })
    }

    fn rmdir(self) -> Result<Command, Problem> {
        Ok(Command::Rmdir(Rmdir {
            paths: required(self.paths, "paths")?,
            log_environ: self.log_environ.unwrap_or(true),
            timeout: self.timeout.unwrap_or(Some(DEFAULT_TIMEOUT)),
            max_time: self.max_time,
        }))
    }

    fn rmfile(self) -> Result<Command, Problem> {
        Ok(Command::Rmfile { path: required(self.path, "path")? })
    }

    fn cpdir(self) -> Result<Command, Problem> {
        Ok(Command::Cpdir(Cpdir {
            from_path: required(self.from_path, "from_path")?,
            to_path: required(self.to_path, "to_path")?,
            log_environ: self.log_environ.unwrap_or(true),
            timeout: self.timeout.unwrap_or(Some(DEFAULT_TIMEOUT)),
            max_time: self.max_time,
        }))
    }

    fn stat(self) -> Result<Command, Problem> {
        Ok(Command::Stat { path: required(self.path, "path")? })
    }

    fn glob(self) -> Result<Command, Problem> {
        Ok(Command::Glob { path: required(self.path, "path")? })
    }

    fn listdir(self) -> Result<Command, Problem> {
        Ok(Command::Listdir { path: required(self.path, "path")? })
    }

    fn upload_file(self) -> Result<Command, Problem> {
        Ok(Command::UploadFile(UploadFile {
            path: required(self.path, "path")?,
            blocksize: required(self.blocksize, "blocksize")?,
            maxsize: self.maxsize,
            keepstamp: self.keepstamp.unwrap_or(false),
        }))
    }

    fn upload_directory(self) -> Result<Command, Problem> {
        Ok(Command::UploadDirectory(UploadDirectory {
            path: required(self.path, "path")?,
            blocksize: required(self.blocksize, "blocksize")?,
            maxsize: self.maxsize,
            compress: self.compress,
        }))
    }

    fn download_file(self) -> Result<Command, Problem> {
        Ok(Command::DownloadFile(DownloadFile {
            path: required(self.path, "path")?,
            blocksize: required(self.blocksize, "blocksize")?,
            maxsize: self.maxsize,
            mode: self.mode,
        }))
    }
}

/// A boolean; 0 and 1 stand for one in messages of Python programs.
fn read_flag(reader: &mut Reader<'_>) -> Result<bool> {
    match reader.peek()? {
        crate::reader::Head::Int(number @ (0 | 1)) => reader.int().map(|_| number == 1),
        _ => reader.bool(),
    }
}

/// A duration that is not negative.
fn read_seconds(reader: &mut Reader<'_>) -> Result<f64> {
    let at = reader.clone();
    let seconds = reader.number()?;
    if seconds < 0.0 { Err(at.error(Problem::OutOfRange)) } else { Ok(seconds) }
}

fn read_mode(reader: &mut Reader<'_>) -> Result<u32> {
    let at = reader.clone();
    u32::try_from(reader.uint()?).map_err(|_| at.error(Problem::OutOfRange))
}

fn read_command_line(reader: &mut Reader<'_>) -> Result<CommandLine> {
    match reader.peek()? {
        crate::reader::Head::Array(_) => reader.strings().map(CommandLine::Argv),
        _ => reader.string().map(CommandLine::Shell),
    }
}

fn read_env(reader: &mut Reader<'_>) -> Result<Vec<(String, EnvValue)>> {
    let mut env = Vec::new();
    for _ in 0..reader.map()? {
        let name = reader.string()?;
        let value = read_env_value(reader).inside(&name)?;
        env.push((name, value));
    }
    Ok(env)
}

fn read_env_value(reader: &mut Reader<'_>) -> Result<EnvValue> {
    if reader.nil() {
        return Ok(EnvValue::Unset);
    }
    match reader.peek()? {
        crate::reader::Head::Array(_) => reader.strings().map(EnvValue::List),
        _ => reader.string().map(EnvValue::Text),
    }
}

fn read_logfiles(reader: &mut Reader<'_>) -> Result<Vec<(String, Logfile)>> {
    let mut logfiles = Vec::new();
    for _ in 0..reader.map()? {
        let name = reader.string()?;
        let logfile = read_logfile(reader).inside(&name)?;
        logfiles.push((name, logfile));
    }
    Ok(logfiles)
}

fn read_logfile(reader: &mut Reader<'_>) -> Result<Logfile> {
    let crate::reader::Head::Map(_) = reader.peek()? else {
        return Ok(Logfile { filename: reader.string()?, follow: false });
    };
    let (mut filename, mut follow) = (None, false);
    for _ in 0..reader.map()? {
        match reader.key()? {
            b"filename" => filename = Some(reader.string().inside("filename")?),
            b"follow" => follow = read_flag(reader).inside("follow")?,
            _ => reader.skip()?,
        }
    }
    let filename = filename.ok_or_else(|| reader.error(Problem::Missing("filename")))?;
    Ok(Logfile { filename, follow })
}

impl Command {
    /// The name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Command::Shell(_) => "shell",
            Command::Mkdir { .. } => "mkdir",
            Command::Rmdir(_) => "rmdir",
            Command::Rmfile { .. } => "rmfile",
            Command::Cpdir(_) => "cpdir",
            Command::Stat { .. } => "stat",
            Command::Glob { .. } => "glob",
            Command::Listdir { .. } => "listdir",
            Command::UploadFile(_) => "upload_file",
            Command::UploadDirectory(_) => "upload_directory",
            Command::DownloadFile(_) => "download_file",
            Command::Unknown { name } => name,
        }
    }

    pub(crate) fn read(name: &str, reader: &mut Reader<'_>) -> Result<Self> {
        let at = reader.clone();
        let known = match name {
            "shell" => Args::shell,
            "mkdir" => Args::mkdir,
            "rmdir" => Args::rmdir,
            "rmfile" => Args::rmfile,
            "cpdir" => Args::cpdir,
            "stat" => Args::stat,
            "glob" => Args::glob,
            "listdir" => Args::listdir,
            "upload_file" | "uploadFile" => Args::upload_file,
            "upload_directory" | "uploadDirectory" => Args::upload_directory,
            "download_file" | "downloadFile" => Args::download_file,
            // Its arguments may mean anything.
            other => return Ok(Command::Unknown { name: other.to_owned() }),
        };
        known(Args::read(reader)?).map_err(|missing| at.error(missing))
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        match self {
            Command::Shell(shell) => write_shell(shell, writer),
            Command::Mkdir { paths } => {
                writer.map(1);
                writer.text("paths");
                writer.texts(paths);
            }
            Command::Rmdir(args) => {
                writer.map(4);
                writer.text("paths");
                writer.texts(&args.paths);
                write_limits(writer, args.log_environ, args.timeout, args.max_time);
            }
            Command::Cpdir(args) => {
                writer.map(5);
                write_pair(writer, "from_path", &args.from_path);
                write_pair(writer, "to_path", &args.to_path);
                write_limits(writer, args.log_environ, args.timeout, args.max_time);
            }
            Command::Rmfile { path }
            | Command::Stat { path }
            | Command::Glob { path }
            | Command::Listdir { path } => {
                writer.map(1);
                write_pair(writer, "path", path);
            }
            Command::UploadFile(args) => {
                writer.map(4);
                write_transfer(writer, &args.path, args.blocksize, args.maxsize);
                writer.text("keepstamp");
                writer.bool(args.keepstamp);
            }
            Command::UploadDirectory(args) => {
                writer.map(4);
                write_transfer(writer, &args.path, args.blocksize, args.maxsize);
                writer.text("compress");
                writer.optional(args.compress.as_deref(), Writer::text);
            }
            Command::DownloadFile(args) => {
                writer.map(4);
                write_transfer(writer, &args.path, args.blocksize, args.maxsize);
                writer.text("mode");
                writer.optional(args.mode, |writer, mode| writer.uint(u64::from(mode)));
            }
            Command::Unknown { .. } => writer.map(0),
        }
    }
}

fn write_pair(writer: &mut Writer, key: &str, value: &str) {
    writer.text(key);
    writer.text(value);
}

fn write_flag(writer: &mut Writer, key: &str, value: bool) {
    writer.text(key);
    writer.bool(value);
}

fn write_limits(writer: &mut Writer, log_environ: bool, timeout: Option<f64>, max_time: Option<f64>) {
    write_flag(writer, "logEnviron", log_environ);
    writer.text("timeout");
    writer.optional(timeout, Writer::number);
    writer.text("maxTime");
    writer.optional(max_time, Writer::number);
}

fn write_transfer(writer: &mut Writer, path: &str, blocksize: u64, maxsize: Option<u64>) {
    write_pair(writer, "path", path);
    writer.text("blocksize");
    writer.uint(blocksize);
    writer.text("maxsize");
    writer.optional(maxsize, Writer::uint);
}

fn write_shell(shell: &Shell, writer: &mut Writer) {
    writer.map(14);
    write_pair(writer, "workdir", &shell.workdir);
    writer.text("command");
    match &shell.command {
        CommandLine::Shell(text) => writer.text(text),
        CommandLine::Argv(argv) => writer.texts(argv),
    }
    writer.text("env");
    writer.map(shell.env.len());
    for (name, value) in &shell.env {
        writer.text(name);
        match value {
            EnvValue::Text(text) => writer.text(text),
            EnvValue::List(texts) => writer.texts(texts),
            EnvValue::Unset => writer.nil(),
        }
    }
    write_flag(writer, "want_stdout", shell.want_stdout);
    write_flag(writer, "want_stderr", shell.want_stderr);
    writer.text("logfiles");
    writer.map(shell.logfiles.len());
    for (name, logfile) in &shell.logfiles {
        writer.text(name);
        writer.map(2);
        write_pair(writer, "filename", &logfile.filename);
        write_flag(writer, "follow", logfile.follow);
    }
    write_limits(writer, shell.log_environ, shell.timeout, shell.max_time);
    writer.text("max_lines");
    writer.optional(shell.max_lines, Writer::uint);
    writer.text("sigtermTime");
    writer.optional(shell.sigterm_time, Writer::number);
    write_pair(writer, "interruptSignal", &shell.interrupt_signal);
    write_flag(writer, "usePTY", shell.use_pty);
    writer.text("initial_stdin");
    writer.optional(shell.initial_stdin.as_deref(), Writer::text);
}
