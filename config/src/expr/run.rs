//! What a step runs: a script in which expressions become variables, or a list of arguments.

use std::fmt;
use std::ops::Range;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

use super::known;
use super::shell::{self, Place, Shell};
use super::template::{Secrets, Segment, evaluate, split, to_text};
use super::{Expr, ExprError, Scope, Template};
use crate::values::serde_fault;

/// The longest value that becomes a variable or an argument, in bytes: Linux refuses strings of 128 KiB and more.
const MAX_VALUE: usize = 64 * 1024;

/// What a step runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    /// A string for `sh -c`.
    Script(RunString),
    /// Arguments that are executed as they are.
    Argv(RunArgv),
}

/// A shell script. Each `${{ … }}` becomes an environment variable and a reference to it, quoted as the place in the script
/// needs: what a branch or a committer is called can never become shell text. `${{ raw(…) }}` is the exception, spelled out.
///
/// Places where a reference would not do what it seems to do are faults when the configuration loads: inside single quotes
/// or a quoted here-document (the shell would read the variable's name), inside backquotes, `$((…))`, `${…}` and `[[ … ]]`
/// (some shells evaluate the value), and in what `eval`, `sh -c` or `ssh` read a second time.
#[derive(Clone, PartialEq)]
pub struct RunString {
    source: String,
    pieces: Vec<Piece>,
    shell: Option<Shell>,
}

/// A script with the environment that its expressions became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text for `sh -c`.
    pub script: String,
    /// Variables (`GR_0`, `GR_1`, …) that the command's environment must hold.
    pub env: Vec<(String, String)>,
}

#[derive(Clone, PartialEq)]
enum Piece {
    Text(String),
    Variable(Expr, Range<usize>),
    Raw(Expr, Range<usize>),
}

impl RunString {
    /// Reads a script.
    ///
    /// # Errors
    /// When an expression is malformed or stands where no variable can; the span is in `text`.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        if text.contains('\0') {
            return Err(ExprError::new("a script cannot hold a NUL character", "", 0..text.len()));
        }
        let segments = split(text, Secrets::Allowed)?;
        let shell = known::shell();
        let mut places = shell::places_in(shell, &segments).into_iter();
        let mut pieces = Vec::with_capacity(segments.len());
        let (mut index, mut shown, mut at) = (0, String::new(), 0);
        for segment in segments {
            match segment {
                Segment::Text(text) => pieces.push(Piece::Text(text)),
                Segment::Expr(expr, span) if expr.is_raw() => {
                    places.next();
                    if !expr.secrets().is_empty() {
                        let help = "leave raw() out: it becomes a variable then";
                        return Err(ExprError::new("a secret cannot become shell text", help, span));
                    }
                    pieces.push(Piece::Raw(expr, span));
                }
                Segment::Expr(expr, span) => {
                    let place = places.next();
                    let known = expr.is_constant().then(|| value(&expr, &span, &Scope::new())).transpose()?;
                    if let Some(known) = &known {
                        shown.push_str(&text[at..span.start]);
                        shown.push_str(&known.replace("${{", "$${{"));
                        at = span.end;
                    }
                    if let Some(folded) = known.and_then(|it| shell::quoted(&it, place)) {
                        pieces.push(Piece::Text(folded));
                        continue;
                    }
                    let reference = reference(shell, place, index, &span)?;
                    index += 1;
                    pieces.push(Piece::Text(reference));
                    pieces.push(Piece::Variable(expr, span));
                }
            }
        }
        shown.push_str(&text[at..]);
        Ok(RunString { source: shown, pieces, shell })
    }

    /// The script, and the environment that its expressions became.
    ///
    /// # Errors
    /// When an expression cannot be evaluated, or its value holds a NUL or more than 64 KiB.
    pub fn render(&self, scope: &Scope) -> Result<Rendered, ExprError> {
        let mut script = String::with_capacity(self.source.len());
        let mut env = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => script.push_str(text),
                Piece::Variable(expr, span) => env.push((variable(env.len()), value(expr, span, scope)?)),
                Piece::Raw(expr, span) => script.push_str(&value(expr, span, scope)?),
            }
        }
        Ok(Rendered { script, env })
    }

    /// What is to read it; none: the worker's own shell.
    pub fn shell(&self) -> Option<Shell> {
        self.shell
    }

    /// The text as written, with the values that are known.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names of the secrets in it.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Text(_) => &[],
                Piece::Variable(expr, _) | Piece::Raw(expr, _) => expr.secrets(),
            })
            .map(String::as_str)
    }
}

