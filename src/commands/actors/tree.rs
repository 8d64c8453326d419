//! How the tree of actors is drawn in a terminal.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

/// A cause is shown up to here, in characters.
const CAUSE: usize = 60;
/// The numbers of an actor are shown up to here, in characters.
const NUMBERS: usize = 60;

/// What drawing depends on.
pub struct Look {
    /// With a terminal's colours.
    pub color: bool,
    /// Microseconds UTC.
    pub now: i64,
}

/// Messages a second, by actor.
pub type Rates = HashMap<String, f64>;

/// How many messages each has handled.
pub fn handled(actors: &[Value]) -> HashMap<String, u64> {
    actors.iter().map(|it| (text(it, "name").to_owned(), it["handled"].as_u64().unwrap_or(0))).collect()
}

/// What that makes a second.
pub fn rates(before: &HashMap<String, u64>, now: &HashMap<String, u64>, time: Duration) -> Rates {
    let rate = |name: &String, count: &u64| {
        let more = count.saturating_sub(*before.get(name)?);
        Some((name.clone(), more as f64 / time.as_secs_f64().max(0.001)))
    };
    now.iter().filter_map(|(name, count)| rate(name, count)).collect()
}

fn text<'a>(actor: &'a Value, key: &str) -> &'a str {
    actor[key].as_str().unwrap_or_default()
}

fn number(actor: &Value, key: &str) -> u64 {
    actor[key].as_u64().unwrap_or(0)
}

fn is_supervisor(actor: &Value) -> bool {
    text(actor, "kind") == "supervisor"
}

/// The whole tree, a line an actor.
pub fn render(actors: &[Value], look: &Look, rates: &Rates) -> String {
    let head =
        ["NAME", "KIND", "STATE", "RESTARTS", "QUEUE", if rates.is_empty() { "MESSAGES" } else { "MSG/S" }];
    let mut rows = vec![(head.map(str::to_owned), String::new(), "LAST EXIT · NUMBERS".to_owned())];
    let mut open: Vec<(&Value, String, String)> = actors
        .iter()
        .filter(|it| is_top(it, actors))
        .rev()
        .map(|it| (it, String::new(), String::new()))
        .collect();
    while let Some((actor, own, below)) = open.pop() {
        rows.push(row(actor, &own, look, rates));
        let children: Vec<&Value> =
            actors.iter().filter(|it| it["parent"] == actor["name"] && it["name"] != actor["name"]).collect();
        for (at, child) in children.iter().enumerate().rev() {
            let last = at + 1 == children.len();
            let (turn, line) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            open.push((child, format!("{below}{turn}"), format!("{below}{line}")));
        }
    }
    let mut widths = [0; 6];
    for (cells, ..) in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut drawn = String::new();
    for (cells, paint, rest) in &rows {
        let mut line = String::new();
        for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            // numbers stand to the right
            let cell = if index >= 3 { format!("{pad}{cell}") } else { format!("{cell}{pad}") };
            let painted = index == 2 && look.color && !paint.is_empty();
            let cell = if painted { format!("\x1b[{paint}m{cell}\x1b[0m") } else { cell };
            let _ = write!(line, "{cell}  ");
        }
        line.push_str(rest);
        let _ = writeln!(drawn, "{}", line.trim_end());
    }
    drawn
}

/// A drawing cut to a window of so many columns and lines; the last line says how much is left out.
pub fn fit(drawn: &str, columns: usize, lines: usize) -> String {
    let all: Vec<&str> = drawn.lines().collect();
    // the line below the drawing is where the cursor stands
    let room = lines.saturating_sub(1).max(1);
    let shown = if all.len() > room { room - 1 } else { all.len() };
    let mut fitted: String = all[..shown].iter().map(|line| narrow(line, columns) + "\n").collect();
    if shown < all.len() {
        let more = format!("… {} more: the window is too low for them", all.len() - shown);
        fitted.push_str(&narrow(&more, columns));
        fitted.push('\n');
    }
    fitted
}

