//! G1: a submission that was answered with 2xx is never lost, whenever the master is killed.

use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::checker;
use crate::databases;
use crate::harness::{Farm, Plan, SUCCESS, patience};
use crate::history::History;
use crate::load::{Asked, Load, dice_of};
use crate::run::Run;

/// Whose requests wait for a worker that never comes.
const BUILDERS: usize = 50;
/// A master serves again after its start.
const SERVES_WITHIN: Duration = Duration::from_secs(2);
/// Clients at the same time.
const CLIENTS: usize = 4;

fn config(database: &str) -> String {
    let mut config = format!(
        "{database}[workers.w1]\npassword = 'pw'\n[workers.never]\npassword = 'pw'\n\
         [schedulers.force]\nkind = 'force'\nbuilders = '*'\nparameters = [{{ name = 'job', kind = 'int' }}]\n\
         [builders.once]\nworkers = ['w1']\n[[builders.once.steps]]\nname = 'work'\nrun = 'true'\n"
    );
    for name in names() {
        config +=
            &format!("[builders.{name}]\nworkers = ['never']\n[[builders.{name}.steps]]\nrun = 'true'\n");
    }
    config
}

fn names() -> Vec<String> {
    (0..BUILDERS).map(|n| format!("b-{n}")).collect()
}

/// One client: forces, pushes and rebuilds until it is stopped; half of the time with a key, and then it insists. What it was promised
/// it cancels again, so that the kills find as many requests waiting at the end as at the beginning.
fn client(load: &Load, farm: &crate::harness::Rest, built: i64, mut dice: StdRng) {
    while !load.is_stopped() {
        let number = load.number();
        let key = dice.random_bool(0.5).then(|| format!("key-{number}"));
        let asked = match dice.random_range(0..5) {
            0 | 1 => Asked::force(number, &[format!("b-{}", number as usize % BUILDERS)], key),
            2 => Asked::rebuild(number, built, key),
            _ => Asked::hook(number, key),
        };
        let promised = match asked.key {
            Some(_) => Some(load.insist(|| farm.clone(), &asked)),
            None => load.ask(farm, &asked),
        };
        match promised {
            Some(promised) => cancel(farm, &promised),
            // No flood of calls that nobody hears.
            None => _ = patience(Duration::from_secs(60), "a master", || farm.try_get("/health").ok()),
        }
    }
}

/// Cancels the requests of a promise; a few that a kill leaves waiting do no harm.
fn cancel(farm: &crate::harness::Rest, promised: &Value) {
    for request in promised["requests"].as_array().into_iter().flatten() {
        let _ = farm.try_call(&format!("buildrequests/{request}"), "cancel", &json!({}), None);
    }
}

/// Kills the master at a random moment just after a request has begun; gives how long each start took to serve.
fn kill(farm: &mut Farm, load: &Load, dice: &mut StdRng, kills: usize) -> Vec<Duration> {
    let mut starts = Vec::new();
    for _ in 0..kills {
        let seen = load.begun() + dice.random_range(1..20);
        patience(Duration::from_secs(60), "requests", || (load.begun() >= seen).then_some(()));
        std::thread::sleep(Duration::from_micros(dice.random_range(0..50_000)));
        farm.kill_master();
        let start = Instant::now();
        farm.start();
        starts.push(start.elapsed());
    }
    starts
}

fn acknowledged_is_there(engine: &'static str, short: usize, full: usize) {
    let mut run = Run::of("G1");
    let history = History::of(&run, engine);
    let (kills, sets) = (run.figure(short, full), run.figure(8, 10_000 / BUILDERS));
    let database = match engine {
        "sqlite" => String::new(),
        server => format!("[database]\nurl = '{}'\n", databases::fresh(server)),
    };
    let mut farm = Plan::new(&config(&database)).lay_out();
    farm.start();
    let agent = farm.agent("w1");
    let request = farm.force("once", &json!({"job": "0"}));
    let built = farm.expect_build(request, SUCCESS)["buildid"].as_i64().expect("an id");
    drop(agent);
    let load = Load::new(&history);
    for _ in 0..sets {
        let number = load.number();
        let asked = Asked::force(number, &names(), Some(format!("key-{number}")));
        load.insist(|| farm.rest().clone(), &asked);
    }
    let rest = farm.rest().clone();
    let starts = std::thread::scope(|scope| {
        let _lasts = load.while_it_lasts();
        for _ in 0..CLIENTS {
            let (load, rest, dice) = (&load, &rest, dice_of(&mut run.dice));
            scope.spawn(move || client(load, rest, built, dice));
        }
        kill(&mut farm, &load, &mut run.dice, kills)
    });
    history.settle(&rest, false);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    let mut sorted = starts;
    sorted.sort();
    let (median, worst) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    assert!(median <= SERVES_WITHIN, "half of the starts took longer than {median:?}");
    assert!(!run.is_full() || worst <= SERVES_WITHIN, "a start took {worst:?}");
    let figures = format!(
        "{engine}: {kills} kills, {} acknowledged, 0 lost, {} unknown; serving after {} ms (worst {} ms) with {} pending requests",
        findings.acknowledged,
        findings.unknown,
        median.as_millis(),
        worst.as_millis(),
        sets * BUILDERS
    );
    run.kept(&figures);
}

#[test]
fn g01_what_was_acknowledged_outlives_kills_on_sqlite() {
    acknowledged_is_there("sqlite", 12, 1_000);
}

#[test]
fn g01_what_was_acknowledged_outlives_kills_on_postgresql() {
    acknowledged_is_there("postgres", 5, 200);
}

#[test]
fn g01_what_was_acknowledged_outlives_kills_on_mariadb() {
    acknowledged_is_there("mariadb", 4, 100);
}
