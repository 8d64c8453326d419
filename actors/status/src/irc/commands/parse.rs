//! What somebody wrote, as a command. Arguments are written as in a shell: `force build linux "a reason"`.

use greenroom_config::IrcAct;

use crate::irc::events::{EventWord, USUAL};
use crate::irc::names::channel_is_valid;

/// How many rows a list has unless told otherwise.
const ROWS: usize = 10;
/// The most that may be asked for.
const MOST_ROWS: usize = 100;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // as `help` tells them
pub enum Request {
    Help(Option<String>),
    List { what: Listed, all: bool, rows: usize },
    Status(Scope),
    Last(Scope),
    Watch(String),
    Notify(Notify),
    Why(String),
    Force(Force),
    Stop { builder: String, number: Option<i64>, reason: String },
    Rebuild { builder: String, number: Option<i64> },
    Pause { worker: String, reason: String },
    Unpause(String),
    Mute(Option<String>),
    Unmute(Option<String>),
    Join(String),
    Leave(Option<String>),
    Version,
}

/// What `list` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Listed {
    Builders,
    Workers,
    Changes,
}

/// One builder, or what is worth seeing of all.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scope {
    Whole,
    All,
    Builder(String),
}

/// `notify …`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Notify {
    List,
    On(Vec<EventWord>),
    /// Empty: all of them.
    Off(Vec<EventWord>),
}

/// `force build …`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Force {
    pub builder: String,
    pub reason: String,
    pub branch: Option<String>,
    pub revision: Option<String>,
    pub project: Option<String>,
    pub repository: Option<String>,
    pub properties: Vec<(String, String)>,
}

/// One command as `help` shows it: the word, its arguments, what it does.
pub type Usage = (&'static str, &'static str, &'static str);

/// All commands.
pub const USAGE: &[Usage] = &[
    ("help", "[COMMAND]", "says what I understand"),
    ("list", "[all|N] builders|workers|changes", "names them, ten unless told otherwise"),
    ("status", "[BUILDER|all]", "what runs and what waits"),
    ("last", "[BUILDER|all]", "how the last build ended"),
    ("watch", "BUILDER", "tells here when its running builds end"),
    ("notify", "on|off|list [EVENT…]", "which events are told here; kept over restarts"),
    ("why", "BUILDER|REQUEST", "why a build request waits"),
    ("force", "build BUILDER [--branch=B] [--revision=R] [--prop NAME=VALUE]… [REASON]", "asks for a build"),
    ("stop", "build BUILDER [NUMBER] [REASON]", "stops running builds"),
    ("rebuild", "BUILDER [NUMBER]", "repeats a build, the last one unless told otherwise"),
    ("pause", "WORKER [REASON]", "lets a worker take no new builds"),
    ("unpause", "WORKER", "lets it take them again"),
    ("mute", "[CHANNEL]", "makes me quiet in a channel"),
    ("unmute", "[CHANNEL]", "lets me speak again"),
    ("join", "CHANNEL", "makes me come to a channel"),
    ("leave", "[CHANNEL]", "makes me go"),
    ("version", "", "says what I am"),
];

impl Request {
    /// Reads what was written.
    ///
    /// # Errors
    /// What is wrong, for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = words(text).ok_or("a quotation mark is not closed")?;
        let mut words = words.iter().map(String::as_str).collect::<Vec<_>>().into_iter();
        let command = words.next().unwrap_or("help").to_ascii_lowercase();
        let words: Vec<&str> = words.collect();
        let one = || one_name(&command, &words);
        let channel = || optional_channel(&command, &words);
        Ok(match command.as_str() {
            "help" | "commands" => Request::Help(words.first().map(|it| it.to_ascii_lowercase())),
            "list" => list(&words)?,
            "status" => Request::Status(scope(&command, &words)?),
            "last" => Request::Last(scope(&command, &words)?),
            "watch" => Request::Watch(one()?),
            "notify" => Request::Notify(notify(&words)?),
            "why" => Request::Why(one()?),
            "force" => Request::Force(force(after_build(&command, &words)?)?),
            "stop" => stop(after_build(&command, &words)?)?,
            "rebuild" => {
                let (builder, number, rest) = build(&command, strip_build(&words))?;
                if !rest.is_empty() {
                    return Err(usage(&command));
                }
                Request::Rebuild { builder, number }
            }
            "pause" => match words.split_first() {
                Some((worker, reason)) => {
                    Request::Pause { worker: (*worker).to_owned(), reason: reason.join(" ") }
                }
                None => return Err(usage(&command)),
            },
            "unpause" => Request::Unpause(one()?),
            "mute" => Request::Mute(channel()?),
            "unmute" => Request::Unmute(channel()?),
            "join" => Request::Join(channel()?.ok_or_else(|| usage(&command))?),
            "leave" | "part" => Request::Leave(channel()?),
            "version" => Request::Version,
            _ => return Err("I do not understand. Say help".to_owned()),
        })
    }

    /// What it needs a permission for, if it does.
    pub fn act(&self) -> Option<IrcAct> {
        Some(match self {
            Request::Force(_) => IrcAct::Force,
            Request::Stop { .. } => IrcAct::Stop,
            Request::Rebuild { .. } => IrcAct::Rebuild,
            Request::Pause { .. } => IrcAct::Pause,
            Request::Unpause(_) => IrcAct::Unpause,
            Request::Mute(_) => IrcAct::Mute,
            Request::Unmute(_) => IrcAct::Unmute,
            Request::Join(_) => IrcAct::Join,
            Request::Leave(_) => IrcAct::Leave,
            Request::Help(_)
            | Request::List { .. }
            | Request::Status(_)
            | Request::Last(_)
            | Request::Watch(_)
            | Request::Notify(_)
            | Request::Why(_)
            | Request::Version => return None,
        })
    }
}

