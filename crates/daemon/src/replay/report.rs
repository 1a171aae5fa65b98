//! What a replay came to, and its form for programs.
//!
//! Every list has an order of its own, so that the same outcome is the same text.

use std::ops::Sub;

use fenghuo_alert::{Severity, Transition};
use fenghuo_engine::View;
use fenghuo_engine::view::Totals;
use fenghuo_event::Timestamp;
use fenghuo_signal::{Entity, Kind};
use serde::{Serialize, Serializer};

/// What a replay came to.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// First and last instant, Unix ms; both 0 where there was no event.
    #[serde(skip)]
    pub span_ms: (i64, i64),
    /// Why events were rejected, beyond those that no file could be read for, and how many.
    #[serde(skip)]
    pub reasons: Vec<(&'static str, u64)>,
    /// Events.
    pub events: Events,
    /// CSV rows that no event holds; absent where no file is CSV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<Rows>,
    /// What was sold.
    pub totals: Sold,
    /// Episodes that fired, by when they did.
    pub episodes: Vec<Episode>,
}

/// Events by what became of them: read is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Events {
    /// All.
    pub read: u64,
    /// Counted in panes, levels and totals.
    pub accepted: u64,
    /// Could not be taken.
    pub rejected: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Counted in levels and totals, in panes no more.
    pub late: u64,
}

impl Sub for Events {
    type Output = Events;

    fn sub(self, other: Events) -> Events {
        Events {
            read: self.read - other.read,
            accepted: self.accepted - other.accepted,
            rejected: self.rejected - other.rejected,
            duplicate: self.duplicate - other.duplicate,
            late: self.late - other.late,
        }
    }
}

/// CSV rows that no event holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// They do not fit the mapping.
    pub rejected: u64,
    /// The mapping says that they are no orders.
    pub skipped: u64,
}

/// What was sold, in all and by campaign and sku.
#[derive(Debug, Default, Serialize)]
pub struct Sold {
    /// In all.
    pub shop: Amounts,
    /// By campaign, sorted.
    pub campaigns: Vec<CampaignSold>,
    /// By sku, sorted.
    pub skus: Vec<SkuSold>,
}

/// A campaign's row.
#[derive(Debug, Serialize)]
pub struct CampaignSold {
    /// Its id.
    pub campaign: String,
    /// What it sold.
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// A sku's row.
#[derive(Debug, Serialize)]
pub struct SkuSold {
    /// Its id.
    pub sku: String,
    /// What it sold.
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// Orders, units and revenue, and of these what was cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amounts {
    /// Paid orders.
    pub orders: i64,
    /// Units paid.
    pub units: i64,
    /// Revenue paid, minor units.
    pub revenue_minor: i64,
    /// Cancelled orders.
    pub cancelled_orders: i64,
    /// Units cancelled.
    pub cancelled_units: i64,
    /// Revenue cancelled, minor units.
    pub cancelled_revenue_minor: i64,
}

impl From<Totals> for Amounts {
    fn from(totals: Totals) -> Self {
        Self {
            orders: totals.orders,
            units: totals.units,
            revenue_minor: totals.revenue_minor,
            cancelled_orders: totals.cancelled_orders,
            cancelled_units: totals.cancelled_units,
            cancelled_revenue_minor: totals.cancelled_revenue_minor,
        }
    }
}

/// An episode as it stood at the end.
#[derive(Debug, Serialize)]
pub struct Episode {
    /// Its id.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// The signal.
    pub signal: String,
    /// What it is about.
    pub entity: Entity,
    /// The highest severity that it reached.
    pub severity: Severity,
    /// When it began, Unix ms.
    #[serde(rename = "pending_at", serialize_with = "time")]
    pub pending_at_ms: i64,
    /// When it first fired, Unix ms.
    #[serde(rename = "fired_at", serialize_with = "time_or_null")]
    pub fired_at_ms: Option<i64>,
    /// When it was resolved, Unix ms; `None` while it is open.
    #[serde(rename = "resolved_at", serialize_with = "time_or_null")]
    pub resolved_at_ms: Option<i64>,
    /// The number furthest beyond its limit.
    pub peak: f64,
}

impl From<Transition> for Episode {
    fn from(last: Transition) -> Self {
        Self {
            id: last.episode,
            rule: last.rule,
            signal: last.signal,
            entity: last.entity,
            severity: last.severity,
            pending_at_ms: last.pending_at_ms,
            fired_at_ms: last.fired_at_ms,
            resolved_at_ms: last.resolved_at_ms,
            peak: last.peak,
        }
    }
}

fn time<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Timestamp(*ms))
}

fn time_or_null<S: Serializer>(ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match ms {
        Some(ms) => time(ms, serializer),
        None => serializer.serialize_none(),
    }
}

impl Report {
    /// The report of a history from the view at its end and the last step of each episode.
    pub fn new(
        span_ms: (i64, i64),
        events: Events,
        view: &View,
        episodes: Vec<Transition>,
    ) -> Self {
        let mut sold = Sold::default();
        for (entity, totals) in view.totals() {
            let (id, amounts) = (entity.first.to_string(), Amounts::from(totals));
            match entity.kind {
                Kind::SHOP => sold.shop = amounts,
                Kind::CAMPAIGN => sold.campaigns.push(CampaignSold {
                    campaign: id,
                    amounts,
                }),
                Kind::SKU => sold.skus.push(SkuSold { sku: id, amounts }),
                _ => {}
            }
        }
        let mut episodes: Vec<Episode> = episodes.into_iter().map(Episode::from).collect();
        episodes.sort_by(|a, b| (a.fired_at_ms, &a.id).cmp(&(b.fired_at_ms, &b.id)));
        let mut reasons = view.dead_letters();
        // Counted, and not rejected.
        reasons.retain(|(reason, _)| *reason != "late");
        Self {
            span_ms,
            reasons,
            events,
            rows: None,
            totals: sold,
            episodes,
        }
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
