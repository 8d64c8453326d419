//! What the codes of faults mean, for `greenroom check --explain` and the reference.

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The word in `error[…]`; stable.
    pub code: &'static str,
    /// What is wrong, why that is a fault, and what to do.
    pub text: &'static str,
}

/// Finds a code.
pub fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|it| it.code == code)
}

/// A code that was probably meant, or all that there are.
pub fn suggest(code: &str) -> String {
    crate::fault::suggest(code, CODES.iter().map(|it| it.code))
}

/// The head of the reference page.
const HEAD: &str = "\
# What `greenroom check` says

`greenroom check` reads everything that a master would read and names all faults and warnings at once. This page is
generated from the program (`greenroom check --explain CODE` says the same of one code).

| exit code | |
|---|---|
| 0 | the configuration can be used (with or without warnings) |
| 1 | it cannot; with `--deny-warnings` also when there is a warning |
| 2 | the command line was not understood |

## For programs: `--json`

One JSON object on one line:

| field | |
|---|---|
| `version` | 1; it grows when a field goes or changes its meaning, not when one is added |
| `ok` | whether the exit code is 0 |
| `errors`, `warnings` | how many there are of each |
| `counts` | `builders`, `workers`, `schedulers`, `change_sources`: how many there are; null when there is an error |
| `faults` | a list, in the order of layers and lines |

Each of the faults:

| field | |
|---|---|
| `severity` | `error` or `warning` |
| `code` | one of the codes below; stable |
| `message` | what is wrong, in a lower-case fragment |
| `key` | the key that it is about, such as `builders.linux.steps[0].timeout`; may be empty |
| `file` | the file's path, `environment` or `--set`; null when it stands nowhere |
| `line`, `column` | where it begins, from 1, columns in characters; null without `file` |
| `end_line`, `end_column` | just behind its end |
| `value` | what stands there, shortened, secrets blotted out |
| `notes` | what explains it: each with `message`, `file`, `line`, `column`, `end_line`, `end_column` |
| `help` | what to do about it, or null |

As annotations of a GitHub workflow, for instance:

```console
$ greenroom check --json | jq -r '.faults[] | \"::\\(.severity) file=\\(.file),line=\\(.line),col=\\(.column)::\\(.message)\"'
```

## Codes
";

/// The reference of all codes, in Markdown; committed as `docs/reference/check.md`.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for it in CODES {
        page.push_str(&format!("\n### `{}`\n\n{}\n", it.code, it.text));
    }
    page
}

const fn code(code: &'static str, text: &'static str) -> Code {
    Code { code, text }
}

