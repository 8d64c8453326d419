//! Messages to try renderers with: one of each sort, with everything that it can hold and with nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use greenroom_config::Mode;
use greenroom_model::{
    BuildId, BuilderId, BuildsetId, ChangeId, LogId, Results, StepId, Timestamp, WorkerId,
};

use crate::notice::{
    BuildEvent, BuildNotice, BuildRef, BuildsetNotice, ChangeNotice, DigestLine, DigestNotice, LogNotice,
    Notice, SourceNotice, StepNotice, TestNotice, WorkerNotice,
};
use crate::transport::{Farm, Outgoing};

const NOW: i64 = 1_800_000_000;
const PAGE: &str = "https://ci.example.org/#";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(NOW + seconds)
}

fn reference(number: i64, results: Results) -> BuildRef {
    BuildRef {
        build: BuildId(1_000 + number),
        number,
        url: format!("{PAGE}/builders/1/builds/{number}"),
        results,
    }
}

/// One of each sort.
pub(crate) fn all() -> Vec<Outgoing> {
    [
        Notice::Build(Box::new(failed())),
        Notice::Build(Box::new(fixed())),
        Notice::Build(Box::new(bare())),
        Notice::Build(Box::new(started())),
        Notice::Buildset(Box::new(buildset())),
        Notice::Digest(digest()),
        Notice::WorkerMissing(worker()),
        Notice::WorkerMissing(WorkerNotice { admin: None, host: None, ..worker() }),
        Notice::Test(TestNotice { by: "ada".to_owned(), at: at(0) }),
    ]
    .into_iter()
    .map(outgoing)
    .collect()
}

/// A message that says this.
pub(crate) fn outgoing(notice: Notice) -> Outgoing {
    Outgoing {
        id: 7,
        notifier: "post".to_owned(),
        dedup_key: "post-1042-finished".to_owned(),
        attempt: 1,
        at: at(95),
        farm: Arc::new(Farm { title: "Example CI".to_owned(), url: "https://ci.example.org/".to_owned() }),
        notice,
    }
}

/// A build that failed, with all that a notice can hold.
pub(crate) fn failed() -> BuildNotice {
    BuildNotice {
        event: BuildEvent::Finished,
        build: BuildId(1_042),
        number: 42,
        url: format!("{PAGE}/builders/1/builds/42"),
        builder: BuilderId(1),
        builder_name: "linux".to_owned(),
        builder_url: format!("{PAGE}/builders/1"),
        tags: vec!["release".to_owned()],
        project: Some("hello".to_owned()),
        worker: "w1".to_owned(),
        results: Some(Results::Failure),
        modes: vec![Mode::Failing, Mode::Problem, Mode::Change],
        state_string: "failed test".to_owned(),
        previous: Some(reference(41, Results::Success)),
        last_good: Some(reference(41, Results::Success)),
        first_failure: Some(reference(42, Results::Failure)),
        thread: "linux-main-1041".to_owned(),
        sources: vec![source()],
        buildset: BuildsetId(300),
        reason: "scheduler".to_owned(),
        scheduler: Some("main".to_owned()),
        owners: vec!["grace@example.org".to_owned()],
        changes: changes(),
        more_changes: 1,
        blame: vec!["Ada Lovelace <ada@example.org>".to_owned(), "linus".to_owned()],
        step: Some(step()),
        properties: BTreeMap::from([("arch".to_owned(), "amd64".into())]),
        started_at: at(0),
        complete_at: Some(at(95)),
    }
}

/// The build that mends it.
pub(crate) fn fixed() -> BuildNotice {
    BuildNotice {
        build: BuildId(1_043),
        number: 43,
        url: format!("{PAGE}/builders/1/builds/43"),
        results: Some(Results::Success),
        modes: vec![Mode::Passing, Mode::Change],
        state_string: "finished".to_owned(),
        previous: Some(reference(42, Results::Failure)),
        first_failure: None,
        step: None,
        more_changes: 0,
        ..failed()
    }
}

/// A build of which next to nothing is known.
fn bare() -> BuildNotice {
    BuildNotice {
        results: Some(Results::Exception),
        modes: vec![Mode::Exception],
        tags: Vec::new(),
        project: None,
        previous: None,
        last_good: None,
        first_failure: None,
        sources: Vec::new(),
        scheduler: None,
        owners: Vec::new(),
        changes: Vec::new(),
        more_changes: 0,
        blame: Vec::new(),
        step: Some(StepNotice { log: None, first_error: None, tail: Vec::new(), results: None, ..step() }),
        properties: BTreeMap::new(),
        ..failed()
    }
}

