//! Every warning, in its exact words, and that what is meant is not warned of.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use greenroom_config::{Fault, load_text};

/// A worker, a builder and a way to ask it, so that only the part under test is warned of.
const WHOLE: &str = "
[workers.local]
kind = 'local'
[schedulers.by-hand]
kind = 'force'
builders = '*'
[[builders.b.steps]]
run = 'true'
";

const POLLER: &str = "[change-sources.repo]\nkind = 'git-poller'\nrepository = 'https://example.org/r.git'\n";

/// The warnings of a text with the rest of a configuration behind it; errors fail the test.
fn warnings(text: &str) -> Vec<Fault> {
    let text = format!("{text}{WHOLE}");
    load_text(&text, Path::new("/srv/ci")).unwrap_or_else(|faults| panic!("{text}\n{faults}")).warnings
}

/// One line a warning: `line:column code: message (help)`, then `note line: message` for each note.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let line = |fault: &Fault| {
        let place = fault.place.as_ref().map(|it| format!("{}:{} ", it.line, it.column)).unwrap_or_default();
        let help = fault.help.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let mut lines = vec![format!("{place}{}: {}{help}", fault.code, fault.message)];
        for note in &fault.notes {
            let place = note.place.as_ref().map(|it| format!(" {}", it.line)).unwrap_or_default();
            lines.push(format!("note{place}: {}", note.message));
        }
        lines
    };
    let found: Vec<String> = warnings(text).iter().flat_map(line).collect();
    assert_eq!(found, expected, "\nfound:\n{}\n", found.join("\n"));
}

fn scheduler(filter: &str) -> String {
    format!("[schedulers.s]\nkind = 'any-branch'\nbuilders = '*'\nfilter = {{ {filter} }}\n")
}

fn steps(text: &str) -> String {
    format!("[[builders.x.steps]]\n{text}")
}

#[test]
fn a_scheduler_to_which_nothing_brings_changes() {
    let unreachable = "1:13 unreachable: nothing brings changes to the scheduler `s` (add a [change-sources.NAME], or let changes in by [www] change-hooks = [\"base\"])";
    check(&scheduler(""), &[unreachable]);
    check(&format!("{}{POLLER}", scheduler("")), &[]);
    check(&format!("{}[www]\nchange-hooks = ['base']\n", scheduler("project = 'p'")), &[]);
}

#[test]
fn a_filter_that_no_change_source_can_satisfy() {
    let poller = |more: &str| format!("{POLLER}{more}");
    let unused = "5:17 unused: no scheduler follows the changes of `repo` (add a scheduler of kind \"any-branch\" or \"single-branch\" whose filter lets them pass)";
    let follows = |filter: &str, more: &str| scheduler(filter) + &poller(more);
    check(
        &follows("branch = 'release-*'", "branches = ['main', 'next']\n"),
        &[
            "4:21 never-matches: no change source brings changes with this branch",
            "note 8: `repo` follows the branches \"main\", \"next\"",
            unused,
        ],
    );
    check(
        &follows("project = 'app'", ""),
        &[
            "4:22 never-matches: no change source brings changes with this project",
            "note 5: `repo` gives the project \"\"",
            unused,
        ],
    );
    check(
        &follows("repository = '*/other.git'", ""),
        &[
            "4:25 never-matches: no change source brings changes with this repository",
            "note 7: `repo` polls the repository \"https://example.org/r.git\"",
            unused,
        ],
    );
    check(
        &follows("category = 'nightly', codebase = 'c'", "codebase = 'c'\n"),
        &[
            "4:23 never-matches: no change source brings changes with this category",
            "note 5: `repo` gives the category \"\"",
            unused,
        ],
    );
    // Each field by itself could be satisfied, by another source.
    let two =
        "[change-sources.two]\nkind = 'git-poller'\nrepository = 'x'\nproject = 'app'\nbranches = 'main'\n";
    let both = format!(
        "{}{}{two}[schedulers.all]\nkind = 'any-branch'\nbuilders = '*'\n",
        scheduler("project = 'app', branch = 'dev'"),
        poller("branches = 'dev'\n")
    );
    check(
        &both,
        &[
            "4:10 never-matches: no change source brings changes that pass the whole filter",
            "note 5: `repo` brings other changes",
            "note 9: `two` brings other changes",
        ],
    );
    for fine in [
        "branch = 'main'",
        "branch = ['x', 'ma*']",
        "repository = '*r.git'",
        "project = ''",
        "files = 'src/**'",
    ] {
        check(&follows(fine, "branches = ['main', 'v[0-9]*']\n"), &[]);
    }
}

