//! The rows of a growing file, as bytes, and how far it has been read.
//!
//! Owns cutting a file into rows, the bound on a row, and the fingerprint of what was read. It must
//! never hold more of a file than one row and a buffer, nor look into a row.

use std::io::{self, BufRead, BufReader, Read};

use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 * 1024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A place between two rows.
#[derive(Clone)]
pub(super) struct Mark {
    /// Bytes before it, unpacked.
    pub(super) offset: u64,
    /// Line ends before it.
    pub(super) line: u64,
    hash: Sha256,
}

impl Mark {
    fn start() -> Self {
        Self {
            offset: 0,
            line: 0,
            hash: Sha256::new(),
        }
    }

    /// Half of the SHA-256 of all bytes before it.
    pub(super) fn fingerprint(&self) -> [u8; 16] {
        half(self.hash.clone())
    }

    /// The fingerprint that the place behind these bytes would have.
    pub(super) fn fingerprint_with(&self, bytes: &[u8]) -> [u8; 16] {
        half(self.hash.clone().chain_update(bytes))
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        self.line += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

fn half(hash: Sha256) -> [u8; 16] {
    let digest = hash.finalize();
    std::array::from_fn(|at| digest[at])
}

/// A row as it stands in its file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawRow {
    /// The line of its beginning, counted from 1.
    pub(super) line: u64,
    /// All of it but the line feed; the beginning where it is too long.
    pub(super) bytes: Vec<u8>,
    /// Whether a line feed stood behind it.
    pub(super) is_ended: bool,
    /// Why it cannot be a row.
    pub(super) fault: Option<String>,
}

/// The part of a file that was there when the folder was listed, unpacked if it is gzip.
pub(super) fn unpacked(
    file: Box<dyn Read + Send>,
    size_bytes: u64,
) -> io::Result<Box<dyn Read + Send>> {
    let listed = Listed {
        file,
        left: size_bytes,
    };
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, listed);
    // A buffer that was just made is filled by one read, and a first read of one byte is a file of
    // one byte for all that matters here.
    if reader.fill_buf()?.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(MultiGzDecoder::new(reader)))
    } else {
        Ok(Box::new(reader))
    }
}

/// A file up to the size that it was listed with: what is being written behind that is not read
/// yet. A file that ends before it was cut meanwhile, and its end is none.
struct Listed {
    file: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Listed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Too much of a file has no row.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BarrenError(String);

/// Whether a file is to be left because too much of it has no row.
pub(super) fn is_barren(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<BarrenError>())
}

/// Where in a row a byte stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    QuoteInQuoted,
}

impl State {
    /// The state behind a byte that does not end the row.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (State::Quoted, b'"') => State::QuoteInQuoted,
            (State::Quoted, _) | (State::FieldStart | State::QuoteInQuoted, b'"') => State::Quoted,
            (_, b',') => State::FieldStart,
            _ => State::Plain,
        }
    }
}

/// The rows of one file, from its beginning.
pub(super) struct Records {
    source: Box<dyn Read + Send>,
    at: Mark,
    buffer: Vec<u8>,
    /// What of the buffer lies before `at`.
    used: usize,
    /// Bytes read so far.
    read: u64,
    row_bytes_max: usize,
    barren_bytes_max: u64,
}

impl Records {
    pub(super) fn new(
        source: Box<dyn Read + Send>,
        row_bytes_max: usize,
        barren_bytes_max: u64,
    ) -> Self {
        Self {
            source,
            at: Mark::start(),
            buffer: Vec::new(),
            used: 0,
            read: 0,
            row_bytes_max,
            barren_bytes_max,
        }
    }

    /// The place behind the last row handed out.
    pub(super) fn at(&self) -> &Mark {
        &self.at
    }

    /// Whether something was read that is no row yet.
    pub(super) fn has_rest(&self) -> bool {
        self.read > self.at.offset
    }

    /// Passes over a byte order mark.
    pub(super) fn skip_byte_order_mark(&mut self) -> io::Result<bool> {
        while self.buffer.len() < BYTE_ORDER_MARK.len() && self.fill()? {}
        let is_there = self.buffer.starts_with(BYTE_ORDER_MARK);
        if is_there {
            self.consume(BYTE_ORDER_MARK.len());
        }
        Ok(is_there)
    }

    /// Goes on at a place further on, of which the lines before are known. `false` where the file
    /// ends before it.
    pub(super) fn skip_to(&mut self, offset: u64, line: u64) -> io::Result<bool> {
        while self.at.offset < offset {
            if self.used == self.buffer.len() && !self.fill()? {
                return Ok(false);
            }
            let left = usize::try_from(offset - self.at.offset).unwrap_or(usize::MAX);
            self.consume(left.min(self.buffer.len() - self.used));
        }
        self.at.line = line;
        Ok(self.at.offset == offset)
    }

