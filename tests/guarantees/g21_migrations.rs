//! G21, the half about kills: `greenroom migrate` is killed after any statement of any step, and run again. The schema is then that of
//! an upgrade that nobody disturbed, and so is every row of a farm that was at work: a build that runs, one that waits, a log.

#[path = "g21/rows.rs"]
mod rows;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rand::Rng as _;
use rand::seq::SliceRandom as _;
use serde_json::json;

use crate::databases::fresh;
use crate::harness::{Farm, Plan, Process, RETRY, SUCCESS, binary, eventually, patience};
use crate::run::Run;
use crate::sqlite;
use rows::Database;

/// How long a migration may take, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place where the process is killed: the step, and how many of its statements were done.
type Place = (i64, usize);

/// Every place of an engine's migrations: before the first statement of a step, between any two, and after the last.
fn places(engine: &str) -> Vec<Place> {
    let of_step = |(step, count): (i64, usize)| (0..=count).map(move |done| (step, done));
    greenroom_db::migration_statements(engine).into_iter().flat_map(of_step).collect()
}

fn config(url: &str, gate: &str) -> String {
    format!(
        "[database]\nurl = \"{url}\"\n[workers.w1]\npassword = \"pw\"\nmax-builds = 1\n[schedulers.force]\nkind = \"force\"\n\
        builders = \"*\"\n[builders.b]\nworkers = [\"w1\"]\n[[builders.b.steps]]\nname = \"work\"\n\
        run = \"echo begun; until [ -e {gate} ]; do sleep 0.05; done; echo done\"\n"
    )
}

/// A farm that was at work when its power failed: one build ran and had a log, one waited.
struct Source {
    farm: Farm,
    url: String,
    gate: PathBuf,
    running: i64,
    waiting: i64,
}

impl Source {
    fn of(engine: &str) -> Self {
        let url = new_url(engine);
        let mut farm = Plan::new("").lay_out();
        let gate = farm.path("gate");
        farm.add_config(&config(&url, &gate.display().to_string()));
        farm.start();
        let mut agent = farm.agent("w1");
        let running = farm.force("b", &json!({}));
        let build = farm.await_running(running, "work");
        let waiting = farm.force("b", &json!({}));
        eventually("the first line of the log", || farm.log(&build, "work").contains("begun").then_some(()));
        agent.kill();
        farm.kill_master();
        Self { farm, url, gate, running, waiting }
    }

    fn rows(&self) -> Database {
        Database::open(&self.url, self.farm.data_dir())
    }
}

fn new_url(engine: &str) -> String {
    if engine == "sqlite" { "sqlite://greenroom.db".to_owned() } else { fresh(engine) }
}

/// A farm whose database has an old schema and what [`Source`] left, as far as that schema has a place for it.
struct Old {
    farm: Farm,
    url: String,
}

impl Old {
    fn of(source: &Source, engine: &str, version: i64) -> Self {
        let url = new_url(engine);
        let farm = Plan::new(&config(&url, &source.gate.display().to_string())).lay_out();
        let old = Self { farm, url };
        if version > 0 {
            old.migrate(&["--to", &version.to_string()]);
            let mut rows = old.rows();
            rows.fill_from(source.rows());
            assert!(rows.count("builds") == 1 && rows.count("buildrequests") == 2, "the fixture is filled");
        }
        old
    }

    fn rows(&self) -> Database {
        Database::open(&self.url, self.farm.data_dir())
    }

    /// Runs `greenroom migrate` to its end; gives what it said.
    fn migrate(&self, args: &[&str]) -> String {
        let mut command = binary();
        command.args(["migrate", "--config"]).arg(self.farm.path("farm.toml")).args(args);
        let done = command.stdin(Stdio::null()).output().expect("greenroom migrate runs");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        said
    }

    /// Runs `greenroom migrate` up to a place and kills it there.
    fn kill_at(&self, (step, statements): Place) {
        let mut command = binary();
        command.args(["migrate", "--config"]).arg(self.farm.path("farm.toml"));
        command.env("GREENROOM_REHEARSE_KILL", format!("{step}:{statements}"));
        let mut process = Process::start(&mut command, &self.farm.path("killed.log"));
        let (mut rows, pid) = (self.rows(), process.pid());
        patience(PATIENCE, "the process to be at its place", || {
            if let Some(status) = process.ended() {
                panic!("it ended ({status}): {}", process.output());
            }
            rows.is_stalled(pid).then_some(())
        });
        process.kill();
        rows.end_stalled(pid);
    }
}

