//! Every kind of fault, in its exact words: place, code, message, value at fault, help.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use greenroom_config::{Faults, load_text};

fn faults(text: &str) -> Faults {
    load_text(text, Path::new("/srv/ci")).expect_err(text)
}

/// One line a fault: `line:column code: message [value] (help)`.
fn lines(text: &str) -> Vec<String> {
    let found = match load_text(text, Path::new("/srv/ci")) {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults.into_vec(),
    };
    let line = |fault: &greenroom_config::Fault| {
        let place = fault.place.as_ref().map(|it| format!("{}:{} ", it.line, it.column)).unwrap_or_default();
        let value = fault.value().map(|it| format!(" [{it}]")).unwrap_or_default();
        let help = fault.help.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        format!("{place}{}: {}{value}{help}", fault.code, fault.message)
    };
    found.iter().map(line).collect()
}

/// A builder that is asked and a worker that is used, so that only the part under test is at fault.
const WHOLE: &str = "
[workers.local]
kind = 'local'
[change-sources.any]
kind = 'git-poller'
repository = 'x'
[schedulers.all]
kind = 'any-branch'
builders = '*'
[[builders.b.steps]]
run = 'true'
";

/// The faults of `text` with the rest of a configuration behind it.
fn with(text: &str) -> Vec<String> {
    lines(&format!("{text}{WHOLE}"))
}

fn step(text: &str) -> Vec<String> {
    with(&format!("[[builders.x.steps]]\n{text}"))
}

const WORKER_NAME: &str =
    "a worker's name has only the letters a to z, digits, `.`, `_` and `-`, and begins with no `.` or `-`";

#[track_caller]
fn check(found: Vec<String>, expected: &[&str]) {
    assert_eq!(found, expected, "\nfound:\n{}\n", found.join("\n"));
}

#[test]
fn a_whole_configuration_has_no_faults() {
    check(with(""), &[]);
}

#[test]
fn syntax() {
    check(lines("[master\nname = 'x'\n"), &["1:8 syntax: unclosed table, expected `]`"]);
    check(lines("[master]\nname = 'x'\nname = 'y'\n"), &["3:1 syntax: duplicate key `name` [name]"]);
    check(
        lines("[workers.a]\nkind = 'local'\n[workers.a]\n"),
        &["3:10 syntax: duplicate key `a` [a] (`[workers.a]` is in line 1 already)"],
    );
    check(
        lines("a = \n[b]\nc = [1,\n"),
        &[
            "1:5 syntax: string values must be quoted, expected literal string",
            "3:8 syntax: unclosed array, expected `]`",
        ],
    );
}

#[test]
fn keys() {
    check(
        with("[master]\ntitel = 'x'\n"),
        &["2:1 unknown-key: unknown key `titel` in `master` [titel] (did you mean `title`?)"],
    );
    check(
        with("[bilders.x]\n"),
        &["1:2 unknown-key: unknown section `bilders` [bilders] (did you mean `builders`?)"],
    );
    check(
        with("[zzz]\n"),
        &[
            "1:2 unknown-key: unknown section `zzz` [zzz] (there are: master, database, mq, www, supervision, logs, retention, workers, change-sources, schedulers, builders, notifiers, recipes, secrets)",
        ],
    );
    check(
        with("top = 1\n"),
        &[
            "1:1 unknown-key: unknown section `top` [top] (there are: master, database, mq, www, supervision, logs, retention, workers, change-sources, schedulers, builders, notifiers, recipes, secrets)",
        ],
    );
    check(
        with("[change-sources.r]\nkind = 'git-poller'\n"),
        &["1:17 missing-key: `repository` is missing in `change-sources.r` [r]"],
    );
    check(
        with("[change-sources.r]\nrepository = 'x'\n"),
        &["1:17 missing-key: `kind` is missing in `change-sources.r` [r] (there are: git-poller)"],
    );
    check(
        with("[schedulers.r]\nkind = 'any-brunch'\n"),
        &["2:8 unknown-kind: unknown kind `any-brunch` ['any-brunch'] (did you mean `any-branch`?)"],
    );
    check(with("[schedulers.r]\nkind = 1\n"), &["2:8 wrong-type: expected a string [1]"]);
    check(
        lines("workers = 3\n[builders]\nx = 3\n"),
        &[
            "1:11 wrong-type: expected a table, `[workers.NAME]` [3]",
            "3:1 unused: no scheduler asks the builder `x` for builds [x] (name it in `builders` of a scheduler)",
            "3:5 wrong-type: expected a table, `[builders.x]` [3]",
        ],
    );
}

