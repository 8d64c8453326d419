//! The committed schema and reference are those of the program; the schema takes what we show to people and no key that is unknown.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};
use greenroom_config::schema;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Compares a file with what the program says, or writes it.
#[track_caller]
fn committed(path: &str, expected: &str) {
    let file = root().join(path);
    if std::env::var_os("GREENROOM_UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expected,
        "{path} is not what the sections say: GREENROOM_UPDATE=1 cargo test -p greenroom-config --test schema"
    );
}

#[test]
fn the_committed_schema_is_that_of_the_program() {
    committed("config/schema.json", &schema::text());
}

#[test]
fn the_committed_reference_is_that_of_the_program() {
    committed("docs/reference/configuration.md", &schema::reference());
}

#[test]
fn the_committed_reference_of_codes_is_that_of_the_program() {
    committed("docs/reference/check.md", &greenroom_config::explain::reference());
}

struct Checker(Schemas, SchemaIndex);

impl Checker {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("greenroom.json", schema::json()).unwrap();
        let index = compiler.compile("greenroom.json", &mut schemas).unwrap();
        Checker(schemas, index)
    }

    fn takes(&self, value: &Value) -> Result<(), String> {
        self.0.validate(value, self.1).map_err(|error| format!("{error:#}"))
    }
}

/// The TOML blocks of a page, with the line that each begins on.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line) {
            (None, "```toml") => open = Some((index + 2, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, block)), line) => *block += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    blocks
}

fn files(dir: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, into);
        } else if path.extension().is_some_and(|it| it == extension) {
            into.push(path);
        }
    }
}

fn json_of(toml: &str) -> Value {
    serde_json::to_value(toml.parse::<toml::Table>().unwrap()).unwrap()
}

/// Every configuration that we show: samples, the demo's, the defaults, the blocks of the user guide.
fn shown() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut samples = vec![root().join("config/defaults.toml"), root().join("src/commands/demo/farm.toml")];
    files(&root().join("config/samples"), "toml", &mut samples);
    for path in samples {
        found.push((
            path.display().to_string(),
            json_of(&std::fs::read_to_string(&path).unwrap().replace("{listen}", "127.0.0.1:1")),
        ));
    }
    let mut pages = vec![root().join("README.md")];
    files(&root().join("docs/user-guide"), "md", &mut pages);
    for page in pages {
        for (line, block) in blocks(&std::fs::read_to_string(&page).unwrap()) {
            found.push((format!("{}:{line}", page.display()), json_of(&block)));
        }
    }
    assert!(found.len() > 15, "only {} configurations were found", found.len());
    found
}

