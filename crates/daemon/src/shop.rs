//! `fenghuo shop`: what shop a folder is of, and its correction.
//!
//! Owns the words for both, and the way to the daemon that holds the folder. It must never make a
//! folder.

use anyhow::ensure;
use fenghuo_embedded::{EmbeddedLog, FolderError};
use fenghuo_event::bounds::ID_BYTES_MAX;

use crate::cli;
use crate::control;
use crate::exit::Exit;
use crate::folder::must_exist;
use crate::identity::{Correction, Identity, Known};

/// Does what was asked.
pub fn run(args: &cli::Shop) -> anyhow::Result<Exit> {
    let (data, correction) = match args {
        cli::Shop::Show(args) => (&args.data, None),
        cli::Shop::Set(args) => (&args.data, Some(correction(args)?)),
    };
    must_exist(data)?;
    let known = match EmbeddedLog::open(data) {
        Ok(log) => {
            let identity = Identity::restore(Known::default(), &log)?;
            match &correction {
                Some(correction) => identity.correct(correction, &log)?,
                None => identity.known(),
            }
        }
        Err(FolderError::Held { .. }) => control::shop(data, correction.as_ref())?,
        Err(error) => return Err(error.into()),
    };
    Ok(crate::signals::print(&format!("{}\n", text(&known))))
}

/// What is known, for people.
pub fn text(known: &Known) -> String {
    let unsettled = "not settled yet: the first order, plan or catalogue entry says it";
    let zone = match known.utc_offset_min {
        None => {
            "+00:00 (assumed: no event has told one; `fenghuo shop set --time-zone` does)".into()
        }
        Some(minutes) => {
            let sign = if minutes < 0 { '-' } else { '+' };
            let minutes = minutes.abs();
            format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    };
    let text = format!(
        "shop      {}\ncurrency  {}\ntime zone {zone}",
        known.shop.as_deref().unwrap_or(unsettled),
        known.currency.as_deref().unwrap_or(unsettled),
    );
    crate::for_terminal(&text)
}

fn correction(args: &cli::ShopSet) -> anyhow::Result<Correction> {
    let known = Known {
        shop: args.id.clone(),
        currency: args.currency.clone(),
        utc_offset_min: args.time_zone,
    };
    ensure!(
        args.forget || known != Known::default(),
        "nothing to set: give --id, --currency, --time-zone or --forget"
    );
    if let Some(id) = &known.shop {
        let fits = !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control);
        ensure!(
            fits,
            "--id: expected 1 to {ID_BYTES_MAX} bytes without control characters"
        );
    }
    if let Some(code) = &known.currency {
        let fits = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        ensure!(
            fits,
            "--currency: expected three upper-case letters (ISO 4217)"
        );
    }
    Ok(Correction {
        forget: args.forget,
        known,
    })
}
