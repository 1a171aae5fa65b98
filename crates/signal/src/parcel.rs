//! Parcels: their trackers, and the signals over when they are first scanned and delivered.

use fenghuo_event::{Courier, Stream, pb};

use crate::catalogue::{Judge, Next, Read, Signal, View};
use crate::entity::Kind;
use crate::fold::{Fold, one, pair};
use crate::reading::Reading;
use crate::series::{FIRST_SCAN, PROMISE_AHEAD_MS_MAX, PROMISES, SCAN_AGES_HOURS};
use crate::statistics::{self, wilson};

const HOUR_MS: i64 = 3_600_000;

/// Labels from which on their share is told.
const LABELLED_MIN: i64 = 20;

/// Parcels that are still unscanned at 72 hours from which on their share is told.
const UNSCANNED_OLD_MIN: i64 = 3;

/// What is kept of an open parcel, in the form in which it travels in the log.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Parcel {
    /// Courier.
    #[prost(string, tag = "1")]
    pub courier: String,
    /// Warehouse it leaves.
    #[prost(string, tag = "2")]
    pub warehouse: String,
    /// Origin and destination region, `BJ>SH`; empty where one is not told.
    #[prost(string, tag = "3")]
    pub lane: String,
    /// Campaign.
    #[prost(string, tag = "4")]
    pub campaign: String,
    /// When its label was made, Unix ms; 0 = not told.
    #[prost(int64, tag = "5")]
    pub labelled_ms: i64,
    /// When it was promised, Unix ms; 0 = not told.
    #[prost(int64, tag = "6")]
    pub promised_ms: i64,
    /// It was scanned by its courier.
    #[prost(bool, tag = "7")]
    pub scanned: bool,
    /// When its life ended, Unix ms; 0 = it is open.
    #[prost(int64, tag = "8")]
    pub closed_ms: i64,
    /// It was heard of before it was on its way, so that it stands for all of its kind.
    #[prost(bool, tag = "9")]
    pub from_the_start: bool,
}

/// Folds a courier event into the deltas and the tracker of its parcel.
///
/// A parcel that is closed stays closed: what comes after (a scan that overtook another, a second
/// delivery) changes nothing.
pub(crate) fn fold(
    courier: &Courier<'_>,
    at_ms: i64,
    tracker: &mut Option<Parcel>,
    out: &mut Fold<'_>,
) {
    use pb::courier::Status;
    // Of the parcels under way when Fenghuo began to listen, those delivered in time were not
    // heard of: counting the others would make every courier late.
    let from_the_start = matches!(courier.status, Status::LabelCreated | Status::PickedUp);
    let parcel = tracker.get_or_insert_with(|| Parcel {
        from_the_start,
        ..Parcel::default()
    });
    if parcel.closed_ms != 0 {
        return;
    }
    learn(parcel, courier);
    if courier.status == Status::LabelCreated && parcel.labelled_ms == 0 && !parcel.scanned {
        parcel.labelled_ms = at_ms;
        count_label(parcel, 1, out);
    }
    if let Some(promised) = courier.promised_by {
        promise(parcel, promised.0, at_ms, out);
    }
    let is_paper = matches!(
        courier.status,
        Status::LabelCreated | Status::EtaChanged | Status::Cancelled
    );
    if !is_paper && !parcel.scanned {
        parcel.scanned = true;
        count_first_scan(parcel, at_ms, out);
    }
    match courier.status {
        Status::Delivered => {
            if at_ms <= parcel.promised_ms {
                count_promise(parcel, &[0, 1], out);
            }
            parcel.closed_ms = at_ms;
        }
        Status::Cancelled => {
            if !parcel.scanned {
                count_label(parcel, -1, out);
            }
            count_promise(parcel, &[-1, 0], out);
            parcel.closed_ms = at_ms;
        }
        Status::Returned | Status::Lost | Status::Damaged => parcel.closed_ms = at_ms,
        _ => {}
    }
}

