//! Where in a row the mapped columns stand.
//!
//! Owns finding them in the header, once a file. It must never look into a row.

use csv::ByteRecord;

use crate::{Encoding, Error, Field, Mapping, nearest};

/// Where the mapped columns are.
#[derive(Clone, Debug)]
pub(crate) struct Indices {
    fields: [Option<usize>; Field::COUNT],
    pub(crate) time_of: Vec<(i32, usize)>,
    pub(crate) cancelled_when: Option<(usize, String)>,
    pub(crate) skip_when: Vec<(usize, String)>,
}

impl Indices {
    /// Where a field stands, if the mapping names it.
    pub(crate) fn get(&self, field: Field) -> Option<usize> {
        self.fields[field as usize]
    }

    /// Whether an event carries what stands there, as it stands there or as a hash: what is only
    /// compared with a prefix goes nowhere.
    pub(crate) fn is_carried(&self, index: usize) -> bool {
        let times = self.time_of.iter().map(|(_, time)| *time);
        let mut carried = self.fields.iter().flatten().copied().chain(times);
        carried.any(|one| one == index)
    }

    /// Finds the columns by the header of a file.
    pub(crate) fn find(
        header: &ByteRecord,
        mapping: &Mapping,
        encoding: Encoding,
        file: &str,
    ) -> Result<Self, Error> {
        let names = names(header, encoding);
        let is_header = {
            let mut named = mapping.named();
            named.any(|(_, column)| position(&names, column).is_some())
        };
        for (key, column) in mapping.named() {
            if position(&names, column).is_none() {
                // A first line with none of the names may be a row, and what it says a person's.
                let known = names.iter().filter(|_| is_header);
                let nearest = nearest(column, known.map(String::as_str));
                return Err(Error::Column {
                    file: file.to_owned(),
                    column: column.to_owned(),
                    key,
                    nearest,
                });
            }
        }
        let at = |column: &str| position(&names, column).unwrap_or_default();
        let mut fields = [None; Field::COUNT];
        for (field, column) in &mapping.columns {
            fields[*field as usize] = Some(at(column));
        }
        let times = mapping.time_of.iter();
        let cancelled = mapping.cancelled_when.as_ref();
        let skipped = mapping.skip_when.iter();
        Ok(Self {
            fields,
            time_of: times
                .map(|(number, column)| (*number, at(column)))
                .collect(),
            cancelled_when: cancelled.map(|when| (at(&when.column), when.prefix.clone())),
            skip_when: skipped
                .map(|when| (at(&when.column), when.prefix.clone()))
                .collect(),
        })
    }

    /// Whether a header has every column that a mapping names.
    pub(crate) fn fit(header: &ByteRecord, mapping: &Mapping, encoding: Encoding) -> bool {
        let names = names(header, encoding);
        let mut named = mapping.named();
        named.all(|(_, column)| position(&names, column).is_some())
    }
}

/// The names in a header. One that is in another encoding matches no column, as no mapping names
/// a replacement character.
fn names(header: &ByteRecord, encoding: Encoding) -> Vec<String> {
    let names = header.iter().map(|name| match encoding.text(name) {
        Some(text) => text.into_owned(),
        None => String::from_utf8_lossy(name).into_owned(),
    });
    names.collect()
}

fn position(names: &[String], column: &str) -> Option<usize> {
    names.iter().position(|name| name == column)
}
