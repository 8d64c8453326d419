//! Running the `git` program on the master: arguments only, no shell, bounded output, bounded time, and no process
//! left behind.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessGroup};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// The most output of one command: the list of a very large repository's branches, or the files of a thousand commits.
const MOST_OUTPUT: u64 = 64 * 1024 * 1024;
/// How much of what it says about an error is kept.
const MOST_ERROR: u64 = 4 * 1024;

/// Why a git command gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("git could not be run: {0}")]
    Io(#[from] std::io::Error),
    #[error("git {command} did not end within {within:?} and was killed")]
    TooSlow { command: String, within: Duration },
    #[error("git {command} failed ({code}): {said}")]
    Failed { command: String, code: i32, said: String },
    #[error("git {command} printed more than {} MiB", MOST_OUTPUT >> 20)]
    TooMuch { command: String },
}

/// `git` in one directory.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    /// Where it runs, if that matters.
    pub dir: Option<PathBuf>,
    /// How long one command may take.
    pub timeout: Duration,
}

/// Kills the process group when dropped: also when the future that runs it is.
struct Guard(Box<dyn ChildWrapper>);

impl Drop for Guard {
    fn drop(&mut self) {
        // refused when it has ended
        let _ = self.0.start_kill();
    }
}

impl Git {
    /// Its standard output.
    pub async fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        self.run_with(arguments, Vec::new()).await
    }

    /// Its standard output, after `input` on its standard input.
    pub async fn run_with(&self, arguments: &[&str], input: Vec<u8>) -> Result<Vec<u8>, GitError> {
        let command = arguments.first().copied().unwrap_or_default().to_owned();
        let (code, output, said) = self.try_run(arguments, input).await?;
        match code {
            0 => Ok(output),
            code => Err(GitError::Failed { command, code, said }),
        }
    }

    /// Its exit code, as an answer.
    pub async fn answers(&self, arguments: &[&str]) -> Result<i32, GitError> {
        Ok(self.try_run(arguments, Vec::new()).await?.0)
    }

    async fn try_run(&self, arguments: &[&str], input: Vec<u8>) -> Result<(i32, Vec<u8>, String), GitError> {
        let command = arguments.first().copied().unwrap_or_default().to_owned();
        match timeout(self.timeout, self.spawn(arguments, input)).await {
            Ok(Ok((_, output, _))) if over(&output) => Err(GitError::TooMuch { command }),
            Ok(done) => Ok(done?),
            Err(_) => Err(GitError::TooSlow { command, within: self.timeout }),
        }
    }

    async fn spawn(&self, arguments: &[&str], input: Vec<u8>) -> std::io::Result<(i32, Vec<u8>, String)> {
        let mut wrap = CommandWrap::with_new("git", |command| {
            // what tidies up ends before the command does, so that it is bounded and killed with it
            command.args(["-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false"]);
            command.args(arguments).env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
            for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
                command.env_remove(variable);
            }
            if let Some(dir) = &self.dir {
                command.current_dir(dir);
            }
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        });
        let mut child = Guard(wrap.wrap(ProcessGroup::leader()).spawn()?);
        let (stdin, stdout, stderr) =
            (child.0.stdin().take(), child.0.stdout().take(), child.0.stderr().take());
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // a program that reads no further has its reasons: its exit code tells
                let _ = stdin.write_all(&input).await;
            }
        };
        let ((), output, said) = tokio::join!(feed, read(stdout, MOST_OUTPUT + 1), read(stderr, MOST_ERROR));
        let (output, said) = (output?, said?);
        if over(&output) {
            return Ok((0, output, String::new()));
        }
        let status = child.0.wait().await?;
        let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
        Ok((status.code().unwrap_or(-1), output, said))
    }
}

fn over(output: &[u8]) -> bool {
    u64::try_from(output.len()).is_ok_and(|length| length > MOST_OUTPUT)
}

/// At most `most` bytes; the rest of standard error is read and dropped, so that nobody waits for us.
async fn read(stream: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else { return Ok(bytes) };
    (&mut stream).take(most).read_to_end(&mut bytes).await?;
    if most == MOST_ERROR {
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(timeout: Duration) -> Git {
        Git { dir: None, timeout }
    }

    #[tokio::test]
    async fn it_answers_and_fails_with_words() {
        let git = git(Duration::from_secs(20));
        assert!(git.run(&["version"]).await.unwrap().starts_with(b"git version"));
        let error = git.run(&["ls-remote", "--heads", "--", "/nonexistent/repository"]).await.unwrap_err();
        assert!(matches!(error, GitError::Failed { code: 128, .. }), "{error}");
    }

    #[tokio::test]
    async fn what_hangs_is_killed_with_all_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join("pid");
        // an external transport that starts a child and waits for ever
        let script = format!("ext::sh -c echo%S $$%S >%S {}%S ;%Ssleep%S 1000", marker.display());
        let url = script.replace("%S ", "% ").replace("%S", "% ");
        let git = git(Duration::from_millis(700));
        let error = git.run(&["-c", "protocol.ext.allow=always", "ls-remote", "--", &url]).await.unwrap_err();
        assert!(matches!(error, GitError::TooSlow { .. }), "{error}");
        let pid = std::fs::read_to_string(&marker).expect("the transport was started");
        let proc = format!("/proc/{}/stat", pid.trim());
        let begun = std::time::Instant::now();
        while let Ok(stat) = std::fs::read_to_string(&proc) {
            let dead = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
            if dead {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "the child lives on");
            tokio::task::yield_now().await;
        }
    }
}
