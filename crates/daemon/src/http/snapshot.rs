//! The snapshot: what one screen shows, small enough to be pushed twice a second.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use fenghuo_alert::{Grade, Severity, Transition};
use fenghuo_engine::Set;
use fenghuo_engine::view::{ChartPoint, OpenGroup, Outcome, Published, Rank, Totals, View};
use fenghuo_signal::catalogue::ShownAs;
use fenghuo_signal::{Entity, Kind, Reading, ReadingState, Signal};
use serde::Serialize;

use super::Shown;
use super::episode::{EpisodeRow, by_episode};
use crate::conditions::Standing;

const CAMPAIGNS_MAX: usize = 6;
/// The panel of the chart.
const SALES: &str = "sales";
/// Skus with the most orders: the pool that those shown come from, where there are many.
const HOT_SKUS: usize = 60;
/// Readings of a signal that are all looked at.
const RANKED_MAX: usize = 20_000;
const ROWS_MAX: usize = 12;
const TABLES_MAX: usize = 16;
/// Rules whose alerts are shown, and alerts of each: a storm of one must not hide another.
const GROUPS_MAX: usize = 24;
const ALIKE_MAX: usize = 4;
const PAST_MAX: usize = 20;
const CONDITIONS_MAX: usize = 12;

/// What is shown; times are Unix ms.
#[derive(Serialize)]
struct Snapshot<'a> {
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
    campaigns: Vec<Campaign<'a>>,
    tables: Vec<Table<'a>>,
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
struct Campaign<'a> {
    name: String,
    totals: Option<Totals>,
    /// Those of the sales panel, as the catalogue has them.
    readings: Vec<Told<'a>>,
    chart: Vec<ChartPoint>,
}

/// How a signal is called and shown.
#[derive(Serialize)]
struct Head<'a> {
    signal: &'a str,
    title: &'a BTreeMap<Box<str>, Box<str>>,
    #[serde(rename = "as")]
    shown_as: ShownAs,
}

/// A signal's reading about a campaign.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    reading: Reading,
    grade: Grade,
}

/// The worst readings of a signal.
#[derive(Serialize)]
struct Table<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    panel: &'a str,
    /// What stands beside each.
    beside: Option<Head<'a>>,
    rows: Vec<Row>,
    /// Readings that cannot be judged, none of which is among the rows.
    unjudged: usize,
}

/// A reading and what it is about.
#[derive(Serialize)]
struct Row {
    kind: &'static str,
    name: String,
    reading: Reading,
    grade: Grade,
    /// Where it lies on a scale that has the limits on it, 0 to 1.
    bar: Option<f64>,
    beside: Option<Reading>,
}

/// The snapshot of now, as JSON.
pub(super) fn render(shown: &Shown) -> String {
    let view = &shown.view;
    let groups = view.open_groups(GROUPS_MAX, ALIKE_MAX);
    let past = view.closed_newest(PAST_MAX);
    let deliveries = {
        let open = groups.iter().flat_map(|group| &group.newest);
        let episodes = open.chain(&past).map(|last| last.episode.as_str());
        let wanted: HashSet<&str> = episodes.collect();
        by_episode(view.deliveries_about(&|episode| wanted.contains(episode)))
    };
    let row = |last| EpisodeRow::new(last, &deliveries);
    let alerts = view.alert_counts();
    let count = |severity| {
        let of_severity = alerts.iter().filter(|(_, of, _)| *of == severity);
        of_severity.map(|(_, _, count)| *count as usize).sum()
    };
    let now_ms = (shown.now_ms)();
    let (events, refused) = events(view);
    let known = shown.identity.known();
    let set = shown.set.get();
    let snapshot = Snapshot {
        now_ms,
        shop: known.shop.unwrap_or_default(),
        currency: known.currency,
        utc_offset_min: known.utc_offset_min.unwrap_or(0),
        utc_offset_assumed: known.utc_offset_min.is_none(),
        not_ready: (shown.ready)().err(),
        conditions: shown.conditions.gravest(CONDITIONS_MAX),
        panes: Some((shown.view.shards(), shown.panes_partitions)).filter(|(held, all)| held < all),
        events,
        refused,
        sources: sources(view, now_ms),
        totals: view.totals_of(&Entity::shop()),
        campaigns: campaigns(shown, &set),
        tables: tables(shown, &set),
        pages_open: count(Severity::Page),
        warnings_open: count(Severity::Warn),
        groups: groups.into_iter().map(|of| group(of, &row)).collect(),
        past: past.into_iter().map(row).collect(),
    };
    // Texts and numbers always have a JSON form; a number that is none becomes null.
    serde_json::to_string(&snapshot).unwrap_or_default()
}

