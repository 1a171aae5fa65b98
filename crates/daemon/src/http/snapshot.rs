//! The snapshot: what one screen shows, small enough to be pushed twice a second.

use std::collections::HashSet;

use fenghuo_alert::{Severity, Transition};
use fenghuo_engine::board::{Board, ChartPoint, OpenGroup, Outcome, Totals};
use fenghuo_signal::{Entity, Kind, Reading, ReadingState};
use serde::Serialize;

use super::Shown;
use super::episode::{EpisodeRow, by_episode};
use crate::conditions::Standing;

const CAMPAIGNS_MAX: usize = 6;
/// Skus with the most orders: the pool that those shown come from.
const HOT_SKUS: usize = 60;
const SKUS_MAX: usize = 12;
const PARCEL_ROWS_MAX: usize = 8;
/// Rules whose alerts are shown, and alerts of each: a storm of one must not hide another.
const GROUPS_MAX: usize = 24;
const ALIKE_MAX: usize = 4;
const PAST_MAX: usize = 20;
const CONDITIONS_MAX: usize = 12;

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
    /// What is wrong with the process itself, the gravest first.
    conditions: Vec<Standing>,
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
    let groups = board.open_groups(GROUPS_MAX, ALIKE_MAX);
    let past = board.closed_newest(PAST_MAX);
    let deliveries = {
        let open = groups.iter().flat_map(|group| &group.newest);
        let episodes = open.chain(&past).map(|last| last.episode.as_str());
        let wanted: HashSet<&str> = episodes.collect();
        by_episode(board.deliveries_about(&|episode| wanted.contains(episode)))
    };
    let row = |last| EpisodeRow::new(last, &deliveries);
    let alerts = board.alert_counts();
    let count = |severity| {
        let of_severity = alerts.iter().filter(|(_, of, _)| *of == severity);
        of_severity.map(|(_, _, count)| *count as usize).sum()
    };
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
        conditions: shown.conditions.gravest(CONDITIONS_MAX),
        panes: Some((shown.board.homes(), shown.panes_partitions)).filter(|(held, all)| held < all),
        events,
        refused,
        sources: sources(board, now_ms),
        totals: board.totals_of(&Entity::shop()),
        campaigns: campaigns(board),
        skus: skus(board),
        late: rows(board, "parcel.eta_breach", |reading| reading.lower),
        first_scan: rows(board, "ship.first_scan", |reading| {
            reading.surprise.max(reading.lower * 100.0)
        }),
        pages_open: count(Severity::Page),
        warnings_open: count(Severity::Warn),
        groups: groups.into_iter().map(|of| group(of, &row)).collect(),
        past: past.into_iter().map(row).collect(),
    };
    // Texts and numbers always have a JSON form; a number that is none becomes null.
    serde_json::to_string(&snapshot).unwrap_or_default()
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
    (taken, refused + board.refused_unknown())
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

fn group(of: OpenGroup, row: &dyn Fn(Transition) -> EpisodeRow) -> Group {
    Group {
        severity: of.severity,
        rule: of.rule,
        open: of.open,
        alerts: of.newest.into_iter().map(row).collect(),
    }
}

/// Campaigns with a plan, the largest first.
fn campaigns(board: &Board) -> Vec<Campaign> {
    let charts = board.charts_largest(CAMPAIGNS_MAX).into_iter();
    charts
        .map(|(campaign, chart)| Campaign {
            totals: board.totals_of(&campaign),
            pace: board.reading("sales.pace", &campaign).map(|p| p.reading),
            name: campaign.first.to_string(),
            chart,
        })
        .collect()
}

/// Of the skus with the most orders those that last the shortest.
fn skus(board: &Board) -> Vec<Sku> {
    let hot = board.totals_most(Kind::SKU, HOT_SKUS);
    let mut skus: Vec<Sku> = hot
        .iter()
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
fn rows(board: &Board, signal: &str, badness: impl Fn(&Reading) -> f64) -> Vec<Row> {
    let rank = |entity: &Entity, reading: &Reading| {
        let is_shown = entity.kind != Kind::CAMPAIGN && reading.state == ReadingState::Ok;
        is_shown.then(|| (badness(reading), reading.n))
    };
    let worst = board.readings_ranked(signal, PARCEL_ROWS_MAX, &rank);
    worst
        .into_iter()
        .map(|(entity, published)| Row {
            kind: entity.kind.name(),
            name: match entity.second.as_str() {
                "" => entity.first.to_string(),
                second => format!("{} · {second}", entity.first),
            },
            reading: published.reading,
        })
        .collect()
}
