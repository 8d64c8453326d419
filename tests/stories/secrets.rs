//! Builders made by a matrix of a recipe build on real workers; a secret that a step prints, however it does, reaches nobody.

use std::path::Path;

use serde_json::json;

use crate::harness::{Farm, SUCCESS};

/// A recipe, its matrix, and steps that print the secret whole, in odd pieces, encoded, on standard error, and as a property.
const CONFIG: &str = r#"
[workers.w1]
password = "pw-of-w1-long"
max-builds = 2
[schedulers.force]
kind = "force"
builders = ["deploy"]
[secrets.token]
command = ["sh", "-c", "printf 'tok-%s-xyzzy' 9f31c7aa"]
[recipes.talk]
parameters = { how = { kind = "string" }, twice = false }
env = { VIA_ENV = "user:${{ secret.token }}" }
[[recipes.talk.steps]]
name = "whole"
run = "echo ${{ secret.token }}; echo \"by ${{ param.how }} $VIA_ENV\"; echo ${{ secret.token }} >&2"
[[recipes.talk.steps]]
name = "pieces"
run = """
for part in tok -9f 31 c7aa- xyz zy; do printf %s "$part"; sleep 0.05; done; echo
printf 'beg'; printf %s ${{ secret.token }} | cut -c1-7
"""
[[recipes.talk.steps]]
name = "encoded"
run = "printf '%s' ${{ secret.token }} | base64; printf 'x:%s' ${{ secret.token }} | base64; printf 'xy:%s!' ${{ secret.token }} | base64"
[[recipes.talk.steps]]
name = "traced"
run = "set -x; : ${{ secret.token }}"
shell = "bash"
[[recipes.talk.steps]]
name = "keep"
kind = "set-property"
property = "kept"
run = "echo ${{ secret.token }}"
[[recipes.talk.steps]]
name = "twice"
if = "param.twice"
run = "echo once more"
[[recipes.talk.steps]]
name = "at-the-end"
if = "build.results == 'success' && prop.kept == '***'"
run = "echo all is well"
[builders.deploy]
recipe = "talk"
with = { how = "${{ matrix.how }}", twice = "${{ matrix.twice }}" }
[builders.deploy.matrix]
how = ["night"]
twice = [true, false]
"#;
const SECRET: &str = "tok-9f31c7aa-xyzzy";

fn story(farm: &Farm) {
    for (builder, twice) in [("deploy-night-true", true), ("deploy-night-false", false)] {
        let build = farm.expect_build(farm.force(builder, &json!({})), SUCCESS);
        let whole = farm.lines(&build, "whole", 'o');
        assert_eq!(whole, ["***", "by night user:***"]);
        assert_eq!(farm.lines(&build, "whole", 'e'), ["***"]);
        assert_eq!(farm.lines(&build, "pieces", 'o'), ["***", "begtok-9f3"]);
        let encoded = farm.lines(&build, "encoded", 'o');
        assert!(encoded.len() == 3 && encoded.iter().all(|it| it.contains("***")), "{encoded:?}");
        assert!(farm.lines(&build, "traced", 'e').iter().any(|it| it.contains("***")));
        assert_eq!(farm.property(&build, "kept"), "***");
        assert_eq!(farm.step(&build, "twice")["results"], if twice { SUCCESS } else { 3 });
        assert_eq!(farm.lines(&build, "at-the-end", 'o'), ["all is well"]);
        for path in ["builders", "workers", "changes", "schedulers", "masters"] {
            assert!(!farm.rest().get(path).to_string().contains(SECRET), "{path}");
        }
        let story = farm.story_of(&build);
        assert!(!story.contains(SECRET), "{story}");
    }
    // What the master says, and every file that it keeps, the database and its log text among them.
    assert!(!farm.master_log().contains(SECRET), "{}", farm.master_log());
    nothing_below(farm.data_dir());
}

fn nothing_below(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("the data directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            nothing_below(&path);
        } else if let Ok(bytes) = std::fs::read(&path) {
            let found = bytes.windows(SECRET.len()).any(|it| it == SECRET.as_bytes());
            assert!(!found, "the secret is in {}", path.display());
        }
    }
}

#[test]
fn a_secret_reaches_nobody_on_our_agent() {
    let farm = Farm::raise(CONFIG);
    let _agent = farm.launch_agent("w1", "pw-of-w1-long");
    farm.await_worker("w1");
    story(&farm);
}

#[test]
fn a_secret_reaches_nobody_on_the_stock_worker() {
    let farm = Farm::raise(CONFIG);
    let _worker = farm.launch_stock_worker("w1", "pw-of-w1-long", "w1");
    farm.await_worker("w1");
    story(&farm);
}
