//! The protobuf wire format, read in place: tags, numbers, lengths, and the skipping of what is
//! unknown. Every error says at which byte. It must never read past the end it was given, nor
//! recurse deeper than [`NESTING_MAX`].

use std::borrow::Cow;

use crate::bounds::{ELEMENTS_MAX, ENTRIES_MAX, NESTING_MAX};
use crate::field::{Field, Message, Scalar};
use crate::rejected::{Fault, Reason};

/// How a value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint,
    Fixed64,
    Length,
    GroupStart,
    GroupEnd,
    Fixed32,
}

/// A position in a message, and the end of the innermost message around it.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    depth: u32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            end: bytes.len(),
            depth: 0,
        }
    }

    #[cold]
    fn malformed(&self, what: &str) -> Fault {
        Fault::new(Reason::Malformed, format!("{what} at byte {}", self.at))
    }

    /// The layout is not the one that the field's type has.
    #[cold]
    pub(crate) fn expected(&self, wanted: Wire, got: Wire) -> Fault {
        self.malformed(&format!("expected wire type {wanted:?}, got {got:?}"))
    }

    /// Fails unless the layout is the one that the field's type has.
    pub(crate) fn expect(&self, wanted: Wire, got: Wire) -> Result<(), Fault> {
        match wanted == got {
            true => Ok(()),
            false => Err(self.expected(wanted, got)),
        }
    }

    /// A value that no event may hold here.
    #[cold]
    pub(crate) fn invalid(&self, what: &str) -> Fault {
        Fault::new(Reason::InvalidValue, format!("{what} at byte {}", self.at))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Fault> {
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 && self.at < self.end => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for (index, byte) in self.bytes[self.at..self.end].iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if index == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if *byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        match self.end - self.at < 10 {
            true => Err(self.malformed("number cut short")),
            false => Err(self.malformed("number over 64 bits")),
        }
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        match self.bytes[self.at..self.end].first_chunk::<N>() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.malformed("number cut short")),
        }
    }

    /// A length and that many bytes.
    #[inline]
    fn slice(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.varint()?;
        let left = &self.bytes[self.at..self.end];
        let length_or_more = usize::try_from(length).unwrap_or(usize::MAX);
        match left.get(..length_or_more) {
            Some(slice) => {
                self.at += slice.len();
                Ok(slice)
            }
            None => Err(self.too_long(length)),
        }
    }

    #[cold]
    fn too_long(&self, length: u64) -> Fault {
        let left = self.end - self.at;
        self.malformed(&format!("length {length} with {left} bytes left"))
    }

    pub(crate) fn string(&mut self) -> Result<&'a str, Fault> {
        let slice = self.slice()?;
        std::str::from_utf8(slice).map_err(|error| {
            let start = self.at - slice.len();
            let at = start + error.valid_up_to();
            Fault::new(Reason::Malformed, format!("not UTF-8 at byte {at}"))
        })
    }

    #[inline]
    fn tag(&mut self) -> Result<(u32, Wire), Fault> {
        let start = self.at;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).unwrap_or(0);
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Length,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            _ => {
                self.at = start;
                return Err(self.malformed("no such wire type"));
            }
        };
        if !(1..1 << 29).contains(&number) {
            self.at = start;
            return Err(self.malformed("no such field number"));
        }
        Ok((number, wire))
    }

    /// Reads a length and lets `read` have that many bytes, all of which it must take.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        let length = self.slice()?.len();
        let outer = std::mem::replace(&mut self.end, self.at);
        self.at -= length;
        self.deeper()?;
        let value = read(self)?;
        self.depth -= 1;
        self.end = outer;
        Ok(value)
    }

    fn deeper(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            let what = format!("nested deeper than {NESTING_MAX} at byte {}", self.at);
            return Err(Fault::new(Reason::TooLarge, what));
        }
        Ok(())
    }

    /// Passes over a field that the reader does not know.
    pub(crate) fn skip(&mut self, number: u32, wire: Wire) -> Result<(), Fault> {
        match wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.fixed::<8>().map(drop),
            Wire::Fixed32 => self.fixed::<4>().map(drop),
            Wire::Length => self.slice().map(drop),
            Wire::GroupEnd => Err(self.malformed("end of a group that did not begin")),
            Wire::GroupStart => {
                self.deeper()?;
                loop {
                    let (inner, wire) = self.tag()?;
                    if wire != Wire::GroupEnd {
                        self.skip(inner, wire)?;
                    } else if inner == number {
                        break;
                    } else {
                        return Err(self.malformed("end of another group"));
                    }
                }
                self.depth -= 1;
                Ok(())
            }
        }
    }
}