#[test]
fn the_schema_takes_every_configuration_that_we_show() {
    let checker = Checker::new();
    let wrong: Vec<String> = shown()
        .into_iter()
        .filter_map(|(name, value)| checker.takes(&value).err().map(|error| format!("{name}: {error}")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Tables whose keys people choose.
const FREE: &[&str] = &[
    "properties",
    "env",
    "decode-rc",
    "workers",
    "change-sources",
    "schedulers",
    "builders",
    "notifiers",
    "kinds",
    "names",
    "headers",
    "authz",
    "repositories",
    "recipes",
    "secrets",
    "with",
    "matrix",
    "parameters",
    "include",
    "exclude",
    "value",
    "kinds",
    "lookup",
];

/// Puts an unknown key into every table whose keys are ours, one at a time.
fn with_unknown_keys(value: &Value, path: &mut Vec<String>, visit: &mut impl FnMut(&[String])) {
    match value {
        Value::Object(table) => {
            let free = path.last().is_some_and(|it| FREE.contains(&it.as_str()));
            if !free {
                visit(path);
            }
            for (name, inner) in table {
                path.push(name.clone());
                // What stands in a free table of values is free as well.
                if !["properties", "value", "with", "matrix"].contains(&name.as_str()) {
                    with_unknown_keys(inner, path, visit);
                }
                path.pop();
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                path.push(index.to_string());
                with_unknown_keys(inner, path, visit);
                path.pop();
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_refuses_an_unknown_key_in_every_table() {
    let checker = Checker::new();
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, value) in shown() {
        with_unknown_keys(&value, &mut Vec::new(), &mut |path| {
            let mut changed = value.clone();
            let pointer: String =
                path.iter().map(|it| format!("/{}", it.replace('~', "~0").replace('/', "~1"))).collect();
            changed.pointer_mut(&pointer).unwrap()["misspelled"] = json!(1);
            seen += 1;
            if checker.takes(&changed).is_ok() {
                wrong.push(format!("{name}: {pointer}"));
            }
        });
    }
    assert!(seen > 100, "only {seen} tables were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_schema_refuses_what_the_loader_refuses() {
    let checker = Checker::new();
    for text in [
        "[workers.w]\nkind = 'remot'\n",
        "[workers.w]\nmax-builds = 0\n",
        "[workers.w]\npassword = { fil = 'x' }\n",
        "[change-sources.r]\nkind = 'git-poller'\n",
        "[change-sources.r]\nkind = 'git-poller'\nrepository = 'x'\ninterval = '5'\n",
        "[schedulers.s]\nkind = 'any-brunch'\nbuilders = '*'\n",
        "[schedulers.s]\nkind = 'force'\nbuilders = '*'\nfilter = {}\n",
        "[builders.b]\n",
        "[builders.b]\nsteps = []\n",
        "[[builders.b.steps]]\nname = 'x'\n",
        "[[builders.b.steps]]\nkind = 'svn'\n",
        "[[builders.b.steps]]\nrun = ''\n",
        "[[builders.b.steps]]\nrun = 'x'\ndecode-rc = { 1 = 'skiped' }\n",
        "[[builders.b.steps]]\nkind = 'git'\nrepository = 'x'\nmode = 'partial'\n",
        "[supervision]\nbackoff = { min = '1s' }\n",
        "[supervision.kinds.build]\nrestart = 'always'\n",
        "[www]\nauth = 'everybody'\n",
        "top = 1\n",
        "[bilders.x]\n",
    ] {
        assert!(checker.takes(&json_of(text)).is_err(), "taken: {text}");
    }
}

/// Every key says what it is for, also in tables within tables.
fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if key["description"].as_str().is_none_or(|it| it.len() < 5) {
            found.push(path.clone());
        }
        undescribed(key, &path, found);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            undescribed(&schema[inner], path, found);
        }
    }
    for inner in ["oneOf", "anyOf"].iter().flat_map(|it| schema[*it].as_array().into_iter().flatten()) {
        undescribed(inner, path, found);
    }
}

#[test]
fn every_key_has_a_description() {
    let mut found = Vec::new();
    undescribed(&schema::json(), "", &mut found);
    assert!(found.is_empty(), "{found:#?}");
}

/// A default is a value that the key takes.
fn wrong_defaults(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if let Some(default) = key.get("default") {
            let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
            compiler.add_resource("key.json", key.clone()).unwrap();
            let index = compiler.compile("key.json", &mut schemas).unwrap();
            if schemas.validate(default, index).is_err() {
                found.push(format!("{path}: {default}"));
            }
        }
        wrong_defaults(key, &path, found);
    }
    for inner in ["items", "additionalProperties"].into_iter().filter(|it| schema[*it].is_object()) {
        wrong_defaults(&schema[inner], path, found);
    }
    for inner in schema["oneOf"].as_array().into_iter().flatten() {
        wrong_defaults(inner, path, found);
    }
}

#[test]
fn every_default_is_a_value_of_its_key() {
    let mut found = Vec::new();
    wrong_defaults(&schema::json(), "", &mut found);
    assert!(found.is_empty(), "{found:#?}");
    let schema = schema::json();
    let timeout =
        &schema["properties"]["builders"]["additionalProperties"]["properties"]["steps"]["items"]["oneOf"][0];
    assert_eq!(timeout["properties"]["timeout"]["default"], "20m");
    assert_eq!(schema["properties"]["www"]["properties"]["listen"]["default"], "127.0.0.1:8010");
}
