//! Several streams as one, in the order of time.
//!
//! Owns the order alone: the stream whose next item is earliest goes first, and of equal ones the
//! stream that was named first. It holds one item of each stream and must never sort further: a
//! stream whose own times run backwards keeps its order, at the running maximum of its times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that happened at a time.
pub trait Timed {
    /// Unix ms, or `None` where it cannot be told: it then goes at the time of what stood before.
    fn at_ms(&self) -> Option<i64>;
}

/// A k-way merge; yields each item with the clock, which never runs backwards.
pub struct Merge<I: Iterator> {
    streams: Vec<Stream<I>>,
    /// The clock and the number of each stream that has a next item.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
}

struct Stream<I: Iterator> {
    items: I,
    next: Option<I::Item>,
    clock_ms: i64,
}

impl<I, T, E> Merge<I>
where
    I: Iterator<Item = Result<T, E>>,
    T: Timed,
{
    /// Merges streams. Before the first time that a stream tells, its clock is `start_ms`.
    pub fn new(streams: impl IntoIterator<Item = I>, start_ms: i64) -> Self {
        let streams = streams
            .into_iter()
            .map(|items| Stream {
                items,
                next: None,
                clock_ms: start_ms,
            })
            .collect();
        let mut merge = Self {
            streams,
            heads: BinaryHeap::new(),
        };
        for number in 0..merge.streams.len() {
            merge.refill(number);
        }
        merge
    }

    fn refill(&mut self, number: usize) {
        let stream = &mut self.streams[number];
        stream.next = stream.items.next();
        if let Some(item) = &stream.next {
            if let Some(at_ms) = item.as_ref().ok().and_then(Timed::at_ms) {
                stream.clock_ms = stream.clock_ms.max(at_ms);
            }
            self.heads.push(Reverse((stream.clock_ms, number)));
        }
    }
}

impl<I, T, E> Iterator for Merge<I>
where
    I: Iterator<Item = Result<T, E>>,
    T: Timed,
{
    type Item = Result<(i64, T), E>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((clock_ms, number)) = self.heads.pop()?;
        let item = self.streams[number].next.take()?;
        self.refill(number);
        Some(item.map(|item| (clock_ms, item)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct At(Option<i64>, &'static str);

    impl Timed for At {
        fn at_ms(&self) -> Option<i64> {
            self.0
        }
    }

    #[test]
    fn streams_merge_by_their_running_maximum() {
        let first = vec![
            At(None, "a0"),
            At(Some(5), "a1"),
            At(Some(3), "a2"),
            At(Some(9), "a3"),
        ];
        let second = vec![
            At(Some(4), "b0"),
            At(Some(5), "b1"),
            At(None, "b2"),
            At(Some(10), "b3"),
        ];
        let streams = [first, second, Vec::new()].map(|items| {
            items
                .into_iter()
                .map(Ok::<At, ()>)
                .collect::<Vec<_>>()
                .into_iter()
        });
        let got: Vec<(i64, &str)> = Merge::new(streams, 1)
            .map(|item| item.map(|(at, item)| (at, item.1)).unwrap())
            .collect();
        let expect = [
            (1, "a0"),
            (4, "b0"),
            (5, "a1"),
            (5, "a2"),
            (5, "b1"),
            (5, "b2"),
            (9, "a3"),
            (10, "b3"),
        ];
        assert_eq!(got, expect);
    }

    #[test]
    fn an_error_comes_in_its_place_and_does_not_end_the_others() {
        let first = vec![Ok(At(Some(5), "a")), Err("broke")];
        let second = vec![Ok(At(Some(4), "b")), Ok(At(Some(6), "c"))];
        let got: Vec<_> = Merge::new([first, second].map(Vec::into_iter), 0)
            .map(|item| item.map(|i| i.0))
            .collect();
        assert_eq!(got, [Ok(4), Ok(5), Err("broke"), Ok(6)]);
    }
}
