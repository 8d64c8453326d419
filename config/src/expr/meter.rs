//! What bounds the cost of loops in expressions. CEL's evaluator has no limit of its own, so every turn of a loop is made to
//! call a function of ours first, which counts and refuses at the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cel::common::ast::{CallExpr, EntryExpr, Expr as Ast, IdedExpr, LiteralValue};
use cel::{Context, ExecutionError};

use super::Scope;

/// The function that counts.
const TURN: &str = "@turn";
/// What all turns of one evaluation may cost. A turn costs 1, and 1 more for each KiB that it may copy.
const BUDGET: u64 = 500_000;
/// How long an evaluation may take; looked at in every turn.
const PATIENCE: Duration = Duration::from_secs(5);

const FINE: u8 = 0;
const TOO_MANY: u8 = 1;
const TOO_LONG: u8 = 2;

/// Counts the turns of one evaluation.
pub(super) struct Meter(Arc<Counter>);

struct Counter {
    left: AtomicU64,
    turn: u64,
    until: Instant,
    state: AtomicU8,
}

impl Meter {
    /// Begins to count; `names` is how often names stand in its loops; each may copy the largest text of the scope.
    pub fn start(context: &mut Context<'_, '_>, names: u64, scope: &Scope) -> Meter {
        let counter = Arc::new(Counter {
            left: AtomicU64::new(BUDGET),
            turn: 1 + names * (scope.largest() / 1024),
            until: Instant::now() + PATIENCE,
            state: AtomicU8::new(FINE),
        });
        let counted = Arc::clone(&counter);
        // There is no other function of this name; and were it missing, every loop would fail.
        let _ = context.add_function(TURN, move || counted.turn());
        Meter(counter)
    }

    /// Why it was stopped, if it was. An error within a loop may be swallowed by `exists` and `all`.
    pub fn exceeded(&self) -> Option<&'static str> {
        match self.0.state.load(Ordering::Relaxed) {
            FINE => None,
            TOO_MANY => Some("takes too many turns through its lists"),
            _ => Some("takes too long"),
        }
    }
}

impl Counter {
    fn turn(&self) -> Result<bool, ExecutionError> {
        let state = match self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(self.turn))
        {
            Err(_) => TOO_MANY,
            Ok(_) if Instant::now() > self.until => TOO_LONG,
            Ok(_) => return Ok(true),
        };
        // The first reason stays.
        let _ = self.state.compare_exchange(FINE, state, Ordering::Relaxed, Ordering::Relaxed);
        Err(ExecutionError::function_error(TURN, "stopped"))
    }
}

/// Makes every loop count its turns.
pub(super) fn count_loops(node: &mut IdedExpr) {
    match &mut node.expr {
        Ast::Unspecified | Ast::Literal(_) | Ast::Ident(_) => {}
        Ast::Select(select) => count_loops(&mut select.operand),
        Ast::List(list) => list.elements.iter_mut().for_each(count_loops),
        Ast::Map(map) => map.entries.iter_mut().for_each(|entry| count_entry(&mut entry.expr)),
        Ast::Struct(it) => it.entries.iter_mut().for_each(|entry| count_entry(&mut entry.expr)),
        Ast::Call(call) => {
            call.target.iter_mut().for_each(|it| count_loops(it));
            call.args.iter_mut().for_each(count_loops);
        }
        Ast::Comprehension(it) => {
            for part in
                [&mut it.iter_range, &mut it.accu_init, &mut it.loop_cond, &mut it.loop_step, &mut it.result]
            {
                count_loops(part);
            }
            count_turn(&mut it.loop_step);
        }
    }
}

fn count_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::MapEntry(entry) => {
            count_loops(&mut entry.key);
            count_loops(&mut entry.value);
        }
        EntryExpr::StructField(field) => count_loops(&mut field.value),
    }
}

/// Puts the count beside what a turn does, where the evaluator still sees the form of a step that it has a fast way for.
fn count_turn(step: &mut IdedExpr) {
    let id = step.id;
    if let Ast::Call(call) = &mut step.expr {
        match (call.func_name.as_str(), call.args.as_mut_slice()) {
            // `@result + [x]`, as of `map`
            ("_+_", [_, IdedExpr { expr: Ast::List(list), .. }]) if list.elements.len() == 1 => {
                return list.elements.iter_mut().for_each(|it| wrap(it, id));
            }
            // `@result && x` and `@result || x`, as of `all` and `exists`
            ("_&&_" | "_||_", [_, part]) => return wrap(part, id),
            // `x ? … : @result`, as of `filter`
            ("_?_:_", [part, ..]) => return wrap(part, id),
            _ => {}
        }
    }
    wrap(step, id);
}

/// `x` becomes `@turn() ? x : null`.
fn wrap(node: &mut IdedExpr, id: u64) {
    let call = |func_name: &str, args| CallExpr { target: None, func_name: func_name.to_owned(), args };
    let with_id = |expr| IdedExpr { id, expr };
    let inner = std::mem::replace(node, with_id(Ast::Unspecified));
    let turn = with_id(Ast::Call(call(TURN, Vec::new())));
    let nothing = with_id(Ast::Literal(LiteralValue::Null));
    *node = with_id(Ast::Call(call("_?_:_", vec![turn, inner, nothing])));
}
