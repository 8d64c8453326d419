//! The life of a connection: greeting, loss, return, end.

use bytes::Bytes;
use greenroom_protocol::{MasterOp, Settings, Value, WorkerInfo};
use greenroom_worker::Ended;

use crate::master::{World, gone, sh, shell, within};

#[tokio::test]
async fn the_connect_sequence_of_a_stock_master_is_answered() {
    let (world, mut master) = World::connected().await;
    std::fs::create_dir(world.path().join("info")).unwrap();
    std::fs::write(world.path().join("info/admin"), "Admin A\n").unwrap();
    assert_eq!(master.ask(MasterOp::Print { message: "attached".to_owned() }).await, Ok(Value::Nil));
    let value = master.ask(MasterOp::GetWorkerInfo).await.unwrap();
    let info = WorkerInfo::from_value(&value).unwrap();
    assert_eq!(info.texts["admin"], "Admin A\n");
    assert_eq!(info.basedir, world.path().to_str().unwrap());
    assert_eq!((info.system.as_str(), info.version.as_str()), ("posix", "0.1.0-test"));
    assert_eq!(info.worker_commands["shell"], "3.3");
    assert!(info.numcpus >= 1 && info.environ.contains_key("PATH"));
    assert_eq!((info.extensions["agent"], info.extensions["output-batches"]), (1, 1));
    master.settings(Settings::default()).await;
    assert_eq!(master.ask(MasterOp::Keepalive).await, Ok(Value::Nil));
    let text = master.ask(MasterOp::Unknown { op: "dance".to_owned() }).await.unwrap_err();
    assert_eq!(text, "Command dance does not exist.");
}

#[tokio::test]
async fn faulty_arguments_are_answered_and_garbage_ends_the_connection() {
    let (world, mut master) = World::connected().await;
    // {"op": "interrupt_command", "seq_number": 0, "command_id": "1"}, without "why".
    let frame = b"\x83\xa2op\xb1interrupt_command\xaaseq_number\x00\xaacommand_id\xa11";
    assert_eq!(master.ask(MasterOp::Keepalive).await, Ok(Value::Nil));
    let mut second = world.accept_after_garbage(&mut master, frame).await;
    assert_eq!(second.ask(MasterOp::Keepalive).await, Ok(Value::Nil));
}

impl World {
    /// Sends a request with a fault, then bytes that are no message; returns the next connection.
    async fn accept_after_garbage(
        &self,
        master: &mut crate::master::Master,
        faulty: &'static [u8],
    ) -> crate::master::Master {
        master.raw(Bytes::from_static(faulty)).await;
        let text = master.response(0).await.unwrap_err();
        assert!(text.contains("obligatory \"why\" key"), "{text}");
        // No op: ignored. Then no MessagePack at all.
        master.raw(Bytes::from_static(b"\x80")).await;
        assert_eq!(master.ask(MasterOp::Keepalive).await, Ok(Value::Nil));
        master.raw(Bytes::from_static(b"\xc1\xc1")).await;
        while master.step().await {}
        self.accept().await
    }
}

#[tokio::test]
async fn a_cut_kills_what_runs_and_the_agent_comes_back() {
    let (world, mut master) = World::connected().await;
    master.start("1", shell(sh(&world.path(), "sleep 1000 & echo $!; wait"))).await;
    let run = master.until("1", "the pid", |run| !run.stdout().is_empty()).await;
    drop(master);
    let mut master = world.accept().await;
    gone(&run.stdout()).await;
    // The old id is unknown by now; its number may be used again.
    master.interrupt("1").await;
    assert_eq!(master.run("1", shell(sh(&world.path(), "echo again"))).await.stdout(), "again\n");
}

#[tokio::test]
async fn a_refused_agent_tries_again() {
    let world = World::new().await;
    for _ in 0..3 {
        assert!(
            world.accept_with("Basic c29tZTplbHNl").await.is_none(),
            "the agent's own credentials differ"
        );
    }
    let mut master = world.accept().await;
    assert_eq!(master.ask(MasterOp::Keepalive).await, Ok(Value::Nil));
}