#[test]
fn types_and_values() {
    check(
        with("[master]\nname = ''\nurl = 'localhost'\ntitle = 3\n"),
        &[
            "2:8 bad-value: a name cannot be empty ['']",
            r#"3:7 bad-value: not an http or https URL ['localhost'] (write it like "http://localhost:8010/")"#,
            "4:9 wrong-type: expected a string, found a whole number [3]",
        ],
    );
    check(
        with(
            "[database]\nurl = 'postgres://g@h/g'\nread-url = 'mariadb://g@h/g'\nconnect-timeout = '0s'\n[mq]\nurl = 'nats://'\n",
        ),
        &[
            "3:12 bad-value: a replica is of the same kind as its database ['mariadb://g@h/g'] (use the url of a replica of the server that `url` names)",
            r#"4:19 bad-value: `connect-timeout` cannot be zero ['0s'] (leave it out, or write a time such as "5s")"#,
            r#"6:7 bad-value: the url of the bus names no server ['nats://'] (write "nats://HOST:4222", say)"#,
        ],
    );
    check(
        with("[database]\nurl = 'oracle://x'\nread-url = 'sqlite://y'\n"),
        &[
            r#"2:7 bad-value: not a database this version knows ['oracle://x'] (use "sqlite://FILE" (relative to data-dir), "postgres://USER@HOST/DATABASE", "mariadb://USER@HOST/DATABASE" or "memory:")"#,
        ],
    );
    check(
        with("[www]\nlisten = 'localhost:80'\nauth = 'open'\nchange-hooks = ['bass']\n"),
        &[
            r#"2:10 bad-value: not an address with a port ['localhost:80'] (did you mean "127.0.0.1:80"?)"#,
            "3:8 unknown-value: unknown value `open` ['open'] (there are: none)",
            "4:17 unknown-value: unknown value `bass` ['bass'] (did you mean `base`?)",
        ],
    );
    check(
        with("[www]\nlisten = '[::]:80'\n"),
        &[
            r#"2:10 open-to-all: with auth = "none" everybody who reaches this address may do everything ['[::]:80'] (listen on 127.0.0.1:80 and put a proxy before it)"#,
        ],
    );
    check(
        with("[supervision]\nintensity = -1\nperiod = 60\nbackoff = { min = '2s', max = '1s' }\n"),
        &[
            "2:13 bad-value: expected a whole number of at least 0 [-1]",
            r#"3:10 bad-value: a duration needs a unit [60] (did you mean "60s"?)"#,
            "4:11 bad-value: `min` (2s) is longer than `max` (1s) [{ min = '2s', max = '1s' }]",
        ],
    );
    check(
        with("[supervision.kinds.build]\nrestart = 'always'\nbackoff = { min = '2s' }\n"),
        &[
            "2:11 unknown-value: unknown value `always` ['always'] (there are: permanent, transient, temporary)",
            "3:1 missing-key: `max` is missing in `supervision.kinds.build.backoff` [backoff]",
        ],
    );
    check(
        with("[supervision.names.'a/b']\nbackoff = { min = '2s', max = '1s' }\n"),
        &["2:11 bad-value: `min` (2s) is longer than `max` (1s) [{ min = '2s', max = '1s' }]"],
    );
    check(
        with(
            "[change-sources.r]\nkind = 'git-poller'\nrepository = ''\ninterval = '0s'\ntimeout = '1 hour'\nbranches = 'a[b'\n",
        ),
        &[
            "3:14 bad-value: it cannot be empty ['']",
            "4:12 bad-value: it cannot be zero ['0s']",
            r#"5:11 bad-value: not a duration ['1 hour'] (write a number with its unit, such as "30s", "20m" or "1h 30m" (us, ms, s, m, h, d, w))"#,
            "6:12 bad-value: bad glob `a[b`: unclosed character class; missing ']' ['a[b']",
        ],
    );
}

