//! Prices: a line sold below the floor is certain trouble at the first one.

use fenghuo_event::{Order, Stream, pb};

use crate::catalogue::{Judge, Next, Read, Signal, View};
use crate::entity::Kind;
use crate::fold::{Fold, one};
use crate::reading::Reading;
use crate::series::PRICE;

const MICROS: i64 = 1_000_000;
const PANE_MS: i64 = 10_000;
/// How long a price below the floor is remembered.
const WINDOW_MS: i64 = 600_000;

/// Folds the prices of placed and paid lines. Gifts have none.
pub(crate) fn fold(order: &Order<'_>, at_ms: i64, out: &mut Fold<'_>) {
    if !matches!(
        order.r#type,
        pb::order::Type::Placed | pb::order::Type::Paid
    ) {
        return;
    }
    for line in order.lines.iter().filter(|line| !line.is_gift) {
        let Some(price) = &line.unit_price else {
            continue;
        };
        let Some(cell) = out.cell(&PRICE, one(Kind::Sku, &line.sku_id), at_ms) else {
            continue;
        };
        match i64::from(line.pack_units) {
            0 => cell[1] = cell[1].min(price.minor_units),
            pack_units => {
                let micros = i128::from(price.minor_units) * i128::from(MICROS);
                let a_base_unit = micros.div_euclid(i128::from(pack_units));
                cell[0] = cell[0].min(i64::try_from(a_base_unit).unwrap_or(i64::MAX));
            }
        }
        cell[2] += 1;
    }
}

/// `price.floor`.
pub(crate) static FLOOR: Signal = Signal {
    name: "price.floor",
    unit: "ratio to floor",
    about: "the lowest price of a base unit that was placed or paid, against the floor",
    formula: "min over the placed and paid lines of the last 10 min of (unit_price / pack_units), pack_units from the \
              line, else the catalogue, / the catalogue's floor for a base unit; 1 where no line came; gifts are left \
              out; n: lines; unknown until the catalogue has told a floor",
    kinds: &[Kind::Sku],
    streams: &[Stream::Orders],
    touched_by: &[&PRICE],
    judge: Judge::EachDelta,
    advance: None,
    read: read_floor,
};

fn read_floor(view: &View<'_>) -> Read {
    let floor = view
        .facts
        .catalog
        .as_ref()
        .and_then(|catalog| catalog.price_floor_minor);
    let Some(floor_minor) = floor.filter(|floor| *floor > 0) else {
        return Read {
            reading: Reading::unknown(),
            next: Next::Touched,
        };
    };
    let since_ms = view.now_ms - WINDOW_MS;
    let sum = view.history.sum(&PRICE, since_ms, i64::MAX);
    let (base_unit_micros, pack_minor, lines) = (sum[0], sum[1], sum[2]);
    if lines == 0 {
        return Read {
            reading: Reading::exact(1.0, 0),
            next: Next::Touched,
        };
    }
    let mut lowest_micros = base_unit_micros as f64;
    if pack_minor != i64::MAX {
        let a_base_unit = pack_minor as f64 * MICROS as f64 / view.facts.pack_units() as f64;
        lowest_micros = lowest_micros.min(a_base_unit);
    }
    let ratio = lowest_micros / (floor_minor as f64 * MICROS as f64);
    Read {
        reading: Reading::exact(ratio, lines.unsigned_abs()),
        next: Next::At(view.now_ms + PANE_MS),
    }
}
