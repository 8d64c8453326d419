//! Another configuration while a farm works.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::harness::{
    Farm, RETRY, Record, SUCCESS, binary, eight_builders, eventually, force_once, patience,
};

const SMALL: &str = "[workers.w1]\npassword = 'pw'\n[schedulers.force]\nkind = 'force'\nbuilders = '*'\n\
                     [builders.linux]\n[[builders.linux.steps]]\nname = 'say'\nrun = 'echo one'\n";

impl Farm {
    fn config(&self) -> String {
        std::fs::read_to_string(self.path("farm.toml")).expect("the configuration")
    }

    /// Replaces the file as careful people do: whole.
    fn write_config(&self, text: &str) {
        let new = self.path("farm.toml.new");
        std::fs::write(&new, text).expect("the configuration");
        std::fs::rename(new, self.path("farm.toml")).expect("the configuration");
    }

    #[track_caller]
    fn edit(&self, from: &str, to: &str) {
        let text = self.config();
        assert!(text.contains(from), "{from} is not in {text}");
        self.write_config(&text.replace(from, to));
    }

    /// Runs the program as a user in a shell beside the master.
    fn greenroom(&self, args: &[&str]) -> Output {
        let mut command = binary();
        command.args(args).args(["--master", &format!("http://127.0.0.1:{}/", self.port())]);
        command.env("STORY_OF_GREENROOM", self.mark()).output().expect("the program runs")
    }

    /// `greenroom reload`, which must succeed; gives what it says.
    #[track_caller]
    fn reload(&self) -> String {
        let done = self.greenroom(&["reload"]);
        assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
        text(&done.stdout)
    }

    /// The number of the configuration in force.
    #[track_caller]
    fn number(&self) -> i64 {
        let health = self.rest().try_get("/health").expect("the health").json();
        health["configuration"]["number"].as_i64().expect("a number")
    }

