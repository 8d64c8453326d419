//! `greenroom config`: the configuration of a running master, version by version.

mod history;
mod rollback;
mod show;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::http;

/// How long an answer is waited for: whoever asks again with the same key gets the same answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);

/// What can be done with configurations.
#[derive(Subcommand)]
pub enum Command {
    /// Print the configuration of files, variables and flags as it is after all layers; secrets are `***`.
    Show(show::Options),
    /// List the versions that were in force, newest first.
    History(history::Options),
    /// Put an earlier version in force again, under a new number. The files on disk are not changed.
    Rollback(rollback::Options),
}

/// Which master.
#[derive(Args)]
pub struct MasterPage {
    /// The master's page.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8010/")]
    master: String,
}

impl MasterPage {
    /// A path below its page.
    fn under(&self, path: &str) -> Result<String> {
        http::under(&self.master, path)
    }

    /// The id of the master that answers there.
    fn id(&self) -> Result<i64> {
        let url = self.under("health")?;
        let health = http::get_any_json(&url)?;
        health["masterid"].as_i64().with_context(|| format!("{url} does not say which master it is"))
    }
}

/// Runs a command.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Show(options) => show::run(options),
        Command::History(options) => history::run(&options),
        Command::Rollback(options) => rollback::run(&options),
    }
}

/// Asks a master for another configuration, and prints what came of it.
pub fn ask_for_configuration(master: &MasterPage, method: &str, params: Value) -> Result<ExitCode> {
    let url = master.under(&format!("api/v2/masters/{}", master.id()?))?;
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let key = new_key()?;
    let until = Instant::now() + ANSWER_WITHIN;
    let answer = loop {
        let (status, answer) = http::post_json_once(&url, &request, &key)?;
        // it goes on; the same key asks for its answer
        if status != 504 || Instant::now() > until {
            break answer;
        }
    };
    match (&answer["result"], &answer["error"]["message"]) {
        (Value::Object(_), _) => {
            tell(&answer["result"]);
            Ok(ExitCode::SUCCESS)
        }
        (_, Value::Object(faults)) => {
            eprintln!("{}", faults.get("text").and_then(Value::as_str).unwrap_or_default().trim_end());
            eprintln!("\nnothing was changed: the configuration in force stays");
            Ok(ExitCode::FAILURE)
        }
        (_, Value::String(message)) => bail!("the master says: {message}"),
        _ => bail!("the master's answer was not understood: {answer}"),
    }
}

fn tell(told: &Value) {
    let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    let warnings = text("warnings");
    if !warnings.is_empty() {
        eprintln!("{}", warnings.trim_end());
    }
    print!("{}", text("text"));
    let number = &told["number"];
    match (told["changed"].as_bool(), told["dry_run"].as_bool()) {
        (Some(false), _) => println!("nothing differs from configuration {number}, which is in force"),
        (_, Some(true)) => println!("nothing was changed: configuration {number} is in force"),
        _ => println!("configuration {number} is in force; before it was {}", told["previous"]),
    }
    for key in told["next_start"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("`{key}` takes effect at the next start");
    }
    for note in told["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("{note}");
    }
}

fn new_key() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
