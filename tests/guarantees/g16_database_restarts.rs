//! G16: the database server is killed and comes back, again and again and once for long: nothing acknowledged is lost, reads are refused
//! at once or served marked as stale, and the master goes on by itself.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::StdRng;

use crate::checker;
use crate::databases::Server;
use crate::harness::{Farm, Rest, member, patience};
use crate::history::History;
use crate::load::{Asked, Load, dice_of};
use crate::run::Run;
use crate::storm::{config, force_on};

/// The master serves so long after the database does.
const SERVES_WITHIN: Duration = Duration::from_secs(5);
/// A read is answered within this time, whatever the answer. (A machine that also runs the servers needs a little more.)
const ANSWERS_WITHIN: Duration = Duration::from_millis(1_500);
/// Everything has its end so long after the last fault.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// What somebody saw who read all the time.
#[derive(Default)]
struct Seen {
    /// Of hot state: with and without the mark that it may be stale.
    hot: [usize; 2],
    /// Of history: answered, refused.
    cold: [usize; 2],
    slowest: Duration,
}

/// Reads hot state and history in turn, and holds each answer against the promise.
fn read(rest: &Rest, load: &Load, seen: &Mutex<Seen>) {
    for turn in 0.. {
        if load.is_stopped() {
            return;
        }
        let begun = Instant::now();
        let hot = rest.try_get("/api/v2/builders").expect("the master answers");
        assert_eq!(hot.status, 200, "hot state is always served: {}", hot.text);
        let cold = rest.try_get(&format!("/api/v2/sourcestamps?revision=no-{turn}"));
        let cold = cold.expect("the master answers");
        let took = begun.elapsed();
        assert!([200, 503].contains(&cold.status), "{}: {}", cold.status, cold.text);
        if cold.status == 503 {
            assert_eq!(cold.header("retry-after"), Some("1"), "{cold:?}");
        }
        assert!(took < ANSWERS_WITHIN, "two reads took {took:?}: {cold:?}");
        let mut seen = seen.lock().expect("nobody panics here");
        seen.hot[usize::from(hot.header("greenroom-stale").is_none())] += 1;
        seen.cold[usize::from(cold.status == 503)] += 1;
        seen.slowest = seen.slowest.max(took);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Pushes changes, each once: what is refused is refused.
fn push(rest: &Rest, load: &Load) {
    while !load.is_stopped() {
        load.ask(rest, &Asked::hook(load.number(), None));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Takes the server away for so long; gives how long the master took to serve after it was back.
fn restart(server: &mut Server, farm: &Farm, away: Duration, load: &Load) -> Duration {
    server.stop();
    if away > Duration::from_secs(2) {
        let is_down = || farm.rest().try_get("/health").ok().filter(|it| it.status == 503);
        patience(Duration::from_secs(2), "/health that says it", is_down);
    }
    std::thread::sleep(away);
    server.resume();
    let back = Instant::now();
    patience(Duration::from_secs(30), "a master that serves", || {
        let read = farm.rest().try_get("/api/v2/sourcestamps?limit=1").ok()?;
        let written = load.ask(farm.rest(), &Asked::hook(load.number(), None));
        (read.status == 200 && written.is_some()).then_some(())
    });
    back.elapsed()
}

fn storm(run: &mut Run, server: &mut Server, farm: &Farm, load: &Load, restarts: usize) -> Vec<Duration> {
    let pause = |dice: &mut StdRng, most| Duration::from_millis(dice.random_range(0..most));
    let mut took = Vec::new();
    for _ in 0..restarts {
        std::thread::sleep(pause(&mut run.dice, 1_000));
        let away = pause(&mut run.dice, 500);
        took.push(restart(server, farm, away, load));
    }
    let away = Duration::from_secs(run.figure(4, 60) as u64);
    took.push(restart(server, farm, away, load));
    took
}

fn restarts_are_survived(kind: &'static str, short: usize, full: usize) {
    let mut run = Run::of("G16");
    let history = History::of(&run, kind);
    let restarts = run.figure(short, full);
    let mut server = Server::start(kind);
    let mut farm = member("one", &server.url, "local:", &config(&history, 0, 1, "0.1"));
    let _agent = farm.agent("w1");
    let (pid, rest, load, seen) = (farm.pid(), farm.rest().clone(), Load::new(&history), Mutex::default());
    let took = std::thread::scope(|scope| {
        let mut dice = dice_of(&mut run.dice);
        let (load, rest, seen) = (&load, &rest, &seen);
        scope.spawn(move || force_on(load, std::slice::from_ref(rest), &mut dice));
        scope.spawn(move || push(rest, load));
        scope.spawn(move || read(rest, load, seen));
        let took = storm(&mut run, &mut server, &farm, load, restarts);
        load.stop();
        took
    });
    let settled = || {
        let open = rest.try_get("/api/v2/buildsets?complete=false&limit=1").ok()?;
        (open.status == 200 && open.json()["buildsets"].as_array()?.is_empty()).then_some(())
    };
    patience(ENDS_WITHIN, "the end of every build request", settled);
    history.settle(&rest, true);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    assert_eq!((farm.pid(), farm.master().ended()), (pid, None), "no restart of ours");
    assert!(!farm.master_log().contains("panicked"), "a panic: see the log");
    let slowest = took.iter().max().copied().unwrap_or_default();
    assert!(slowest <= SERVES_WITHIN, "it served {slowest:?} after the database");
    let seen = seen.into_inner().expect("nobody panicked");
    assert!(seen.hot[0] > 0 && seen.cold[1] > 0 && seen.cold[0] > 0, "the outages were not seen");
    let figures = format!(
        "{kind}: {restarts} restarts and {} s away, {} acknowledged, 0 lost, {} unknown, 0 panics; serving after {} ms at most; \
         {} hot reads served, {} of them marked stale; {} reads of history refused; two reads took {} ms at most",
        run.figure(4, 60),
        findings.acknowledged,
        findings.unknown,
        slowest.as_millis(),
        seen.hot[0] + seen.hot[1],
        seen.hot[0],
        seen.cold[1],
        seen.slowest.as_millis()
    );
    run.kept(&figures);
}

#[test]
fn g16_restarts_of_postgresql_are_survived() {
    restarts_are_survived("postgres", 3, 100);
}

#[test]
fn g16_restarts_of_mariadb_are_survived() {
    restarts_are_survived("mariadb", 3, 100);
}