    fn versions(&self) -> Vec<Value> {
        self.rest().list("configurations?order=number")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_reload_shows_what_differs_and_takes_effect_without_a_restart() {
    let farm = Farm::raise(SMALL);
    let _agent = farm.agent("w1");
    assert_eq!(farm.number(), 1);
    let first = farm.expect_build(farm.force("linux", &json!({})), SUCCESS);
    assert_eq!(farm.property(&first, "configuration"), 1);

    assert_eq!(farm.reload(), "nothing differs from configuration 1, which is in force\n");
    farm.edit("echo one", "echo two");
    farm.add_config("[builders.mac]\n[[builders.mac.steps]]\nrun = 'echo mac'\n");
    let tried = farm.greenroom(&["reload", "--dry-run"]);
    assert_eq!(
        text(&tried.stdout),
        "~ [builders.linux]\n    ~ steps[0].run: \"echo one\" → \"echo two\"\n+ [builders.mac]\n\
         nothing was changed: configuration 1 is in force\n"
    );
    assert_eq!(farm.number(), 1);
    let said = farm.reload();
    assert!(said.ends_with("configuration 2 is in force; before it was 1\n"), "{said}");
    assert!(said.starts_with("~ [builders.linux]\n"), "{said}");

    let second = farm.expect_build(farm.force("linux", &json!({})), SUCCESS);
    assert_eq!(farm.lines(&second, "say", 'o'), ["two"]);
    assert_eq!(farm.property(&second, "configuration"), 2);
    farm.expect_build(farm.force("mac", &json!({})), SUCCESS);
    let versions = farm.versions();
    assert_eq!(versions.len(), 2);
    assert_eq!((&versions[0]["cause"], &versions[1]["cause"]), (&json!("start"), &json!("reload")));
    assert_eq!(versions[1]["difference"]["components"][1]["name"], "mac");
    assert_eq!(farm.actor("configurator").expect("it lives")["observed"]["number"], 2);
}

#[test]
fn a_bad_file_is_refused_whole_and_told_as_check_tells_it() {
    let farm = Farm::raise(SMALL);
    let good = farm.config();
    farm.write_config(&format!(
        "{good}[builders.new]\n[[builders.new.steps]]\nrun = 'x'\nrnu = 'y'\n[workers.w2]\n"
    ));
    let check =
        binary().args(["check", "--config"]).arg(farm.path("farm.toml")).output().expect("check runs");
    let refused = farm.greenroom(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    let (said, checked) = (text(&refused.stderr), text(&check.stdout));
    assert!(checked.contains("rnu") && checked.contains("w2"), "{checked}");
    for line in checked.lines().filter(|line| line.contains("-->") || line.starts_with("error")) {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    assert!(said.contains("nothing was changed: the configuration in force stays"), "{said}");
    assert_eq!(farm.number(), 1);
    let log = farm.master_log();
    assert!(log.contains("the configuration was refused") && log.contains("unknown key `rnu`"), "{log}");
    assert!(farm.rest().try_get("/api/v2/builders/new").expect("an answer").status == 404);
    let health = farm.rest().try_get("/health").expect("the health").json();
    assert_eq!(health["status"], "degraded");
    assert!(health["configuration"]["reload_refused_at"].is_i64(), "{health}");

    farm.write_config(&good);
    farm.reload();
    let health = farm.rest().try_get("/health").expect("the health").json();
    assert_eq!(
        (&health["status"], &health["configuration"]["reload_refused_at"]),
        (&json!("ok"), &Value::Null)
    );
}

#[test]
fn sighup_reloads_and_the_log_says_what_came_of_it() {
    let farm = Farm::raise(SMALL);
    farm.edit("echo one", "echo two");
    farm.signal(Signal::SIGHUP);
    eventually("the reload", || (farm.number() == 2).then_some(()));
    assert_eq!(farm.versions()[1]["who"], "signal");
    eventually("the log", || farm.master_log().contains("reloaded: 1 builder changed").then_some(()));
    farm.edit("echo two", "echo two'\nbad = '");
    farm.signal(Signal::SIGHUP);
    eventually("the log", || {
        let log = farm.master_log();
        (log.contains("the configuration was refused") && log.contains("unknown key `bad`")).then_some(())
    });
    assert_eq!(farm.number(), 2);
}

#[test]
fn an_earlier_version_comes_back_under_a_new_number_until_the_files_are_loaded_again() {
    let mut farm = Farm::raise(&SMALL.replace("'pw'", "'hush-hush'"));
    farm.edit("echo one", "echo two");
    farm.reload();
    let back = farm.greenroom(&["config", "rollback"]);
    let said = text(&back.stdout);
    assert!(said.contains("\"echo two\" → \"echo one\""), "{said}{}", text(&back.stderr));
    assert!(said.contains("configuration 3 is in force; before it was 2"), "{said}");
    assert!(said.contains("the files on disk are not changed"), "{said}");
    let history = text(&farm.greenroom(&["config", "history"]).stdout);
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines.len(), 3, "{history}");
    assert!(lines[0].contains("   3  ") && lines[0].contains("rollback to 1"), "{history}");
    assert!(lines[0].ends_with("1 builder changed") && lines[2].ends_with("the first"), "{history}");
    let none = farm.greenroom(&["config", "rollback", "9"]);
    assert!(!none.status.success() && text(&none.stderr).contains("no version 9"), "{}", text(&none.stderr));

    // what is stored may hold secrets
    for entry in std::fs::read_dir(farm.data_dir().join("configurations/1")).expect("the version") {
        let path = entry.expect("a file").path();
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600, "{path:?}");
    }
    assert!(!farm.rest().get("configurations").to_string().contains("hush-hush"));
    assert!(!farm.master_log().contains("hush-hush"));

    farm.kill_master();
    farm.start();
    assert_eq!(farm.number(), 4, "the files say something else than what was in force");
    assert_eq!(farm.versions()[3]["difference"]["components"][0]["keys"][0]["to"], "\"echo two\"");
    farm.kill_master();
    farm.start();
    assert_eq!(farm.number(), 4, "the same files, the same number");
}

#[test]
fn workers_come_and_go_and_the_others_keep_their_session() {
    let farm = Farm::raise(SMALL);
    let _w1 = farm.agent("w1");
    let births = farm.actor("session/w1").expect("a session")["handled"].as_u64();
    farm.add_config("[workers.w2]\npassword = 'pw'\n[builders.second]\nworkers = ['w2']\n[[builders.second.steps]]\nrun = 'sleep 1'\nname = 'nap'\n");
    farm.reload();
    let waiting = farm.force("second", &json!({}));
    let _w2 = farm.agent("w2");
    farm.expect_build(waiting, SUCCESS);

    let last = farm.force("second", &json!({}));
    farm.await_running(last, "nap");
    let text = farm.config();
    let (before, _) = text.split_once("[workers.w2]").expect("the worker");
    farm.write_config(before);
    farm.reload();
    farm.expect_build(last, SUCCESS);
    farm.await_loss("w2");
    assert!(farm.actor("session/w1").expect("a session")["handled"].as_u64() >= births);
    assert!(farm.is_connected("w1"));
    assert!(!farm.master_log().contains("a worker was lost"), "{}", farm.master_log());
}

#[test]
fn a_policy_holds_from_the_reload_on_for_actors_that_live() {
    let poller = "[change-sources.repo]\nkind = 'git-poller'\nrepository = '/nowhere'\ninterval = '1h'\n";
    let farm = Farm::raise(&(SMALL.to_owned() + poller));
    let before = farm.births();
    let good = farm.config();
    let policies = "[supervision.kinds.distributor]\nintensity = 1\nperiod = '10m'\n\
                    backoff = { min = '1600ms', max = '1600ms' }\n\
                    [supervision.kinds.git-poller]\ngrace = '200ms'\n";
    farm.write_config(&(good + policies));
    farm.reload();
    assert_eq!(farm.births(), before, "nobody is restarted for it");
    let policy = farm.actor("distributor").expect("it lives")["origins"]["backoff"].clone();
    assert_eq!(policy, "[supervision.kinds.distributor]");

    // grace: it is in a handler that never ends, and is cut off when the configuration no longer has it
    farm.rehearse("hang change-source/repo");
    eventually("the hang", || (farm.times_logged("hang", "change-source/repo") == 1).then_some(()));
    farm.edit(poller, "");
    let begun = Instant::now();
    farm.reload();
    assert!(farm.actor("change-source/repo").is_none());
    assert!(begun.elapsed() < Duration::from_secs(8), "not the 10 s of before: {:?}", begun.elapsed());

    // backoff, of which a part between half and all is waited
    let exit = farm.trouble("panic", "distributor");
    assert!(exit["back_ms"].as_f64() >= Some(790.0), "{exit}");

    // intensity: the second end is one too many, and its supervisor fails
    let builder = farm.births()["builder/linux"];
    farm.trouble("panic", "distributor");
    eventually("the escalation", || {
        farm.master_log().contains("over 1 restarts of distributor within 10m").then_some(())
    });
    eventually("another birth of its siblings", || {
        (farm.births().get("builder/linux") > Some(&builder)).then_some(())
    });
    let _agent = farm.agent("w1");
    farm.expect_build(farm.force("linux", &json!({})), SUCCESS);
}

#[test]
fn what_only_a_start_can_change_is_named() {
    let farm = Farm::raise(SMALL);
    farm.edit("[www]", "[mq]\nurl = 'local:'\n[www]");
    farm.edit(&format!("127.0.0.1:{}", farm.port()), "127.0.0.1:1");
    let said = farm.reload();
    assert!(said.contains("`www.listen` takes effect at the next start"), "{said}");
    assert_eq!(farm.number(), 2);
}

/// The connection of a worker: the serial that its session's directory entry was posted with is not public, but a session
/// that began anew counts its frames from the start.
fn frames(farm: &Farm, worker: &str) -> u64 {
    let session = farm.actor(&format!("session/{worker}")).unwrap_or_else(|| panic!("a session of {worker}"));
    session["observed"]["frames_in"].as_u64().unwrap_or_default()
}

#[test]
fn a_hundred_reloads_under_load_every_third_one_bad() {
    const RELOADS: u64 = 100;
    let record_dir = |farm: &Farm| Record::new(farm);
    let mut farm = crate::harness::Plan::new("").lay_out();
    let record = record_dir(&farm);
    let steps = format!("[[steps]]\nname = 'work'\nrun = '''\n{}'''\n", record.script("0.05"));
    farm.add_config("[workers.w1]\npassword = 'pw'\nmax-builds = 8\n[workers.idle]\npassword = 'pw'\n");
    farm.add_config(&eight_builders(&steps));
    farm.add_config("[builders.probe]\nworkers = ['idle']\n[[builders.probe.steps]]\nname = 'say'\nrun = 'echo round 0'\n");
    farm.start();
    let (_w1, _idle) = (farm.agent("w1"), farm.agent("idle"));
    let base = farm.config();
    let (stop, rest) = (AtomicBool::new(false), farm.rest().clone());
    let (acknowledged, times) = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut all = BTreeMap::new();
            for job in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                all.insert(job, force_once(&rest, job));
                // as many as the worker can do, so that there is always a queue and never a flood
                while job % 16 == 15
                    && rest.list("buildrequests?complete=false").len() > 16
                    && !stop.load(Ordering::Relaxed)
                {
                    thread::yield_now();
                }
            }
            all
        });
        let mut times = Vec::new();
        let mut good = 1;
        let (mut frames_before, mut idle_frames) = (frames(&farm, "w1"), frames(&farm, "idle"));
        for round in 1..=RELOADS {
            let timeout = format!("name = 'work'\ntimeout = '{round}0s'");
            let text = base.replace("name = 'work'", &timeout).replace("round 0", &format!("round {round}"));
            let bad = round % 3 == 0;
            farm.write_config(&if bad { format!("{text}\n[builders.probe]\n") } else { text });
            let begun = Instant::now();
            let id = rest.try_get("/health").expect("the health").json()["masterid"].clone();
            let answer =
                rest.try_call(&format!("masters/{id}"), "reload", &json!({}), None).expect("an answer");
            times.push(begun.elapsed());
            if bad {
                assert_eq!(answer.status, 400, "{}", answer.text);
            } else {
                good += 1;
                assert_eq!(
                    (answer.status, &answer.json()["result"]["number"]),
                    (200, &json!(good)),
                    "{}",
                    answer.text
                );
            }
            assert_eq!(farm.number(), good);
            if round % 10 == 0 {
                let build = farm.expect_build(farm.force("probe", &json!({})), SUCCESS);
                let said = if bad { round - 1 } else { round };
                assert_eq!(
                    farm.lines(&build, "say", 'o'),
                    [format!("round {said}")],
                    "each good one takes effect"
                );
                assert_eq!(farm.property(&build, "configuration"), good);
                // the same connections as before
                let (now, idle_now) = (frames(&farm, "w1"), frames(&farm, "idle"));
                assert!(now >= frames_before && idle_now >= idle_frames, "a session began anew");
                (frames_before, idle_frames) = (now, idle_now);
            }
        }
        stop.store(true, Ordering::Relaxed);
        (client.join().expect("the client"), times)
    });
    for request in acknowledged.values() {
        farm.await_request_within(*request, Duration::from_secs(120));
    }
    // each job was built once, by one build, and is in the record once
    let builds = farm.rest().list("builds?order=buildid");
    let mut of_request: BTreeMap<i64, Vec<&Value>> = BTreeMap::new();
    for build in &builds {
        of_request.entry(build["buildrequestid"].as_i64().expect("a request")).or_default().push(build);
    }
    let entries = record.entries();
    for (job, request) in &acknowledged {
        let of_request = &of_request[request];
        assert_eq!(of_request.len(), 1, "job {job}: {of_request:?}");
        assert_eq!(of_request[0]["results"], SUCCESS, "job {job}: {}", farm.story_of(of_request[0]));
        for what in ["start", "end"] {
            let count = entries.iter().filter(|it| it.what == what && it.job == *job).count();
            assert_eq!(count, 1, "job {job}: {what}");
        }
    }
    assert!(builds.iter().all(|it| it["results"] != RETRY));
    assert_eq!(entries.iter().filter(|it| it.what == "overlap").count(), 0);
    assert!(acknowledged.len() > 100, "there was load: {}", acknowledged.len());
    assert!(!farm.master_log().contains("a worker was lost"));
    let mut times = times;
    times.sort();
    println!(
        "{} jobs beside {RELOADS} reloads: p50 {:?}, p99 {:?}",
        acknowledged.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
}

