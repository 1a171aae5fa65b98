//! The cells of one tier, packed: most are next to each other and hold small numbers.
//!
//! A cell is how many cells later than the one before it begins, then its fields, each number a varint
//! of 1 to 10 bytes (7 bits a byte, lowest first; the last byte is below 128). Such a row can be read
//! from its end, which is where the newest cells are: what a merge or a sum costs follows from how far
//! back it reaches, not from how much is kept.

use crate::series::{Merge, Series, Values};

/// A byte that is not the last of its varint.
const GOES_ON: u8 = 0x80;

/// The cells of one tier, by their number: their start, in widths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    /// The fields of the first cell, then each later cell: its step, its fields. What lies before
    /// `first` was dropped, and is taken back now and then.
    packed: Vec<u8>,
    first: u32,
    /// Where the fields of the newest cell are.
    last: u32,
    oldest: i64,
    newest: i64,
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        let ends = |ring: &Self| (!ring.is_empty()).then_some((ring.oldest, ring.newest));
        self.kept() == other.kept() && ends(self) == ends(other)
    }
}

impl Eq for Ring {}

/// A cell that was found: its number, and where its fields are.
#[derive(Clone, Copy)]
struct Found {
    number: i64,
    at: usize,
}

impl Ring {
    fn kept(&self) -> &[u8] {
        &self.packed[self.first as usize..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first as usize == self.packed.len()
    }

    /// Bytes of its cells.
    pub(crate) fn bytes(&self) -> usize {
        self.kept().len()
    }

    /// Bytes that it takes for them.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.packed.capacity()
    }

    pub(crate) fn oldest(&self) -> Option<i64> {
        (!self.is_empty()).then_some(self.oldest)
    }

    pub(crate) fn newest(&self) -> Option<i64> {
        (!self.is_empty()).then_some(self.newest)
    }

    /// The newest cell.
    fn tail(&self) -> Option<Found> {
        let at = self.last as usize;
        self.newest().map(|number| Found { number, at })
    }

    /// The cell before another one.
    fn before(&self, cell: Found, fields: usize) -> Option<Found> {
        if cell.at == self.first as usize {
            return None;
        }
        let step_at = self.start_of(cell.at);
        let (step, _) = unpack(&self.packed, step_at);
        let at = (0..fields).fold(step_at, |at, _| self.start_of(at));
        let number = cell.number.wrapping_sub(step.cast_signed());
        Some(Found { number, at })
    }

    /// Start of the varint that ends before `end`.
    fn start_of(&self, end: usize) -> usize {
        let mut at = end - 1;
        while at > self.first as usize && self.packed[at - 1] >= GOES_ON {
            at -= 1;
        }
        at
    }

    fn fields(&self, series: &Series, at: usize) -> (Values, usize) {
        let mut end = at;
        let values = series.merges.iter().map(|merge| {
            let (packed, next) = unpack(&self.packed, end);
            end = next;
            from_packed(*merge, packed)
        });
        (values.collect(), end)
    }

    /// Merges into the cell of a number.
    pub(crate) fn merge(&mut self, series: &Series, number: i64, delta: &[i64]) {
        let width = series.merges.len();
        // The first cell that is not before it, and the one before that.
        let (mut after, mut before) = (None, self.tail());
        while let Some(cell) = before.filter(|cell| cell.number >= number) {
            after = Some(cell);
            if cell.number == number {
                break;
            }
            before = self.before(cell, width);
        }
        let mut row = Row::default();
        let Some(after) = after else {
            return self.append(series, number, delta);
        };
        if after.number == number {
            let (mut values, end) = self.fields(series, after.at);
            series.merge(&mut values, delta);
            row.push_fields(series, &values);
            return self.replace(after.at, end, &row);
        }
        // Between `before` and `after`: the step of `after` is shorter now.
        let mut values = series.identity();
        series.merge(&mut values, delta);
        let from = match before {
            Some(before) => {
                row.push(number.wrapping_sub(before.number).cast_unsigned());
                self.start_of(after.at)
            }
            None => {
                self.oldest = number;
                after.at
            }
        };
        row.push_fields(series, &values);
        row.push(after.number.wrapping_sub(number).cast_unsigned());
        self.replace(from, after.at, &row);
    }

