//! Share: a part of a whole in a window, with its Wilson bounds; alone, or against its own base of the
//! days before.

use crate::estimator::{Arguments, Column, Estimator, Named, Next, Read, Seen};
use crate::reading::Reading;
use crate::statistics::wilson;

pub(crate) static NAMED: Named = Named {
    name: "share",
    keys: &["share", "window", "base", "prior"],
    build: |arguments: &Arguments<'_, '_, '_>| {
        const EXPECTED: &str =
            "two columns of one measure, such as \"reviews.negative / reviews.all\"";
        let text = arguments.table.required("share", EXPECTED)?;
        let Some((part, of)) = text.split_once('/') else {
            let what = format!("share is {text:?}; expected {EXPECTED}");
            arguments
                .table
                .mistake(arguments.table.place("share"), &what);
            return None;
        };
        let (part, of) = (
            arguments.resolve("share", part),
            arguments.resolve("share", of),
        );
        let (part, of) = (part?, of?);
        arguments.touch(part);
        arguments.touch(of);
        if arguments.table.get("window").is_none() {
            arguments.table.missing("window", crate::document::DURATION);
        }
        let window_ms = arguments.table.duration_ms("window")?;
        let base_ms = match arguments.table.get("base") {
            Some(_) => Some(arguments.table.duration_ms("base")?),
            None => None,
        };
        let [negative, all] = arguments.pair("prior", [1, 20])?;
        let looked_ms = window_ms.saturating_add(base_ms.unwrap_or(0));
        arguments.check_kept("window", of, looked_ms)?;
        let pane_ms = arguments.finest_ms(of);
        Some(Box::new(Share {
            part,
            of,
            window_ms,
            base_ms,
            prior: [negative as f64, all as f64],
            pane_ms,
        }))
    },
};

#[derive(Debug)]
struct Share {
    part: Column,
    of: Column,
    window_ms: i64,
    base_ms: Option<i64>,
    /// Part and whole that the base is shrunk towards.
    prior: [f64; 2],
    pane_ms: i64,
}

impl Share {
    fn counts(&self, seen: &Seen<'_>, from_ms: i64, to_ms: i64) -> [i64; 2] {
        [self.part, self.of].map(|column| seen.sum(column, from_ms, to_ms).max(0))
    }
}

impl Estimator for Share {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        seen.is_counted(self.of)
    }

    fn read(&self, seen: &Seen<'_>) -> Read {
        let from_ms = seen.now_ms - self.window_ms;
        let [part, of] = self
            .counts(seen, from_ms, seen.now_ms)
            .map(i64::unsigned_abs);
        if of == 0 {
            return Read {
                reading: Reading::exact(0.0, 0).insufficient(),
                next: Next::Touched,
            };
        }
        let base = match self.base_ms {
            Some(base_ms) => {
                let [past_part, past_of] = self.counts(seen, from_ms - base_ms, from_ms);
                let [prior_part, prior_of] = self.prior;
                (past_part as f64 + prior_part) / (past_of as f64 + prior_of)
            }
            None => 1.0,
        };
        let mut reading = Reading::exact(part as f64 / of as f64 / base, of);
        let (lower, upper) = wilson(part, of);
        (reading.lower, reading.upper) = (lower / base, upper / base);
        Read {
            reading,
            next: Next::At(seen.now_ms + self.pane_ms),
        }
    }
}
