//! `greenroom help`: the subcommands in groups, with examples, as a manual begins.

use std::fmt::Write;

use clap::Command;

/// The groups, in order. A subcommand that is in none stands under "Others".
const GROUPS: &[(&str, &[&str])] = &[
    ("Begin", &["demo", "init", "check"]),
    ("Run", &["master", "worker", "migrate"]),
    ("Keep its database", &["backup", "restore", "copy-db"]),
    ("Ask a running master", &["health", "force", "send-change", "reload", "actors", "notify"]),
    ("Configure", &["config", "schema", "completions"]),
];

const EXAMPLES: &str = "\
Examples:
  greenroom demo                          a live farm to look at, with nothing to set up
  cd my-repository && greenroom init      write a configuration that fits it
  greenroom check && greenroom master     run it: http://127.0.0.1:8010/
  greenroom force                         ask for the first builds, in another shell

Environment:
  GREENROOM_…__…    settings, such as GREENROOM_WWW__LISTEN=127.0.0.1:9000
  RUST_LOG          how much a master logs: error, warn, info, debug

Exit codes: 0 done, 1 failed or found wrong, 2 a command line that is not understood,
70 a master that gave up (its last words say why).
Say `greenroom help COMMAND` for more about one.";

/// Adds the groups and examples.
pub fn grouped(command: Command) -> Command {
    let groups = groups(&command);
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}\n\n{{after-help}}"
    );
    command.help_template(template).after_help(EXAMPLES)
}

fn groups(command: &Command) -> String {
    let named = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let about = |name: &str| {
        let found = command.get_subcommands().find(|it| it.get_name() == name && !it.is_hide_set())?;
        Some(found.get_about().map(ToString::to_string).unwrap_or_default())
    };
    let others: Vec<&str> =
        command.get_subcommands().map(Command::get_name).filter(|it| !named(it)).collect();
    let mut text = String::new();
    for (title, names) in GROUPS.iter().copied().chain([("Others", others.as_slice())]) {
        let lines: Vec<(&str, String)> = names.iter().filter_map(|it| Some((*it, about(it)?))).collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "{title}:");
            for (name, about) in lines {
                let _ = writeln!(text, "  {name:<13} {}", about.trim_end_matches('.'));
            }
            text.push('\n');
        }
    }
    text
}