    fn append(&mut self, series: &Series, number: i64, values: &[i64]) {
        let mut row = Row::default();
        let step = match self.newest() {
            Some(newest) => {
                row.push(number.wrapping_sub(newest).cast_unsigned());
                row.bytes().len()
            }
            None => {
                self.packed.clear();
                self.first = 0;
                self.oldest = number;
                0
            }
        };
        row.push_fields(series, values);
        self.make_room(row.bytes().len());
        self.last = (self.packed.len() + step) as u32;
        self.packed.extend_from_slice(row.bytes());
        self.newest = number;
    }

    /// Puts a row in place of `from..to`.
    fn replace(&mut self, from: usize, to: usize, row: &Row) {
        let (before, bytes) = (to - from, row.bytes());
        if before != bytes.len() {
            self.make_room(bytes.len().saturating_sub(before));
            if self.last as usize >= to {
                self.last = self.last + bytes.len() as u32 - before as u32;
            }
        }
        self.packed.splice(from..to, bytes.iter().copied());
    }

    /// Makes room for more bytes, but for few more than are there: there are many rings.
    fn make_room(&mut self, bytes: usize) {
        if self.packed.len() + bytes <= self.packed.capacity() {
            return;
        }
        let spare = bytes.max(self.packed.len() / 8).max(16);
        self.packed.reserve_exact(spare);
    }

    /// Takes back what was dropped at the front.
    fn take_back(&mut self) {
        if self.first > 0 {
            self.packed.drain(..self.first as usize);
            self.last -= self.first;
            self.first = 0;
        }
    }

    /// Drops the oldest cell, which must be there, and returns it.
    pub(crate) fn pop(&mut self, series: &Series) -> Option<(i64, Values)> {
        let number = self.oldest()?;
        let (values, end) = self.fields(series, self.first as usize);
        self.first = end as u32;
        if !self.is_empty() {
            let (step, at) = unpack(&self.packed, end);
            self.first = at as u32;
            self.oldest = number.wrapping_add(step.cast_signed());
            // So that a byte is moved a few times on average, and little of what is held is dropped.
            if self.first as usize > self.packed.len() / 4 + 16 {
                self.take_back();
            }
        }
        Some((number, values))
    }

    /// Drops the oldest cell, if its number is lower than `before`, and returns it.
    pub(crate) fn pop_before(&mut self, series: &Series, before: i64) -> Option<(i64, Values)> {
        self.oldest().filter(|oldest| *oldest < before)?;
        self.pop(series)
    }

    /// Drops the cells whose number is higher than `after`.
    pub(crate) fn drop_after(&mut self, series: &Series, after: i64) {
        let width = series.merges.len();
        while let Some(cell) = self.tail().filter(|cell| cell.number > after) {
            match self.before(cell, width) {
                Some(before) => {
                    self.packed.truncate(self.start_of(cell.at));
                    (self.newest, self.last) = (before.number, before.at as u32);
                }
                None => *self = Self::default(),
            }
        }
    }

