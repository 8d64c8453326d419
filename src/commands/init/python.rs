//! pyproject.toml: which tool installs, and what runs the tests.

use super::project::{Files, Recipe, Step};

/// Optional dependencies and groups that tests need, as projects call them.
const FOR_TESTS: &[&str] = &["test", "tests", "testing", "dev"];

/// How to build a Python project.
pub fn recipe(files: &Files) -> Option<Recipe> {
    let found = "pyproject.toml";
    if !files.has(found) {
        return None;
    }
    Some(Recipe {
        builder: "python",
        found,
        description: "Installs and tests the Python project",
        env: &[("PYTHONUNBUFFERED", "1")],
        steps: steps(files, &files.text(found)),
    })
}

fn steps(files: &Files, text: &str) -> Vec<Step> {
    let project: toml::Table = text.parse().unwrap_or_default();
    let pytest = text.contains("pytest");
    let test = if pytest { "pytest" } else { "python -m unittest discover" };
    if files.has("uv.lock") {
        return vec![
            Step::first("install", "uv sync --locked --all-extras"),
            Step::new("test", format!("uv run {test}")),
        ];
    }
    if files.has("poetry.lock") {
        return vec![
            Step::first("install", "poetry install --all-extras"),
            Step::new("test", format!("poetry run {test}")),
        ];
    }
    let at = |path: &[&str]| {
        path.iter().try_fold(&project, |table, name| table.get(*name).and_then(toml::Value::as_table))
    };
    let extra = at(&["project", "optional-dependencies"])
        .and_then(|it| FOR_TESTS.iter().find(|name| it.contains_key(**name)));
    let group =
        at(&["dependency-groups"]).and_then(|it| FOR_TESTS.iter().find(|name| it.contains_key(**name)));
    let mut what = String::new();
    if project.contains_key("project") || project.contains_key("build-system") {
        what.push_str(&extra.map_or(" -e .".to_owned(), |extra| format!(" -e '.[{extra}]'")));
    }
    what.push_str(&group.map_or(String::new(), |group| format!(" --group {group}")));
    if pytest && extra.is_none() && group.is_none() {
        what.push_str(" pytest");
    }
    let mut steps = vec![Step::first("environment", "python3 -m venv .venv")];
    if !what.is_empty() {
        steps.push(Step::first("install", format!(".venv/bin/python -m pip install{what}")));
    }
    let module = if pytest { "pytest" } else { "unittest discover" };
    steps.push(Step::new("test", format!(".venv/bin/python -m {module}")));
    steps
}
