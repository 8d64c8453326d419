//! Two masters as processes on one database, with a bus between them that dies.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::buses::Server;
use crate::databases;
use crate::harness::{
    CANCELLED, EVERYTHING, Farm, Follower, RETRY, Repository, SUCCESS, eventually, member, mortal_member,
    patience,
};

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

/// What both masters are told to run: a poller, a scheduler of what it finds, and what people start.
fn shared_duties(repository: &Repository) -> String {
    let workers = "[workers.w1]\npassword = \"pw\"\n[workers.w2]\npassword = \"pw\"\n";
    let builder =
        "[builders.b]\nworkers = [\"w1\", \"w2\"]\n[[builders.b.steps]]\nname = \"work\"\nrun = \"true\"\n";
    let poller = format!(
        "[change-sources.repo]\nkind = \"git-poller\"\nrepository = \"{}\"\nbranches = \"*\"\ninterval = \"200ms\"\n",
        repository.url()
    );
    format!("{workers}{builder}{poller}[schedulers.all]\nkind = \"any-branch\"\nbuilders = [\"b\"]\n{FORCE}")
}

/// Who runs the schedulers and change sources, as `farm` tells it; the same for all of them, or nobody.
fn who_runs(farm: &Farm) -> Option<String> {
    let mut names = BTreeSet::new();
    for what in ["schedulers", "changesources"] {
        names
            .extend(farm.rest().list(what).iter().map(|it| it["master"]["name"].as_str().map(str::to_owned)));
    }
    names.pop_first().filter(|_| names.is_empty()).flatten()
}

fn await_runner(farm: &Farm, name: &str, within: Duration) -> Duration {
    let begun = Instant::now();
    patience(within, &format!("{name} to run schedulers and change sources"), || {
        (who_runs(farm).as_deref() == Some(name)).then_some(())
    });
    begun.elapsed()
}

/// The revisions that were built, by a master's word, in order; each once.
fn built(farm: &Farm) -> Vec<String> {
    let builds = farm.rest().list("builds?complete=true&results=0&order=buildid");
    let of = |it: &Value| farm.property(it, "revision").as_str().unwrap_or_default().to_owned();
    builds.iter().map(of).collect()
}

fn await_built(farm: &Farm, revisions: &[String]) {
    patience(Duration::from_secs(30), "every revision to be built", || {
        (built(farm).len() >= revisions.len()).then_some(())
    });
    assert_eq!(built(farm), revisions);
}

#[test]
fn schedulers_and_change_sources_move_when_their_master_dies_and_stay_when_it_returns() {
    let (bus, database) = (Server::start("nats"), databases::fresh("postgres"));
    let dir = tempfile::tempdir().expect("a directory");
    let repository = Repository::at(dir.path());
    let raise = |name| mortal_member(name, &database, &bus.url, &shared_duties(&repository), 3.0);
    let (mut one, two) = (raise("one"), raise("two"));
    let _agents = (one.agent("w1"), two.agent("w2"));
    await_runner(&two, "one", Duration::from_secs(5));
    let mut revisions = Vec::new();
    let mut push = |name: &str| {
        revisions.push(repository.commit(name));
        repository.push("main");
        revisions.clone()
    };
    // What the poller finds at its first look is not built: it has looked when it has polled twice.
    eventually("a look at the repository", || {
        one.actor("change-source/repo")?["observed"]["polls"].as_i64().filter(|polls| *polls > 1)
    });
    await_built(&two, &push("a"));
    one.kill_master();
    let all = push("b"); // while nobody polls
    let moved = await_runner(&two, "two", Duration::from_secs(8));
    assert!(moved > Duration::from_secs(1), "its lease lasted: {moved:?}");
    await_built(&two, &all);
    one.start();
    let master =
        |name: &str| two.rest().list("masters").into_iter().find(|it| it["name"] == name).expect("a master");
    eventually("it to be active again", || (master("one")["active"] == true).then_some(()));
    await_built(&two, &push("c"));
    assert_eq!(who_runs(&one).as_deref(), Some("two"), "nothing moves back by itself");
    let counted = metric(&two, "greenroom_takeovers_total");
    assert_eq!(counted, 1.0);
}

