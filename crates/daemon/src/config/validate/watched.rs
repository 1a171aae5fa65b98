//! `[intake]`: the folder whose files become events, and what they may hold.

use std::sync::Arc;

use fenghuo_intake::Mapping;
use fenghuo_intake::watch::Settings;

use super::super::document::Document;
use super::super::{Shop, Watched, raw};
use super::{HOUR, SECOND, files};

/// Checks the table and reads the mappings that it names.
pub fn watched(at: &Document<'_>, raw: &raw::Intake, shop: &Shop) -> Option<Watched> {
    let mappings = files(at, "intake.mappings", &raw.mappings);
    let folder = match raw.watch.as_deref() {
        Some(folder) => folder,
        // It is there under another name: the mappings are checked all the same.
        None if !mappings.is_empty() && at.is_unsure("intake.watch") => "",
        None => {
            if !mappings.is_empty() {
                let problem = "is set without intake.watch; expected the folder beside it";
                at.mistake("intake.mappings", problem);
            }
            return None;
        }
    };
    if folder.is_empty() {
        at.mistake("intake.watch", "is empty; expected a folder");
    } else if mappings.is_empty() {
        let problem =
            "is empty; expected what the files of intake.watch hold, such as [\"order-list.toml\"]";
        at.mistake("intake.mappings", problem);
    }
    let mut read = Vec::with_capacity(mappings.len());
    for (index, file) in mappings.iter().enumerate() {
        let key = format!("intake.mappings[{index}]");
        match Mapping::load(&at.path(file)) {
            Ok(mapping) => {
                check(at, &key, &mapping, shop);
                read.push(Arc::new(mapping));
            }
            Err(error) => at.note(&key, error),
        }
    }
    let mut settings = Settings::new(read);
    let settle = raw.settle.as_deref().unwrap_or("30s");
    let settle_ms = at.duration_ms("intake.settle", settle, SECOND..=HOUR);
    settings.settle_ms = settle_ms.unwrap_or_default();
    if let Some(files) = raw.files_max {
        settings.files_max = at.number("intake.files_max", files, 1..=100_000);
    }
    if let Some(rows) = raw.rows_max {
        settings.rows_max = at.number("intake.rows_max", rows, 1_000..=1_000_000_000);
    }
    Some(Watched {
        folder: at.path(folder),
        settings,
    })
}

/// What every event of a mapping would be rejected for.
fn check(at: &Document<'_>, key: &str, mapping: &Mapping, shop: &Shop) {
    let currency = shop.currency.as_deref().unwrap_or_default();
    let is_other = !mapping.currency.is_empty() && mapping.currency != currency;
    if is_other && !at.is_unsure("shop.currency") {
        let found = &mapping.currency;
        let problem = format!("has prices in {found}; expected shop.currency, {currency:?}");
        at.mistake(key, problem);
    }
    if let Some(id) = &shop.id
        && !mapping.shop_id.is_empty()
        && mapping.shop_id != *id
        && !at.is_unsure("shop.id")
    {
        let found = &mapping.shop_id;
        let problem = format!("is of the shop {found:?}; expected shop.id, {id:?}");
        at.mistake(key, problem);
    }
}
