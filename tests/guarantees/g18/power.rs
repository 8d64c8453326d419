//! A loss of power, as far as files can tell of one: what was written and never synced is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sqlite::sqlite;

/// The library that keeps beside each database file what of it was synced.
pub struct Forgetful(PathBuf);

impl Forgetful {
    /// Compiles it, and shows that it forgets.
    #[track_caller]
    pub fn built_in(dir: &Path) -> Self {
        let library = dir.join("forgetful.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guarantees/g18/forgetful.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-o"]).arg(&library).arg(source);
        let built = compiler.arg("-ldl").status();
        assert!(built.is_ok_and(|it| it.success()), "cc is missing or fails: apt-get install gcc libc6-dev");
        let forgetful = Self(library);
        assert_eq!(forgetful.tables_after_a_loss(dir, "FULL"), "1", "what is synced stays");
        assert_eq!(forgetful.tables_after_a_loss(dir, "OFF"), "0", "what is not is gone");
        forgetful
    }

    /// For `LD_PRELOAD`.
    pub fn path(&self) -> &str {
        self.0.to_str().expect("a name in UTF-8")
    }

    /// How many tables are left of one that was made with so much care.
    fn tables_after_a_loss(&self, dir: &Path, synchronous: &str) -> String {
        let dir = dir.join(synchronous);
        fs::create_dir(&dir).expect("a directory");
        let file = dir.join("trial.db");
        let statements =
            format!("PRAGMA synchronous = {synchronous}; PRAGMA journal_mode = WAL; CREATE TABLE t (a);");
        let mut writer = Command::new("sqlite3");
        let written = writer.arg(&file).arg(statements).env("LD_PRELOAD", &self.0).output();
        assert!(written.expect("sqlite3").status.success());
        lose(&dir);
        sqlite(&file, "SELECT count(*) FROM sqlite_master")
    }
}

/// Takes away what was not synced of the database files in a directory. Nobody may have them open.
#[track_caller]
pub fn lose(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name in UTF-8");
        if !name.contains(".db") || name.contains(".synced") {
            continue;
        }
        let (file, kept) = (dir.join(&name), dir.join(format!("{name}.synced")));
        fs::remove_file(&file).expect("a file");
        if kept.exists() {
            fs::copy(&kept, &file).expect("what was synced");
        }
    }
}
