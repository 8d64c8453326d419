//! `greenroom force`: builds by hand.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::http;

/// What to build.
#[derive(Args)]
pub struct Options {
    /// The builders; all of the scheduler's if none is named.
    builders: Vec<String>,
    /// The master's page.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8010/")]
    master: String,
    /// The force scheduler.
    #[arg(long, default_value = "force")]
    scheduler: String,
    /// Why.
    #[arg(long, default_value = "")]
    reason: String,
    /// Which branch.
    #[arg(long)]
    branch: Option<String>,
    /// Which revision.
    #[arg(long)]
    revision: Option<String>,
    /// A parameter of the scheduler: NAME=VALUE.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
}

/// Asks and prints the build requests.
pub fn run(options: Options) -> Result<ExitCode> {
    let mut params = serde_json::Map::new();
    for param in &options.params {
        let Some((name, value)) = param.split_once('=') else { bail!("--param {param}: write NAME=VALUE") };
        params.insert(name.to_owned(), value.into());
    }
    params.insert("reason".to_owned(), options.reason.into());
    for (name, value) in [("branch", options.branch), ("revision", options.revision)] {
        if let Some(value) = value {
            params.insert(name.to_owned(), value.into());
        }
    }
    if !options.builders.is_empty() {
        params.insert("builderNames".to_owned(), json!(options.builders));
    }
    let url = http::under(&options.master, &format!("api/v2/forceschedulers/{}", options.scheduler))?;
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "force", "params": params});
    let answer = http::act_json(&url, &request)?;
    match (&answer["result"], &answer["error"]["message"]) {
        (Value::Array(result), _) if result.len() == 2 => {
            println!("buildset {}", result[0]);
            for (builder, request) in result[1].as_object().into_iter().flatten() {
                println!("build request {request} of builder {builder}");
            }
            Ok(ExitCode::SUCCESS)
        }
        (_, Value::Object(fields)) => {
            for (field, fault) in fields {
                eprintln!("{field}: {}", fault.as_str().unwrap_or_default());
            }
            Ok(ExitCode::FAILURE)
        }
        (_, Value::String(message)) => bail!("the master says: {message}"),
        _ => bail!("the master's answer was not understood: {answer}"),
    }
}
