//! Flag: how many of something came in a window, of which one is too many.

use crate::estimator::{Arguments, Column, Estimator, Named, Next, Read, Seen};
use crate::reading::Reading;

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

pub(crate) static NAMED: Named = Named {
    name: "flag",
    keys: &["flag", "window"],
    build: |arguments: &Arguments<'_, '_, '_>| {
        let count = arguments.column("flag")?;
        let window_ms = arguments.window_ms("window", HOUR_MS)?;
        arguments.check_kept("window", count, window_ms)?;
        Some(Box::new(Flag { count, window_ms }))
    },
};

#[derive(Debug)]
struct Flag {
    count: Column,
    window_ms: i64,
}

impl Estimator for Flag {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        seen.is_counted(self.count)
    }

    fn read(&self, seen: &Seen<'_>) -> Read {
        let (from_ms, to_ms) = (seen.now_ms - self.window_ms, seen.now_ms + MINUTE_MS);
        let count = seen.sum(self.count, from_ms, to_ms);
        let reading = Reading::exact(count as f64, count.unsigned_abs());
        let next = match count {
            0 => Next::Touched,
            _ => Next::At(seen.now_ms + MINUTE_MS),
        };
        Read { reading, next }
    }
}