/// The words of a shell, except that `#` begins no comment: channels and builds are written with it.
fn words(text: &str) -> Option<Vec<String>> {
    const STAND_IN: &str = "\u{e000}";
    let words = shlex::split(&text.replace('#', STAND_IN))?;
    Some(words.into_iter().map(|word| word.replace(STAND_IN, "#")).collect())
}

/// How a command is used, as an error.
fn usage(command: &str) -> String {
    let known = USAGE.iter().find(|(word, ..)| *word == command);
    known.map_or_else(|| "Say help".to_owned(), |(word, arguments, _)| format!("usage: {word} {arguments}"))
}

fn one_name(command: &str, words: &[&str]) -> Result<String, String> {
    match words {
        [name] if !name.is_empty() => Ok((*name).to_owned()),
        _ => Err(usage(command)),
    }
}

fn optional_channel(command: &str, words: &[&str]) -> Result<Option<String>, String> {
    match words {
        [] => Ok(None),
        [name] if channel_is_valid(name) => Ok(Some((*name).to_owned())),
        [_] => Err("that is no channel".to_owned()),
        _ => Err(usage(command)),
    }
}

fn scope(command: &str, words: &[&str]) -> Result<Scope, String> {
    match words {
        [] => Ok(Scope::Whole),
        ["all"] => Ok(Scope::All),
        [name] => Ok(Scope::Builder((*name).to_owned())),
        _ => Err(usage(command)),
    }
}

fn list(words: &[&str]) -> Result<Request, String> {
    let (all, rows, what) = match words {
        [what] => (false, ROWS, what),
        ["all", what] => (true, MOST_ROWS, what),
        [count, what] => match count.parse() {
            Ok(rows) if rows > 0 => (false, MOST_ROWS.min(rows), what),
            _ => return Err(usage("list")),
        },
        _ => return Err(usage("list")),
    };
    let what = match *what {
        "builders" => Listed::Builders,
        "workers" => Listed::Workers,
        "changes" => Listed::Changes,
        _ => return Err(usage("list")),
    };
    Ok(Request::List { what, all, rows })
}

fn notify(words: &[&str]) -> Result<Notify, String> {
    let (word, events) = words.split_first().ok_or_else(|| usage("notify"))?;
    let read = || -> Result<Vec<EventWord>, String> {
        let read = |word: &&str| {
            EventWord::parse(word)
                .ok_or_else(|| format!("no such event. There are {}", EventWord::all_words()))
        };
        events.iter().map(read).collect()
    };
    match *word {
        "list" if events.is_empty() => Ok(Notify::List),
        "on" if events.is_empty() => Ok(Notify::On(USUAL.to_vec())),
        "on" => Ok(Notify::On(read()?)),
        "off" => Ok(Notify::Off(read()?)),
        _ => Err(usage("notify")),
    }
}

/// `force` and `stop` are followed by `build`.
fn after_build<'a, 'b>(command: &str, words: &'a [&'b str]) -> Result<&'a [&'b str], String> {
    match words.split_first() {
        Some((&"build", rest)) => Ok(rest),
        _ => Err(usage(command)),
    }
}

fn strip_build<'a, 'b>(words: &'a [&'b str]) -> &'a [&'b str] {
    match words.split_first() {
        Some((&"build", rest)) if !rest.is_empty() => rest,
        _ => words,
    }
}

/// A builder, a number if one follows (`42` or `#42`), and the rest.
fn build<'a, 'b>(
    command: &str,
    words: &'a [&'b str],
) -> Result<(String, Option<i64>, &'a [&'b str]), String> {
    let (builder, rest) = words.split_first().ok_or_else(|| usage(command))?;
    let number = rest.first().and_then(|it| it.strip_prefix('#').unwrap_or(it).parse().ok());
    Ok(((*builder).to_owned(), number, &rest[usize::from(number.is_some())..]))
}

fn stop(words: &[&str]) -> Result<Request, String> {
    let (builder, number, reason) = build("stop", words)?;
    Ok(Request::Stop { builder, number, reason: reason.join(" ") })
}

