//! Later layers win; variables and flags find their keys; every value knows where it comes from.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use greenroom_config::{DatabaseUrl, LoadOptions, Loaded, Settings, check, load, load_text, show};

const BASE: &str = "
[workers.w1]
password = 'x'
max-builds = 2
[workers.local]
kind = 'local'
[change-sources.repo]
kind = 'git-poller'
repository = 'x'
[schedulers.all]
kind = 'any-branch'
builders = '*'
[builders.linux]
tags = ['base']
env = { JOBS = 2 }
steps = [{ run = 'true' }]
";

struct World {
    dir: tempfile::TempDir,
    options: LoadOptions,
}

impl World {
    fn new() -> Self {
        let mut world = World { dir: tempfile::tempdir().unwrap(), options: LoadOptions::default() };
        world.options.files.push(world.file("ci.toml", BASE));
        world
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.options.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn set(mut self, set: &str) -> Self {
        self.options.sets.push(set.to_owned());
        self
    }

    #[track_caller]
    fn load(&self) -> Loaded {
        load(&self.options).unwrap_or_else(|faults| panic!("{faults}"))
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        self.load().settings
    }

    #[track_caller]
    fn refused(&self) -> String {
        load(&self.options).expect_err("accepted").render(false)
    }
}

fn max_builds(settings: &Settings) -> u32 {
    settings.workers["w1"].max_builds.get()
}

#[test]
fn without_any_file_there_are_the_defaults() {
    let settings = load(&LoadOptions::default()).unwrap().settings;
    assert_eq!(settings.master.name.as_str(), "main");
    assert_eq!(settings.master.url.as_str(), "http://localhost:8010/");
    assert_eq!(settings.www.listen.to_string(), "127.0.0.1:8010");
    assert_eq!(settings.database.url, DatabaseUrl::Sqlite("greenroom-data/greenroom.db".into()));
    let elsewhere = load_text("[www]\nlisten = '127.0.0.1:8123'", std::path::Path::new("")).unwrap();
    assert_eq!(elsewhere.settings.master.url.as_str(), "http://localhost:8123/", "links lead to the page");
    let policy = settings.supervision.policy("build", "build/1");
    assert_eq!(policy.restart, greenroom_config::Restart::Transient);
    assert_eq!((policy.intensity, policy.period.to_string()), (5, "1m".to_owned()));
}

#[test]
fn each_layer_wins_over_those_before() {
    let mut world = World::new();
    assert_eq!(max_builds(&world.settings()), 2);
    let system = world.dir.path().join("etc");
    world.file("etc/a.toml", "[master]\ntitle = 'a'\n[workers.w1]\nmax-builds = 1\n");
    world.file("etc/b.toml", "[master]\ntitle = 'b'\n");
    world.file("etc/c.txt", "not a layer");
    world.options.system_dir = Some(system);
    assert_eq!((max_builds(&world.settings()), world.settings().master.title.as_str()), (2, "b"));

    world.options.files.push(world.file("more.toml", "[workers.w1]\nmax-builds = 3\n"));
    assert_eq!(max_builds(&world.settings()), 3);
    world.file("ci.d/20.toml", "[workers.w1]\nmax-builds = 5\n");
    world.file("ci.d/10.toml", "[workers.w1]\nmax-builds = 4\n");
    assert_eq!(max_builds(&world.settings()), 5);
    let world = world.env("GREENROOM_WORKERS__W1__MAX_BUILDS", "6");
    assert_eq!(max_builds(&world.settings()), 6);
    let world = world.set("workers.w1.max-builds=7");
    assert_eq!(max_builds(&world.settings()), 7);
    let world = world.set("workers.w1.max-builds=8");
    assert_eq!(max_builds(&world.settings()), 8);
}

#[test]
fn a_table_is_merged_and_a_list_replaced() {
    let mut world = World::new();
    world
        .options
        .files
        .push(world.file("b.toml", "[builders.linux]\ntags = ['more']\nenv = { CC = 'gcc' }\n"));
    let builder = &world.settings().builders["linux"];
    assert_eq!(builder.tags, ["more"]);
    assert_eq!(builder.env.keys().collect::<Vec<_>>(), ["CC", "JOBS"]);
    assert_eq!(builder.steps.len(), 1);
}

#[test]
fn variables_find_keys_whatever_their_case_and_hyphens() {
    let world = World::new()
        .env("GREENROOM_MASTER__TITLE", "My farm")
        .env("GREENROOM_MASTER__NAME", "7")
        .env("GREENROOM_MASTER__DATA_DIR", "data")
        .env("GREENROOM_BUILDERS__LINUX__TAGS", "[\"x\", \"y\"]")
        .env("GREENROOM_BUILDERS__LINUX__ENV__JOBS", "4")
        .env("GREENROOM_BUILDERS__LINUX__MAX_TIME", "1h")
        .env("GREENROOM_SCHEDULERS__ALL__FILTER__BRANCH", "main")
        .env("GREENROOM_WWW__LISTEN", "127.0.0.1:0")
        .env("GREENROOM_LOG", "debug")
        .env("HOME", "/");
    let settings = world.settings();
    assert_eq!((settings.master.title.as_str(), settings.master.name.as_str()), ("My farm", "7"));
    assert_eq!(settings.master.data_dir, Path::new("data"));
    assert_eq!(settings.builders["linux"].tags, ["x", "y"]);
    assert_eq!(settings.builders["linux"].env["JOBS"].source(), "4");
    assert_eq!(settings.builders["linux"].max_time.unwrap().to_string(), "1h");
    assert_eq!(settings.www.listen.0.port(), 0);
}

#[test]
fn a_variable_that_matches_nothing_or_two_keys_is_a_fault() {
    let world = World::new()
        .env("GREENROOM_WORKERS__W2__MAX_BUILDS", "4")
        .env("GREENROOM_WORKERS__W1__MAX_BUILD", "4")
        .env("GREENROOM_BUILDERS__LINUX__STEPS__0__RUN", "x")
        .set("nonsense")
        .set("workers=3")
        .set("a b.c=3");
    let expected = "\
error[unknown-variable]: the variable `GREENROOM_BUILDERS__LINUX__STEPS__0__RUN` points into a list
 |
 = help: override the whole list

error[unknown-variable]: the variable `GREENROOM_WORKERS__W1__MAX_BUILD` matches nothing: `workers.w1` has no `max-build`
 |
 = help: did you mean `max-builds`?

error[unknown-variable]: the variable `GREENROOM_WORKERS__W2__MAX_BUILDS` matches nothing: `workers` has no `w2`
 |
 = help: did you mean `w1`?

error[bad-set]: `--set nonsense` has no `=`
 |
 = help: write `--set workers.w1.max-builds=4`

error[bad-set]: `workers` is a whole section
 |
 = help: write `--set workers.w1.max-builds=4`

error[bad-set]: `a b.c` is not a key
 |
 = help: write `--set workers.w1.max-builds=4`

6 errors";
    assert_eq!(world.refused(), expected);

    let mut world = World::new();
    let twins = "[workers.a-b]\nkind = 'local'\n[workers.a_b]\nkind = 'local'\n";
    world.options.files.push(world.file("twins.toml", twins));
    assert_eq!(world.load().settings.workers.len(), 4);
    let expected = "\
error[unknown-variable]: the variable `GREENROOM_WORKERS__A_B__MAX_BUILDS` matches more than one key: `a-b` and `a_b`
 |
 = help: use --set instead

1 error";
    assert_eq!(world.env("GREENROOM_WORKERS__A_B__MAX_BUILDS", "2").refused(), expected);
}

#[test]
fn bad_values_in_variables_and_flags_are_shown_where_they_stand() {
    let world = World::new()
        .env("GREENROOM_WORKERS__W1__MAX_BUILDS", "many")
        .set("builders.linux.max-time=5")
        .set("workers.w1.\"max-bilds\"=4");
    let expected = "\
error[wrong-type]: expected a whole number of at least 1, found a string
 --> environment:1:35
  |
1 | GREENROOM_WORKERS__W1__MAX_BUILDS=many
  |                                   ^^^^

error[bad-value]: a duration needs a unit
 --> --set:1:25
  |
1 | builders.linux.max-time=5
  |                         ^
  |
  = help: did you mean \"5s\"?

error[unknown-key]: unknown key `max-bilds` in `workers.w1`
 --> --set:1:1
  |
1 | workers.w1.\"max-bilds\"=4
  | ^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: did you mean `max-builds`?

3 errors";
    assert_eq!(world.refused(), expected);
}

#[test]
fn a_flag_may_add_a_component() {
    let settings = World::new().set("workers.w2.kind=local").settings();
    assert!(settings.workers.contains_key("w2"));
}

#[test]
fn paths_are_relative_to_the_file_that_says_them() {
    let mut world = World::new();
    world.file("sub/secret", "hunter2\r\n");
    let text = "[master]\ndata-dir = 'data'\n[workers.w1]\npassword = { file = 'secret' }\n[workers.local]\ndir = 'here'\n";
    world.options.files.push(world.file("sub/b.toml", text));
    let settings = world.settings();
    let sub = world.dir.path().join("sub");
    assert_eq!(settings.master.data_dir, sub.join("data"));
    assert_eq!(settings.database.url, DatabaseUrl::Sqlite(sub.join("data/greenroom.db")));
    assert_eq!(settings.workers["local"].dir, Some(sub.join("here")));
    assert_eq!(settings.workers["w1"].password.as_ref().unwrap().expose(), "hunter2");

    world.options.files.push(world.file("c.toml", "[database]\nurl = 'sqlite:///var/x.db'\n"));
    assert_eq!(world.settings().database.url, DatabaseUrl::Sqlite("/var/x.db".into()));
}

#[test]
fn every_value_knows_where_it_comes_from() {
    let world = World::new().env("GREENROOM_MASTER__TITLE", "x").set("workers.w1.max-builds=7");
    let origins = world.load().origins;
    let origin = |key: &str| {
        let origin = &origins[key];
        let name = Path::new(&origin.source).file_name().unwrap().to_str().unwrap();
        format!("{name}:{}:{}", origin.line, origin.column)
    };
    assert_eq!(origin("builders.linux.tags"), "ci.toml:14:1");
    assert_eq!(origin("builders.linux.steps[0].run"), "ci.toml:16:12");
    assert_eq!(origin("master.title"), "environment:1:1");
    assert_eq!(origin("workers.w1.max-builds"), "--set:1:1");
    assert_eq!(origin("mq.url"), "built-in defaults:14:1");
    let words = |key: &str| show::origin_words(&origins[key]);
    assert_eq!(words("master.title"), "GREENROOM_MASTER__TITLE");
    assert_eq!(words("workers.w1.max-builds"), "--set workers.w1.max-builds");
    assert_eq!(words("mq.url"), "built-in");
}

#[test]
fn the_configuration_is_shown_as_toml_that_is_the_same_and_without_secrets() {
    let mut world = World::new().env("GREENROOM_MASTER__TITLE", "My farm");
    let more = "[secrets]\nt = { env = 'TOKEN' }\n[builders.\"a b\"]\nenv = { T = '${{ secret.t }}' }\n\
                [[builders.\"a b\".steps]]\nrun = \"\"\"\nmake\nmake test\n\"\"\"\n";
    world.options.files.push(world.file("more.toml", more));
    let world = world.env("TOKEN", "hunter2!");
    let loaded = world.load();
    let plain = show::toml(&loaded, show::Style::default());
    assert!(
        !plain.contains("hunter2") && plain.contains("t = \"***\"") && plain.contains("password = \"***\""),
        "{plain}"
    );
    let again =
        greenroom_config::load_text(&plain, Path::new("/")).unwrap_or_else(|it| panic!("{it}\n{plain}"));
    assert_eq!(again.settings.builders, loaded.settings.builders);
    assert_eq!(again.settings.schedulers, loaded.settings.schedulers);
    assert_eq!(again.settings.master.title, "My farm");
    let with = show::toml(&loaded, show::Style { origin: true, color: false });
    let line = |key: &str| with.lines().find(|it| it.starts_with(key)).unwrap_or_else(|| panic!("{with}"));
    assert!(line("title = ").ends_with("# GREENROOM_MASTER__TITLE"), "{with}");
    assert!(line("max-builds = 2").ends_with("ci.toml:4"), "{with}");
    assert!(line("intensity = 5").ends_with("# built-in"), "{with}");
    let json = show::json(&loaded);
    assert_eq!(json["values"]["secrets"]["t"], "***");
    assert_eq!(json["origins"]["master.title"]["given"], "GREENROOM_MASTER__TITLE");
}

#[test]
fn files_that_cannot_be_read_are_all_named() {
    let mut world = World::new();
    world.options.files.push("/nowhere/a.toml".into());
    let path = world.dir.path().join("latin1.toml");
    std::fs::write(&path, b"[master]\ntitle = '\xe4'\n").unwrap();
    world.options.files.push(path.clone());
    let expected = format!(
        "\
error[unreadable]: cannot read `/nowhere/a.toml`: No such file or directory (os error 2)
 |
 = help: name one with --config FILE, or let `greenroom init` write one

error[unreadable]: cannot read `{}`: stream did not contain valid UTF-8

2 errors",
        path.display()
    );
    assert_eq!(world.refused(), expected);
}

#[test]
fn secrets_are_never_shown() {
    let world = World::new().env("W1_PASSWORD", "hunter2");
    let secret = "[workers.w1]\npassword = { env = 'W1_PASSWORD' }\n";
    let mut good = world;
    good.options.files.push(good.file("secret.toml", secret));
    let settings = good.settings();
    assert_eq!(settings.workers["w1"].password.as_ref().unwrap().expose(), "hunter2");
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(format!("{settings:?}").contains("Secret(…)"));

    // Faults around a password, on its own line, in a variable, in a file that does not parse.
    for text in [
        "[workers]\nw1 = { password = 'hunter2', max-bilds = 4 }\n",
        "[workers.w1]\npassword = ['hunter2']\n",
        "[workers.w1]\npassword = { value = 'hunter2' }\n",
        "[workers.w1]\npassword = 'hunter2\nmax-builds = 3\n",
        "[workers.w1]\npassword = hunter2\n",
        "workers.w1 = { password = 'hunter2', max-builds = }\n",
    ] {
        let mut world = World::new();
        world.options.files.push(world.file("bad.toml", text));
        let faults = load(&world.options).expect_err(text);
        for shown in [faults.render(false), faults.to_json().to_string(), format!("{faults:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    let world = World::new()
        .env("GREENROOM_WORKERS__W1__PASSWORD", "[\"hunter2\"]")
        .set("workers.w1.password={x=\"hunter2\"}");
    let faults = load(&world.options).unwrap_err();
    assert!(!format!("{} {faults:?}", faults.render(false)).contains("hunter2"), "{faults}");
}

#[test]
fn check_says_what_is_there_or_what_is_wrong() {
    let world = World::new();
    let outcome = check::run(&world.options, check::Format::Text { color: false }, false);
    assert_eq!(
        outcome.text,
        "the configuration is good: 1 builder, 2 workers, 1 scheduler, 1 change source\n"
    );
    assert_eq!(outcome.exit_code, 0);

    let world = world.set("builders.linux.workers=[\"local\"]");
    let outcome = check::run(&world.options, check::Format::Text { color: false }, false);
    assert!(
        outcome.text.starts_with("warning[unused]: no builder uses the worker `w1`\n"),
        "{}",
        outcome.text
    );
    assert!(outcome.text.contains("\n1 warning\nthe configuration is good: "), "{}", outcome.text);
    assert!(outcome.text.ends_with("`greenroom check --explain unused` says more about such a fault\n"));
    assert_eq!(outcome.exit_code, 0);
    let denied = check::run(&world.options, check::Format::Text { color: false }, true);
    assert!(
        denied.text.contains("the configuration can be used, but warnings are denied"),
        "{}",
        denied.text
    );
    assert_eq!(denied.exit_code, 1);

    let world = world.set("www.listen=x");
    let outcome = check::run(&world.options, check::Format::Json, false);
    let json: serde_json::Value = serde_json::from_str(&outcome.text).unwrap();
    assert_eq!((outcome.exit_code, &json["ok"]), (1, &serde_json::json!(false)));
    assert_eq!(json["faults"].as_array().unwrap().len(), 2);
    assert_eq!((&json["version"], &json["errors"], &json["warnings"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(json["counts"], serde_json::json!(null));
}

#[test]
fn five_hundred_builders_load_quickly() {
    let mut text = BASE.to_owned();
    for index in 0..500 {
        text.push_str(&format!(
            "[[builders.b{index}.steps]]\nkind = 'git'\nrepository = 'x'\n[[builders.b{index}.steps]]\nrun = 'make ${{{{ prop.n + {index} }}}}'\n"
        ));
    }
    let mut world = World::new();
    world
        .options
        .files
        .push(world.file("many.toml", &text.replace("[workers.w1]\npassword = 'x'\n", "[workers.w1]\n")));
    let begin = std::time::Instant::now();
    assert_eq!(world.settings().builders.len(), 501);
    // A quadratic merge or a thread for each expression would take many times as long.
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    println!("500 builders: {:?}", begin.elapsed());
}
