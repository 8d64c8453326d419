//! Where secrets come from, and which there are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use figment::value::{Dict, Value};

use crate::extract::{Parts, Report, dotted};
use crate::fault::Fault;
use crate::mask::MIN_SECRET;
use crate::sections::builders::Builder;
use crate::values::Secret;

/// The section of secrets for expressions.
const SECTION: &str = "secrets";

/// The largest secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;
/// How long a command may take to print a secret.
const COMMAND_TIME: Duration = Duration::from_secs(10);
/// How long all commands of one load may take.
const ALL_COMMANDS_TIME: Duration = Duration::from_secs(60);
/// How often a command that has closed its output is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);
/// What a fault about the form of a secret says.
const FORMS: &str = "\u{1f}write \"…\", { file = \"PATH\" }, { env = \"VARIABLE\" } or { command = [\"PROGRAM\", \"ARGUMENT\"] }";

/// Every secret of a configuration, by its key: what logs must not show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secrets(BTreeMap<String, Secret>);

impl Secrets {
    /// All of them, each value once.
    pub fn values(&self) -> Vec<&Secret> {
        let mut values: Vec<&Secret> = self.0.values().collect();
        values.sort_by(|a, b| a.expose().cmp(b.expose()));
        values.dedup();
        values
    }

    /// The keys at which they stand, such as `workers.w1.password`.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The secret at a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Secret> {
        self.0.get(key)
    }

    /// All of them with their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(key, secret)| (key.as_str(), secret))
    }

    /// A secret of `[secrets.NAME]`.
    pub fn named(&self, name: &str) -> Option<&Secret> {
        self.get(&dotted(&named_at(name)))
    }

    pub(crate) fn add(&mut self, key: String, secret: Secret) {
        self.0.insert(key, secret);
    }
}

fn named_at(name: &str) -> Vec<String> {
    vec![SECTION.to_owned(), name.to_owned()]
}

/// Reads `[secrets.NAME]`, which is used up by that, and gives the names; faulty ones too, so that whoever names them is not at
/// fault.
pub(crate) fn read_named(merged: &mut Value, report: &mut Report<'_>) -> BTreeSet<String> {
    let Value::Dict(_, root) = merged else { return BTreeSet::new() };
    let tables = match root.remove(SECTION) {
        None => return BTreeSet::new(),
        Some(Value::Dict(_, tables)) => tables,
        Some(_) => {
            let fault = Fault::error("wrong-type", "expected a table, `[secrets.NAME]`");
            report.push(&[SECTION.to_owned()], false, fault);
            return BTreeSet::new();
        }
    };
    for (name, value) in &tables {
        let at = named_at(name);
        let word = name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_' || it == '-')
            && name.starts_with(|it: char| it.is_ascii_alphabetic());
        if !word {
            let message =
                "a secret's name has only the letters a to z, digits, `-` and `_`, and begins with a letter";
            report.push(&at, true, Fault::error("bad-name", message));
        }
        let secret = report.read::<Secret>(value, &at, &[]);
        if secret.is_some_and(|it| it.expose().len() < MIN_SECRET) {
            let message = format!("the secret `{name}` is too short to be masked in logs");
            let help = format!("make it at least {MIN_SECRET} characters long");
            report.push(&at, true, Fault::warning("weak-secret", message).help(help));
        }
    }
    tables.into_keys().collect()
}

/// Warns of secrets that nothing uses.
pub(crate) fn check(parts: &Parts, report: &mut Report<'_>) {
    // A builder that could not be read may use any.
    if parts.names.get("builders").is_none_or(|it| it.len() != parts.builders.len())
        || parts.absent.contains_key("builders")
    {
        return;
    }
    let used: BTreeSet<&str> = parts.builders.values().flat_map(Builder::secrets).collect();
    let known: Vec<String> = report.secrets.keys().map(str::to_owned).collect();
    for key in known {
        let unused = |it: &&str| !used.contains(it) && !it.starts_with('"');
        let Some(name) = key.strip_prefix("secrets.").filter(unused) else { continue };
        let help = format!("write ${{{{ secret.{} }}}} in a `run` text or in `env`", name.replace('-', "_"));
        let fault = Fault::warning("unused", format!("no builder uses the secret `{name}`"));
        report.push(&named_at(name), true, fault.help(help));
    }
}

/// Reads secrets from where they are kept.
pub(crate) struct Reader<'a> {
    env: &'a [(String, String)],
    /// When no further command is waited for; begins with the first.
    deadline: Option<Instant>,
}

impl<'a> Reader<'a> {
    pub fn new(env: &'a [(String, String)]) -> Self {
        Reader { env, deadline: None }
    }

    /// Reads what a value says; relative paths are relative to `dir`.
    ///
    /// # Errors
    /// With a message that may hold a help line; never with anything of the secret.
    pub fn read(&mut self, value: &Value, dir: &Path) -> Result<Secret, String> {
        match value {
            Value::String(_, text) => not_empty(text),
            Value::Dict(_, table) => self.source(table, dir),
            _ => Err(format!("this is no secret{FORMS}")),
        }
    }

