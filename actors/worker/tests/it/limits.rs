//! Interrupts and limits: what ends a command that shall not go on.

use crate::master::{World, gone, sh, shell};

#[tokio::test]
async fn an_interrupt_kills_the_whole_group() {
    let (world, mut master) = World::connected().await;
    master.start("1", shell(sh(&world.path(), "sleep 1000 & echo $!; wait"))).await;
    let run = master.until("1", "the pid", |run| !run.stdout().is_empty()).await;
    master.interrupt("1").await;
    let end = master.end_of("1").await;
    assert_eq!((end.rc(), end.failure(), end.has_elapsed()), (Some(-1), None, false));
    assert!(end.header().contains("\ncommand interrupted, attempting to kill\nprocess killed by signal 9\n"));
    assert!(end.header().contains("elapsedTime="));
    gone(&run.stdout()).await;
    master.interrupt("1").await;
    master.interrupt("never started").await;
}

#[tokio::test]
async fn sigterm_comes_first_if_wanted() {
    let (world, mut master) = World::connected().await;
    let mut args =
        sh(&world.path(), "trap 'echo got term; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    args.sigterm_time = Some(20.0);
    master.start("1", shell(args)).await;
    master.until("1", "the trap", |run| run.stdout() == "ready\n").await;
    master.interrupt("1").await;
    let run = master.end_of("1").await;
    assert_eq!((run.rc(), run.stdout()), (Some(7), "ready\ngot term\n".to_owned()));
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed() {
    let (world, mut master) = World::connected().await;
    let mut args = sh(&world.path(), "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    args.sigterm_time = Some(0.2);
    master.start("1", shell(args)).await;
    master.until("1", "the trap", |run| run.stdout() == "ready\n").await;
    master.interrupt("1").await;
    let run = master.end_of("1").await;
    assert_eq!(run.rc(), Some(-1));
    assert!(run.header().contains("process killed by signal 9\n"), "{}", run.header());
}

#[tokio::test]
async fn another_interrupt_signal_is_followed_by_kill() {
    let (world, mut master) = World::connected().await;
    let mut args = sh(&world.path(), "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    args.interrupt_signal = "TERM".to_owned();
    master.start("1", shell(args)).await;
    master.until("1", "the trap", |run| run.stdout() == "ready\n").await;
    master.interrupt("1").await;
    let run = master.end_of("1").await;
    assert_eq!((run.rc(), run.failure()), (Some(-1), None));
    assert!(run.header().contains("SIGTERM failed to kill process, using SIGKILL\n"), "{}", run.header());
}

#[tokio::test]
async fn silence_is_limited() {
    let (world, mut master) = World::connected().await;
    let mut args = sh(&world.path(), "for i in 1 2 3 4; do echo $i; sleep 0.4; done; sleep 1000");
    args.timeout = Some(1.5);
    let run = master.run("1", shell(args)).await;
    assert_eq!((run.rc(), run.failure_reason()), (Some(-1), Some("timeout_without_output")));
    assert_eq!(run.stdout(), "1\n2\n3\n4\n", "output puts the limit off");
    assert!(run.header().contains("command timed out: 1.5 seconds without output"), "{}", run.header());
    assert!(run.has_elapsed());
}

#[tokio::test]
async fn time_is_limited_however_much_is_said() {
    let (world, mut master) = World::connected().await;
    let mut args = sh(&world.path(), "while :; do echo x; done");
    args.max_time = Some(0.5);
    args.want_stdout = false;
    let run = master.run("1", shell(args)).await;
    assert_eq!((run.rc(), run.failure_reason()), (Some(-1), Some("timeout")));
    assert_eq!(run.stdout(), "");
    assert!(run.header().contains("command timed out: 0.5 seconds elapsed"), "{}", run.header());
}

#[tokio::test]
async fn lines_are_limited() {
    let (world, mut master) = World::connected().await;
    let mut args = sh(&world.path(), "echo 1; echo 2; echo 3; sleep 1000");
    args.max_lines = Some(2);
    let run = master.run("1", shell(args)).await;
    assert_eq!((run.rc(), run.failure_reason()), (Some(-1), Some("max_lines_failure")));
    assert!(run.stdout().starts_with("1\n2\n3\n"));
    assert!(run.header().contains("3/2 written/allowed"), "{}", run.header());
}

#[tokio::test]
async fn closed_streams_do_not_hide_a_running_program() {
    let (world, mut master) = World::connected().await;
    let mut args = sh(&world.path(), "exec >&- 2>&-; sleep 1000");
    args.timeout = Some(0.3);
    let run = master.run("1", shell(args)).await;
    assert_eq!((run.rc(), run.failure_reason()), (Some(-1), Some("timeout_without_output")));
}
