//! Workers that the master starts itself. The agent is a script here: what counts is how it is started and ended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::*;

fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("agent.sh");
    fs::write(&path, format!("#!/bin/sh\ncd {}\n{text}\n", dir.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[actix_web::test]
async fn a_local_worker_is_started_again_when_it_dies_and_ended_by_its_standard_input() {
    let scripts = tempfile::tempdir().unwrap();
    let agent = script(scripts.path(), "echo \"$$ $*\" >> started\ncat > /dev/null\necho end >> ended");
    let farm = farm_with(timing(), &[("home", local())], Some(&agent)).await;
    farm.link.start_local_workers("ws://127.0.0.1:1");
    let started = scripts.path().join("started");
    eventually("the start", || lines(&started).len() == 1).await;
    let line = lines(&started).remove(0);
    let (pid, arguments) = line.split_once(' ').unwrap();
    let password_file = farm.dir.path().join("worker-passwords/home");
    let expected = format!(
        "worker --master ws://127.0.0.1:1 --name home --password-file {} --dir {} --end-with-stdin",
        password_file.display(),
        farm.dir.path().join("workers/home").display()
    );
    assert_eq!(arguments, expected);
    assert_eq!(fs::metadata(&password_file).unwrap().permissions().mode() & 0o777, 0o600);
    let password = fs::read_to_string(&password_file).unwrap();
    assert_eq!(password.len(), 64, "256 bits");
    assert!(handshake(farm.address, "/", Some(&basic("home", &password))).await.is_ok());

    std::process::Command::new("kill").args(["-9", pid]).status().unwrap();
    eventually("the second start", || lines(&started).len() == 2).await;
    assert!(lines(&scripts.path().join("ended")).is_empty());
    farm.finish().await;
    assert_eq!(lines(&scripts.path().join("ended")), ["end"], "it ended by itself");
    assert_eq!(lines(&started).len(), 2, "and was not started again");
}

#[actix_web::test]
async fn a_local_worker_gets_nothing_of_the_masters_environment_but_the_usual() {
    let scripts = tempfile::tempdir().unwrap();
    let agent = script(scripts.path(), "env > all\nmv all environment\ncat > /dev/null");
    // Whatever runs tests sets this one; it stands for a secret.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let farm = farm_with(timing(), &[("home", local())], Some(&agent)).await;
    farm.link.start_local_workers("ws://127.0.0.1:1");
    let environment = scripts.path().join("environment");
    eventually("the start", || environment.exists()).await;
    let names: Vec<String> = lines(&environment)
        .iter()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.to_owned()))
        .collect();
    assert!(names.iter().any(|name| name == "PATH"), "{names:?}");
    let usual = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "SSH_AUTH_SOCK"];
    // The shell of the script sets these itself.
    let shells = ["PWD", "OLDPWD", "SHLVL", "_"];
    let is_known = |name: &&String| {
        usual.contains(&name.as_str()) || shells.contains(&name.as_str()) || name.starts_with("LC_")
    };
    let strange: Vec<&String> = names.iter().filter(|name| !is_known(name)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    farm.finish().await;
}

#[actix_web::test]
async fn a_local_worker_that_does_not_end_is_killed_with_its_group() {
    let scripts = tempfile::tempdir().unwrap();
    let agent = script(scripts.path(), "sleep 1000 &\necho \"$$ $!\" > started\nwait");
    let farm = farm_with(timing(), &[("home", local())], Some(&agent)).await;
    farm.link.start_local_workers("ws://127.0.0.1:1");
    let started = scripts.path().join("started");
    eventually("the start", || !lines(&started).is_empty()).await;
    let pids = lines(&started).remove(0);
    farm.finish().await;
    for pid in pids.split(' ') {
        let gone = || {
            !Path::new("/proc").join(pid).join("cmdline").exists()
                || lines(&Path::new("/proc").join(pid).join("stat")).iter().any(|stat| stat.contains(") Z "))
        };
        eventually("the process' end", gone).await;
    }
}
