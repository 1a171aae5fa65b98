//! Missed: of what was due in a window, the share that was not done in time. Counted by deadline, so
//! that what is young cannot make it look good.

use crate::estimator::{Arguments, Column, Estimator, Named, Next, Read, Seen};
use crate::reading::Reading;
use crate::statistics::wilson;

const HOUR_MS: i64 = 3_600_000;

pub(crate) static NAMED: Named = Named {
    name: "missed",
    keys: &["missed", "met", "window"],
    build: |arguments: &Arguments<'_, '_, '_>| {
        let promised = arguments.column("missed")?;
        let met = arguments.column("met")?;
        let window_ms = arguments.window_ms("window", 24 * HOUR_MS)?;
        arguments.check_kept("window", promised, window_ms)?;
        Some(Box::new(Missed {
            promised,
            met,
            window_ms,
        }))
    },
};

#[derive(Debug)]
struct Missed {
    promised: Column,
    met: Column,
    window_ms: i64,
}

impl Estimator for Missed {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        seen.is_counted(self.promised)
    }

    fn read(&self, seen: &Seen<'_>) -> Read {
        let now_ms = seen.now_ms - seen.now_ms.rem_euclid(HOUR_MS);
        let promised = seen.sum(self.promised, now_ms - self.window_ms, now_ms);
        let promised = promised.max(0);
        let met = seen.sum(self.met, now_ms - self.window_ms, now_ms);
        let late = (promised - met).clamp(0, promised);
        let any = promised > 0 || seen.sum(self.promised, now_ms, i64::MAX) > 0;
        let next = if any {
            Next::At(now_ms + HOUR_MS)
        } else {
            Next::Touched
        };
        if promised == 0 {
            return Read {
                reading: Reading::exact(0.0, 0).insufficient(),
                next,
            };
        }
        let mut reading = Reading::exact(late as f64 / promised as f64, promised.unsigned_abs());
        (reading.lower, reading.upper) = wilson(late.unsigned_abs(), promised.unsigned_abs());
        Read { reading, next }
    }
}