#[tokio::test]
async fn shutdown_is_answered_and_ends_the_agent_and_what_runs() {
    let (mut world, mut master) = World::connected().await;
    master.start("1", shell(sh(&world.path(), "sleep 1000 & echo $!; wait"))).await;
    let run = master.until("1", "the pid", |run| !run.stdout().is_empty()).await;
    assert_eq!(master.ask(MasterOp::Shutdown).await, Ok(Value::Nil));
    let ended = within("the agent's end", &mut world.agent).await.unwrap().unwrap();
    assert_eq!(ended, Ended::Shutdown);
    gone(&run.stdout()).await;
}

#[tokio::test]
async fn an_agent_told_to_stop_leaves_nothing_running() {
    let (mut world, mut master) = World::connected().await;
    master.start("1", shell(sh(&world.path(), "sleep 1000 & echo $!; wait"))).await;
    let run = master.until("1", "the pid", |run| !run.stdout().is_empty()).await;
    world.stop.take().unwrap().send(()).unwrap();
    let ended = within("the agent's end", &mut world.agent).await.unwrap().unwrap();
    assert_eq!(ended, Ended::Stopped);
    gone(&run.stdout()).await;
}

#[tokio::test]
async fn pings_are_answered() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let (_world, mut master) = World::connected().await;
    master.socket.send(Message::Ping(Bytes::from_static(b"here?"))).await.unwrap();
    within("the pong", async {
        while let Some(Ok(message)) = master.socket.next().await {
            if message == Message::Pong(Bytes::from_static(b"here?")) {
                return;
            }
        }
        panic!("the connection ended");
    })
    .await;
}

#[tokio::test]
async fn unusable_options_are_refused() {
    use greenroom_worker::{AgentError, AgentOptions, run};
    let dir = tempfile::tempdir().unwrap();
    let start = |master: &str, name: &str| {
        run(AgentOptions::new(master, name, String::from("pw").into(), dir.path()))
    };
    assert!(matches!(start("ws://127.0.0.1:1", "a:b").await, Err(AgentError::Name(_))));
    assert!(matches!(start("http://127.0.0.1:1", "w").await, Err(AgentError::Address { .. })));
    assert!(matches!(start("not a url", "w").await, Err(AgentError::Address { .. })));
}

/// Not a test: the agent as a process of its own, for the test below.
#[tokio::test]
#[ignore = "started by `an_agent_ends_with_its_standard_input`"]
async fn agent_process() {
    let url = std::env::var("TEST_MASTER").unwrap();
    let dir = std::env::var("TEST_DIR").unwrap();
    let mut options = greenroom_worker::AgentOptions::new(url, "w1", String::from("pw1").into(), dir);
    options.end_with_stdin = true;
    assert_eq!(greenroom_worker::run(options).await.unwrap(), Ended::StdinEnded);
}

#[tokio::test]
async fn an_agent_ends_with_its_standard_input() {
    let world = World::new().await;
    drop(world.accept().await);
    world.agent.abort();
    let mut agent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "connection::agent_process"])
        .env("TEST_MASTER", format!("ws://{}", world.listener.local_addr().unwrap()))
        .env("TEST_DIR", world.dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut master = loop {
        // The agent of this test's world may have one more connection under way.
        let mut master = world.accept().await;
        let seq = master.send(MasterOp::Keepalive).await;
        if master.answers(seq).await {
            break master;
        }
    };
    master.start("1", shell(sh(&world.path(), "sleep 1000 & echo $!; wait"))).await;
    let run = master.until("1", "the pid", |run| !run.stdout().is_empty()).await;
    drop(agent.stdin.take());
    let status = within("the agent's end", agent.wait()).await.unwrap();
    assert!(status.success(), "{status}");
    gone(&run.stdout()).await;
}
