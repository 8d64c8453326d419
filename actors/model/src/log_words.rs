//! What a log says of itself, in lines of its own: where it is incomplete, where its last line has no end.

use std::ops::Range;

/// Standard output, as a log names it.
pub const STDOUT: &str = "standard output";
/// Standard error, as a log names it.
pub const STDERR: &str = "standard error";

/// A source of output ended within a line. The log ends that line; who wants the bytes that were written takes the last newline
/// off again.
pub fn open_end(source: &str) -> String {
    format!("{source} ends without a newline")
}

/// The command was broken off: these sources are known up to these bytes.
pub fn incomplete(upto: &[(String, u64)], why: &str) -> String {
    let known: Vec<String> = upto.iter().map(|(source, bytes)| format!("byte {bytes} of {source}")).collect();
    format!("This log is incomplete after {}: {why}.", known.join(" and "))
}

/// Bytes in the middle of a source did not come.
pub fn gap(source: &str, bytes: &Range<u64>) -> String {
    let (first, end) = (bytes.start, bytes.end);
    format!("This log is incomplete: of {source} the bytes {first} to {end} did not come from the worker.")
}

/// The master was restarted while the command ran: this many lines are known.
pub fn cut_short(lines: i64, why: &str) -> String {
    format!("This log is incomplete after line {lines}: {why}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_says_up_to_where_it_goes() {
        let upto = [(STDOUT.to_owned(), 12), (STDERR.to_owned(), 3)];
        assert_eq!(
            incomplete(&upto, "the worker was lost"),
            "This log is incomplete after byte 12 of standard output and byte 3 of standard error: the worker was lost."
        );
    }
}