fn force(words: &[&str]) -> Result<Force, String> {
    let mut force = Force::default();
    let mut plain: Vec<&str> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix("--").filter(|it| !it.is_empty()) else {
            plain.push(word);
            continue;
        };
        // both `--branch=main` and `--branch main`
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, value),
            None => (option, *words.next().ok_or_else(|| format!("--{option} needs a value"))?),
        };
        match name {
            "branch" => force.branch = Some(value.to_owned()),
            "revision" => force.revision = Some(value.to_owned()),
            "project" => force.project = Some(value.to_owned()),
            "repository" => force.repository = Some(value.to_owned()),
            "prop" => force.properties.push(property(value)?),
            // as Buildbot writes it: several with commas
            "props" => {
                for part in value.split(',') {
                    force.properties.push(property(part)?);
                }
            }
            _ => return Err(format!("no such option. {}", usage("force"))),
        }
    }
    let (builder, reason) = plain.split_first().ok_or_else(|| usage("force"))?;
    force.builder = (*builder).to_owned();
    force.reason = reason.join(" ");
    Ok(force)
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a property is written NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Request, String> {
        Request::parse(text)
    }

    #[test]
    fn lists() {
        let list = |what, all, rows| Ok(Request::List { what, all, rows });
        assert_eq!(parse("list builders"), list(Listed::Builders, false, 10));
        assert_eq!(parse("LIST all workers"), list(Listed::Workers, true, 100));
        assert_eq!(parse("list 3 changes"), list(Listed::Changes, false, 3));
        assert_eq!(parse("list 100000000 changes"), list(Listed::Changes, false, 100));
        for bad in ["list", "list 0 changes", "list -1 changes", "list x changes", "list cakes", "list a b c"]
        {
            assert!(parse(bad).unwrap_err().starts_with("usage: list"), "{bad}");
        }
    }

    #[test]
    fn forcing() {
        let wanted = Force {
            builder: "linux x64".into(),
            reason: "please now".into(),
            branch: Some("main".into()),
            revision: Some("abc".into()),
            properties: vec![
                ("a".into(), "1 2".into()),
                ("b".into(), "x=y".into()),
                ("c".into(), String::new()),
            ],
            ..Force::default()
        };
        let text = r#"force build --branch=main --revision abc "linux x64" --prop 'a=1 2' --props=b=x=y,c= please now"#;
        assert_eq!(parse(text), Ok(Request::Force(wanted)));
        for (bad, says) in [
            ("force linux", "usage: force"),
            ("force build", "usage: force"),
            ("force build linux --branch", "--branch needs a value"),
            ("force build linux --dance=1", "no such option"),
            ("force build linux --prop a", "NAME=VALUE"),
            ("force build \"linux", "quotation"),
        ] {
            assert!(parse(bad).unwrap_err().contains(says), "{bad}: {:?}", parse(bad));
        }
    }

    #[test]
    fn stopping_and_repeating() {
        let stop = |number, reason: &str| {
            Ok(Request::Stop { builder: "linux".into(), number, reason: reason.into() })
        };
        assert_eq!(parse("stop build linux"), stop(None, ""));
        assert_eq!(parse("stop build linux #7 too slow"), stop(Some(7), "too slow"));
        assert_eq!(parse("stop build linux too slow"), stop(None, "too slow"));
        let again = |number| Ok(Request::Rebuild { builder: "linux".into(), number });
        assert_eq!(parse("rebuild linux"), again(None));
        assert_eq!(parse("rebuild build linux 7"), again(Some(7)));
        assert!(parse("rebuild").is_err() && parse("rebuild linux 7 8").is_err());
    }

    #[test]
    fn notifying() {
        let on = |events: &[EventWord]| Ok(Request::Notify(Notify::On(events.to_vec())));
        assert_eq!(parse("notify list"), Ok(Request::Notify(Notify::List)));
        assert_eq!(parse("notify on"), on(USUAL));
        assert_eq!(parse("notify on failure recovery"), on(&[EventWord::Failure, EventWord::Recovery]));
        assert_eq!(parse("notify off"), Ok(Request::Notify(Notify::Off(vec![]))));
        assert!(parse("notify on dance").unwrap_err().contains("problem"));
        assert!(parse("notify").is_err());
    }

    #[test]
    fn channels() {
        assert_eq!(parse("mute"), Ok(Request::Mute(None)));
        assert_eq!(parse("join #a"), Ok(Request::Join("#a".into())));
        for bad in ["join", "join a", "join #a,#b", "join '#a QUIT'", "leave #a #b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_changes_something_needs_a_permission() {
        assert_eq!(parse("force build x").unwrap().act(), Some(IrcAct::Force));
        assert_eq!(parse("leave").unwrap().act(), Some(IrcAct::Leave));
        for harmless in
            ["help", "list builders", "status", "last x", "watch x", "notify on", "why 1", "version"]
        {
            assert_eq!(parse(harmless).unwrap().act(), None, "{harmless}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_understood() {
        for (word, ..) in USAGE {
            assert_ne!(parse(word), Err("I do not understand. Say help".to_owned()), "{word}");
        }
        assert_eq!(parse(""), Ok(Request::Help(None)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(force |stop |list |notify |rebuild )?(build )?\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}
