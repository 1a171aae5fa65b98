//! The mapping that tells which columns of a CSV of order lines mean what.
//!
//! Owns the mapping's file form and its checks. It must never open the CSV itself.

use std::fs;
use std::path::Path;

use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::Offset;
use serde::Deserialize;
use toml::Table;

use crate::{nearest, nearest_hint};

/// A checked mapping from the columns of a CSV of order lines to order events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// `meta.source` of every event.
    pub source: String,
    /// `meta.shop_id` of every event; empty = not given.
    pub shop_id: String,
    /// `campaign_id` of every order; empty = not given.
    pub campaign_id: String,
    /// How the time column is written, in the terms of strptime.
    pub time_format: String,
    /// What that time is ahead of UTC, unless the format itself reads an offset.
    pub offset: Offset,
    /// ISO 4217 code of the prices.
    pub currency: String,
    /// Base units in one sellable pack.
    pub pack_units: i32,
    /// Which column is what.
    pub columns: Columns,
    /// Put before a buyer's name before it is hashed; empty where no buyer is read.
    pub buyer_salt: String,
    /// Rows that cancel; every other row is paid.
    pub cancelled_when: Option<When>,
    /// Rows that are no orders at all.
    pub skip_when: Vec<When>,
}

/// The names of the columns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Columns {
    /// The order's id, kept as written.
    pub order_id: String,
    /// The sku, kept as written.
    pub sku: String,
    /// Whole number of packs.
    pub quantity: String,
    /// When it happened.
    pub time: String,
    /// Price of one pack, as decimal text.
    pub unit_price: String,
    /// Who bought; hashed before it leaves this crate.
    pub buyer: Option<String>,
    /// Where it goes, taken as written.
    pub region: Option<String>,
}

/// A condition on one column of a row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct When {
    /// The column.
    pub column: String,
    /// What its text begins with.
    pub prefix: String,
}

/// Why a text is no mapping.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The file cannot be read.
    #[error("mapping {file} cannot be read")]
    Read {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It is no TOML, or a key is missing or of another type.
    #[error("mapping {file} is malformed")]
    Malformed {
        /// The file.
        file: String,
        /// The cause, with the place.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A key that no mapping has.
    #[error("mapping {file} has an unknown key {key}{}", nearest_hint(nearest.as_deref()))]
    UnknownKey {
        /// The file.
        file: String,
        /// The key, with its table.
        key: String,
        /// The key that was probably meant.
        nearest: Option<String>,
    },
    /// A value that cannot be meant.
    #[error("mapping {file}: {key} is {found:?}; expected {expected}")]
    Invalid {
        /// The file.
        file: String,
        /// The key, with its table.
        key: &'static str,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
}

/// The mapping as its file says it.
#[derive(Deserialize)]
struct RawMapping {
    source: String,
    #[serde(default)]
    shop_id: String,
    #[serde(default)]
    campaign_id: String,
    currency: String,
    #[serde(default = "one")]
    pack_units: i32,
    time: RawTime,
    columns: Columns,
    buyer: Option<RawBuyer>,
    #[serde(default, rename = "type")]
    order_type: RawType,
}

fn one() -> i32 {
    1
}

#[derive(Deserialize)]
struct RawTime {
    format: String,
    zone: String,
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

/// Every table of a mapping and the keys that it may have.
const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "source",
            "shop_id",
            "campaign_id",
            "currency",
            "pack_units",
            "time",
            "columns",
            "buyer",
            "type",
        ],
    ),
    ("time", &["format", "zone"]),
    (
        "columns",
        &[
            "order_id",
            "sku",
            "quantity",
            "time",
            "unit_price",
            "buyer",
            "region",
        ],
    ),
    ("buyer", &["salt"]),
    ("type", &["cancelled_when", "skip_when"]),
    ("type.cancelled_when", &["column", "prefix"]),
    ("type.skip_when", &["column", "prefix"]),
];

impl Mapping {
    /// Reads and checks a mapping file.
    pub fn load(path: &Path) -> Result<Self, MappingError> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| MappingError::Read {
            file: file.clone(),
            source,
        })?;
        Self::parse(&text, &file)
    }

    /// Checks a mapping; `file` is its name in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, MappingError> {
        let malformed = |source| MappingError::Malformed {
            file: file.to_owned(),
            source: Box::new(source),
        };
        let table: Table = text.parse().map_err(malformed)?;
        check_keys(&table, "", file)?;
        let raw: RawMapping = toml::from_str(text).map_err(malformed)?;
        raw.check(file)
    }
}

