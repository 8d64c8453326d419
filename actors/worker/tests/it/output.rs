//! How output arrives.

use std::time::Duration;

use greenroom_protocol::{MasterOp, Settings, UpdateItem, Value};

use crate::master::{World, sh, shell, within};

#[tokio::test]
async fn every_text_ends_with_a_newline() {
    let (world, mut master) = World::connected().await;
    let run = master.run("1", shell(sh(&world.path(), r#"printf 'a\r\nb\rc\n'; printf 'no end'"#))).await;
    assert_eq!(run.stdout(), "a\nb\nc\nno end\n");
    let run = master.run("2", shell(sh(&world.path(), r#"printf 'bad \377 byte\n'"#))).await;
    assert_eq!(run.stdout(), "bad \u{fffd} byte\n");
    let run = master.run("3", shell(sh(&world.path(), r#"printf '\377\376'"#))).await;
    assert_eq!(run.stdout(), "\u{fffd}\u{fffd}\n");
}

#[tokio::test]
async fn output_is_live() {
    let (world, mut master) = World::connected().await;
    let script = "echo first; while [ ! -e go ]; do sleep 0.02; done; echo second";
    master.start("1", shell(sh(&world.path(), script))).await;
    master.until("1", "the first line", |run| run.stdout() == "first\n").await;
    std::fs::write(world.path().join("go"), "").unwrap();
    assert_eq!(master.end_of("1").await.stdout(), "first\nsecond\n");
}

#[tokio::test]
async fn streams_keep_their_order() {
    let (world, mut master) = World::connected().await;
    let script = "for i in 1 2 3; do \
        echo out$i; while [ ! -e out$i ]; do sleep 0.02; done; \
        echo err$i >&2; while [ ! -e err$i ]; do sleep 0.02; done; done";
    master.start("1", shell(sh(&world.path(), script))).await;
    for number in 1..=3 {
        for stream in ["out", "err"] {
            let line = format!("{stream}{number}");
            master.until("1", &line, |run| (run.stdout() + &run.stderr()).contains(&line)).await;
            std::fs::write(world.path().join(&line), "").unwrap();
        }
    }
    let run = master.end_of("1").await;
    let texts: Vec<&str> = run
        .items
        .iter()
        .filter_map(|item| match item {
            UpdateItem::Stdout(text) | UpdateItem::Stderr(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["out1\n", "err1\n", "out2\n", "err2\n", "out3\n", "err3\n"]);
}

#[tokio::test]
async fn a_long_line_comes_whole_and_a_longer_one_in_pieces() {
    const MIB: usize = 1024 * 1024;
    let (world, mut master) = World::connected().await;
    let script = |mib: usize| format!("head -c {} /dev/zero | tr '\\0' x; echo", mib * MIB);
    let run = master.run("1", shell(sh(&world.path(), &script(10)))).await;
    let text = run.stdout();
    assert_eq!((text.len(), text.matches('\n').count()), (10 * MIB + 1, 1));
    let run = master.run("2", shell(sh(&world.path(), &script(20)))).await;
    let text = run.stdout();
    assert_eq!((text.matches('x').count(), text.matches('\n').count()), (20 * MIB, 2));
}

#[tokio::test]
async fn bytes_that_grow_when_replaced_still_fit_into_frames() {
    let (world, mut master) = World::connected().await;
    let script = "head -c 15000000 /dev/zero | tr '\\0' '\\377'; echo end";
    let run = master.run("1", shell(sh(&world.path(), script))).await;
    assert_eq!(run.stdout().matches('\u{fffd}').count(), 15_000_000);
    assert_eq!(run.rc(), Some(0));
}

#[tokio::test]
async fn much_output_arrives_complete_and_in_order() {
    let (world, mut master) = World::connected().await;
    master.settings(Settings { buffer_size: 65_536, ..Settings::default() }).await;
    let run = master.run("1", shell(sh(&world.path(), "seq 1 500000"))).await;
    let text = run.stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 500_000);
    assert!(lines.iter().enumerate().all(|(index, line)| line.parse() == Ok(index + 1)));
    assert!(run.updates >= 20, "sent in pieces of the asked size, not all at once");
}

/// Prints 2,000 blocks of 64 KiB and keeps their number in a file.
const FLOOD: &str = "i=0; while [ $i -lt 2000 ]; do \
    head -c 65536 /dev/zero | tr '\\0' x; echo; i=$((i+1)); echo $i > count; done";

/// Waits until a flood comes to rest because nobody reads; returns the number of blocks it got rid of.
async fn dammed(world: &World) -> u64 {
    let count = || {
        let text = std::fs::read_to_string(world.path().join("count")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    within("the program to be stopped", async {
        let (mut last, mut same) = (0, 0);
        while same < 10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = count();
            same = if now == last && now > 0 { same + 1 } else { 0 };
            last = now;
        }
        last
    })
    .await
}

#[tokio::test]
async fn a_master_that_does_not_read_stops_the_program() {
    let (world, mut master) = World::connected().await;
    master.start("1", shell(sh(&world.path(), FLOOD))).await;
    let blocks = dammed(&world).await;
    assert!(blocks < 1000, "{blocks} blocks of 64 KiB were taken from the program");
    let run = master.end_of("1").await;
    assert_eq!((run.stdout().len(), run.rc()), (2000 * 65_537, Some(0)));
}

#[tokio::test]
async fn an_interrupt_is_heard_while_the_master_does_not_read() {
    let (world, mut master) = World::connected().await;
    master.start("1", shell(sh(&world.path(), FLOOD))).await;
    dammed(&world).await;
    // Only sent: what the agent does about it must not wait for us to read.
    let why = "test".to_owned();
    let seq = master.send(MasterOp::InterruptCommand { command_id: "1".into(), why }).await;
    let blocks = dammed(&world).await;
    assert_eq!(master.response(seq).await, Ok(Value::Nil));
    let run = master.end_of("1").await;
    assert_eq!(run.rc(), Some(-1));
    let printed = run.stdout().matches('\n').count() as u64;
    assert!((blocks..=blocks + 1).contains(&printed), "{printed} of {blocks} blocks arrived");
}
