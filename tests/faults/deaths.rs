//! Every kind of actor panics, gives up and hangs under load: it is back within a second, the others are undisturbed,
//! nothing is lost.

use std::ops::Range;
use std::thread::JoinHandle;

use crate::harness::{
    Agent, Farm, Plan, RETRY, Record, Repository, SUCCESS, eight_builders, eventually, force_once,
};

/// Builds under way (eight) or waiting when the panic strikes.
const LOAD: Range<u64> = 0..20;
/// Builds that are asked for while it strikes.
const MORE: Range<u64> = 20..28;

/// The ways to die. A hang is noticed after the `hang-after` of the scene.
const TROUBLES: &[(&str, &str)] = &[("panic", "panicked"), ("error", "failed"), ("hang", "hung")];

fn config(farm: &Farm, record: &Record, repository: &Repository) -> String {
    format!(
        r##"
[workers.w1]
password = "pw"
max-builds = 8
[workers.local]
kind = "local"
[change-sources.repo]
kind = "git-poller"
repository = "{}"
branches = ["main"]
interval = "500ms"
[schedulers.push]
kind = "single-branch"
builders = ["after-push"]
[schedulers.any]
kind = "any-branch"
builders = ["after-any"]
# nobody answers there: what they have to say waits
[notifiers.hook]
kind = "webhook"
url = "http://127.0.0.1:9/"
allow-private = true
modes = ["all"]
[notifiers.team]
kind = "irc"
server = "127.0.0.1:9"
tls = false
nick = "greenroom"
channels = ["#builds"]
[builders.after-push]
workers = ["local"]
[[builders.after-push.steps]]
run = "echo pushed"
[builders.after-any]
workers = ["local"]
[[builders.after-any.steps]]
run = "echo pushed"
"##,
        repository.url(),
    ) + &eight_builders(&format!(
        "[[steps]]\nname = 'talk'\nrun = 'until [ -e {} ]; do echo still here; sleep 0.05; done'\n\
         [[steps]]\nname = 'work'\nrun = '''\n{}'''\n",
        farm.path("go").display(),
        record.script("0.1")
    ))
}

/// A farm at work.
struct Scene {
    farm: Farm,
    record: Record,
    repository: Repository,
    requests: Vec<i64>,
    more: Option<JoinHandle<Vec<i64>>>,
    _agent: Agent,
}

impl Scene {
    /// A farm at work: eight builds run and write their logs, others wait, and more are being asked for.
    fn set(more: &str) -> Self {
        let mut farm = Plan::new("").lay_out();
        let (record, repository) = (Record::new(&farm), Repository::new(&farm));
        farm.add_config(&(config(&farm, &record, &repository) + more));
        farm.start();
        let agent = farm.agent("w1");
        farm.await_worker("local");
        // The poller has seen the repository once, so that what is pushed from now on is a change.
        eventually("the first poll", || {
            let poller = farm.actor("change-source/repo")?;
            (poller["handled"].as_i64()? > 0).then_some(())
        });
        let rest = farm.rest().clone();
        let requests = LOAD.map(|job| force_once(&rest, job)).collect();
        eventually("eight running builds", || {
            (farm.rest().list("builds?complete=false").len() == 8).then_some(())
        });
        let more = Some(std::thread::spawn(move || MORE.map(|job| force_once(&rest, job)).collect()));
        Self { farm, record, repository, requests, more, _agent: agent }
    }

    /// All that was asked for has been acknowledged; the builds may go on.
    fn go(&mut self) {
        let more = self.more.take().expect("they are asked for").join();
        self.requests.extend(more.expect("all are acknowledged"));
        std::fs::write(self.farm.path("go"), "").expect("a file");
    }

    fn name_of(&self, kind: &str) -> String {
        let actors = self.farm.actors();
        let kinds = || actors.iter().map(|it| format!("{} ({})", it["name"], it["kind"])).collect::<Vec<_>>();
        let found = actors.iter().find(|it| it["kind"] == kind && it["state"] == "running");
        let found = found.unwrap_or_else(|| panic!("no {kind} in {:?}", kinds()));
        found["name"].as_str().expect("a name").to_owned()
    }

    /// All builds end well, each run exactly once, and a push still becomes a build.
    fn ends_well(mut self, retries: bool) {
        self.go();
        let farm = &self.farm;
        for request in &self.requests {
            farm.expect_build(*request, SUCCESS);
            let builds = farm.builds_of(*request);
            let (_, earlier) = builds.split_last().expect("a build");
            assert!(earlier.iter().all(|it| retries && it["results"] == RETRY), "{builds:?}");
        }
        let entries = self.record.entries();
        assert_eq!(self.record.count("overlap"), 0, "{entries:?}");
        for job in LOAD.start..MORE.end {
            let count = |what: &str| entries.iter().filter(|it| it.what == what && it.job == job).count();
            if !retries {
                assert_eq!((count("start"), count("end")), (1, 1), "job {job} ran exactly once: {entries:?}");
            }
        }
        let revision = self.repository.commit("after");
        self.repository.push("main");
        for builder in ["after-push", "after-any"] {
            eventually("the push to be built", || {
                let builds = farm.rest().list(&format!("builders/{builder}/builds?order=-number&limit=1"));
                let build = builds.into_iter().next().filter(|it| it["complete"] == true)?;
                (farm.property(&build, "revision") == revision.as_str())
                    .then(|| assert_eq!(build["results"], SUCCESS))
            });
        }
        assert_eq!(farm.rest().get("changes")["meta"]["total"], 1, "one push, one change");
    }
}

