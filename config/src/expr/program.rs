//! Compiling and evaluating one CEL expression.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr as Ast, IdedExpr};
use cel::{Env, ExecutionError, Program};

use super::ExprError;
use super::scope::{Scope, from_cel};

/// The names that an expression may use.
pub const NAMES: &[&str] = &["prop", "src", "worker", "builder", "build", "change"];
/// Kept for later: nothing can define a secret yet.
const RESERVED: &str = "secret";

/// The longest expression, in bytes.
const MAX_SOURCE: usize = 4 * 1024;
/// The deepest nesting of brackets: the parser recurses.
const MAX_BRACKETS: usize = 32;
/// The deepest tree: evaluation recurses, on threads with small stacks. Long chains of `+` count too.
const MAX_DEPTH: usize = 64;
/// The deepest nesting of `map`, `filter`, `all`, `exists`: each level multiplies the cost by the length of a list.
const MAX_LOOPS: usize = 2;
/// Stack for the recursive parser.
const BIG_STACK: usize = 32 << 20;

/// What may be called. Operators have names that are no identifiers and are not listed.
const FUNCTIONS: &[&str] = &[
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bytes",
    "bool",
    "type",
    "dyn",
    "min",
    "max",
    "raw",
];
/// Types are names too, as in `type(prop.x) == int`.
const TYPES: &[&str] =
    &["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

thread_local! {
    static ON_BIG_STACK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `work` on a thread with a stack for the recursive parser (on this one, if it already is such a thread).
///
/// # Errors
/// When the thread cannot be started, or when `work` panicked (the parser is foreign code that reads foreign input).
pub(crate) fn on_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    if ON_BIG_STACK.get() {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let body = || {
            ON_BIG_STACK.set(true);
            work()
        };
        std::thread::Builder::new()
            .name("expressions".to_owned())
            .stack_size(BIG_STACK)
            .spawn_scoped(scope, body)
            .map_err(|error| format!("no thread for reading expressions: {error}"))?
            .join()
            .map_err(|_| "the reader of expressions failed".to_owned())
    })
}

/// One CEL expression, compiled and checked; cheap to clone.
#[derive(Clone)]
pub struct Expr(Arc<Inner>);

struct Inner {
    source: String,
    program: Program,
}

impl Expr {
    /// Compiles an expression.
    ///
    /// # Errors
    /// When it is too long, nested too deeply, malformed, or uses a name that does not exist; the span is in `source`.
    pub fn parse(source: &str) -> Result<Self, ExprError> {
        let all = 0..source.len();
        check_size(source)?;
        let owned = source.to_owned();
        on_big_stack(move || compile(owned)).unwrap_or_else(|message| Err(ExprError::new(message, "", all)))
    }

    /// The value.
    ///
    /// # Errors
    /// When evaluation fails, or gives something that JSON cannot hold.
    pub fn evaluate(&self, scope: &Scope) -> Result<serde_json::Value, ExprError> {
        let context = scope.context(&ENV);
        let root = self.raw_argument().unwrap_or_else(|| self.0.program.expression());
        let value = cel::Value::resolve(root, &context).map_err(|error| self.failure(&error))?;
        from_cel(&value).map_err(|message| ExprError::new(message, "", 0..self.0.source.len()))
    }

    /// The value as a condition.
    ///
    /// # Errors
    /// When evaluation fails or gives anything but true or false.
    pub fn is_true(&self, scope: &Scope) -> Result<bool, ExprError> {
        match self.evaluate(scope)? {
            serde_json::Value::Bool(value) => Ok(value),
            _ => Err(ExprError::new(
                "a condition must be true or false",
                "compare it with something",
                self.span(),
            )),
        }
    }

    /// The text that was parsed.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    fn span(&self) -> Range<usize> {
        0..self.0.source.len()
    }

    /// The `x` of an expression that is `raw(x)`.
    fn raw_argument(&self) -> Option<&IdedExpr> {
        match &self.0.program.expression().expr {
            Ast::Call(call) if call.func_name == "raw" && call.target.is_none() => call.args.first(),
            _ => None,
        }
    }

    /// Whether it is `raw(…)`.
    pub(crate) fn is_raw(&self) -> bool {
        self.raw_argument().is_some()
    }

    fn failure(&self, error: &ExecutionError) -> ExprError {
        let message = match error {
            ExecutionError::NoSuchKey(key) => format!("`{}`: there is no `{key}`", self.0.source.trim()),
            other => format!("`{}`: {}", self.0.source.trim(), first_lower(&other.to_string())),
        };
        let help = match error {
            ExecutionError::NoSuchKey(_) => {
                "test with has(…) whether it is there, as in `has(prop.x) ? prop.x : \"none\"`"
            }
            _ => "",
        };
        ExprError::new(message, help, self.span())
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expr").field(&self.0.source).finish()
    }
}

