//! Lowest: the extreme of what came, against a fact. Certain at the first one beyond it.

use crate::estimator::{Arguments, Column, Estimator, Named, Next, Read, Seen};
use crate::reading::Reading;

const MICROS: f64 = 1e6;
const PANE_MS: i64 = 10_000;

pub(crate) static NAMED: Named = Named {
    name: "lowest",
    keys: &["lowest", "against", "window"],
    build: |arguments: &Arguments<'_, '_, '_>| {
        let [base_unit_micros, pack_minor, lines] =
            arguments.panes("lowest", ["base_unit_micros", "pack_minor", "lines"])?;
        let against = arguments.table.required("against", "\"price_floor\"")?;
        if against != "price_floor" {
            let what = format!("against is {against:?}; expected \"price_floor\"");
            arguments
                .table
                .mistake(arguments.table.place("against"), &what);
            return None;
        }
        let window_ms = arguments.window_ms("window", 600_000)?;
        arguments.check_kept("window", lines, window_ms)?;
        Some(Box::new(Lowest {
            base_unit_micros,
            pack_minor,
            lines,
            window_ms,
        }))
    },
};

#[derive(Debug)]
struct Lowest {
    base_unit_micros: Column,
    pack_minor: Column,
    lines: Column,
    /// How long a price below the floor is remembered.
    window_ms: i64,
}

fn floor_minor(seen: &Seen<'_>) -> Option<i64> {
    let floor = seen.facts.catalog.as_ref()?.price_floor_minor;
    floor.filter(|floor| *floor > 0)
}

impl Estimator for Lowest {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        floor_minor(seen).is_some()
    }

    fn read(&self, seen: &Seen<'_>) -> Read {
        let Some(floor_minor) = floor_minor(seen) else {
            return Read {
                reading: Reading::unknown(),
                next: Next::Touched,
            };
        };
        let since_ms = seen.now_ms - self.window_ms;
        let sums = seen.sums(self.lines.series, since_ms, i64::MAX);
        let [base_unit_micros, pack_minor, lines] =
            [self.base_unit_micros, self.pack_minor, self.lines].map(|column| sums[column.field]);
        if lines == 0 {
            return Read {
                reading: Reading::exact(1.0, 0),
                next: Next::Touched,
            };
        }
        let mut lowest_micros = base_unit_micros as f64;
        if pack_minor != i64::MAX {
            let a_base_unit = pack_minor as f64 * MICROS / seen.facts.pack_units() as f64;
            lowest_micros = lowest_micros.min(a_base_unit);
        }
        let ratio = lowest_micros / (floor_minor as f64 * MICROS);
        Read {
            reading: Reading::exact(ratio, lines.unsigned_abs()),
            next: Next::At(seen.now_ms + PANE_MS),
        }
    }
}
