//! What `make install` puts in place is whole, and the service manager's files mean what they say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "tests; no arbiter runs here"
)]

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const BINARY: &str = env!("CARGO_BIN_EXE_greenroom");

/// Runs a target of the Makefile with this `DESTDIR`.
#[track_caller]
fn make(target: &str, dest: &Path) {
    let output = Command::new("make")
        .args(["--no-print-directory", target, "PREFIX=/usr", &format!("BINARY={BINARY}")])
        .arg(format!("DESTDIR={}", dest.display()))
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The files below a directory, relative to it.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    found
}

#[test]
fn make_install_puts_all_in_place_and_uninstall_takes_it_away() {
    let dest = tempfile::tempdir().unwrap();
    make("install", dest.path());
    let found = files(dest.path());
    for file in [
        "usr/bin/greenroom",
        "usr/lib/systemd/system/greenroom.service",
        "usr/lib/systemd/system/greenroom-worker@.service",
        "usr/lib/sysusers.d/greenroom.conf",
        "usr/share/man/man1/greenroom.1",
        "usr/share/man/man1/greenroom-check.1",
        "usr/share/bash-completion/completions/greenroom",
        "usr/share/zsh/site-functions/_greenroom",
        "usr/share/fish/vendor_completions.d/greenroom.fish",
        "usr/share/doc/greenroom/greenroom.toml",
        "usr/share/doc/greenroom/schema.json",
    ] {
        assert!(found.contains(file), "{file} is not among {found:#?}");
    }
    let unit = std::fs::read_to_string(dest.path().join("usr/lib/systemd/system/greenroom.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/greenroom master\n"), "{unit}");
    let version = Command::new(dest.path().join("usr/bin/greenroom")).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("greenroom "));
    let completions = dest.path().join("usr/share/bash-completion/completions/greenroom");
    assert!(Command::new("bash").arg("-n").arg(completions).status().unwrap().success());
    make("uninstall", dest.path());
    assert_eq!(files(dest.path()), BTreeSet::new());
}

/// The units are read by the service manager's own tool, where there is one; on a path at which the program is.
#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bin = Path::new(BINARY).parent().unwrap();
    for unit in ["greenroom.service", "greenroom-worker@.service"] {
        let text = std::fs::read_to_string(root().join("packaging/systemd").join(unit)).unwrap();
        let path = dir.path().join(unit);
        std::fs::write(&path, text.replace("@bindir@", &bin.display().to_string())).unwrap();
        let path = path.display().to_string().replace("worker@.", "worker@w1.");
        if path.contains("@w1") {
            std::fs::copy(dir.path().join(unit), &path).unwrap();
        }
        let output = Command::new("systemd-analyze").args(["verify", "--man=no", &path]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // The manual pages of other units of this machine are not our concern; ours are named in what is said of them.
        let ours: Vec<&str> = said.lines().filter(|it| it.contains("greenroom")).collect();
        assert!(ours.is_empty(), "{ours:#?}");
    }
}

#[test]
fn the_sample_of_the_package_is_good() {
    let output = Command::new(BINARY)
        .args(["check", "--config"])
        .arg(root().join("packaging/greenroom.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
}

/// Waits for a message of a master to its service manager.
fn heard(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).expect("a message within the time limit");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn a_service_manager_hears_when_the_port_is_open_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let config = dir.path().join("greenroom.toml");
    std::fs::write(&config, "[www]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"memory:\"\n").unwrap();
    let mut master = Command::new(BINARY)
        .args(["master", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ready = heard(&socket);
    assert!(ready.starts_with("READY=1\nSTATUS=serving http://127.0.0.1:"), "{ready}");
    let page = ready.lines().find_map(|it| it.strip_prefix("STATUS=serving ")).unwrap().to_owned();
    let health = Command::new(BINARY).args(["health", "--master", &page]).output().unwrap();
    let said = String::from_utf8_lossy(&health.stdout).into_owned();
    assert!(health.status.success() && said.contains("\"status\":\"ok\""), "{said}");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(master.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let stopping = heard(&socket);
    assert!(stopping.starts_with("STOPPING=1"), "{stopping}");
    assert!(master.wait().unwrap().success());
    let gone = Command::new(BINARY).args(["health", "--master", &page]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
}
