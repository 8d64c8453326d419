//! Whether a change meets a scheduler's condition: an expression over the change, evaluated off the actor's thread.

use std::sync::Arc;
use std::time::Duration;

use greenroom_config::expr::{Expr, ExprError, MAX_LIST, Scope};
use greenroom_model::Change;
use serde_json::{Value, json};

use crate::steps::render::{EvaluationError, change_fields, on_pool};

/// The most of a reason that is kept, in bytes: an evaluator's words may hold a whole value.
const MOST_WORDS: usize = 500;
/// So often an actor that waits for a judgement says that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// What a condition says of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It holds.
    Taken,
    /// It does not hold.
    Refused,
    /// It cannot be evaluated, and could not be the next time either; the words say why. The change is left out.
    Failed(String),
}

/// Why a change could not be judged now. It has to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change {change} could not be judged: {why}")]
pub(crate) struct Unjudged {
    change: i64,
    why: EvaluationError,
}

/// Judges changes in their order. `None` stands for one of which nothing is asked.
pub(crate) async fn judge_all(
    condition: &Expr,
    changes: Vec<Option<Arc<Change>>>,
) -> Result<Vec<Judgement>, Unjudged> {
    let mut judgements = Vec::with_capacity(changes.len());
    for change in changes {
        judgements.push(match change {
            Some(change) => judge(condition, change).await?,
            None => Judgement::Refused,
        });
    }
    Ok(judgements)
}

async fn judge(condition: &Expr, change: Arc<Change>) -> Result<Judgement, Unjudged> {
    let (condition, id, files) = (condition.clone(), change.id.0, change.files.len());
    let mut judged = Box::pin(on_pool(move || condition.is_true(&scope(&change)?)));
    let judged = loop {
        match tokio::time::timeout(SIGN_OF_LIFE, &mut judged).await {
            Ok(judged) => break judged,
            Err(_) => greenroom_runtime::still_alive(),
        }
    };
    // there may be many changes, and each may take its time
    greenroom_runtime::still_alive();
    match judged {
        Ok(true) => Ok(Judgement::Taken),
        Ok(false) => Ok(Judgement::Refused),
        Err(EvaluationError::Failed(why)) => Ok(Judgement::Failed(words(why, files))),
        Err(why) => Err(Unjudged { change: id, why }),
    }
}

/// What a condition sees. Of a change with very many files they are not there: a part of them would give a wrong answer.
fn scope(change: &Change) -> Result<Scope, ExprError> {
    let mut fields = change_fields(change);
    if change.files.len() <= MAX_LIST {
        fields.insert("files".to_owned(), json!(change.files));
    }
    let mut scope = Scope::new();
    scope.set("change", Value::Object(fields))?;
    Ok(scope)
}

fn words(mut why: String, files: usize) -> String {
    why.truncate(why.floor_char_boundary(MOST_WORDS));
    if files > MAX_LIST {
        why.push_str(&format!(
            " (its {files} files are not shown to expressions, which see {MAX_LIST} at most)"
        ));
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedulers::pending::tests::change;

    async fn judged(condition: &str, change: Change) -> Judgement {
        let condition = Expr::parse_condition_over(condition, &["change"]).unwrap();
        judge_all(&condition, vec![Some(Arc::new(change))]).await.unwrap().remove(0)
    }

    #[tokio::test]
    async fn every_field_of_a_change_can_be_spoken_of() {
        let mut it = change(7, "main", "ann");
        (it.files, it.project) = (vec!["src/a.c".into()], "p".into());
        let condition = "change.id == 7 && change.author == 'ann' && change.committer == null && change.comments == '' \
                         && change.branch == 'main' && change.revision == 'r7' && change.category == null \
                         && change.files == ['src/a.c'] && change.repository == 'repo' && change.project == 'p' \
                         && change.codebase == '' && change.properties.n == 7";
        assert_eq!(judged(condition, it.clone()).await, Judgement::Taken);
        assert_eq!(judged("change.author == 'bob'", it).await, Judgement::Refused);
    }

    #[tokio::test]
    async fn what_cannot_be_evaluated_is_said_in_bounded_words() {
        let mut it = change(7, "main", "ann");
        let Judgement::Failed(why) = judged("change.properties.x == 1", it.clone()).await else { panic!() };
        assert_eq!(why, "`change.properties.x == 1`: there is no `x`");
        it.comments = "é".repeat(10_000);
        let Judgement::Failed(why) = judged("int(change.comments) == 1", it).await else { panic!() };
        assert!(why.len() <= MOST_WORDS, "{why}");
    }

    #[tokio::test]
    async fn a_part_of_the_files_is_never_taken_for_all() {
        let mut it = change(7, "main", "ann");
        it.files = (0..=MAX_LIST).map(|number| format!("f{number}")).collect();
        let all = "change.files.all(f, f != 'f1000')";
        let Judgement::Failed(why) = judged(all, it.clone()).await else { panic!() };
        assert!(
            why.ends_with("(its 1001 files are not shown to expressions, which see 1000 at most)"),
            "{why}"
        );
        assert_eq!(judged(&format!("!has(change.files) || {all}"), it.clone()).await, Judgement::Taken);
        it.files.truncate(MAX_LIST);
        assert_eq!(judged(all, it).await, Judgement::Taken);
    }
}
