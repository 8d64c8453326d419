//! Two masters as processes on one database, with a bus between them that dies.

use std::time::Duration;

use serde_json::{Value, json};

use crate::buses::Server;
use crate::databases;
use crate::harness::{EVERYTHING, Farm, Follower, SUCCESS, member, patience};

const BUILDER: &str = r#"
[workers.w1]
password = "pw"
max-builds = 4
[builders.b]
workers = ["w1"]
[[builders.b.steps]]
name = "work"
run = "true"
"#;

const FORCE: &str = "[schedulers.force]\nkind = \"force\"\nbuilders = \"*\"\n";

/// Waits until a follower has heard of so many ends, each once.
fn hears(follower: &mut Follower, count: usize) {
    let what = "the ends of builds at the other master";
    follower.until(Duration::from_secs(60), what, |it| it.finished_builds().len() >= count);
    assert_eq!(follower.finished_builds().len(), count);
    follower.judge(true);
}

fn link(farm: &Farm) -> Value {
    farm.actor("bus-link").expect("a link to the bus")["observed"].clone()
}

fn build(farm: &Farm, count: usize) {
    let requests: Vec<i64> = (0..count).map(|_| farm.force("b", &json!({}))).collect();
    requests.iter().for_each(|it| assert_eq!(farm.await_request(*it)["results"], SUCCESS));
}

fn what_one_master_does_the_other_tells_with_and_without_the_bus(kind: &'static str) {
    let (bus, database) = (Server::start("nats"), databases::fresh(kind));
    let one = member("one", &database, &bus.url, &format!("{BUILDER}{FORCE}"));
    let two = member("two", &database, &bus.url, BUILDER);
    for farm in [&one, &two] {
        patience(Duration::from_secs(20), "the link", || link(farm)["connected"].as_bool().filter(|it| *it));
    }
    let _agent = one.agent("w1");
    let mut follower = Follower::of(two.rest(), &EVERYTHING);
    build(&one, 20);
    hears(&mut follower, 20);
    // What an actor says of itself is up to a second old.
    patience(Duration::from_secs(20), "heads that came by the bus", || {
        link(&two)["heard"].as_i64().filter(|heard| *heard > 0)
    });
    // A client that was told something by one master reads it at the other.
    let told = one.rest().try_get("/api/v2/builds?order=buildid").expect("builds");
    let clock = told.header("greenroom-clock").expect("a clock").to_owned();
    let read = two.rest().try_get(&format!("/api/v2/builds?order=buildid&after={clock}")).expect("builds");
    assert_eq!(read.json(), told.json());
    bus.stop();
    build(&one, 20);
    hears(&mut follower, 40);
    patience(Duration::from_secs(20), "a link that knows", || {
        (link(&two)["connected"] == false).then_some(())
    });
    bus.again();
    build(&one, 5);
    hears(&mut follower, 45);
    assert!(!two.master_log().contains("panicked"), "{}", two.master_log());
}

#[test]
fn two_masters_on_postgresql_tell_the_same() {
    what_one_master_does_the_other_tells_with_and_without_the_bus("postgres");
}

#[test]
fn two_masters_on_mariadb_tell_the_same() {
    what_one_master_does_the_other_tells_with_and_without_the_bus("mariadb");
}
