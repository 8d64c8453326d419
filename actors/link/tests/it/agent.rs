//! With our own agent.

use std::collections::BTreeMap;

use greenroom_link::{Command, CommandEnd, CommandStart, Rmdir};
use greenroom_worker::AgentOptions;
use secrecy::SecretString;
use tokio::sync::oneshot;

use crate::support::*;

struct Agent {
    stop: oneshot::Sender<()>,
    task: actix_web::rt::task::JoinHandle<()>,
}

fn start_agent(farm: &Farm) -> Agent {
    let options = AgentOptions::new(
        format!("ws://{}", farm.address),
        "w1",
        SecretString::from("pw:1".to_owned()),
        farm.dir.path().join("agent"),
    );
    let (stop, stopped) = oneshot::channel();
    let task = actix_web::rt::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        greenroom_worker::run_until(options, stopped).await.unwrap();
    });
    Agent { stop, task }
}

impl Agent {
    async fn stop(self) {
        let _ = self.stop.send(());
        soon("the agent's end", self.task).await.unwrap();
    }
}

async fn run(farm: &Farm, command: Command) -> CommandEnd {
    let id = farm.id("w1");
    let start = CommandStart {
        command_id: farm.workers.new_command_id(),
        command,
        stdio: None,
        logs: BTreeMap::new(),
        capture_stdout: None,
    };
    let command_id = start.command_id.clone();
    farm.workers.start(id, start).await.unwrap();
    let end = soon("the end", farm.workers.wait(id, &command_id)).await;
    farm.workers.forget(id, &command_id);
    end
}

fn rc(end: &CommandEnd) -> Option<i64> {
    match end {
        CommandEnd::Finished { rc, failure: None, .. } => *rc,
        other => panic!("{other:?}"),
    }
}

#[actix_web::test]
async fn files_are_made_looked_at_and_removed() {
    let farm = farm().await;
    let agent = start_agent(&farm);
    let base = farm.usable("w1").await.basedir.clone();
    let path = format!("{base}/all/build");
    assert_eq!(rc(&run(&farm, Command::Mkdir { paths: vec![path.clone()] }).await), Some(0));
    let end = run(&farm, Command::Stat { path: path.clone() }).await;
    let CommandEnd::Finished { rc: Some(0), stat: Some(stat), .. } = end else { panic!("{end:?}") };
    assert_eq!(stat.mode & 0o170_000, 0o040_000, "a directory");
    let rmdir =
        Rmdir { paths: vec![format!("{base}/all")], log_environ: false, timeout: None, max_time: None };
    assert_eq!(rc(&run(&farm, Command::Rmdir(rmdir)).await), Some(0));
    assert_eq!(rc(&run(&farm, Command::Stat { path }).await), Some(2), "ENOENT");
    agent.stop().await;
    farm.finish().await;
}

#[actix_web::test]
async fn a_shell_command_s_output_is_in_the_log_when_it_ends() {
    let farm = farm().await;
    let agent = start_agent(&farm);
    let id = farm.id("w1");
    farm.usable("w1").await;
    let script = "seq 1 20000; echo err >&2; printf tail; exit 7";
    let (mut start, log) = farm.shell("w1", script).await;
    start.capture_stdout = Some(4);
    let command_id = start.command_id.clone();
    farm.workers.start(id, start).await.unwrap();
    let end = soon("the end", farm.workers.wait(id, &command_id)).await;
    let CommandEnd::Finished { rc: Some(7), captured, failure: None, .. } = end else { panic!("{end:?}") };
    assert_eq!(captured, "1\n2\n");
    let text = farm.text(log).await;
    let of = |letter: char| text.lines().filter_map(move |line| line.strip_prefix(letter));
    let expected: Vec<String> = (1..=20000).map(|n| n.to_string()).chain(["tail".to_owned()]).collect();
    assert!(of('o').eq(expected.iter().map(String::as_str)), "standard output is whole and in order");
    assert_eq!(of('e').collect::<Vec<_>>(), ["err"]);
    assert!(of('h').any(|line| line == "program finished with exit code 7"));
    agent.stop().await;
    farm.finish().await;
}

#[actix_web::test]
async fn an_interrupted_command_ends_and_so_does_one_that_is_left_over() {
    let farm = farm().await;
    let agent = start_agent(&farm);
    let id = farm.id("w1");
    farm.usable("w1").await;
    let (start, _) = farm.shell("w1", "sleep 1000").await;
    let command_id = start.command_id.clone();
    farm.workers.start(id, start).await.unwrap();
    farm.workers.interrupt(id, &command_id, "stopped by a user").await.unwrap();
    let end = soon("the end", farm.workers.wait(id, &command_id)).await;
    assert!(matches!(end, CommandEnd::Finished { rc: Some(-1), .. }), "{end:?}");

    let (start, _) = farm.shell("w1", "sleep 1000").await;
    let command_id = start.command_id.clone();
    farm.workers.start(id, start).await.unwrap();
    agent.stop().await;
    let end = soon("the end", farm.workers.wait(id, &command_id)).await;
    assert!(matches!(end, CommandEnd::Lost { .. }), "{end:?}");
    let agent = start_agent(&farm);
    farm.usable("w1").await;
    agent.stop().await;
    farm.finish().await;
}
