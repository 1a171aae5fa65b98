//! What a kind of life has to say of itself to be tracked, and the bytes in which it is kept.
//!
//! The bytes of a life are: when it closed, the words that it shares with others, and its fields.
//! Words come first and apart from the fields, so that their numbers can be exchanged without
//! knowing what kind of life it is. A new life is one type with this trait, and nothing else.

use super::words::Words;

/// Times are kept as the distance from here: 2020-01-01, Unix ms.
const EPOCH_MS: i64 = 1_577_836_800_000;

/// How words are told apart: nothing, spelled out, or a number.
const EMPTY: u64 = 0;
const SPELLED: u64 = 1;
const NUMBERED: u64 = 2;

/// A kind of life: a parcel, an order, a thread.
pub(crate) trait Life: Default {
    /// Its number in the log. It never changes, and no other kind takes it; other fields are
    /// another number.
    const KIND: u32;

    /// When it ended, Unix ms; `None` = it is open.
    fn closed_ms(&self) -> Option<i64>;

    /// Writes all that is to be kept of it. When it ended is kept already.
    fn write(&self, to: &mut Writer<'_>);

    /// Takes what was written, field by field in the same order, and leaves nothing as it was
    /// before. `None` where it cannot be what [`Life::write`] wrote.
    fn read(&mut self, closed_ms: Option<i64>, from: &mut Reader<'_>) -> Option<()>;
}

/// The buffers that a life is written into, to be used again.
#[derive(Default)]
pub(super) struct Buffers {
    words: Vec<u8>,
    count: u64,
    fields: Vec<u8>,
    payload: Vec<u8>,
}

/// Writes a life.
pub(crate) struct Writer<'a> {
    words: &'a mut Words,
    buffers: &'a mut Buffers,
}

impl Writer<'_> {
    /// A text that many lives have in common.
    pub(crate) fn word(&mut self, text: &str) {
        let buffers = &mut *self.buffers;
        buffers.count += 1;
        if text.is_empty() {
            return put_varint(&mut buffers.words, EMPTY);
        }
        match self.words.number(text) {
            Some(number) => put_varint(&mut buffers.words, NUMBERED + u64::from(number)),
            None => {
                put_varint(&mut buffers.words, SPELLED);
                put_varint(&mut buffers.words, text.len() as u64);
                buffers.words.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// A small number: up to 127 takes a byte.
    pub(crate) fn number(&mut self, value: u64) {
        put_varint(&mut self.buffers.fields, value);
    }

    /// A number near 0.
    pub(crate) fn signed(&mut self, value: i64) {
        put_varint(&mut self.buffers.fields, zigzag(value));
    }

    /// A time, Unix ms.
    pub(crate) fn time(&mut self, at_ms: i64) {
        self.signed(at_ms.wrapping_sub(EPOCH_MS));
    }
}

/// Reads a life.
pub(crate) struct Reader<'a> {
    dictionary: &'a Words,
    words: &'a [u8],
    fields: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next word.
    pub(crate) fn word(&mut self) -> Option<&'a str> {
        match take_word(&mut self.words)? {
            Word::Empty => Some(""),
            Word::Spelled(text) => Some(text),
            Word::Numbered(number) => self.dictionary.get(number),
        }
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> Option<u64> {
        take_varint(&mut self.fields)
    }

    /// The next number with a sign.
    pub(crate) fn signed(&mut self) -> Option<i64> {
        self.number().map(unzigzag)
    }

    /// The next time, Unix ms.
    pub(crate) fn time(&mut self) -> Option<i64> {
        Some(self.signed()?.wrapping_add(EPOCH_MS))
    }
}

/// The bytes of a life.
pub(super) fn encode<'a, L: Life>(
    life: &L,
    words: &mut Words,
    buffers: &'a mut Buffers,
) -> &'a [u8] {
    buffers.words.clear();
    buffers.fields.clear();
    buffers.payload.clear();
    buffers.count = 0;
    life.write(&mut Writer { words, buffers });
    let closed = life.closed_ms();
    let closed = closed.map_or(0, |at_ms| {
        zigzag(at_ms.wrapping_sub(EPOCH_MS)).wrapping_add(1)
    });
    put_varint(&mut buffers.payload, closed);
    put_varint(&mut buffers.payload, buffers.count);
    buffers.payload.extend_from_slice(&buffers.words);
    buffers.payload.extend_from_slice(&buffers.fields);
    &buffers.payload
}

/// Takes the bytes of a life.
pub(super) fn decode<L: Life>(life: &mut L, mut payload: &[u8], dictionary: &Words) -> Option<()> {
    let closed_ms = take_closed(&mut payload)?;
    let count = take_varint(&mut payload)?;
    let words = payload;
    for _ in 0..count {
        take_word(&mut payload)?;
    }
    let mut reader = Reader {
        dictionary,
        words,
        fields: payload,
    };
    life.read(closed_ms, &mut reader)
}

/// When the life of these bytes ended.
pub(super) fn closed_ms(mut payload: &[u8]) -> Option<i64> {
    take_closed(&mut payload).flatten()
}

/// Writes the bytes of a life with other words: `number` gives the number of each word, where it
/// has one. `None` where they are not the bytes of a life.
pub(crate) fn translate(
    mut payload: &[u8],
    number: &mut dyn FnMut(Word<'_>) -> Option<Named>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let closed = take_varint(&mut payload)?;
    put_varint(out, closed);
    let count = take_varint(&mut payload)?;
    put_varint(out, count);
    for _ in 0..count {
        let word = take_word(&mut payload)?;
        if matches!(word, Word::Empty) {
            put_varint(out, EMPTY);
            continue;
        }
        match number(word)? {
            Named::Number(number) => put_varint(out, NUMBERED + u64::from(number)),
            Named::Spelled(text) => {
                put_varint(out, SPELLED);
                put_varint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    out.extend_from_slice(payload);
    Some(())
}

/// A word as it was written.
#[derive(Clone, Copy)]
pub(crate) enum Word<'a> {
    Empty,
    Spelled(&'a str),
    Numbered(u32),
}

/// A word as it is to be written.
pub(crate) enum Named {
    Number(u32),
    Spelled(String),
}

fn take_closed(from: &mut &[u8]) -> Option<Option<i64>> {
    let closed = take_varint(from)?.checked_sub(1);
    Some(closed.map(|closed| unzigzag(closed).wrapping_add(EPOCH_MS)))
}

fn take_word<'a>(from: &mut &'a [u8]) -> Option<Word<'a>> {
    match take_varint(from)? {
        EMPTY => Some(Word::Empty),
        SPELLED => {
            let bytes = usize::try_from(take_varint(from)?).ok()?;
            let (text, rest) = from.split_at_checked(bytes)?;
            *from = rest;
            std::str::from_utf8(text).ok().map(Word::Spelled)
        }
        number => u32::try_from(number - NUMBERED).ok().map(Word::Numbered),
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Seven bits a byte, the low ones first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The inverse of [`put_varint`].
pub(crate) fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
