//! What can be said of types before anything is evaluated: enough to find comparisons that never hold and conditions that are none.
//! What is not certain counts as fitting.

use cel::common::ast::{Expr as Ast, IdedExpr, LiteralValue};

/// A type that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Double,
    String,
    List,
    Map,
}

impl Type {
    /// In words, with an article.
    pub fn words(self) -> &'static str {
        match self {
            Type::Bool => "true or false",
            Type::Int => "a whole number",
            Type::Double => "a number",
            Type::String => "a string",
            Type::List => "a list",
            Type::Map => "a map",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Type::Int | Type::Double)
    }

    /// Whether a value of one can equal one of the other; numbers are compared by value.
    fn meets(self, other: Type) -> bool {
        self == other || (self.is_number() && other.is_number())
    }
}

/// Something that cannot work.
pub(super) struct Misfit {
    pub message: String,
    pub help: &'static str,
    /// The node.
    pub at: u64,
}

/// The type of an expression, if it is certain.
pub(super) fn of(node: &IdedExpr) -> Option<Type> {
    match &node.expr {
        Ast::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => Some(Type::Bool),
            LiteralValue::Int(_) | LiteralValue::UInt(_) => Some(Type::Int),
            LiteralValue::Double(_) => Some(Type::Double),
            LiteralValue::String(_) => Some(Type::String),
            _ => None,
        },
        Ast::List(_) => Some(Type::List),
        Ast::Map(_) => Some(Type::Map),
        Ast::Select(select) if select.test => Some(Type::Bool),
        Ast::Select(select) => match &select.operand.expr {
            Ast::Ident(name) => of_field(name, &select.field),
            _ => None,
        },
        Ast::Call(call) => {
            let first = call.args.first().and_then(of);
            match call.func_name.as_str() {
                "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" | "_&&_" | "_||_" | "!_" | "@in"
                | "contains" | "startsWith" | "endsWith" | "matches" | "bool" => Some(Type::Bool),
                "size" | "int" | "uint" => Some(Type::Int),
                "string" => Some(Type::String),
                "double" => Some(Type::Double),
                "_?_:_" => {
                    let (yes, no) = (call.args.get(1).and_then(of), call.args.get(2).and_then(of));
                    yes.filter(|_| yes == no)
                }
                "_+_" | "_-_" | "_*_" | "_/_" | "_%_" => first,
                _ => None,
            }
        }
        // What a macro makes ends with what it gathered, or with a look at it.
        Ast::Comprehension(it) => match &it.result.expr {
            Ast::Ident(name) if *name == it.accu_var => of(&it.accu_init),
            _ => of(&it.result),
        },
        _ => None,
    }
}

/// The fields that are always of one type where they are there; those that may be null are not among them, but for comparisons with
/// null, which are left alone.
fn of_field(name: &str, field: &str) -> Option<Type> {
    Some(match (name, field) {
        ("src", "branch" | "revision" | "repository" | "project" | "codebase") => Type::String,
        (
            "change",
            "author" | "committer" | "comments" | "branch" | "revision" | "category" | "repository"
            | "project" | "codebase",
        ) => Type::String,
        ("change", "files") | ("builder", "tags") => Type::List,
        ("change", "id") | ("worker", "id") | ("builder", "id") | ("build", "number" | "id") => Type::Int,
        ("worker", "name" | "basedir" | "system") | ("builder", "name" | "project") => Type::String,
        ("worker", "properties") => Type::Map,
        _ => return None,
    })
}

/// Finds what can never work.
pub(super) fn check(node: &IdedExpr) -> Result<(), Misfit> {
    match &node.expr {
        Ast::Select(select) => check(&select.operand),
        Ast::List(list) => list.elements.iter().try_for_each(check),
        Ast::Call(call) => {
            call.target.iter().try_for_each(|it| check(it))?;
            call.args.iter().try_for_each(check)?;
            let misfit = |message: String, help| Err(Misfit { message, help, at: node.id });
            let types: Vec<Option<Type>> = call.args.iter().map(of).collect();
            match (call.func_name.as_str(), types.as_slice()) {
                ("_==_" | "_!=_", [Some(a), Some(b)]) if !a.meets(*b) => {
                    misfit(format!("{} is never equal to {}", a.words(), b.words()), "compare like with like")
                }
                ("_<_" | "_<=_" | "_>_" | "_>=_", [Some(a), Some(b)]) if !a.meets(*b) => misfit(
                    format!("{} cannot be compared with {}", a.words(), b.words()),
                    "convert one of them: int(…), string(…)",
                ),
                ("_+_", [Some(a), Some(b)]) if !a.meets(*b) => misfit(
                    format!("`+` cannot add {} to {}", b.words(), a.words()),
                    "convert one of them: string(…)",
                ),
                ("!_", [Some(it)]) if *it != Type::Bool => misfit(
                    format!("`!` wants true or false, not {}", it.words()),
                    "compare it with something",
                ),
                ("_&&_" | "_||_", types) => match types.iter().flatten().find(|it| **it != Type::Bool) {
                    Some(it) => misfit(
                        format!(
                            "`{}` wants true or false, not {}",
                            call.func_name.trim_matches('_'),
                            it.words()
                        ),
                        "compare it with something",
                    ),
                    None => Ok(()),
                },
                _ => Ok(()),
            }
        }
        Ast::Comprehension(it) => {
            // The parts that the macro made are right by themselves.
            check(&it.iter_range)
        }
        _ => Ok(()),
    }
}
