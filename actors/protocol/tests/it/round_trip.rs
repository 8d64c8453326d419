//! Whatever is written is read again as the same, by us and by another implementation.

use bytes::Bytes;
use greenroom_protocol::{
    Batch, ByteString, Command, CommandId, CommandLine, Cpdir, DownloadFile, EnvValue, FileStat, Frame,
    LogText, Logfile, MasterOp, Packer, Response, Rmdir, Settings, Shell, Source, UpdateItem,
    UploadDirectory, UploadFile, Value, WorkerOp, decode_from_master, decode_from_worker, encode,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::wire::unpack;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![vec(any::<char>(), 0..40).prop_map(|chars| chars.into_iter().collect()), "[a-z\n]{0,400}"]
}

fn bytestring() -> impl Strategy<Value = ByteString> {
    text().prop_map(ByteString::from)
}

fn id() -> impl Strategy<Value = CommandId> {
    prop_oneof![text().prop_map(CommandId::from), any::<i64>().prop_map(CommandId::from)]
}

fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..1e9, (0_u32..10_000).prop_map(f64::from)]
}

/// Text whose time is told: one with a line at least.
fn log_text() -> impl Strategy<Value = LogText> {
    (text(), seconds()).prop_map(|(text, at)| LogText::new(text + "\n", at))
}

fn block() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn item() -> impl Strategy<Value = UpdateItem> {
    prop_oneof![
        log_text().prop_map(UpdateItem::Stdout),
        log_text().prop_map(UpdateItem::Stderr),
        log_text().prop_map(UpdateItem::Header),
        (bytestring(), log_text()).prop_map(|(name, text)| UpdateItem::Log { name, text }),
        any::<i64>().prop_map(UpdateItem::Rc),
        seconds().prop_map(UpdateItem::Elapsed),
        text().prop_map(UpdateItem::FailureReason),
        vec(bytestring(), 0..20).prop_map(UpdateItem::Files),
        any::<[i64; 10]>().prop_map(|[mode, ino, dev, nlink, uid, gid, size, atime, mtime, ctime]| {
            UpdateItem::Stat(FileStat { mode, ino, dev, nlink, uid, gid, size, atime, mtime, ctime })
        }),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        Just(Source::Stdout),
        Just(Source::Stderr),
        Just(Source::Header),
        bytestring().prop_map(Source::File)
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    let bytes = prop_oneof![block(), Just(Bytes::from(vec![b'x'; 3000]))];
    let pieces = vec((source(), 0_u64..1 << 60, bytes), 0..6);
    pieces.prop_map(|pieces| Packer::default().pack(Batch::new(pieces)))
}

fn worker_op() -> impl Strategy<Value = WorkerOp> {
    prop_oneof![
        (id(), vec(item(), 0..20)).prop_map(|(command_id, items)| WorkerOp::Update { command_id, items }),
        (id(), of(text()), of(vec((source(), any::<u64>()), 0..3)))
            .prop_map(|(command_id, failure, totals)| WorkerOp::Complete { command_id, failure, totals }),
        (id(), batch()).prop_map(|(command_id, batch)| WorkerOp::Output { command_id, batch }),
        (id(), block()).prop_map(|(command_id, block)| WorkerOp::UploadFileWrite { command_id, block }),
        id().prop_map(|command_id| WorkerOp::UploadFileClose { command_id }),
        (id(), of(seconds()), of(seconds())).prop_map(|(command_id, access_time, modified_time)| {
            WorkerOp::UploadFileUtime { command_id, access_time, modified_time }
        }),
        (id(), block()).prop_map(|(command_id, block)| WorkerOp::UploadDirectoryWrite { command_id, block }),
        id().prop_map(|command_id| WorkerOp::UploadDirectoryUnpack { command_id }),
        (id(), any::<u64>()).prop_map(|(command_id, length)| WorkerOp::ReadFile { command_id, length }),
        id().prop_map(|command_id| WorkerOp::ReadFileClose { command_id }),
    ]
}

fn command_line() -> impl Strategy<Value = CommandLine> {
    prop_oneof![text().prop_map(CommandLine::Shell), vec(text(), 0..5).prop_map(CommandLine::Argv)]
}

fn env_value() -> impl Strategy<Value = EnvValue> {
    prop_oneof![
        text().prop_map(EnvValue::Text),
        vec(text(), 0..3).prop_map(EnvValue::List),
        Just(EnvValue::Unset)
    ]
}

prop_compose! {
    fn shell()(
        workdir in text(),
        command in command_line(),
        env in vec((text(), env_value()), 0..4),
        flags in any::<[bool; 4]>(),
        logfiles in vec((text(), text(), any::<bool>()), 0..3),
        limits in (of(seconds()), of(seconds()), of(any::<u64>()), of(seconds())),
        interrupt_signal in text(),
        initial_stdin in of(text()),
    ) -> Shell {
        let logfiles = logfiles.into_iter().map(|(name, filename, follow)| (name, Logfile { filename, follow }));
        Shell {
            env,
            want_stdout: flags[0],
            want_stderr: flags[1],
            use_pty: flags[2],
            log_environ: flags[3],
            logfiles: logfiles.collect(),
            timeout: limits.0,
            max_time: limits.1,
            max_lines: limits.2,
            sigterm_time: limits.3,
            interrupt_signal,
            initial_stdin,
            ..Shell::new(workdir, command)
        }
    }
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        shell().prop_map(|shell| Command::Shell(Box::new(shell))),
        vec(text(), 0..3).prop_map(|paths| Command::Mkdir { paths }),
        (vec(text(), 0..3), any::<bool>(), of(seconds()), of(seconds())).prop_map(
            |(paths, log_environ, timeout, max_time)| Command::Rmdir(Rmdir {
                paths,
                log_environ,
                timeout,
                max_time
            })
        ),
        (text(), text(), any::<bool>(), of(seconds()), of(seconds())).prop_map(
            |(from_path, to_path, log_environ, timeout, max_time)| Command::Cpdir(Cpdir {
                from_path,
                to_path,
                log_environ,
                timeout,
                max_time
            })
        ),
        text().prop_map(|path| Command::Rmfile { path }),
        text().prop_map(|path| Command::Stat { path }),
        text().prop_map(|path| Command::Glob { path }),
        text().prop_map(|path| Command::Listdir { path }),
        (text(), any::<u64>(), of(any::<u64>()), any::<bool>()).prop_map(
            |(path, blocksize, maxsize, keepstamp)| {
                Command::UploadFile(UploadFile { path, blocksize, maxsize, keepstamp })
            }
        ),
        (text(), any::<u64>(), of(any::<u64>()), of(text())).prop_map(
            |(path, blocksize, maxsize, compress)| {
                Command::UploadDirectory(UploadDirectory { path, blocksize, maxsize, compress })
            }
        ),
        (text(), any::<u64>(), of(any::<u64>()), of(any::<u32>())).prop_map(
            |(path, blocksize, maxsize, mode)| {
                Command::DownloadFile(DownloadFile { path, blocksize, maxsize, mode })
            }
        ),
        "[A-Z]{1,40}".prop_map(|name| Command::Unknown { name }),
    ]
}

