//! Rehearsal of trouble, for tests of the whole program only.
//!
//! `GREENROOM_REHEARSE=FILE` makes a master follow that file and carry out each line that is appended to it, on the actor of
//! this name (as in `/api/v2/actors`): `panic NAME`, `error NAME` (it gives up), `hang NAME` (a handler that never
//! ends), `block MS NAME` (a handler that holds its thread so long). Nothing of it can be asked over the network, and without
//! the variable nothing of this runs. (To end and restart actors over the network there is `greenroom actors`.)

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_runtime::Runtime;

const VARIABLE: &str = "GREENROOM_REHEARSE";
/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Follows the file for as long as the program runs, if the variable says so.
pub fn begin(runtime: &Runtime) {
    let Some(file) = std::env::var_os(VARIABLE).map(PathBuf::from) else { return };
    tracing::warn!(file = %file.display(), "{VARIABLE} is set: this master does what that file says. For tests only");
    let runtime = runtime.clone();
    actix_rt::spawn(async move {
        let mut done = std::fs::metadata(&file).map_or(0, |it| it.len());
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tick.tick().await;
            for line in new_lines(&file, &mut done) {
                carry_out(&runtime, &line);
            }
        }
    });
}

/// The whole lines after the first `done` bytes. A file that cannot be read has none.
fn new_lines(file: &Path, done: &mut u64) -> Vec<String> {
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|mut file| {
        file.seek(SeekFrom::Start(*done))?;
        file.read_to_string(&mut text)
    });
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    if read.is_err() || whole == 0 {
        return Vec::new();
    }
    *done += whole as u64;
    text[..whole].lines().map(str::to_owned).collect()
}

fn carry_out(runtime: &Runtime, line: &str) {
    let Some((trouble, name)) = line.split_once(' ') else {
        return tracing::warn!(line, "the rehearsal has a line that was not understood");
    };
    let (found, name) = match trouble {
        "panic" => (runtime.inject_panic(name), name),
        "error" => (runtime.inject_failure(name), name),
        "hang" => (runtime.inject_hang(name), name),
        "block" => match name.split_once(' ').and_then(|(ms, name)| Some((ms.parse().ok()?, name))) {
            Some((ms, name)) => (runtime.inject_block(name, Duration::from_millis(ms)), name),
            None => return tracing::warn!(line, "the rehearsal has a line that was not understood"),
        },
        _ => return tracing::warn!(line, "the rehearsal has a line that was not understood"),
    };
    tracing::warn!(actor.name = name, found, "rehearsing: {trouble}");
}