fn metric(farm: &Farm, name: &str) -> f64 {
    let text = farm.rest().try_get("/metrics").expect("metrics").text;
    let line = text.lines().find(|it| it.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().and_then(|it| it.parse().ok()).expect("a number")
}

#[test]
fn an_orderly_stop_hands_schedulers_and_change_sources_on_at_once() {
    let (bus, database) = (Server::start("nats"), databases::fresh("mariadb"));
    let dir = tempfile::tempdir().expect("a directory");
    let repository = Repository::at(dir.path());
    let raise = |name| member(name, &database, &bus.url, &shared_duties(&repository));
    let (mut one, two) = (raise("one"), raise("two"));
    let _agent = two.agent("w2");
    await_runner(&two, "one", Duration::from_secs(5));
    eventually("a look at the repository", || {
        one.actor("change-source/repo")?["observed"]["polls"].as_i64().filter(|polls| *polls > 1)
    });
    one.signal(Signal::SIGTERM);
    // A fifth of what a lease would take.
    await_runner(&two, "two", Duration::from_secs(3));
    assert!(one.ended_within(Duration::from_secs(20)).success());
    let revision = repository.commit("after");
    repository.push("main");
    await_built(&two, &[revision]);
    assert!(!two.master_log().contains("took over"), "{}", two.master_log());
}

#[test]
fn what_one_master_owns_is_asked_for_at_any() {
    let (bus, database) = (Server::start("nats"), databases::fresh("postgres"));
    let slow =
        BUILDER.replace("run = \"true\"", "run = \"sleep 60\"").replace("max-builds = 4", "max-builds = 1");
    let one = member("one", &database, &bus.url, &format!("{slow}{FORCE}"));
    // It knows of no builder and no scheduler.
    let two = member("two", &database, &bus.url, "");
    let _agent = one.agent("w1");
    let (runs, waits) = (two.force("b", &json!({})), two.force("b", &json!({})));
    let build = two.await_running(runs, "work");
    two.rest().call(&format!("buildrequests/{waits}"), "cancel", &json!({"reason": "enough"}));
    assert_eq!(two.await_request(waits)["results"], CANCELLED);
    two.rest().call(&format!("builds/{}", build["buildid"]), "stop", &json!({"reason": "enough"}));
    assert_eq!(two.await_request(runs)["results"], CANCELLED);
    let rebuilt = two.rest().call(&format!("builds/{}", build["buildid"]), "rebuild", &json!({}));
    assert!(rebuilt[0].is_number(), "{rebuilt}");
    let nobody = two.rest().try_call("forceschedulers/nobody", "force", &json!({}), None).expect("an answer");
    assert_eq!(nobody.status, 500, "{}", nobody.text);
}

#[test]
fn of_masters_with_the_same_force_scheduler_exactly_one_acts() {
    let (bus, database) = (Server::start("nats"), databases::fresh("mariadb"));
    let both = ["one", "two"].map(|name| member(name, &database, &bus.url, &format!("{BUILDER}{FORCE}")));
    let _agent = both[0].agent("w1");
    let requests: Vec<i64> = (0..20).map(|n| both[n % 2].force("b", &json!({}))).collect();
    let distinct: BTreeSet<i64> = requests.iter().copied().collect();
    assert_eq!(distinct.len(), 20, "{requests:?}");
    requests.iter().for_each(|it| assert_eq!(both[1].await_request(*it)["results"], SUCCESS));
    assert_eq!(both[1].rest().list("buildsets").len(), 20);
}

#[test]
fn the_builds_of_a_dead_master_are_repeated_by_whoever_can() {
    let (bus, database) = (Server::start("nats"), databases::fresh("mariadb"));
    let config = BUILDER.replace("run = \"true\"", "run = \"sleep 2; echo done\"").replace(
        "[builders.b]\nworkers = [\"w1\"]",
        "[workers.w2]\npassword = \"pw\"\n[builders.b]\nworkers = [\"w1\", \"w2\"]",
    );
    let raise = |name| mortal_member(name, &database, &bus.url, &format!("{config}{FORCE}"), 2.0);
    let (mut one, two) = (raise("one"), raise("two"));
    let _agent = one.agent("w1");
    let request = one.force("b", &json!({}));
    let lost = one.await_running(request, "work");
    one.kill_master();
    let ended = patience(Duration::from_secs(15), "the build of the dead master to end", || {
        Some(two.rest().list(&format!("builds/{}", lost["buildid"]))[0].clone())
            .filter(|it| it["complete"] == true)
    });
    assert_eq!(ended["results"], RETRY, "{ended}");
    for step in two.steps(&lost) {
        assert_eq!(step["complete"], true, "{step}");
        let logs = two.rest().list(&format!("steps/{}/logs", step["stepid"]));
        assert!(logs.iter().all(|it| it["complete"] == true), "{logs:?}");
    }
    let free = two.request(request);
    assert_eq!((&free["claimed"], &free["complete"]), (&json!(false), &json!(false)), "{free}");
    let _other = two.agent("w2");
    let build = two.expect_build(request, SUCCESS);
    assert_eq!(two.lines(&build, "work", 'o'), ["done"]);
}

/// After an outage all leases are over, and all masters live.
#[test]
fn a_database_that_was_away_for_longer_than_a_lease_costs_no_master_its_place() {
    let (bus, mut database) = (Server::start("nats"), databases::Server::start("postgres"));
    let raise = |name| mortal_member(name, &database.url, &bus.url, &format!("{BUILDER}{FORCE}"), 3.0);
    let (mut one, mut two) = (raise("one"), raise("two"));
    let _agent = one.agent("w1");
    build(&one, 1);
    // Both have looked for longer than a lease.
    std::thread::sleep(Duration::from_secs(4));
    database.stop();
    std::thread::sleep(Duration::from_secs(5));
    database.resume();
    patience(Duration::from_secs(20), "builds again", || {
        let asked = json!({"builderNames": ["b"], "reason": "again"});
        let answer = two.rest().try_call("forceschedulers/force", "force", &asked, Some("again")).ok()?;
        (answer.status == 200).then_some(())
    });
    // Longer than any of them would wait to take the other over.
    std::thread::sleep(Duration::from_secs(7));
    for farm in [&mut one, &mut two] {
        assert!(farm.master().ended().is_none(), "{}", farm.master_log());
        assert_eq!(metric(farm, "greenroom_takeovers_total"), 0.0);
    }
    assert!(one.rest().list("masters").iter().all(|it| it["active"] == true));
}