/// Reads fields into `message` up to the end of what `input` holds.
pub(crate) fn fields<'a, M: Message<'a>>(
    message: &mut M,
    input: &mut Reader<'a>,
) -> Result<(), Fault> {
    while input.at < input.end {
        let (number, wire) = input.tag()?;
        if let Err(fault) = message.merge_wire(number, wire, input) {
            let known = M::FIELDS.iter().find(|(known, _)| *known == number);
            return Err(match known {
                Some((_, name)) => fault.within(name),
                None => fault,
            });
        }
    }
    Ok(())
}

/// Reads an embedded message into `message`; a second one adds to the first.
pub(crate) fn message<'a, M: Message<'a>>(
    message: &mut M,
    wire: Wire,
    input: &mut Reader<'a>,
) -> Result<(), Fault> {
    input.expect(Wire::Length, wire)?;
    input.nested(|input| fields(message, input))
}

/// Reads the member of a oneof. A second one is an error, as it is in JSON: an event says one thing.
/// It is read in place: `wrap` makes the member and `unwrap` finds it again.
pub(crate) fn choose<'a, M: Message<'a> + Default, B>(
    slot: &mut Option<B>,
    wrap: impl Fn(M) -> B,
    unwrap: impl Fn(&mut B) -> Option<&mut M>,
    wire: Wire,
    input: &mut Reader<'a>,
) -> Result<(), Fault> {
    if slot.is_some() {
        return Err(input.invalid("a second body"));
    }
    match unwrap(slot.insert(wrap(M::default()))) {
        Some(member) => message(member, wire, input),
        None => Ok(()),
    }
}

/// Reads an element of a list, or a packed run of them.
pub(crate) fn elements<'a, T: Field<'a> + Default>(
    list: &mut Vec<T>,
    wire: Wire,
    input: &mut Reader<'a>,
) -> Result<(), Fault> {
    match T::PACKED {
        Some(layout) if wire == Wire::Length => input.nested(|input| {
            while input.at < input.end {
                element(list, layout, input)?;
            }
            Ok(())
        }),
        _ => element(list, wire, input),
    }
}

fn element<'a, T: Field<'a> + Default>(
    list: &mut Vec<T>,
    wire: Wire,
    input: &mut Reader<'a>,
) -> Result<(), Fault> {
    if list.len() == ELEMENTS_MAX {
        return Err(Fault::new(
            Reason::TooLarge,
            format!("more than {ELEMENTS_MAX} elements"),
        ));
    }
    let mut value = T::default();
    value
        .merge_wire(wire, input)
        .map_err(|fault| fault.at_element(list.len()))?;
    list.push(value);
    Ok(())
}

/// Reads an entry of a map; of two with the same key the last one holds.
pub(crate) fn entry<'a, V: Scalar<'a> + Default>(
    map: &mut Vec<(Cow<'a, str>, V)>,
    wire: Wire,
    input: &mut Reader<'a>,
) -> Result<(), Fault> {
    input.expect(Wire::Length, wire)?;
    let (mut key, mut value) = (Cow::<'a, str>::default(), V::default());
    input.nested(|input| {
        while input.at < input.end {
            match input.tag()? {
                (1, wire) => key.merge_wire(wire, input)?,
                (2, wire) => value.merge_wire(wire, input)?,
                (other, wire) => input.skip(other, wire)?,
            }
        }
        Ok(())
    })?;
    if let Some((_, old)) = map.iter_mut().find(|(known, _)| *known == key) {
        *old = value;
        return Ok(());
    }
    if map.len() == ENTRIES_MAX {
        return Err(Fault::new(
            Reason::TooLarge,
            format!("more than {ENTRIES_MAX} entries"),
        ));
    }
    map.push((key, value));
    Ok(())
}

/// The two numbers of a timestamp or a duration.
pub(crate) fn seconds_and_nanos(input: &mut Reader<'_>) -> Result<(i64, i32), Fault> {
    let (mut seconds, mut nanos) = (0, 0);
    input.nested(|input| {
        while input.at < input.end {
            match input.tag()? {
                (1, Wire::Varint) => seconds = input.varint()? as i64,
                (2, Wire::Varint) => nanos = input.varint()? as i32,
                (1 | 2, wire) => return Err(input.expected(Wire::Varint, wire)),
                (other, wire) => input.skip(other, wire)?,
            }
        }
        Ok((seconds, nanos))
    })
}
