//! Compiling and evaluating one CEL expression.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr as Ast, IdedExpr, LiteralValue};
use cel::{Env, ExecutionError, Program};
use serde_json::Value as Json;

use super::known::{self, CONSTANTS, SECRET};
use super::meter::{self, Meter};
use super::scope::{Scope, from_cel};
use super::{ExprError, types};

/// The names that every expression may use.
pub const NAMES: &[&str] = &["prop", "src", "worker", "builder", "build", "change"];

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
    /// What is evaluated: as parsed, with its loops counted.
    root: IdedExpr,
    uses: Uses,
    /// The values of the names that are known when the configuration loads.
    constants: Vec<(&'static str, Json)>,
}

/// What an expression speaks of.
#[derive(Clone, Debug, Default, PartialEq)]
struct Uses {
    /// Names whose values are known only at run time, and where each stands first.
    runtime: Vec<(&'static str, Range<usize>)>,
    /// Names whose values are known when the configuration loads.
    constants: bool,
    /// The secrets, as they are called in `[secrets]`.
    secrets: Vec<String>,
    /// How often a name stands within a loop.
    names: u64,
    /// Whether it goes through lists.
    loops: bool,
}

impl Expr {
    /// Compiles an expression.
    ///
    /// # Errors
    /// When it is too long, nested too deeply, malformed, or uses a name that does not exist; the span is in `source`.
    pub fn parse(source: &str) -> Result<Self, ExprError> {
        let expr = Self::parse_anywhere(source)?;
        match expr.secrets() {
            [] => Ok(expr),
            _ => Err(ExprError::new(
                "a secret cannot stand here, where people would see it",
                "use it in a `run` text or in `env`",
                source.find(SECRET).map_or(expr.span(), |at| at..at + SECRET.len()),
            )),
        }
    }

    /// As [`Expr::parse`], for places where a secret may stand.
    pub(crate) fn parse_anywhere(source: &str) -> Result<Self, ExprError> {
        let all = 0..source.len();
        check_size(source)?;
        let owned = source.to_owned();
        on_big_stack(move || compile(owned)).unwrap_or_else(|message| Err(ExprError::new(message, "", all)))
    }

    /// Compiles a condition.
    ///
    /// # Errors
    /// As [`Expr::parse`], and when it certainly gives anything but true or false.
    pub fn parse_condition(source: &str) -> Result<Self, ExprError> {
        let expr = Self::parse(source)?;
        match types::of(&expr.0.root) {
            Some(known) if known != types::Type::Bool => {
                let message = format!("a condition must be true or false, and this is {}", known.words());
                Err(ExprError::new(message, "compare it with something", expr.span()))
            }
            _ => Ok(expr),
        }
    }

    /// Compiles a condition where only some of [`NAMES`] have a value.
    ///
    /// # Errors
    /// As [`Expr::parse_condition`], and when it uses another of [`NAMES`].
    pub fn parse_condition_over(source: &str, names: &[&str]) -> Result<Self, ExprError> {
        let expr = Self::parse_condition(source)?;
        match expr.0.uses.runtime.iter().find(|it| !names.contains(&it.0)) {
            Some((name, span)) => {
                let known = names.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
                let message = format!("there is no `{name}` here");
                Err(ExprError::new(message, format!("this condition is over {known}"), span.clone()))
            }
            None => Ok(expr),
        }
    }

    /// What a condition always is, if it speaks of nothing that is known at run time only.
    pub(crate) fn always(&self) -> Option<Result<bool, ExprError>> {
        let known = self.0.uses.runtime.is_empty() && self.0.uses.secrets.is_empty();
        known.then(|| self.is_true(&Scope::new()))
    }

    /// The value.
    ///
    /// # Errors
    /// When evaluation fails, or gives something that JSON cannot hold.
    pub fn evaluate(&self, scope: &Scope) -> Result<serde_json::Value, ExprError> {
        let mut context = scope.context(&ENV, &self.0.constants)?;
        let meter = self.0.uses.loops.then(|| Meter::start(&mut context, self.0.uses.names, scope));
        let root = self.raw_argument().unwrap_or(&self.0.root);
        let value = cel::Value::resolve(root, &context);
        if let Some(why) = meter.and_then(|it| it.exceeded()) {
            let message = format!("`{}` {why}", self.0.source.trim());
            return Err(ExprError::new(
                message,
                "go through shorter lists, or through fewer of them",
                self.span(),
            ));
        }
        let value = value.map_err(|error| self.failure(&error))?;
        from_cel(&value).map_err(|message| ExprError::new(message, "", 0..self.0.source.len()))
    }