#[test]
fn supervision_of_what_is_not_there() {
    check(
        with("[supervision.kinds.biuld]\nintensity = 3\n[supervision.kinds.supervisor]\nintensity = 3\n"),
        &["1:20 unknown-kind: there is no kind of actor called `biuld` [biuld] (did you mean `build`?)"],
    );
    check(
        with(
            "[supervision.names.distribotor]\nintensity = 3\n[supervision.names.'scheduler/']\nintensity = 3\n",
        ),
        &[
            "1:20 unknown-name: no actor is ever called `distribotor` [distribotor] (did you mean `distributor`?)",
            "3:20 unknown-name: no actor is ever called `scheduler/` ['scheduler/'] (did you mean `schedulers`?)",
        ],
    );
    check(
        with(
            "[supervision.names.'scheduler/al']\nintensity = 3\n[supervision.names.'build/7']\ngrace = '1s'\n\
             [workers.far]\npassword = 'x'\n[supervision.names.'local-worker/far']\ngrace = '1s'\n",
        ),
        &[
            "1:20 unknown-name: `scheduler/al` never lives: there is no `al` in [schedulers] ['scheduler/al'] (did you mean `scheduler/all`?)",
            "7:20 unknown-name: the worker `far` is not local: no `local-worker/far` is ever started ['local-worker/far'] (did you mean `local-worker/local`?)",
        ],
    );
}

#[test]
fn supervision_that_cannot_be_meant() {
    check(
        with(
            "[supervision]\nstrategy = 'one-for-all'\nintensity = 0\n[supervision.names.process]\nstrategy = 'rest-for-one'\n",
        ),
        &[],
    );
    check(
        with(
            "[supervision.names.sessions]\nstrategy = 'rest-for-one'\n[supervision.kinds.build]\nstrategy = 'one-for-all'\n",
        ),
        &[
            "2:12 no-group: the children of `sessions` do not rest on each other ['rest-for-one'] (supervisors that take it: root, data-layer, link, process, builders)",
            "4:12 no-group: `build` is an actor: it restarts nobody ['one-for-all'] (supervisors that take it: root, data-layer, link, process, builders)",
        ],
    );
    check(
        with(
            "[supervision]\nrestart = 'temporary'\nperiod = '0s'\nhang-after = '0s'\nbackoff = { min = '0s', max = '0s' }\n",
        ),
        &[
            "2:11 vital-actor: with this as the default, actors that the master cannot do without would not come back ['temporary'] (say it for those that you mean: [supervision.kinds.git-poller])",
            "3:10 bad-value: it cannot be zero: nothing would ever be counted ['0s'] (intensity = 0 lets nothing be restarted)",
            "4:14 bad-value: it cannot be zero: every actor would count as hung ['0s']",
            "5:11 no-pause: restarts follow each other without a pause [{ min = '0s', max = '0s' }]",
        ],
    );
    check(
        with(
            "[supervision.kinds.db-writer]\nrestart = 'temporary'\n[supervision.names.'build/7']\nrestart = 'permanent'\n\
             [supervision.kinds.worker-session]\nintensity = 3\n[supervision.kinds.git-poller]\nrestart = 'temporary'\n\
             backoff = { min = '1s', max = '2s' }\n[supervision.names.builds]\nrestart = 'transient'\n",
        ),
        &[
            "2:11 vital-actor: `db-writer` cannot be temporary: without it nothing can be stored ['temporary'] (write \"permanent\" or \"transient\")",
            "4:11 vital-actor: `build` cannot be permanent: a build is born again until it has ended, and not after that ['permanent'] (write \"transient\")",
            "6:13 no-effect: what is temporary is never restarted [3]",
            "9:11 no-effect: what is temporary is never restarted [{ min = '1s', max = '2s' }]",
            "11:11 no-effect: a supervisor has no `restart` of its own ['transient'] (say it of its children)",
        ],
    );
    check(
        with("[supervision.kinds.notifier]\nhang-after = '2s'\n"),
        &[
            "2:14 too-short: after 2s a scheduler that waits for the database counts as hung ['2s'] (15s or more)",
        ],
    );
}