    /// Bytes read so far, unpacked.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read
    }

    /// The next row that is not blank, or `None` where there is none that may be taken now: a row
    /// whose end is not there yet is one only when `is_final`.
    ///
    /// # Errors
    /// When the file cannot be read, or too many bytes have no row: see [`is_barren`].
    pub(super) fn next(&mut self, is_final: bool) -> io::Result<Option<RawRow>> {
        let start = self.at.offset;
        loop {
            self.goes_on_within(self.at.offset - start)?;
            let Some(row) = self.next_with_blank(is_final)? else {
                return Ok(None);
            };
            if row.fault.is_some() || !row.bytes.trim_ascii().is_empty() {
                return Ok(Some(row));
            }
        }
    }

    fn goes_on_within(&self, bytes: u64) -> io::Result<()> {
        if bytes <= self.barren_bytes_max {
            return Ok(());
        }
        let line = self.at.line + 1;
        let most = self.barren_bytes_max;
        let text = format!("{most} bytes from line {line} on have no row");
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            BarrenError(text),
        ))
    }

    fn next_with_blank(&mut self, is_final: bool) -> io::Result<Option<RawRow>> {
        let mut state = State::FieldStart;
        let mut length = 0;
        loop {
            while let Some(byte) = self.buffer.get(self.used + length) {
                if *byte == b'\n' && state != State::Quoted {
                    return Ok(Some(self.take(length, true, None)));
                }
                if length == self.row_bytes_max {
                    return self.first_line(is_final);
                }
                state = state.after(*byte);
                length += 1;
            }
            if !self.fill()? {
                return match is_final && length > 0 {
                    false => Ok(None),
                    true if state == State::Quoted => self.first_line(true),
                    true => Ok(Some(self.take(length, false, None))),
                };
            }
        }
    }

    /// Of a row that has no end, or none within the bound, the first line: what stands behind it
    /// may well be rows.
    fn first_line(&mut self, is_final: bool) -> io::Result<Option<RawRow>> {
        let most = self.row_bytes_max;
        let fault = format!("the row is longer than {most} bytes, or a quote is left open");
        let rest = &self.buffer[self.used..];
        if let Some(length) = memchr::memchr(b'\n', rest) {
            return Ok(Some(self.take(length, true, Some(fault))));
        }
        // One line that is longer than the bound: it is passed over piece by piece.
        let line = self.at.line + 1;
        let bytes = rest[..rest.len().min(most)].to_vec();
        let mut end = self.at.clone();
        let is_ended = loop {
            let rest = &self.buffer[self.used..];
            let found = memchr::memchr(b'\n', rest);
            let length = found.map_or(rest.len(), |at| at + 1);
            end.pass(&rest[..length]);
            self.used += length;
            self.goes_on_within(end.offset - self.at.offset)?;
            if found.is_some() {
                break true;
            }
            if !self.fill()? {
                break false;
            }
        };
        if !is_ended && !is_final {
            return Ok(None);
        }
        self.at = end;
        Ok(Some(RawRow {
            line,
            bytes,
            is_ended,
            fault: Some(fault),
        }))
    }

    fn take(&mut self, length: usize, is_ended: bool, fault: Option<String>) -> RawRow {
        // Nobody reads a row that has a fault, so its beginning is enough.
        let kept = length.min(self.row_bytes_max);
        let row = RawRow {
            line: self.at.line + 1,
            bytes: self.buffer[self.used..self.used + kept].to_vec(),
            is_ended,
            fault,
        };
        self.consume(length + usize::from(is_ended));
        row
    }

    fn consume(&mut self, length: usize) {
        self.at.pass(&self.buffer[self.used..self.used + length]);
        self.used += length;
    }

    /// Reads more into the buffer. `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + CHUNK_BYTES, 0);
        let read = loop {
            match self.source.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let read = read.inspect_err(|_| self.buffer.truncate(length))?;
        self.buffer.truncate(length + read);
        self.read += read as u64;
        Ok(read > 0)
    }
}

/// The bytes of a row without the carriage return at its end.
pub(super) fn trimmed(row: &[u8]) -> &[u8] {
    row.strip_suffix(b"\r").unwrap_or(row)
}

