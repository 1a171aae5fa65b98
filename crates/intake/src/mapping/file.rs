//! A mapping as its file says it, and the checks that make it one.
//!
//! Owns the keys, their defaults and the wording of mistakes: file, line, key, what was expected,
//! and the nearest name where one is near. It must never look at a CSV.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::Offset;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::de::DeTable;
use toml::{Spanned, Table};

use super::{Field, Kind, Mapping, MappingError, When};
use crate::{Encoding, nearest, nearest_hint};

/// A status that passes over its rows.
const SKIP: &str = "SKIP";

/// The shortest and longest rhythm. The longest is also the longest lateness that is allowed.
const EVERY_MIN: Duration = Duration::from_secs(60);
const EVERY_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The mapping as its file says it.
#[derive(Deserialize)]
struct RawMapping {
    #[serde(default = "orders")]
    kind: String,
    source: String,
    #[serde(default)]
    shop_id: String,
    #[serde(default)]
    campaign_id: String,
    every: Option<String>,
    encoding: Option<String>,
    id: Option<Vec<String>>,
    currency: Option<String>,
    #[serde(default = "one")]
    pack_units: i32,
    time: RawTime,
    columns: BTreeMap<String, String>,
    #[serde(default)]
    status: BTreeMap<String, String>,
    buyer: Option<RawBuyer>,
    #[serde(default, rename = "type")]
    order_type: RawType,
}

fn orders() -> String {
    Kind::Orders.name().to_owned()
}

fn one() -> i32 {
    1
}

#[derive(Deserialize)]
struct RawTime {
    format: String,
    zone: String,
    #[serde(default)]
    of: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawBuyer {
    salt: String,
}

#[derive(Default, Deserialize)]
struct RawType {
    cancelled_when: Option<When>,
    #[serde(default)]
    skip_when: Vec<When>,
}

/// Every table of a mapping and the keys that it may have; those of `columns` are in `fields`, and
/// `status` and `time.of` have keys of the shop's own.
const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "kind",
            "source",
            "shop_id",
            "campaign_id",
            "every",
            "encoding",
            "id",
            "currency",
            "pack_units",
            "time",
            "columns",
            "status",
            "buyer",
            "type",
        ],
    ),
    ("time", &["format", "zone", "of"]),
    ("buyer", &["salt"]),
    ("type", &["cancelled_when", "skip_when"]),
    ("type.cancelled_when", &["column", "prefix"]),
    ("type.skip_when", &["column", "prefix"]),
];

/// The text of a mapping, and where its keys stand.
struct Source<'t> {
    file: &'t str,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

/// Checks the text of a mapping.
pub(super) fn parse(text: &str, file: &str) -> Result<Mapping, MappingError> {
    let malformed = |source| MappingError::Malformed {
        file: file.to_owned(),
        source: Box::new(source),
    };
    let root = DeTable::parse(text).map_err(malformed)?;
    let source = Source { file, text, root };
    let table: Table = text.parse().map_err(malformed)?;
    source.check_keys(&table, "")?;
    let raw: RawMapping = toml::from_str(text).map_err(malformed)?;
    raw.check(&source)
}

impl Source<'_> {
    /// The line of a key, or of the nearest table around it.
    fn line(&self, path: &str) -> usize {
        let mut table = self.root.get_ref();
        let mut at = 0;
        for name in path.split('.') {
            let Some((key, value)) = table.get_key_value(name) else {
                break;
            };
            at = key.span().start;
            let Some(inner) = value.get_ref().as_table() else {
                break;
            };
            table = inner;
        }
        1 + self
            .text
            .bytes()
            .take(at)
            .filter(|byte| *byte == b'\n')
            .count()
    }

    fn invalid(&self, key: &str, found: &str, expected: &str) -> MappingError {
        MappingError::Invalid {
            file: self.file.to_owned(),
            line: self.line(key),
            key: key.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }

    /// A word that is none of those known.
    fn unknown(&self, key: &str, found: &str, known: &[&str]) -> MappingError {
        let near = nearest(found, known.iter().copied());
        let hint = nearest_hint(near.as_deref());
        let expected = format!("one of {}{hint}", known.join(", "));
        self.invalid(key, found, &expected)
    }

    fn unknown_key<'k>(
        &self,
        table: &str,
        key: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> MappingError {
        let full = if table.is_empty() {
            key.to_owned()
        } else {
            format!("{table}.{key}")
        };
        MappingError::UnknownKey {
            file: self.file.to_owned(),
            line: self.line(&full),
            nearest: nearest(key, known),
            key: full,
        }
    }

    /// Finds the first key that no mapping has, in this table and those inside it.
    fn check_keys(&self, table: &Table, path: &str) -> Result<(), MappingError> {
        let Some((_, known)) = KEYS.iter().find(|(name, _)| *name == path) else {
            return Ok(());
        };
        for (key, value) in table {
            if !known.contains(&key.as_str()) {
                return Err(self.unknown_key(path, key, known.iter().copied()));
            }
            let full = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            let inner: Vec<&Table> = match value {
                toml::Value::Table(table) => vec![table],
                toml::Value::Array(values) => values.iter().filter_map(|v| v.as_table()).collect(),
                _ => Vec::new(),
            };
            for table in inner {
                self.check_keys(table, &full)?;
            }
        }
        Ok(())
    }
}

