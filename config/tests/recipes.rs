//! Recipes, matrices, included files, tables that are not enabled, secrets in expressions: what they become, and their faults.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use greenroom_config::expr::{Run, Scope};
use greenroom_config::{Builder, LoadOptions, Settings, StepAction, load, load_text};

const REST: &str = "
[workers.local]
kind = 'local'
[change-sources.c]
kind = 'git-poller'
repository = '/srv/c'
[schedulers.all]
kind = 'any-branch'
builders = '*'
";

#[track_caller]
fn settings(text: &str) -> Settings {
    let loaded =
        load_text(&format!("{text}{REST}"), Path::new("/srv/ci")).unwrap_or_else(|it| panic!("{it}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.settings
}

/// One line a fault, with its notes: `line:column code: message [value] (help) {line: note}`.
fn faults(text: &str) -> Vec<String> {
    let found = match load_text(&format!("{text}{REST}"), Path::new("/srv/ci")) {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults.into_vec(),
    };
    let line = |fault: &greenroom_config::Fault| {
        let place = fault.place.as_ref().map(|it| format!("{}:{} ", it.line, it.column)).unwrap_or_default();
        let value = fault.value().map(|it| format!(" [{it}]")).unwrap_or_default();
        let help = fault.help.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let note = |it: &greenroom_config::Note| {
            format!(" {{{}: {}}}", it.place.as_ref().map_or(0, |it| it.line), it.message)
        };
        let notes: String = fault.notes.iter().map(note).collect();
        format!("{place}{}: {}{value}{help}{notes}", fault.code, fault.message)
    };
    found.iter().map(line).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found = faults(text);
    assert_eq!(found, expected, "\nfound:\n{}\n", found.join("\n"));
}

/// What each step runs, with the variables that its expressions became.
fn runs(builder: &Builder) -> Vec<String> {
    let run = |step: &greenroom_config::Step| match &step.action {
        StepAction::Shell(it) => match &it.run {
            Run::Script(script) => {
                let rendered = script.render(&Scope::new()).unwrap();
                let env: String =
                    rendered.env.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{}{env}", rendered.script)
            }
            Run::Argv(argv) => format!("{:?}", argv.render(&Scope::new()).unwrap()),
        },
        _ => String::new(),
    };
    builder.steps.iter().map(run).collect()
}

const RUST: &str = r#"[recipes.rust]
env = { CARGO_TERM_COLOR = "never", LEVEL = "${{ param.level }}" }
tags = ["rust"]
max-time = "${{ param.limit }}"
[recipes.rust.parameters]
toolchain = "stable"
level = 1
flags = []
limit = { default = "1h", description = "how long a build may take" }
target = { kind = "string", choices = ["x86", "arm"] }
[[recipes.rust.steps]]
run = "cargo +${{ param.toolchain }} build --target '${{ param.target }}' ${{ 'a b' + param.target }}"
name = "build for ${{ param.target }}"
[[recipes.rust.steps]]
run = ["cargo", "test", "${{ param.flags }}", "--level=${{ param.level }}"]
"#;

#[test]
fn a_recipe_is_put_into_its_builders() {
    let text = format!(
        "{RUST}[builders.one]\nrecipe = 'rust'\nwith = {{ target = 'x86' }}\n[builders.two]\nrecipe = 'rust'\n\
         tags = ['slow']\nenv = {{ LEVEL = '9' }}\nwith = {{ target = 'arm', flags = ['-v', '-q'], toolchain = 'a b' }}\n"
    );
    let settings = settings(&text);
    let (one, two) = (&settings.builders["one"], &settings.builders["two"]);
    assert_eq!(
        runs(one),
        ["cargo +stable build --target 'x86' \"${GR_0}\" GR_0=a bx86", r#"["cargo", "test", "--level=1"]"#]
    );
    assert_eq!(one.steps[0].name(), "build for x86");
    assert_eq!(one.options.env["LEVEL"].as_literal(), Some("1"));
    assert_eq!(one.options.max_time.unwrap().to_string(), "1h");
    assert_eq!(
        runs(two),
        [
            "cargo +\"${GR_0}\" build --target 'arm' \"${GR_1}\" GR_0=a b GR_1=a barm",
            r#"["cargo", "test", "-v", "-q", "--level=1"]"#
        ]
    );
    assert_eq!((two.options.env["LEVEL"].source(), two.options.env.len()), ("9", 2));
    assert_eq!(
        (one.options.tags.as_slice(), two.options.tags.as_slice()),
        (&["rust".to_owned()][..], &["slow".to_owned()][..])
    );
}

#[test]
fn a_matrix_becomes_its_builders() {
    let matrix = r#"
[builders.t]
tags = ["${{ matrix.os }}"]
max-time = "${{ matrix.os == 'mac' ? '2h' : '1h' }}"
[builders.t.matrix]
py = ["3.12", "3.13"]
os = ["linux", "mac"]
exclude = [{ py = "3.12", os = "mac" }]
include = [{ os = "mac", extra = "-x" }, { py = "3.14", os = "linux", extra = "--pre" }]
[[builders.t.steps]]
run = "python${{ matrix.py }} ${{ has(matrix.extra) ? matrix.extra : 'none' }} ${{ matrix.py == '3.13' }}"
"#;
    let settings = settings(matrix);
    let names: Vec<&str> = settings.builders.keys().map(String::as_str).collect();
    assert_eq!(names, ["t-3.12-linux", "t-3.13-linux", "t-3.13-mac", "t-3.14-linux"]);
    let run = |name: &str| runs(&settings.builders[name]).join("");
    assert_eq!(run("t-3.12-linux"), "python3.12 none false");
    assert_eq!(run("t-3.13-mac"), "python3.13 -x true");
    assert_eq!(run("t-3.14-linux"), "python3.14 --pre false");
    assert_eq!(settings.builders["t-3.13-mac"].options.tags, ["mac"]);
    assert_eq!(settings.builders["t-3.13-mac"].options.max_time.unwrap().to_string(), "2h");
}

#[test]
fn a_matrix_of_a_recipe_is_named_by_a_template_and_asked_by_its_table() {
    let text = format!(
        "{RUST}[builders.m]\nrecipe = 'rust'\nwith = {{ target = '${{{{ matrix.cpu }}}}', toolchain = '${{{{ matrix.rust }}}}' }}\n\
         [builders.m.matrix]\ncpu = ['x86', 'arm']\nrust = ['stable', 'nightly']\nname = '${{{{ matrix.rust }}}} on ${{{{ matrix.cpu }}}}'\n\
         [builders.other]\nsteps = [{{ run = 'true' }}]\n\
         [schedulers.some]\nkind = 'any-branch'\nbuilders = ['m', 'other']\n[schedulers.one]\nkind = 'force'\nbuilders = ['stable on arm']\n"
    );
    let settings = settings(&text);
    let of = |name: &str| settings.builders_of(&settings.schedulers[name]);
    assert_eq!(of("some"), ["stable on x86", "other", "nightly on x86", "stable on arm", "nightly on arm"]);
    assert!(runs(&settings.builders["nightly on arm"])[0].starts_with("cargo +nightly build --target 'arm'"));
}

#[test]
fn faults_in_recipes_point_at_the_recipe_and_at_the_use() {
    let recipe = "[recipes.r]\nparameters = { n = 1 }\n[[recipes.r.steps]]\nrun = 'echo ${{ param.m }}'\n[[recipes.r.steps]]\nrun = 'x'\ntimeot = '1m'\n";
    check(
        &format!("{recipe}[builders.a]\nrecipe = 'r'\n[builders.b]\nrecipe = 'r'\n"),
        &[
            "4:17 bad-value: `param` has no `m` [param.m] (did you mean `n`?) {9: the builder `a` uses the recipe}",
            "7:1 unknown-key: unknown key `timeot` in `recipes.r.steps[1]` [timeot] (did you mean `timeout`?) {9: the builder `a` uses the recipe}",
        ],
    );
    let good = "[recipes.r]\nparameters = { n = 1, c = { choices = ['x', 'y'] }, d = { kind = 'int' } }\nsteps = [{ run = 'x ${{ param.n }} ${{ param.c }} ${{ param.d }}' }]\n";
    check(
        &format!("{good}[builders.a]\nrecipe = 'r'\nwith = {{ n = 'one', c = 'z', d = true, e = 1 }}\n"),
        &[
            "6:14 bad-value: expected a whole number ['one'] {2: the parameter `n` of the recipe}",
            "6:25 bad-value: \"z\" is none of the choices ['z'] (there are: \"x\", \"y\") {2: the parameter `c` of the recipe}",
            "6:34 bad-value: expected a whole number [true] {2: the parameter `d` of the recipe}",
            "6:40 unknown-key: the recipe `r` has no parameter `e` [e] (did you mean `c`?)",
        ],
    );
    check(
        &format!(
            "{good}[builders.a]\nrecipe = 'r'\n[builders.b]\nrecipe = 'q'\nsteps = []\n[builders.d]\nrecipe = 'r'\nwith.c = 'x'\nwith.d = 1\nsteps = [{{ run = 'y' }}]\n[builders.e]\nwith.x = 1\nsteps = [{{ run = 'y' }}]\n"
        ),
        &[
            "5:10 missing-key: the recipe `r` needs the parameter `c` ['r'] (add with = { c = … }) {2: `c` has no default}",
            "5:10 missing-key: the recipe `r` needs the parameter `d` ['r'] (add with = { d = … }) {2: `d` has no default}",
            "7:10 unknown-name: there is no recipe `q` ['q'] (did you mean `r`?)",
            "13:1 bad-value: the recipe has the steps of this builder [steps] (leave one of them out) {3: the steps of the recipe}",
            "15:1 no-effect: `with` gives values to a recipe, and there is no `recipe` [with]",
        ],
    );
    check(
        "[recipes.r]\nrecipe = 'x'\nparameters = { a = { kind = 'text' }, b = { kind = 'int', default = 'x' } }\n[builders.b]\nsteps = [{ run = 'echo ${{ param.x }} ${{ matrix.y }}' }]\n",
        &[
            "2:1 unknown-key: a recipe has no `recipe` [recipe] (it belongs to the builders)",
            "3:29 unknown-value: unknown value `text` ['text'] (there are: string, int, number, bool, list, map)",
            "3:69 bad-value: expected a whole number ['x']",
            "5:28 bad-value: there is no `param` here [param] (it holds the parameters of a recipe, in its steps and keys)",
        ],
    );
    check(
        "[recipes.r]\nsteps = [{ run = 'x' }]\n[builders.b]\nsteps = [{ run = 'y' }]\n",
        &["1:10 unused: no builder uses the recipe `r` [r] (write recipe = \"r\" in a builder)"],
    );
}

#[test]
fn faults_of_matrices() {
    let with =
        |matrix: &str| format!("[builders.b]\nsteps = [{{ run = 'x' }}]\n[builders.b.matrix]\n{matrix}\n");
    check(
        &with("os = 'linux'"),
        &["4:1 wrong-type: the axis `os` must be a list of values [os] (write os = [\"one\", \"two\"])"
            .replace("4:1", "4:6")
            .replace("[os] ", "['linux'] ")
            .as_str()],
    );
    check(
        &with("a = [1, 2]\nname = 'same'"),
        &[
            "5:8 duplicate-name: two builders of the matrix are called `same` ['same'] (write name = \"b-${{ matrix.AXIS }}\" with all axes that differ)",
        ],
    );
    check(
        &with("a = [1, 1]"),
        &[
            "3:13 duplicate-name: two builders of the matrix are called `b-1` [matrix] (write name = \"b-${{ matrix.AXIS }}\" with all axes that differ)",
        ],
    );
    check(
        &with("a = [1]\nname = 'x-${{ matrix.c }}'"),
        &["5:15 bad-value: `matrix` has no `c` [matrix.c] (did you mean `a`?)"],
    );
    check(
        &with("a = [1, 2]\nexclude = [{ b = 1 }]"),
        &["5:14 unknown-key: the matrix has no axis `b` [b] (did you mean `a`?)"],
    );
    check(
        &with("a = [1, 2]\nexclude = [{ a = 3 }]"),
        &["5:12 no-effect: no combination of the matrix is like this [{ a = 3 }]"],
    );
    check(
        &with("a = [1]\nexclude = [{ a = 1 }]"),
        &["3:13 bad-value: the matrix has no combinations [matrix]"],
    );
    let many: Vec<String> = (0..17).map(|it| it.to_string()).collect();
    check(
        &with(&format!("a = [{0}]\nb = [{0}]", many.join(", "))),
        &["3:13 too-many: the matrix makes more than 256 builders [matrix] (divide it, or leave axes out)"],
    );
    check(
        &format!("{}[builders.b-1]\nsteps = [{{ run = 'x' }}]\n", with("a = [1]")),
        &["3:13 duplicate-name: the matrix makes a builder `b-1`, and there is another one [matrix]"],
    );
    check(
        "[builders.b]\nworkers = ['${{ matrix.w }}']\nsteps = [{ run = 'x', timeout = '${{ matrix.w }}' }]\n[builders.b.matrix]\nw = ['local', 'nowhere']\n",
        &[
            "2:12 unknown-name: there is no worker `nowhere` ['${{ matrix.w }}'] (there are: local) {4: in the builder `b-nowhere` of this matrix}",
            "3:33 bad-value: not a duration ['${{ matrix.w }}'] (write a number with its unit, such as \"30s\", \"20m\" or \"1h 30m\" (us, ms, s, m, h, d, w)) {4: in the builder `b-local` of this matrix}",
        ],
    );
}

#[test]
fn what_is_not_enabled_is_not_there_and_may_be_named() {
    let settings = settings(
        "[workers.w]\nenabled = false\npassword = 'x'\n[builders.a]\nworkers = ['w', 'local']\nsteps = [{ run = 'x' }]\n\
         [builders.b]\nenabled = false\nsteps = 7\n[builders.c]\nenabled = true\nsteps = [{ run = 'x' }]\n\
         [schedulers.s]\nkind = 'force'\nbuilders = ['a', 'b']\n[schedulers.t]\nenabled = false\nkind = 'force'\nbuilders = '*'\n",
    );
    assert_eq!(settings.workers.keys().collect::<Vec<_>>(), ["local"]);
    assert_eq!(settings.builders.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(settings.schedulers.keys().collect::<Vec<_>>(), ["all", "s"]);
    assert_eq!(settings.builders_of(&settings.schedulers["s"]), ["a"]);
    assert_eq!(settings.workers_of(&settings.builders["a"]), ["local"]);
    check(
        "[builders.a]\nenabled = 'no'\nsteps = [{ run = 'x' }]\n",
        &["2:11 wrong-type: expected true or false ['no']"],
    );
}

#[test]
fn secrets_become_variables_and_nothing_else() {
    let secret = "[secrets.deploy-token]\nenv = 'TOKEN'\n[builders.b]\n";
    let env = vec![("TOKEN".to_owned(), "hunter2!".to_owned())];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ci.toml");
    let text = format!(
        "{secret}env = {{ T = 'a-${{{{ secret.deploy_token }}}}' }}\n[[builders.b.steps]]\nrun = 'curl -u ${{{{ secret.deploy_token }}}} x'\n{REST}"
    );
    std::fs::write(&file, text).unwrap();
    let settings = load(&LoadOptions { files: vec![file], env, ..LoadOptions::default() }).unwrap().settings;
    let token = settings.secrets.named("deploy-token").unwrap();
    assert_eq!(token.expose(), "hunter2!");
    let mut scope = Scope::new();
    scope.set_secret("deploy-token", token.clone());
    let builder = &settings.builders["b"];
    let StepAction::Shell(step) = &builder.steps[0].action else { panic!("no command") };
    let Run::Script(script) = &step.run else { panic!("no script") };
    let rendered = script.render(&scope).unwrap();
    assert_eq!((rendered.script.as_str(), rendered.env[0].1.as_str()), ("curl -u \"${GR_0}\" x", "hunter2!"));
    assert_eq!(builder.options.env["T"].render_text(&scope).unwrap(), "a-hunter2!");
    assert!(!format!("{settings:?}{scope:?}").contains("hunter2"));
    assert_eq!(settings.secrets.values().iter().filter(|it| it.expose() == "hunter2!").count(), 1);
}

#[test]
fn faults_of_secrets() {
    let refused = "bad-value: a secret cannot stand here, where people would see it [secret] (use it in a `run` text or in `env`)";
    let with = |step: &str| {
        format!(
            "[secrets]\ntoken = 'hunter2'\n[[builders.b.steps]]\nrun = 'echo ${{{{ secret.token }}}}'\n[[builders.b.steps]]\n{step}\n"
        )
    };
    check(&with("run = 'x'"), &[]);
    for step in [
        "run = ['x', '${{ secret.token }}']",
        "run = 'x'\nworkdir = '${{ secret.token }}'",
        "kind = 'set-property'\nproperty = 'p'\nvalue = '${{ secret.token }}'",
        "kind = 'git'\nrepository = '/srv/${{ secret.token }}'",
    ] {
        let found = faults(&with(step));
        assert!(found.len() == 1 && found[0].ends_with(refused), "{found:?}");
    }
    check(
        &with("run = 'x ${{ raw(secret.token) }}'"),
        &[
            "6:10 bad-value: a secret cannot become shell text [${{ raw(secret.token) }}] (leave raw() out: it becomes a variable then)",
        ],
    );
    check(
        &with("run = 'x ${{ secret.tokn }}'"),
        &["6:14 bad-value: there is no secret `tokn` [secret.tokn] (did you mean `token`?)"],
    );
    check(
        "[secrets]\n\"my key\" = 'hunter2'\nb = { file = '/no/such' }\nc = 'abc'\n[builders.b]\nenv = { X = '${{ secret.b }}${{ secret.c }}' }\nsteps = [{ run = 'x' }]\n",
        &[
            "2:1 bad-name: a secret's name has only the letters a to z, digits, `-` and `_`, and begins with a letter [\"my key\"]",
            "3:5 bad-secret: cannot read the secret's file: No such file or directory (os error 2) [{ file = '/no/such' }]",
            "4:1 weak-secret: the secret `c` is too short to be masked in logs [c] (make it at least 6 characters long)",
        ],
    );
    check(
        "[secrets]\nt = 'hunter2'\n[builders.b]\nsteps = [{ run = 'x' }]\n",
        &[
            "2:1 unused: no builder uses the secret `t` [t] (write ${{ secret.t }} in a `run` text or in `env`)",
        ],
    );
}

#[test]
fn files_bring_along_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let main = write(
        "ci.toml",
        &format!(
            "include = ['base.toml', 'conf.d/*.toml', 'none/*.toml']\n[master]\ntitle = 'main'\n{REST}[builders.a]\nsteps = [{{ run = 'x' }}]\n"
        ),
    );
    write("base.toml", "include = ['sub/deep.toml']\n[master]\ntitle = 'base'\nname = 'base'\n");
    write("sub/deep.toml", "[master]\ntitle = 'deep'\nname = 'deep'\ndata-dir = 'data'\n");
    write("conf.d/2.toml", "[workers.local]\nmax-builds = 2\n");
    write("conf.d/10.toml", "[workers.local]\nmax-builds = 10\n");
    let options = LoadOptions { files: vec![main.clone()], ..LoadOptions::default() };
    let loaded = load(&options).unwrap_or_else(|it| panic!("{it}"));
    let settings = &loaded.settings;
    assert_eq!((settings.master.title.as_str(), settings.master.name.as_str()), ("main", "base"));
    assert_eq!(settings.master.data_dir, dir.path().join("sub/data"));
    assert_eq!(settings.workers["local"].max_builds.get(), 2);
    assert!(loaded.origins["master.name"].source.ends_with("base.toml"));

    write("sub/deep.toml", "include = '../ci.toml'\n");
    write("base.toml", "include = ['sub/deep.toml', 'absent.toml', 5]\n");
    let words = load(&options).unwrap_err().render(false);
    for expected in [
        "includes itself",
        "absent.toml` to include",
        "`include` is a list of files",
        "deep.toml:1:11",
        "base.toml:1:29",
    ] {
        assert!(words.contains(expected), "{words}");
    }
}
