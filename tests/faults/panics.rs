//! Every kind of actor panics under load: it is back within a second, the others are undisturbed, nothing is lost.

use std::ops::Range;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{
    Agent, Farm, Plan, RETRY, Record, Repository, SUCCESS, eight_builders, eventually, force_once,
};

/// Builds under way (eight) or waiting when the panic strikes.
const LOAD: Range<u64> = 0..20;
/// Builds that are asked for while it strikes.
const MORE: Range<u64> = 20..28;

fn config(farm: &Farm, record: &Record, repository: &Repository) -> String {
    format!(
        r#"
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
[builders.after-push]
workers = ["local"]
[[builders.after-push.steps]]
run = "echo pushed"
"#,
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
    fn set() -> Self {
        let mut farm = Plan::new("").lay_out();
        let (record, repository) = (Record::new(&farm), Repository::new(&farm));
        farm.add_config(&config(&farm, &record, &repository));
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
        eventually("the push to be built", || {
            let builds = farm.rest().list("builds?order=-buildid&limit=1");
            let build = builds.into_iter().next().filter(|it| it["complete"] == true)?;
            (farm.property(&build, "revision") == revision.as_str())
                .then(|| assert_eq!(build["results"], SUCCESS))
        });
        assert_eq!(farm.rest().get("changes")["meta"]["total"], 1, "one push, one change");
    }
}

fn it_comes_back(name: impl FnOnce(&Scene) -> String) {
    let scene = Scene::set();
    let name = name(&scene);
    let away = scene.farm.panic_and_await_rebirth(&name);
    assert!(away < Duration::from_secs(1), "{name} was away for {away:?}");
    scene.ends_well(false);
}

macro_rules! panicked {
    ($($test:ident: $name:literal)*) => {$(
        #[test]
        fn $test() {
            it_comes_back(|_| $name.to_owned());
        }
    )*};
}

panicked! {
    the_broker_panics: "broker"
    the_db_writer_panics: "db-writer"
    the_db_reader_panics: "db-reader"
    the_log_writer_panics: "log-writer"
    the_log_reader_panics: "log-reader"
    the_data_actor_panics: "data"
    the_hub_of_actors_panics: "hub/actors"
    the_worker_directory_panics: "worker-directory"
    a_local_worker_panics: "local-worker/local"
    the_distributor_panics: "distributor"
    a_builder_panics: "builder/linux-0"
    a_scheduler_panics: "scheduler/push"
    a_force_scheduler_panics: "scheduler/force"
    a_poller_panics: "change-source/repo"
    the_control_desk_panics: "control-desk"
}

#[test]
fn a_hub_of_the_web_panics() {
    it_comes_back(|scene| {
        let actors = scene.farm.actors();
        let hub = actors.iter().find(|it| it["kind"] == "hub" && it["name"] != "hub/actors");
        hub.expect("a hub of the web")["name"].as_str().expect("a name").to_owned()
    });
}

#[test]
fn a_running_build_panics() {
    it_comes_back(|scene| scene.name_of("build"));
}

#[test]
fn a_session_panics_and_its_builds_are_built_again() {
    let scene = Scene::set();
    scene.farm.panic_actor("session/w1");
    let marker = "an actor ended badly actor.name=session/w1";
    eventually("the session to be gone", || scene.farm.master_log().contains(marker).then_some(()));
    scene.farm.await_worker("w1");
    scene.ends_well(true);
}

#[test]
fn every_kind_of_actor_in_the_tree_has_a_story_here() {
    let scene = Scene::set();
    let told = [
        "supervisor",
        "broker",
        "db-writer",
        "db-reader",
        "log-writer",
        "log-reader",
        "data",
        "hub",
        "worker-directory",
        "worker-session",
        "local-worker",
        "build",
        "builder",
        "distributor",
        "single-branch-scheduler",
        "force-scheduler",
        "git-poller",
        "control-desk",
    ];
    let actors = scene.farm.actors();
    let untold: Vec<_> =
        actors.iter().filter(|it| !told.contains(&it["kind"].as_str().unwrap_or_default())).collect();
    assert!(untold.is_empty(), "kinds without a story: {untold:?}");
}

#[test]
fn panics_without_end_end_the_process() {
    let mut farm = Farm::raise("[supervision]\nintensity = 2\n");
    let status = eventually("the master to give up", || {
        farm.panic_actor("control-desk");
        farm.master().ended()
    });
    assert!(!status.success(), "it ended with {status}");
    assert!(farm.master_log().contains("a supervisor gave up"), "it says why");
    farm.kill_master();
    farm.start();
}