#[test]
fn workers() {
    check(
        with("[workers.w]\n"),
        &[
            r#"1:10 missing-key: the remote worker `w` has no password [w] (add password = { file = "…" }, or kind = "local" for one that this master starts)"#,
        ],
    );
    check(
        with("[workers.w]\npassword = 'x'\nmax-builds = 0\n"),
        &["3:14 bad-value: expected a whole number of at least 1 [0]"],
    );
    check(
        with("[workers.w]\npassword = { file = 'x', env = 'y' }\n"),
        &[
            r#"2:12 bad-secret: a secret has exactly one source [{ file = 'x', env = 'y' }] (write "…", { file = "PATH" }, { env = "VARIABLE" } or { command = ["PROGRAM", "ARGUMENT"] })"#,
        ],
    );
    check(
        with("[workers.w]\npassword = { vault = 'x' }\n"),
        &[
            r#"2:12 bad-secret: unknown source of a secret `vault` [{ vault = '*' }] (write "…", { file = "PATH" }, { env = "VARIABLE" } or { command = ["PROGRAM", "ARGUMENT"] })"#,
        ],
    );
    check(
        with("[workers.w]\npassword = { env = 'NOT_SET' }\n"),
        &["2:12 bad-secret: the environment variable `NOT_SET` is not set [{ env = 'NOT_SET' }]"],
    );
    check(
        with("[workers.w]\npassword = { file = 'no/such/file' }\n"),
        &[
            "2:12 bad-secret: cannot read the secret's file: No such file or directory (os error 2) [{ file = 'no/such/file' }]",
        ],
    );
    for (secret, why) in [
        ("{ command = 'pass' }", "`command` must be a list of strings, the first a program"),
        ("{ command = [] }", "`command` must be a list of strings, the first a program"),
        (
            "{ command = ['/no/such/program'] }",
            "the secret's command `/no/such/program` cannot be started: No such file or directory (os error 2)",
        ),
        ("{ command = ['false'] }", "the secret's command `false` failed: exit status: 1"),
        ("{ command = ['true'] }", "a secret cannot be empty"),
    ] {
        let found = with(&format!("[workers.w]\npassword = {secret}\n"));
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("2:12 bad-secret: {why} [{secret}]")),
            "{found:?}"
        );
    }
    check(with("[workers.w]\npassword = ''\n"), &["2:12 bad-secret: a secret cannot be empty ['']"]);
    check(
        with("[workers.w]\npassword = 12345\n"),
        &[
            r#"2:12 wrong-type: expected a string, { file = "PATH" }, { env = "VARIABLE" } or { command = ["PROGRAM"] }, found a whole number [*****]"#,
        ],
    );
    check(
        with("[workers.'a:b']\nkind = 'local'\n"),
        &[&format!("1:10 bad-name: {WORKER_NAME} ['a:b'] (call it `a-b`)")],
    );
    check(
        with("[workers.LOCAL]\nkind = 'local'\n"),
        &["4:10 duplicate-name: `local` and `LOCAL` differ only in case [local] (rename one of them)"],
    );
    check(
        with("[workers.w]\nkind = 'local'\npassword = 'x'\n[workers.v]\npassword = 'x'\ndir = 'x'\n"),
        &[
            "3:1 no-effect: a local worker needs no password: the master starts it [password]",
            "6:1 no-effect: `dir` is for local workers only [dir]",
        ],
    );
}

