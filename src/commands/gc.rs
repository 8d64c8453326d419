//! `greenroom gc`: a running master removes old history now, or says what would go.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::http;

/// What to do.
#[derive(Args)]
pub struct Options {
    /// The address of the master's page.
    #[arg(long, value_name = "URL", env = "GREENROOM_URL", default_value = "http://127.0.0.1:8010/")]
    master: String,
    /// Only say what would go, by builder.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Asks and prints the answer.
pub fn run(options: &Options) -> Result<ExitCode> {
    let health = http::under(&options.master, "health")?;
    let why = "only a running master removes history: start it, or name its page by --master";
    let id = http::get_any_json(&health).context(why)?["masterid"].as_i64();
    let id = id.with_context(|| format!("{health} does not say which master it is"))?;
    let url = http::under(&options.master, &format!("api/v2/masters/{id}"))?;
    let request =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "gc", "params": { "dry-run": options.dry_run } });
    let answer = http::act_json(&url, &request)?;
    let result = &answer["result"];
    if !result.is_object() {
        match answer["error"]["message"].as_str().or(answer["error"].as_str()) {
            Some(message) => bail!("the master says: {message}"),
            None => bail!("the master's answer was not understood: {answer}"),
        }
    }
    if options.json {
        println!("{result}");
    } else if options.dry_run {
        print!("{}", table(&result["goes"]));
    } else if result["begun"] == true {
        println!("the master begins; `greenroom actors` and its log tell what went");
    } else {
        println!("the master is at it already");
    }
    Ok(ExitCode::SUCCESS)
}

/// What would go, a line a builder.
fn table(goes: &Value) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut text = format!("{:<32} {:>10} {:>14} {:>14}\n", "BUILDER", "BUILDS", "ONLY LOGS OF", "LOG BYTES");
    let mut sums = (0, 0, 0);
    for (name, of) in goes["builders"].as_object().into_iter().flatten() {
        let (builds, logs, bytes) =
            (number(&of["builds"]), number(&of["logs_of_builds"]), number(&of["log_bytes"]));
        text += &format!("{name:<32} {builds:>10} {logs:>14} {bytes:>14}\n");
        sums = (sums.0 + builds, sums.1 + logs, sums.2 + bytes);
    }
    text += &format!("{:<32} {:>10} {:>14} {:>14}\n", "all", sums.0, sums.1, sums.2);
    let (changes, sets) = (number(&goes["changes"]), number(&goes["buildsets"]));
    text += &format!("{changes} changes that no build is about, {sets} buildsets without builds\n");
    text += "nothing was removed; bytes are those of log text before compression\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_go_is_summed_up() {
        let of = |n: u64| json!({ "builds": n, "logs_of_builds": 1, "log_bytes": 10 * n });
        let told = table(&json!({ "builders": { "a": of(2), "b": of(3) }, "changes": 4, "buildsets": 5 }));
        let words: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[2], ["b", "3", "1", "30"]);
        assert_eq!(words[3], ["all", "5", "2", "50"]);
        assert!(told.contains("4 changes") && told.contains("5 buildsets"), "{told}");
    }
}
