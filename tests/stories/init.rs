//! From a repository to a green build: `init`, `check`, `master`, `force`, as the README says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Process, Rest, SUCCESS, WARNINGS, binary, patience};

/// A repository with these files, committed, and room beside it for a master's data.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new(files: &[(&str, &str)]) -> Self {
        let home = Self { dir: tempfile::Builder::new().prefix("greenroom-init-").tempdir().unwrap() };
        std::fs::create_dir(home.top()).unwrap();
        home.git(&["init", "--quiet", "--initial-branch=trunk"]);
        for (name, text) in files {
            let path = home.top().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        if !files.is_empty() {
            home.commit("begin");
        }
        home
    }

    fn top(&self) -> PathBuf {
        self.dir.path().join("my repo")
    }

    #[track_caller]
    fn git(&self, args: &[&str]) {
        let answer = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
            .args(args)
            .current_dir(self.top())
            .output()
            .unwrap();
        assert!(answer.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&answer.stderr));
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
    }

    /// Runs the program at the top of the repository.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = binary();
        command.current_dir(self.top()).args(args).env("XDG_STATE_HOME", self.dir.path().join("state"));
        command.output().unwrap()
    }

    /// Runs `init`, which must succeed; gives what it wrote.
    #[track_caller]
    fn init(&self) -> String {
        let output = self.run(&["init"]);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        std::fs::read_to_string(self.top().join("greenroom.toml")).unwrap()
    }

    /// `check` has nothing to say against it.
    #[track_caller]
    fn checked(&self) {
        let output = self.run(&["check", "--deny-warnings"]);
        let text = text(&output.stdout);
        assert!(output.status.success() && text.starts_with("the configuration is good: "), "{text}");
    }

    /// The commands of all steps, as `run` says them.
    #[track_caller]
    fn commands(&self) -> Vec<String> {
        let config: toml::Table = self.init().parse().unwrap();
        self.checked();
        let builders = config["builders"].as_table().unwrap().values();
        let steps = builders.flat_map(|it| it["steps"].as_array().unwrap());
        steps.filter_map(|it| Some(it.get("run")?.as_str()?.to_owned())).collect()
    }

    /// Starts a master as `greenroom master` would, on any free port; forces all builders and waits for green builds. Gives the
    /// builds with the texts of their logs.
    #[track_caller]
    fn build(&self) -> Vec<(Value, String)> {
        let log = self.dir.path().join("master.log");
        let mut command = binary();
        command.current_dir(self.top()).args(["master", "--set", "www.listen=127.0.0.1:0"]);
        let mut master = Process::start(&mut command, &log);
        let rest = Rest::new(port(&mut master));
        let url = format!("http://127.0.0.1:{}/", rest.port());
        patience(Duration::from_secs(10), "the local worker", || {
            let workers = rest.list("workers");
            workers
                .iter()
                .any(|it| it["connected_to"].as_array().is_some_and(|it| !it.is_empty()))
                .then_some(())
        });
        let forced = self.run(&["force", "--master", &url]);
        assert!(forced.status.success(), "{}", text(&forced.stderr));
        let builders = rest.list("builders").len();
        let builds = patience(Duration::from_secs(60), "the end of the builds", || {
            let builds = rest.list("builds");
            (builds.len() == builders && builds.iter().all(|it| it["complete"] == true)).then_some(builds)
        });
        let found = builds.into_iter().map(|build| (build.clone(), logs(&rest, &build))).collect();
        master.signal(Signal::SIGTERM);
        assert!(master.end_within(Duration::from_secs(20)).success(), "{}", master.output());
        found
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The port that a master says it serves on.
#[track_caller]
fn port(master: &mut Process) -> u16 {
    patience(Duration::from_secs(20), "a master that serves", || {
        if let Some(status) = master.ended() {
            panic!("the master ended ({status}): {}", master.output());
        }
        let output = master.output();
        let line = output.lines().find(|it| it.contains("serving"))?;
        let rest = line.split("http://127.0.0.1:").nth(1)?;
        rest.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
    })
}

fn logs(rest: &Rest, build: &Value) -> String {
    let mut found = String::new();
    for step in rest.list(&format!("builds/{}/steps", build["buildid"])) {
        for log in rest.list(&format!("steps/{}/logs", step["stepid"])) {
            let answer = rest.try_get(&format!("/api/v2/logs/{}/raw", log["logid"])).unwrap();
            found.push_str(&answer.text);
        }
    }
    found
}

const MAKEFILE: &str =
    "all: greeting\ngreeting:\n\techo built > greeting\ntest: all\n\t@echo hello from $$(cat greeting)\n";

#[test]
fn a_makefile_is_green_in_ten_seconds() {
    let home = Home::new(&[("Makefile", MAKEFILE)]);
    let begun = Instant::now();
    home.init();
    home.checked();
    let builds = home.build();
    let took = begun.elapsed();
    assert_eq!(builds.len(), 1);
    assert_eq!(builds[0].0["results"], SUCCESS, "{}", builds[0].1);
    assert!(builds[0].1.contains("hello from built"), "{}", builds[0].1);
    assert!(took < Duration::from_secs(10), "from init to green took {took:?}");
    // Nothing but the configuration came into the repository.
    let status =
        Command::new("git").args(["status", "--porcelain"]).current_dir(home.top()).output().unwrap();
    assert_eq!(text(&status.stdout), "?? greenroom.toml\n");
}

#[test]
fn a_crate_is_green() {
    let manifest = "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    let home = Home::new(&[
        ("Cargo.toml", manifest),
        ("Cargo.lock", "version = 3\n\n[[package]]\nname = \"hello\"\nversion = \"0.1.0\"\n"),
        ("src/lib.rs", "#[test]\nfn it_greets() {\n    println!(\"hello\");\n}\n"),
    ]);
    assert_eq!(home.commands(), ["cargo build --all-targets --locked", "cargo test --locked"]);
    let builds = home.build();
    assert_eq!(builds[0].0["results"], SUCCESS, "{}", builds[0].1);
    assert!(builds[0].1.contains("test it_greets ... ok"), "{}", builds[0].1);
}

