//! The text of a configuration, with comments for people who see one for the first time.

use std::path::Path;

use anyhow::{Context, Result};

use super::project::{Project, Recipe};

/// Writes it.
pub fn write(project: &Project, data_dir: &Path) -> Result<String> {
    let data_dir =
        data_dir.to_str().with_context(|| format!("{} is not a path in UTF-8", data_dir.display()))?;
    let branch = project.branch.as_deref().unwrap_or("main");
    let mut text = format!(
        "\
# What Greenroom builds here, written by `greenroom init`. Change it as you like.
#   greenroom check     says what is wrong with it, all at once
#   greenroom schema    prints its JSON schema, for completion and help in an editor
# What is left out has a default; every key stands in docs/reference/configuration.md.

[master]
title = {title}
data-dir = {data_dir}     # all that is kept: state, logs, checkouts

# The page and the API, for this machine only: http://127.0.0.1:8010/
[www]
listen = \"127.0.0.1:8010\"

# Who runs commands: a worker on this machine, which the master starts. Others connect with a password.
[workers.local]
kind = \"local\"
max-builds = 2     # at the same time

# Where changes come from: this repository is asked for new commits.
[change-sources.repository]
kind = \"git-poller\"
repository = {source}
interval = \"5s\"
# branches = [{branch}, \"release-*\"]     # every branch when left out
",
        title = quoted(&project.name),
        data_dir = quoted(data_dir),
        source = quoted(&project.source),
        branch = quoted(branch),
    );
    if let Some(remote) = project.remote.as_ref().filter(|it| **it != project.source) {
        text.push_str(&format!(
            "# To build what the team pushes, put the remote here and into the steps `git` below:\n# repository = {}\n",
            quoted(remote)
        ));
    }
    text.push_str(
        "
# What a change leads to: builds of all builders, for every branch.
[schedulers.every-commit]
kind = \"any-branch\"
builders = \"*\"

# What people start by hand: the button on the page, `greenroom force`.
[schedulers.force]
kind = \"force\"
builders = \"*\"
",
    );
    for recipe in &project.recipes {
        text.push_str(&builder(recipe, &project.source, branch));
    }
    Ok(text)
}

fn builder(recipe: &Recipe, source: &str, branch: &str) -> String {
    let why = match recipe.found {
        "" => {
            "Nothing was found that says how this is built: put your own commands into the steps.".to_owned()
        }
        found => format!("What a build does, step by step, because of {found}."),
    };
    let name = recipe.builder;
    let mut text = format!("\n# {why}\n[builders.{name}]\ndescription = {}\n", quoted(recipe.description));
    if !recipe.env.is_empty() {
        let env: Vec<String> =
            recipe.env.iter().map(|(key, value)| format!("{key} = {}", quoted(value))).collect();
        text.push_str(&format!("env = {{ {} }}\n", env.join(", ")));
    }
    text.push_str(&format!(
        "\n[[builders.{name}.steps]]\nkind = \"git\"\nrepository = {}\nbranch = {}     # when nobody says which\n",
        quoted(source),
        quoted(branch)
    ));
    for step in &recipe.steps {
        text.push_str(&format!(
            "\n[[builders.{name}.steps]]\nname = {}\nrun = {}\n",
            quoted(&step.name),
            quoted(&step.run)
        ));
        if let Some(regex) = step.warnings {
            text.push_str(&format!("warnings = '{regex}'     # lines that count as warnings\n"));
        }
        if step.halts {
            text.push_str("halt-on-failure = true     # the steps after it need it\n");
        }
    }
    text
}

/// As a TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for it in text.chars() {
        match it {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            it if it.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(it))),
            it => quoted.push(it),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_can_be_quoted() {
        for text in ["", "plain", "a \"b\" \\ c", "tab\tand\nline\u{7f}", "ä €"] {
            let table: toml::Table = format!("x = {}", quoted(text)).parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text));
        }
    }
}