fn master_op() -> impl Strategy<Value = MasterOp> {
    prop_oneof![
        text().prop_map(|message| MasterOp::Print { message }),
        Just(MasterOp::Keepalive),
        Just(MasterOp::GetWorkerInfo),
        (any::<u64>(), seconds(), text(), any::<u64>()).prop_map(
            |(buffer_size, buffer_timeout, newline_re, max_line_length)| {
                MasterOp::SetWorkerSettings(Settings {
                    buffer_size,
                    buffer_timeout,
                    newline_re,
                    max_line_length,
                    output_batches: None,
                })
            }
        ),
        any::<i64>().prop_map(|version| MasterOp::SetWorkerSettings(Settings::batched(version))),
        (id(), command()).prop_map(|(command_id, command)| MasterOp::StartCommand { command_id, command }),
        (id(), text()).prop_map(|(command_id, why)| MasterOp::InterruptCommand { command_id, why }),
        Just(MasterOp::Shutdown),
        "[A-Z]{1,40}".prop_map(|op| MasterOp::Unknown { op }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        seconds().prop_map(Value::Float),
        bytestring().prop_map(Value::Text),
        block().prop_map(Value::Bin),
    ];
    leaf.prop_recursive(4, 40, 20, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::Array),
            vec((bytestring(), inner), 0..20).prop_map(Value::Map)
        ]
    })
}

fn response() -> impl Strategy<Value = Response> {
    (any::<u64>(), prop_oneof![value().prop_map(Ok), text().prop_map(Err)])
        .prop_map(|(seq, result)| Response { seq, result })
}

proptest! {
    #[test]
    fn of_what_workers_ask(seq in any::<u64>(), op in worker_op()) {
        let frame = Frame::Request { seq, op };
        let bytes = encode(&frame);
        prop_assert_eq!(decode_from_worker(&bytes).unwrap(), frame);
        prop_assert!(unpack(&bytes).is_object());
    }

    #[test]
    fn of_what_masters_ask(seq in any::<u64>(), op in master_op()) {
        let frame = Frame::Request { seq, op };
        let bytes = encode(&frame);
        prop_assert_eq!(decode_from_master(&bytes).unwrap(), frame);
        prop_assert!(unpack(&bytes).is_object());
    }

    #[test]
    fn of_answers(response in response()) {
        let bytes = encode::<WorkerOp>(&Frame::Response(response.clone()));
        prop_assert_eq!(decode_from_worker(&bytes).unwrap(), Frame::Response(response.clone()));
        prop_assert_eq!(decode_from_master(&bytes).unwrap(), Frame::Response(response));
        prop_assert!(unpack(&bytes).is_object());
    }

    #[test]
    fn positions_are_characters(lines in vec("[a-zé🦀]{0,20}", 1..20)) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let items = vec![UpdateItem::Stdout(LogText::new(text.clone(), 1.5))];
        let json = unpack(&encode(&Frame::Request { seq: 0, op: WorkerOp::Update { command_id: 1.into(), items } }));
        let want: Vec<usize> = text.chars().enumerate().filter(|(_, c)| *c == '\n').map(|(index, _)| index).collect();
        let stdout = &json["args"][0][1];
        prop_assert_eq!(&stdout[1], &serde_json::json!(want));
        prop_assert_eq!(stdout[2].as_array().unwrap().len(), lines.len());
    }
}