impl RawMapping {
    fn check(self, at: &Source<'_>) -> Result<Mapping, MappingError> {
        let Some(kind) = Kind::from_name(&self.kind) else {
            return Err(at.unknown("kind", &self.kind, &Kind::ALL.map(Kind::name)));
        };
        if self.source.is_empty() {
            return Err(at.invalid("source", "", "a name such as \"shop/42\""));
        }
        if self.pack_units < 1 {
            let found = self.pack_units.to_string();
            return Err(at.invalid("pack_units", &found, "1 or more"));
        }
        let columns = columns(at, kind, &self.columns)?;
        let salt = self.buyer.as_ref().map_or("", |buyer| &*buyer.salt);
        if columns.contains_key(&Field::Buyer) && !is_secret(salt) {
            let expected = "a secret of 16 bytes or more, since columns.buyer is read and names can \
                            be guessed: take what `openssl rand -hex 32` prints";
            // What stands there may be a secret, if a short one.
            let found = if salt.is_empty() { "" } else { "…" };
            return Err(at.invalid("buyer.salt", found, expected));
        }
        self.check_type(at, kind, &columns)?;
        Ok(Mapping {
            every_ms: self
                .every
                .as_deref()
                .map(|text| every(at, text))
                .transpose()?,
            encoding: self
                .encoding
                .as_deref()
                .map(|name| encoding(at, name))
                .transpose()?,
            id: id(at, kind, self.id.as_deref(), &columns)?,
            offset: self.time.check(at)?,
            time_of: self.time.by_type(at, kind)?,
            statuses: statuses(at, kind, self.status, &columns)?,
            currency: currency(at, kind, self.currency)?,
            file: at.file.to_owned(),
            digest: digest(at.text),
            kind,
            source: self.source,
            shop_id: self.shop_id,
            campaign_id: self.campaign_id,
            time_format: self.time.format,
            pack_units: self.pack_units,
            columns,
            buyer_salt: self.buyer.map(|buyer| buyer.salt).unwrap_or_default(),
            cancelled_when: self.order_type.cancelled_when,
            skip_when: self.order_type.skip_when,
        })
    }

    fn check_type(
        &self,
        at: &Source<'_>,
        kind: Kind,
        columns: &BTreeMap<Field, String>,
    ) -> Result<(), MappingError> {
        let cancels = self.order_type.cancelled_when.iter();
        if cancels.clone().next().is_some()
            && (kind != Kind::Orders || columns.contains_key(&Field::Status))
        {
            let expected = "it with orders alone, and only where there is no columns.status";
            return Err(at.invalid("type.cancelled_when", "set", expected));
        }
        let mut conditions = cancels.chain(&self.order_type.skip_when);
        if conditions.any(|when| when.prefix.is_empty()) {
            let expected = "no empty prefix, which every row would have";
            return Err(at.invalid("type", "", expected));
        }
        Ok(())
    }
}

impl RawTime {
    fn check(&self, at: &Source<'_>) -> Result<Offset, MappingError> {
        if !reads_back(&self.format) {
            let expected = "a strptime format that tells day, hour and minute, such as \
                            %Y-%m-%d %H:%M";
            return Err(at.invalid("time.format", &self.format, expected));
        }
        let offset = BrokenDownTime::parse("%:z", &self.zone).ok();
        offset
            .and_then(|time| time.offset())
            .ok_or_else(|| at.invalid("time.zone", &self.zone, "a fixed offset such as +08:00"))
    }

    fn by_type(&self, at: &Source<'_>, kind: Kind) -> Result<Vec<(i32, String)>, MappingError> {
        let pairs = self.of.iter().map(|(name, column)| {
            let number = kind.event_type(name);
            let number =
                number.ok_or_else(|| at.unknown_key("time.of", name, kind.event_types()))?;
            Ok((number, column.clone()))
        });
        pairs.collect()
    }
}

fn columns(
    at: &Source<'_>,
    kind: Kind,
    named: &BTreeMap<String, String>,
) -> Result<BTreeMap<Field, String>, MappingError> {
    let mut columns = BTreeMap::new();
    for (key, column) in named {
        let Some(field) = kind.field(key) else {
            return Err(at.unknown_key("columns", key, kind.fields().map(Field::key)));
        };
        if column.is_empty() {
            let key = format!("columns.{key}");
            return Err(at.invalid(&key, "", "the name of a column"));
        }
        columns.insert(field, column.clone());
    }
    let mut needed = kind.required().to_vec();
    if kind == Kind::Inventory && !columns.contains_key(&Field::Delta) {
        // Without a movement, what a row says is the stock itself.
        needed.push(Field::OnHand);
    }
    if let Some(missing) = needed.iter().find(|field| !columns.contains_key(field)) {
        let key = format!("columns.{}", missing.key());
        let expected = format!("the name of a column: {} need it", kind.name());
        return Err(at.invalid(&key, "", &expected));
    }
    Ok(columns)
}