#[test]
fn patterns_that_no_name_looks_like() {
    let hook = "[www]\nchange-hooks = ['base']\n";
    let filter = |text: &str| format!("{}{hook}", scheduler(text));
    check(
        &filter("branch = []"),
        &["4:21 never-matches: an empty list matches nothing (leave it out to match everything)"],
    );
    check(
        &filter("branch = ['main', 'refs/heads/next']"),
        &["4:30 never-matches: branches are named without `refs/heads/` (write \"next\")"],
    );
    check(
        &filter("branch = '!main'"),
        &[
            "4:21 never-matches: a `!` negates nothing here: it is taken as a character (name what counts instead; `main` alone matches what this was to leave out)",
        ],
    );
    check(
        &filter("files = ['./src/**', '/Makefile', 'docs/', '!tests/**', 'src/*.c']"),
        &[
            "4:21 never-matches: changed files are named from the top of the repository, without `/` or `./` (write \"src/**\")",
            "4:33 never-matches: changed files are named from the top of the repository, without `/` or `./` (write \"Makefile\")",
            "4:46 never-matches: a directory is no changed file (write \"docs/**\" for everything in it)",
            "4:55 never-matches: a `!` negates nothing here: it is taken as a character (name what counts instead; \"tests/**\" alone matches what this was to leave out)",
        ],
    );
    check(
        &filter("files = []"),
        &["4:20 never-matches: an empty list matches nothing (leave it out to match everything)"],
    );
    let branches = format!("{POLLER}branches = ['refs/heads/*']\n{}", scheduler(""));
    check(&branches, &["4:13 never-matches: branches are named without `refs/heads/` (write \"*\")"]);
}

#[test]
fn what_nothing_refers_to() {
    check(
        POLLER,
        &[
            "1:17 unused: no scheduler follows the changes of `repo` (add a scheduler of kind \"any-branch\" or \"single-branch\" whose filter lets them pass)",
        ],
    );
    check(
        "[schedulers.s]\nkind = 'force'\nbuilders = ['b', 'b']\n",
        &["3:18 duplicate-name: `b` is in this list already"],
    );
}

#[test]
fn parameters_that_their_recipe_never_speaks_of() {
    let recipe = |run: &str| {
        format!(
            "[recipes.r]\nsteps = [{{ run = \"{run}\" }}]\n[recipes.r.parameters]\nx = 1\nx-y = 'a'\n[builders.u]\nrecipe = 'r'\n"
        )
    };
    check(&recipe("make ${{ param.x }} ${{ param.x_y }}"), &[]);
    check(
        &recipe("make ${{ param.x_y }}"),
        &["4:1 unused: the recipe never speaks of its parameter `x` (write ${{ param.x }} where it counts)"],
    );
    check(
        &recipe("make ${{ param.x }}"),
        &[
            "5:1 unused: the recipe never speaks of its parameter `x-y` (write ${{ param.x_y }} where it counts)",
        ],
    );
}

