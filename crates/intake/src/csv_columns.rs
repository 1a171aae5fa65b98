//! Where in a row the mapped columns stand.
//!
//! Owns finding them in the header, once a file. It must never look into a row.

use csv::ByteRecord;

use crate::{Error, Mapping, nearest};

/// Where the mapped columns are.
pub(crate) struct Indices {
    pub(crate) order_id: usize,
    pub(crate) sku: usize,
    pub(crate) quantity: usize,
    pub(crate) time: usize,
    pub(crate) unit_price: usize,
    pub(crate) buyer: Option<usize>,
    pub(crate) region: Option<usize>,
    pub(crate) cancelled_when: Option<(usize, String)>,
    pub(crate) skip_when: Vec<(usize, String)>,
}

impl Indices {
    /// Finds them by the header of a file.
    pub(crate) fn find(header: &ByteRecord, mapping: &Mapping, file: &str) -> Result<Self, Error> {
        let find = |key: &'static str, column: &str| {
            header
                .iter()
                .position(|name| name == column.as_bytes())
                .ok_or_else(|| {
                    let names: Vec<String> = header
                        .iter()
                        .map(|name| String::from_utf8_lossy(name).into_owned())
                        .collect();
                    Error::Column {
                        file: file.to_owned(),
                        column: column.to_owned(),
                        key,
                        nearest: nearest(column, names.iter().map(String::as_str)),
                    }
                })
        };
        let columns = &mapping.columns;
        let optional = |key, column: &Option<String>| {
            column
                .as_deref()
                .map(|column| find(key, column))
                .transpose()
        };
        Ok(Self {
            order_id: find("columns.order_id", &columns.order_id)?,
            sku: find("columns.sku", &columns.sku)?,
            quantity: find("columns.quantity", &columns.quantity)?,
            time: find("columns.time", &columns.time)?,
            unit_price: find("columns.unit_price", &columns.unit_price)?,
            buyer: optional("columns.buyer", &columns.buyer)?,
            region: optional("columns.region", &columns.region)?,
            cancelled_when: match &mapping.cancelled_when {
                Some(when) => Some((
                    find("type.cancelled_when", &when.column)?,
                    when.prefix.clone(),
                )),
                None => None,
            },
            skip_when: mapping
                .skip_when
                .iter()
                .map(|when| Ok((find("type.skip_when", &when.column)?, when.prefix.clone())))
                .collect::<Result<_, Error>>()?,
        })
    }
}
