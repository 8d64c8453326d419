//! G24: a bus that loses, repeats, reorders and stalls changes nothing but latency: every master comes to the same final state, and
//! tells each event once and in order.

use std::time::Duration;

use serde_json::{Value, json};

use crate::buses;
use crate::checker;
use crate::databases;
use crate::harness::{EVERYTHING, Farm, Follower, SUCCESS, member, patience};
use crate::history::History;
use crate::load::{Load, dice_of};
use crate::proxy::{Lies, Protocol, Proxy};
use crate::run::Run;
use crate::storm::{config, force_on};

const LIES: Lies =
    Lies { dropped: 0.2, doubled: 0.2, window: 50, stalled: 0.01, stall: Duration::from_millis(700) };
const NAMES: [&str; 3] = ["one", "two", "three"];

fn protocol(kind: &str) -> Protocol {
    match kind {
        "nats" => Protocol::Nats,
        "amqp" => Protocol::Amqp,
        _ => Protocol::Postgres,
    }
}

/// What a clean run ends with, as a master tells it: builds with their results, requests with theirs.
fn state(farm: &Farm) -> Value {
    let list = |what: &str, order: &str| Value::from(farm.rest().list(&format!("{what}?order={order}")));
    json!([list("builds", "buildid"), list("buildrequests", "buildrequestid"), list("buildsets", "bsid")])
}

fn the_bus_lies(kind: &'static str, database: &str, short: usize, full: usize) {
    let mut run = Run::of("G24");
    let history = History::of(&run, kind);
    let lasts = Duration::from_secs(run.figure(short, full) as u64);
    let (bus, url) = (buses::Server::start(kind), databases::fresh(database));
    let proxies =
        NAMES.map(|_| Proxy::to_bus(bus.address(), protocol(kind), rand::Rng::random(&mut run.dice)));
    let raise = |n: usize| {
        let bus = bus.url_at(&proxies[n].address.to_string());
        member(NAMES[n], &url, &bus, &config(&history, n, NAMES.len(), "0.05"))
    };
    let masters = [0, 1, 2].map(raise);
    let _agents = [0, 1, 2].map(|n| masters[n].agent(&format!("w{}", n + 1)));
    let mut followers = masters.each_ref().map(|it| Follower::of(it.rest(), &EVERYTHING));
    proxies.iter().for_each(|it| it.lie(Some(LIES)));
    let (rests, load) = (masters.each_ref().map(|it| it.rest().clone()), Load::new(&history));
    std::thread::scope(|scope| {
        for _ in 0..NAMES.len() {
            let (load, rests, mut dice) = (&load, &rests, dice_of(&mut run.dice));
            scope.spawn(move || force_on(load, rests, &mut dice));
        }
        for follower in &mut followers {
            let load = &load;
            scope.spawn(move || {
                while !load.is_stopped() {
                    assert!(follower.poll("500ms"), "a master did not answer");
                }
            });
        }
        std::thread::sleep(lasts);
        load.stop();
    });
    patience(Duration::from_secs(30), "the end of every build request", || {
        let open = masters[0].rest().list("buildsets?complete=false&limit=1");
        open.is_empty().then_some(())
    });
    history.settle(masters[0].rest(), true);
    let findings = checker::judge(history.dir());
    findings.expect_none();
    let builds = masters[0].rest().list("builds");
    assert!(builds.iter().all(|it| it["results"] == SUCCESS), "as in a clean run");
    assert_eq!(findings.attempts, builds.len(), "each build ran once");
    for (farm, follower) in masters.iter().zip(&mut followers) {
        follower.until(Duration::from_secs(20), "all ends", |it| it.finished_builds().len() == builds.len());
        follower.judge(true);
        assert_eq!(state(farm), state(&masters[0]), "the same final state");
    }
    let mut told = [0; 4];
    for proxy in &proxies {
        proxy.messages().iter().zip(&mut told).for_each(|(one, all)| *all += one);
    }
    assert!(told.iter().all(|count| *count > 5), "the bus hardly lied: {told:?}");
    let [delivered, dropped, doubled, reordered] = told;
    let figures = format!(
        "{kind} beside {database}: {} s, {} builds at {} masters; of the bus's messages {delivered} delivered, {dropped} dropped, \
         {doubled} doubled, {reordered} late; the same final states, {} events at each follower, once and in order",
        lasts.as_secs(),
        builds.len(),
        NAMES.len(),
        followers[0].events.len()
    );
    run.kept(&figures);
}

#[test]
fn g24_nats_lies() {
    the_bus_lies("nats", "postgres", 6, 120);
}

#[test]
fn g24_rabbitmq_lies() {
    the_bus_lies("amqp", "mariadb", 6, 120);
}

#[test]
fn g24_notify_lies() {
    the_bus_lies("postgres", "postgres", 6, 120);
}