#[test]
fn several_kinds_become_several_builders() {
    let home = Home::new(&[
        ("Makefile", "check:\n\t@echo checked\n"),
        (
            "package.json",
            r#"{"name": "hello", "version": "1.0.0", "scripts": {"test": "node -e 0", "lint": "true"}}"#,
        ),
        (
            "package-lock.json",
            r#"{"name": "hello", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "hello", "version": "1.0.0"}}}"#,
        ),
    ]);
    assert_eq!(home.commands(), ["make check", "npm ci", "npm run lint", "npm run test"]);
    let builds = home.build();
    assert_eq!(builds.len(), 2);
    for (build, log) in builds {
        assert_eq!(build["results"], SUCCESS, "{log}");
    }
}

#[test]
fn each_kind_is_known_by_its_file() {
    for (files, commands) in [
        (
            &[
                (
                    "package.json",
                    r#"{"scripts": {"build": "x", "test": "echo \"Error: no test specified\" && exit 1"}}"#,
                ),
                ("yarn.lock", ""),
            ][..],
            &["yarn install --frozen-lockfile", "yarn run build"][..],
        ),
        (&[("package.json", "{}"), ("pnpm-lock.yaml", "")], &["pnpm install --frozen-lockfile"]),
        (&[("package.json", "not json")], &["npm install"]),
        (
            &[("CMakeLists.txt", "project(x C)\nenable_testing()\n")],
            &[
                "cmake -S . -B _build",
                "cmake --build _build --parallel 2",
                "cd _build && ctest --output-on-failure",
            ],
        ),
        (
            &[(
                "pyproject.toml",
                "[project]\nname = 'x'\nversion = '1'\n[project.optional-dependencies]\ntest = ['pytest']\n",
            )],
            &[
                "python3 -m venv .venv",
                ".venv/bin/python -m pip install -e '.[test]'",
                ".venv/bin/python -m pytest",
            ],
        ),
        (
            &[("pyproject.toml", "[tool.black]\n")],
            &["python3 -m venv .venv", ".venv/bin/python -m unittest discover"],
        ),
        (
            &[("pyproject.toml", "[project]\nname = 'x'\n"), ("uv.lock", "")],
            &["uv sync --locked --all-extras", "uv run python -m unittest discover"],
        ),
        (&[("go.mod", "module example.org/x\n")], &["go build ./...", "go vet ./...", "go test ./..."]),
        (
            &[("Cargo.toml", "[workspace]\nmembers = []\n")],
            &["cargo build --all-targets --workspace", "cargo test --workspace"],
        ),
        (&[("README", "nothing to build")], &["git log -1 --stat"]),
        (&[], &["git log -1 --stat"]),
    ] {
        let home = Home::new(files);
        assert_eq!(home.commands(), commands, "{files:?}");
    }
}