#[test]
fn steps_behind_the_end() {
    let note = "note 1: `builders.x.steps[0]` always fails and ends the build (halt-on-failure)";
    let never =
        "4:1 unreachable: this step never runs (give it always-run = true, or let the step before it go on)";
    for run in ["'exit 3'", "'false'", "['/bin/false']", "'true'\ndecode-rc = { 0 = 'failure' }"] {
        let text =
            steps(&format!("run = {run}\nhalt-on-failure = true\n[[builders.x.steps]]\nrun = 'make'\n"));
        let moved = never.replace("4:1", if run.contains('\n') { "5:1" } else { "4:1" });
        check(&text, &[&moved, note]);
    }
    for fine in [
        "run = 'exit 3'\n[[builders.x.steps]]\nrun = 'make'\n",
        "run = 'exit 3'\nhalt-on-failure = true\n[[builders.x.steps]]\nrun = 'make'\nalways-run = true\n",
        "run = 'exit 3'\nhalt-on-failure = true\ndecode-rc = { 3 = 'warnings' }\n[[builders.x.steps]]\nrun = 'make'\n",
        "run = 'exit 3 || true'\nhalt-on-failure = true\n[[builders.x.steps]]\nrun = 'make'\n",
        "run = 'exit 3'\nhalt-on-failure = true\n",
    ] {
        check(&steps(fine), &[]);
    }
}

#[test]
fn keys_that_change_nothing() {
    check(
        &steps("run = 'make'\nwarn-on-failure = true\n"),
        &["3:1 no-effect: `flunk-on-failure` decides first, and is true unless it says otherwise (add flunk-on-failure = false for a step whose failure is a warning only)"]
            .map(|it| it.replacen("3:1", "3:19", 1)).iter().map(String::as_str).collect::<Vec<_>>(),
    );
    check(
        &steps("run = 'make'\nflunk-on-warnings = true\n"),
        &[
            "3:21 no-effect: this step never ends with warnings (add warnings = 'REGEX' for the lines of output that are warnings, or decode-rc for exit codes)",
        ],
    );
    check(
        &steps("run = 'make'\ntimeout = '2h'\nmax-time = '1h'\n"),
        &["3:11 no-effect: `timeout` (2h) never passes before `max-time` (1h) does (leave one of them out)"],
    );
    check(
        "[builders.x]\nmax-time = '10m'\nsteps = [{ run = 'make', max-time = '1h' }]\n",
        &["3:37 no-effect: the whole build may take 10m only", "note 2: the builder's `max-time`"],
    );
    for fine in [
        "run = 'make'\nwarn-on-failure = true\nflunk-on-failure = false\n",
        "run = 'make'\nwarn-on-warnings = true\nwarnings = 'warning:'\n",
        "run = 'make'\nflunk-on-warnings = true\ndecode-rc = { 2 = 'warnings' }\n",
        "run = 'make'\nmax-time = '1m'\n",
        "run = 'make'\nmax-time = '1h'\ntimeout = '0s'\n",
    ] {
        check(&steps(fine), &[]);
    }
}

#[test]
fn rendered_with_the_other_place() {
    let text = format!("{POLLER}branches = 'main'\n{}", scheduler("branch = 'dev'"));
    let found = warnings(&text);
    let expected = "\
warning[never-matches]: no change source brings changes with this branch
 --> greenroom.toml:8:21
  |
8 | filter = { branch = 'dev' }
  |                     ^^^^^
  |
note: `repo` follows the branches \"main\"
 --> greenroom.toml:4:12
  |
4 | branches = 'main'
  |            ------";
    let rendered = found.iter().find(|it| it.code == "never-matches").unwrap().render(false);
    assert_eq!(rendered, expected, "\n{rendered}\n");
}

#[test]
fn a_condition_that_is_the_same_for_every_change() {
    let with = |condition: &str| format!("{}{POLLER}", scheduler(&format!("condition = \"{condition}\"")));
    check(&with("change.id > 0"), &[]);
    check(
        &with("'a' in ['b']"),
        &[
            "4:24 never-matches: this condition says nothing of the change, and is never true (write enabled = false in the scheduler to switch it off)",
        ],
    );
    check(
        &with("[1].exists(x, x == 1)"),
        &["4:24 no-effect: this condition says nothing of the change, and is always true (leave it out)"],
    );
    check(
        &with("1 / 0 == 1"),
        &["4:24 never-matches: this condition always fails: `1 / 0 == 1`: division by zero of Int(1)"],
    );
}