/// A line with at most so many characters that are seen: colours take no room.
fn narrow(line: &str, columns: usize) -> String {
    let (mut narrow, mut seen, mut painted) = (String::new(), 0, false);
    let mut chars = line.chars().peekable();
    while let Some(it) = chars.next() {
        if it == '\x1b' {
            let paint: String = chars.by_ref().take_while(|it| *it != 'm').collect();
            painted = paint != "[0";
            narrow.push_str(&format!("\x1b{paint}m"));
        } else if seen + 1 == columns && chars.peek().is_some_and(|it| *it != '\x1b') {
            narrow.push('…');
            break;
        } else {
            narrow.push(it);
            seen += 1;
        }
    }
    if painted {
        narrow.push_str("\x1b[0m");
    }
    narrow
}

fn is_top(actor: &Value, actors: &[Value]) -> bool {
    actor["parent"].is_null() || !actors.iter().any(|it| it["name"] == actor["parent"])
}

fn row(actor: &Value, turn: &str, look: &Look, rates: &Rates) -> ([String; 6], String, String) {
    let name = text(actor, "name");
    let kind = match (is_supervisor(actor), actor["strategy"].as_str()) {
        (true, Some(strategy)) => format!("supervisor, {strategy}"),
        _ => text(actor, "kind").to_owned(),
    };
    let queue = match number(actor, "queue_bound") {
        0 => String::new(),
        bound => format!("{}/{bound}", number(actor, "queue_depth")),
    };
    let handled = match rates.get(name) {
        _ if is_supervisor(actor) => String::new(),
        Some(rate) => format!("{rate:.1}"),
        None => number(actor, "handled").to_string(),
    };
    let own = if actor["own_intensity"] == true { "*" } else { "" };
    let restarts = format!("{}/{}{own}", number(actor, "restarts"), number(actor, "intensity"));
    let mut rest = vec![];
    if let Some(exit) = actor["exits"].as_array().and_then(|it| it.last()) {
        let who = if is_supervisor(actor) { format!("{} ", text(exit, "name")) } else { String::new() };
        rest.push(format!("{} ago {who}{}", ago(exit, look), cause(exit, CAUSE)));
    }
    let numbers = cut(&numbers(&actor["observed"]), NUMBERS);
    rest.extend(Some(numbers).filter(|it| !it.is_empty()));
    let cells = [format!("{turn}{name}"), kind, state(actor, look), restarts, queue, handled];
    (cells, paint(actor).to_owned(), rest.join(" · "))
}

fn state(actor: &Value, look: &Look) -> String {
    let left = actor["until"].as_i64().map_or(0, |until| (until - look.now).max(0));
    match (text(actor, "state"), actor["held_ms"].as_u64()) {
        (_, Some(held)) => format!("blocked {}", span(held)),
        ("backing-off", _) if left > 0 => {
            format!("backing off {}", span(u64::try_from(left / 1000).unwrap_or(0)))
        }
        (state, _) => state.replace('-', " "),
    }
}

fn paint(actor: &Value) -> &'static str {
    match text(actor, "state") {
        _ if !actor["held_ms"].is_null() => "31",
        "running" => "32",
        "failed" => "31",
        _ => "33",
    }
}

fn ago(exit: &Value, look: &Look) -> String {
    let micros = look.now - exit["at"].as_i64().unwrap_or(look.now);
    span(u64::try_from(micros / 1000).unwrap_or(0))
}

/// Milliseconds in the largest fitting unit.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