    /// The value as a condition.
    ///
    /// # Errors
    /// When evaluation fails or gives anything but true or false.
    pub fn is_true(&self, scope: &Scope) -> Result<bool, ExprError> {
        match self.evaluate(scope)? {
            serde_json::Value::Bool(value) => Ok(value),
            _ => {
                let message = format!("`{}`: a condition must be true or false", self.0.source.trim());
                Err(ExprError::new(message, "compare it with something", self.span()))
            }
        }
    }

    /// The text that was parsed.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The names of the secrets in it, as `[secrets]` has them.
    pub(crate) fn secrets(&self) -> &[String] {
        &self.0.uses.secrets
    }

    /// Whether its value is known when the configuration loads.
    pub(crate) fn is_constant(&self) -> bool {
        self.0.uses.constants && self.0.uses.runtime.is_empty() && self.0.uses.secrets.is_empty()
    }

    fn span(&self) -> Range<usize> {
        0..self.0.source.len()
    }

    /// The `x` of an expression that is `raw(x)`.
    fn raw_argument(&self) -> Option<&IdedExpr> {
        match &self.0.root.expr {
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
        self.0.source == other.0.source && self.0.constants == other.0.constants
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
    let mut check = Check { source: &source, program: &program, bound: Vec::new(), uses: Uses::default() };
    check.visit(program.expression(), 0, 0)?;
    let uses = check.uses;
    types::check(program.expression()).map_err(|fault| {
        let span = span_of(&source, &program, fault.at);
        ExprError::new(fault.message, fault.help, span)
    })?;
    let mut root = program.expression().clone();
    meter::count_loops(&mut root);
    let constants = if uses.constants { known::constants() } else { Vec::new() };
    Ok(Expr(Arc::new(Inner { source, root, uses, constants })))
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
    uses: Uses,
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
            Ast::Select(select) => match (&select.operand.expr, select.test) {
                (Ast::Ident(name), test) if self.is_free(name) && name == SECRET => {
                    if test {
                        let help = "`greenroom check` finds out whether there is one";
                        return Err(self.fault(node, "has() cannot ask for a secret", help));
                    }
                    self.secret(&select.field, self.select_span(&select.operand, &select.field))
                }
                (Ast::Ident(name), false) if self.is_free(name) => {
                    self.visit(&select.operand, next, loops)?;
                    let span = self.select_span(&select.operand, &select.field);
                    known::field(name, &select.field).map_err(|help| {
                        ExprError::new(format!("`{name}` has no `{}`", select.field), help, span)
                    })
                }
                _ => self.visit(&select.operand, next, loops),
            },
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
                if let [Ast::Ident(name), Ast::Literal(LiteralValue::String(key))] =
                    call.args.iter().map(|it| &it.expr).collect::<Vec<_>>()[..]
                    && call.func_name == "_[_]"
                    && self.is_free(name)
                    && name == SECRET
                {
                    let key = key.inner().to_owned();
                    return self.secret(&key, span_of(self.source, self.program, node.id));
                }
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
                self.uses.loops = true;
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

    fn is_free(&self, name: &str) -> bool {
        !self.bound.contains(&name)
    }

    fn name(&mut self, name: &'a str, node: &IdedExpr) -> Result<(), ExprError> {
        self.uses.names += u64::from(!self.bound.is_empty() && !name.starts_with('@'));
        if name.starts_with('@') || self.bound.contains(&name) || TYPES.contains(&name) {
            return Ok(());
        }
        if let Some(name) = NAMES.iter().find(|it| **it == name) {
            if !self.uses.runtime.iter().any(|it| it.0 == *name) {
                self.uses.runtime.push((name, span_of(self.source, self.program, node.id)));
            }
            return Ok(());
        }
        if CONSTANTS.contains(&name) {
            self.uses.constants = true;
            return match known::is_here(name) {
                true => Ok(()),
                false => Err(self.fault(node, format!("there is no `{name}` here"), known::where_is(name))),
            };
        }
        if name == SECRET {
            return Err(self.fault(node, "name one secret", "write secret.NAME"));
        }
        Err(self.fault(node, format!("unknown name `{name}`"), suggestion(name, &known::names())))
    }

    fn secret(&mut self, name: &str, span: Range<usize>) -> Result<(), ExprError> {
        match known::secret(name) {
            Ok(name) => {
                self.uses.secrets.push(name);
                Ok(())
            }
            Err(help) => Err(ExprError::new(format!("there is no secret `{name}`"), help, span)),
        }
    }

    /// From a name to the field after it; a selection's own place is its dot.
    fn select_span(&self, operand: &IdedExpr, field: &str) -> Range<usize> {
        let span = span_of(self.source, self.program, operand.id);
        let end = self.source[span.end..].find(field).map_or(span.end, |at| span.end + at + field.len());
        span.start..end
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
        ExprError::new(message, help, span_of(self.source, self.program, node.id))
    }
}

/// The place of a node in the source.
fn span_of(source: &str, program: &Program, id: u64) -> Range<usize> {
    // Both ends are bytes, the end that of the last one.
    let offset = |at: u32| source.ceil_char_boundary(usize::try_from(at).unwrap_or(usize::MAX));
    match program.source_info().offset_for(id) {
        Some((start, stop)) => offset(start)..offset(stop.saturating_add(1)),
        None => 0..source.len(),
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
    fn secrets_are_refused_where_people_would_see_them_and_missing_properties_named() {
        for source in ["secret.token == 'x'", "[1].map(x, secret.token)", "secret['token']"] {
            let (message, _, at) = fault(source);
            assert_eq!(message, "a secret cannot stand here, where people would see it", "{source}");
            assert_eq!(at, "secret");
        }
        assert_eq!(fault("has(secret.token)").0, "has() cannot ask for a secret");
        assert_eq!(fault("[1].map(x, secret)").0, "name one secret");
        let error = Expr::parse("prop.nothing").unwrap().evaluate(&scope()).unwrap_err();
        assert_eq!(error.message, "`prop.nothing`: there is no `nothing`");
    }

    #[test]
    fn loops_are_bounded_whatever_they_do_with_errors() {
        let mut scope = Scope::new();
        scope.set("prop", json!({"l": vec![1; 1_000], "s": "x".repeat(60_000)})).unwrap();
        let evaluate = |source: &str| Expr::parse(source).unwrap().evaluate(&scope);
        assert_eq!(
            evaluate("prop.l.filter(x, x > 1).size() + prop.l.map(x, x).size()").unwrap(),
            json!(1_000)
        );
        for source in [
            "prop.l.map(a, prop.l.map(b, prop.s + prop.s)).size()",
            "prop.l.exists(a, prop.l.exists(b, prop.s + prop.s == 'y'))",
            "prop.l.all(a, prop.l.filter(b, prop.s.matches('y')).size() == 0)",
            "prop.l.exists_one(a, prop.l.exists_one(b, prop.s == 'y'))",
        ] {
            let begun = std::time::Instant::now();
            let error = evaluate(source).unwrap_err();
            assert!(error.message.ends_with("takes too many turns through its lists"), "{}", error.message);
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{source}");
        }
    }

    #[test]
    fn types_that_cannot_fit_are_faults() {
        assert_eq!(fault("src.branch == 5").0, "a string is never equal to a whole number");
        assert_eq!(fault("!src.branch").0, "`!` wants true or false, not a string");
        assert_eq!(fault("build.number + 'x'").0, "`+` cannot add a string to a whole number");
        assert_eq!(fault("change.brunch").1, "did you mean `branch`?");
        let error = Expr::parse_condition("src.branch").unwrap_err();
        assert_eq!(error.message, "a condition must be true or false, and this is a string");
        assert!(Expr::parse_condition("prop.x").is_ok());
        for (source, words) in [
            ("change.files.filter(f, f == 'x')", "a list"),
            ("change.files.map(f, f == 'x')", "a list"),
            ("change.files.size()", "a whole number"),
        ] {
            let message = Expr::parse_condition(source).unwrap_err().message;
            assert!(message.ends_with(words), "{source}: {message}");
        }
        for source in ["change.files.exists(f, f == 'x')", "change.files.all(f, f == 'x')"] {
            assert!(Expr::parse_condition(source).is_ok(), "{source}");
        }
        assert!(Expr::parse_condition("change.files.exists_one(f, f == 'x')").is_ok());
    }

    #[test]
    fn a_condition_may_be_over_some_names_only() {
        let parse = |source| Expr::parse_condition_over(source, &["change"]);
        assert!(parse("change.author == 'a' && change.files.exists(prop, prop == 'x')").is_ok());
        let source = "change.author == 'a' && has(prop.x) && prop.y";
        let error = parse(source).unwrap_err();
        assert_eq!((error.message.as_str(), error.span), ("there is no `prop` here", 28..32));
        assert_eq!(error.help, "this condition is over `change`");
    }

    #[test]
    fn a_condition_without_names_is_always_the_same() {
        let always = |source| Expr::parse_condition(source).unwrap().always();
        assert_eq!(always("1 < 2 && [1].exists(x, x == 1)"), Some(Ok(true)));
        assert!(always("1 / 0 == 1").unwrap().is_err());
        assert_eq!(always("has(change.files)"), None);
    }

    #[test]
    fn a_condition_is_true_or_false() {
        assert_eq!(Expr::parse("prop.n == 3").unwrap().is_true(&scope()), Ok(true));
        assert!(Expr::parse("prop.n").unwrap().is_true(&scope()).is_err());
    }
}
