//! What each kind of step asks of a worker.

use greenroom_model::*;
use greenroom_process::runner::{Execution, Program, WorkerCommand};
use serde_json::json;

use crate::farm::{Farm, change};
use crate::workers::{Play, words};

fn farm(steps: &str) -> String {
    format!(
        r#"
[workers.w1]
password = "p"
properties = {{ os = "debian" }}
[schedulers.all]
kind = "any-branch"
builders = ["linux x"]
[builders."linux x"]
env = {{ A = "builder", B = "${{HOME}}/b" }}
properties = {{ flags = ["-a", "-b"], greeting = "hello ${{{{ prop.branch }}}}" }}
{steps}
"#
    )
}

/// The builder's own directory: the hash tells it from that of `linux_x`.
fn directory(farm: &Farm) -> String {
    format!("/w/{}/linux_x-2e8a04ed", farm.worker("w1"))
}

/// The first command of a checkout.
fn unlock(farm: &Farm) -> String {
    let locks = ["index", "shallow", "HEAD", "config", "packed-refs"];
    let locks = locks.map(|it| format!("{}/build/.git/{it}.lock", directory(farm)));
    format!("rmdir {}", locks.join(" "))
}

async fn built(farm: &Farm) -> std::sync::Arc<Build> {
    farm.push("main", "abc").await;
    farm.finished("linux x", 1).await
}

fn execution(farm: &Farm, index: usize) -> Execution {
    match &farm.workers.sent()[index].order.command {
        WorkerCommand::Execute(it) => it.clone(),
        other => panic!("{other:?}"),
    }
}

#[actix_rt::test]
async fn expressions_become_variables_and_arguments_never_shell_text() {
    let steps = r#"
[[builders."linux x".steps]]
name = "script"
run = "echo ${{ prop.branch }} ${{ prop.greeting }}"
env = { A = "step ${{ worker.name }}" }
workdir = "src/${{ builder.name }}"
timeout = "90s"
max-time = "1h"
[[builders."linux x".steps]]
name = "argv"
run = ["make", "${{ prop.flags }}", "${{ src.branch }}"]
timeout = "0s"
"#;
    let farm = Farm::start(&farm(steps)).await;
    farm.push_change(change("$(reboot) ${HOME}", "abc")).await;
    assert_eq!(farm.finished("linux x", 1).await.results, Some(Results::Success));
    let script = execution(&farm, 0);
    assert_eq!(script.program, Program::Script("echo \"${GR_0}\" \"${GR_1}\"".into()));
    let variable = |name: &str| script.env.iter().find(|it| it.0 == name).unwrap().1.clone();
    // the worker replaces `${NAME}`; what came from outside is written so that it stays as it is
    assert_eq!(variable("GR_0"), "$(reboot) $${}{HOME}");
    assert_eq!((variable("A").as_str(), variable("B").as_str()), ("step w1", "${HOME}/b"));
    let base = directory(&farm);
    assert_eq!(script.workdir, format!("{base}/src/linux x"));
    assert_eq!((script.timeout_s, script.max_time_s), (Some(90.0), Some(3600.0)));
    let argv = execution(&farm, 1);
    assert_eq!(
        argv.program,
        Program::Argv(["make", "-a", "-b", "$(reboot) ${HOME}"].map(str::to_owned).to_vec())
    );
    assert_eq!((argv.workdir, argv.timeout_s), (format!("{base}/build"), None));
    farm.finish().await;
}

#[actix_rt::test]
async fn an_expression_that_fails_ends_the_step_with_words() {
    let steps = "[[builders.\"linux x\".steps]]\nname = \"s\"\nrun = [\"echo\", \"${{ prop.missing }}\"]\n";
    let farm = Farm::start(&farm(steps)).await;
    let build = built(&farm).await;
    assert_eq!(build.results, Some(Results::Exception));
    assert!(build.state_string.contains("there is no `missing`"), "{}", build.state_string);
    assert_eq!(farm.workers.sent().len(), 0);
    let logs = farm.data.ro().list::<Log>(Default::default()).await.unwrap().value.items;
    let text = farm.data.ro().log_lines(logs[0].id, 0, 10).await.unwrap().text;
    assert!(String::from_utf8_lossy(&text).starts_with("h`prop.missing`"), "{text:?}");
    farm.finish().await;
}