/// A build that has begun.
pub(crate) fn started() -> BuildNotice {
    BuildNotice {
        event: BuildEvent::Started,
        results: None,
        modes: vec![Mode::Started],
        state_string: "running".to_owned(),
        first_failure: None,
        step: None,
        complete_at: None,
        ..failed()
    }
}

fn source() -> SourceNotice {
    SourceNotice {
        codebase: String::new(),
        repository: "https://github.com/octo/hello.git".to_owned(),
        project: "hello".to_owned(),
        branch: Some("main".to_owned()),
        revision: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        patched: false,
    }
}

fn changes() -> Vec<ChangeNotice> {
    let change = |id: i64, author: &str, comments: &str| ChangeNotice {
        change: ChangeId(id),
        author: author.to_owned(),
        committer: None,
        comments: comments.to_owned(),
        revision: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        revlink: Some("https://github.com/octo/hello/commit/0123456789abcdef".to_owned()),
        branch: Some("main".to_owned()),
        files: vec!["src/main.c".to_owned()],
        when: at(-60),
    };
    let bare = ChangeNotice {
        revision: None,
        revlink: None,
        branch: None,
        files: Vec::new(),
        ..change(8, "linus", "")
    };
    vec![change(9, "Ada Lovelace <ada@example.org>", "Count from zero\n\nAs it should have been."), bare]
}

fn step() -> StepNotice {
    StepNotice {
        step: StepId(5_003),
        number: 3,
        name: "test".to_owned(),
        state_string: "make test failed".to_owned(),
        results: Some(Results::Failure),
        log: Some(LogNotice {
            log: LogId(9_001),
            name: "stdio".to_owned(),
            slug: "stdio".to_owned(),
            num_lines: 812,
            url: format!("{PAGE}/builders/1/builds/42/steps/3/logs/stdio"),
        }),
        first_error: Some("main.c:7: error: expected ';' before '}' token".to_owned()),
        tail: [
            "cc -Wall -c main.c",
            "main.c: In function 'main':",
            "main.c:7: error: expected ';' before '}' token",
            "    7 |   return 0 }",
            "make: *** [Makefile:3: main.o] Error 1",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

fn buildset() -> BuildsetNotice {
    let other = BuildNotice { builder_name: "windows".to_owned(), ..fixed() };
    BuildsetNotice {
        buildset: BuildsetId(300),
        results: Results::Failure,
        modes: vec![Mode::Failing, Mode::Passing],
        reason: "scheduler".to_owned(),
        scheduler: Some("main".to_owned()),
        sources: vec![source()],
        builds: vec![failed(), other],
        more_builds: 3,
        submitted_at: at(-5),
        complete_at: Some(at(95)),
    }
}

fn digest() -> DigestNotice {
    let line = |name: &str, messages: u64| DigestLine {
        name: name.to_owned(),
        url: format!("{PAGE}/builders/1"),
        messages,
        worst: Some(Results::Failure),
        last: Some(reference(42, Results::Failure)),
        step: Some("test".to_owned()),
        blame: vec!["Ada Lovelace <ada@example.org>".to_owned()],
    };
    let worker = DigestLine { worst: None, last: None, step: None, blame: Vec::new(), ..line("w7", 1) };
    DigestNotice {
        since: at(-60),
        until: at(0),
        total: 1_000,
        counts: BTreeMap::from([("failure".to_owned(), 980), ("success".to_owned(), 19)]),
        lines: vec![line("linux", 700), line("windows", 299), worker],
        more_lines: 2,
        reason: "more than 20 messages were due within a minute".to_owned(),
        url: "https://ci.example.org/#/builders".to_owned(),
    }
}

fn worker() -> WorkerNotice {
    WorkerNotice {
        worker: WorkerId(7),
        name: "w7".to_owned(),
        url: format!("{PAGE}/workers/7"),
        since: at(-3_600),
        admin: Some("Grace Hopper <grace@example.org>".to_owned()),
        host: Some("arm64 under the desk".to_owned()),
    }
}
