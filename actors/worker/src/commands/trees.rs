//! `rmdir` and `cpdir`: whole trees, by the system's own programs.

use std::path::Path;

use greenroom_protocol::{Cpdir, Rmdir};

use super::Done;
use super::shell::{logged, plain_spec};
use crate::outbox::Gone;
use crate::process::{Groups, Interrupt, Outcome, reason};
use crate::report::Report;

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Removes each path; one that resists is made writable and tried again.
pub(super) async fn rmdir(
    args: Rmdir,
    basedir: &Path,
    report: &mut Report,
    interrupt: &mut Interrupt,
    groups: &Groups,
) -> Result<Done, Gone> {
    let mut total = Outcome { rc: 0, interrupted: false, failure: None };
    for path in &args.paths {
        let remove = ["rm", "-rf", "--", path];
        let loosen = ["chmod", "-Rf", "u+rwx", "--", path];
        let mut rc = 0;
        for words in [&remove[..], &loosen[..], &remove[..]] {
            let spec = plain_spec(argv(words), basedir, args.timeout, args.max_time);
            let outcome = logged(&spec, args.log_environ, report, interrupt, groups).await?;
            if outcome.interrupted || outcome.failure.is_some() {
                return Ok(outcome.into());
            }
            // Only the removals count, and the first may succeed at once.
            if words[0] == "rm" {
                rc = outcome.rc;
                if rc == 0 {
                    break;
                }
            }
        }
        if rc != 0 {
            total.rc = rc;
        }
    }
    Ok(total.into())
}

/// Copies a directory with its links, times and permissions.
pub(super) async fn cpdir(
    args: Cpdir,
    basedir: &Path,
    report: &mut Report,
    interrupt: &mut Interrupt,
    groups: &Groups,
) -> Result<Done, Gone> {
    if let Some(parent) = Path::new(&args.to_path).parent()
        && let Err(error) = tokio::fs::create_dir_all(parent).await
    {
        return Ok(Done::failed(format!("failed to make {}: {}", parent.display(), reason(&error))));
    }
    let words = ["cp", "-R", "-P", "-p", "-v", "--", &args.from_path, &args.to_path];
    let spec = plain_spec(argv(&words), basedir, args.timeout, args.max_time);
    logged(&spec, args.log_environ, report, interrupt, groups).await.map(Done::from)
}
