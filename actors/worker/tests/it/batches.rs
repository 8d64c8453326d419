//! Output in batches: what a master gets that enables them, and what one gets that does not.

use greenroom_protocol::{Logfile, Settings, Source};
use greenroom_worker::Compress;

use crate::master::{World, sh, shell};

/// Prints bytes that are no text: a carriage return, half a character, no end of the last line.
const ODD: &str = r"printf 'a\r\n\377\rb\000\n'; printf 'err' >&2; printf 'no end'";

#[tokio::test]
async fn bytes_come_as_they_were_written() {
    let (world, mut master) = World::connected().await;
    master.settings(Settings::batched(1)).await;
    let mut odd = sh(&world.path(), &format!("{ODD}; printf 'x\\r\\ny' > made.log"));
    odd.logfiles = vec![("made".into(), Logfile { filename: "made.log".into(), follow: false })];
    let run = master.run("1", shell(odd)).await;
    assert_eq!(run.bytes(&Source::Stdout), b"a\r\n\xff\rb\0\nno end");
    assert_eq!(run.bytes(&Source::Stderr), b"err");
    assert_eq!(run.bytes(&Source::File("made".into())), b"x\r\ny");
    assert!(run.bytes(&Source::Header).ends_with(b"\n"));
    let text = |source| run.bytes(source).len() as u64;
    for (source, total) in run.totals.as_ref().expect("totals") {
        assert_eq!(*total, text(source), "{source:?}");
    }
    assert_eq!(run.totals.as_ref().map(Vec::len), Some(4));
    assert_eq!((run.stdout() + &run.stderr() + &run.header(), run.rc()), (String::new(), Some(0)));
}

#[tokio::test]
async fn a_master_that_does_not_enable_batches_gets_none() {
    let (world, mut master) = World::connected().await;
    master.settings(Settings::default()).await;
    let run = master.run("1", shell(sh(&world.path(), ODD))).await;
    assert_eq!((run.batches, run.totals.as_ref()), (0, None));
    assert_eq!(run.stdout(), "a\n\u{fffd}\nb\0\nno end\n");
    // A version that the agent did not announce enables nothing either.
    master.settings(Settings::batched(2)).await;
    let run = master.run("2", shell(sh(&world.path(), "echo text"))).await;
    assert_eq!((run.batches, run.stdout().as_str()), (0, "text\n"));
}

#[tokio::test]
async fn batches_are_compressed_if_that_is_wished_and_worth_it() {
    for (compress, packs) in [(Compress::Auto, false), (Compress::Never, false), (Compress::Always, true)] {
        let world = World::with(|options| options.compress = compress).await;
        let mut master = world.accept().await;
        master.settings(Settings::batched(1)).await;
        let run =
            master.run("1", shell(sh(&world.path(), "seq 1 500000; head -c 2000000 /dev/urandom"))).await;
        let stdout = run.bytes(&Source::Stdout);
        let expected: String = (1..=500_000).map(|number| format!("{number}\n")).collect();
        assert!(stdout.starts_with(expected.as_bytes()), "{compress:?}");
        assert_eq!(stdout.len(), expected.len() + 2_000_000);
        assert_eq!(run.packed > 0, packs, "{compress:?}: {} of {}", run.packed, run.batches);
        assert!(run.packed < run.batches, "noise is sent as it is");
        if packs {
            assert!(run.packed >= expected.len() / (320 * 1024), "{} of {}", run.packed, run.batches);
        }
    }
}

#[tokio::test]
async fn output_is_live_and_the_line_that_is_open_comes_too() {
    let (world, mut master) = World::connected().await;
    master.settings(Settings::batched(1)).await;
    let script = "printf 'first '; while [ ! -e go ]; do sleep 0.02; done; echo second";
    master.start("1", shell(sh(&world.path(), script))).await;
    master.until("1", "an open line", |run| run.bytes(&Source::Stdout) == b"first ").await;
    std::fs::write(world.path().join("go"), "").unwrap();
    assert_eq!(master.end_of("1").await.bytes(&Source::Stdout), b"first second\n");
}

#[tokio::test]
async fn too_many_lines_are_noticed_in_batches_too() {
    let (world, mut master) = World::connected().await;
    master.settings(Settings::batched(1)).await;
    let mut endless = sh(&world.path(), "yes");
    endless.max_lines = Some(1000);
    let run = master.run("1", shell(endless)).await;
    assert_eq!(run.failure_reason(), Some("max_lines_failure"));
}
