//! The failing step's log as an attached file: its end, as text.

use greenroom_config::Mail;
use greenroom_config::mask::Masks;
use greenroom_data::Ro;
use greenroom_model::{Log, LogKind};

use crate::notice::{BuildNotice, LogNotice, Notice};

/// How many lines are read at once.
const WINDOW: i64 = 500;

/// The log's file name and its end, when one is to be attached and there is one. A log that cannot be read is left out: the mail
/// links to it.
pub(super) async fn attached(
    config: &Mail,
    ro: Option<&Ro>,
    masks: &Masks,
    notice: &Notice,
) -> Option<(String, Vec<u8>)> {
    let (ro, build) = (ro?, notice.build()?);
    let step = build.step.as_ref().filter(|_| config.attach_log)?;
    let log = step.log.as_ref().filter(|it| it.num_lines > 0)?;
    let most = usize::try_from(config.attach_limit.bytes()).unwrap_or(usize::MAX);
    match end_of(ro, log, most).await {
        Ok(text) => {
            let masked = masks.mask(&String::from_utf8_lossy(&text)).into_owned();
            Some((file_name(build, &step.name, log), masked.into_bytes()))
        }
        Err(error) => {
            tracing::warn!(build.id = build.build.0, error = %error, "a log cannot be attached");
            None
        }
    }
}

fn file_name(build: &BuildNotice, step: &str, log: &LogNotice) -> String {
    format!("{}-{}-{step}-{}.txt", build.builder_name, build.number, log.slug)
}

/// The last lines that together have at most so many bytes, read from the end on.
async fn end_of(ro: &Ro, log: &LogNotice, most: usize) -> Result<Vec<u8>, greenroom_data::DataError> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let streams = ro.get::<Log>(log.log.0).await?.value.is_none_or(|it| it.kind == LogKind::Stdio);
    let (mut end, mut size) = (log.num_lines, 0);
    while end > 0 && size < most {
        let first = (end - WINDOW).max(0);
        let lines = ro.log_lines(log.log, first, end - first).await?;
        let piece = text_of(&lines.text, streams);
        size += piece.len();
        pieces.push(piece);
        end = first;
    }
    pieces.reverse();
    Ok(last_lines(pieces.concat(), most))
}

/// The lines without colours and, if they are of streams, without the letters of these.
fn text_of(lines: &[u8], streams: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(lines);
    let mut plain = String::with_capacity(text.len());
    for line in text.split_terminator('\n') {
        let line = if streams { line.get(1..).unwrap_or_default() } else { line };
        plain.push_str(&super::render::without_controls(line));
        plain.push('\n');
    }
    plain.into_bytes()
}

/// Whole lines from the end, of at most so many bytes; of a single longer line its end.
fn last_lines(text: Vec<u8>, most: usize) -> Vec<u8> {
    let Some(cut) = text.len().checked_sub(most).filter(|it| *it > 0) else { return text };
    let next_line = text[cut..].iter().position(|it| *it == b'\n').map(|it| cut + it + 1);
    let mut start = next_line.filter(|it| *it < text.len()).unwrap_or(cut);
    while text.get(start).is_some_and(|it| it & 0xc0 == 0x80) {
        start += 1;
    }
    let mut kept = b"[the begin is left out]\n".to_vec();
    kept.extend_from_slice(&text[start..]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_streams_and_colours_are_left_out() {
        assert_eq!(text_of(b"oone\nec\x1b[31mred\x1b[0m\nh\n", true), b"one\ncred\n\n");
        assert_eq!(text_of(b"one\n", false), b"one\n");
    }

    #[test]
    fn the_end_is_kept_in_whole_lines() {
        assert_eq!(last_lines(b"one\ntwo\nthree\n".to_vec(), 14), b"one\ntwo\nthree\n");
        assert_eq!(last_lines(b"one\ntwo\nthree\n".to_vec(), 9), b"[the begin is left out]\nthree\n");
        assert_eq!(last_lines("ääää".into(), 3), "[the begin is left out]\nä".as_bytes());
        assert!(last_lines(vec![b'x'; 1 << 20], 10).len() < 50);
    }
}