#[test]
fn a_kill_in_the_middle_of_a_reload_leaves_one_version_or_the_other() {
    let mut farm = Farm::raise(SMALL);
    let _agent = farm.agent("w1");
    let base = farm.config();
    let mut dice = StdRng::seed_from_u64(20);
    let mut last = 1;
    for round in 1..=12 {
        farm.write_config(&base.replace("echo one", &format!("echo round-{round}")));
        farm.signal(Signal::SIGHUP);
        thread::sleep(Duration::from_micros(dice.random_range(0..60_000)));
        farm.kill_master();
        farm.start();
        let number = farm.number();
        // whatever the kill met, the files are in force, under one number: the reload's or the start's
        assert_eq!(number, last + 1, "round {round}");
        last = number;
        let version = farm.versions().pop().expect("a version");
        assert_eq!(version["number"], number);
    }
    farm.await_worker("w1");
    let build = farm.expect_build(farm.force("linux", &json!({})), SUCCESS);
    assert_eq!(farm.lines(&build, "say", 'o'), ["round-12"]);
    assert_eq!(farm.property(&build, "configuration"), last);
}

#[test]
fn a_configurator_that_dies_while_it_reloads_finishes_it() {
    let farm = Farm::raise(SMALL);
    let base = farm.config();
    for round in 1..=5 {
        farm.write_config(&base.replace("echo one", &format!("echo round-{round}")));
        farm.panic_actor("configurator");
        farm.reload();
        assert_eq!(farm.number(), round + 1);
    }
    patience(Duration::from_secs(10), "the configurator", || {
        farm.actor("configurator").filter(|it| it["state"] == "running" && it["births"].as_u64() > Some(1))
    });
}

