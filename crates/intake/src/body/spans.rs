//! A body of messages with their lengths before them: a varint, then as many bytes, as protobuf's
//! own libraries write several messages one after another. It must never look into a message.

use super::{Error, Piece};

/// The longest that a varint of 64 bits can be.
const VARINT_BYTES_MAX: usize = 10;

/// The messages of a body, each of up to `event_bytes_max` bytes. A length that cannot be true is
/// the last item.
pub(super) fn split(body: &[u8], event_bytes_max: usize) -> Spans<'_> {
    Spans {
        body,
        at: 0,
        count: 0,
        event_bytes_max,
    }
}

pub(super) struct Spans<'a> {
    body: &'a [u8],
    at: usize,
    count: u64,
    event_bytes_max: usize,
}

impl<'a> Iterator for Spans<'a> {
    type Item = Result<Piece<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.body.len() {
            return None;
        }
        let piece = self.piece();
        if piece.is_err() {
            self.at = self.body.len();
        }
        Some(piece)
    }
}

impl<'a> Spans<'a> {
    fn piece(&mut self) -> Result<Piece<'a>, Error> {
        let (length, taken) = self.length()?;
        let rest = &self.body[self.at + taken..];
        if length > rest.len() as u64 {
            let left = rest.len();
            return Err(self.broken(format!(
                "a length of {length}, but {left} bytes are left behind it"
            )));
        }
        if length > self.event_bytes_max as u64 {
            let most = self.event_bytes_max;
            return Err(self.broken(format!("a length of {length}, at most {most} is allowed")));
        }
        let bytes = &rest[..length as usize];
        self.at += taken + bytes.len();
        self.count += 1;
        Ok(Piece {
            line: self.count,
            bytes,
        })
    }

    /// The next length, and the bytes that it takes itself.
    fn length(&self) -> Result<(u64, usize), Error> {
        let mut length = 0_u64;
        for (place, byte) in self.body[self.at..].iter().enumerate() {
            let bits = u64::from(byte & 0x7f);
            let is_beyond = place + 1 == VARINT_BYTES_MAX && *byte > 1;
            if is_beyond {
                return Err(self.broken("a length of more than 64 bits".to_owned()));
            }
            length |= bits << (7 * place);
            if byte & 0x80 == 0 {
                return Ok((length, place + 1));
            }
        }
        Err(self.broken("the body ends within a length".to_owned()))
    }

    /// The body cannot be split at the length that comes next.
    #[cold]
    fn broken(&self, problem: String) -> Error {
        Error::CannotSplit {
            byte: self.at as u64,
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8], expect: &[&str], fault: Option<&str>) {
        let mut got = Vec::new();
        let mut error = None;
        for (number, piece) in (1..).zip(split(body, 200)) {
            assert_eq!(error, None, "something after an error");
            match piece {
                Ok(piece) => {
                    assert_eq!(piece.line, number);
                    got.push(std::str::from_utf8(piece.bytes).unwrap());
                }
                Err(fault) => error = Some(fault.to_string()),
            }
        }
        assert_eq!(got, expect);
        let fault = fault.map(|fault| format!("the body cannot be split at byte {fault}"));
        assert_eq!(error, fault);
    }

    #[test]
    fn lengths_are_read_and_held_against_the_body() {
        check(b"", &[], None);
        check(b"\x00", &[""], None);
        check(b"\x02ab\x00\x01c", &["ab", "", "c"], None);
        check(b"\x82\x00ab", &["ab"], None);
        let long = "x".repeat(200);
        check(
            format!("\u{48}{}", &long[..72]).as_bytes(),
            &[&long[..72]],
            None,
        );
        check(&[b"\xc8\x01", long.as_bytes()].concat(), &[&long], None);
        check(
            b"\x02ab\x03cd",
            &["ab"],
            Some("3: a length of 3, but 2 bytes are left behind it"),
        );
        check(
            &[b"\xc9\x01", long.as_bytes(), b"x"].concat(),
            &[],
            Some("0: a length of 201, at most 200 is allowed"),
        );
        check(
            b"\x01a\x80",
            &["a"],
            Some("2: the body ends within a length"),
        );
        check(
            &[&[0xff; 9][..], b"\x01"].concat(),
            &[],
            Some("0: a length of 18446744073709551615, but 0 bytes are left behind it"),
        );
        for tail in [&b"\x02"[..], b"\x81\x00", b"\xff\xff\xff"] {
            check(
                &[&[0xff; 9][..], tail].concat(),
                &[],
                Some("0: a length of more than 64 bits"),
            );
        }
    }
}