fn cut(text: &str, length: usize) -> String {
    // one line, and nothing that a terminal would obey
    let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    match text.char_indices().nth(length) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn cause(exit: &Value, length: usize) -> String {
    let (kind, message) = (text(exit, "kind"), text(exit, "message"));
    cut(&if message.is_empty() { kind.to_owned() } else { format!("{kind}: {message}") }, length)
}

fn numbers(observed: &Value) -> String {
    let Some(map) = observed.as_object() else { return String::new() };
    let plain = map.iter().filter(|(_, value)| !value.is_object() && !value.is_array() && !value.is_null());
    let shown: Vec<_> = plain
        .map(|(name, value)| {
            format!("{name} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    shown.join(", ")
}

/// All about one actor.
pub fn render_one(actor: &Value, look: &Look) -> String {
    let mut drawn = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(drawn, "{name:<14} {value}");
        }
    };
    line("name", text(actor, "name").to_owned());
    line("kind", text(actor, "kind").to_owned());
    line("supervised by", text(actor, "parent").to_owned());
    line("state", state(actor, look));
    line("born", format!("{} times", number(actor, "births")));
    let whose = match (is_supervisor(actor), actor["own_intensity"] == true) {
        (true, _) => "granted to its children",
        (false, true) => "granted to it alone",
        (false, false) => "granted by its supervisor to all it holds",
    };
    let (restarts, period) = (number(actor, "restarts"), span(number(actor, "period_ms")));
    line("restarts", format!("{restarts} within {period}; {} {whose}", number(actor, "intensity")));
    if !is_supervisor(actor) {
        let (depth, bound) = (number(actor, "queue_depth"), number(actor, "queue_bound"));
        line("queue", format!("{depth} of {bound}, {} asks in flight", number(actor, "in_flight")));
        line("messages", number(actor, "handled").to_string());
        if let Some(ms) = actor["slowest"]["ms"].as_f64() {
            line("slowest", format!("{} {ms:.1} ms", text(&actor["slowest"], "message")));
        }
        line("stalls", format!("{} of over 100 ms", number(actor, "stalls")));
    }
    line("numbers", numbers(&actor["observed"]));
    drawn.push_str("\npolicy\n");
    for (knob, value) in policy(actor) {
        let origin = text(&actor["origins"], knob);
        let _ = writeln!(
            drawn,
            "  {knob:<14} {value:<20} {}",
            if origin.is_empty() { "built in" } else { origin }
        );
    }
    drawn.push_str("\nlast exits\n");
    let exits = actor["exits"].as_array().map(Vec::as_slice).unwrap_or_default();
    if exits.is_empty() {
        drawn.push_str("  it has never ended\n");
    }
    for exit in exits.iter().rev() {
        let who = if is_supervisor(actor) { format!("{} ", text(exit, "name")) } else { String::new() };
        let back = exit["back_ms"].as_f64().map_or_else(String::new, |it| format!(", back after {it:.1} ms"));
        let lived = span(number(exit, "lived_ms"));
        let _ = writeln!(
            drawn,
            "  {} ago  {who}{}, lived {lived}{back}",
            ago(exit, look),
            cause(exit, usize::MAX)
        );
    }
    drawn
}

/// The knobs in force, as they are called in settings.
fn policy(actor: &Value) -> Vec<(&'static str, String)> {
    let policy = &actor["policy"];
    let mut knobs = vec![
        ("restart", text(policy, "restart").to_owned()),
        ("strategy", text(actor, "strategy").to_owned()),
        ("intensity", number(actor, "intensity").to_string()),
        ("period", span(number(actor, "period_ms"))),
    ];
    if policy.is_object() {
        let backoff = format!("{} to {}", text(policy, "backoff-min"), text(policy, "backoff-max"));
        knobs.push(("backoff", backoff));
        knobs.extend(
            ["healthy-after", "grace", "hang-after", "ask-deadline"]
                .map(|it| (it, text(policy, it).to_owned())),
        );
        knobs.push(("mailbox-bound", number(policy, "mailbox-bound").to_string()));
    }
    knobs.retain(|(_, value)| !value.is_empty());
    knobs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree() -> Vec<Value> {
        let exit = json!({"name": "broker", "kind": "panicked", "message": "out of\nluck", "at": 40_000_000, "birth": 1, "lived_ms": 90_000, "back_ms": 48.25});
        vec![
            json!({"name": "root", "kind": "supervisor", "parent": null, "state": "running", "restarts": 0, "intensity": 5, "period_ms": 60_000, "strategy": "one-for-one", "exits": []}),
            json!({"name": "data-layer", "kind": "supervisor", "parent": "root", "state": "running", "restarts": 1, "intensity": 5, "period_ms": 60_000, "exits": []}),
            json!({"name": "broker", "kind": "broker", "parent": "data-layer", "state": "backing-off", "until": 103_000_000, "restarts": 1, "intensity": 20, "own_intensity": true, "period_ms": 60_000, "exits": [exit], "queue_depth": 3, "queue_bound": 9, "handled": 77, "births": 2, "in_flight": 0, "stalls": 0, "slowest": {"message": "Publish", "ms": 1.25},
                "policy": {"restart": "permanent", "backoff-min": "50ms", "backoff-max": "30s", "grace": "10s"}, "origins": {"grace": "[supervision.kinds.broker]"}, "observed": {"topics": 4, "nested": {}}}),
            json!({"name": "process", "kind": "supervisor", "parent": "root", "state": "running", "restarts": 0, "intensity": 5, "period_ms": 60_000, "exits": []}),
        ]
    }

    const LOOK: Look = Look { color: false, now: 100_000_000 };

    #[test]
    fn the_tree_is_drawn_with_its_branches() {
        let expected = "\
NAME           KIND                     STATE            RESTARTS  QUEUE  MESSAGES  LAST EXIT · NUMBERS
root           supervisor, one-for-one  running               0/5
├─ data-layer  supervisor               running               1/5
│  └─ broker   broker                   backing off 3 s     1/20*    3/9        77  60 s ago panicked: out of luck · topics 4
└─ process     supervisor               running               0/5
";
        assert_eq!(render(&tree(), &LOOK, &Rates::default()), expected);
        let coloured = render(&tree(), &Look { color: true, ..LOOK }, &Rates::default());
        assert!(coloured.contains("\x1b[33mbacking off 3 s\x1b[0m"));
    }

    #[test]
    fn a_drawing_is_cut_to_the_window() {
        let drawn = render(&tree(), &Look { color: true, ..LOOK }, &Rates::default());
        let fitted = fit(&drawn, 54, 5);
        let expected = "\
NAME           KIND                     STATE        …
root           supervisor, one-for-one  \x1b[32mrunning      …\x1b[0m
├─ data-layer  supervisor               \x1b[32mrunning      …\x1b[0m
… 2 more: the window is too low for them
";
        assert_eq!(fitted, expected);
        assert_eq!(
            fit(&drawn, 43, 6).lines().nth(3),
            Some("│  └─ broker   broker                   \x1b[33mba…\x1b[0m")
        );
        assert_eq!(fit(&drawn, 500, 6), drawn, "what fits is left as it is");
        assert_eq!(fit(&drawn, 500, 5).lines().count(), 4);
        assert_eq!(fit("exact\n", 5, 2), "exact\n");
    }

    #[test]
    fn one_actor_is_told_with_where_its_policy_comes_from() {
        let told = render_one(&tree()[2], &LOOK);
        for part in [
            "restarts       1 within 60 s; 20 granted to it alone",
            "grace          10s                  [supervision.kinds.broker]",
            "backoff        50ms to 30s          built in",
            "60 s ago  panicked: out of luck, lived 90 s, back after 48.2 ms",
        ] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
    }

    #[test]
    fn rates_are_of_those_that_lived_before() {
        let before = [("a".to_owned(), 10), ("gone".to_owned(), 1)].into();
        let now = [("a".to_owned(), 30), ("new".to_owned(), 5)].into();
        assert_eq!(rates(&before, &now, Duration::from_secs(2)), [("a".to_owned(), 10.0)].into());
    }
}