/// Kills at each of the places, each in a database of its own, and compares with an upgrade that nobody disturbed.
fn kills_at(engine: &str, source: &Source, places: &[Place]) {
    let newest = greenroom_db::migration_statements(engine).last().expect("a step").0;
    let mut undisturbed: Vec<(i64, rows::Everything)> = Vec::new();
    for place in places {
        let before = place.0 - 1;
        if !undisturbed.iter().any(|(version, _)| *version == before) {
            let old = Old::of(source, engine, before);
            old.migrate(&[]);
            undisturbed.push((before, old.rows().everything()));
        }
        let wanted = &undisturbed.iter().find(|(version, _)| *version == before).expect("made above").1;
        let old = Old::of(source, engine, before);
        old.kill_at(*place);
        let said = old.migrate(&[]);
        assert!(said.contains(&format!("from version {before} to {newest}")), "{engine} {place:?}: {said}");
        let found = old.rows().everything();
        assert!(found == *wanted, "{engine}, killed at {place:?}:\n{}", found.difference(wanted));
        assert!(old.migrate(&[]).contains("is up to date"), "{engine} {place:?}");
    }
}

/// After a kill and an upgrade from the oldest schema the farm goes on: the build that ran is run again, the other one, too, and the log
/// can still be read.
fn the_farm_goes_on(engine: &str, source: &Source, place: Place) {
    let Old { mut farm, url } = Old::of(source, engine, 1);
    if engine == "sqlite" {
        sqlite::copy("greenroom.logs.db", source.farm.data_dir(), farm.data_dir());
    }
    let old = Old { farm, url };
    old.kill_at(place);
    old.migrate(&[]);
    farm = old.farm;
    std::fs::write(&source.gate, "").expect("the gate opens");
    farm.start();
    let _agent = farm.agent("w1");
    for request in [source.running, source.waiting] {
        assert_eq!(farm.await_request(request)["results"], SUCCESS, "{engine} {place:?}");
    }
    let builds = farm.builds_of(source.running);
    assert_eq!(builds[0]["results"], RETRY, "{builds:?}");
    let log = farm.log(&builds[0], "work");
    assert!(log.contains("begun"), "{engine} {place:?}: {log:?}\n{}", farm.story_of(&builds[0]));
    assert_eq!(farm.rest().list("buildrequests").len(), 2);
    std::fs::remove_file(&source.gate).expect("the gate closes");
}

fn migrations_are_killed(engine: &str, short: usize) {
    let mut run = Run::of("G21");
    let mut chosen = places(engine);
    let all = chosen.len();
    chosen.shuffle(&mut run.dice);
    chosen.truncate(run.figure(short, all));
    let source = Source::of(engine);
    kills_at(engine, &source, &chosen);
    let later: Vec<Place> = places(engine).into_iter().filter(|(step, _)| *step > 1).collect();
    let last = later[run.dice.random_range(0..later.len())];
    the_farm_goes_on(engine, &source, last);
    run.kept(&format!("{engine}: killed at {} of {all} places", chosen.len()));
}

#[test]
fn migrations_of_sqlite_are_killed_at_any_statement() {
    migrations_are_killed("sqlite", 10);
}

#[test]
fn migrations_of_postgresql_are_killed_at_any_statement() {
    migrations_are_killed("postgres", 5);
}

#[test]
fn migrations_of_mariadb_are_killed_at_any_statement() {
    migrations_are_killed("mariadb", 4);
}

/// What the command says beforehand, in steps, and of a schema that it does not know.
#[test]
fn a_migration_is_told_taken_in_steps_and_a_newer_schema_is_refused() {
    for engine in ["sqlite", "postgres", "mariadb"] {
        let newest = greenroom_db::migration_statements(engine).last().expect("a step").0;
        let url = new_url(engine);
        let old = Old { farm: Plan::new(&config(&url, "gate")).lay_out(), url };
        let told = old.migrate(&["--dry-run"]);
        assert!(told.contains(&format!("from version 0 to {newest}")), "{told}");
        assert_eq!(told.matches("would apply").count() as i64, newest);
        assert_eq!(old.migrate(&["--dry-run"]), told, "saying changes nothing");
        assert!(old.migrate(&["--to", "2"]).contains("from version 0 to 2"));
        assert!(old.migrate(&["--to", "2"]).contains("is up to date (version 2)"));
        assert!(old.migrate(&[]).contains(&format!("from version 2 to {newest}")));
        old.rows().claim_to_be_newer();
        for command in ["migrate", "master"] {
            let mut refused = binary();
            refused.args([command, "--config"]).arg(old.farm.path("farm.toml"));
            let refused = refused.stdin(Stdio::null()).output().expect("it runs");
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(!refused.status.success() && said.contains("schema 99"), "{engine} {command}: {said}");
        }
    }
}
