//! A JSON array cut into its elements, by brackets and quotes alone. It must never judge an
//! element: one that is no JSON between its brackets is the decoder's to reject, and the others
//! are taken all the same.

use super::{BYTE_ORDER_MARK, Error, Piece};

/// Levels whose brackets are held against each other, far beyond what an event may have; deeper
/// ones are only counted.
const LEVELS_TRACKED: u32 = 64;

/// Whether the first thing in a body is the beginning of an array.
pub(super) fn is_array(body: &[u8]) -> bool {
    body.get(begin(body)) == Some(&b'[')
}

/// The one object that a body is, over several lines; nothing where it is anything else.
pub(super) fn only_value(body: &[u8]) -> Option<&[u8]> {
    let start = begin(body);
    let end = match body.get(start) {
        Some(b'{') => brackets_end(body, start).ok()?,
        _ => return None,
    };
    let value = &body[start..end];
    (after_space(body, end) == body.len() && value.contains(&b'\n')).then_some(value)
}

/// The elements of the array that a body is. Where it breaks is the last item.
pub(super) fn split(body: &[u8]) -> Elements<'_> {
    Elements {
        body,
        at: begin(body),
        count: 0,
        is_done: false,
    }
}

pub(super) struct Elements<'a> {
    body: &'a [u8],
    at: usize,
    count: u64,
    is_done: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Piece<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let piece = self.piece().transpose();
        self.is_done = !matches!(piece, Some(Ok(_)));
        piece
    }
}

impl<'a> Elements<'a> {
    fn piece(&mut self) -> Result<Option<Piece<'a>>, Error> {
        if !self.advance()? {
            return Ok(None);
        }
        let start = self.at;
        self.at = value_end(self.body, start)?;
        self.count += 1;
        Ok(Some(Piece {
            line: self.count,
            bytes: &self.body[start..self.at],
        }))
    }

    /// Goes to where the next element begins; false at the array's end.
    fn advance(&mut self) -> Result<bool, Error> {
        let is_first = self.count == 0;
        let expected = match is_first {
            true => "the beginning of an array",
            false => "a comma or the end of the array",
        };
        let mark = if is_first { b'[' } else { b',' };
        let at = after_space(self.body, self.at);
        match self.body.get(at) {
            Some(byte) if *byte == mark => self.at = after_space(self.body, at + 1),
            Some(b']') if !is_first => return self.close(at),
            _ => return Err(Error::cannot_split(self.body, at, expected)),
        }
        match self.body.get(self.at) {
            Some(b']') if is_first => self.close(self.at),
            _ => Ok(true),
        }
    }

    /// Nothing may come after the array.
    fn close(&mut self, at: usize) -> Result<bool, Error> {
        self.at = after_space(self.body, at + 1);
        match self.at == self.body.len() {
            true => Ok(false),
            false => Err(Error::cannot_split(
                self.body,
                self.at,
                "nothing after the array",
            )),
        }
    }
}

/// Where the first thing in a body begins.
fn begin(body: &[u8]) -> usize {
    match body.starts_with(BYTE_ORDER_MARK) {
        true => after_space(body, BYTE_ORDER_MARK.len()),
        false => after_space(body, 0),
    }
}

/// The first place from `at` on that is no white space.
fn after_space(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    // Many at a time: a packed body of a few bytes may be millions of them.
    let (steps, _) = rest.as_chunks::<32>();
    let is_all = |step: &&[u8; 32]| step.iter().fold(true, |all, byte| all & is_space(*byte));
    let whole = 32 * steps.iter().take_while(is_all).count();
    let tail = rest[whole..].iter();
    at + whole + tail.take_while(|byte| is_space(**byte)).count()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Where the value that begins at `start` ends.
fn value_end(body: &[u8], start: usize) -> Result<usize, Error> {
    match body.get(start) {
        Some(b'{' | b'[') => brackets_end(body, start),
        Some(b'"') => string_end(body, start + 1).ok_or_else(|| cut(body, start)),
        Some(byte) if !is_mark(*byte) => Ok(word_end(body, start)),
        _ => Err(Error::cannot_split(body, start, "an element")),
    }
}

/// What cannot be in a number, nor in true, false and null.
fn is_mark(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b',' | b':' | b'"' | b'[' | b']' | b'{' | b'}')
}

fn word_end(body: &[u8], start: usize) -> usize {
    let rest = &body[start..];
    let length = rest.iter().position(|byte| is_mark(*byte));
    start + length.unwrap_or(rest.len())
}

/// Where the object or list that begins at `start` ends.
fn brackets_end(body: &[u8], start: usize) -> Result<usize, Error> {
    let mut open = Open::default();
    let mut at = start;
    while let Some(byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(body, at).ok_or_else(|| cut(body, start))?,
            b'{' => open.push(false),
            b'[' => open.push(true),
            b'}' | b']' => {
                open.pop(*byte == b']')
                    .map_err(|expected| Error::cannot_split(body, at - 1, expected))?;
                if open.depth == 0 {
                    return Ok(at);
                }
            }
            _ => {}
        }
    }
    Err(cut(body, start))
}