fn variable(index: usize) -> String {
    format!("GR_{index}")
}

/// What stands in the script for the expression number `index`.
fn reference(
    shell: Option<Shell>,
    place: Option<Place>,
    index: usize,
    span: &Range<usize>,
) -> Result<String, ExprError> {
    let shell = shell.unwrap_or(Shell::Sh);
    let name = variable(index);
    match place {
        Some(Place::Bare) => Ok(shell.reference(&name, false)),
        Some(Place::Expanding) => Ok(shell.reference(&name, true)),
        Some(Place::Refused { message, help }) => Err(ExprError::new(message, help, span.clone())),
        // One place for each expression is what `places` promises; without one, refuse rather than guess.
        None => Err(ExprError::new("the shell's quoting cannot be followed here", "", span.clone())),
    }
}

fn value(expr: &Expr, span: &Range<usize>, scope: &Scope) -> Result<String, ExprError> {
    let text = to_text(&evaluate(expr, span, scope)?);
    check_value(&text, span)?;
    Ok(text)
}

fn check_value(text: &str, span: &Range<usize>) -> Result<(), ExprError> {
    if text.contains('\0') {
        return Err(ExprError::new(
            "the value holds a NUL character, which no command can be given",
            "",
            span.clone(),
        ));
    }
    if text.len() > MAX_VALUE {
        return Err(ExprError::new(
            "the value is longer than 64 KiB, which no command can be given",
            "",
            span.clone(),
        ));
    }
    Ok(())
}

/// A list of arguments: each is one argument whatever its value; one that is a whole `${{ … }}` splices a list and drops null.
#[derive(Clone, Debug, PartialEq)]
pub struct RunArgv(Vec<Template>);

impl RunArgv {
    /// The arguments.
    ///
    /// # Errors
    /// When an expression cannot be evaluated, an argument holds a NUL or more than 64 KiB, or nothing is left.
    pub fn render(&self, scope: &Scope) -> Result<Vec<String>, ExprError> {
        let mut arguments = Vec::with_capacity(self.0.len());
        for template in &self.0 {
            let mut values = Vec::new();
            template.render_into(&mut values, scope)?;
            for value in &values {
                let text = to_text(value);
                check_value(&text, &(0..template.source().len()))?;
                arguments.push(text);
            }
        }
        if arguments.is_empty() {
            return Err(ExprError::new("no argument is left, so there is nothing to execute", "", 0..0));
        }
        Ok(arguments)
    }

    /// The arguments as written.
    pub fn source(&self) -> Vec<&str> {
        self.0.iter().map(Template::source).collect()
    }
}

impl Run {
    /// The first words, for the name of a step that has none.
    pub(crate) fn short_name(&self) -> String {
        const LONGEST: usize = 40;
        let text = match self {
            Run::Script(script) => script.source().to_owned(),
            Run::Argv(argv) => argv.source().join(" "),
        };
        let line =
            text.lines().map(str::trim).find(|it| !it.is_empty() && !it.starts_with('#')).unwrap_or("shell");
        match line.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", line[..end].trim_end()),
            None => line.to_owned(),
        }
    }
}

impl fmt::Debug for RunString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Run {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RunVisitor)
    }
}

struct RunVisitor;

