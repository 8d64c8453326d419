//! Makefiles: which targets there are, and which of them a build wants.

use super::project::{Files, Recipe, Step};

/// Targets that do not build anything, though they may stand first.
const NO_BUILD: &[&str] = &[
    "help",
    "test",
    "tests",
    "check",
    "lint",
    "clean",
    "distclean",
    "install",
    "uninstall",
    "run",
    "dev",
    "format",
    "fmt",
];

/// How to build by make.
pub fn recipe(files: &Files) -> Option<Recipe> {
    // In the order in which GNU make looks for them.
    let found = ["GNUmakefile", "makefile", "Makefile"].into_iter().find(|it| files.has(it))?;
    Some(Recipe {
        builder: "make",
        found,
        description: "Builds and tests by make",
        env: &[],
        steps: steps(&targets(&files.text(found))),
    })
}

fn steps(targets: &[String]) -> Vec<Step> {
    let has = |name: &&str| targets.iter().any(|it| it == name);
    let mut steps = Vec::new();
    if let Some(name) = ["all", "build"].into_iter().find(has) {
        steps.push(Step::first("build", format!("make {name}")).warnings("warning:"));
    } else if targets.first().is_some_and(|it| !NO_BUILD.contains(&it.as_str())) {
        steps.push(Step::first("build", "make").warnings("warning:"));
    }
    for name in ["lint"].into_iter().filter(has).chain(["test", "check", "tests"].into_iter().find(has)) {
        steps.push(Step::new(name, format!("make {name}")));
    }
    if steps.is_empty() {
        steps.push(Step::new("make", "make"));
    }
    steps
}

/// The explicit targets of a Makefile, in order.
fn targets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|it| !it.starts_with(['\t', ' ', '#'])) {
        let Some((names, rest)) = line.split_once(':') else { continue };
        // `x := 1` and `x ::= 1` are variables, and so is what has a `=` before the colon.
        if rest.trim_start_matches(':').starts_with('=') || names.contains('=') {
            continue;
        }
        let plain = |it: &&str| {
            !it.starts_with('.') && it.chars().all(|it| it.is_ascii_alphanumeric() || "._-/".contains(it))
        };
        found.extend(names.split_whitespace().filter(plain).map(str::to_owned));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(text: &str) -> Vec<String> {
        steps(&targets(text)).into_iter().map(|it| it.run).collect()
    }

    #[test]
    fn the_targets_that_a_build_wants_are_found() {
        assert_eq!(runs("test:\n\t@echo hi\n"), ["make test"]);
        assert_eq!(
            runs("CC := cc\nprog: a.o\n\t$(CC) -o $@ $<\ncheck: prog\n\t./prog: ok\n"),
            ["make", "make check"]
        );
        assert_eq!(
            runs(".PHONY: all test\nhelp:\nall: x y ## everything\nlint test: all\n"),
            ["make all", "make lint", "make test"]
        );
        assert_eq!(runs("help:\nbuild ::\n%.o: %.c\n"), ["make build"]);
        assert_eq!(runs("X = a:b\n"), ["make"]);
    }
}