#[actix_rt::test]
async fn a_workdir_from_outside_cannot_leave_the_builders_directory() {
    let steps = "[[builders.\"linux x\".steps]]\nrun = \"true\"\nworkdir = \"${{ prop.branch }}\"\n";
    let farm = Farm::start(&farm(steps)).await;
    farm.push_change(change("../../etc", "abc")).await;
    let build = farm.finished("linux x", 1).await;
    assert_eq!(build.results, Some(Results::Exception));
    assert_eq!(farm.workers.sent().len(), 0);
    farm.finish().await;
}

#[actix_rt::test]
async fn warnings_are_counted_in_what_was_printed() {
    let steps = "[[builders.\"linux x\".steps]]\nname = \"cc\"\nrun = \"make\"\nwarnings = \"warning:\"\nwarn-on-warnings = true\n";
    let farm = Farm::start(&farm(steps)).await;
    farm.workers.play(|_| Play::Print("a.c: warning: x\nfine\nb.c: warning: y", 0));
    let build = built(&farm).await;
    assert_eq!(build.results, Some(Results::Warnings));
    assert_eq!(build.state_string, "warnings cc (finished (2 warnings))");
    assert_eq!(farm.properties(build.id).await["warnings-count"], json!(2));
    farm.finish().await;
}

#[actix_rt::test]
async fn exit_codes_are_decoded_and_a_timeout_says_so() {
    let steps = "[[builders.\"linux x\".steps]]\nname = \"s\"\nrun = \"s\"\ndecode-rc = { 77 = \"skipped\" }\n\
                 [[builders.\"linux x\".steps]]\nname = \"t\"\nrun = \"t\"\n";
    let farm = Farm::start(&farm(steps)).await;
    farm.workers.play(|order| {
        if words(order) == "s" { Play::Exit(77) } else { Play::Killed("timeout_without_output") }
    });
    let build = built(&farm).await;
    let steps = farm.steps(build.id).await;
    assert_eq!((steps[1].1, steps[2].1), (Some(Results::Skipped), Some(Results::Failure)));
    assert_eq!(build.state_string, "failed t (timed out without output)");
    farm.finish().await;
}

#[actix_rt::test]
async fn properties_are_set_from_values_and_from_output() {
    let steps = r#"
[[builders."linux x".steps]]
kind = "set-property"
property = "both"
value = "${{ prop.flags + [prop.os] }}"
[[builders."linux x".steps]]
kind = "set-property"
property = "version"
run = ["cat", "VERSION"]
[[builders."linux x".steps]]
name = "use"
run = ["echo", "${{ prop.both }}", "${{ prop.version }}"]
"#;
    let farm = Farm::start(&farm(steps)).await;
    farm.workers
        .play(|order| if words(order) == "cat VERSION" { Play::Print(" 1.2\n", 0) } else { Play::Exit(0) });
    let build = built(&farm).await;
    assert_eq!(build.results, Some(Results::Success), "{}", build.state_string);
    assert_eq!(farm.workers.words(), ["cat VERSION", "echo -a -b debian 1.2"]);
    let properties = farm.properties(build.id).await;
    assert_eq!(
        (&properties["both"], &properties["version"]),
        (&json!(["-a", "-b", "debian"]), &json!("1.2"))
    );
    assert_eq!(properties["greeting"], json!("hello main"));
    let names: Vec<String> = farm.steps(build.id).await.into_iter().map(|it| it.0).collect();
    assert_eq!(names, ["worker_preparation", "set_both", "set_version", "use"]);
    farm.finish().await;
}

const GIT: &str = "[[builders.\"linux x\".steps]]\nkind = \"git\"\nrepository = \"https://x.org/r\"\n";

