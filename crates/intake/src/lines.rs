//! Lines of a file, plain or gzip, each bounded in length.
//!
//! Owns opening files and cutting them into lines. It must never hold more of a line than the
//! bound, nor look into one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use crate::{Error, Origin, file_name};

/// Bytes read from a file at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// The two bytes that every gzip member begins with.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What UTF-8 files from some programs begin with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Opens a file; what begins like gzip is unpacked, whatever its name.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read + Send>, Error> {
    let fail = |source| Error::Open {
        file: path.display().to_string(),
        source,
    };
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path).map_err(fail)?);
    // A file of one byte is no gzip, so one look into the buffer is enough: `fill_buf` returns
    // less than two bytes of a regular file only at its end.
    if file.fill_buf().map_err(fail)?.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(MultiGzDecoder::new(file)))
    } else {
        Ok(Box::new(file))
    }
}

/// One line, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// The beginning of a line that is longer than the bound.
    TooLong(&'a [u8]),
}

/// The lines of a file that are not blank, with their numbers.
pub struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    origin: Origin,
    buffer: Vec<u8>,
    bytes_max: usize,
}

impl Lines {
    /// Opens a file, plain or gzip, whose lines may have up to `bytes_max` bytes.
    pub fn open(path: &Path, bytes_max: usize) -> Result<Self, Error> {
        Ok(Self::new(open(path)?, file_name(path), bytes_max))
    }

    /// Reads lines from anything; `file` is the name that origins carry.
    pub fn new(reader: Box<dyn Read + Send>, file: Arc<str>, bytes_max: usize) -> Self {
        let reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        Self {
            reader,
            origin: Origin { file, line: 0 },
            buffer: Vec::new(),
            bytes_max,
        }
    }

    /// Where the line last handed out stood.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The next line that is not blank, or `None` at the end.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, Error> {
        loop {
            self.origin.line += 1;
            let found = self.fill().map_err(|source| Error::Read {
                origin: self.origin.clone(),
                source,
            })?;
            let Some(too_long) = found else {
                return Ok(None);
            };
            if self.origin.line == 1 && self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.drain(..BYTE_ORDER_MARK.len());
            }
            if too_long {
                return Ok(Some(Line::TooLong(&self.buffer)));
            }
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(Some(Line::Whole(&self.buffer)));
            }
        }
    }

    /// Reads one line into the buffer and tells whether it was cut; `None` at the end.
    fn fill(&mut self) -> io::Result<Option<bool>> {
        self.buffer.clear();
        // Room for a carriage return, which is no part of the line.
        let room = self.bytes_max + 1;
        let mut length = 0;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() && length == 0 {
                return Ok(None);
            }
            let end = memchr::memchr(b'\n', chunk);
            let part = &chunk[..end.unwrap_or(chunk.len())];
            let kept = part.len().min(room - self.buffer.len());
            self.buffer.extend_from_slice(&part[..kept]);
            length += part.len();
            let used = part.len() + usize::from(end.is_some());
            let ended = end.is_some() || chunk.is_empty();
            self.reader.consume(used);
            if ended {
                let carriage_return = length == room && self.buffer.last() == Some(&b'\r');
                return Ok(Some(length > self.bytes_max && !carriage_return));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check(bytes: &[u8], expect: &[(u64, &str)]) {
        let reader: Box<dyn Read + Send> = Box::new(io::Cursor::new(bytes.to_vec()));
        let mut lines = Lines::new(reader, Arc::from("f"), 4);
        let mut got = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            let text = match line {
                Line::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                Line::TooLong(bytes) => format!("{}…", String::from_utf8_lossy(&bytes[..4])),
            };
            got.push((lines.origin().line, text));
        }
        let got: Vec<(u64, &str)> = got.iter().map(|(n, text)| (*n, text.as_str())).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn lines_are_cut_numbered_and_bounded() {
        check(b"", &[]);
        check(b"\n\n", &[]);
        check(b"ab\n\ncd", &[(1, "ab"), (3, "cd")]);
        check(b"ab\r\n  \r\ncd\r\n", &[(1, "ab"), (3, "cd")]);
        check(
            b"abcd\nabcde\nabcd\r\nx",
            &[(1, "abcd"), (2, "abcd…"), (3, "abcd"), (4, "x")],
        );
        check(b"abcdefghi", &[(1, "abcd…")]);
        check(b"\xef\xbb\xbfa\n\xef\xbb\xbf", &[(1, "a"), (2, "\u{feff}")]);
    }

    #[test]
    fn a_line_longer_than_every_buffer_is_passed_over() {
        let mut bytes = vec![b'x'; 3 * BUFFER_BYTES];
        bytes.extend_from_slice(b"\nab");
        check(&bytes, &[(1, "xxxx…"), (2, "ab")]);
    }

    #[test]
    fn gzip_is_told_by_its_bytes_and_a_cut_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no-suffix");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(b"ab\ncd\n").unwrap();
        let packed = packed.finish().unwrap();
        std::fs::write(&path, &packed).unwrap();
        let mut lines = Lines::open(&path, 4).unwrap();
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"ab")));
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"cd")));
        assert_eq!(lines.next_line().unwrap(), None);

        std::fs::write(&path, &packed[..packed.len() - 6]).unwrap();
        let mut lines = Lines::open(&path, 4).unwrap();
        let error = loop {
            match lines.next_line() {
                Ok(line) => assert!(line.is_some(), "a cut archive ended as if whole"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("no-suffix:"), "{error}");
    }
}
