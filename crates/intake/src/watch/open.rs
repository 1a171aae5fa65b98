//! The beginning of reading a file: its header, its mapping, its encoding, and where to go on.
//!
//! Owns the decision which mapping reads a file. It must never guess: a file that fits none, or
//! two, or whose encoding stays open, is refused with what to do about it.

use std::io;
use std::sync::Arc;

use csv::ByteRecord;

use super::kept::Head;
use super::known::IdMap;
use super::pass::Pass;
use super::records::{RawRow, Records, fields, is_barren, trimmed, unpacked};
use super::{File, Folder, Stat, Watcher};
use crate::csv_columns::Indices;
use crate::rows::RowReader;
use crate::{Detector, Encoding, Mapping, Verdict};

/// Mappings that are named when a file fits none.
const NAMED_MAX: usize = 3;

/// Why a file is not read now.
pub(super) enum Refusal {
    /// There is nothing to read yet.
    Wait,
    /// It is none of ours, until it changes.
    Unfit(String),
    /// It cannot be read.
    Fault(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        if is_barren(&error) {
            return Refusal::Unfit(format!("is left: {error}"));
        }
        Refusal::Fault(told(&error))
    }
}

/// What a person is told of an error.
pub(super) fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "ends in the middle; is it still being copied?".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// A file behind its header.
struct Opened {
    records: Records,
    has_mark: bool,
    header: RawRow,
}

impl Watcher {
    /// Opens a file where it is to be read on.
    pub(super) fn open(
        &mut self,
        folder: &dyn Folder,
        name: &str,
        stat: Stat,
        is_final: bool,
    ) -> Result<Pass, Refusal> {
        let opened = self.header(folder, name, stat, is_final)?;
        let mut header = ByteRecord::new();
        fields(&opened.header.bytes, &mut header);
        let number = self.by_name.get(name).copied();
        let head = number.and_then(|number| Some(&self.files.get(&number)?.head));
        let remembered = head.and_then(|head| head.encoding);
        let (mapping, encodings) = self.fit(&header, opened.has_mark, remembered)?;
        let (encoding, decided) = match encodings[..] {
            [encoding] => (encoding, remembered),
            _ => match self.detect(folder, name, stat, &mapping, is_final)? {
                None => (Encoding::Utf8, None),
                Some(encoding) => (encoding, Some(encoding)),
            },
        };
        let indices = Indices::find(&header, &mapping, encoding, name)
            .map_err(|error| Refusal::Unfit(error.to_string()))?;
        let number = number.unwrap_or_else(|| self.new_file(name));
        let rows = RowReader::new(Arc::clone(&mapping), indices, encoding, header.len());
        let mut pass = Pass::new(name, number, stat, is_final, mapping, rows, opened.records);
        pass.decided = decided;
        let fresh = Head::default();
        let head = self.files.get(&number).map_or(&fresh, |file| &file.head);
        let is_new = head.resume == 0 && !self.has_rows(number);
        if is_new || pass.mapping.digest == head.mapping && resume(&mut pass, head)? {
            return Ok(pass);
        }
        pass.records = self.header(folder, name, stat, is_final)?.records;
        pass.safe = pass.records.at().clone();
        pass.pending = None;
        pass.partial = None;
        pass.seen = Some(IdMap::default());
        Ok(pass)
    }

    fn has_rows(&self, number: u32) -> bool {
        let file = self.files.get(&number);
        file.is_some_and(|file| file.head.chunks > 0 || !file.tail.is_empty())
    }

    fn new_file(&mut self, name: &str) -> u32 {
        let last = self.files.last_key_value();
        let number = last.map_or(0, |(number, _)| number.wrapping_add(1));
        let mut file = File::default();
        file.head.name = name.to_owned();
        self.files.insert(number, file);
        self.by_name.insert(name.to_owned(), number);
        number
    }

    fn records(&self, folder: &dyn Folder, name: &str, stat: Stat) -> io::Result<Records> {
        let source = unpacked(folder.open(name)?, stat.0)?;
        let settings = &self.settings;
        Ok(Records::new(
            source,
            settings.row_bytes_max,
            settings.barren_bytes_max,
        ))
    }

    fn header(
        &self,
        folder: &dyn Folder,
        name: &str,
        stat: Stat,
        is_final: bool,
    ) -> Result<Opened, Refusal> {
        let mut records = self.records(folder, name, stat)?;
        let has_mark = records.skip_byte_order_mark()?;
        match records.next(is_final)? {
            None => Err(Refusal::Wait),
            Some(RawRow {
                fault: Some(fault), ..
            }) => Err(Refusal::Unfit(format!("has no header: {fault}"))),
            Some(header) => Ok(Opened {
                records,
                has_mark,
                header,
            }),
        }
    }

