//! Metrics of the view, written anew for each scrape: what is no longer known vanishes.
//!
//! Names from events become labels only for the entities with the most traffic.

use fenghuo_alert::{Severity, State};
use fenghuo_engine::View;
use fenghuo_event::Reason;
use fenghuo_signal::Catalogue;
use fenghuo_signal::catalogue::ShownAs;

use super::exposition::{Exposition, Type};
use super::{Held, Shown};

/// The whole text: what the process measured, then what the view knows.
pub(super) fn render(shown: &Shown) -> String {
    let mut measured = shown.prometheus.render();
    if !measured.is_empty() && !measured.ends_with('\n') {
        measured.push('\n');
    }
    let mut out = Exposition::after(measured);
    process(shown, &mut out);
    events(&shown.view, &mut out);
    lag(&(shown.held)(), &mut out);
    watermarks(&shown.view, (shown.now_ms)(), &mut out);
    entries(shown, &mut out);
    alerts(&shown.view, &mut out);
    let set = shown.set.get();
    readings(&shown.view, &set.catalogue, shown.top_entities, &mut out);
    out.finish()
}

fn process(shown: &Shown, out: &mut Exposition) {
    out.family(
        "fenghuo_build_info",
        Type::Gauge,
        "Always 1; the label tells the version.",
    )
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let set = shown.set.get();
    let hash = format!("{:016x}", set.hash());
    out.family(
        "fenghuo_set_info",
        Type::Gauge,
        "Always 1; the labels tell which set of catalogue and rules is in force here.",
    )
    .sample(&[("number", &set.number.to_string()), ("hash", &hash)], 1.0);
    let ready = f64::from(u8::from((shown.ready)().is_ok()));
    out.family(
        "fenghuo_ready",
        Type::Gauge,
        "Whether this process works through what comes.",
    )
    .sample(&[], ready);
    let mut family = out.family(
        "fenghuo_condition",
        Type::Gauge,
        "1 for each thing that is wrong with this process itself; /-/ready tells what to do.",
    );
    for standing in shown.conditions.all() {
        let condition = standing.condition;
        let labels = [("name", condition.name), ("about", &*condition.about)];
        family.sample(&labels, 1.0);
    }
}

fn events(view: &View, out: &mut Exposition) {
    let mut events = out.family(
        "fenghuo_events_total",
        Type::Counter,
        "Messages read, by stream and by what became of them.",
    );
    for (stream, outcome, count) in view.events() {
        let labels = [("stream", stream.topic()), ("outcome", outcome.as_str())];
        events.sample(&labels, count as f64);
    }
    let labels = [("stream", "unknown"), ("outcome", "rejected")];
    events.sample(&labels, view.refused_unknown() as f64);
    // Every reason begins at 0, so that the first one is seen as an increase.
    let mut letters: Vec<(&str, u64)> = Reason::ALL.iter().map(|r| (r.as_str(), 0)).collect();
    for (reason, count) in view.dead_letters() {
        match letters.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, known)) => *known = count,
            None => letters.push((reason, count)),
        }
    }
    let mut family = out.family(
        "fenghuo_dead_letters_total",
        Type::Counter,
        "Messages set aside, by reason.",
    );
    for (reason, count) in letters {
        family.sample(&[("reason", reason)], count as f64);
    }
    out.family(
        "fenghuo_undelivered_pages_total",
        Type::Counter,
        "Pages that no channel could deliver.",
    )
    .sample(&[], view.undelivered() as f64);
    out.family(
        "fenghuo_source_holes_total",
        Type::Counter,
        "Ranges of source offsets that no commit covered: something was lost.",
    )
    .sample(&[], view.holes() as f64);
}

fn lag(held: &[Held], out: &mut Exposition) {
    let mut family = out.family(
        "fenghuo_consumer_lag_records",
        Type::Gauge,
        "Records that a stage has yet to read.",
    );
    for row in held {
        let Some(records) = row.behind else { continue };
        let partition = row.partition.to_string();
        let labels = [
            ("stage", row.stage),
            ("topic", &row.topic),
            ("partition", &partition),
        ];
        family.sample(&labels, records as f64);
    }
}

fn watermarks(view: &View, now_ms: i64, out: &mut Exposition) {
    let mut family = out.family(
        "fenghuo_watermark_delay_seconds",
        Type::Gauge,
        "How long ago the event time lies up to which all of a topic is in.",
    );
    let mut delays: Vec<(String, i64)> = Vec::new();
    for (topic, _, standing) in view.sources() {
        // At its end a partition's time passes with the commits.
        let end_ms = standing.at_end.then_some(standing.at_ms);
        let Some(seen_ms) = standing.newest_ms.max(end_ms) else {
            continue;
        };
        let delay_ms = now_ms
            .saturating_sub(seen_ms.saturating_sub(standing.lateness_ms))
            .max(0);
        match delays.last_mut() {
            Some((last, most_ms)) if *last == topic => *most_ms = delay_ms.max(*most_ms),
            _ => delays.push((topic, delay_ms)),
        }
    }
    for (topic, delay_ms) in delays {
        family.sample(&[("topic", &topic)], delay_ms as f64 / 1e3);
    }
}

fn entries(shown: &Shown, out: &mut Exposition) {
    let mut held = out.family(
        "fenghuo_view_entries",
        Type::Gauge,
        "Entries of each bounded map.",
    );
    for (map, entries) in shown.view.entries() {
        held.sample(&[("map", map)], entries as f64);
    }
    let mut limits = out.family(
        "fenghuo_view_entries_limit",
        Type::Gauge,
        "Most entries of each bounded map.",
    );
    for (map, limit) in &shown.limits {
        limits.sample(&[("map", map)], *limit as f64);
    }
}

fn alerts(view: &View, out: &mut Exposition) {
    let mut family = out.family(
        "fenghuo_alerts",
        Type::Gauge,
        "Open episodes by state and by the highest severity reached.",
    );
    let counts = view.alert_counts();
    for state in [State::Firing, State::Recovering, State::Unknown] {
        for severity in [Severity::Warn, Severity::Page] {
            let open: u64 = counts
                .iter()
                .filter(|(of, at, _)| (*of, *at) == (state, severity))
                .map(|(_, _, count)| count)
                .sum();
            let labels = [("state", state.as_str()), ("severity", severity.as_str())];
            family.sample(&labels, open as f64);
        }
    }
}

/// Readings that can be judged, of the entities with the most traffic, and counts of all.
fn readings(view: &View, catalogue: &Catalogue, top: usize, out: &mut Exposition) {
    let mut counts = Vec::new();
    let mut family = out.family(
        "fenghuo_reading",
        Type::Gauge,
        "Value of a signal, in its unit, for the entities with the most traffic; insufficient and unknown \
         readings are left out.",
    );
    for signal in catalogue.signals() {
        let name = &*signal.name;
        let summary = view.summary(name, top);
        for (entity, reading) in &summary.top {
            let labels = [("signal", name), ("entity", &entity.to_string())];
            family.sample(&labels, reading.value);
        }
        let (rest, sum) = summary.rest;
        // Of shares and hours a sum means nothing.
        if signal.shown_as == ShownAs::Count && rest > 0 {
            family.sample(&[("signal", name), ("entity", "other")], sum);
        }
        let of_signal = summary.counts.into_iter();
        counts.extend(of_signal.map(|(state, count)| (name, state, count)));
    }
    let mut family = out.family(
        "fenghuo_readings",
        Type::Gauge,
        "Readings of a signal by state.",
    );
    for (signal, state, count) in counts {
        family.sample(
            &[("signal", signal), ("state", state.as_str())],
            count as f64,
        );
    }
}
