//! Reading what git prints. No I/O.

use std::collections::BTreeMap;

/// How `git log` is asked to print a commit, with NUL between commits.
pub(crate) const LOG_FORMAT: &str = "--format=tformat:%H%x1f%an <%ae>%x1f%cn <%ce>%x1f%ct%x1f%B";

/// A commit as it becomes a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub id: String,
    pub author: String,
    pub committer: String,
    /// Seconds since 1970.
    pub time: i64,
    pub message: String,
    pub files: Vec<String>,
}

/// Branch → tip, of `git ls-remote --heads` or `git for-each-ref`.
pub(crate) fn tips(output: &[u8], prefix: &str) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(output);
    let tips = text.lines().filter_map(|line| {
        let (tip, name) = line.split_once(['\t', ' '])?;
        Some((name.strip_prefix(prefix)?.to_owned(), tip.to_owned()))
    });
    tips.filter(|(branch, tip)| !branch.is_empty() && is_id(tip)).collect()
}

/// Whether a text is a commit's whole name.
fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Commits in the order printed.
pub(crate) fn commits(log: &[u8]) -> Vec<Commit> {
    log.split(|byte| *byte == 0).filter(|record| !record.is_empty()).filter_map(commit).collect()
}

fn commit(record: &[u8]) -> Option<Commit> {
    let text = String::from_utf8_lossy(record);
    let mut fields = text.splitn(5, '\x1f');
    let id = fields.next()?.trim().to_owned();
    let (author, committer) = (fields.next()?.to_owned(), fields.next()?.to_owned());
    let time = fields.next()?.trim().parse().ok()?;
    let message = fields.next()?.trim_end().to_owned();
    Some(Commit { id, author, committer, time, message, files: Vec::new() })
}

/// Gives commits their files: `git diff-tree --stdin --always --name-only -z` prints each commit's name, then its files.
pub(crate) fn add_files(commits: &mut [Commit], output: &[u8], most: usize) {
    let mut next = 0;
    for word in output.split(|byte| *byte == 0).filter(|word| !word.is_empty()) {
        // a file may be called like a commit, but not like the one that is due
        if commits.get(next).is_some_and(|commit| commit.id.as_bytes() == word) {
            next += 1;
        } else if let Some(commit) = next.checked_sub(1).and_then(|current| commits.get_mut(current))
            && commit.files.len() < most
        {
            commit.files.push(String::from_utf8_lossy(word).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1019e7d3cf2a78a9287d44c949f3378266f25b8e";
    const B: &str = "60fdcf4f79e6f7360c99fd306ecd84d36cdf2acc";

    #[test]
    fn tips_are_read_by_branch() {
        let output =
            format!("{A}\trefs/heads/main\n{B}\trefs/heads/feature/x\n{A}\tHEAD\nwarning: nonsense\n");
        let tips = tips(output.as_bytes(), "refs/heads/");
        assert_eq!(tips, BTreeMap::from([("feature/x".into(), B.into()), ("main".into(), A.into())]));
    }

    #[test]
    fn commits_keep_their_messages_and_files() {
        let log = format!(
            "{A}\x1fA <a@b>\x1fC <c@d>\x1f1795312009\x1fone\n\nbody \u{1f} more\n\0{B}\x1fA <a@b>\x1fA <a@b>\x1f5\x1f\0"
        );
        let mut commits = commits(log.as_bytes());
        assert_eq!((commits.len(), commits[0].time, commits[1].message.as_str()), (2, 1_795_312_009, ""));
        assert_eq!(commits[0].message, "one\n\nbody \u{1f} more");
        let files = format!("{A}\0a b\0src/\u{e4}.c\0{B}\0{A}\0");
        add_files(&mut commits, files.as_bytes(), 100);
        assert_eq!(commits[0].files, ["a b", "src/ä.c"]);
        assert_eq!(commits[1].files, [A], "a file may have any name");
    }

    #[test]
    fn nonsense_is_no_commit() {
        assert_eq!(commits(b"garbage\0\x1f\x1f\x1f\x1f\0"), vec![]);
        add_files(&mut [], b"x\0y\0", 3);
    }
}