/// Bounds what the recursive parser gets to see.
fn check_size(source: &str) -> Result<(), ExprError> {
    let all = 0..source.len();
    if source.trim().is_empty() {
        return Err(ExprError::new("an expression is missing", "", all));
    }
    if source.len() > MAX_SOURCE {
        return Err(ExprError::new("the expression is longer than 4 KiB", "", all));
    }
    let mut depth = 0usize;
    for (at, byte) in source.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return Err(ExprError::new("more than 32 nested brackets", "", at..at + 1));
        }
    }
    Ok(())
}

/// On the big stack: the tree that comes out may be deep, also when it is dropped again.
fn compile(source: String) -> Result<Expr, ExprError> {
    let program = Program::compile(&source).map_err(|errors| syntax_error(&source, &errors))?;
    let mut check = Check { source: &source, program: &program, bound: Vec::new() };
    check.visit(program.expression(), 0, 0)?;
    Ok(Expr(Arc::new(Inner { source, program })))
}

fn syntax_error(source: &str, errors: &cel::ParseErrors) -> ExprError {
    let Some(first) = errors.errors.first() else {
        return ExprError::new("malformed expression", "", 0..source.len());
    };
    let text = first.msg.split(" expecting ").next().unwrap_or_default();
    let text = text.strip_prefix("Syntax error: ").unwrap_or(text);
    if text.contains("<EOF>") {
        let end = source.trim_end().len();
        let start = source[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        return ExprError::new("malformed expression: it ends too early", "", start..end);
    }
    let (line, column) = first.pos;
    let line_start: usize =
        source.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or(0)).map(str::len).sum();
    let column = usize::try_from(column - 1).unwrap_or(0);
    let start = source.floor_char_boundary(line_start + column);
    let end = source[start..].chars().next().map_or(start, |it| start + it.len_utf8());
    ExprError::new(format!("malformed expression: {}", first_lower(text)), "", start..end)
}

fn first_lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// A walk over the tree that refuses unknown names and too much depth.
struct Check<'a> {
    source: &'a str,
    program: &'a Program,
    bound: Vec<&'a str>,
}

impl<'a> Check<'a> {
    fn visit(&mut self, node: &'a IdedExpr, depth: usize, loops: usize) -> Result<(), ExprError> {
        if depth > MAX_DEPTH {
            return Err(ExprError::new("the expression is nested too deeply", "", 0..self.source.len()));
        }
        let next = depth + 1;
        match &node.expr {
            Ast::Unspecified | Ast::Literal(_) => Ok(()),
            Ast::Ident(name) => self.name(name, node),
            Ast::Select(select) => self.visit(&select.operand, next, loops),
            Ast::List(list) => list.elements.iter().try_for_each(|it| self.visit(it, next, loops)),
            Ast::Struct(_) => {
                Err(self.fault(node, "messages cannot be made here", "use a map: {'key': value}"))
            }
            Ast::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, next, loops)?;
                    self.visit(&entry.value, next, loops)
                }
                EntryExpr::StructField(field) => self.visit(&field.value, next, loops),
            }),
            Ast::Call(call) => {
                let operator = !call.func_name.starts_with(|it: char| it.is_ascii_alphabetic());
                if !operator && !FUNCTIONS.contains(&call.func_name.as_str()) {
                    let help = suggestion(&call.func_name, FUNCTIONS);
                    let message = format!("unknown function `{}`", call.func_name);
                    return Err(self.call_fault(node, &call.func_name, message, help));
                }
                if call.func_name == "raw" && (depth > 0 || call.args.len() != 1 || call.target.is_some()) {
                    let message = "raw() must be the whole expression";
                    return Err(self.call_fault(node, "raw", message, "write ${{ raw(…) }}"));
                }
                call.target.iter().try_for_each(|it| self.visit(it, next, loops))?;
                call.args.iter().try_for_each(|it| self.visit(it, next, loops))
            }
            Ast::Comprehension(it) => {
                if loops == MAX_LOOPS {
                    return Err(self.fault(node, "more than two nested loops over lists", ""));
                }
                self.visit(&it.iter_range, next, loops)?;
                self.visit(&it.accu_init, next, loops)?;
                let before = self.bound.len();
                self.bound.extend([it.iter_var.as_str(), it.accu_var.as_str()]);
                self.bound.extend(it.iter_var2.as_deref());
                for part in [&it.loop_cond, &it.loop_step, &it.result] {
                    self.visit(part, next, loops + 1)?;
                }
                self.bound.truncate(before);
                Ok(())
            }
        }
    }

    fn name(&mut self, name: &'a str, node: &IdedExpr) -> Result<(), ExprError> {
        if name.starts_with('@') || self.bound.contains(&name) || TYPES.contains(&name) {
            return Ok(());
        }
        if NAMES.contains(&name) {
            return Ok(());
        }
        if name == RESERVED {
            let help = "give it to the worker itself, such as in its environment or a file";
            return Err(self.fault(node, "there are no secrets in expressions yet", help));
        }
        Err(self.fault(node, format!("unknown name `{name}`"), suggestion(name, NAMES)))
    }

    /// About a function's name; the place of a call is its bracket.
    fn call_fault(
        &self,
        node: &IdedExpr,
        name: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> ExprError {
        let mut error = self.fault(node, message, help);
        let before = self.source[..error.span.start].trim_end();
        if before.ends_with(name) {
            error.span = before.len() - name.len()..before.len();
        }
        error
    }

    fn fault(&self, node: &IdedExpr, message: impl Into<String>, help: impl Into<String>) -> ExprError {
        // Both ends are bytes, the end that of the last one.
        let offset = |at: u32| self.source.ceil_char_boundary(usize::try_from(at).unwrap_or(usize::MAX));
        let span = match self.program.source_info().offset_for(node.id) {
            Some((start, stop)) => offset(start)..offset(stop.saturating_add(1)),
            None => 0..self.source.len(),
        };
        ExprError::new(message, help, span)
    }
}

