//! From a push to a real repository to builds of exactly what was pushed.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Farm, Plan, Repository, SUCCESS, eventually};

fn config(repository: &Repository) -> String {
    format!(
        r#"
[workers.w1]
password = "pw"
max-builds = 2
[change-sources.repo]
kind = "git-poller"
repository = "{0}"
branches = "*"
interval = "200ms"
[schedulers.all]
kind = "any-branch"
builders = ["incremental", "full"]
[builders.incremental]
[[builders.incremental.steps]]
kind = "git"
repository = "{0}"
[[builders.incremental.steps]]
name = "look"
run = "git rev-parse HEAD; ls"
[builders.full]
[[builders.full.steps]]
kind = "git"
repository = "{0}"
mode = "full"
method = "clobber"
[[builders.full.steps]]
name = "look"
run = "git rev-parse HEAD; ls; echo rubbish > left-behind"
"#,
        repository.url()
    )
}

fn farm() -> (Farm, Repository) {
    let mut farm = Plan::new("").lay_out();
    let repository = Repository::new(&farm);
    farm.add_config(&config(&repository));
    farm.start();
    (farm, repository)
}

/// Waits until both builders have built this revision of this branch; checks that it was checked out.
fn expect_built(farm: &Farm, branch: &str, revision: &str, files: &[&str]) {
    let builds = eventually(&format!("{branch} at {revision} to be built"), || {
        let all = farm.rest().list("builds?complete=true");
        let of_it: Vec<Value> = all
            .into_iter()
            .filter(|it| {
                farm.property(it, "got_revision") == revision && farm.property(it, "branch") == branch
            })
            .collect();
        (of_it.len() == 2).then_some(of_it)
    });
    for build in builds {
        assert_eq!(build["results"], SUCCESS, "{}", farm.story_of(&build));
        let seen: Vec<_> = farm.lines(&build, "look", 'o');
        assert_eq!(seen[0], revision);
        let seen: BTreeSet<_> = seen[1..].iter().map(String::as_str).collect();
        assert_eq!(seen, files.iter().copied().collect(), "the files of {branch} at {revision}");
    }
}

fn pushes_are_built(farm: &Farm, repository: &Repository) {
    eventually("the first poll", || {
        let poller = farm.actors().into_iter().find(|it| it["name"] == "change-source/repo")?;
        (poller["handled"].as_i64()? > 0).then_some(())
    });
    let one = repository.commit("one");
    repository.push("main");
    expect_built(farm, "main", &one, &["begin", "one"]);

    repository.branch("topic");
    repository.commit("deep");
    let tip = repository.commit("two");
    repository.push("topic");
    expect_built(farm, "topic", &tip, &["begin", "deep", "one", "two"]);

    repository.forget_last();
    let other = repository.commit("three");
    repository.push("topic");
    expect_built(farm, "topic", &other, &["begin", "deep", "one", "three"]);

    let changes = farm.rest().list("changes");
    let revisions: Vec<_> = changes.iter().map(|it| it["revision"].as_str().unwrap_or_default()).collect();
    assert_eq!(
        revisions,
        [&one, &tip, &other],
        "history is not built; a new branch is one change for its tip"
    );
    assert_eq!(farm.rest().get("builds")["meta"]["total"], 6);
}

#[test]
fn pushes_are_built_on_our_agent() {
    let (farm, repository) = farm();
    let _agent = farm.agent("w1");
    pushes_are_built(&farm, &repository);
}

#[test]
fn pushes_are_built_on_a_stock_worker() {
    let (farm, repository) = farm();
    let _worker = farm.stock_worker("w1");
    pushes_are_built(&farm, &repository);
}

#[test]
fn what_is_pushed_while_the_master_is_dead_is_built_after_its_start() {
    let (mut farm, repository) = farm();
    let _agent = farm.agent("w1");
    let one = repository.commit("one");
    eventually("the first poll", || {
        farm.actor("change-source/repo")?["handled"].as_i64().filter(|it| *it > 0)
    });
    repository.push("main");
    expect_built(&farm, "main", &one, &["begin", "one"]);
    farm.kill_master();
    let two = repository.commit("two");
    repository.push("main");
    farm.start();
    expect_built(&farm, "main", &two, &["begin", "one", "two"]);
    assert_eq!(farm.rest().get("changes")["meta"]["total"], 2);
}
