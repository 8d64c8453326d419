//! What the system grants this process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More than a master's connections need; commands of local workers inherit the limit, and some look at every number below it.
const ENOUGH: u64 = 65_536;

/// Lets this process open as many files as it needs: each subscriber and worker is a socket, and what shells and services give by default
/// (often 1,024) is there for the sake of programs that cannot cope with more.
pub fn open_all_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(ENOUGH);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::debug!(error = %error, "the limit of open files stays as it is");
    }
}
