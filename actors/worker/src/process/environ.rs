//! The environment of a command: ours, changed as the master says.

use std::collections::BTreeMap;

use greenroom_protocol::EnvValue;

/// Changes to our own environment, by name; `None` removes.
pub(crate) type Changes = Vec<(String, Option<String>)>;

/// Applies the rules of the protocol to the `env` argument. `own` looks up our own variables.
pub(crate) fn changes(
    env: &[(String, EnvValue)],
    workdir: &str,
    own: impl Fn(&str) -> Option<String>,
) -> Changes {
    let mut changes = Changes::with_capacity(env.len() + 1);
    for (name, value) in env {
        let text = match value {
            EnvValue::Unset => None,
            EnvValue::Text(text) => Some(text.clone()),
            EnvValue::List(texts) => Some(texts.join(":")),
        };
        let text = text.map(|text| match name.as_str() {
            "PYTHONPATH" => expand(&format!("{text}:${{PYTHONPATH}}"), &own),
            _ => expand(&text, &own),
        });
        changes.push((name.clone(), text));
    }
    changes.push(("PWD".to_owned(), Some(workdir.to_owned())));
    changes
}

/// A name or value the operating system cannot take.
pub(crate) fn first_invalid(changes: &Changes) -> Option<&str> {
    let invalid = |(name, value): &&(String, Option<String>)| {
        name.is_empty() || name.contains(['=', '\0']) || value.as_ref().is_some_and(|v| v.contains('\0'))
    };
    changes.iter().find(invalid).map(|(name, _)| name.as_str())
}

/// Replaces each `${NAME}` by our own variable, or nothing if there is none.
fn expand(text: &str, own: &impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start + 2..].find('}') else { break };
        let name = &rest[start + 2..start + 2 + length];
        out.push_str(&rest[..start]);
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            out.push_str(&rest[start..start + 3 + length]);
        } else {
            out.push_str(&own(name).unwrap_or_default());
        }
        rest = &rest[start + 3 + length..];
    }
    out.push_str(rest);
    out
}

/// Our own variable, with U+FFFD for what is not UTF-8.
pub(crate) fn own(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The whole environment of a command, sorted.
pub(crate) fn whole(changes: &Changes) -> BTreeMap<String, String> {
    let mut all = own_all();
    for (name, value) in changes {
        match value {
            Some(value) => drop(all.insert(name.clone(), value.clone())),
            None => drop(all.remove(name)),
        }
    }
    all
}

/// Our own environment, sorted.
pub(crate) fn own_all() -> BTreeMap<String, String> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/w".to_owned()),
            "PYTHONPATH" => Some("/py".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn rules_of_the_protocol() {
        let text = |text: &str| EnvValue::Text(text.to_owned());
        let env = [
            ("A".to_owned(), text("${HOME}/x${NONE}y")),
            ("B".to_owned(), EnvValue::List(vec!["/a".to_owned(), "${HOME}".to_owned()])),
            ("LANG".to_owned(), EnvValue::Unset),
            ("PYTHONPATH".to_owned(), text("/mine")),
            ("C".to_owned(), text("${open ${a-b} $HOME")),
        ];
        let got = changes(&env, "/w", own);
        let some = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let want = vec![
            some("A", "/home/w/xy"),
            some("B", "/a:/home/w"),
            ("LANG".to_owned(), None),
            some("PYTHONPATH", "/mine:/py"),
            some("C", "${open ${a-b} $HOME"),
            some("PWD", "/w"),
        ];
        assert_eq!(got, want);
        assert_eq!(first_invalid(&got), None);
    }

    #[test]
    fn impossible_names_are_found() {
        assert_eq!(first_invalid(&vec![("A=B".to_owned(), None)]), Some("A=B"));
        assert_eq!(first_invalid(&vec![("A".to_owned(), Some("\0".to_owned()))]), Some("A"));
    }
}