fn patient_with_hangs(kind: &str) -> String {
    // a local worker is more patient with itself unless it is told otherwise
    let backoff = "backoff = { min = \"50ms\", max = \"1s\" }";
    format!("[supervision.kinds.{kind}]\nhang-after = \"2s\"\n{backoff}\n")
}

/// An actor of this kind dies in every way, one after the other.
fn it_comes_back(kind: &str) {
    let scene = Scene::set(&patient_with_hangs(kind));
    let name = scene.name_of(kind);
    let before = scene.farm.births();
    for (trouble, ending) in TROUBLES {
        let exit = scene.farm.trouble(trouble, &name);
        let away = exit["back_ms"].as_f64().expect("a time");
        assert_eq!(exit["kind"], *ending, "{exit}");
        assert!(away < 1000.0, "{name} was away for {away} ms: {exit}");
        println!("{kind}: back {away:.1} ms after its {trouble}");
    }
    // The session of a worker that went with its actor is there again a moment later; nobody else was born anew.
    eventually("all others as they were", || {
        let after = scene.farm.births();
        let mut others = before.iter().filter(|(other, _)| **other != name);
        let disturbed = others.find(|(other, births)| after.get(*other) != Some(births));
        disturbed.is_none().then_some(()).or_else(|| {
            println!("{name} disturbed {disturbed:?}");
            None
        })
    });
    scene.ends_well(false);
}

macro_rules! dies {
    ($($test:ident: $kind:literal)*) => {$(
        #[test]
        fn $test() {
            it_comes_back($kind);
        }
    )*

    const TOLD: &[&str] = &["supervisor", "worker-session", $($kind),*];
    };
}

dies! {
    the_broker: "broker"
    the_db_writer: "db-writer"
    the_db_reader: "db-reader"
    the_log_writer: "log-writer"
    the_log_reader: "log-reader"
    the_data_actor: "data"
    a_hub: "hub"
    the_worker_directory: "worker-directory"
    a_local_worker: "local-worker"
    a_running_build: "build"
    the_distributor: "distributor"
    a_builder: "builder"
    a_single_branch_scheduler: "single-branch-scheduler"
    an_any_branch_scheduler: "any-branch-scheduler"
    a_force_scheduler: "force-scheduler"
    a_poller: "git-poller"
    the_control_desk: "control-desk"
    the_configurator: "configurator"
    who_takes_over: "takeover"
    the_janitor: "janitor"
    a_listener: "listener"
    a_notifier: "notifier"
    an_irc_connection: "irc-connection"
}

#[test]
fn a_hub_of_the_web() {
    let scene = Scene::set("");
    let actors = scene.farm.actors();
    let hub = actors.iter().find(|it| it["kind"] == "hub" && it["name"] != "hub/actors");
    let name = hub.expect("a hub of the web")["name"].as_str().expect("a name");
    let exit = scene.farm.trouble("panic", name);
    assert!(exit["back_ms"].as_f64().is_some_and(|it| it < 1000.0), "{exit}");
    scene.ends_well(false);
}

/// A session is not born again: its builds are repeated, which happens three times at most, so each death has its own scene.
fn a_session_dies(trouble: &str, ending: &str) {
    let scene = Scene::set(&patient_with_hangs("worker-session"));
    scene.farm.rehearse(&format!("{trouble} session/w1"));
    let marker =
        format!("actor.name=session/w1 actor.kind=\"worker-session\" actor.birth=1 ending=\"{ending}\"");
    eventually("the session to be gone", || scene.farm.master_log().contains(&marker).then_some(()));
    scene.farm.await_worker("w1");
    scene.ends_well(true);
}

#[test]
fn a_session_panics_and_its_builds_are_built_again() {
    a_session_dies("panic", "panicked");
}

#[test]
fn a_session_gives_up_and_its_builds_are_built_again() {
    a_session_dies("error", "failed");
}

#[test]
fn a_session_hangs_and_its_builds_are_built_again() {
    a_session_dies("hang", "hung");
}

#[test]
fn a_group_restarts_as_a_whole_and_nothing_is_lost() {
    for (group, strategy, dies, along) in [
        ("process", "one-for-all", "control-desk", ["distributor", "scheduler/push", "builder/linux-0"]),
        ("data-layer", "rest-for-one", "db-writer", ["db-reader", "log-writer", "data"]),
    ] {
        let scene = Scene::set(&format!("[supervision.names.{group}]\nstrategy = \"{strategy}\"\n"));
        let before = scene.farm.births();
        scene.farm.trouble("panic", dies);
        for name in along {
            eventually(&format!("another birth of {name}"), || {
                (scene.farm.births()[name] > before[name]).then_some(())
            });
        }
        assert_eq!(scene.farm.births()["worker-directory"], 1, "others are not concerned");
        scene.ends_well(false);
    }
}