    /// The mapping whose columns a header has, and the encodings in which it has them. A name
    /// beyond ASCII is there in one encoding only, so it decides.
    fn fit(
        &self,
        header: &ByteRecord,
        has_mark: bool,
        remembered: Option<Encoding>,
    ) -> Result<(Arc<Mapping>, Vec<Encoding>), Refusal> {
        let mut fits = Vec::new();
        for mapping in &self.settings.mappings {
            let tried = match (has_mark, mapping.encoding.or(remembered)) {
                (true, _) => vec![Encoding::Utf8],
                (false, Some(encoding)) => vec![encoding],
                (false, None) => Encoding::ALL.to_vec(),
            };
            let has = |encoding: &Encoding| Indices::fit(header, mapping, *encoding);
            let encodings: Vec<Encoding> = tried.into_iter().filter(has).collect();
            if !encodings.is_empty() {
                fits.push((Arc::clone(mapping), encodings));
            }
        }
        match fits.len() {
            0 => Err(Refusal::Unfit(self.fits_none(header))),
            1 => fits.pop().ok_or(Refusal::Wait),
            _ => {
                let names: Vec<&str> = fits.iter().map(|(one, _)| &*one.file).collect();
                let names = names.join(" and ");
                Err(Refusal::Unfit(format!(
                    "has the columns of {names}, and is left: let each name a column that the other's files have not"
                )))
            }
        }
    }

    fn fits_none(&self, header: &ByteRecord) -> String {
        let mappings = self.settings.mappings.iter().take(NAMED_MAX);
        let missing = mappings.filter_map(|mapping| {
            let encoding = mapping.encoding.unwrap_or(Encoding::Utf8);
            let error = Indices::find(header, mapping, encoding, "it").err()?;
            Some(format!("{}: {error}", mapping.file))
        });
        let missing: Vec<String> = missing.collect();
        format!("fits no mapping, and is left; {}", missing.join("; "))
    }

    /// Reads a whole file to tell its encoding; `None` where it is all ASCII so far.
    fn detect(
        &self,
        folder: &dyn Folder,
        name: &str,
        stat: Stat,
        mapping: &Mapping,
        is_final: bool,
    ) -> Result<Option<Encoding>, Refusal> {
        let mut source = unpacked(folder.open(name)?, stat.0)?;
        let mut detector = Detector::default();
        let mut buffer = vec![0; 64 * 1024];
        let (mut barren_bytes, most) = (0, self.settings.barren_bytes_max);
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    detector.feed(&buffer[..read]);
                    barren_bytes = match has_row(&buffer[..read]) {
                        true => 0,
                        false => barren_bytes + read as u64,
                    };
                    if barren_bytes > most {
                        return Err(Refusal::Unfit(format!("is left: {most} bytes have no row")));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let file = &mapping.file;
        match detector.verdict() {
            Verdict::Any => Ok(None),
            Verdict::Is(encoding) => Ok(Some(encoding)),
            // What is still being written may yet tell.
            _ if !is_final => Err(Refusal::Wait),
            Verdict::Undecided => Err(Refusal::Unfit(format!(
                "is left: GB18030 and Big5 both read it; name its encoding in {file}"
            ))),
            Verdict::None => Err(Refusal::Unfit(format!(
                "is left: it is not in UTF-8, GB18030 or Big5 throughout; export it so, or name the encoding of the columns that are read in {file}"
            ))),
        }
    }
}

/// Whether something ends a line, and something is in one.
fn has_row(bytes: &[u8]) -> bool {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    bytes.contains(&b'\n') && !bytes.iter().all(is_blank)
}

/// Goes on where a file was left. `false` where its beginning is not what it was.
fn resume(pass: &mut Pass, head: &Head) -> Result<bool, Refusal> {
    if head.resume < pass.records.at().offset || !pass.records.skip_to(head.resume, head.line)? {
        return Ok(false);
    }
    pass.safe = pass.records.at().clone();
    if head.covered == head.resume {
        return Ok(pass.safe.fingerprint() == head.fingerprint);
    }
    // The last row was taken without its end. If it still is what it was, it is dealt with.
    let Some(row) = pass.records.next(pass.is_final)? else {
        return match pass.is_final {
            true => Ok(false),
            false => Err(Refusal::Wait),
        };
    };
    let length = usize::try_from(head.covered.saturating_sub(head.resume)).unwrap_or(usize::MAX);
    let Some(taken) = row.bytes.get(..length) else {
        return Ok(false);
    };
    if pass.safe.fingerprint_with(taken) != head.fingerprint {
        return Ok(false);
    }
    if trimmed(taken) != trimmed(&row.bytes) {
        pass.pending = Some((pass.safe.clone(), row));
        return Ok(true);
    }
    if !row.is_ended {
        pass.partial = Some((pass.safe.offset, pass.safe.line));
    }
    pass.safe = pass.records.at().clone();
    Ok(true)
}