/// Takes what the event tells for the first time. What counts have been made under stays.
fn learn(parcel: &mut Parcel, courier: &Courier<'_>) {
    let fill = |into: &mut String, told: &str| {
        if into.is_empty() {
            into.push_str(told);
        }
    };
    if parcel.labelled_ms == 0 && parcel.promised_ms == 0 {
        fill(&mut parcel.courier, &courier.courier_id);
        fill(&mut parcel.warehouse, &courier.warehouse_id);
        fill(&mut parcel.campaign, &courier.campaign_id);
        if parcel.lane.is_empty() && !courier.origin_region.is_empty() {
            parcel.lane = format!("{}>{}", courier.origin_region, courier.dest_region);
        }
    }
}

fn count_label(parcel: &Parcel, by: i64, out: &mut Fold<'_>) {
    if parcel.labelled_ms != 0 {
        let entity = pair(Kind::WarehouseCourier, &parcel.warehouse, &parcel.courier);
        out.add(&FIRST_SCAN, entity, parcel.labelled_ms, &[by]);
    }
}

fn count_first_scan(parcel: &Parcel, at_ms: i64, out: &mut Fold<'_>) {
    if parcel.labelled_ms == 0 {
        return;
    }
    let age_ms = at_ms - parcel.labelled_ms;
    let bucket = SCAN_AGES_HOURS
        .iter()
        .position(|hours| age_ms <= hours * HOUR_MS);
    let entity = pair(Kind::WarehouseCourier, &parcel.warehouse, &parcel.courier);
    let cell = out.cell(&FIRST_SCAN, entity, parcel.labelled_ms);
    if let (Some(bucket), Some(cell)) = (bucket, cell) {
        cell[1 + bucket] += 1;
    }
}

/// A promise was made, or moved: what was counted under the old hour moves to the new one.
fn promise(parcel: &mut Parcel, promised_ms: i64, at_ms: i64, out: &mut Fold<'_>) {
    if promised_ms == parcel.promised_ms || promised_ms > at_ms + PROMISE_AHEAD_MS_MAX {
        return;
    }
    count_promise(parcel, &[-1, 0], out);
    parcel.promised_ms = promised_ms;
    count_promise(parcel, &[1, 0], out);
}

fn count_promise(parcel: &Parcel, values: &[i64], out: &mut Fold<'_>) {
    if parcel.promised_ms == 0 || !parcel.from_the_start {
        return;
    }
    let entities = [
        (Kind::Courier, &parcel.courier),
        (Kind::Lane, &parcel.lane),
        (Kind::Campaign, &parcel.campaign),
    ];
    for (kind, name) in entities {
        if !name.is_empty() {
            out.add(&PROMISES, one(kind, name), parcel.promised_ms, values);
        }
    }
}

/// `ship.first_scan`.
pub(crate) static SHIP_FIRST_SCAN: Signal = Signal {
    name: "ship.first_scan",
    unit: "share",
    about: "share of parcels without a courier scan 24 hours after their label was made",
    formula: "cohorts by label hour, cancelled ones out. value: unscanned at 24 h of the labels 24 to 48 h old; \
              lower: its Wilson bound; upper: unscanned at 72 h, where at least 3 are; surprise: the deficit of the \
              labels 6 to 24 h old against the own survival curve of the 8 days before, with dispersion 2, n >= 50",
    kinds: &[Kind::WarehouseCourier],
    streams: &[Stream::Couriers],
    touched_by: &[&FIRST_SCAN],
    judge: Judge::ClosedPane { width_ms: HOUR_MS },
    advance: None,
    read: read_first_scan,
};

/// Labels and scans within each age, summed over the cohorts of `[from_ms, to_ms)`.
fn cohorts(view: &View<'_>, from_ms: i64, to_ms: i64) -> (i64, [i64; SCAN_AGES_HOURS.len()]) {
    let sum = view.history.sum(&FIRST_SCAN, from_ms, to_ms);
    let mut within = [0; SCAN_AGES_HOURS.len()];
    let mut so_far = 0;
    for (age, scans) in within.iter_mut().zip(&sum[1..]) {
        so_far += scans;
        *age = so_far;
    }
    (sum[0], within)
}

fn age_index(hours: i64) -> usize {
    SCAN_AGES_HOURS
        .iter()
        .position(|age| *age == hours)
        .unwrap_or(0)
}

