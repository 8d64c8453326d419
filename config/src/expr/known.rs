//! What is known while a configuration loads: the secrets there are, and the values of `param` and `matrix`.
//!
//! Expressions are read deep within serde, which passes nothing on; so this lies beside the thread that loads.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::program::NAMES;
use super::shell::Shell;
use crate::fault::{did_you_mean, suggest};

/// The name of secrets in expressions.
pub(super) const SECRET: &str = "secret";
/// Names whose values are known when the configuration loads.
pub(super) const CONSTANTS: &[&str] = &["param", "matrix"];

/// The fields of a name of which all fields are known.
const FIELDS: &[(&str, &[&str])] = &[
    (
        "change",
        &[
            "id",
            "author",
            "committer",
            "comments",
            "branch",
            "revision",
            "category",
            "files",
            "repository",
            "project",
            "codebase",
            "properties",
        ],
    ),
    ("worker", &["name", "id", "basedir", "system", "properties"]),
    ("builder", &["name", "id", "tags", "project"]),
    ("build", &["id", "number", "results", "state", "scheduler", "reason"]),
];

/// The fields of `src`. It has those of codebases beside them, by names that are not known here.
const SOURCE_FIELDS: &[&str] = &["branch", "revision", "repository", "project", "codebase"];

/// The values of [`CONSTANTS`] in one builder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constants {
    pub param: Option<Json>,
    pub matrix: Option<Json>,
    /// All keys of the matrix; another of its builders may have those that this one has not.
    pub matrix_keys: BTreeSet<String>,
}

impl Constants {
    fn value(&self, name: &str) -> Option<&Json> {
        match name {
            "param" => self.param.as_ref(),
            "matrix" => self.matrix.as_ref(),
            _ => None,
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.param.is_none() && self.matrix.is_none()
    }
}

#[derive(Clone, Default)]
struct Known {
    /// None: nothing is known, and every name may be one.
    secrets: Option<BTreeSet<String>>,
    constants: Constants,
    /// What reads the script.
    shell: Option<Shell>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

fn within<T>(change: impl FnOnce(&mut Known), work: impl FnOnce() -> T) -> T {
    let before = KNOWN.with_borrow_mut(|known| {
        let before = known.clone();
        change(known);
        before
    });
    let done = work();
    KNOWN.set(before);
    done
}

/// Runs `work`, in which expressions may speak of these secrets and no others.
pub(crate) fn with_secrets<T>(secrets: BTreeSet<String>, work: impl FnOnce() -> T) -> T {
    within(|known| known.secrets = Some(secrets), work)
}

/// Runs `work`, in which expressions see these values of `param` and `matrix`.
pub(crate) fn with_constants<T>(constants: Constants, work: impl FnOnce() -> T) -> T {
    within(|known| known.constants = constants, work)
}

/// Runs `work`, in which scripts are for this shell.
pub(crate) fn with_shell<T>(shell: Option<Shell>, work: impl FnOnce() -> T) -> T {
    within(|known| known.shell = shell, work)
}

pub(super) fn shell() -> Option<Shell> {
    KNOWN.with_borrow(|known| known.shell)
}

pub(super) fn constants() -> Vec<(&'static str, Json)> {
    KNOWN.with_borrow(|known| {
        let value = |name: &&'static str| Some((*name, known.constants.value(name)?.clone()));
        CONSTANTS.iter().filter_map(value).collect()
    })
}

pub(super) fn is_here(name: &str) -> bool {
    KNOWN.with_borrow(|known| known.constants.value(name).is_some())
}

pub(super) fn where_is(name: &str) -> &'static str {
    match name {
        "param" => "it holds the parameters of a recipe, in its steps and keys",
        _ => "it holds the axes of a builder with [builders.NAME.matrix]",
    }
}

/// All names that can stand here.
pub(super) fn names() -> Vec<&'static str> {
    let here = CONSTANTS.iter().filter(|it| is_here(it));
    NAMES.iter().chain(here).copied().collect()
}

/// The name of a secret as `[secrets]` has it, or what to do about it.
pub(super) fn secret(name: &str) -> Result<String, String> {
    KNOWN.with_borrow(|known| match &known.secrets {
        None => Ok(name.to_owned()),
        Some(secrets) => {
            let same = |it: &&String| it.as_str() == name || it.replace('-', "_") == name;
            secrets.iter().find(same).cloned().ok_or_else(|| match secrets.is_empty() {
                true => format!("write [secrets.{name}] with file, env or command"),
                false => suggest(name, secrets.iter().map(String::as_str)),
            })
        }
    })
}

/// Whether a name has a field, or what to do about it.
pub(super) fn field(name: &str, field: &str) -> Result<(), String> {
    if let Some((_, fields)) = FIELDS.iter().find(|it| it.0 == name) {
        return if fields.contains(&field) { Ok(()) } else { Err(suggest(field, fields.iter().copied())) };
    }
    if name == "src" {
        let meant = Some(field).filter(|it| !SOURCE_FIELDS.contains(it));
        let meant = meant.and_then(|it| did_you_mean(it, SOURCE_FIELDS.iter().copied()));
        return meant.map_or(Ok(()), |it| Err(format!("{it} A codebase of that name is src['{field}']")));
    }
    KNOWN.with_borrow(|known| {
        let Some(Json::Object(values)) = known.constants.value(name) else { return Ok(()) };
        let more = known.constants.matrix_keys.iter().filter(|_| name == "matrix");
        let keys = values.keys().chain(more).map(String::as_str);
        let fits = keys.clone().any(|it| it == field || it.replace('-', "_") == field);
        if fits { Ok(()) } else { Err(suggest(field, keys)) }
    })
}

#[cfg(test)]
mod tests {
    use crate::expr::Expr;

    #[test]
    fn fields_that_there_are_not() {
        let help = |source: &str| Expr::parse(source).err().map(|it| it.help);
        assert_eq!(help("build.reslts == 'success'").as_deref(), Some("did you mean `results`?"));
        assert_eq!(
            help("src.brnch == 'main'").as_deref(),
            Some("did you mean `branch`? A codebase of that name is src['brnch']")
        );
        for fine in ["src.lib.branch == 'main'", "src['brnch'] == null", "has(src.brnch)", "build.number > 1"]
        {
            assert_eq!(help(fine), None, "{fine}");
        }
    }
}