/// All codes, by name.
pub const CODES: &[Code] = &[
    code(
        "bad-include",
        "A file cannot be included: it is not there, it includes itself (directly or by others), or too many files are included, or too deep. \
         Names are relative to the file that says them; a name without `*`, `?` or `[` must be a file.",
    ),
    code(
        "bad-name",
        "A name cannot be used as it is. Names of tables cannot be empty or hold control characters; a worker's name also is what it logs in \
         with and names a directory, so that it has only letters, digits, `.`, `_` and `-`. Rename the table, and what refers to it.",
    ),
    code(
        "bad-secret",
        "A secret could not be read: its file is not there or cannot be read, its variable is not set, its command failed, or it is empty. \
         The master would start without it, so this is refused.",
    ),
    code(
        "bad-set",
        "A `--set` is not of the form `KEY=VALUE`, where the key is written as in a file, such as `workers.w1.max-builds`.",
    ),
    code(
        "bad-value",
        "The key exists, but this value cannot be used: it is out of range, malformed, or does not go together with another key of the table. \
         The help line says what would do; the reference lists the form of every key.",
    ),
    code(
        "duplicate-name",
        "The same name is there twice, or two names differ only in case. In keyed tables that is an error, for URLs, variables and directories \
         are made of names; in a list it is a warning, for once would do.",
    ),
    code(
        "exposed-secret",
        "A password stands where others can read it: URLs are shown in logs, on the page and in lists of processes. Give it by a credential \
         helper, a key or a secret.",
    ),
    code(
        "internal",
        "The configuration could not be read for a reason that is not in it. That is a fault of the program: please report it with the text.",
    ),
    code(
        "missing-key",
        "A table lacks a key that it needs and that has no default. In a layered configuration any of the files may give it.",
    ),
    code(
        "never-matches",
        "A filter or a pattern that no change can pass: it is empty, it is written in a way that no name has (`refs/heads/main`, `./src/**`, \
         `!main`), or no change source brings what it waits for. Greenroom compares the patterns of filters with those of the change sources \
         and with the project, repository, codebase and category that they give. A change hook may bring anything, so with one nothing is said.",
    ),
    code(
        "no-effect",
        "A key that changes nothing where it stands: another key decides before it, or the table is of a kind that does not look at it. It is \
         probably not what was meant.",
    ),
    code(
        "no-group",
        "A `strategy` other than one-for-one is for supervisors whose children rest on each other, so that restarting others along with one \
         that ended makes sense. This is none of them; the help line names those that are.",
    ),
    code(
        "no-pause",
        "A backoff whose longest wait is zero: what fails at once is restarted at once, until its supervisor gives up. Some milliseconds \
         cost nothing and spare the machine.",
    ),
    code(
        "no-steps",
        "A builder without steps would build nothing. Give it at least one `[[builders.NAME.steps]]`.",
    ),
    code(
        "no-worker",
        "No worker can run a builder's builds, so that its requests would wait for ever. `[workers.local]` with `kind = \"local\"` is a \
         worker on the master's own machine.",
    ),
    code(
        "notifier",
        "Keys of a notifier that do not go together, such as a user without a password, or a certificate without TLS. The message says which.",
    ),
    code(
        "open-to-all",
        "Whoever reaches the port may do everything as long as nobody is asked who they are. So the port must be one that only this machine \
         reaches; for others put a proxy in front that checks them.",
    ),
    code(
        "syntax",
        "The text is not TOML. Other faults of this file are not looked for until it is: what stands behind a fault of syntax is not certain.",
    ),
    code(
        "too-many",
        "Something multiplies beyond what is meant: a matrix makes at most 256 builders, a pattern of `include` matches at most 1,000 files.",
    ),
    code(
        "too-short",
        "A time so short that what is well would be taken for ill. An actor that waits for the database gives a sign of life every 11 seconds; \
         with a `hang-after` under that it would be ended as hung whenever the database is away.",
    ),
    code(
        "unknown-key",
        "No such key or section. Unknown keys are refused everywhere: a key that is misspelled would silently do nothing.",
    ),
    code("unknown-kind", "The word in `kind` names nothing that this version has."),
    code(
        "unknown-name",
        "Something is referred to by a name that no table bears, such as a builder in a scheduler's `builders`.",
    ),
    code("unknown-value", "The key takes one of a few words, and this is none of them."),
    code(
        "unknown-variable",
        "An environment variable that begins with `GREENROOM_` and holds `__` is a setting, but this one names none, or more than one. \
         Each part between `__` must match a table or key that exists, whatever its case, with `_` for `-`.",
    ),
    code(
        "unreachable",
        "Something that can never happen: a scheduler to which nothing brings changes, or a step behind one that always ends the build.",
    ),
    code(
        "unreadable",
        "A file could not be read: it is not there, its permissions forbid it, it is larger than 16 MiB or no UTF-8.",
    ),
    code(
        "unused",
        "Something is declared that nothing refers to: a builder that no scheduler asks, a worker that no builder uses, a change source whose \
         changes nobody follows. It is harmless, but probably a reference is missing.",
    ),
    code(
        "vital-actor",
        "A restart type that the actor cannot have: without it the master would go on in appearance only, or its life is bound to \
         something (a connection, a build) that says by itself when it ends. Other knobs, such as `backoff` and `intensity`, may be set.",
    ),
    code(
        "weak-secret",
        "A secret of fewer than 6 characters is not masked in logs, for it would blot out words that only look like it. Whoever may read logs may \
         read it there.",
    ),
    code(
        "wrong-type",
        "The value is of another type than the key takes, such as a number where a text is needed.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The codes in the sources: the word after `Fault::error(` or `Fault::warning(`.
    fn used(dir: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                used(&path, into);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let calls = ["error", "warning"].map(|it| format!("Fault::{it}("));
            for rest in calls.iter().flat_map(|it| text.split(it.as_str()).skip(1)) {
                if let Some(rest) = rest.trim_start().strip_prefix('"') {
                    into.insert(rest.split('"').next().unwrap().to_owned());
                }
            }
        }
    }

    #[test]
    fn every_code_is_explained_and_exists() {
        let mut found = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let explained: Vec<&str> = CODES.iter().map(|it| it.code).collect();
        assert_eq!(explained, found.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
