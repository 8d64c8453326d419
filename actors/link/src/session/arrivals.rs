//! Which bytes of a command's output have come: what comes twice is dropped, what comes too early waits, what never comes is told.
//!
//! A connection delivers everything once and in order, unless something between is broken. Then the log must say so: it
//! is never silently short, and nothing stands in it twice.

use std::ops::Range;

use greenroom_protocol::{Batch, Source};

use crate::socket::Credit;

/// A batch of which all that stood before it has come.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) batch: Batch,
    /// What of it is new: where it stands in the unpacked batch. Nothing: the source has ended.
    pub(crate) news: Vec<(Source, Range<usize>)>,
    pub(crate) credit: Credit,
}

/// Bytes of a source that did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) source: Source,
    pub(crate) bytes: Range<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    received: Vec<(Source, u64)>,
    held: Vec<(Batch, Credit)>,
}

impl Arrivals {
    /// Bytes of each source that have come.
    pub(crate) fn received(&self) -> &[(Source, u64)] {
        &self.received
    }

    /// Notes bytes that came without an offset.
    pub(crate) fn count(&mut self, source: &Source, bytes: usize) {
        *self.upto(source) += bytes as u64;
    }

    /// Whether something waits for what should have come before it.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// About how much credit waits here, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.iter().map(|(batch, _)| batch.packed_size().max(1024)).sum()
    }

    fn upto(&mut self, source: &Source) -> &mut u64 {
        let known = self.received.iter().position(|(known, _)| known == source);
        let index = known.unwrap_or_else(|| {
            self.received.push((source.clone(), 0));
            self.received.len() - 1
        });
        &mut self.received[index].1
    }

    fn has(&self, source: &Source) -> u64 {
        self.received.iter().find(|(known, _)| known == source).map_or(0, |(_, bytes)| *bytes)
    }

    /// Takes a batch. Gives what is in order now.
    pub(crate) fn take(&mut self, batch: Batch, credit: Credit) -> Vec<Ready> {
        let mut ready = Vec::new();
        self.held.push((batch, credit));
        self.advance(&mut ready);
        ready
    }

    /// Moves what is in order by now out of what is held.
    fn advance(&mut self, ready: &mut Vec<Ready>) {
        while let Some(index) = self.held.iter().position(|(batch, _)| self.fits(batch)) {
            let (batch, credit) = self.held.remove(index);
            let news = self.accept(&batch);
            if !news.is_empty() {
                ready.push(Ready { batch, news, credit });
            }
        }
    }

    /// Whether nothing is missing before any of its pieces.
    fn fits(&self, batch: &Batch) -> bool {
        let mut within: Vec<(&Source, u64)> = Vec::new();
        batch.chunks().iter().all(|chunk| {
            let known = within.iter().position(|(source, _)| **source == chunk.source);
            let index = known.unwrap_or_else(|| {
                within.push((&chunk.source, self.has(&chunk.source)));
                within.len() - 1
            });
            let upto = &mut within[index].1;
            let fits = chunk.offset <= *upto;
            *upto = (*upto).max(chunk.offset + chunk.length as u64);
            fits
        })
    }

    /// What is new of a batch that fits.
    fn accept(&mut self, batch: &Batch) -> Vec<(Source, Range<usize>)> {
        let (mut news, mut at) = (Vec::with_capacity(batch.chunks().len()), 0);
        for chunk in batch.chunks() {
            let (start, end) = (at, at + chunk.length);
            at = end;
            let upto = self.upto(&chunk.source);
            let is_end = chunk.length == 0 && chunk.offset == *upto;
            let known = usize::try_from(*upto - chunk.offset.min(*upto)).unwrap_or(usize::MAX);
            if is_end || known < chunk.length {
                *upto = chunk.offset + chunk.length as u64;
                news.push((chunk.source.clone(), start + known..end));
            }
        }
        news
    }

    /// No longer waits for what is missing: says what that is. What follows it is in order then.
    pub(crate) fn give_up(&mut self) -> Vec<(Gap, Vec<Ready>)> {
        let mut all = Vec::new();
        while let Some(gap) = self.first_gap() {
            *self.upto(&gap.source) = gap.bytes.end;
            let mut ready = Vec::new();
            self.advance(&mut ready);
            all.push((gap, ready));
        }
        all
    }

    /// What is missing before the earliest of what is held.
    fn first_gap(&self) -> Option<Gap> {
        let ahead = |chunk: &greenroom_protocol::Chunk| {
            let bytes = self.has(&chunk.source)..chunk.offset;
            (!bytes.is_empty()).then(|| Gap { source: chunk.source.clone(), bytes })
        };
        let chunks = self.held.iter().flat_map(|(batch, _)| batch.chunks());
        chunks.filter_map(ahead).min_by_key(|gap| gap.bytes.end - gap.bytes.start)
    }

    /// What is missing of so many bytes.
    pub(crate) fn missing(&self, totals: &[(Source, u64)]) -> Vec<Gap> {
        let gap = |(source, total): &(Source, u64)| {
            let bytes = self.has(source)..*total;
            (!bytes.is_empty()).then(|| Gap { source: source.clone(), bytes })
        };
        totals.iter().filter_map(gap).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    async fn credit() -> Credit {
        crate::socket::test_credit(&Arc::new(Semaphore::new(1))).await
    }

    fn batch(pieces: &[(Source, u64, &'static str)]) -> Batch {
        let piece = |(source, offset, text): &(Source, u64, &'static str)| {
            (source.clone(), *offset, bytes::Bytes::from_static(text.as_bytes()))
        };
        Batch::new(pieces.iter().map(piece).collect())
    }

    fn out(offset: u64, text: &'static str) -> Batch {
        batch(&[(Source::Stdout, offset, text)])
    }

    fn text(ready: &[Ready]) -> String {
        let mut text = String::new();
        for ready in ready {
            let bytes = ready.batch.unpack().unwrap();
            for (source, range) in &ready.news {
                let letter = if *source == Source::Stderr { "e" } else { "o" };
                text += &format!("{letter}:{} ", std::str::from_utf8(&bytes[range.clone()]).unwrap());
            }
        }
        text.trim_end().to_owned()
    }

    async fn take(arrivals: &mut Arrivals, batch: Batch) -> String {
        text(&arrivals.take(batch, credit().await))
    }

    #[tokio::test]
    async fn what_comes_twice_is_dropped_also_in_part() {
        let mut arrivals = Arrivals::default();
        assert_eq!(take(&mut arrivals, out(0, "abc")).await, "o:abc");
        assert_eq!(take(&mut arrivals, out(0, "abc")).await, "");
        assert_eq!(take(&mut arrivals, out(1, "bcd")).await, "o:d");
        let two = batch(&[(Source::Stderr, 0, "x"), (Source::Stdout, 3, "d"), (Source::Stdout, 4, "e")]);
        assert_eq!(take(&mut arrivals, two.clone()).await, "e:x o:e");
        assert_eq!(take(&mut arrivals, two).await, "");
        assert_eq!(arrivals.received(), [(Source::Stdout, 5), (Source::Stderr, 1)]);
    }

    #[tokio::test]
    async fn what_comes_too_early_waits_for_its_turn() {
        let mut arrivals = Arrivals::default();
        assert_eq!(take(&mut arrivals, out(4, "e")).await, "");
        assert_eq!(take(&mut arrivals, out(2, "cd")).await, "");
        assert!(arrivals.holds());
        assert_eq!(take(&mut arrivals, out(0, "ab")).await, "o:ab o:cd o:e");
        assert!(!arrivals.holds());
    }

    #[tokio::test]
    async fn what_never_comes_is_told_with_its_place() {
        let mut arrivals = Arrivals::default();
        take(&mut arrivals, out(0, "ab")).await;
        take(&mut arrivals, out(9, "j")).await;
        take(&mut arrivals, out(5, "f")).await;
        let given_up = arrivals.give_up();
        let gap = |bytes| Gap { source: Source::Stdout, bytes };
        let told: Vec<_> = given_up.iter().map(|(gap, ready)| (gap.clone(), text(ready))).collect();
        assert_eq!(told, [(gap(2..5), "o:f".to_owned()), (gap(6..9), "o:j".to_owned())]);
        assert!(!arrivals.holds());
        assert_eq!(arrivals.missing(&[(Source::Stdout, 12)]), [gap(10..12)]);
        assert_eq!(arrivals.missing(&[(Source::Stdout, 10)]), []);
    }

    #[tokio::test]
    async fn an_end_comes_after_all_of_its_source() {
        let mut arrivals = Arrivals::default();
        assert_eq!(take(&mut arrivals, out(2, "")).await, "");
        assert_eq!(take(&mut arrivals, out(0, "ab")).await, "o:ab o:");
        assert_eq!(
            take(&mut arrivals, batch(&[(Source::Stdout, 1, "b"), (Source::Stdout, 2, "c")])).await,
            "o:c"
        );
        assert_eq!(take(&mut arrivals, out(2, "")).await, "", "an end of long ago");
    }
}
