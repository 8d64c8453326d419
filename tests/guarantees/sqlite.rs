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

/// SQLite finds nothing wrong in the files of a data directory whose master is dead.
#[track_caller]
pub fn expect_whole(data: &Path) {
    for file in ["greenroom.db", "greenroom.logs.db"] {
        assert_eq!(sqlite(&data.join(file), "PRAGMA integrity_check"), "ok", "{file}");
    }
}
