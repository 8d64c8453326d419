//! Acts on actors, for rehearsal: `kill-actor` and `restart-actor`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use greenroom_config::supervised::nearest;
use greenroom_model::{ControlAct, ControlAnswer, ControlId};
use greenroom_runtime::{ActorReport, Runtime};
use serde_json::json;

/// Acts that are remembered, so that none is carried out twice when the desk that asks dies of it.
const REMEMBERED: usize = 256;

/// Ends and restarts actors of this master.
pub struct ActorActs {
    runtime: Runtime,
    /// When this life of the master began, in microseconds UTC.
    since: i64,
    done: Mutex<VecDeque<(ControlId, ControlAnswer)>>,
}

impl ActorActs {
    /// Acts on the actors of this runtime.
    pub fn new(runtime: Runtime) -> Self {
        let since = runtime.now_micros();
        Self { runtime, since, done: Mutex::default() }
    }

    /// Carries an act out, once.
    ///
    /// The control desk, the actors that store its answer and the master itself may die of the act. The desk then asks
    /// again: in this life it gets the first answer, in the next one it is not carried out any more.
    pub fn act(&self, act: &ControlAct) -> ControlAnswer {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, answer)) = done.iter().find(|(id, _)| *id == act.id) {
            return answer.clone();
        }
        if act.requested_at.0 < self.since {
            return ControlAnswer::Failed("the master was restarted before this was answered".to_owned());
        }
        let answer = self.carry_out(act);
        if done.len() == REMEMBERED {
            done.pop_front();
        }
        done.push_back((act.id, answer.clone()));
        answer
    }

    fn carry_out(&self, act: &ControlAct) -> ControlAnswer {
        let Some(name) = act.params.get("name").and_then(|it| it.as_str()) else {
            return ControlAnswer::Invalid(json!({ "name": "which actor?" }));
        };
        let tree = self.runtime.snapshot();
        let actor = match tree.iter().find(|it| it.name == name) {
            Some(actor) if actor.policy.is_some() => actor,
            Some(_) => return invalid(format!("`{name}` is a supervisor: name one of its children")),
            None => return invalid(unknown(name, &tree)),
        };
        let found = match act.action.as_str() {
            "kill-actor" => self.runtime.kill(name),
            _ => self.runtime.restart(name),
        };
        if !found {
            return invalid(format!("`{name}` has just ended"));
        }
        tracing::warn!(actor.name = %name, action = %act.action, identity = %act.identity, "an actor was ended by hand");
        let restart = actor.policy.map(|it| it.restart);
        ControlAnswer::Done(
            json!({ "name": name, "kind": actor.kind, "births": actor.births, "restart": restart }),
        )
    }
}

fn invalid(why: String) -> ControlAnswer {
    ControlAnswer::Invalid(json!({ "name": why }))
}

fn unknown(name: &str, tree: &[ActorReport]) -> String {
    let actors = tree.iter().filter(|it| it.policy.is_some()).map(|it| it.name.as_str());
    let help = nearest(name, actors).unwrap_or_else(|| "`greenroom actors` lists them".to_owned());
    format!("there is no actor called `{name}`: {help}")
}

#[cfg(test)]
mod tests {
    use greenroom_model::{ControlTarget, MasterId, Timestamp};
    use greenroom_runtime::{Birth, ChildSpec, Front, supervised};

    use super::*;

    struct Quiet;
    impl actix::Actor for Quiet {
        type Context = actix::Context<Self>;
    }
    supervised!(Quiet, "quiet");

    fn act(id: i64, action: &str, name: &str, at: i64) -> ControlAct {
        ControlAct {
            id: ControlId(id),
            identity: "ada".to_owned(),
            key: None,
            target: ControlTarget::Master(MasterId(1)),
            action: action.to_owned(),
            params: json!({ "name": name }),
            requested_at: Timestamp(at),
            answer: None,
            answered_at: None,
            came_from: None,
            version: 1,
        }
    }

    async fn births(front: &Front<Quiet>, births: u64) {
        front.wait_ready(std::time::Duration::from_secs(10)).await.unwrap();
        while front.births() < births {
            tokio::task::yield_now().await;
        }
        assert_eq!(front.births(), births);
    }

    #[actix_rt::test]
    async fn an_act_is_carried_out_once_and_unknown_names_are_guessed() {
        let runtime = Runtime::builder().build();
        let quiet = runtime.root().spawn(ChildSpec::new("scheduler/all"), |_: &Birth<Quiet>| Quiet);
        births(&quiet, 1).await;
        let acts = ActorActs::new(runtime.clone());
        let now = runtime.now_micros() + 1;

        let killed = acts.act(&act(1, "kill-actor", "scheduler/all", now));
        let told = json!({ "name": "scheduler/all", "kind": "quiet", "births": 1, "restart": "permanent" });
        assert_eq!(killed, ControlAnswer::Done(told));
        births(&quiet, 2).await;
        assert_eq!(
            acts.act(&act(1, "kill-actor", "scheduler/all", now)),
            killed,
            "the same act, the same answer"
        );
        acts.act(&act(2, "restart-actor", "scheduler/all", now));
        births(&quiet, 3).await;

        let refused = |id, name| match acts.act(&act(id, "kill-actor", name, now)) {
            ControlAnswer::Invalid(why) => why["name"].as_str().unwrap_or_default().to_owned(),
            other => format!("{other:?}"),
        };
        let near = "there is no actor called `scheduler/al`: did you mean `scheduler/all`?";
        assert_eq!(refused(3, "scheduler/al"), near);
        assert!(refused(4, "root").contains("is a supervisor"));
        let of_former_life = acts.act(&act(5, "kill-actor", "scheduler/all", now - 1_000_000_000));
        assert!(matches!(of_former_life, ControlAnswer::Failed(_)));
        births(&quiet, 3).await;
        runtime.root().stop(None).await;
    }
}