    fn source(&mut self, table: &Dict, dir: &Path) -> Result<Secret, String> {
        let mut entries = table.iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            return Err(format!("a secret has exactly one source{FORMS}"));
        };
        match (key.as_str(), value.as_str()) {
            ("file", Some(path)) => from_file(&dir.join(path)),
            ("env", Some(name)) => self.variable(name),
            ("file" | "env", None) => Err(format!("`{key}` must be a string{FORMS}")),
            ("command", _) => {
                let arguments = value.as_array().unwrap_or_default();
                let texts: Option<Vec<&str>> = arguments.iter().map(Value::as_str).collect();
                match texts.as_deref() {
                    Some([program, arguments @ ..]) if !program.is_empty() => {
                        self.printed(program, arguments, dir)
                    }
                    _ => Err(format!("`command` must be a list of strings, the first a program{FORMS}")),
                }
            }
            _ => Err(format!("unknown source of a secret `{key}`{FORMS}")),
        }
    }

    fn variable(&self, name: &str) -> Result<Secret, String> {
        match self.env.iter().find(|(known, _)| known == name) {
            Some((_, text)) => not_empty(text),
            None => Err(format!("the environment variable `{name}` is not set")),
        }
    }

    /// What a command prints. Its messages are not repeated: they may hold the secret.
    fn printed(&mut self, program: &str, arguments: &[&str], dir: &Path) -> Result<Secret, String> {
        let all = *self.deadline.get_or_insert_with(|| Instant::now() + ALL_COMMANDS_TIME);
        let deadline = all.min(Instant::now() + COMMAND_TIME);
        let path = if program.contains('/') { dir.join(program) } else { PathBuf::from(program) };
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        if dir.is_dir() {
            command.current_dir(dir);
        }
        let output = run(command, deadline).map_err(|why| {
            format!("the secret's command `{program}` {why}\u{1f}run it by hand to see why; it must print the secret and nothing else")
        })?;
        not_empty(without_line_end(&output))
    }
}

/// Runs a command until it ends or the deadline comes, when it is killed with all that it started.
fn run(mut command: Command, deadline: Instant) -> Result<String, String> {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let outcome = output(&mut child, deadline);
    if outcome.is_err() {
        kill(&mut child);
    }
    outcome
}

fn output(child: &mut std::process::Child, deadline: Instant) -> Result<String, String> {
    let late = || "took too long".to_owned();
    let stdout = child.stdout.take().ok_or("has no output")?;
    let (send, receive) = mpsc::channel();
    // The thread ends when the output does, at the latest by the kill of whatever holds it open.
    std::thread::Builder::new()
        .name("secret".to_owned())
        .spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.take(MAX_SECRET + 1).read_to_end(&mut bytes).map(|_| bytes);
            drop(send.send(read));
        })
        .map_err(|error| format!("cannot be read: {error}"))?;
    let left = deadline.saturating_duration_since(Instant::now());
    let bytes = receive.recv_timeout(left).map_err(|_| late())?;
    let bytes = bytes.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err("printed more than 64 KiB".to_owned());
    }
    let status = loop {
        match child.try_wait().map_err(|error| format!("cannot be waited for: {error}"))? {
            Some(status) => break status,
            None if Instant::now() >= deadline => return Err(late()),
            None => std::thread::park_timeout(LOOK),
        }
    };
    if !status.success() {
        return Err(format!("failed: {status}"));
    }
    String::from_utf8(bytes).map_err(|_| "printed something that is not UTF-8".to_owned())
}

fn kill(child: &mut std::process::Child) {
    #[cfg(unix)]
    if let Ok(id) = i32::try_from(child.id()) {
        // It may have ended already.
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The content of a file without the line end at its end.
fn from_file(path: &Path) -> Result<Secret, String> {
    let fail = |error: std::io::Error| format!("cannot read the secret's file: {error}");
    let metadata = std::fs::metadata(path).map_err(fail)?;
    if metadata.len() > MAX_SECRET || !metadata.is_file() {
        return Err("a secret's file is a plain file of at most 64 KiB".to_owned());
    }
    not_empty(without_line_end(&std::fs::read_to_string(path).map_err(fail)?))
}

fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn not_empty(text: &str) -> Result<Secret, String> {
    if text.is_empty() { Err("a secret cannot be empty".to_owned()) } else { Ok(Secret::new(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, deadline: Duration) -> Result<String, String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        run(command, Instant::now() + deadline)
    }

    #[test]
    fn a_command_is_bounded_in_time_and_output() {
        let minute = Duration::from_secs(60);
        assert_eq!(sh("printf 'a b\\n'; exec >&-", minute).unwrap(), "a b\n");
        assert_eq!(sh("exit 3", minute).unwrap_err(), "failed: exit status: 3");
        assert_eq!(sh("yes", minute).unwrap_err(), "printed more than 64 KiB");
        let begun = Instant::now();
        // A grandchild that holds the output open is ended too.
        assert_eq!(sh("sleep 50 & echo x", Duration::from_millis(50)).unwrap_err(), "took too long");
        assert!(begun.elapsed() < Duration::from_secs(40));
    }
}