fn statuses(
    at: &Source<'_>,
    kind: Kind,
    raw: BTreeMap<String, String>,
    columns: &BTreeMap<Field, String>,
) -> Result<BTreeMap<String, Option<i32>>, MappingError> {
    let has_column = columns.contains_key(&Field::Status);
    if has_column == raw.is_empty() {
        let expected = match has_column {
            true => "the shop's words for a status, since columns.status is read",
            false => "columns.status beside it, which says where the status stands",
        };
        return Err(at.invalid("status", "", expected));
    }
    if kind == Kind::Inventory && !has_column && !columns.contains_key(&Field::OnHand) {
        let expected = "it beside columns.delta, or columns.on_hand: which movement is it?";
        return Err(at.invalid("columns.status", "", expected));
    }
    let mut known = kind.event_types();
    known.push(SKIP);
    let pairs = raw
        .into_iter()
        .map(|(word, name)| match kind.event_type(&name) {
            Some(number) => Ok((word, Some(number))),
            None if name == SKIP => Ok((word, None)),
            None => Err(at.unknown(&format!("status.{word}"), &name, &known)),
        });
    pairs.collect()
}

fn id(
    at: &Source<'_>,
    kind: Kind,
    keys: Option<&[String]>,
    columns: &BTreeMap<Field, String>,
) -> Result<Vec<Field>, MappingError> {
    let Some(keys) = keys else {
        let usual = kind.usual_id().iter().copied();
        return Ok(usual.filter(|field| columns.contains_key(field)).collect());
    };
    if keys.is_empty() {
        return Err(at.invalid("id", "[]", "at least one key of [columns]"));
    }
    let known: Vec<&str> = columns.keys().map(|field| field.key()).collect();
    let fields = keys.iter().map(|key| {
        let field = kind.field(key).filter(|field| columns.contains_key(field));
        match field {
            // An id leaves with its event, and is stored where people are not.
            Some(Field::Buyer) => Err(at.invalid("id", key, "a column that is about no person")),
            Some(field) => Ok(field),
            None => Err(at.unknown("id", key, &known)),
        }
    });
    fields.collect()
}

fn currency(at: &Source<'_>, kind: Kind, given: Option<String>) -> Result<String, MappingError> {
    let expected = "three capitals as in ISO 4217";
    match given {
        None if kind == Kind::Orders => Err(at.invalid("currency", "", expected)),
        None => Ok(String::new()),
        Some(code) if code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase()) => Ok(code),
        Some(code) => Err(at.invalid("currency", &code, expected)),
    }
}

fn every(at: &Source<'_>, text: &str) -> Result<i64, MappingError> {
    let time = humantime::parse_duration(text).ok();
    let time = time.filter(|time| (EVERY_MIN..=EVERY_MAX).contains(time));
    // A week in ms is far below 2⁶³.
    time.map(|time| time.as_millis() as i64)
        .ok_or_else(|| at.invalid("every", text, "a time from 1m to 7d, such as \"1h\""))
}

fn encoding(at: &Source<'_>, name: &str) -> Result<Encoding, MappingError> {
    let known = Encoding::ALL.map(Encoding::name);
    Encoding::from_name(name).ok_or_else(|| at.unknown("encoding", name, &known))
}

fn digest(text: &str) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(text)[..16]);
    half
}

/// Whether a time written in this format can be read again to the minute: the cheapest proof that
/// the format is valid and says enough.
fn reads_back(format: &str) -> bool {
    let time = DateTime::constant(2011, 10, 9, 18, 7, 0, 0);
    let Ok(zoned) = Offset::UTC.to_timestamp(time) else {
        return false;
    };
    let zoned = zoned.to_zoned(jiff::tz::TimeZone::UTC);
    BrokenDownTime::from(&zoned)
        .to_string(format)
        .ok()
        .and_then(|text| BrokenDownTime::parse(format, text).ok()?.to_datetime().ok())
        == Some(time)
}

/// Whether a salt can keep anything secret: long enough, and not what an example says.
fn is_secret(salt: &str) -> bool {
    let plain: String = salt
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let is_placeholder = ["changeme", "replaceme", "yoursecret", "yoursalt"]
        .iter()
        .any(|example| plain.contains(example));
    let mut chars = salt.chars();
    let first = chars.next();
    let is_one_char = chars.all(|c| Some(c) == first);
    salt.len() >= 16 && !is_placeholder && !is_one_char
}
