//! `greenroom notify`: who is told, what became of the last messages, and a trial.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::http;

/// How long a trial message is waited for.
const TRIAL: Duration = Duration::from_secs(30);

/// What to do with notifiers.
#[derive(Subcommand)]
pub enum Command {
    /// List the notifiers of a master.
    List(Page),
    /// Show what waits, and what became of the last messages.
    Log(Named),
    /// Send a trial message and say what came of it.
    Test(Named),
}

/// Where the master is.
#[derive(Args)]
pub struct Page {
    /// The address of the master's page.
    #[arg(long, value_name = "URL", env = "GREENROOM_URL", default_value = "http://127.0.0.1:8010/")]
    master: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which notifier.
#[derive(Args)]
pub struct Named {
    /// The notifier's name, as in `[notifiers.NAME]`.
    name: String,
    #[command(flatten)]
    page: Page,
}

/// Runs the command; 1 when a trial message did not arrive.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::List(page) => list(&page),
        Command::Log(named) => log(&named),
        Command::Test(named) => test(&named),
    }
}

fn list(page: &Page) -> Result<ExitCode> {
    let all = rows(page, "api/v2/notifiers", "notifiers")?;
    if page.json {
        println!("{}", Value::Array(all));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<24} {:<16} {:>7}  LAST", "NAME", "KIND", "WAITING");
    for notifier in all {
        let name = notifier["name"].as_str().unwrap_or_default();
        if notifier["masterid"].is_null() {
            println!("{name:<24} {:<16} {:>7}  not configured any more", text(&notifier["kind"]), "-");
            continue;
        }
        let path = format!("api/v2/notifiers/{}/deliveries", segment(name));
        let waiting = total(page, &format!("{path}?state=waiting&limit=1"))?;
        let last = rows(page, &format!("{path}?state__ne=waiting&order=-settled_at&limit=1"), "deliveries")?;
        let last = last.first().map(line).unwrap_or_else(|| "nothing yet".to_owned());
        println!("{name:<24} {:<16} {waiting:>7}  {last}", text(&notifier["kind"]));
    }
    Ok(ExitCode::SUCCESS)
}

fn log(named: &Named) -> Result<ExitCode> {
    let path = format!("api/v2/notifiers/{}/deliveries", segment(&named.name));
    let all = rows(&named.page, &format!("{path}?order=deliveryid"), "deliveries")?;
    if named.page.json {
        println!("{}", Value::Array(all));
        return Ok(ExitCode::SUCCESS);
    }
    for delivery in &all {
        println!("{}", line(delivery));
    }
    if all.is_empty() {
        println!("nothing yet");
    }
    Ok(ExitCode::SUCCESS)
}

fn test(named: &Named) -> Result<ExitCode> {
    let url = http::under(&named.page.master, &format!("api/v2/notifiers/{}", segment(&named.name)))?;
    let answer = http::act_json(&url, &json!({"jsonrpc": "2.0", "id": 1, "method": "test", "params": {}}))?;
    let Some(id) = answer["result"]["deliveryid"].as_i64() else {
        match &answer["error"]["message"] {
            Value::String(message) => bail!("the master says: {message}"),
            _ => match answer["error"].as_str() {
                Some(message) => bail!("the master says: {message}"),
                None => bail!("the master's answer was not understood: {answer}"),
            },
        }
    };
    let path = http::under(&named.page.master, &format!("api/v2/deliveries/{id}"))?;
    let begun = std::time::Instant::now();
    loop {
        let found = http::get_json(&path)?.unwrap_or_default();
        let delivery = &found["deliveries"][0];
        let waits = delivery["state"] == "waiting";
        if !waits || begun.elapsed() >= TRIAL {
            println!("{}", line(delivery));
            let sent = delivery["state"] == "sent";
            return Ok(if sent { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        pause();
    }
}

#[allow(clippy::disallowed_methods, reason = "a command of one thread")]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

fn rows(page: &Page, path: &str, plural: &str) -> Result<Vec<Value>> {
    match http::get_json(&http::under(&page.master, path)?)? {
        Some(mut found) => match found[plural].take() {
            Value::Array(rows) => Ok(rows),
            _ => bail!("the master's answer was not understood"),
        },
        None => bail!("there is no such notifier"),
    }
}

fn total(page: &Page, path: &str) -> Result<i64> {
    let found = http::get_json(&http::under(&page.master, path)?)?.unwrap_or_default();
    Ok(found["meta"]["total"].as_i64().unwrap_or(0))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A delivery as a line, such as `#12 sent 2 min ago  linux #42 failure  → #builds`.
fn line(delivery: &Value) -> String {
    let at = delivery["settled_at"].as_i64().or(delivery["created_at"].as_i64()).unwrap_or(0);
    let mut line = format!(
        "#{} {:<8} {:>8}  {}",
        delivery["deliveryid"],
        text(&delivery["state"]),
        ago(at),
        text(&delivery["subject"])
    );
    if let Some(target) = delivery["target"].as_str().filter(|it| !it.is_empty()) {
        line.push_str(&format!("  to {target}"));
    }
    if let Some(reason) = delivery["reason"].as_str() {
        line.push_str(&format!("  ({reason})"));
    }
    if let Some(attempts) = delivery["attempts"].as_i64().filter(|it| *it > 1) {
        line.push_str(&format!("  {attempts} attempts"));
    }
    line
}

/// How long ago a second was, in words.
fn ago(at: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(0).saturating_sub(at).max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A name as a segment of a path.
fn segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
