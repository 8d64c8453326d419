//! SQLite's own program, as a second opinion about a database file.

use std::path::Path;
use std::process::Command;

/// Runs a statement.
#[track_caller]
pub fn sqlite(database: &Path, statement: &str) -> String {
    let answer = Command::new("sqlite3").arg(database).arg(statement).output();
    let answer = answer.expect("sqlite3 is missing. Run: scripts/services setup");
    assert!(answer.status.success(), "{statement}: {}", String::from_utf8_lossy(&answer.stderr));
    String::from_utf8_lossy(&answer.stdout).trim().to_owned()
}

/// The database files of a data directory.
pub const FILES: [&str; 2] = ["greenroom.db", "greenroom.logs.db"];

/// Puts a copy of a database file, with what it has not folded in yet, in the place of the one in another directory.
#[track_caller]
pub fn copy(file: &str, from: &Path, to: &Path) {
    for name in [file.to_owned(), format!("{file}-wal")] {
        let _ = std::fs::remove_file(to.join(&name));
        if from.join(&name).exists() {
            std::fs::copy(from.join(&name), to.join(&name)).expect("a copy");
        }
    }
}

/// SQLite finds nothing wrong in the files of a data directory whose master is dead.
#[track_caller]
pub fn expect_whole(data: &Path) {
    for file in FILES {
        assert_eq!(sqlite(&data.join(file), "PRAGMA integrity_check"), "ok", "{file}");
    }
}
