//! What `shell` makes of its arguments.

use greenroom_protocol::{Command, CommandLine, EnvValue, Logfile, Shell};

use crate::master::{World, sh, shell};

#[tokio::test]
async fn a_trivial_command_costs_one_update() {
    let (world, mut master) = World::connected().await;
    let run = master.run("1", shell(sh(&world.path().join("new/dir"), "echo out; echo err >&2"))).await;
    assert_eq!(run.stdout(), "out\n");
    assert_eq!(run.stderr(), "err\n");
    assert_eq!((run.rc(), run.failure(), run.has_elapsed()), (Some(0), None, true));
    assert_eq!(run.updates, 1, "{run:?}");
    let header = run.header();
    assert!(header.starts_with("echo out; echo err >&2\n in dir "), "{header}");
    assert!(header.contains("elapsedTime=0."), "{header}");
    assert!(world.path().join("new/dir").is_dir());
}

#[tokio::test]
async fn a_list_is_executed_without_a_shell() {
    let (world, mut master) = World::connected().await;
    let argv = ["printf", "%s|", "a b", "$HOME", "it's"].map(str::to_owned).to_vec();
    let run = master.run("1", shell(Shell::new(world.at("d"), CommandLine::Argv(argv)))).await;
    assert_eq!(run.stdout(), "a b|$HOME|it's|\n");
    assert!(run.header().starts_with(r#"printf '%s|' 'a b' '$HOME' 'it'"'"'s'"#), "{}", run.header());
}

#[tokio::test]
async fn exit_codes_and_missing_programs() {
    let (world, mut master) = World::connected().await;
    let run = master.run("1", shell(sh(&world.path(), "exit 3"))).await;
    assert_eq!(run.rc(), Some(3));
    let argv = vec!["/no/such/bin".to_owned()];
    let run = master.run("2", shell(Shell::new(world.at("."), CommandLine::Argv(argv)))).await;
    assert_eq!((run.rc(), run.failure()), (Some(1), None));
    assert_eq!(run.stderr(), "failed to run /no/such/bin: No such file or directory\n");
    let run = master.run("3", shell(sh(&world.path(), "kill -SEGV $$"))).await;
    assert_eq!(run.rc(), Some(-1));
    assert!(run.header().contains("process killed by signal 11\n"));
}

#[tokio::test]
async fn the_environment_follows_the_rules() {
    let (world, mut master) = World::connected().await;
    let mut args =
        sh(&world.path(), "echo $FOO; echo ${LIST}; echo ${PATH-none}; echo $PWD; env | grep -c ^HOME=");
    args.env = vec![
        ("FOO".to_owned(), EnvValue::Text("${HOME}/x${NO_SUCH_VARIABLE}".to_owned())),
        ("LIST".to_owned(), EnvValue::List(vec!["a".to_owned(), "b".to_owned()])),
        ("HOME".to_owned(), EnvValue::Unset),
    ];
    args.log_environ = true;
    let run = master.run("1", shell(args)).await;
    let home = std::env::var("HOME").unwrap_or_default();
    let path = std::env::var("PATH").unwrap();
    assert_eq!(run.stdout(), format!("{home}/x\na:b\n{path}\n{}\n0\n", world.path().display()));
    assert!(run.header().contains("\n  LIST=a:b\n"), "{}", run.header());
    assert!(!run.header().contains("\n  HOME="), "{}", run.header());
}

#[tokio::test]
async fn impossible_arguments_fail_the_command_itself() {
    let (world, mut master) = World::connected().await;
    std::fs::write(world.path().join("file"), "").unwrap();
    let run = master.run("1", shell(sh(&world.path().join("file/dir"), "true"))).await;
    assert_eq!(run.rc(), None);
    assert!(run.failure().unwrap().contains("failed to make the working directory"), "{run:?}");
    let mut args = sh(&world.path(), "true");
    args.env = vec![("A=B".to_owned(), EnvValue::Text(String::new()))];
    assert!(master.run("2", shell(args)).await.failure().unwrap().contains("A=B"));
    let mut args = sh(&world.path(), "true");
    args.interrupt_signal = "NONSENSE".to_owned();
    assert!(master.run("3", shell(args)).await.failure().unwrap().contains("NONSENSE"));
    let run = master.run("4", shell(Shell::new(world.at("."), CommandLine::Argv(vec![])))).await;
    assert_eq!(run.failure(), Some("the command is empty"));
}

#[tokio::test]
async fn standard_input_is_fed_or_empty() {
    let (world, mut master) = World::connected().await;
    let mut args = sh(&world.path(), "cat; echo done");
    args.initial_stdin = Some("hello ".repeat(100_000));
    let run = master.run("1", shell(args)).await;
    assert_eq!(run.stdout(), format!("{}done\n", "hello ".repeat(100_000)));
    assert!(run.header().contains(" writing 600000 bytes to stdin\n"));
    assert_eq!(master.run("2", shell(sh(&world.path(), "cat; echo end"))).await.stdout(), "end\n");
    let mut args = sh(&world.path(), "exit 0");
    args.initial_stdin = Some("x".repeat(1_000_000));
    assert_eq!(master.run("3", shell(args)).await.rc(), Some(0), "input that nobody reads is no fault");
}

#[tokio::test]
async fn logfiles_are_followed() {
    let (world, mut master) = World::connected().await;
    let dir = world.path();
    std::fs::write(dir.join("old.log"), "before\n").unwrap();
    std::fs::write(dir.join("same.log"), "unchanged\n").unwrap();
    let script = "echo a b > new.log; echo after >> old.log; while [ ! -e go ]; do sleep 0.02; done; printf end >> new.log";
    let mut args = sh(&dir, script);
    let file = |filename: &str, follow| Logfile { filename: filename.to_owned(), follow };
    args.logfiles = vec![
        ("new".to_owned(), file("new.log", false)),
        ("old".to_owned(), file("old.log", true)),
        ("whole".to_owned(), file("old.log", false)),
        ("same".to_owned(), file("same.log", false)),
    ];
    master.start("1", shell(args)).await;
    // Arrives by polling, while the command runs.
    master.until("1", "the log", |run| run.log("new") == "a b\n").await;
    std::fs::write(dir.join("go"), "").unwrap();
    let run = master.end_of("1").await;
    assert_eq!(run.rc(), Some(0));
    assert_eq!(run.log("new"), "a b\nend\n");
    assert_eq!(run.log("old"), "after\n");
    assert_eq!(run.log("whole"), "before\nafter\n");
    assert_eq!(run.log("same"), "");
}

#[tokio::test]
async fn a_terminal_is_declined_with_a_word() {
    let (world, mut master) = World::connected().await;
    let mut args = sh(&world.path(), "test -t 1 || echo pipe");
    args.use_pty = true;
    let run = master.run("1", shell(args)).await;
    assert_eq!(run.stdout(), "pipe\n");
    assert!(run.header().contains("pseudo terminal"), "{}", run.header());
}

#[tokio::test]
async fn many_commands_run_at_once() {
    let (world, mut master) = World::connected().await;
    let dir = world.path();
    // Each waits for all: they end only if they run at the same time.
    let script = "touch $0.here; while [ $(ls *.here | wc -l) -lt 40 ]; do sleep 0.05; done; echo $0";
    for number in 0..40 {
        let argv = ["sh", "-c", script, &number.to_string()].map(str::to_owned).to_vec();
        let mut args = Shell::new(dir.to_str().unwrap(), CommandLine::Argv(argv));
        args.log_environ = false;
        master.start(&number.to_string(), shell(args)).await;
    }
    for number in 0..40 {
        let run = master.end_of(&number.to_string()).await;
        assert_eq!((run.stdout(), run.rc()), (format!("{number}\n"), Some(0)));
    }
}

#[tokio::test]
async fn refusals_are_answers() {
    let (world, mut master) = World::connected().await;
    let start =
        |id: &str, command| greenroom_protocol::MasterOp::StartCommand { command_id: id.into(), command };
    let unknown = Command::Unknown { name: "bogus".to_owned() };
    let text = master.ask(start("1", unknown)).await.unwrap_err();
    assert!(text.contains("bogus"), "{text}");
    master.start("2", shell(sh(&world.path(), "while [ ! -e go ]; do sleep 0.02; done"))).await;
    let text = master.ask(start("2", shell(sh(&world.path(), "true")))).await.unwrap_err();
    assert!(text.contains("is running"), "{text}");
    std::fs::write(world.path().join("go"), "").unwrap();
    assert_eq!(master.end_of("2").await.rc(), Some(0), "the first is not disturbed");
}
