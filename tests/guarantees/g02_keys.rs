//! G2: the same idempotency key, however often and wherever it is sent, makes one buildset, and everybody is told the same.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;

use crate::buses;
use crate::checker;
use crate::databases;
use crate::harness::{Farm, Rest, member};
use crate::history::History;
use crate::load::{Asked, Load, dice_of};
use crate::run::Run;

const CONFIG: &str = "[workers.never]\npassword = 'pw'\n[schedulers.force]\nkind = 'force'\nbuilders = '*'\n\
    parameters = [{ name = 'job', kind = 'int' }]\n\
    [builders.b]\nworkers = ['never']\n[[builders.b.steps]]\nrun = 'true'\n";
/// Clients at the same time.
const CLIENTS: usize = 4;
/// How many are sent more than once.
const DOUBLED: f64 = 0.3;

/// Sends a submission and hangs up before the answer can be read: it may be carried out or not.
fn hang_up(load: &Load, rest: &Rest, asked: &Asked, after: Duration) {
    let request = asked.request(rest.port());
    load.begin(rest, asked);
    if let Ok(mut socket) = TcpStream::connect(("127.0.0.1", rest.port())) {
        let _ = socket.write_all(request.as_bytes());
        std::thread::sleep(after);
    }
}

/// Submits; three in ten are doubled: at both masters at once, again later at the other, or with their first answer cut off.
fn submit(load: &Load, masters: &[Rest], submits: usize, mut dice: StdRng) {
    for _ in 0..submits {
        let number = load.number();
        let key = Some(format!("key-{number}"));
        let asked = if dice.random_bool(0.7) {
            Asked::force(number, &["b".to_owned()], key)
        } else {
            Asked::hook(number, key)
        };
        let (one, other) = match dice.random_bool(0.5) {
            true => (&masters[0], &masters[1]),
            false => (&masters[1], &masters[0]),
        };
        if !dice.random_bool(DOUBLED) {
            load.insist(|| one.clone(), &asked);
            continue;
        }
        match dice.random_range(0..3) {
            0 => std::thread::scope(|scope| {
                scope.spawn(|| load.insist(|| one.clone(), &asked));
                load.insist(|| other.clone(), &asked);
            }),
            1 => {
                load.insist(|| one.clone(), &asked);
                load.insist(|| other.clone(), &asked);
            }
            _ => {
                hang_up(load, one, &asked, Duration::from_micros(dice.random_range(0..20_000)));
                load.insist(|| other.clone(), &asked);
                load.insist(|| one.clone(), &asked);
            }
        }
    }
}

fn one_key_makes_one_buildset(kind: &'static str, short: usize, full: usize) {
    let mut run = Run::of("G2");
    let history = History::of(&run, kind);
    let submits = run.figure(short, full);
    let (bus, database) = (buses::Server::start("nats"), databases::fresh(kind));
    let masters: Vec<Farm> =
        ["one", "two"].iter().map(|name| member(name, &database, &bus.url, CONFIG)).collect();
    let rests: Vec<Rest> = masters.iter().map(|it| it.rest().clone()).collect();
    let load = Load::new(&history);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (load, rests, dice) = (&load, &rests, dice_of(&mut run.dice));
            scope.spawn(move || submit(load, rests, submits / CLIENTS, dice));
        }
    });
    history.settle_all(&rests, false);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    let doubled = load.begun() - submits / CLIENTS * CLIENTS;
    assert!(doubled * 5 > submits, "too few were doubled: {doubled} of {submits}");
    let figures = format!(
        "{kind}: {submits} submissions, sent {doubled} times more: 0 doubles, all told the first answer"
    );
    run.kept(&figures);
}

#[test]
fn g02_a_key_makes_one_buildset_on_postgresql() {
    one_key_makes_one_buildset("postgres", 160, 10_000);
}

#[test]
fn g02_a_key_makes_one_buildset_on_mariadb() {
    one_key_makes_one_buildset("mariadb", 80, 2_000);
}
