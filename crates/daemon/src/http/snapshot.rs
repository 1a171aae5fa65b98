//! The snapshot: what one screen shows, small enough to be pushed twice a second.

use std::cmp::Reverse;

use fenghuo_alert::{Severity, Transition};
use fenghuo_engine::board::{Board, ChartPoint, Outcome, Totals};
use fenghuo_signal::{Entity, Kind, Reading, ReadingState};
use serde::Serialize;

use super::Shown;
use super::episode::{EpisodeRow, by_episode};

const CAMPAIGNS_MAX: usize = 6;
/// Skus with the most orders: the pool that those shown come from.
const HOT_SKUS: usize = 60;
const SKUS_MAX: usize = 12;
const PARCEL_ROWS_MAX: usize = 8;
/// Rules whose alerts are shown, and alerts of each: a storm of one must not hide another.
const GROUPS_MAX: usize = 24;
const ALIKE_MAX: usize = 4;
const PAST_MAX: usize = 20;

/// What is shown; times are Unix ms.
#[derive(Serialize)]
struct Snapshot {
    now_ms: i64,
    shop: String,
    currency: Option<String>,
    utc_offset_min: i32,
    /// No one has told a time zone, and UTC stands for it.
    utc_offset_assumed: bool,
    /// Why it is not ready, if so.
    not_ready: Option<String>,
    /// Of how many partitions of the panes this is all, where others hold the rest.
    panes: Option<(usize, usize)>,
    /// Messages taken since the process began.
    events: u64,
    refused: u64,
    sources: Vec<Source>,
    totals: Option<Totals>,
    campaigns: Vec<Campaign>,
    skus: Vec<Sku>,
    late: Vec<Row>,
    first_scan: Vec<Row>,
    pages_open: usize,
    warnings_open: usize,
    groups: Vec<Group>,
    past: Vec<EpisodeRow>,
}

/// Open alerts of one rule and severity.
#[derive(Serialize)]
struct Group {
    severity: Severity,
    rule: String,
    /// How many there are.
    open: usize,
    /// The newest of them.
    alerts: Vec<EpisodeRow>,
}

/// Where a topic stands.
#[derive(Serialize)]
struct Source {
    topic: String,
    newest_ms: Option<i64>,
    /// How far its reading lies behind the shop; 0 at its end.
    behind_ms: i64,
}

#[derive(Serialize)]
struct Campaign {
    name: String,
    totals: Option<Totals>,
    pace: Option<Reading>,
    chart: Vec<ChartPoint>,
}

#[derive(Serialize)]
struct Sku {
    name: String,
    orders: i64,
    cover: Option<Reading>,
    available: Option<Reading>,
}

/// A reading and what it is about.
#[derive(Serialize)]
struct Row {
    kind: &'static str,
    name: String,
    reading: Reading,
}

/// The snapshot of now, as JSON.
pub(super) fn render(shown: &Shown) -> String {
    let board = &shown.board;
    let totals = board.totals();
    let deliveries = by_episode(board.deliveries());
    let row = |last| EpisodeRow::new(last, &deliveries);
    let open = board.open();
    let count = |severity| open.iter().filter(|last| last.severity == severity).count();
    let now_ms = (shown.now_ms)();
    let (events, refused) = events(board);
    let known = shown.identity.known();
    let snapshot = Snapshot {
        now_ms,
        shop: known.shop.unwrap_or_default(),
        currency: known.currency,
        utc_offset_min: known.utc_offset_min.unwrap_or(0),
        utc_offset_assumed: known.utc_offset_min.is_none(),
        not_ready: (shown.ready)().err(),
        panes: Some((shown.board.homes(), shown.panes_partitions)).filter(|(held, all)| held < all),
        events,
        refused,
        sources: sources(board, now_ms),
        totals: of(&totals, &Entity::shop()),
        campaigns: campaigns(board, &totals),
        skus: skus(board, &totals),
        late: rows(board, "parcel.eta_breach", |row| row.reading.lower),
        first_scan: rows(board, "ship.first_scan", |row| {
            row.reading.surprise.max(row.reading.lower * 100.0)
        }),
        pages_open: count(Severity::Page),
        warnings_open: count(Severity::Warn),
        groups: groups(open, &row),
        past: board.closed().into_iter().take(PAST_MAX).map(row).collect(),
    };
    // Texts and numbers always have a JSON form; a number that is none becomes null.
    serde_json::to_string(&snapshot).unwrap_or_default()
}

fn of(totals: &[(Entity, Totals)], entity: &Entity) -> Option<Totals> {
    let found = totals.binary_search_by(|(at, _)| at.cmp(entity)).ok()?;
    totals.get(found).map(|(_, totals)| *totals)
}

fn events(board: &Board) -> (u64, u64) {
    let (mut taken, mut refused) = (0, 0);
    for (_, outcome, count) in board.events() {
        match outcome {
            Outcome::Accepted | Outcome::Late => taken += count,
            Outcome::Rejected => refused += count,
            Outcome::Duplicate | Outcome::Tombstone => {}
        }
    }
    (taken, refused)
}