/// Finds the first key that no mapping has, in this table and those inside it.
fn check_keys(table: &Table, path: &str, file: &str) -> Result<(), MappingError> {
    let Some((_, known)) = KEYS.iter().find(|(name, _)| *name == path) else {
        return Ok(());
    };
    for (key, value) in table {
        let full = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        if !known.contains(&key.as_str()) {
            let nearest = nearest(key, known.iter().copied());
            return Err(MappingError::UnknownKey {
                file: file.to_owned(),
                key: full,
                nearest,
            });
        }
        let inner: Vec<&Table> = match value {
            toml::Value::Table(table) => vec![table],
            toml::Value::Array(values) => values.iter().filter_map(|v| v.as_table()).collect(),
            _ => Vec::new(),
        };
        for table in inner {
            check_keys(table, &full, file)?;
        }
    }
    Ok(())
}

impl RawMapping {
    fn check(self, file: &str) -> Result<Mapping, MappingError> {
        let invalid = |key, found: &str, expected| MappingError::Invalid {
            file: file.to_owned(),
            key,
            found: found.to_owned(),
            expected,
        };
        if self.source.is_empty() {
            return Err(invalid("source", "", "a name such as \"shop/42\""));
        }
        if self.currency.len() != 3 || !self.currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(invalid(
                "currency",
                &self.currency,
                "three capitals as in ISO 4217",
            ));
        }
        if self.pack_units < 1 {
            return Err(invalid(
                "pack_units",
                &self.pack_units.to_string(),
                "1 or more",
            ));
        }
        let Some(offset) = parse_offset(&self.time.zone) else {
            return Err(invalid(
                "time.zone",
                &self.time.zone,
                "a fixed offset such as +08:00",
            ));
        };
        if !reads_back(&self.time.format) {
            return Err(invalid(
                "time.format",
                &self.time.format,
                "a strptime format that tells day, hour and minute, such as %Y-%m-%d %H:%M",
            ));
        }
        if self.columns.buyer.is_some() && self.buyer.as_ref().is_none_or(|b| b.salt.is_empty()) {
            return Err(invalid(
                "buyer.salt",
                "",
                "a text, since columns.buyer is read",
            ));
        }
        let conditions = self
            .order_type
            .cancelled_when
            .iter()
            .chain(&self.order_type.skip_when);
        if conditions.into_iter().any(|when| when.prefix.is_empty()) {
            return Err(invalid(
                "type",
                "",
                "no empty prefix, which every row would have",
            ));
        }
        Ok(Mapping {
            source: self.source,
            shop_id: self.shop_id,
            campaign_id: self.campaign_id,
            time_format: self.time.format,
            offset,
            currency: self.currency,
            pack_units: self.pack_units,
            columns: self.columns,
            buyer_salt: self.buyer.map(|buyer| buyer.salt).unwrap_or_default(),
            cancelled_when: self.order_type.cancelled_when,
            skip_when: self.order_type.skip_when,
        })
    }
}

fn parse_offset(text: &str) -> Option<Offset> {
    BrokenDownTime::parse("%:z", text).ok()?.offset()
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

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
source = "shop/1"
currency = "GBP"
time = { format = "%Y-%m-%d %H:%M:%S", zone = "+08:00" }
[columns]
order_id = "InvoiceNo"
sku = "StockCode"
quantity = "Quantity"
time = "InvoiceDate"
unit_price = "UnitPrice"
buyer = "CustomerID"
[buyer]
salt = "s"
[type]
skip_when = [{ column = "InvoiceNo", prefix = "A" }]
"#;

    #[test]
    fn a_good_mapping_is_taken() {
        let mapping = Mapping::parse(GOOD, "m.toml").unwrap();
        assert_eq!(mapping.offset.seconds(), 8 * 3600);
        assert_eq!(mapping.pack_units, 1);
        assert_eq!(mapping.skip_when[0].prefix, "A");
        assert_eq!(mapping.columns.region, None);
    }

    #[test]
    fn a_bad_mapping_says_which_key_and_what_was_meant() {
        let cases = [
            (
                "currency = ",
                "curency = ",
                r#"unknown key curency; did you mean "currency"?"#,
            ),
            (
                "sku = ",
                "skus = ",
                r#"unknown key columns.skus; did you mean "sku"?"#,
            ),
            (
                "prefix = ",
                "prefixx = ",
                "unknown key type.skip_when.prefixx; did you mean",
            ),
            (
                "\"GBP\"",
                "\"gbp\"",
                "currency is \"gbp\"; expected three capitals",
            ),
            ("%H:%M:%S", "%H", "time.format is \"%Y-%m-%d %H\""),
            ("%H:%M:%S", "%H:%M:%Q9", "time.format is"),
            ("+08:00", "Asia/Shanghai", "time.zone is \"Asia/Shanghai\""),
            ("salt = \"s\"", "salt = \"\"", "buyer.salt is \"\""),
            ("prefix = \"A\"", "prefix = \"\"", "no empty prefix"),
            ("source = \"shop/1\"", "", "is malformed"),
        ];
        for (old, new, expect) in cases {
            let text = GOOD.replacen(old, new, 1);
            assert_ne!(text, GOOD);
            let error = Mapping::parse(&text, "m.toml").unwrap_err().to_string();
            assert!(error.contains(expect), "{new}: {error}");
        }
    }
}
