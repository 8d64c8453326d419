//! What is said of a notice: one line for a build, a few for more, harmless and bounded.

use greenroom_model::Results;

use super::text::{brief, plain};
use crate::notice::*;
use crate::transport::Outgoing;

/// How much of each part is shown, in characters.
const NAME: usize = 60;
const ERROR: usize = 200;
/// How many authors are named.
const AUTHORS: usize = 3;
/// How many builds or builders of a larger message have a line of their own.
const ROWS: usize = 4;

/// Makes lines. With `colors` results are coloured and names bold.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Whether colour codes are used.
    pub colors: bool,
}

impl Style {
    /// The lines of a message; at least one.
    pub fn lines(self, message: &Outgoing) -> Vec<String> {
        match &message.notice {
            Notice::Build(build) => vec![self.build(build)],
            Notice::Buildset(buildset) => self.buildset(buildset),
            Notice::Digest(digest) => self.digest(digest, &message.at),
            Notice::WorkerMissing(worker) => vec![self.worker(worker, &message.at)],
            Notice::Test(test) => {
                let text = format!("This is a test message, asked for by {}.", brief(&test.by, NAME));
                vec![joined(&[text, plain(&message.farm.url)])]
            }
        }
    }

    /// `linux #42 failure (success before): main@1a2b3c4 by Ada · step test: error: … · https://…`
    pub fn build(self, build: &BuildNotice) -> String {
        let name = self.bold(&brief(&build.builder_name, NAME));
        let word = match (build.event, build.results) {
            (BuildEvent::Started, _) => "started".to_owned(),
            (BuildEvent::Finished, Some(results)) => self.result(results),
            (BuildEvent::Finished, None) => "finished".to_owned(),
        };
        let before = match &build.previous {
            Some(before) if build.event == BuildEvent::Finished && Some(before.results) != build.results => {
                format!(" ({} before)", before.results.word())
            }
            _ => String::new(),
        };
        let mut head = format!("{name} #{} {word}{before}", build.number);
        let origin = origin(build.sources.first(), &people(build));
        if !origin.is_empty() {
            head = format!("{head}: {origin}");
        }
        joined(&[head, failing_step(build), plain(&build.url)])
    }

    fn buildset(self, buildset: &BuildsetNotice) -> Vec<String> {
        let all = buildset.builds.len() + buildset.more_builds;
        let mut head = format!("{} of {}", self.result(buildset.results), builds(all));
        let origin = origin(buildset.sources.first(), &[]);
        if !origin.is_empty() {
            head = format!("{head}: {origin}");
        }
        let reason = brief(&buildset.reason, ERROR);
        let mut lines = vec![joined(&[head, reason])];
        lines.extend(buildset.builds.iter().take(ROWS).map(|it| self.build(it)));
        let rest = all - buildset.builds.len().min(ROWS);
        if rest > 0 {
            lines.push(format!("… and {rest} more"));
        }
        lines
    }

    fn digest(self, digest: &DigestNotice, now: &greenroom_model::Timestamp) -> Vec<String> {
        let counts: Vec<String> =
            digest.counts.iter().map(|(word, count)| format!("{count} {}", brief(word, NAME))).collect();
        let since = duration(now.micros_since(digest.since));
        let head = format!("{} messages in {since}: {}", digest.total, counts.join(", "));
        let mut lines = vec![joined(&[head, plain(&digest.url)])];
        for row in digest.lines.iter().take(ROWS) {
            let name = self.bold(&brief(&row.name, NAME));
            let worst = row.worst.map(|it| format!(", worst {}", self.result(it))).unwrap_or_default();
            let step = row.step.as_ref().map(|it| format!(", step {}", brief(it, NAME))).unwrap_or_default();
            let link = row.last.as_ref().map_or(&row.url, |last| &last.url);
            lines.push(joined(&[format!("{name}: {}{worst}{step}", row.messages), plain(link)]));
        }
        let rest = digest.lines.len().saturating_sub(ROWS) + digest.more_lines;
        if rest > 0 {
            lines.push(format!("… and {rest} more builders"));
        }
        lines
    }

    fn worker(self, worker: &WorkerNotice, now: &greenroom_model::Timestamp) -> String {
        let name = self.bold(&brief(&worker.name, NAME));
        let since = duration(now.micros_since(worker.since));
        let admin = worker.admin.as_ref().map(|it| format!("cared for by {}", brief(it, NAME)));
        let head = format!("worker {name} has been missing for {since}");
        joined(&[head, admin.unwrap_or_default(), plain(&worker.url)])
    }

    /// A result's word.
    pub fn result(self, results: Results) -> String {
        if !self.colors {
            return results.word().to_owned();
        }
        let colour = match results {
            Results::Success => "03",
            Results::Warnings => "07",
            Results::Failure => "04",
            Results::Exception => "06",
            Results::Skipped | Results::Retry | Results::Cancelled => "14",
        };
        format!("\x03{colour}{}\x03", results.word())
    }