fn sources(board: &Board, now_ms: i64) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for (topic, _, standing) in board.sources() {
        let behind_ms = match standing.newest_ms {
            Some(newest_ms) if !standing.at_end => now_ms.saturating_sub(newest_ms).max(0),
            _ => 0,
        };
        match sources.last_mut() {
            Some(last) if last.topic == topic => {
                last.newest_ms = last.newest_ms.max(standing.newest_ms);
                last.behind_ms = last.behind_ms.max(behind_ms);
            }
            _ => sources.push(Source {
                topic,
                newest_ms: standing.newest_ms,
                behind_ms,
            }),
        }
    }
    sources
}

/// Groups in the order of their first alert: the gravest and newest first.
fn groups(open: Vec<Transition>, row: &dyn Fn(Transition) -> EpisodeRow) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for last in open {
        let found = groups
            .iter()
            .position(|group| group.severity == last.severity && group.rule == last.rule);
        match found {
            Some(at) => {
                groups[at].open += 1;
                if groups[at].alerts.len() < ALIKE_MAX {
                    groups[at].alerts.push(row(last));
                }
            }
            None if groups.len() < GROUPS_MAX => groups.push(Group {
                severity: last.severity,
                rule: last.rule.clone(),
                open: 1,
                alerts: vec![row(last)],
            }),
            None => {}
        }
    }
    groups
}

/// Campaigns with a plan, the largest first.
fn campaigns(board: &Board, totals: &[(Entity, Totals)]) -> Vec<Campaign> {
    let mut charts = board.charts();
    let planned = |points: &[ChartPoint]| points.iter().map(|point| point.planned).sum::<f64>();
    charts.sort_by(|(_, a), (_, b)| planned(b).total_cmp(&planned(a)));
    let charts = charts.into_iter().take(CAMPAIGNS_MAX);
    charts
        .map(|(campaign, chart)| Campaign {
            totals: of(totals, &campaign),
            pace: board.reading("sales.pace", &campaign).map(|p| p.reading),
            name: campaign.first.to_string(),
            chart,
        })
        .collect()
}

/// Of the skus with the most orders those that last the shortest.
fn skus(board: &Board, totals: &[(Entity, Totals)]) -> Vec<Sku> {
    let mut hot: Vec<_> = totals
        .iter()
        .filter(|(entity, _)| entity.kind == Kind::Sku)
        .collect();
    hot.sort_by_key(|(_, totals)| Reverse(totals.orders));
    let mut skus: Vec<Sku> = hot
        .into_iter()
        .take(HOT_SKUS)
        .map(|(entity, totals)| Sku {
            name: entity.first.to_string(),
            orders: totals.orders,
            cover: board
                .reading("stock.hours_of_cover", entity)
                .map(|published| published.reading),
            available: board
                .reading("stock.available_to_promise", entity)
                .map(|published| published.reading),
        })
        .collect();
    let hours = |sku: &Sku| match &sku.cover {
        Some(cover) if cover.state == ReadingState::Ok => cover.value,
        _ => f64::MAX,
    };
    skus.sort_by(|a, b| hours(a).total_cmp(&hours(b)));
    skus.truncate(SKUS_MAX);
    skus
}

/// The worst readings of a signal about parcels.
fn rows(board: &Board, signal: &str, badness: impl Fn(&Row) -> f64) -> Vec<Row> {
    let mut rows: Vec<Row> = board
        .readings_of(signal)
        .into_iter()
        .filter(|(entity, published)| {
            entity.kind != Kind::Campaign && published.reading.state == ReadingState::Ok
        })
        .map(|(entity, published)| Row {
            kind: entity.kind.name(),
            name: match entity.second.as_str() {
                "" => entity.first.to_string(),
                second => format!("{} · {second}", entity.first),
            },
            reading: published.reading,
        })
        .collect();
    rows.sort_by(|a, b| {
        let worse = badness(b).total_cmp(&badness(a));
        worse.then_with(|| b.reading.n.cmp(&a.reading.n))
    });
    rows.truncate(PARCEL_ROWS_MAX);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::filled;

    #[test]
    fn a_storm_of_one_rule_does_not_hide_another() {
        let one = filled().0.open().remove(0);
        let of = |rule: &str, number: usize| Transition {
            rule: rule.to_owned(),
            episode: format!("{rule}{number}"),
            ..one.clone()
        };
        let mut open: Vec<_> = (0..500).map(|number| of("storm", number)).collect();
        open.push(of("alone", 0));
        let deliveries = std::collections::HashMap::new();
        let found = groups(open, &|last| EpisodeRow::new(last, &deliveries));
        let shape: Vec<_> = found
            .iter()
            .map(|group| (group.rule.as_str(), group.open, group.alerts.len()))
            .collect();
        assert_eq!(shape, [("storm", 500, ALIKE_MAX), ("alone", 1, 1)]);
    }
}
