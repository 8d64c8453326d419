//! What commands say and how they end, equal on our agent and on the stock worker.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{CANCELLED, EXCEPTION, FAILURE, Farm, RETRY, SUCCESS, WARNINGS};

const CONFIG: &str = r#"
[workers.w1]
password = "pw"
max-builds = 4
[schedulers.force]
kind = "force"
builders = "*"
[builders.outputs]
[[builders.outputs.steps]]
name = "streams"
run = "echo out; echo err >&2; echo \"$GREETING\"; pwd"
env = { GREETING = "good day, ${{ worker.name }}" }
[[builders.outputs.steps]]
name = "argv"
run = ["printf", "%s|", "a b", "$HOME", "*"]
[[builders.outputs.steps]]
name = "no-newline"
run = "printf 'the end'"
[builders.fails]
[[builders.fails.steps]]
name = "fail"
run = "echo before; exit 42"
[[builders.fails.steps]]
name = "goes-on"
run = "echo after"
[builders.decoded]
[[builders.decoded.steps]]
name = "odd"
run = "exit 77"
decode-rc = { 77 = "warnings" }
warn-on-warnings = true
[builders.missing]
[[builders.missing.steps]]
name = "nothing"
run = ["/no/such/program"]
[builders.silent]
[[builders.silent.steps]]
name = "hang"
run = "echo begun; sleep 100"
timeout = "1s"
[builders.long]
[[builders.long.steps]]
name = "chatter"
run = "while true; do echo tick; sleep 0.1; done"
max-time = "1s"
[builders.endless]
[[builders.endless.steps]]
name = "endless"
run = "echo begun; sleep 1000"
[[builders.endless.steps]]
name = "clean-up"
run = "echo cleaned"
always-run = true
[builders.many]
[[builders.many.steps]]
name = "lines"
run = "seq 20000"
[builders.long-line]
[[builders.long-line.steps]]
name = "line"
run = "head -c 10485760 /dev/zero | tr '\\0' x; echo; echo after"
[builders.shorter-line]
[[builders.shorter-line.steps]]
name = "line"
run = "head -c 4194304 /dev/zero | tr '\\0' x | dd bs=1M iflag=fullblock status=none; echo; echo after"
[builders.bytes]
[[builders.bytes.steps]]
name = "bytes"
run = "printf 'caf\\303\\251 \\377\\376 end\\n'; printf 'tab\\there\\n'"
"#;

fn run(farm: &Farm, builder: &str, results: i64) -> Value {
    let request = farm.force(builder, &json!({}));
    farm.expect_build(request, results)
}

fn outputs(farm: &Farm) {
    let build = run(farm, "outputs", SUCCESS);
    let out = farm.lines(&build, "streams", 'o');
    assert_eq!(out[..2], ["out", "good day, w1"]);
    assert!(out[2].ends_with("/outputs/build"), "{out:?}");
    assert_eq!(farm.lines(&build, "streams", 'e'), ["err"]);
    assert_eq!(farm.lines(&build, "argv", 'o'), ["a b|$HOME|*|"], "an array meets no shell");
    assert_eq!(farm.lines(&build, "no-newline", 'o'), ["the end"]);
}

fn endings(farm: &Farm) {
    let build = run(farm, "fails", FAILURE);
    assert_eq!(farm.step(&build, "fail")["results"], FAILURE);
    assert!(farm.lines(&build, "fail", 'h').iter().any(|it| it.contains("exit code 42")));
    assert_eq!(farm.lines(&build, "goes-on", 'o'), ["after"], "a failure halts only where it says so");
    run(farm, "decoded", WARNINGS);
    let build = run(farm, "missing", FAILURE);
    assert!(farm.log(&build, "nothing").contains("/no/such/program"), "{}", farm.log(&build, "nothing"));
}

fn timeouts(farm: &Farm) {
    let start = Instant::now();
    let build = run(farm, "silent", FAILURE);
    assert_eq!(farm.lines(&build, "hang", 'o'), ["begun"]);
    assert!(farm.log(&build, "hang").contains("without output"), "{}", farm.log(&build, "hang"));
    let build = run(farm, "long", FAILURE);
    assert!(farm.lines(&build, "chatter", 'o').len() >= 3);
    assert!(farm.log(&build, "chatter").contains("elapsed"), "{}", farm.log(&build, "chatter"));
    assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
}

fn interrupts(farm: &Farm) {
    let request = farm.force("endless", &json!({}));
    let build = farm.await_running(request, "endless");
    farm.rest().call(&format!("builds/{}", build["buildid"]), "stop", &json!({"reason": "enough"}));
    let build = farm.expect_build(request, CANCELLED);
    assert_eq!(farm.builds_of(request).len(), 1, "what was stopped is not built again");
    assert_eq!(farm.lines(&build, "clean-up", 'o'), ["cleaned"]);
    // The worker is free again, and nothing of the command is left.
    run(farm, "decoded", WARNINGS);
}

fn large_logs(farm: &Farm) {
    let build = run(farm, "many", SUCCESS);
    let wanted: Vec<_> = (1..=20_000).map(|n| n.to_string()).collect();
    assert!(farm.lines(&build, "lines", 'o') == wanted, "20,000 lines, each as it was written");
}

fn one_long_line(farm: &Farm, builder: &str, length: usize) {
    let build = run(farm, builder, SUCCESS);
    let lines = farm.lines(&build, "line", 'o');
    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [length, 5], "one line, not cut");
    assert!(lines[0].bytes().all(|it| it == b'x'));
    assert_eq!(lines[1], "after");
}

fn invalid_utf8(farm: &Farm) {
    let build = run(farm, "bytes", SUCCESS);
    let lines = farm.lines(&build, "bytes", 'o');
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("café \u{fffd}") && lines[0].ends_with(" end"), "{lines:?}");
    assert_eq!(lines[1], "tab\there");
}

macro_rules! on_both {
    ($($story:ident)*) => {
        mod our_agent {
            $(#[test] fn $story() {
                let farm = super::Farm::raise(super::CONFIG);
                let _agent = farm.agent("w1");
                super::$story(&farm);
            })*
        }
        mod stock_worker {
            $(#[test] fn $story() {
                let farm = super::Farm::raise(super::CONFIG);
                let _worker = farm.stock_worker("w1");
                super::$story(&farm);
            })*
        }
    };
}

on_both! { outputs endings timeouts interrupts large_logs invalid_utf8 }

#[test]
fn a_line_of_10_mib_on_our_agent() {
    let farm = Farm::raise(CONFIG);
    let _agent = farm.agent("w1");
    one_long_line(&farm, "long-line", 10 << 20);
}

/// The stock worker searches the whole line again for each piece that it reads, so that 10 MiB take it minutes.
#[test]
fn a_line_of_4_mib_on_a_stock_worker() {
    let farm = Farm::raise(CONFIG);
    let _worker = farm.stock_worker("w1");
    one_long_line(&farm, "shorter-line", 4 << 20);
}

#[test]
fn results_have_the_numbers_of_the_contract() {
    assert_eq!([SUCCESS, WARNINGS, FAILURE, EXCEPTION, RETRY, CANCELLED], [0, 1, 2, 4, 5, 6]);
}