fn read_first_scan(view: &View<'_>) -> Read {
    let now_ms = view.now_ms - view.now_ms.rem_euclid(HOUR_MS);
    let hours_ago = |hours: i64| now_ms - hours * HOUR_MS;
    let (labelled, within) = cohorts(view, hours_ago(48), hours_ago(24));
    let unscanned = (labelled - within[age_index(24)]).max(0);
    let (old_labelled, old_within) = cohorts(view, hours_ago(96), hours_ago(72));
    let old_unscanned = (old_labelled - old_within[age_index(72)]).max(0);
    let (surprise, tested) = deficit(view, now_ms);

    // Each of the three has a sample of its own; too small a one says nothing.
    let share = |part: i64, of: i64| part as f64 / of.max(1) as f64;
    let samples = [labelled, old_labelled].map(|n| n.max(0).unsigned_abs());
    let mut reading = Reading::exact(0.0, samples[0] + samples[1] + tested);
    if labelled >= LABELLED_MIN {
        reading.value = share(unscanned, labelled);
        reading.lower = wilson(unscanned.unsigned_abs(), samples[0]).0;
    }
    if old_unscanned >= UNSCANNED_OLD_MIN {
        reading.upper = share(old_unscanned, old_labelled);
    }
    reading.surprise = surprise;
    let any = cohorts(view, hours_ago(96), i64::MAX).0 > 0;
    if !any {
        reading = reading.insufficient();
    }
    Read {
        reading,
        next: if any {
            Next::At(now_ms + HOUR_MS)
        } else {
            Next::Touched
        },
    }
}

/// How odd it is that so few of the labels 6 to 24 hours old were scanned, and how many they are.
fn deficit(view: &View<'_>, now_ms: i64) -> (f64, u64) {
    let (base_labelled, base_within) =
        cohorts(view, now_ms - 9 * 24 * HOUR_MS, now_ms - 24 * HOUR_MS);
    if base_labelled < 50 {
        return (0.0, 0);
    }
    let (mut n, mut scanned, mut expected, mut variance) = (0_i64, 0_i64, 0.0, 0.0);
    for age_hours in 7..24 {
        // The cohort's youngest label is one hour younger than its oldest.
        let from_ms = now_ms - age_hours * HOUR_MS;
        let (labelled, within) = cohorts(view, from_ms, from_ms + HOUR_MS);
        let age = SCAN_AGES_HOURS
            .iter()
            .rposition(|edge| *edge < age_hours)
            .unwrap_or(0);
        let p = (base_within[age] as f64 / base_labelled as f64).clamp(0.0, 1.0);
        n += labelled;
        scanned += within[age];
        expected += labelled as f64 * p;
        variance += statistics::DISPERSION * labelled as f64 * p * (1.0 - p);
    }
    if n < 50 {
        return (0.0, 0);
    }
    // A curve that says "always" has no variance of its own; one parcel is the least it can tell.
    let z = (expected - scanned as f64) / variance.sqrt().max(1.0);
    (statistics::normal_surprise(z), n.unsigned_abs())
}

/// `parcel.eta_breach`.
pub(crate) static ETA_BREACH: Signal = Signal {
    name: "parcel.eta_breach",
    unit: "share",
    about: "share of the parcels promised for the last 24 hours that did not come in time",
    formula: "cohorts by promised hour, without cancelled ones and those first heard of on their way: \
              (promised - delivered in time) / promised; \
              lower and upper: the Wilson bounds",
    kinds: &[Kind::Courier, Kind::Lane, Kind::Campaign],
    streams: &[Stream::Couriers],
    touched_by: &[&PROMISES],
    judge: Judge::ClosedPane { width_ms: HOUR_MS },
    advance: None,
    read: read_eta_breach,
};

fn read_eta_breach(view: &View<'_>) -> Read {
    let now_ms = view.now_ms - view.now_ms.rem_euclid(HOUR_MS);
    let sum = view.history.sum(&PROMISES, now_ms - 24 * HOUR_MS, now_ms);
    let promised = sum[0].max(0);
    let late = (promised - sum[1]).clamp(0, promised);
    let any = promised > 0 || view.history.sum(&PROMISES, now_ms, i64::MAX)[0] > 0;
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