#[test]
fn an_actor_that_blocks_its_thread_is_told_by_name_and_goes_on() {
    let scene = Scene::set("[supervision.kinds.distributor]\nhang-after = \"1s\"\n");
    scene.farm.rehearse("block 2500 distributor");
    let marker = "an actor blocks its thread and cannot be ended from outside";
    eventually("the report", || {
        let log = scene.farm.master_log();
        log.lines().any(|it| it.contains(marker) && it.contains("distributor")).then_some(())
    });
    scene.ends_well(false);
}

#[test]
fn every_kind_of_actor_in_the_tree_has_a_story_here() {
    let scene = Scene::set("");
    let actors = scene.farm.actors();
    let untold: Vec<_> =
        actors.iter().filter(|it| !TOLD.contains(&it["kind"].as_str().unwrap_or_default())).collect();
    assert!(untold.is_empty(), "kinds without a story: {untold:?}");
}

#[test]
fn panics_without_end_end_the_process_and_its_last_words_say_why() {
    let mut farm = Farm::raise("[supervision]\nintensity = 1\nperiod = \"10m\"\n");
    let status = eventually("the master to give up", || {
        farm.panic_actor("control-desk");
        farm.master().ended()
    });
    assert_eq!(status.code(), Some(70), "it ended with {status}");
    let log = farm.master_log();
    for words in [
        "a supervisor gave up, and the master ends with code 70",
        "actor control-desk (kind control-desk) panicked: injected panic",
        "supervisor process failed: over 1 restarts within 10m; control-desk ended 2 times",
        "supervisor root failed: over 1 restarts within 10m; process ended 2 times",
    ] {
        assert!(log.contains(words), "{words} in:\n{log}");
    }
    farm.kill_master();
    farm.start();
}

#[test]
fn an_actor_without_a_grant_of_its_own_escalates_at_once() {
    let mut farm = Farm::raise("[supervision]\nintensity = 0\n[supervision.kinds.broker]\nintensity = 3\n");
    for _ in 0..3 {
        farm.trouble("panic", "broker");
    }
    assert!(farm.master().ended().is_none(), "counted by itself");
    farm.panic_actor("broker");
    let status = eventually("the master to give up", || farm.master().ended());
    assert_eq!(status.code(), Some(70));
    assert!(farm.master_log().contains("over 3 restarts of broker within 1m; broker ended 4 times"));
}

fn spread(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
    let shown = |part| at(part).map_or_else(|| "-".to_owned(), |it| format!("{it:.2}"));
    format!("p50 {:>7} p99 {:>7} of {:>2}", shown(50), shown(99), times.len())
}

/// Prints how long each kind is away. Run it alone: `cargo test --release -p greenroom --test system -- --ignored restart_times --nocapture`.
#[test]
#[ignore = "a measurement"]
fn restart_times() {
    const ROUNDS: usize = 50;
    for backoff in ["0ms", "50ms"] {
        let patience = format!(
            "[supervision]\nintensity = 100000\nbackoff = {{ min = \"{backoff}\", max = \"{backoff}\" }}\n"
        );
        let vital = "[supervision.names.data-layer]\nintensity = 100000\n";
        let kinds: Vec<_> = TOLD.iter().filter(|it| !["supervisor", "worker-session"].contains(it)).collect();
        let each = kinds.iter().map(|kind| {
            format!("[supervision.kinds.{kind}]\nintensity = 100000\nbackoff = {{ min = \"{backoff}\", max = \"{backoff}\" }}\n")
        });
        let scene = Scene::set(&(patience + vital + &each.collect::<String>()));
        println!("backoff {backoff}, {ROUNDS} panics each under load: death → …, ms");
        for kind in kinds {
            let name = scene.name_of(kind);
            let (mut back, mut served) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                back.extend(scene.farm.trouble("panic", &name)["back_ms"].as_f64());
                // of the time before: by now it has handled something, if there was anything to do
                let actor = scene.farm.actor(&name).expect("it lives");
                let exits = actor["exits"].as_array().expect("exits");
                served.extend(exits.iter().nth_back(1).and_then(|it| it["served_ms"].as_f64()));
            }
            println!("{kind:<26} running {}  first message {}", spread(back), spread(served));
        }
        scene.ends_well(false);
    }
}

/// A check of the check: two attempts of one job at the same time are seen, two after each other are none.
#[test]
fn the_record_sees_overlaps() {
    let farm = Plan::new("").lay_out();
    let record = Record::new(&farm);
    let attempt = |build: &str, seconds: &str| {
        let script = record.script(seconds);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).env("JOB", "1").env("BUILD", build).spawn().expect("sh runs")
    };
    attempt("1", "0").wait().expect("it ends");
    let mut first = attempt("2", "1");
    eventually("the second attempt", || (record.count("start") == 2).then_some(()));
    assert_eq!(record.count("overlap"), 0, "one after the other");
    attempt("3", "0").wait().expect("it ends");
    first.wait().expect("it ends");
    assert_eq!(record.count("overlap"), 1, "at the same time");
}
