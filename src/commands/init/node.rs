//! package.json: which package manager installs, and which scripts a build wants.

use super::project::{Files, Recipe, Step};

/// Scripts that a build runs, in this order, if they are there.
const SCRIPTS: &[&str] = &["lint", "check", "typecheck", "type-check", "build", "test"];

/// What `npm init` writes: a test that always fails.
const NO_TEST: &str = "no test specified";

/// How to build a package of Node.js.
pub fn recipe(files: &Files) -> Option<Recipe> {
    let found = "package.json";
    if !files.has(found) {
        return None;
    }
    let (run, install) = manager(files);
    let mut steps = vec![Step::first("install", install)];
    let package: serde_json::Value = serde_json::from_str(&files.text(found)).unwrap_or_default();
    for name in SCRIPTS {
        let script = package["scripts"][name].as_str();
        if script.is_some_and(|it| !it.contains(NO_TEST)) {
            let mut step = Step::new(*name, format!("{run} {name}"));
            step.halts = *name == "build";
            steps.push(step);
        }
    }
    Some(Recipe {
        builder: "node",
        found,
        description: "Installs, checks, builds and tests the package",
        env: &[("CI", "true")],
        steps,
    })
}

/// How scripts are run, and what installs, by the kind of lock file.
fn manager(files: &Files) -> (&'static str, &'static str) {
    if files.has("pnpm-lock.yaml") {
        ("pnpm run", "pnpm install --frozen-lockfile")
    } else if files.has("yarn.lock") && files.has(".yarnrc.yml") {
        ("yarn run", "yarn install --immutable")
    } else if files.has("yarn.lock") {
        ("yarn run", "yarn install --frozen-lockfile")
    } else if files.has("bun.lock") || files.has("bun.lockb") {
        ("bun run", "bun install --frozen-lockfile")
    } else if files.has("package-lock.json") || files.has("npm-shrinkwrap.json") {
        ("npm run", "npm ci")
    } else {
        ("npm run", "npm install")
    }
}