fn suggestion(name: &str, known: &[&str]) -> String {
    crate::fault::suggest(name, known.iter().copied())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope() -> Scope {
        let mut scope = Scope::new();
        scope.set("prop", json!({"test-flags": "-v", "n": 3, "list": [1, 2]})).unwrap();
        scope
    }

    fn fault(source: &str) -> (String, String, String) {
        let error = Expr::parse(source).unwrap_err();
        (error.message, error.help, source[error.span].to_owned())
    }

    #[test]
    fn values_keep_their_types() {
        let value = |source| Expr::parse(source).unwrap().evaluate(&scope()).unwrap();
        assert_eq!(value("prop.n + 1"), json!(4));
        assert_eq!(value("prop.test_flags"), json!("-v"));
        assert_eq!(value("prop['test-flags']"), json!("-v"));
        assert_eq!(value("prop.list.map(x, x * 2)"), json!([2, 4]));
        assert_eq!(value("{'a': prop.n > 2 ? 'big' : null}"), json!({"a": "big"}));
        assert_eq!(value("has(prop.nothing)"), json!(false));
        assert_eq!(value("type(prop.n) == int"), json!(true));
        assert_eq!(value("prop.test_flags.matches('^-')"), json!(true));
    }

    #[test]
    fn unknown_names_are_faults_with_a_place() {
        assert_eq!(
            fault("1 + pro.n"),
            ("unknown name `pro`".into(), "did you mean `prop`?".into(), "pro".into())
        );
        assert_eq!(fault("'ä' + hallo").2, "hallo");
        assert_eq!(fault("prop.list.map(x, y)").0, "unknown name `y`");
        assert_eq!(
            fault("1 + sice(prop.list)"),
            ("unknown function `sice`".into(), "did you mean `size`?".into(), "sice".into())
        );
        assert_eq!(fault("'a' + raw(prop.n)").0, "raw() must be the whole expression");
    }

    #[test]
    fn malformed_and_oversized_sources_are_refused() {
        let early = "malformed expression: it ends too early";
        assert_eq!(fault("prop.n + "), (early.into(), "".into(), "+".into()));
        assert_eq!(fault("prop.n 3 4").2, "3");
        assert_eq!(fault("  ").0, "an expression is missing");
        assert_eq!(fault(&"(".repeat(33)).0, "more than 32 nested brackets");
        assert_eq!(fault(&"1+".repeat(2500)).0, "the expression is longer than 4 KiB");
        let chain = format!("1{}", "+1".repeat(2000));
        assert_eq!(fault(&chain).0, "the expression is nested too deeply");
        assert_eq!(
            fault("prop.list.map(a, prop.list.map(b, prop.list.map(c, c)))").0,
            "more than two nested loops over lists"
        );
    }

    #[test]
    fn the_deepest_accepted_source_runs_on_a_small_stack() {
        let nested = format!("{}1{}", "(".repeat(32), ")".repeat(32));
        let chain = format!("1{}", "+1".repeat(60));
        for source in [nested, chain] {
            let expr = Expr::parse(&source).unwrap();
            std::thread::Builder::new()
                .stack_size(2 << 20)
                .spawn(move || expr.evaluate(&Scope::new()).unwrap())
                .unwrap()
                .join()
                .unwrap();
        }
    }

    #[test]
    fn secrets_are_refused_and_missing_properties_named() {
        for source in ["secret.token == 'x'", "has(secret.token)", "[1].map(x, secret)"] {
            let (message, _, at) = fault(source);
            assert_eq!(message, "there are no secrets in expressions yet", "{source}");
            assert!(at.contains("secret"), "{source}: {at}");
        }
        let error = Expr::parse("prop.nothing").unwrap().evaluate(&scope()).unwrap_err();
        assert_eq!(error.message, "`prop.nothing`: there is no `nothing`");
    }

    #[test]
    fn a_condition_is_true_or_false() {
        assert_eq!(Expr::parse("prop.n == 3").unwrap().is_true(&scope()), Ok(true));
        assert!(Expr::parse("prop.n").unwrap().is_true(&scope()).is_err());
    }
}