impl<'de> Visitor<'de> for RunVisitor {
    type Value = Run;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a script or a list of arguments")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Run, E> {
        if text.trim().is_empty() {
            return Err(serde_fault("there is nothing to run", "write a command, such as `run = \"make\"`"));
        }
        RunString::parse(text).map(Run::Script).map_err(ExprError::into_serde)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Run, A::Error> {
        let mut arguments: Vec<Template> = Vec::new();
        while let Some(argument) = list.next_element()? {
            arguments.push(argument);
        }
        if arguments.first().is_none_or(|it| it.source().is_empty()) {
            return Err(serde_fault("there is nothing to run", "the first element names the program"));
        }
        Ok(Run::Argv(RunArgv(arguments)))
    }
}

/// For tests of others and for `Run` values made in code.
impl TryFrom<Json> for Run {
    type Error = serde_json::Error;

    fn try_from(value: Json) -> Result<Self, Self::Error> {
        serde_json::from_value(value)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::json;

    use super::*;

    /// Values that would do harm if any of them became shell text.
    const NASTY: &[&str] = &[
        "a\";touch pwned",
        "';touch pwned;'",
        "$(touch pwned)",
        "`touch pwned`",
        "a b  c * ~ ; & | > pwned",
        "line\nEOF\ntouch pwned",
        "\\",
        "${IFS}",
        "-n",
        "ünï ☃",
        "a[$(touch pwned)]",
    ];

    fn scope(branch: &str) -> Scope {
        let mut scope = Scope::new();
        scope.set("src", json!({"branch": branch})).unwrap();
        scope.set("prop", json!({"flags": ["-a", "b c"], "none": null, "text": "echo hi; echo ho"})).unwrap();
        scope
    }

    /// Runs a rendered script with a real shell in an empty directory and returns what it printed.
    fn sh(shell: &str, rendered: &Rendered) -> String {
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(shell)
            .args(["-c", &rendered.script])
            .envs(rendered.env.iter().cloned())
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{rendered:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{rendered:?} made a file");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_value_never_becomes_shell_text() {
        type Expected = fn(&str) -> String;
        let scripts: &[(&str, Expected)] = &[
            ("printf '%s' ${{ src.branch }}", |it| it.to_owned()),
            ("printf '%s' \"<${{ src.branch }}>\"", |it| format!("<{it}>")),
            ("x=${{ src.branch }}; printf '%s' pre${{ src.branch }}\"$x\"", |it| format!("pre{it}{it}")),
            ("printf '%s' \"$(printf '%s' ${{ src.branch }}.)\"", |it| format!("{it}.")),
            ("printf '%s' \"$(printf '%s' \"a ${{ src.branch }}\".)\"", |it| format!("a {it}.")),
            ("cat <<EOF\n<${{ src.branch }}>\nEOF\n", |it| format!("<{it}>\n")),
            ("cat <<-'X' <<Y\n\tit's\n\tX\n${{ src.branch }}\nY\n", |it| format!("{it}\n")),
            ("# don't (\"\nprintf '%s' 'it'\"'\"'s' ${{ src.branch }}", |it| format!("it's{it}")),
            ("if [ ${{ src.branch }} = x ]; then :; fi # ${{ src.branch }}\nprintf ok", |_| "ok".to_owned()),
        ];
        for (text, expected) in scripts {
            let script = RunString::parse(text).unwrap();
            for value in NASTY {
                let rendered = script.render(&scope(value)).unwrap();
                assert!(!rendered.script.contains(value), "{rendered:?}");
                assert_eq!(sh("/bin/sh", &rendered), expected(value), "{text} with {value}");
                if std::path::Path::new("/bin/bash").exists() {
                    assert_eq!(sh("/bin/bash", &rendered), expected(value), "{text} with {value}");
                }
            }
        }
    }

    #[test]
    fn the_rendered_form() {
        let script =
            RunString::parse("make -C ${{ src.branch }} \"V=${{ prop.flags }}\" ${{ prop.none }}").unwrap();
        let rendered = script.render(&scope("x")).unwrap();
        assert_eq!(rendered.script, "make -C \"${GR_0}\" \"V=${GR_1}\" \"${GR_2}\"");
        let env = [("GR_0", "x"), ("GR_1", "[\"-a\",\"b c\"]"), ("GR_2", "")];
        assert_eq!(rendered.env, env.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn raw_is_shell_text_because_it_says_so() {
        let rendered =
            RunString::parse("sh -c '${{ raw(prop.text) }}'").unwrap().render(&scope("x")).unwrap();
        assert_eq!(rendered, Rendered { script: "sh -c 'echo hi; echo ho'".into(), env: vec![] });
        assert_eq!(sh("/bin/sh", &rendered), "hi\nho\n");
    }

    #[test]
    fn places_where_no_variable_can_stand_are_faults() {
        for (text, expected) in [
            ("echo '${{ src.branch }}'", "inside single quotes the shell would read the variable's name"),
            (
                "echo \"$(echo '${{ src.branch }}')\"",
                "inside single quotes the shell would read the variable's name",
            ),
            (
                "cat <<'EOF'\n${{ src.branch }}\nEOF",
                "inside a quoted here-document the shell would read the variable's name",
            ),
            (
                "cat <<\\EOF\n${{ src.branch }}\nEOF",
                "inside a quoted here-document the shell would read the variable's name",
            ),
            ("cat <<${{ src.branch }}\n", "an expression cannot be the end mark of a here-document"),
            ("echo `echo ${{ src.branch }}`", "inside backquotes quoting cannot be relied on"),
            ("echo $((1 + ${{ src.branch }}))", "in arithmetic some shells execute what a value says"),
            (
                "echo \"$(( $(echo ${{ src.branch }}) ))\"",
                "in arithmetic some shells execute what a value says",
            ),
            ("echo ${X:-${{ src.branch }}}", "inside `${…}` quoting cannot be relied on"),
            ("echo \\${{ src.branch }}", "a backslash before an expression would undo its protection"),
            ("echo \"\\${{ src.branch }}\"", "a backslash before an expression would undo its protection"),
            ("[[ ${{ src.branch }} -eq 1 ]]", "inside `[[ … ]]` some shells execute what a value says"),
            ("eval echo ${{ src.branch }}", "`eval` reads the value again as a command"),
            ("true && bash -ec \"echo ${{ src.branch }}\"", "`bash -c` reads the value again as a command"),
            ("ssh host ${{ src.branch }}", "`ssh` reads the value again as a command"),
        ] {
            let error = RunString::parse(text).expect_err(text);
            assert_eq!(error.message, expected, "{text}");
            assert_eq!(&text[error.span], "${{ src.branch }}", "{text}");
        }
        for text in [
            "bash -c 'echo \"$1\"' _ ${{ src.branch }}",
            "apt-get install ssh ${{ src.branch }}",
            "a; sh x.sh ${{ src.branch }}",
        ] {
            assert!(RunString::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn values_that_no_command_can_take_are_refused() {
        let script = RunString::parse("echo ${{ src.branch }}").unwrap();
        assert!(script.render(&scope("a\0b")).unwrap_err().message.contains("NUL"));
        assert!(script.render(&scope(&"x".repeat(MAX_VALUE + 1))).unwrap_err().message.contains("64 KiB"));
    }

    #[test]
    fn an_argument_is_one_argument() {
        let run = Run::try_from(json!([
            "make",
            "${{ src.branch }}",
            "${{ prop.flags }}",
            "${{ prop.none }}",
            "x${{ prop.none }}"
        ]));
        let Run::Argv(argv) = run.unwrap() else { panic!("not argv") };
        for value in NASTY {
            assert_eq!(argv.render(&scope(value)).unwrap(), ["make", value, "-a", "b c", "x"]);
        }
        let Run::Argv(argv) = Run::try_from(json!(["${{ prop.none }}"])).unwrap() else { panic!("not argv") };
        assert!(argv.render(&scope("x")).is_err());
    }

    #[test]
    fn a_step_without_a_name_is_called_after_its_command() {
        let name = |value: Json| Run::try_from(value).unwrap().short_name();
        assert_eq!(name(json!("# build\n  make -j2\nmake test")), "make -j2");
        assert_eq!(name(json!(["cargo", "test"])), "cargo test");
        assert_eq!(name(json!("x".repeat(50))), format!("{}…", "x".repeat(40)));
    }
}
