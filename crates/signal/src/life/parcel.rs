//! Parcels: from the label to the delivery.

use fenghuo_event::schema::Enumeration;
use fenghuo_event::{Courier, Stream, pb};

use super::{Change, LifeSchema, Whole};

/// How far ahead a promise may lie to be counted.
pub const PROMISE_AHEAD_MS_MAX: i64 = 40 * 86_400_000;

const LABELLED: u32 = 1;
const UNLABELLED: u32 = 2;
const SCANNED: u32 = 3;
const PROMISED: u32 = 4;
const UNPROMISED: u32 = 5;
const MET: u32 = 6;

/// What the changes of a parcel tell.
pub static SCHEMA: LifeSchema = LifeSchema {
    name: "parcel",
    stream: Stream::Couriers,
    changes: &Enumeration {
        name: "parcel change",
        values: &[
            ("NONE", 0),
            // Its label was made.
            ("LABELLED", LABELLED),
            // It was called off before its courier had it.
            ("UNLABELLED", UNLABELLED),
            // Its courier scanned it for the first time.
            ("SCANNED", SCANNED),
            // It was promised for an hour, or moved to it.
            ("PROMISED", PROMISED),
            // The promise was moved away, or is none any more.
            ("UNPROMISED", UNPROMISED),
            // It came by the hour for which it was promised.
            ("MET", MET),
        ],
    },
    wholes: &[
        ("labelled_at", Whole::Time),
        ("promised_at", Whole::Time),
        // Since the label was made.
        ("age", Whole::Duration),
    ],
    texts: &["courier", "warehouse", "lane", "campaign"],
    // It was heard of before it was on its way, so that it stands for all of its kind.
    flags: &["from_the_start", "labelled"],
};

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

impl Parcel {
    fn tell(&self, number: u32, at_ms: i64, each: &mut dyn FnMut(Change<'_>)) {
        each(Change {
            number,
            wholes: [
                self.labelled_ms,
                self.promised_ms,
                at_ms - self.labelled_ms,
                0,
            ],
            texts: [
                &self.courier,
                &self.warehouse,
                &self.lane,
                &self.campaign,
                "",
                "",
            ],
            flags: u32::from(self.from_the_start) | u32::from(self.labelled_ms != 0) << 1,
        });
    }

    /// Takes what the event tells for the first time. What counts have been made under stays.
    fn learn(&mut self, courier: &Courier<'_>) {
        let fill = |into: &mut String, told: &str| {
            if into.is_empty() {
                into.push_str(told);
            }
        };
        if self.labelled_ms == 0 && self.promised_ms == 0 {
            fill(&mut self.courier, &courier.courier_id);
            fill(&mut self.warehouse, &courier.warehouse_id);
            fill(&mut self.campaign, &courier.campaign_id);
            if self.lane.is_empty() && !courier.origin_region.is_empty() {
                self.lane = format!("{}>{}", courier.origin_region, courier.dest_region);
            }
        }
    }
}

/// Takes a courier event into the tracker of its parcel, and tells each change.
///
/// A parcel that is closed stays closed: what comes after (a scan that overtook another, a second
/// delivery) changes nothing.
pub fn fold(
    courier: &Courier<'_>,
    at_ms: i64,
    tracker: &mut Option<Parcel>,
    each: &mut dyn FnMut(Change<'_>),
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
    parcel.learn(courier);
    if courier.status == Status::LabelCreated && parcel.labelled_ms == 0 && !parcel.scanned {
        parcel.labelled_ms = at_ms;
        parcel.tell(LABELLED, at_ms, each);
    }
    // A promise was made, or moved: what was counted under the old hour moves to the new one.
    if let Some(promised) = courier.promised_by
        && promised.0 != parcel.promised_ms
        && promised.0 <= at_ms + PROMISE_AHEAD_MS_MAX
    {
        if parcel.promised_ms != 0 {
            parcel.tell(UNPROMISED, at_ms, each);
        }
        parcel.promised_ms = promised.0;
        if parcel.promised_ms != 0 {
            parcel.tell(PROMISED, at_ms, each);
        }
    }
    let is_paper = matches!(
        courier.status,
        Status::LabelCreated | Status::EtaChanged | Status::Cancelled
    );
    if !is_paper && !parcel.scanned {
        parcel.scanned = true;
        parcel.tell(SCANNED, at_ms, each);
    }
    match courier.status {
        Status::Delivered => {
            if at_ms <= parcel.promised_ms {
                parcel.tell(MET, at_ms, each);
            }
            parcel.closed_ms = at_ms;
        }
        Status::Cancelled => {
            if !parcel.scanned {
                parcel.tell(UNLABELLED, at_ms, each);
            }
            if parcel.promised_ms != 0 {
                parcel.tell(UNPROMISED, at_ms, each);
            }
            parcel.closed_ms = at_ms;
        }
        Status::Returned | Status::Lost | Status::Damaged => parcel.closed_ms = at_ms,
        _ => {}
    }
}