/// The fields of a row.
pub(super) fn fields(row: &[u8], record: &mut ByteRecord) {
    record.clear();
    let mut field = Vec::new();
    let mut state = State::FieldStart;
    for byte in trimmed(row) {
        let next = state.after(*byte);
        match (state, next) {
            (State::Quoted, State::QuoteInQuoted) | (State::FieldStart, State::Quoted) => {}
            (_, State::FieldStart) => {
                record.push_field(&field);
                field.clear();
            }
            _ => field.push(*byte),
        }
        state = next;
    }
    record.push_field(&field);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 20;
    const BARREN: u64 = 1 << 20;

    fn rows(bytes: &[u8], is_final: bool) -> Vec<(u64, String, bool)> {
        let source = unpacked(
            Box::new(io::Cursor::new(bytes.to_vec())),
            bytes.len() as u64,
        );
        let mut records = Records::new(source.unwrap(), MAX, BARREN);
        let mut found = Vec::new();
        while let Some(row) = records.next(is_final).unwrap() {
            let fault = if row.fault.is_some() { "!" } else { "" };
            let text = String::from_utf8_lossy(&row.bytes).into_owned();
            found.push((row.line, format!("{text}{fault}"), row.is_ended));
        }
        assert_eq!(
            records.at().fingerprint(),
            half(Sha256::new().chain_update(&bytes[..records.at().offset as usize]))
        );
        found
    }

    fn check(bytes: &[u8], is_final: bool, expect: &[(u64, &str, bool)]) {
        let found = rows(bytes, is_final);
        let found: Vec<_> = found.iter().map(|(n, t, e)| (*n, t.as_str(), *e)).collect();
        assert_eq!(found, expect, "{:?}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn rows_are_cut_at_line_ends_outside_quotes() {
        check(b"", true, &[]);
        check(
            b"a,b\n\n c\r\n",
            false,
            &[(1, "a,b", true), (3, " c\r", true)],
        );
        check(
            b"a,\"x\ny\"\nb\n",
            false,
            &[(1, "a,\"x\ny\"", true), (3, "b", true)],
        );
        // A quote inside a plain field is a letter.
        check(
            b"5\" tv\nb\n",
            false,
            &[(1, "5\" tv", true), (2, "b", true)],
        );
        check(
            b"\"a\"\"\n\"\nb\n",
            false,
            &[(1, "\"a\"\"\n\"", true), (3, "b", true)],
        );
    }

    #[test]
    fn what_has_no_end_waits_until_the_file_rests() {
        check(b"a\nb", false, &[(1, "a", true)]);
        check(b"a\nb", true, &[(1, "a", true), (2, "b", false)]);
        check(b"a\n\"b\nc\n", false, &[(1, "a", true)]);
        // An open quote costs its line and not the rest.
        check(
            b"a\n\"b\nc\nd",
            true,
            &[
                (1, "a", true),
                (2, "\"b!", true),
                (3, "c", true),
                (4, "d", false),
            ],
        );
    }

    #[test]
    fn a_row_beyond_the_bound_costs_a_line() {
        let long = format!("a\n{}\nb\n", "x".repeat(100));
        let cut = format!("{}!", "x".repeat(MAX));
        check(
            long.as_bytes(),
            false,
            &[(1, "a", true), (2, &cut, true), (3, "b", true)],
        );
        let open = format!("\"a\n{}", "b\n".repeat(12));
        let found = rows(open.as_bytes(), false);
        assert_eq!(found[0], (1, "\"a!".to_owned(), true));
        assert_eq!(found.len(), 13);
    }

    /// Gives one byte again and again.
    struct Endless(u8);

    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            into.fill(self.0);
            Ok(into.len())
        }
    }

    #[test]
    fn a_file_without_an_end_and_without_a_row_is_left() {
        for byte in [b'\n', b' ', 0, b'"'] {
            let source = (&b"a\n"[..]).chain(Endless(byte));
            let mut records = Records::new(Box::new(source), MAX, BARREN);
            assert!(records.next(false).unwrap().is_some());
            let error = records.next(false).unwrap_err();
            assert!(is_barren(&error), "{byte}: {error}");
            let read = records.read_bytes();
            assert!(read <= BARREN + 4 * CHUNK_BYTES as u64, "{read}");
        }
    }

    #[test]
    fn fields_are_those_that_csv_reads() {
        for row in [
            "a,b,c",
            "",
            ",",
            "\"a,b\",c",
            "\"a\"\"b\"",
            "a\"b,c",
            "\"a\"b,c",
            "\"\"",
            "x,\"\"",
            "a,b\r",
            "\"a\nb\",c",
            "\"a\"\"\"",
        ] {
            let mut mine = ByteRecord::new();
            fields(row.as_bytes(), &mut mine);
            let text = format!("{}\n", row.trim_end_matches('\r'));
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .terminator(csv::Terminator::Any(b'\n'))
                .from_reader(text.as_bytes());
            let theirs = reader.byte_records().next();
            // The reader passes over a blank line, which is no row here either.
            let theirs = theirs.map_or_else(|| vec![""].into(), Result::unwrap);
            assert_eq!(mine, theirs, "{row}");
        }
    }

    #[test]
    fn a_file_that_was_cut_meanwhile_has_no_end() {
        let source = unpacked(Box::new(io::Cursor::new(b"a\nb".to_vec())), 10).unwrap();
        let mut records = Records::new(source, MAX, BARREN);
        assert!(records.next(true).unwrap().is_some());
        let error = records.next(true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
