//! Counting warnings: the lines of a finished log that match a pattern, read in windows of bounded size.

use greenroom_config::values::Regex;
use greenroom_data::{DataError, Ro};
use greenroom_model::LogId;

/// Lines read at a time.
const WINDOW: i64 = 2_000;
/// The most lines looked at: past it the count stands as it is.
const MOST: i64 = 2_000_000;

/// How many lines of output match.
pub(crate) async fn count(ro: &Ro, log: LogId, pattern: &Regex) -> Result<u64, DataError> {
    let (mut first, mut found) = (0, 0);
    while first < MOST {
        let lines = ro.log_lines(log, first, WINDOW).await?;
        if lines.count <= 0 {
            break;
        }
        first += lines.count;
        let (text, pattern) = (lines.text, pattern.clone());
        // a large window on the blocking pool: matching must not hold the arbiter
        let window = move || matching(&text, &pattern);
        found += tokio::task::spawn_blocking(window).await.map_err(DataError::unavailable)?;
    }
    Ok(found)
}

fn matching(text: &[u8], pattern: &Regex) -> u64 {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| matches!(line.first(), Some(b'o' | b'e')));
    // our agent sends lines as they were written: carriage returns and bytes that are no text among them
    let is_match = |line: &&[u8]| {
        let line = line[1..].strip_suffix(b"\r").unwrap_or(&line[1..]);
        pattern.is_match(&String::from_utf8_lossy(line))
    };
    let count = lines.filter(is_match).count();
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_output_counts_not_what_the_machinery_says() {
        let pattern: Regex = serde_json::from_value("warning:".into()).unwrap();
        let text = b"hsh -c 'echo warning:'\noa.c: warning: x\nefine\neb.c: warning: y\n";
        assert_eq!(matching(text, &pattern), 2);
        let at_the_end: Regex = serde_json::from_value("warning: x$".into()).unwrap();
        assert_eq!(matching(b"oa.c: warning: x\r\no\xff warning: x\n", &at_the_end), 2);
    }
}
