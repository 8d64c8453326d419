//! Whatever stands in a file or a string: a clear answer, never a panic, and no value in a script.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use greenroom_config::expr::{Run, Scope};
use greenroom_config::load_text;
use proptest::prelude::*;

/// The pieces that the readers of scripts and expressions care about.
const PIECES: &[&str] = &[
    "${{ src.branch }}",
    "${{ raw('x') }}",
    "${{",
    "}}",
    "$",
    "'",
    "\"",
    "`",
    "\\",
    "(",
    ")",
    "((",
    "))",
    "{",
    "}",
    "<<EOF",
    "<<'E'",
    "<<-",
    "\n",
    "EOF",
    "E",
    "#",
    " ",
    "eval",
    "sh -c",
    "[[",
    "]]",
    "a",
    "ä",
    ";",
    "|",
    "prop.x",
    "+",
    "[",
    "]",
    "1",
    "\t",
    "=",
    "?",
    ":",
    "map(",
    ".",
    ",",
    "!",
    "-",
    "r'",
    "\u{0}",
    "💥",
];

fn script() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..24).prop_map(|pieces| pieces.concat())
}

/// Values of every type, malformed ones too.
const VALUES: &[&str] = &[
    "1",
    "-1",
    "1.5",
    "nan",
    "true",
    "'ä'",
    "[]",
    "[1]",
    "{}",
    "{ a = 1 }",
    "[{ run = 'x' }]",
    "1979-05-27",
    "99999999999999999999",
    "\"\"",
    "[[]]",
    "'''\nx'''",
    "",
    "${{",
    "'${{ x }}'",
    "[{ kind = 'git' }, 3]",
];

const SECTIONS: &[&str] = &[
    "master",
    "www",
    "workers.w",
    "builders.b",
    "schedulers.s",
    "change-sources.c",
    "supervision.kinds.k",
    "x",
];

const KEYS: &[&str] = &[
    "name",
    "url",
    "listen",
    "password",
    "workers",
    "steps",
    "kind",
    "filter",
    "builders",
    "parameters",
    "backoff",
    "env",
    "run",
    "'ä'",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_is_never_part_of_a_script(text in script()) {
        let mut scope = Scope::new();
        scope.set("src", serde_json::json!({"branch": "VALUE"})).unwrap();
        scope.set("prop", serde_json::json!({"x": "VALUE"})).unwrap();
        if let Ok(Run::Script(script)) = Run::try_from(serde_json::Value::from(text))
            && !script.source().contains("raw(")
            && let Ok(rendered) = script.render(&scope)
        {
            prop_assert!(!rendered.script.contains("VALUE"), "{rendered:?}");
        }
    }

    #[test]
    fn any_text_is_answered(
        section in prop::sample::select(SECTIONS),
        key in prop::sample::select(KEYS),
        value in prop::sample::select(VALUES),
        cut in 0usize..120,
    ) {
        let rest = "[builders.b]\nsteps = [{ run = 'x' }]\n";
        let text = format!("[{section}]\n{key} = {value}\npassword = 'hunter2'\n{rest}");
        let text: String = text.chars().take(cut).collect();
        if let Err(faults) = load_text(&text, Path::new("/")) {
            let shown = faults.render(false);
            prop_assert!(shown.starts_with("error[") || shown.starts_with("warning["), "{shown}");
            prop_assert!(!shown.contains("error[internal]"), "{text}\n{shown}");
            prop_assert!(!shown.contains("hunter"), "{text}\n{shown}");
        }
    }
}