/// The brackets that are open, in memory that does not grow with them.
#[derive(Default)]
struct Open {
    depth: u32,
    /// A bit a level: set where it is a list.
    lists: u64,
}

impl Open {
    fn push(&mut self, is_list: bool) {
        if self.depth < LEVELS_TRACKED {
            self.lists &= !(1 << self.depth);
            self.lists |= u64::from(is_list) << self.depth;
        }
        // No more levels than bytes; and a count that stops could only end an element late.
        self.depth = self.depth.saturating_add(1);
    }

    /// Closes the innermost one; the error is the bracket that was expected.
    fn pop(&mut self, is_list: bool) -> Result<(), &'static str> {
        self.depth = self.depth.saturating_sub(1);
        if self.depth >= LEVELS_TRACKED {
            return Ok(());
        }
        match (self.lists >> self.depth & 1 == 1, is_list) {
            (true, false) => Err("the end of a list"),
            (false, true) => Err("the end of an object"),
            _ => Ok(()),
        }
    }
}

/// Where the string ends whose first letter is at `at`; nothing where the body ends before it.
fn string_end(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let rest = body.get(at..)?;
        at += quote_or_backslash(rest)?;
        if body[at] == b'"' {
            return Some(at + 1);
        }
        // The backslash and what it escapes; of a longer escape the rest are plain letters.
        at += 2;
    }
}