    /// A name that stands out.
    pub fn bold(self, text: &str) -> String {
        if self.colors { format!("\x02{text}\x02") } else { text.to_owned() }
    }
}

/// Parts that are not empty, with a dot between.
pub fn joined(parts: &[String]) -> String {
    let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
    parts.join(" · ")
}

/// `main@1a2b3c4 by Ada, Bob`.
fn origin(source: Option<&SourceNotice>, people: &[String]) -> String {
    let branch = source.and_then(|it| it.branch.as_deref()).map(|it| brief(it, NAME)).unwrap_or_default();
    let revision = source.and_then(|it| it.revision.as_deref()).map(short_revision).unwrap_or_default();
    let place = match (branch.is_empty(), revision.is_empty()) {
        (_, true) => branch,
        (true, false) => revision,
        (false, false) => format!("{branch}@{revision}"),
    };
    match (place.is_empty(), people) {
        (_, []) => place,
        (true, people) => format!("by {}", people.join(", ")),
        (false, people) => format!("{place} by {}", people.join(", ")),
    }
}

/// A revision as people write it.
pub fn short_revision(revision: &str) -> String {
    let hash = revision.len() >= 20 && revision.bytes().all(|b| b.is_ascii_hexdigit());
    if hash { revision[..7].to_owned() } else { brief(revision, 20) }
}

/// Who may have done it: the authors, else who asked for the build.
fn people(build: &BuildNotice) -> Vec<String> {
    let all = if build.blame.is_empty() { &build.owners } else { &build.blame };
    // the address is for mail
    let name = |author: &String| brief(author.split('<').next().unwrap_or(author).trim(), 40);
    let mut names: Vec<String> = all.iter().take(AUTHORS).map(name).filter(|it| !it.is_empty()).collect();
    if all.len() > AUTHORS {
        names.push(format!("{} more", all.len() - AUTHORS));
    }
    names
}

/// `step test: error: expected …`.
fn failing_step(build: &BuildNotice) -> String {
    let Some(step) = &build.step else { return String::new() };
    let said = match &step.first_error {
        Some(line) => brief(line, ERROR),
        None => brief(&step.state_string, ERROR),
    };
    let name = brief(&step.name, NAME);
    if said.is_empty() { format!("step {name}") } else { format!("step {name}: {said}") }
}

fn builds(n: usize) -> String {
    if n == 1 { "1 build".to_owned() } else { format!("{n} builds") }
}

/// `42 s`, `3 m 12 s`, `2 h 5 m`, `3 d 4 h`.
pub fn duration(micros: i64) -> String {
    let seconds = micros.max(0) / 1_000_000;
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} m {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} m"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;

    const PLAIN: Style = Style { colors: false };

    #[test]
    fn a_failure_is_one_line_with_all_that_matters() {
        let line = PLAIN.build(&examples::failed());
        for part in
            ["linux #42 failure (success before): ", " by Ada Lovelace, linus", "step test: ", "/builds/42"]
        {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("ada@example.org"), "addresses are for mail: {line}");
        let fixed = PLAIN.build(&examples::fixed());
        assert!(fixed.starts_with("linux #43 success (failure before): "), "{fixed}");
    }

    #[test]
    fn whatever_a_notice_holds_becomes_a_few_harmless_lines() {
        for colors in [false, true] {
            for message in examples::all() {
                let lines = Style { colors }.lines(&message);
                assert!((1..=ROWS + 2).contains(&lines.len()), "{lines:?}");
                for line in lines {
                    let odd = line.chars().find(|c| c.is_control() && !(colors && "\x02\x03".contains(*c)));
                    assert_eq!(odd, None, "{line:?}");
                    assert!(line.len() < 1_000, "{line}");
                }
            }
        }
    }

    #[test]
    fn texts_of_others_cannot_break_out() {
        let mut build = examples::failed();
        build.builder_name = "li\r\nQUIT :x".to_owned();
        build.blame = vec!["\x03\x0304,01Mallory\x0f\u{202e}".to_owned()];
        build.sources[0].branch = Some("a\nPRIVMSG #other :hi".to_owned());
        if let Some(step) = &mut build.step {
            step.first_error = Some(format!("\x1b[31m{}\x1b[0m", "x".repeat(100_000)));
        }
        let line = PLAIN.build(&build);
        assert!(!line.chars().any(char::is_control) && line.len() < 1_000, "{line:?}");
        assert!(line.contains("by Mallory ·"), "{line}");
    }

    #[test]
    fn colours_mark_results_only() {
        let style = Style { colors: true };
        assert_eq!(style.result(Results::Failure), "\x0304failure\x03");
        assert_eq!(style.bold("linux"), "\x02linux\x02");
        assert_eq!(PLAIN.result(Results::Failure), "failure");
    }

    #[test]
    fn lengths_of_time() {
        for (seconds, text) in
            [(-5, "0 s"), (42, "42 s"), (192, "3 m 12 s"), (7_500, "2 h 5 m"), (273_600, "3 d 4 h")]
        {
            assert_eq!(duration(seconds * 1_000_000), text);
        }
    }
}