    /// The cells from a number on, newest first.
    pub(crate) fn back_to<'a>(
        &'a self,
        series: &'a Series,
        from: i64,
    ) -> impl Iterator<Item = (i64, Values)> + 'a {
        let width = series.merges.len();
        let cells = std::iter::successors(self.tail(), move |cell| self.before(*cell, width));
        cells
            .take_while(move |cell| cell.number >= from)
            .map(|cell| (cell.number, self.fields(series, cell.at).0))
    }

    /// Merges the cells of `[from, to)` into another one.
    pub(crate) fn sum_into(&self, series: &Series, from: i64, to: i64, into: &mut Values) {
        let width = series.merges.len();
        let mut next = self.tail();
        while let Some(cell) = next.filter(|cell| cell.number >= from) {
            if cell.number < to {
                let mut at = cell.at;
                for (into, merge) in into.iter_mut().zip(&series.merges) {
                    let (packed, end) = unpack(&self.packed, at);
                    merge.apply(into, from_packed(*merge, packed));
                    at = end;
                }
            }
            next = self.before(cell, width);
        }
    }

    /// All cells, oldest first: start of each, then its fields.
    pub(crate) fn dump(&self, series: &Series, start_ms: impl Fn(i64) -> i64) -> Vec<i64> {
        let mut numbers = Vec::new();
        let (mut at, mut number) = (self.first as usize, self.oldest);
        while at < self.packed.len() {
            let (values, end) = self.fields(series, at);
            numbers.push(start_ms(number));
            numbers.extend(values);
            at = end;
            if at < self.packed.len() {
                let (step, end) = unpack(&self.packed, at);
                number = number.wrapping_add(step.cast_signed());
                at = end;
            }
        }
        numbers
    }

    /// Cells as they were dumped, their numbers in order.
    pub(crate) fn load<'a>(series: &Series, cells: impl Iterator<Item = (i64, &'a [i64])>) -> Self {
        let mut ring = Self::default();
        for (number, values) in cells {
            ring.append(series, number, values);
        }
        ring.packed.shrink_to_fit();
        ring
    }
}

/// A row that is being written: no cell of a series with few fields needs the heap for it.
#[derive(Default)]
struct Row(smallvec::SmallVec<[u8; 64]>);

impl Row {
    fn push(&mut self, mut number: u64) {
        while number >= u64::from(GOES_ON) {
            self.0.push(number as u8 | GOES_ON);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn push_fields(&mut self, series: &Series, values: &[i64]) {
        for (value, merge) in values.iter().zip(&series.merges) {
            self.push(to_packed(*merge, *value));
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The varint at a place, and where it ends.
#[inline]
fn unpack(packed: &[u8], at: usize) -> (u64, usize) {
    let first = packed[at];
    if first < GOES_ON {
        return (u64::from(first), at + 1);
    }
    let mut number = u64::from(first & !GOES_ON);
    let mut end = at + 1;
    for shift in (7..64).step_by(7) {
        let byte = packed[end];
        end += 1;
        number |= u64::from(byte & !GOES_ON) << shift;
        if byte < GOES_ON {
            break;
        }
    }
    (number, end)
}

/// A value near zero, of either sign, or one that changes nothing, as a small number.
#[inline]
fn to_packed(merge: Merge, value: i64) -> u64 {
    let folded = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    folded.wrapping_add(ahead(merge))
}

#[inline]
fn from_packed(merge: Merge, packed: u64) -> i64 {
    let folded = packed.wrapping_sub(ahead(merge));
    (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed()
}

/// What takes the value that changes nothing to zero.
#[inline]
const fn ahead(merge: Merge) -> u64 {
    match merge {
        Merge::Sum => 0,
        // The lowest of all numbers is folded to the highest one, and the highest to the one before.
        Merge::Max => 1,
        Merge::Min => 2,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_changes_nothing_takes_one_byte() {
        for merge in [Merge::Sum, Merge::Min, Merge::Max] {
            assert_eq!(to_packed(merge, merge.identity()), 0);
        }
    }

    proptest! {
        #[test]
        fn a_value_is_what_was_packed(value: i64, near in -300_i64..300) {
            for merge in [Merge::Sum, Merge::Min, Merge::Max] {
                for value in [value, near, i64::MAX - near.abs(), i64::MIN + near.abs()] {
                    let mut row = Row::default();
                    row.push(to_packed(merge, value));
                    let (packed, end) = unpack(row.bytes(), 0);
                    prop_assert_eq!((from_packed(merge, packed), end), (value, row.bytes().len()));
                }
            }
        }
    }
}
