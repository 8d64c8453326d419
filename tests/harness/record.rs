//! The record outside: what the commands of builds themselves write down, so that the master is not its own witness.

use std::path::PathBuf;

use super::farm::Farm;

/// One line of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `start`, `end` or `overlap`.
    pub what: String,
    /// Whose: the job that was forced.
    pub job: u64,
    /// In which build (its number).
    pub build: u64,
}

/// A file to which jobs append, with a lock file for each job.
pub struct Record {
    dir: PathBuf,
}

impl Record {
    /// In the farm's directory.
    pub fn new(farm: &Farm) -> Self {
        let dir = farm.path("record");
        std::fs::create_dir_all(dir.join("locks")).expect("a directory");
        Self { dir }
    }

    /// The command of a step that records a job that takes so long. `JOB` and `BUILD` are in its environment.
    ///
    /// The kernel judges overlaps: the job's lock is held by the shell and everything that it starts, and is free only when
    /// the last of them is gone.
    pub fn script(&self, seconds: &str) -> String {
        let dir = self.dir.display();
        format!(
            "exec 9>{dir}/locks/$JOB\nflock -n 9 || echo \"overlap $JOB $BUILD\" >> {dir}/all\n\
             echo \"start $JOB $BUILD\" >> {dir}/all\nsleep {seconds}\necho \"end $JOB $BUILD\" >> {dir}/all\n"
        )
    }

    /// Where it stands.
    pub fn file(&self) -> PathBuf {
        self.dir.join("all")
    }

    /// All that was recorded, in order.
    pub fn entries(&self) -> Vec<Entry> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        text.lines()
            .map(|line| {
                let mut words = line.split(' ');
                let mut next = || words.next().unwrap_or_default();
                let (what, job, build) = (next().to_owned(), next().parse(), next().parse());
                Entry { what, job: job.expect("a job"), build: build.expect("a build") }
            })
            .collect()
    }

    /// How often something was recorded.
    pub fn count(&self, what: &str) -> usize {
        self.entries().iter().filter(|it| it.what == what).count()
    }
}
