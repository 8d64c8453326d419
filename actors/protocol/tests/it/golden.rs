//! Conversations recorded between a stock master and a stock worker (`tests/golden/`): every frame is understood,
//! and written back it says the same.

use greenroom_protocol::{
    Command, CommandId, Frame, MasterOp, Problem, UpdateItem, Value, WorkerFrame, WorkerInfo, WorkerOp,
    decode_from_master, decode_from_worker, encode,
};
use serde_json::{Value as Json, json};

use crate::wire::{pack, unpack};

const CONVERSATIONS: [(&str, &str); 13] = [
    ("connect", include_str!("../golden/connect.json")),
    ("download_file", include_str!("../golden/download_file.json")),
    ("download_file_stock_bug", include_str!("../golden/download_file_stock_bug.json")),
    ("exec_failure", include_str!("../golden/exec_failure.json")),
    ("fs_commands", include_str!("../golden/fs_commands.json")),
    ("git_step", include_str!("../golden/git_step.json")),
    ("interrupt", include_str!("../golden/interrupt.json")),
    ("shell", include_str!("../golden/shell.json")),
    ("shell_env_pty", include_str!("../golden/shell_env_pty.json")),
    ("shell_logfiles", include_str!("../golden/shell_logfiles.json")),
    ("timeouts", include_str!("../golden/timeouts.json")),
    ("upload_directory", include_str!("../golden/upload_directory.json")),
    ("upload_file", include_str!("../golden/upload_file.json")),
];

/// What stock masters send and workers ignore.
const IGNORED: [&str; 7] =
    ["builder_name", "workdir", "workersrc", "workerdest", "logEnviron", "timeout", "x"];

/// Every frame of one side: where it stands, and its message.
pub fn frames(side: &str) -> Vec<(String, Json)> {
    let mut all = Vec::new();
    for (name, text) in CONVERSATIONS {
        let conversation: Json = serde_json::from_str(text).unwrap();
        for (index, frame) in conversation["frames"].as_array().unwrap().iter().enumerate() {
            if frame["from"] == side {
                all.push((format!("{name} {index}"), frame["msg"].clone()));
            }
        }
    }
    assert!(all.len() > 50, "the recordings are there");
    all
}

fn message(name: &str, side: &str, op: &str, index: usize) -> Json {
    let all = frames(side).into_iter();
    let mut found = all.filter(|(place, msg)| place.starts_with(&format!("{name} ")) && msg["op"] == op);
    found.nth(index).expect("a recorded frame").1
}

/// Times are written as the time of the first line: do the same to a recorded text.
fn with_first_time(text: &mut Json) {
    let lines = text[1].as_array().unwrap().len();
    let first = text[2][0].clone();
    text[2] = Json::Array(vec![first; lines]);
}

fn with_first_times(message: &mut Json) {
    if message["op"] != "update" {
        return;
    }
    for item in message["args"].as_array_mut().unwrap() {
        match item[0].as_str().unwrap() {
            "stdout" | "stderr" | "header" => with_first_time(&mut item[1]),
            "log" => with_first_time(&mut item[1][1]),
            _ => {}
        }
    }
}

#[test]
fn what_workers_said_is_said_again() {
    for (place, mut recorded) in frames("worker") {
        let frame = decode_from_worker(&pack(&recorded)).unwrap_or_else(|error| panic!("{place}: {error}"));
        if let Frame::Request { op, .. } = &frame {
            assert!(!matches!(op, WorkerOp::Unknown { .. }), "{place}: {recorded}");
        }
        let written = encode(&frame);
        with_first_times(&mut recorded);
        assert_eq!(unpack(&written), recorded, "{place}");
        assert_eq!(decode_from_worker(&written).unwrap(), frame, "{place}");
    }
}

#[test]
fn what_masters_said_is_said_again() {
    for (place, recorded) in frames("master") {
        let result = decode_from_master(&pack(&recorded));
        let Ok(frame) = result else {
            // The one request that is faulty on purpose.
            let error = result.unwrap_err();
            assert_eq!(error.problem(), &Problem::Missing("command"), "{place}");
            assert_eq!((error.path(), error.seq()), ("args", recorded["seq_number"].as_u64()), "{place}");
            continue;
        };
        let written = encode(&frame);
        assert_eq!(decode_from_master(&written).unwrap(), frame, "{place}");
        assert_same_as_far_as_both_say(&unpack(&written), &recorded, &place);
    }
}

/// Keys that both have are equal; keys that only the recording has are among the ignored.
fn assert_same_as_far_as_both_say(written: &Json, recorded: &Json, place: &str) {
    let (Json::Object(written), Json::Object(recorded)) = (written, recorded) else {
        assert_eq!(written, recorded, "{place}");
        return;
    };
    for (key, value) in recorded {
        match written.get(key) {
            Some(again) if key == "args" => assert_same_as_far_as_both_say(again, value, place),
            // A file name stands for a file that is not followed.
            Some(again) if key == "logfiles" => assert_eq!(
                again.as_object().map(|map| map.keys().collect::<Vec<_>>()),
                value.as_object().map(|map| map.keys().collect::<Vec<_>>()),
                "{place}"
            ),
            Some(again) => assert_eq!(again, value, "{place}: {key}"),
            None => assert!(IGNORED.contains(&key.as_str()), "{place}: {key} was lost"),
        }
    }
}

