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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::config::Config;

    fn set(data: &std::path::Path, id: Option<&str>, forget: bool) -> cli::Shop {
        cli::Shop::Set(cli::ShopSet {
            data: data.to_owned(),
            id: id.map(str::to_owned),
            currency: Some("JPY".to_owned()).filter(|_| !forget),
            time_zone: Some(540).filter(|_| !forget),
            forget,
        })
    }

    /// What a folder knows that nobody holds.
    fn kept(data: &std::path::Path) -> Known {
        let log = EmbeddedLog::open(data).unwrap();
        Identity::restore(Known::default(), &log).unwrap().known()
    }

    #[test]
    fn a_folder_is_corrected_with_and_without_a_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(run(&set(&data, Some("42"), false)).is_err());
        assert!(!data.exists(), "asking makes no folder");
        drop(EmbeddedLog::open(&data).unwrap());
        run(&set(&data, Some("42"), false)).unwrap();
        let known = Known {
            shop: Some("42".to_owned()),
            currency: Some("JPY".to_owned()),
            utc_offset_min: Some(540),
        };
        assert_eq!(kept(&data), known);

        // Now a daemon holds it.
        let log = Arc::new(EmbeddedLog::open(&data).unwrap());
        let config = Config::parse("test", "log.kind = \"embedded\"").unwrap();
        let identity = Identity::open(&config, &*log).unwrap();
        let listener = control::listen(&data).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| control::serve(&listener, &log, &identity, &stop));
            let said = control::shop(&data, None);
            let corrected = run(&set(&data, Some("43"), false));
            let now = identity.known();
            let forgotten = run(&set(&data, None, true));
            let nothing = control::backup(&data, &data);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(said.unwrap(), known);
            corrected.unwrap();
            assert_eq!(now.shop.as_deref(), Some("43"));
            forgotten.unwrap();
            assert!(nothing.is_err(), "a copy onto itself");
        });
        assert_eq!(identity.known(), Known::default());
        drop((identity, log));
        assert_eq!(kept(&data), Known::default());
    }

    #[test]
    fn what_cannot_be_a_shop_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(EmbeddedLog::open(folder.path()).unwrap());
        for id in ["", "a\nb", "\u{1b}[2J"] {
            assert!(run(&set(folder.path(), Some(id), false)).is_err(), "{id:?}");
        }
    }

    #[test]
    fn an_assumed_time_zone_is_said_to_be_one() {
        let told = text(&Known::default());
        assert!(
            told.contains("assumed") && told.contains("not settled"),
            "{told}"
        );
        let told = text(&Known {
            shop: Some("\u{202e}x".to_owned()),
            currency: None,
            utc_offset_min: Some(-210),
        });
        assert!(
            told.contains("-03:30") && told.contains("\\u{202e}x"),
            "{told}"
        );
    }
}
