//! Input that is wrong gets a clear answer.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Output;

use crate::harness::{Farm, Plan, binary, patience};

/// Runs a master that must refuse to start; gives what it said.
#[track_caller]
fn refused(farm: &mut Farm) -> String {
    let before = farm.master_log().len();
    farm.launch();
    let status = farm.ended_within(std::time::Duration::from_secs(20));
    assert!(!status.success(), "it ended with {status}");
    farm.master_log()[before..].to_owned()
}

#[track_caller]
fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not said in:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn malformed_toml_is_told_with_its_place() {
    let mut farm = Plan::new("[builders.linux\n").lay_out();
    says(&refused(&mut farm), &["farm.toml:6"]);
}

#[test]
fn an_unknown_key_is_told_with_a_suggestion() {
    let mut farm = Plan::new("[workers.w1]\npassword = \"pw\"\nmax-build = 4\n").lay_out();
    says(&refused(&mut farm), &["farm.toml:8", "max-build", "max-builds"]);
}

#[test]
fn an_unknown_builder_in_a_scheduler_is_told_with_a_suggestion() {
    let config = "[schedulers.s]\nkind = \"any-branch\"\nbuilders = [\"linus\"]\n[workers.w]\npassword=\"p\"\n\
                  [builders.linux]\n[[builders.linux.steps]]\nrun = \"true\"\n";
    let mut farm = Plan::new(config).lay_out();
    says(&refused(&mut farm), &["farm.toml:8", "linus", "linux"]);
}

#[test]
fn duplicate_names_are_told() {
    let mut farm = Plan::new("[workers.w1]\npassword = \"a\"\n[workers.w1]\npassword = \"b\"\n").lay_out();
    says(&refused(&mut farm), &["farm.toml:8", "duplicate"]);
}

#[test]
fn all_faults_are_told_at_once() {
    let config = "[workers.w1]\npassword = \"a\"\nmax-builds = \"many\"\n[workers.w2]\npasword = \"b\"\n";
    let mut farm = Plan::new(config).lay_out();
    says(&refused(&mut farm), &["farm.toml:8", "farm.toml:10", "many", "pasword"]);
}

#[test]
fn a_missing_file_is_told() {
    let Output { status, stderr, .. } =
        binary().args(["master", "--config", "/nowhere.toml"]).output().expect("it runs");
    assert!(!status.success());
    says(&String::from_utf8_lossy(&stderr), &["/nowhere.toml"]);
}

#[test]
fn hooks_with_broken_bodies_are_refused() {
    let farm = Farm::raise("");
    let post = |body: &[u8]| {
        farm.rest()
            .try_post("/change_hook/base", &[("content-type", "application/json")], body)
            .expect("an answer")
    };
    for body in [&b"{\"author\": "[..], b"[]", b"{\"auhtor\": \"x\"}", b"\xff\xfe"] {
        let answer = post(body);
        assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(body), answer.text);
    }
    let mut large = br#"{"author": "x", "revision": "r", "comments": ""#.to_vec();
    large.resize(11 << 20, b'x');
    large.extend(b"\"}");
    // The master may hang up while the body still comes: refused either way, and never taken.
    if let Ok(answer) =
        farm.rest().try_post("/change_hook/base", &[("content-type", "application/json")], &large)
    {
        assert_eq!(answer.status, 413, "{}", answer.text);
    }
    assert_eq!(farm.rest().get("changes")["meta"]["total"], 0);
    farm.push_change("main", "still serving");
    assert_eq!(farm.rest().get("changes")["meta"]["total"], 1);
}

#[test]
fn a_port_in_use_is_told() {
    let mut farm = Plan::new("").lay_out();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", farm.port())).expect("the port");
    says(&refused(&mut farm), &[&farm.port().to_string(), "in use", "www.listen"]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_told() {
    // A file stands in its place: this holds for root, too.
    let mut farm = Plan::new("").lay_out();
    std::fs::write(farm.path("data"), "").expect("a file");
    says(&refused(&mut farm), &[&farm.path("data").display().to_string()]);
    let root = std::fs::metadata("/proc/self").expect("this process").uid() == 0;
    if !root {
        std::fs::remove_file(farm.path("data")).expect("the file is removed");
        std::fs::create_dir(farm.path("data")).expect("a directory");
        let read_only = std::fs::Permissions::from_mode(0o555);
        std::fs::set_permissions(farm.path("data"), read_only).expect("permissions");
        says(&refused(&mut farm), &[&farm.path("data").display().to_string()]);
    }
}

#[test]
fn a_second_master_on_the_same_database_is_refused_and_disturbs_nothing() {
    let first = Farm::raise("");
    first.push_change("main", "a");
    let mut second = Plan::new("").data_dir(first.data_dir()).lay_out();
    says(&refused(&mut second), &["greenroom.db"]);
    first.push_change("main", "b");
    assert_eq!(first.rest().get("changes")["meta"]["total"], 2);
}

#[test]
fn a_database_newer_than_the_program_is_left_alone() {
    let mut farm = Farm::raise("");
    farm.push_change("main", "a");
    farm.kill_master();
    let database = farm.data_dir().join("greenroom.db");
    let newer = "UPDATE _sqlx_migrations SET version = version + 90000000000000 \
                 WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    sqlite(&database, newer);
    says(&refused(&mut farm), &["newer"]);
    sqlite(&database, &newer.replace("version +", "version -"));
    farm.start();
    assert_eq!(farm.rest().get("changes")["meta"]["total"], 1, "it was left as it was");
}

/// Runs a statement by SQLite's own program.
#[track_caller]
fn sqlite(database: &Path, statement: &str) -> String {
    let answer = std::process::Command::new("sqlite3").arg(database).arg(statement).output();
    let answer = answer.expect("sqlite3 is missing. Run: apt-get install sqlite3");
    assert!(answer.status.success(), "{statement}: {}", String::from_utf8_lossy(&answer.stderr));
    String::from_utf8_lossy(&answer.stdout).trim().to_owned()
}

#[test]
fn a_client_that_hangs_up_in_the_middle_harms_nobody() {
    use std::io::Write;
    let farm = Farm::raise("");
    for _ in 0..50 {
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", farm.port())).expect("a connection");
        socket
            .write_all(b"POST /change_hook/base HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            .expect("sent");
    }
    patience(std::time::Duration::from_secs(10), "an answer", || farm.rest().try_get("/health").ok());
    farm.push_change("main", "a");
}
