//! A body cut at its line feeds. It must never look into a line.

use super::{BYTE_ORDER_MARK, Piece};

/// The lines of a body that are not blank, without their ends; blank ones are counted.
pub(super) fn split(body: &[u8]) -> Lines<'_> {
    Lines {
        rest: body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body),
        line: 0,
    }
}

pub(super) struct Lines<'a> {
    rest: &'a [u8],
    line: u64,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        while !self.rest.is_empty() {
            let (bytes, lines) = blank_lines(self.rest);
            self.rest = &self.rest[bytes..];
            self.line += lines;
            let from = self.rest;
            let length = after_line_feed(from);
            self.rest = &from[length..];
            self.line += 1;
            let bytes = &from[..length];
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
            if !is_blank(bytes) {
                let line = self.line;
                return Some(Piece { line, bytes });
            }
        }
        None
    }
}

/// Where the next line begins. The compiler makes a few instructions of a step: with the standard
/// library's search, a line costs two per cent more in all.
fn after_line_feed(bytes: &[u8]) -> usize {
    let (steps, _) = bytes.as_chunks::<32>();
    let is_without = |step: &&[u8; 32]| {
        let found = step
            .iter()
            .fold(false, |found, byte| found | (*byte == b'\n'));
        !found
    };
    let start = 32 * steps.iter().take_while(is_without).count();
    let found = memchr::memchr(b'\n', &bytes[start..]);
    found.map_or(bytes.len(), |place| start + place + 1)
}

/// The bytes and the number of the blank lines that come first, as far as they fill whole steps. A
/// packed body of a few bytes may be millions of them: they are passed over many at a time.
fn blank_lines(bytes: &[u8]) -> (usize, u64) {
    let (steps, _) = bytes.as_chunks::<32>();
    let is_space = |step: &&[u8; 32]| {
        step.iter()
            .fold(true, |all, byte| all & byte.is_ascii_whitespace())
    };
    let blank = &bytes[..32 * steps.iter().take_while(is_space).count()];
    // What stands behind the last line feed may be the beginning of a line that is not blank.
    let Some(last) = memchr::memrchr(b'\n', blank) else {
        return (0, 0);
    };
    let blank = &blank[..=last];
    let count = |step: &[u8]| step.iter().filter(|byte| **byte == b'\n').count() as u64;
    (blank.len(), blank.chunks(4096).map(count).sum())
}

/// The first byte settles it for nearly every line.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8], expect: &[(u64, &str)]) {
        let got: Vec<(u64, &str)> = split(body)
            .map(|piece| (piece.line, std::str::from_utf8(piece.bytes).unwrap()))
            .collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn line_feeds_are_found_at_any_place() {
        for length in 0..100 {
            for place in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[place..].fill(b'\n');
                assert_eq!(after_line_feed(&bytes), place + 1, "of {length}");
            }
            assert_eq!(after_line_feed(&vec![b'a'; length]), length);
        }
    }

    #[test]
    fn blank_lines_are_counted_however_many_come_at_once() {
        for blank in ["\n", "\r\n", " \t\n", "\n   "] {
            for count in [1, 7, 31, 32, 33, 64, 100, 5_000] {
                for line in ["x", " x ", "  \tx"] {
                    let text = format!("{}{line}\n\n", blank.repeat(count));
                    let lines: Vec<&str> = text.split('\n').collect();
                    let place = lines.iter().position(|line| line.contains('x')).unwrap();
                    check(text.as_bytes(), &[(place as u64 + 1, lines[place])]);
                }
            }
        }
    }

    #[test]
    fn lines_are_cut_and_numbered() {
        check(b"", &[]);
        check(b"\n\r\n \t\n", &[]);
        check(b"ab", &[(1, "ab")]);
        check(b"ab\n", &[(1, "ab")]);
        check(
            b"ab\n\n cd \r\n\r\nef",
            &[(1, "ab"), (3, " cd "), (5, "ef")],
        );
        check(b"a\rb\r\r\n", &[(1, "a\rb\r")]);
        check(b"\xef\xbb\xbfab\ncd", &[(1, "ab"), (2, "cd")]);
        check(b"\xef\xbb\xbf", &[]);
        check(b"ab\n\xef\xbb\xbf", &[(1, "ab"), (2, "\u{feff}")]);
    }
}
