//! The commands for files and directories.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use greenroom_protocol::{Command, Cpdir, Rmdir, UpdateItem};

use crate::master::World;

fn rmdir(paths: Vec<String>) -> Command {
    Command::Rmdir(Rmdir { paths, log_environ: false, timeout: Some(120.0), max_time: None })
}

#[tokio::test]
async fn mkdir_makes_parents_and_stops_at_the_first_failure() {
    let (world, mut master) = World::connected().await;
    let run = master.run("1", Command::Mkdir { paths: vec![world.at("a/b"), world.at("a/b")] }).await;
    assert_eq!((run.rc(), run.updates, run.has_elapsed()), (Some(0), 1, true));
    assert!(world.path().join("a/b").is_dir());
    std::fs::write(world.path().join("file"), "").unwrap();
    let run = master.run("2", Command::Mkdir { paths: vec![world.at("file/x"), world.at("later")] }).await;
    assert_eq!(run.rc(), Some(20));
    assert_eq!(run.header(), format!("mkdir: Not a directory: {}\n", world.at("file/x")));
    assert!(!world.path().join("later").exists());
}

#[tokio::test]
async fn rmfile_stat_and_listdir() {
    let (world, mut master) = World::connected().await;
    std::fs::write(world.path().join("f"), "12345").unwrap();
    let facts = std::fs::metadata(world.path().join("f")).unwrap();
    let run = master.run("1", Command::Stat { path: world.at("f") }).await;
    let UpdateItem::Stat(stat) = run.items[0] else { panic!("{run:?}") };
    assert_eq!((stat.size, stat.mode, stat.ino as u64), (5, i64::from(facts.mode()), facts.ino()));
    assert_eq!(run.rc(), Some(0));
    assert_eq!(master.run("2", Command::Listdir { path: world.at("") }).await.files(), ["f"]);
    assert_eq!(master.run("3", Command::Rmfile { path: world.at("f") }).await.rc(), Some(0));
    for (name, command) in [
        ("rmfile", Command::Rmfile { path: world.at("f") }),
        ("stat", Command::Stat { path: world.at("f") }),
        ("listdir", Command::Listdir { path: world.at("f") }),
    ] {
        let run = master.run(name, command).await;
        assert_eq!(run.rc(), Some(2));
        assert_eq!(run.header(), format!("{name}: No such file or directory: {}\n", world.at("f")));
    }
}

#[tokio::test]
async fn glob_crosses_directories_with_two_stars() {
    let (world, mut master) = World::connected().await;
    for dir in ["x/y/z", "x/.hidden"] {
        std::fs::create_dir_all(world.path().join(dir)).unwrap();
        std::fs::write(world.path().join(dir).join("a.txt"), "").unwrap();
    }
    std::fs::write(world.path().join("x/a.txt"), "").unwrap();
    let run = master.run("1", Command::Glob { path: world.at("x/*.txt") }).await;
    assert_eq!(run.files(), [world.at("x/a.txt")]);
    let run = master.run("2", Command::Glob { path: world.at("x/**/*.txt") }).await;
    assert_eq!(run.files(), [world.at("x/a.txt"), world.at("x/y/z/a.txt")]);
    let run = master.run("3", Command::Glob { path: world.at("none*") }).await;
    assert_eq!((run.files().len(), run.rc()), (0, Some(0)));
}

#[tokio::test]
async fn cpdir_and_rmdir_handle_whole_trees() {
    let (world, mut master) = World::connected().await;
    std::fs::create_dir_all(world.path().join("from/sub")).unwrap();
    std::fs::write(world.path().join("from/sub/f"), "text").unwrap();
    let cpdir = Cpdir {
        from_path: world.at("from"),
        to_path: world.at("parent/to"),
        log_environ: false,
        timeout: Some(120.0),
        max_time: None,
    };
    let run = master.run("1", Command::Cpdir(cpdir)).await;
    assert_eq!(run.rc(), Some(0), "{run:?}");
    assert_eq!(std::fs::read_to_string(world.path().join("parent/to/sub/f")).unwrap(), "text");
    assert!(run.stdout().contains("sub/f"), "it lists what it copies");
    std::fs::set_permissions(world.path().join("from/sub"), PermissionsExt::from_mode(0o000)).unwrap();
    let run = master.run("2", rmdir(vec![world.at("from"), world.at("parent")])).await;
    assert_eq!((run.rc(), run.failure()), (Some(0), None), "{run:?}");
    assert!(!world.path().join("from").exists() && !world.path().join("parent").exists());
    assert!(run.header().contains("elapsedTime="));
}
