//! Faults of mail, webhook and commit status notifiers, found when the configuration loads.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;

use greenroom_config::load_text;

const MAIL: &str = "[notifiers.x]\nkind = 'mail'\nfrom = 'ci@example.org'\n";
const HOOK: &str = "[notifiers.x]\nkind = 'webhook'\n";
const GITEA: &str = "[notifiers.x]\nkind = 'gitea-status'\ntoken = 'S3CRET'\n";

#[track_caller]
fn refused(text: &str, dir: &Path, wanted: &str) {
    let said = load_text(text, dir).err().map(|it| it.to_string()).unwrap_or_default();
    assert!(said.contains(wanted), "{wanted:?} in:\n{said}");
    assert!(!said.contains("S3CRET"), "{said}");
}

#[test]
fn what_does_not_fit_together_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for (head, keys, wanted) in [
        (MAIL, "relay = 'smtp://h'", "nobody gets this mail"),
        (MAIL, "relay = 'smtp://u@h'\nto = ['a@b.org']", "has no password"),
        (MAIL, "relay = 'smtp://u@h'\npassword = 'S3CRET'\nto = ['a@b.org']", "for everybody on the way"),
        (MAIL, "relay = 'smtp://u:S3CRET@h'\nto = ['a@b.org']", "write it as `password`"),
        (MAIL, "relay = 'smtp://h'\nto = ['a@b.org, c@d.org']", "no mail address"),
        (MAIL, "relay = 'smtp://h'\nto = ['a@b.org']\ndomain = 'b.org'", "interested = true"),
        (MAIL, "relay = 'smtp://h'\nto = ['a@b.org']\nheaders = { Bcc = 'c@d.org' }", "written by Greenroom"),
        (MAIL, "relay = 'smtp://h'\nto = ['a@b.org']\nsubject = '{{ build.number }}'", "put what only some"),
        (HOOK, "url = 'https://h/'\ncondition = 'build.number'", "and this is a whole number"),
        (HOOK, "url = 'https://h/'\ncondition = 'change.author == \"x\"'", "there is no `change` here"),
        (HOOK, "url = 'ftp://h/x'", "no http or https URL"),
        (HOOK, "url = 'https://h/'\nbody = '{\"a\": \"{{ headline }}\"}'", "is not JSON"),
        (HOOK, "url = 'https://h/'\nheaders = { Host = 'x' }", "written by Greenroom"),
        (GITEA, "", "needs a URL"),
        (GITEA, "base-url = 'https://h/'\nrepository = '../x'", "names no repository"),
        (GITEA, "base-url = 'https://h/'\ncontext = '{{ build.bulider }}'", "bulider"),
    ] {
        refused(&format!("{head}{keys}\n"), dir.path(), wanted);
    }
}

#[test]
fn a_template_in_a_file_is_tried_and_its_fault_has_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("{MAIL}relay = 'smtp://h'\nto = ['a@b.org']\ntext-template = 'mail.txt'\n");
    refused(&config, dir.path(), "cannot be read");
    let path = dir.path().join("mail.txt");
    std::fs::write(&path, "{{ headline }}\n\n{% if build %}{{ build.nubmer }}{% endif %}\n").unwrap();
    refused(&config, dir.path(), &format!("{}:3: ", path.display()));
    std::fs::write(&path, "one\n{% if %}\n").unwrap();
    refused(&config, dir.path(), &format!("{}:2: ", path.display()));
    std::fs::write(&path, "{{ headline }}{% if build %} {{ build.url }}{% endif %}\n").unwrap();
    load_text(&config, dir.path()).unwrap();
}

#[test]
fn the_name_of_a_matrix_stands_for_all_its_builders() {
    let text = "[workers.local]\nkind = 'local'\n[schedulers.all]\nkind = 'force'\nbuilders = '*'\n\
                [[builders.plain.steps]]\nrun = 'true'\n[builders.unit]\nsteps = [{ run = 'true' }]\n\
                [builders.unit.matrix]\nos = ['linux', 'mac', 'l?nux']\n[builders.unit-extra]\nsteps = [{ run = 'true' }]\n";
    let told = |builders: &str| {
        let text = format!("{text}{HOOK}url = 'https://h/'\nbuilders = {builders}\n");
        let settings = load_text(&text, Path::new("/srv/ci")).unwrap_or_else(|it| panic!("{it}")).settings;
        let wanted = settings.notifiers["x"].options.builders.clone();
        let names = settings.builders.keys().filter(|it| wanted.matches(it));
        names.cloned().collect::<Vec<_>>()
    };
    let matrix = ["unit-l?nux", "unit-linux", "unit-mac"];
    assert_eq!(told("'unit'"), matrix);
    assert_eq!(told("['unit']"), matrix, "and not `unit-extra`");
    assert_eq!(told("['plain', 'unit']"), [["plain"].as_slice(), &matrix].concat());
    assert_eq!(told("'unit-l?nux'"), ["unit-l?nux", "unit-linux"], "still a glob");
    assert_eq!(told("'*'").len(), 5);
    // names of the matrix that look like globs match themselves alone
    let text =
        text.replace("'linux', 'mac', 'l?nux'", "'l?nux', '[b]', '{c}'").replace("unit-extra", "unit-linux");
    let text = format!("{text}{HOOK}url = 'https://h/'\nbuilders = 'unit'\n");
    let wanted =
        load_text(&text, Path::new("/srv/ci")).unwrap().settings.notifiers["x"].options.builders.clone();
    for name in ["unit-l?nux", "unit-[b]", "unit-{c}"] {
        assert!(wanted.matches(name), "{name}: {wanted:?}");
    }
    assert!(!wanted.matches("unit-linux") && !wanted.matches("unit-b") && !wanted.matches("unit-c"));
}
