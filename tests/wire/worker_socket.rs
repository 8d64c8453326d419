//! Workers that do not speak the protocol: they lose their connection, and nobody else notices.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::harness::{Farm, SUCCESS};

const CONFIG: &str = r#"
[workers.good]
password = "pw"
[workers.bad]
password = "pw"
[schedulers.force]
kind = "force"
builders = "*"
[builders.linux]
workers = ["good"]
[[builders.linux.steps]]
name = "work"
run = "echo fine"
"#;

/// `bad:pw` as Basic credentials.
const CREDENTIALS: &str = "Basic YmFkOnB3";

/// Connects as the worker `bad`, sends a frame, and reads until the master ends the connection.
#[track_caller]
fn send_as_bad_worker(farm: &Farm, frame: Message) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut request = format!("ws://127.0.0.1:{}/", farm.port()).into_client_request().expect("a request");
    request.headers_mut().insert("authorization", CREDENTIALS.parse().expect("a header"));
    let ended = runtime.block_on(async {
        let (mut socket, _) = connect_async(request).await.expect("the master lets it in");
        // The master may end the connection before all of it was sent.
        let _ = socket.send(frame).await;
        tokio::time::timeout(Duration::from_secs(15), async {
            while let Some(Ok(_)) = socket.next().await {}
        })
        .await
    });
    assert!(ended.is_ok(), "the connection is still open");
}

#[track_caller]
fn nobody_else_notices(farm: &Farm) {
    let request = farm.force("linux", &json!({}));
    let build = farm.expect_build(request, SUCCESS);
    assert_eq!(farm.lines(&build, "work", 'o'), ["fine"]);
    assert!(!farm.master_log().contains("panicked"), "nothing panicked");
    farm.await_loss("bad");
    // And the name is free for the right worker.
    let _bad = farm.agent("bad");
}

#[test]
fn garbage_frames_end_the_session() {
    let farm = Farm::raise(CONFIG);
    let _good = farm.agent("good");
    for garbage in
        [&b"\xc1\xff\x00garbage"[..], b"", b"\x93\x01\x02\x03", b"\x80", &[0xdf, 0xff, 0xff, 0xff, 0xff]]
    {
        send_as_bad_worker(&farm, Message::binary(garbage.to_vec()));
    }
    nobody_else_notices(&farm);
}

#[test]
fn a_frame_of_40_mib_ends_the_session() {
    let farm = Farm::raise(CONFIG);
    let _good = farm.agent("good");
    let before = resident_kib(&farm);
    send_as_bad_worker(&farm, Message::binary(vec![0; 40 << 20]));
    nobody_else_notices(&farm);
    let grown = resident_kib(&farm).saturating_sub(before);
    assert!(grown < 64 << 10, "the master keeps {grown} KiB of it");
}

fn resident_kib(farm: &Farm) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", farm.pid())).expect("the master's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