#[test]
fn what_is_there_is_not_overwritten_and_what_is_missing_is_said() {
    let home = Home::new(&[("Makefile", MAKEFILE)]);
    let config = home.init();
    assert!(config.contains("branch = \"trunk\"") && !config.contains("# repository ="), "{config}");
    let again = home.run(&["init"]);
    assert!(
        !again.status.success() && text(&again.stderr).contains("is there already: --force overwrites it")
    );
    home.git(&["remote", "add", "origin", "https://ann:hunter2@example.org/hello.git"]);
    assert!(home.run(&["init", "--force"]).status.success());
    let config = std::fs::read_to_string(home.top().join("greenroom.toml")).unwrap();
    assert!(
        config.contains("# repository = \"https://ann@example.org/hello.git\"")
            && !config.contains("hunter2"),
        "{config}"
    );
    let remote = text(&home.run(&["init", "--remote", "origin", "--output", "-"]).stdout);
    assert!(remote.contains("\nrepository = \"https://ann@example.org/hello.git\"\n"), "{remote}");
    let missing = home.run(&["init", "--remote", "upstream", "--force"]);
    assert!(text(&missing.stderr).contains("there is no remote `upstream`"), "{}", text(&missing.stderr));

    std::fs::write(home.top().join("go.mod"), "module x\n").unwrap();
    let said = text(&home.run(&["init", "--force"]).stdout);
    assert!(said.contains("note: go.mod is not committed"), "{said}");
    assert!(said.contains("\nnext:\n  greenroom check\n  greenroom master "), "{said}");

    let outside = tempfile::tempdir().unwrap();
    let output = binary().current_dir(outside.path()).arg("init").output().unwrap();
    assert!(
        text(&output.stderr).contains("is in no git repository: `git init` makes one"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_configuration_that_is_not_there_says_how_to_get_one() {
    let outside = tempfile::tempdir().unwrap();
    for command in ["check", "master"] {
        let output = binary().current_dir(outside.path()).arg(command).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("let `greenroom init` write one"), "{said}");
    }
}

/// The repository that this is, built by its own configuration: a cheap part of it, on the commit that is checked out.
#[test]
fn this_repository_builds_itself() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = Home::new(&[]);
    let sample = std::fs::read_to_string(checkout.join("config/samples/greenroom.toml")).unwrap();
    let url = "https://git.example.org/greenroom.git";
    assert!(sample.contains(url), "the sample names another repository");
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(checkout).output().unwrap();
    let head = text(&head.stdout).trim().to_owned();
    let config = sample.replace(url, &checkout.display().to_string());
    let config = config.replace("/srv/greenroom", &home.dir.path().join("data").display().to_string());
    std::fs::write(home.top().join("greenroom.toml"), config).unwrap();
    home.checked();
    let mut command = binary();
    command.current_dir(home.top()).args(["master", "--set", "www.listen=127.0.0.1:0"]);
    let mut master = Process::start(&mut command, &home.dir.path().join("master.log"));
    let rest = Rest::new(port(&mut master));
    let url = format!("http://127.0.0.1:{}/", rest.port());
    let forced = home.run(&["force", "quick", "--revision", &head, "--master", &url]);
    assert!(forced.status.success(), "{}", text(&forced.stderr));
    let build = patience(Duration::from_secs(120), "the build of this repository", || {
        rest.list("builds").into_iter().find(|it| it["complete"] == true)
    });
    let log = logs(&rest, &build);
    // Formatting is a warning there: refusing it is the lint stage's affair, and a commit in the middle of work may lack it.
    assert!(build["results"] == SUCCESS || build["results"] == WARNINGS, "{log}");
    assert!(log.contains("what can be made"), "{log}");
    assert!(log.contains(&head), "another commit was built than {head}: {log}");
    master.signal(Signal::SIGTERM);
    master.end_within(Duration::from_secs(20));
}