#[test]
fn schedulers() {
    check(
        with("[schedulers.s]\nkind = 'single-branch'\nbuilders = ['b', 'bb']\n"),
        &["3:18 unknown-name: there is no builder `bb` ['bb'] (did you mean `b`?)"],
    );
    check(
        with("[schedulers.s]\nkind = 'single-branch'\nbuilders = 'c'\nfilter = { branch = 3 }\n"),
        &[
            "3:12 unknown-name: there is no builder `c` ['c'] (did you mean `b`?)",
            "4:21 wrong-type: expected a glob or a list of globs, found a whole number [3]",
        ],
    );
    check(
        with("[schedulers.s]\nkind = 'force'\nbuilders = []\n"),
        &[r#"3:12 bad-value: the scheduler `s` has no builders [[]] (name some, or write builders = "*")"#],
    );
    check(
        with("[schedulers.s]\nkind = 'any-branch'\nbuilders = '*'\nfilter = { branch = [], files = '[' }\n"),
        &["4:33 bad-value: bad glob `[`: unclosed character class; missing ']' ['[']"],
    );
    check(
        with("[schedulers.s]\nkind = 'any-branch'\nbuilders = '*'\nfilter = { branch = [] }\n"),
        &["4:21 never-matches: an empty list matches nothing [[]] (leave it out to match everything)"],
    );
    let force = |parameters: &str| {
        with(&format!("[schedulers.s]\nkind = 'force'\nbuilders = '*'\nparameters = [\n{parameters}]\n"))
    };
    check(
        force(
            "{ name = 'a' },\n{ name = 'a', kind = 'int', default = 'x' },\n{ name = '', kind = 'bool', default = 1 },\n",
        ),
        &[
            "6:10 duplicate-name: there are two parameters `a` ['a']",
            "6:39 bad-value: the default must be a whole number ['x']",
            "7:10 bad-name: a parameter needs a name ['']",
            "7:39 bad-value: the default must be true or false [1]",
        ],
    );
    check(
        force(
            "{ name = 'a', kind = 'choice' },\n{ name = 'b', kind = 'choice', choices = ['x'], default = 'y' },\n",
        ),
        &[
            "5:1 missing-key: `a` has no choices [{ name = 'a', kind = 'choice' }]",
            "6:59 bad-value: the default is none of the choices: x ['y']",
        ],
    );
    check(
        force(
            "{ name = 'a', choices = ['x'], multiple = true },\n{ name = 'b', kind = 'bool', regex = 'x' },\n",
        ),
        &[
            "5:15 bad-value: `choices` belongs to parameters of kind choice [choices]",
            "5:32 bad-value: `multiple` belongs to parameters of kind choice [multiple]",
            "6:30 bad-value: `regex` belongs to parameters of kind string or text [regex]",
        ],
    );
    check(
        force("{ name = 'a', regex = '(' },\n{ name = 'b', kind = 'number' },\n"),
        &[
            "5:23 bad-value: bad regular expression: unclosed group ['(']",
            "6:22 unknown-value: unknown value `number` ['number'] (there are: string, text, int, bool, choice)",
        ],
    );
    check(
        force("{ name = 'a', regex = '\\d+', default = '1x' },\n{ name = 'b', default = 3 },\n"),
        &[
            "5:40 bad-value: the default does not match `regex` ['1x']",
            "6:25 bad-value: the default must be a string [3]",
        ],
    );
}

#[test]
fn builders() {
    check(
        with("[builders.x]\n"),
        &["1:11 no-steps: the builder `x` has no steps [x] (begin each step with [[builders.x.steps]])"],
    );
    check(
        with("[builders.x]\nsteps = []\n"),
        &["1:11 no-steps: the builder `x` has no steps [x] (begin each step with [[builders.x.steps]])"],
    );
    check(
        with("[builders.x]\nsteps = 'make'\n"),
        &["2:1 wrong-type: expected a list of steps [steps] (begin each step with [[builders.x.steps]])"],
    );
    check(with("[builders.x]\nsteps = ['make']\n"), &["2:10 wrong-type: expected a table, a step ['make']"]);
    check(
        with("[builders.x]\nworkers = ['locl']\ncollapse = 'always'\nsteps = [{ run = 'true' }]\n"),
        &[
            "2:12 unknown-name: there is no worker `locl` ['locl'] (did you mean `local`?)",
            "3:12 unknown-value: unknown value `always` ['always'] (there are: never)",
        ],
    );
    check(
        with("[builders.x]\nworkers = []\nsteps = [{ run = 'true' }]\n"),
        &[
            "2:11 bad-value: the builder `x` has no workers [[]] (name some, or leave `workers` out for every worker)",
        ],
    );
    check(
        lines("[[builders.x.steps]]\nrun = 'true'\n"),
        &[
            "1:12 unused: no scheduler asks the builder `x` for builds [x] (name it in `builders` of a scheduler)",
            r#"1:12 no-worker: no worker can run this builder's builds: there are no workers [x] (add [workers.local] with kind = "local" for one on this machine)"#,
        ],
    );
    check(
        lines(
            "[workers.w]\nkind = 'local'\n[schedulers.s]\nkind = 'force'\nbuilders = ['x']\n[builders.x]\nworkers = ['v']\nsteps = [{ run = 'true' }]\n",
        ),
        &[
            "1:10 unused: no builder uses the worker `w` [w]",
            "7:12 unknown-name: there is no worker `v` ['v'] (did you mean `w`?)",
        ],
    );
    check(
        with(
            "[workers.idle]\nkind = 'local'\n[builders.x]\nworkers = ['local']\nsteps = [{ run = 'true' }]\n",
        ),
        &[],
    );
}

#[test]
fn steps() {
    check(
        step("name = 'x'\n"),
        &[
            "1:1 missing-key: `builders.x.steps[0]` has neither `run` nor `kind` [[[builders.x.steps]]] (there are: shell, git, set-property)",
        ],
    );
    check(
        step("kind = 'svn'\n"),
        &["2:8 unknown-kind: unknown kind `svn` ['svn'] (there are: shell, git, set-property)"],
    );
    check(
        step("run = ''\n"),
        &[r#"2:7 bad-value: there is nothing to run [''] (write a command, such as `run = "make"`)"#],
    );
    check(
        step("run = []\n"),
        &["2:7 bad-value: there is nothing to run [[]] (the first element names the program)"],
    );
    check(
        step("run = 3\n"),
        &["2:7 wrong-type: expected a script or a list of arguments, found a whole number [3]"],
    );
    check(
        step("run = 'true'\nhalt-on-failre = true\ntimeout = '5'\nwarnings = '*'\n"),
        &[
            "3:1 unknown-key: unknown key `halt-on-failre` in `builders.x.steps[0]` [halt-on-failre] (did you mean `halt-on-failure`?)",
            r#"4:11 bad-value: a duration needs a unit ['5'] (did you mean "5s"?)"#,
            "5:12 bad-value: bad regular expression: repetition operator missing expression ['*']",
        ],
    );
    check(
        step("run = 'true'\ndecode-rc = { x = 'skipped', 3 = 'skiped' }\n"),
        &[
            r#"3:19 bad-value: an exit code is a whole number ['skipped'] (write it as `77 = "skipped"`)"#,
            "3:34 unknown-value: unknown value `skiped` ['skiped'] (did you mean `skipped`?)",
        ],
    );
    check(
        step("kind = 'git'\n"),
        &["1:1 missing-key: `repository` is missing in `builders.x.steps[0]` [[[builders.x.steps]]]"],
    );
    check(
        step("kind = 'git'\nrepository = 'x'\nmode = 'partial'\nshallow = 0\nrun = 'x'\n"),
        &[
            "4:8 unknown-value: unknown value `partial` ['partial'] (there are: incremental, full)",
            "5:11 bad-value: a depth is at least 1 [0] (write `shallow = 1`, or leave it out)",
            "6:1 unknown-key: unknown key `run` in `builders.x.steps[0]` [run] (there are: repository, branch, revision, codebase, mode, method, shallow, name, if, env, workdir, timeout, max-time, halt-on-failure, flunk-on-failure, flunk-on-warnings, warn-on-failure, warn-on-warnings, always-run, hide, kind)",
        ],
    );
    check(
        step("kind = 'git'\nrepository = 'x'\nmethod = 'clobber'\n"),
        &[r#"4:1 no-effect: `method` has an effect only with mode = "full" [method]"#],
    );
    check(
        step("kind = 'set-property'\nproperty = 'x'\n"),
        &["1:1 bad-value: `set-property` needs either `value` or `run` [[[builders.x.steps]]]"],
    );
    check(
        step("kind = 'set-property'\nproperty = 'x'\nvalue = 1\nrun = 'x'\n"),
        &["1:1 bad-value: `set-property` needs either `value` or `run` [[[builders.x.steps]]]"],
    );
}

#[test]
fn expressions() {
    check(
        step("run = \"echo ${{ src.branch\"\n"),
        &["2:13 bad-value: `${{` without its `}}` [${{] (write $${{ for the characters themselves)"],
    );
    check(
        step("run = \"echo '${{ src.branch }}'\"\n"),
        &[
            "2:14 bad-value: inside single quotes the shell would read the variable's name [${{ src.branch }}] (use double quotes, or end the single quotes before the expression)",
        ],
    );
    check(
        step("run = \"echo ${{ sorc.branch }}\"\n"),
        &["2:17 bad-value: unknown name `sorc` [sorc] (did you mean `src`?)"],
    );
    check(
        step("run = \"echo \\\"a\\\" ${{ sorc.branch }}\"\n"),
        &[r#"2:7 bad-value: unknown name `sorc` ["echo \"a\" ${{ sorc.branch }}"] (did you mean `src`?)"#],
    );
    check(
        step("run = '''\nmake\necho ${{ src.branch + }}\n'''\n"),
        &["4:21 bad-value: malformed expression: it ends too early [+]"],
    );
    check(
        step("run = ['echo', '${{ secret.token }}']\n"),
        &[
            "2:21 bad-value: there is no secret `token` [secret.token] (write [secrets.token] with file, env or command)",
        ],
    );
    check(
        step("run = ['echo', '${{ sice(src.branch) }}']\n"),
        &["2:21 bad-value: unknown function `sice` [sice] (did you mean `size`?)"],
    );
    check(
        step("run = 'true'\nenv = { A = '${{ }}', B = '${{ raw(src.branch) }}' }\n"),
        &[
            "3:17 bad-value: an expression is missing [ ]",
            "3:28 bad-value: raw() belongs into a `run` string [${{ raw(src.branch) }}] (leave raw() out: only the shell needs protection)",
        ],
    );
    check(
        step("kind = 'set-property'\nproperty = 'x'\nvalue = ['a', { b = '${{ x }}' }]\n"),
        &["4:26 bad-value: unknown name `x` [x] (there are: prop, src, worker, builder, build, change)"],
    );
}

#[test]
fn rendered_like_a_compiler_does() {
    let text = format!("[[builders.linux.steps]]\nrun = \"make\"\ntimeout = \"20\"\n{WHOLE}");
    let expected = "\
error[bad-value]: a duration needs a unit
 --> greenroom.toml:3:11
  |
3 | timeout = \"20\"
  |           ^^^^
  |
  = help: did you mean \"20s\"?

1 error";
    assert_eq!(faults(&text).render(false), expected);
    assert_eq!(faults(&text).to_string(), expected);
    assert!(faults(&text).render(true).contains("\u{1b}["), "no colours");
}

#[test]
fn as_json_for_programs() {
    let found = faults("[master]\ntitel = 'ä'\n").to_json();
    let expected = serde_json::json!([{
        "severity": "error", "code": "unknown-key", "message": "unknown key `titel` in `master`", "key": "master.titel",
        "file": "greenroom.toml", "line": 2, "column": 1, "end_line": 2, "end_column": 6, "value": "titel", "notes": [],
        "help": "did you mean `title`?",
    }]);
    assert_eq!(found, expected);
}

#[test]
fn a_workers_name_can_name_a_file() {
    for (name, like) in [
        ("../../etc", "etc"),
        ("a/b", "a-b"),
        ("..", "worker"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("w\u{f6}rker", "w-rker"),
    ] {
        let text = format!("[workers.\"{name}\"]\nkind = 'local'\n");
        check(with(&text), &[&format!("1:10 bad-name: {WORKER_NAME} [\"{name}\"] (call it `{like}`)")]);
    }
    for name in ["", "tab\\tbed"] {
        let expected =
            format!("1:10 bad-name: a name cannot be empty or hold control characters [\"{name}\"]");
        check(with(&format!("[workers.\"{name}\"]\nkind = 'local'\n")), &[&expected]);
    }
    check(with("[workers.'_Linux-1.example.org']\nkind = 'local'\n"), &[]);
}

#[test]
fn a_password_in_a_repositorys_url_is_refused_and_not_shown() {
    let words = "exposed-secret: a password in a URL would be shown in logs and lists of processes";
    let help = "(give it to git by a credential helper, or use ssh)";
    let source =
        |url: &str| with(&format!("[change-sources.r]\nkind = 'git-poller'\nrepository = '{url}'\n"));
    let expected = format!("3:14 {words} ['https://ann:*******@x.org/r'] {help}");
    check(source("https://ann:hunter2@x.org/r"), &[&expected]);
    let mut git = step("kind = 'git'\nrepository = 'https://ann:hunter2@x.org/r'\n");
    git.retain(|it| !it.contains("unused"));
    check(git, &[&expected]);
    for url in ["ssh://git@x.org/r", "git@x.org:r", "https://ann@x.org:80/r", "/srv/r"] {
        check(source(url), &[]);
    }
    let text = "[change-sources.r]\nrepository = 'https://ann:hunter2@x.org/r' oops\n";
    assert!(!faults(text).render(false).contains("hunter2"));
}

#[test]
fn conditions_of_schedulers() {
    let filter = |condition: &str| {
        with(&format!(
            "[schedulers.s]\nkind = 'single-branch'\nbuilders = '*'\nfilter = {{ branch = 'main', condition = \"{condition}\" }}\n"
        ))
    };
    let over = "(this condition is over `change`)";
    check(
        filter("change.author.endsWith('@example.org') && change.files.exists(f, f.startsWith('src/'))"),
        &[],
    );
    check(filter("has(change.files) && change.properties.n > 3"), &[]);
    check(
        filter("chang.author == 'x'"),
        &["4:42 bad-value: unknown name `chang` [chang] (did you mean `change`?)"],
    );
    check(
        filter("change.auther == 'x'"),
        &["4:42 bad-value: `change` has no `auther` [change.auther] (did you mean `author`?)"],
    );
    check(
        filter("change.id == 1 || prop.x == 2"),
        &[&format!("4:60 bad-value: there is no `prop` here [prop] {over}")],
    );
    check(
        filter("builder.name == 'b'"),
        &[&format!("4:42 bad-value: there is no `builder` here [builder] {over}")],
    );
    check(
        filter("change.author == 5"),
        &["4:56 bad-value: a string is never equal to a whole number [==] (compare like with like)"],
    );
    check(
        filter("change.files.filter(f, f == 'x')"),
        &[
            "4:42 bad-value: a condition must be true or false, and this is a list [change.files.filter(f, f == 'x')] (compare it with something)",
        ],
    );
    check(filter(""), &["4:41 bad-value: an expression is missing [\"\"]"]);
    let long = format!("change.author == '{}'", "x".repeat(5_000));
    assert!(filter(&long)[0].contains("the expression is longer than 4 KiB"));
    check(
        filter("secret.token == change.author"),
        &[
            "4:42 bad-value: there is no secret `token` [secret.token] (write [secrets.token] with file, env or command)",
        ],
    );
    check(
        with("[schedulers.s]\nkind = 'force'\nbuilders = '*'\nfilter = { condition = 'true' }\n"),
        &[
            "4:1 unknown-key: unknown key `filter` in `schedulers.s` [filter] (there are: builders, button-name, label, reason, parameters, properties, kind)",
        ],
    );
}