fn events(view: &View) -> (u64, u64) {
    let (mut taken, mut refused) = (0, 0);
    for (_, outcome, count) in view.events() {
        match outcome {
            Outcome::Accepted | Outcome::Late => taken += count,
            Outcome::Rejected => refused += count,
            Outcome::Duplicate | Outcome::Tombstone => {}
        }
    }
    (taken, refused + view.refused_unknown())
}

fn sources(view: &View, now_ms: i64) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for (topic, _, standing) in view.sources() {
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
fn campaigns<'a>(shown: &Shown, set: &'a Set) -> Vec<Campaign<'a>> {
    let view = &shown.view;
    let told = |campaign: &Entity| {
        let signals = set.catalogue.signals().iter();
        let of_sales = signals.filter(|signal| &*signal.panel == SALES);
        let told = of_sales.filter_map(|signal| {
            let reading = view.reading(&signal.name, campaign)?.reading;
            let graded = set.rules.grade(&signal.name, campaign, &reading);
            Some(Told {
                head: head(signal),
                reading,
                grade: graded.grade,
            })
        });
        told.collect()
    };
    let charts = view.charts_largest(CAMPAIGNS_MAX).into_iter();
    charts
        .map(|(campaign, chart)| Campaign {
            totals: view.totals_of(&campaign),
            readings: told(&campaign),
            name: campaign.first.to_string(),
            chart,
        })
        .collect()
}

fn head(signal: &Signal) -> Head<'_> {
    Head {
        signal: &signal.name,
        title: &signal.title,
        shown_as: signal.shown_as,
    }
}

/// The worst readings of every signal that has some, those of the worst signals first.
fn tables<'a>(shown: &Shown, set: &'a Set) -> Vec<Table<'a>> {
    let catalogue = &set.catalogue;
    let signals = catalogue.signals();
    let beside = |signal: &Signal| {
        signals
            .iter()
            .any(|of| of.beside.as_deref() == Some(&signal.name))
    };
    let shown_alone = signals
        .iter()
        .filter(|signal| &*signal.panel != SALES && !beside(signal));
    let mut tables: Vec<(Grade, Table<'_>)> = shown_alone
        .filter_map(|signal| table(shown, set, signal))
        .collect();
    // Equal ones stay in the catalogue's order.
    tables.sort_by_key(|(grade, _)| Reverse(*grade));
    tables.truncate(TABLES_MAX);
    tables.into_iter().map(|(_, table)| table).collect()
}

fn table<'a>(shown: &Shown, set: &'a Set, signal: &'a Signal) -> Option<(Grade, Table<'a>)> {
    let (view, rules) = (&shown.view, &set.rules);
    let unjudged = Cell::new(0);
    let rank = |entity: &Entity, reading: &Reading| {
        if reading.state != ReadingState::Ok {
            unjudged.set(unjudged.get() + 1);
            return None;
        }
        Some((rules.grade(&signal.name, entity, reading).rank(), reading.n))
    };
    // Beyond so many all of them would be looked at for too long: those that sell most are.
    let worst = match view.readings_count(&signal.name) {
        0 => return None,
        1..=RANKED_MAX => view.readings_ranked(&signal.name, ROWS_MAX, &rank),
        _ => selling(shown, signal, &rank),
    };
    let beside = signal.beside.as_deref();
    let beside = beside.and_then(|name| set.catalogue.signal(name));
    let row = |(entity, published): (Entity, Published)| {
        let graded = rules.grade(&signal.name, &entity, &published.reading);
        let beside = beside.and_then(|signal| view.reading(&signal.name, &entity));
        Row {
            kind: entity.kind.name(),
            name: match entity.second.as_str() {
                "" => entity.first.to_string(),
                second => format!("{} · {second}", entity.first),
            },
            reading: published.reading,
            grade: graded.grade,
            bar: graded.bar,
            beside: beside.map(|published| published.reading),
        }
    };
    let rows: Vec<Row> = worst.into_iter().map(row).collect();
    let grade = rows.first().map_or(Grade::None, |row| row.grade);
    let table = Table {
        head: head(signal),
        panel: &signal.panel,
        beside: beside.map(head),
        rows,
        unjudged: unjudged.get(),
    };
    Some((grade, table))
}

/// The worst readings about the skus with the most orders.
fn selling(shown: &Shown, signal: &Signal, rank: &Rank<'_>) -> Vec<(Entity, Published)> {
    let hot = shown.view.totals_most(Kind::SKU, HOT_SKUS).into_iter();
    let mut ranked: Vec<_> = hot
        .filter_map(|(entity, _)| {
            let published = shown.view.reading(&signal.name, &entity)?;
            Some((rank(&entity, &published.reading)?, entity, published))
        })
        .collect();
    ranked.sort_by(|((a, _), ..), ((b, _), ..)| b.total_cmp(a));
    ranked.truncate(ROWS_MAX);
    let ranked = ranked.into_iter();
    ranked
        .map(|(_, entity, published)| (entity, published))
        .collect()
}