#[actix_rt::test]
async fn a_checkout_is_a_few_commands_without_a_shell() {
    let farm = Farm::start(&farm(&format!("{GIT}mode = \"full\"\nshallow = true\n"))).await;
    farm.workers.play(|order| {
        if words(order).contains("rev-parse") { Play::Print("abcdef0123456789\n", 0) } else { Play::Exit(0) }
    });
    let build = built(&farm).await;
    assert_eq!(build.results, Some(Results::Success), "{}", build.state_string);
    assert_eq!(
        farm.workers.words(),
        [
            unlock(&farm).as_str(),
            "git init --quiet",
            "git fetch --quiet --force --no-tags --depth=1 -- https://x.org/r +refs/heads/main:refs/remotes/origin/main",
            "git checkout --quiet --force --detach abc --",
            "git clean --quiet -ffdx",
            "git rev-parse --verify HEAD",
        ]
    );
    assert!(farm.workers.sent()[1..].iter().all(|it| execution_env(&it.order.command) == "0"));
    let properties = farm.properties(build.id).await;
    assert_eq!(
        (&properties["got_revision"], &properties["revision"]),
        (&json!("abcdef0123456789"), &json!("abc"))
    );
    farm.finish().await;
}

fn execution_env(command: &WorkerCommand) -> &str {
    let WorkerCommand::Execute(it) = command else { panic!("{command:?}") };
    &it.env.iter().find(|it| it.0 == "GIT_TERMINAL_PROMPT").unwrap().1
}

#[actix_rt::test]
async fn a_revision_that_the_branch_lacks_is_fetched_by_its_name() {
    let farm = Farm::start(&farm(GIT)).await;
    let tries = std::sync::atomic::AtomicU32::new(0);
    farm.workers.play(move |order| match words(order) {
        it if it.contains("checkout") && tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => {
            Play::Exit(128)
        }
        it if it.contains("rev-parse") => Play::Print("abc\n", 0),
        _ => Play::Exit(0),
    });
    let build = built(&farm).await;
    assert_eq!(build.results, Some(Results::Success), "{}", build.state_string);
    assert_eq!(farm.workers.words()[4], "git fetch --quiet --force --no-tags -- https://x.org/r abc");
    farm.finish().await;
}

#[actix_rt::test]
async fn a_branch_that_looks_like_an_option_is_refused_and_a_failed_checkout_ends_the_build() {
    let farm = Farm::start(&farm(&format!("{GIT}[[builders.\"linux x\".steps]]\nrun = \"make\"\n"))).await;
    farm.push_change(change("--upload-pack=touch x", "abc")).await;
    let build = farm.finished("linux x", 1).await;
    assert_eq!(build.results, Some(Results::Exception));
    assert_eq!(farm.workers.sent().len(), 0, "nothing was run, the compile step neither");
    farm.workers.play(|order| if words(order).contains("fetch") { Play::Exit(128) } else { Play::Exit(0) });
    farm.push("main", "def").await;
    let build = farm.finished("linux x", 2).await;
    assert_eq!(
        (build.results, build.state_string.as_str()),
        (Some(Results::Failure), "failed git (exit code 128)")
    );
    assert!(!farm.workers.words().contains(&"make".to_owned()));
    farm.finish().await;
}

/// A worker on which git gives up in `broken` until the directory has been removed.
fn damaged(farm: &Farm, broken: &'static str, remote: i64) {
    let (whole, fresh) =
        (format!("rmdir {}/build", directory(farm)), std::sync::atomic::AtomicBool::new(false));
    farm.workers.play(move |order| match words(order) {
        it if it == whole => {
            fresh.store(true, std::sync::atomic::Ordering::SeqCst);
            Play::Exit(0)
        }
        it if it.contains("ls-remote") => Play::Exit(remote),
        it if it.contains(broken) && !fresh.load(std::sync::atomic::Ordering::SeqCst) => Play::Exit(128),
        it if it.contains("rev-parse") => Play::Print("abc\n", 0),
        _ => Play::Exit(0),
    });
}