#[test]
fn a_recorded_shell_command_is_understood_in_full() {
    let recorded = message("shell_logfiles", "master", "start_command", 0);
    let Frame::Request { seq: 14, op: MasterOp::StartCommand { command_id, command: Command::Shell(shell) } } =
        decode_from_master(&pack(&recorded)).unwrap()
    else {
        panic!("a shell command")
    };
    assert_eq!(command_id, CommandId::from("7"));
    assert_eq!(
        (shell.timeout, shell.max_time, shell.interrupt_signal.as_str()),
        (Some(1200.0), None, "KILL")
    );
    assert_eq!(shell.initial_stdin.as_deref(), Some("hello stdin"));
    assert!(!shell.log_environ && !shell.use_pty && shell.want_stdout && shell.want_stderr);
    let (followed, whole): (Vec<_>, Vec<_>) = shell.logfiles.iter().partition(|(_, file)| file.follow);
    assert_eq!((followed[0].0.as_str(), whole[0].0.as_str()), ("f2", "mylog"));
}

#[test]
fn a_recorded_update_is_understood_in_full() {
    let recorded = message("shell", "worker", "update", 0);
    let WorkerFrame::Request { op: WorkerOp::Update { items, .. }, .. } =
        decode_from_worker(&pack(&recorded)).unwrap()
    else {
        panic!("an update")
    };
    let UpdateItem::Stdout(text) = &items[1] else { panic!("{:?}", items[1]) };
    assert_eq!((text.as_str(), text.received_at()), ("out1\n", 1_795_301_656.149_611_7));
    assert_eq!(items[4], UpdateItem::Rc(0));
    assert!(matches!(items[6], UpdateItem::Elapsed(seconds) if seconds > 0.012));
    let UpdateItem::Stdout(text) = &items[7] else { panic!("{:?}", items[7]) };
    assert_eq!(text.as_str(), "nonl\n", "text may follow rc");
}

#[test]
fn a_recorded_info_is_understood_in_full() {
    let recorded = message("connect", "worker", "response", 1);
    let Frame::Response(response) = decode_from_worker(&pack(&recorded)).unwrap() else {
        panic!("a response")
    };
    let info = WorkerInfo::from_value(&response.result.unwrap()).unwrap();
    assert_eq!((info.basedir.as_str(), info.version.as_str(), info.numcpus), ("/srv/worker", "4.3.0", 2));
    assert_eq!(info.texts["admin"], "Admin A <a@example.org>\n");
    assert_eq!(info.texts["os_id"], "debian");
    assert_eq!(info.worker_commands.len(), 14);
    assert!(!info.delete_leftover_dirs, "a stock worker says 0");
    assert!(info.extensions.is_empty());
    assert_eq!(WorkerInfo::from_value(&info.to_value()).unwrap(), info);
}

#[test]
fn info_without_a_directory_is_refused() {
    assert!(WorkerInfo::from_value(&Value::Nil).is_err());
    assert!(WorkerInfo::from_value(&Value::Map(vec![])).is_err());
    assert!(WorkerInfo::from_value(&Value::Map(vec![("basedir".into(), Value::Int(1))])).is_err());
}

#[test]
fn our_bytes_do_not_drift() {
    let op = WorkerOp::Complete { command_id: "7".into(), failure: None, totals: None };
    let bytes = encode(&Frame::Request { seq: 300, op });
    assert_eq!(
        &bytes[..],
        b"\x84\xa2op\xa8complete\xaaseq_number\xcd\x01\x2c\xaacommand_id\xa17\xa4args\xc0",
        "{bytes:?}"
    );
    let ok = encode::<WorkerOp>(&Frame::Response(greenroom_protocol::Response::nil(0)));
    assert_eq!(&ok[..], b"\x83\xa2op\xa8response\xaaseq_number\x00\xa6result\xc0");
}

#[test]
fn keys_come_in_any_order_and_unknown_ones_are_ignored() {
    let message = json!({"args": [["rc", 1], ["novel", {"a": [1]}]], "zzz": {"deep": [[[]]]}, "command_id": 5,
        "seq_number": 3, "op": "update", "aaa": null});
    let WorkerFrame::Request { seq: 3, op: WorkerOp::Update { command_id: CommandId::Int(5), items } } =
        decode_from_worker(&pack(&message)).unwrap()
    else {
        panic!("an update")
    };
    assert_eq!(items[0], UpdateItem::Rc(1));
    assert!(
        matches!(&items[1], UpdateItem::Unknown { name, value } if &**name == "novel" && unpack(value) == json!({"a": [1]}))
    );
}

#[test]
fn exceptions_count_by_presence() {
    let message = json!({"op": "response", "seq_number": 1, "result": "why", "is_exception": false});
    let Frame::Response(response) = decode_from_worker(&pack(&message)).unwrap() else {
        panic!("a response")
    };
    assert_eq!(response.result, Err("why".to_owned()));
    let error = decode_from_worker(&pack(&json!({"op": "response", "seq_number": 1}))).unwrap_err();
    assert_eq!((error.problem(), error.seq()), (&Problem::Missing("result"), None));
}

#[test]
fn faults_say_what_and_where() {
    let text = |message: Json| decode_from_worker(&pack(&message)).unwrap_err().to_string();
    let update = |args: Json| json!({"op": "update", "seq_number": 0, "command_id": "1", "args": args});
    assert!(
        text(update(json!([["rc", 0], ["rc", "x"]])))
            .starts_with("args.1.rc: expected an integer, found a text")
    );
    assert!(text(update(json!([["stdout", [1]]]))).starts_with("args.0.stdout.text: expected a text"));
    assert!(text(update(json!([["log", ["n"]]]))).starts_with("args.0.log: expected name and text"));
    assert!(
        text(json!({"op": "update", "seq_number": -1})).starts_with("seq_number: the number is out of range")
    );
    assert!(text(json!({"seq_number": 1})).contains("obligatory \"op\" key"));
    assert!(text(json!([])).starts_with("expected a map, found an array"));
}
