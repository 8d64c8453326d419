//! `greenroom actors`: the live tree of a master's actors, and trouble made on purpose.

mod tree;

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::http;
use tree::{Look, Rates};

/// How often the tree is drawn anew.
const EVERY: Duration = Duration::from_secs(1);
/// How often is looked whether an actor is back.
const LOOK: Duration = Duration::from_millis(20);
/// An actor that is not back by then is reported as away.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Which tree, and how it is shown.
#[derive(Args)]
pub struct Options {
    /// The master's page.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8010/", global = true)]
    master: String,
    /// Print what the API says.
    #[arg(long, global = true)]
    json: bool,
    /// Draw the tree anew every second, cut to the window, until Ctrl-C.
    #[arg(long, short)]
    watch: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Show one actor: its numbers, its policy and where that comes from, its last exits.
    Show {
        /// Its name, as in the tree.
        name: String,
    },
    /// End an actor as if it had crashed, and wait until it is back: a rehearsal, counted as a restart.
    Kill {
        /// Its name, as in the tree.
        name: String,
    },
    /// Give an actor a new birth at once: not counted, without backoff.
    Restart {
        /// Its name, as in the tree.
        name: String,
    },
}

/// Shows the tree, or acts on an actor.
pub fn run(options: Options) -> Result<ExitCode> {
    let Options { master, json, watch, what } = &options;
    match what {
        None if *watch => watched(master, *json),
        None => {
            let actors = all(master)?;
            match json {
                true => say(&pretty(&Value::Array(actors))?),
                false => say(&tree::render(&actors, &look(), &Rates::default())),
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(What::Show { name }) => {
            let actor = one(master, name)?.with_context(|| unknown(master, name))?;
            match json {
                true => say(&pretty(&actor)?),
                false => say(&tree::render_one(&actor, &look())),
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(What::Kill { name }) => act(master, "kill-actor", name, *json),
        Some(What::Restart { name }) => act(master, "restart-actor", name, *json),
    }
}

/// Prints; a reader that has gone away wants no more.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).context("failed to write JSON")
}

fn look() -> Look {
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Look { color, now: i64::try_from(now.as_micros()).unwrap_or(i64::MAX) }
}

fn all(master: &str) -> Result<Vec<Value>> {
    let url = http::under(master, "api/v2/actors")?;
    match http::get_json(&url)? {
        Some(mut answer) => match answer["actors"].take() {
            Value::Array(actors) => Ok(actors),
            _ => bail!("the answer of {url} was not understood"),
        },
        None => bail!("{url} is not there: is that a master's page?"),
    }
}

fn one(master: &str, name: &str) -> Result<Option<Value>> {
    let name = name.replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace(' ', "%20");
    let name = match name.split_once('/') {
        Some((kind, rest)) => format!("{kind}/{}", rest.replace('/', "%2F")),
        None => name,
    };
    let answer = http::get_json(&http::under(master, &format!("api/v2/actors/{name}"))?)?;
    Ok(answer.map(|mut it| it["actors"][0].take()))
}

fn unknown(master: &str, name: &str) -> String {
    let actors = all(master).unwrap_or_default();
    let names = actors.iter().filter_map(|it| it["name"].as_str());
    let help = greenroom_config::supervised::nearest(name, names);
    let help = help.unwrap_or_else(|| "`greenroom actors` lists them".to_owned());
    format!("there is no actor called `{name}`: {help}")
}

fn watched(master: &str, json: bool) -> Result<ExitCode> {
    let terminal = std::io::stdout().is_terminal();
    let clear = if terminal { "\x1b[H\x1b[2J" } else { "" };
    let mut before: Option<(Instant, HashMap<String, u64>)> = None;
    loop {
        let text = match all(master) {
            Ok(actors) if json => serde_json::to_string(&actors).context("failed to write JSON")?,
            Ok(actors) => {
                let (at, handled) = (Instant::now(), tree::handled(&actors));
                let rates = before.as_ref().map(|(then, old)| tree::rates(old, &handled, at - *then));
                before = Some((at, handled));
                tree::render(&actors, &look(), &rates.unwrap_or_default())
            }
            Err(error) => format!("{error:#}; trying again"),
        };
        // looked at each time: windows are made larger and smaller
        let window = terminal_size::terminal_size().filter(|_| terminal && !json);
        let text = match window {
            Some((width, height)) => tree::fit(&text, width.0.into(), height.0.into()),
            None => text,
        };
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{clear}{}", text.trim_end()).and_then(|()| out.flush()).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
        drop(out);
        wait(EVERY);
    }
}

#[allow(clippy::disallowed_methods, reason = "a command of one thread")]
fn wait(time: Duration) {
    sleep(time);
}

fn act(master: &str, action: &str, name: &str, json: bool) -> Result<ExitCode> {
    let before = one(master, name)?.with_context(|| unknown(master, name))?;
    let url = http::under(master, &format!("api/v2/masters/{}", before["masterid"]))?;
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": action, "params": {"name": name}});
    let answer = http::act_json(&url, &request)?;
    let done = &answer["result"];
    if done.is_null() {
        let error = &answer["error"]["message"];
        let why = error["name"].as_str().or(error.as_str());
        bail!(
            "{}",
            why.map_or_else(|| format!("the master's answer was not understood: {answer}"), str::to_owned)
        );
    }
    let births = done["births"].as_u64().unwrap_or_default();
    if !json {
        say(&format!("{name} (birth {births}) was ended"));
    }
    if done["restart"] == "temporary" {
        say("it is temporary: it does not come back by itself");
        return Ok(ExitCode::SUCCESS);
    }
    let Some(actor) = back(master, name, births)? else {
        let seconds = BACK_WITHIN.as_secs();
        bail!("{name} is not back after {seconds} s: look at `greenroom actors show {name}`");
    };
    match json {
        true => say(&pretty(&actor)?),
        false => {
            let exit = actor["exits"].as_array().and_then(|it| it.last());
            let took = exit.and_then(|it| it["back_ms"].as_f64()).map(|it| format!(" after {it:.1} ms"));
            say(&format!("{name} runs again (birth {}){}", actor["births"], took.unwrap_or_default()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until a later birth runs.
fn back(master: &str, name: &str, births: u64) -> Result<Option<Value>> {
    let begun = Instant::now();
    while begun.elapsed() < BACK_WITHIN {
        if let Some(actor) = one(master, name)?
            && actor["state"] == "running"
            && actor["births"].as_u64().is_some_and(|it| it > births)
        {
            return Ok(Some(actor));
        }
        wait(LOOK);
    }
    Ok(None)
}