async fn remade_when_it_fails(broken: &'static str) {
    let farm = Farm::start(&farm(GIT)).await;
    damaged(&farm, broken, 0);
    let build = built(&farm).await;
    assert_eq!(build.results, Some(Results::Success), "{}", build.state_string);
    let whole = format!("rmdir {}/build", directory(&farm));
    assert_eq!(farm.workers.words().iter().filter(|it| **it == whole).count(), 1);
    farm.finish().await;
}

#[actix_rt::test]
async fn a_clone_with_a_broken_configuration_is_made_anew_once() {
    remade_when_it_fails("git init").await;
}

#[actix_rt::test]
async fn a_clone_that_cannot_take_a_fetch_is_made_anew_once() {
    remade_when_it_fails("git fetch").await;
}

#[actix_rt::test]
async fn a_clone_that_cannot_be_checked_out_is_made_anew_once() {
    remade_when_it_fails("git checkout").await;
}

async fn kept_when_it_fails(steps: &str, broken: &'static str, remote: i64) {
    let farm = Farm::start(&farm(steps)).await;
    damaged(&farm, broken, remote);
    let build = built(&farm).await;
    let end = (build.results, build.state_string.as_str());
    assert_eq!(end, (Some(Results::Failure), "failed git (exit code 128)"));
    let removed = farm.workers.words().iter().filter(|it| it.starts_with("rmdir")).count();
    assert_eq!(removed, 1, "only the locks: {:?}", farm.workers.words());
    farm.finish().await;
}

#[actix_rt::test]
async fn a_clone_is_kept_when_the_remote_is_away() {
    kept_when_it_fails(GIT, "git fetch", 128).await;
}

#[actix_rt::test]
async fn a_clone_outside_the_builders_directory_is_never_removed() {
    kept_when_it_fails(&format!("{GIT}workdir = \"/srv/shared\"\n"), "git checkout", 0).await;
}

#[actix_rt::test]
async fn a_condition_decides_whether_a_step_runs() {
    let step = |name: &str, condition: &str| {
        format!(
            "[[builders.\"linux x\".steps]]\nname = \"{name}\"\nif = \"{condition}\"\nrun = [\"{name}\"]\n"
        )
    };
    let steps = step("yes", "src.branch == 'main' && change.files.exists(f, f.startsWith('src/'))")
        + &step("where", "change.repository == 'https://x.org/r' && change.project == ''")
        + &step("no", "src.branch == 'release'");
    let farm = Farm::start(&farm(&steps)).await;
    let build = built(&farm).await;
    assert_eq!(build.results, Some(Results::Success), "{}", build.state_string);
    assert_eq!(farm.workers.words(), ["yes", "where"]);
    let steps = farm.steps(build.id).await;
    let skipped = ("no".to_owned(), Some(Results::Skipped), "skipped: its condition is false".to_owned());
    assert_eq!(steps[3], skipped);
    farm.finish().await;
}

async fn fails_by_its_condition(condition: &str, why: &str) {
    let steps = format!(
        "[[builders.\"linux x\".steps]]\nname = \"first\"\nif = \"{condition}\"\nrun = [\"first\"]\n\
         [[builders.\"linux x\".steps]]\nname = \"last\"\nalways-run = true\nrun = [\"last\"]\n"
    );
    let farm = Farm::start(&farm(&steps)).await;
    let build = built(&farm).await;
    assert_eq!(build.results, Some(Results::Exception), "{}", build.state_string);
    assert!(build.state_string.contains(why), "{}", build.state_string);
    let steps = farm.steps(build.id).await;
    let text = format!("its condition cannot be evaluated: {why}");
    assert_eq!(steps[1], ("first".to_owned(), Some(Results::Exception), text));
    assert_eq!(farm.workers.words(), ["last"], "it did not run, and what always runs did");
    farm.finish().await;
}

#[actix_rt::test]
async fn a_condition_that_cannot_be_evaluated_is_named_by_the_step_and_its_build() {
    fails_by_its_condition("prop.missing == 1", "`prop.missing == 1`: there is no `missing`").await;
}

#[actix_rt::test]
async fn a_condition_that_is_neither_true_nor_false_is_named_by_the_step_and_its_build() {
    fails_by_its_condition("prop.flags", "`prop.flags`: a condition must be true or false").await;
}
