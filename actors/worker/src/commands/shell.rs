//! `shell`: runs a program.

use std::path::Path;
use std::time::Duration;

use greenroom_protocol::{CommandLine, Shell};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::Done;
use crate::outbox::Gone;
use crate::process::{self, Groups, Interrupt, Outcome, Spec};
use crate::report::Report;

/// Runs the `shell` command.
pub(super) async fn run(
    args: Shell,
    basedir: &Path,
    report: &mut Report,
    interrupt: &mut Interrupt,
    groups: &Groups,
) -> Result<Done, Gone> {
    let (log_environ, use_pty) = (args.log_environ, args.use_pty);
    let spec = match spec(args, basedir) {
        Ok(spec) => spec,
        Err(failure) => return Ok(Done::failed(failure)),
    };
    if let Err(error) = make_directory(&spec.workdir).await {
        let reason = process::reason(&error);
        return Ok(Done::failed(format!(
            "failed to make the working directory {}: {reason}",
            spec.workdir.display()
        )));
    }
    if use_pty {
        report.header("a pseudo terminal was asked for; this agent has none and uses pipes\n");
    }
    logged(&spec, log_environ, report, interrupt, groups).await.map(Done::from)
}

/// Runs a program between the usual headers.
pub(super) async fn logged(
    spec: &Spec,
    log_environ: bool,
    report: &mut Report,
    interrupt: &mut Interrupt,
    groups: &Groups,
) -> Result<Outcome, Gone> {
    let started = Instant::now();
    report.header(&opening(spec, log_environ));
    let outcome = process::run(spec, report, interrupt, groups).await?;
    report.header(&format!("elapsedTime={:.6}\n", started.elapsed().as_secs_f64()));
    Ok(outcome)
}

async fn make_directory(path: &Path) -> std::io::Result<()> {
    // Nearly always there already, and asking costs less than a hop to another thread.
    if path.is_dir() { Ok(()) } else { tokio::fs::create_dir_all(path).await }
}

fn spec(args: Shell, basedir: &Path) -> Result<Spec, String> {
    let workdir = basedir.join(&args.workdir);
    let (argv, display) = match args.command {
        CommandLine::Shell(text) => (vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()], text),
        CommandLine::Argv(argv) => {
            let display = quoted(&argv);
            (argv, display)
        }
    };
    if argv.is_empty() {
        return Err("the command is empty".to_owned());
    }
    let env = process::changes(&args.env, &workdir.to_string_lossy(), process::own);
    if let Some(name) = process::first_invalid(&env) {
        return Err(format!("the variable {name:?} cannot be set"));
    }
    let interrupt_signal = process::signal_by_name(&args.interrupt_signal)
        .ok_or_else(|| format!("unknown interruptSignal {:?}", args.interrupt_signal))?;
    Ok(Spec {
        workdir,
        argv,
        display,
        env,
        want_stdout: args.want_stdout,
        want_stderr: args.want_stderr,
        logfiles: args.logfiles,
        timeout: seconds(args.timeout),
        max_time: seconds(args.max_time),
        max_lines: args.max_lines,
        sigterm_time: seconds(args.sigterm_time),
        interrupt_signal,
        initial_stdin: args.initial_stdin,
    })
}

/// A program of ours with the limits of `rmdir` and `cpdir`.
pub(super) fn plain_spec(
    argv: Vec<String>,
    basedir: &Path,
    timeout: Option<f64>,
    max_time: Option<f64>,
) -> Spec {
    Spec {
        workdir: basedir.to_owned(),
        display: quoted(&argv),
        argv,
        env: process::changes(&[], &basedir.to_string_lossy(), process::own),
        want_stdout: true,
        want_stderr: true,
        logfiles: Vec::new(),
        timeout: seconds(timeout),
        max_time: seconds(max_time),
        max_lines: None,
        sigterm_time: None,
        interrupt_signal: Signal::SIGKILL,
        initial_stdin: None,
    }
}

/// A limit; one that is too long to be a time is none.
fn seconds(limit: Option<f64>) -> Option<Duration> {
    const LONGEST: f64 = 86_400.0 * 3650.0;
    limit.filter(|seconds| *seconds < LONGEST).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// What the log begins with.
fn opening(spec: &Spec, log_environ: bool) -> String {
    use std::fmt::Write;
    let mut text = format!("{}\n in dir {}", spec.display, spec.workdir.display());
    for (limit, name) in [(spec.timeout, "timeout"), (spec.max_time, "maxTime")] {
        if let Some(limit) = limit {
            let _ = write!(text, " ({name} {} secs)", limit.as_secs_f64());
        }
    }
    text.push('\n');
    if !spec.logfiles.is_empty() {
        let names: Vec<_> =
            spec.logfiles.iter().map(|(name, file)| format!("{name}={}", file.filename)).collect();
        let _ = writeln!(text, " watching logfiles {}", names.join(", "));
    }
    if log_environ {
        text.push_str(" environment:\n");
        for (name, value) in process::whole(&spec.env) {
            let _ = writeln!(text, "  {name}={value}");
        }
    }
    if let Some(input) = &spec.initial_stdin {
        let _ = writeln!(text, " writing {} bytes to stdin", input.len());
    }
    text
}

/// Arguments as one would type them in a shell.
fn quoted(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    let quote = |argument: &String| {
        if !argument.is_empty() && argument.chars().all(plain) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', r#"'"'"'"#))
        }
    };
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        let argv = ["sh", "-c", "echo \"$@\"", "it's", ""].map(str::to_owned);
        assert_eq!(quoted(&argv), r#"sh -c 'echo "$@"' 'it'"'"'s' ''"#);
    }

    #[test]
    fn impossible_limits_are_none() {
        assert_eq!(seconds(Some(1e300)), None);
        assert_eq!(seconds(Some(0.5)), Some(Duration::from_millis(500)));
    }
}