/// The first quote or backslash. Eight bytes at a time, since most of an event lies within quotes.
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES * 0x80;
    // The lowest bit that is set is at the first byte that is zero; those above may be false.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (eights, tail) = bytes.as_chunks::<8>();
    for (place, eight) in eights.iter().enumerate() {
        let word = u64::from_le_bytes(*eight);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let found = zeros(quote) | zeros(backslash);
        if found != 0 {
            return Some(place * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let found = tail.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    Some(eights.len() * 8 + found)
}

/// The body ends within the element that begins at `start`.
#[cold]
fn cut(body: &[u8], start: usize) -> Error {
    let expected = format!("the end of the element that begins at byte {start}");
    Error::cannot_split(body, body.len(), &expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// The elements up to the fault, and the fault behind its fixed words.
    fn read(body: &[u8]) -> (Vec<&[u8]>, Option<String>) {
        let mut got = Vec::new();
        let mut fault = None;
        for (number, piece) in (1..).zip(split(body)) {
            assert_eq!(fault, None, "something after an error");
            match piece {
                Ok(piece) => {
                    assert_eq!(piece.line, number);
                    got.push(piece.bytes);
                }
                Err(error) => {
                    let text = error.to_string();
                    let at = text.strip_prefix("the body cannot be split at byte ");
                    fault = Some(at.unwrap().to_owned());
                }
            }
        }
        (got, fault)
    }

    fn check(body: &str, expect: &[&str]) {
        let (got, fault) = read(body.as_bytes());
        let got: Vec<_> = got
            .iter()
            .map(|bytes| str::from_utf8(bytes).unwrap())
            .collect();
        assert_eq!(got, expect, "{body}");
        assert_eq!(fault, None, "{body}");
    }

    fn check_broken(body: &str, expect: &str) {
        assert_eq!(read(body.as_bytes()).1.as_deref(), Some(expect), "{body}");
    }

    #[test]
    fn arrays_are_cut_at_their_commas() {
        check("[]", &[]);
        check("\u{feff} [\r\n\t] \n", &[]);
        check("[1]", &["1"]);
        check(r#"[ {"a":[1,{}]} , {} ]"#, &[r#"{"a":[1,{}]}"#, "{}"]);
        check(
            r#"["a,]","\"]","\\",""]"#,
            &[r#""a,]""#, r#""\"]""#, r#""\\""#, r#""""#],
        );
        check(r#"[{"}]":"{[\\\""},2]"#, &[r#"{"}]":"{[\\\""}"#, "2"]);
        check("[-1e5,null,true,[[]]]", &["-1e5", "null", "true", "[[]]"]);
        let long = format!("{{\"{}\":\"漏{}\"}}", "a".repeat(99), "}".repeat(99));
        check(&format!("[{long},{long}]"), &[&long, &long]);
    }

    /// What is no JSON between its own brackets harms itself alone.
    #[test]
    fn a_bad_element_does_not_break_the_array() {
        check(
            r#"[{"a":},{"a" 1},nope,{,}]"#,
            &[r#"{"a":}"#, r#"{"a" 1}"#, "nope", "{,}"],
        );
        check("[{\"a\":\"\n\"},1]", &["{\"a\":\"\n\"}", "1"]);
        let deep = format!("{}{}", "[".repeat(9000), "]".repeat(9000));
        check(&format!("[{deep},1]"), &[&deep, "1"]);
    }

    #[test]
    fn space_of_any_length_is_passed_over() {
        for length in [0, 1, 31, 32, 33, 64, 100] {
            let space = " ".repeat(length);
            check(
                &format!("{space}[{space}1{space},{space}2{space}]{space}"),
                &["1", "2"],
            );
            let tail = format!("[{space}]{space}x");
            let place = tail.len() - 1;
            check_broken(
                &tail,
                &format!("{place}: expected nothing after the array, got \"x\""),
            );
        }
    }

    #[test]
    fn a_broken_array_is_an_error_with_the_byte() {
        check_broken(
            "",
            "0: expected the beginning of an array, got the end of the body",
        );
        check_broken("]", "0: expected the beginning of an array, got \"]\"");
        check_broken(" {}", "1: expected the beginning of an array, got \"{}\"");
        check_broken("[", "1: expected an element, got the end of the body");
        check_broken(
            "[1",
            "2: expected a comma or the end of the array, got the end of the body",
        );
        check_broken("[1,", "3: expected an element, got the end of the body");
        check_broken("[1,]", "3: expected an element, got \"]\"");
        check_broken("[,1]", "1: expected an element, got \",1]\"");
        check_broken("[1,,2]", "3: expected an element, got \",2]\"");
        check_broken(
            "[{} {}]",
            "4: expected a comma or the end of the array, got \"{}]\"",
        );
        check_broken(
            "[1:2]",
            "2: expected a comma or the end of the array, got \":2]\"",
        );
        check_broken(
            "[1\"a\"]",
            "2: expected a comma or the end of the array, got \"\\\"a\\\"]\"",
        );
        check_broken(
            "[{}}]",
            "3: expected a comma or the end of the array, got \"}]\"",
        );
        check_broken("[] x", "3: expected nothing after the array, got \"x\"");
        check_broken("[1][2]", "3: expected nothing after the array, got \"[2]\"");
        check_broken(
            "[1,{\"a\":[2}]",
            "10: expected the end of a list, got \"}]\"",
        );
        check_broken("[{]}]", "2: expected the end of an object, got \"]}]\"");
        for cut in [
            "[1,{\"a\":1",
            "[1,{\"a",
            "[1,{\"a\\",
            "[1,{\"a\\\"",
            "[1,\"",
            "[1,[[]",
        ] {
            let expected = "expected the end of the element that begins at byte 3";
            let length = cut.len();
            check_broken(
                cut,
                &format!("{length}: {expected}, got the end of the body"),
            );
        }
        let error = read(format!("[1 {}", "x".repeat(9000)).as_bytes())
            .1
            .unwrap();
        assert!(error.len() < 100, "{error}");
    }

    #[test]
    fn one_object_over_several_lines_is_told_from_lines() {
        let only = |body: &'static str| {
            only_value(body.as_bytes()).map(|value| str::from_utf8(value).unwrap())
        };
        assert_eq!(only("\u{feff} {\n}\n"), Some("{\n}"));
        assert_eq!(only("{}\n"), None);
        assert_eq!(only("{\n}\n{}"), None);
        assert_eq!(only("{\n"), None);
        assert_eq!(only("1\n"), None);
        assert_eq!(only(""), None);
    }

    proptest! {
        /// What serde_json takes for an array is cut as serde_json cuts it; letters are chosen so
        /// that many are arrays.
        #[test]
        fn arrays_are_cut_as_serde_json_cuts_them(
            body in r#"\[(([ ,1{}\[\]:"\\a]{0,6})|("(\\["\\]|[a,\]}]){0,12}"|\{\}|\{"[a{]{0,9}":\[1\]\}|1)( ?, ?| ?\]|)){0,6}\]"#
        ) {
            if let Ok(expected) = serde_json::from_str::<Vec<&RawValue>>(&body) {
                let expected: Vec<_> = expected.iter().map(|raw| raw.get().as_bytes()).collect();
                prop_assert_eq!(read(body.as_bytes()), (expected, None));
            }
        }

        /// Elements and what is between them are the whole body, and what is between them is marks.
        #[test]
        fn nothing_is_lost_between_elements(body in r#"[ ,1{}\[\]"\\a]{0,40}|\[(1,|"a",|\{\},){0,9}1\]"#) {
            let (elements, fault) = read(body.as_bytes());
            let mut at = 0;
            for element in &elements {
                let from = element.as_ptr() as usize - body.as_ptr() as usize;
                prop_assert!(!element.is_empty() && from >= at);
                prop_assert!(body[at..from].bytes().all(|byte| is_space(byte) || b"[,".contains(&byte)));
                at = from + element.len();
            }
            if fault.is_none() {
                let tail = body[at..].trim();
                prop_assert!(tail == "]" || elements.is_empty());
            }
        }

        #[test]
        fn quotes_are_found_at_any_place(bytes in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'\\'), Just(b'!'), Just(b'#'), Just(b']'), any::<u8>()], 0..40
        ), from in 0_usize..40) {
            let bytes = &bytes[from.min(bytes.len())..];
            let expected = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(quote_or_backslash(bytes), expected);
        }
    }
}