/// A builder with what real ones have: an environment, a checkout, a few commands, expressions.
fn builder(number: usize, word: &str) -> String {
    format!(
        "[builders.b{number:04}]\nworkers = ['w1']\ntags = ['t{}']\nenv = {{ BRANCH = '${{{{ src.branch }}}}' }}\n\
         [[builders.b{number:04}.steps]]\nkind = 'git'\nrepository = 'https://example.org/r.git'\n\
         [[builders.b{number:04}.steps]]\nname = 'build'\nrun = 'make {word} B=${{{{ build.number }}}}'\n\
         [[builders.b{number:04}.steps]]\nname = 'test'\nrun = ['make', 'check', '${{{{ prop.buildername }}}}']\ntimeout = '10m'\n",
        number % 10
    )
}

#[test]
fn a_thousand_builders_are_reloaded_in_a_moment() {
    let head = "[workers.w1]\npassword = 'pw'\n[schedulers.force]\nkind = 'force'\nbuilders = '*'\n\
                [schedulers.all]\nkind = 'any-branch'\nbuilders = '*'\n";
    let farm = Farm::raise(&(head.to_owned() + &(0..1_000).map(|n| builder(n, "all")).collect::<String>()));
    let id = farm.rest().try_get("/health").expect("the health").json()["masterid"].clone();
    let reload = |what: &str| {
        let begun = Instant::now();
        let told = farm.rest().call(&format!("masters/{id}"), "reload", &json!({}));
        println!("1,000 builders, {what}: {:?}", begun.elapsed());
        (told["difference"]["components"].as_array().map_or(0, Vec::len), begun.elapsed())
    };
    let base = farm.config();
    for round in 0..5 {
        assert_eq!(reload("nothing changed").0, 0);
        let one = builder(500, &format!("one-{round}"));
        farm.write_config(&base.replace(&builder(500, "all"), &one));
        let (changed, took) = reload("one changed");
        assert_eq!(changed, 1);
        // many times what it takes, on a busy machine and without optimisation
        assert!(took < Duration::from_secs(10), "{took:?}");
        farm.write_config(&base.replace("'make all", &format!("'make all-{round}")));
        assert_eq!(reload("all changed").0, 200, "the others are counted");
        farm.write_config(&base);
        reload("all changed back");
    }
    let all = farm.rest().list("builders?field=builderid");
    assert_eq!(all.len(), 1_000);
}
