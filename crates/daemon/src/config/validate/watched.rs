//! `[intake]`: the folder whose files become events, and what they may hold.

use std::sync::Arc;

use fenghuo_intake::Mapping;
use fenghuo_intake::watch::Settings;

use super::super::document::Document;
use super::super::{ConfigError, Shop, Watched, raw};
use super::{HOUR, SECOND, files};

/// Checks the table and reads the mappings that it names.
pub fn watched(
    at: &Document<'_>,
    raw: &raw::Intake,
    shop: &Shop,
) -> Result<Option<Watched>, ConfigError> {
    let mappings = files(at, "intake.mappings", &raw.mappings)?;
    let Some(folder) = raw.watch.as_deref() else {
        return match mappings.is_empty() {
            true => Ok(None),
            false => {
                let problem = "is set without intake.watch; expected the folder beside it";
                Err(at.error("intake.mappings", problem))
            }
        };
    };
    if folder.is_empty() {
        return Err(at.error("intake.watch", "is empty; expected a folder"));
    }
    if mappings.is_empty() {
        let problem =
            "is empty; expected what the files of intake.watch hold, such as [\"order-list.toml\"]";
        return Err(at.error("intake.mappings", problem));
    }
    let mut read = Vec::with_capacity(mappings.len());
    for (index, file) in mappings.iter().enumerate() {
        let mapping = Mapping::load(&at.path(file))?;
        check(at, &format!("intake.mappings[{index}]"), &mapping, shop)?;
        read.push(Arc::new(mapping));
    }
    let mut settings = Settings::new(read);
    let settle = raw.settle.as_deref().unwrap_or("30s");
    settings.settle_ms = at.duration_ms("intake.settle", settle, SECOND..=HOUR)?;
    if let Some(files) = raw.files_max {
        settings.files_max = at.number("intake.files_max", files, 1..=100_000)?;
    }
    if let Some(rows) = raw.rows_max {
        settings.rows_max = at.number("intake.rows_max", rows, 1_000..=1_000_000_000)?;
    }
    Ok(Some(Watched {
        folder: at.path(folder),
        settings,
    }))
}

/// What every event of a mapping would be rejected for.
fn check(at: &Document<'_>, key: &str, mapping: &Mapping, shop: &Shop) -> Result<(), ConfigError> {
    let currency = shop.currency.as_deref().unwrap_or_default();
    if !mapping.currency.is_empty() && mapping.currency != currency {
        let found = &mapping.currency;
        let problem = format!("has prices in {found}; expected shop.currency, {currency:?}");
        return Err(at.error(key, problem));
    }
    match &shop.id {
        Some(id) if !mapping.shop_id.is_empty() && mapping.shop_id != *id => {
            let found = &mapping.shop_id;
            let problem = format!("is of the shop {found:?}; expected shop.id, {id:?}");
            Err(at.error(key, problem))
        }
        _ => Ok(()),
    }
}
