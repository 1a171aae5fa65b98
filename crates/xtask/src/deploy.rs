//! What the files in `deploy/` may say: the daemon's metrics, and the queries built on them.
//!
//! It owns the list of metrics that dashboards and rules can rely on. It must never need a
//! service: that a query returns data is shown end to end, on a real Prometheus.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::tidy::Finding;

/// The dashboard, below the workspace's root.
pub const DASHBOARD: &str = "deploy/grafana/dashboards/fenghuo.json";

/// Prometheus rules that watch the watcher, below the workspace's root.
pub const RULES: &str = "deploy/prometheus/rules.yml";

/// Panels that show no data and need no query.
const PANELS_WITHOUT_QUERY: &[&str] = &["row", "text"];

/// Labels that Prometheus adds to whatever it scrapes, and to buckets.
const LABELS_OF_PROMETHEUS: &[&str] = &["job", "instance", "le"];

/// How a metric is exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposed {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

/// A metric of the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, without the suffixes of a histogram.
    pub name: &'static str,
    /// How it is exposed.
    pub exposed: Exposed,
    /// Its labels.
    pub labels: &'static [&'static str],
}

const fn metric(name: &'static str, exposed: Exposed, labels: &'static [&'static str]) -> Metric {
    Metric {
        name,
        exposed,
        labels,
    }
}

/// Every metric of the daemon.
pub const METRICS: &[Metric] = &[
    metric(
        "fenghuo_events_total",
        Exposed::Counter,
        &["stream", "outcome"],
    ),
    metric(
        "fenghuo_consumer_lag_records",
        Exposed::Gauge,
        &["stage", "topic", "partition"],
    ),
    metric(
        "fenghuo_watermark_delay_seconds",
        Exposed::Gauge,
        &["topic"],
    ),
    metric(
        "fenghuo_commit_duration_seconds",
        Exposed::Histogram,
        &["stage"],
    ),
    metric("fenghuo_judge_duration_seconds", Exposed::Histogram, &[]),
    metric("fenghuo_view_entries", Exposed::Gauge, &["map"]),
    metric("fenghuo_view_entries_limit", Exposed::Gauge, &["map"]),
    metric("fenghuo_alerts", Exposed::Gauge, &["state", "severity"]),
    metric(
        "fenghuo_deliveries_total",
        Exposed::Counter,
        &["channel", "outcome"],
    ),
    metric("fenghuo_append_to_page_seconds", Exposed::Histogram, &[]),
    metric("fenghuo_reading", Exposed::Gauge, &["signal", "entity"]),
    metric("fenghuo_readings", Exposed::Gauge, &["signal", "state"]),
    metric("fenghuo_dead_letters_total", Exposed::Counter, &["reason"]),
    metric("fenghuo_source_holes_total", Exposed::Counter, &[]),
    metric(
        "fenghuo_watchdog_beats_total",
        Exposed::Counter,
        &["outcome"],
    ),
    metric("fenghuo_build_info", Exposed::Gauge, &["version"]),
    metric("fenghuo_ready", Exposed::Gauge, &[]),
    metric("fenghuo_undelivered_pages_total", Exposed::Counter, &[]),
    metric("fenghuo_condition", Exposed::Gauge, &["name", "about"]),
    metric(
        "fenghuo_intake_refused_total",
        Exposed::Counter,
        &["reason"],
    ),
    metric("fenghuo_files_rejected_total", Exposed::Counter, &[]),
    metric(
        "fenghuo_http_crowded_total",
        Exposed::Counter,
        &["what", "reason"],
    ),
];

/// One query of one panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The panel's title.
    pub panel: String,
    /// The query, in PromQL, with nothing left to fill in.
    pub expr: String,
}

#[derive(Deserialize)]
struct Dashboard {
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
struct Panel {
    #[serde(default)]
    title: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    targets: Vec<Target>,
    #[serde(default)]
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    expr: String,
}

/// Every query of the dashboard in the workspace at `root`.
pub fn dashboard_queries(root: &Path) -> Result<Vec<Query>> {
    let path = root.join(DASHBOARD);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let panels = panels_of(&text).with_context(|| format!("reading {}", path.display()))?;
    Ok(panels
        .into_iter()
        .flat_map(|panel| {
            let Panel { title, targets, .. } = panel;
            targets.into_iter().map(move |target| Query {
                panel: title.clone(),
                expr: target.expr,
            })
        })
        .collect())
}

/// Checks the dashboard and the rules of the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let read = |name: &str| {
        let path = root.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let mut findings = check_dashboard(&read(DASHBOARD)?);
    findings.extend(check_names(RULES, &read(RULES)?));
    Ok(findings)
}

/// The panels, those inside folded rows too.
fn panels_of(text: &str) -> serde_json::Result<Vec<Panel>> {
    let mut waiting = serde_json::from_str::<Dashboard>(text)?.panels;
    waiting.reverse();
    let mut panels = Vec::new();
    while let Some(mut panel) = waiting.pop() {
        waiting.extend(panel.panels.drain(..).rev());
        panels.push(panel);
    }
    Ok(panels)
}

/// Every panel asks for something, and only for what the daemon exposes.
fn check_dashboard(text: &str) -> Vec<Finding> {
    let panels = match panels_of(text) {
        Ok(panels) => panels,
        Err(error) => return vec![Finding::new(DASHBOARD, format!("is no dashboard: {error}"))],
    };
    let mut findings = Vec::new();
    for panel in panels
        .iter()
        .filter(|panel| !PANELS_WITHOUT_QUERY.contains(&panel.kind.as_str()))
    {
        let place = format!("{DASHBOARD}, panel `{}`", panel.title);
        if panel.targets.is_empty() {
            findings.push(Finding::new(&place, "has no query"));
        }
        for Target { expr } in &panel.targets {
            if metrics_in(expr).next().is_none() {
                findings.push(Finding::new(
                    &place,
                    format!("asks for no metric of ours: `{expr}`"),
                ));
            }
            if expr.contains('$') {
                // A variable of Grafana's would keep the query from being run without Grafana.
                findings.push(Finding::new(&place, format!("has a variable: `{expr}`")));
            }
            findings.extend(check_names(&place, expr));
            findings.extend(check_labels(&place, expr));
        }
    }
    findings
}

/// Every metric named in `text` exists, in the form in which it is asked for.
fn check_names(place: &str, text: &str) -> Vec<Finding> {
    metrics_in(text)
        .filter(|name| find(name).is_none())
        .map(|name| Finding::new(place, format!("`{name}` is no metric of the daemon")))
        .collect()
}

/// Every label in a matcher or a grouping belongs to a metric of the same query.
fn check_labels(place: &str, expr: &str) -> Vec<Finding> {
    let known: Vec<&str> = metrics_in(expr)
        .filter_map(find)
        .flat_map(|metric| metric.labels.iter().copied())
        .collect();
    labels_in(expr)
        .into_iter()
        .filter(|label| !known.contains(label) && !LABELS_OF_PROMETHEUS.contains(label))
        .map(|label| {
            Finding::new(
                place,
                format!("no metric of `{expr}` has the label `{label}`"),
            )
        })
        .collect()
}

/// The metric that a query means by `name`; a histogram is asked for by its parts.
fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| match metric.exposed {
        Exposed::Counter | Exposed::Gauge => metric.name == name,
        Exposed::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|part| name.strip_suffix(part) == Some(metric.name)),
    })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_name(c))
        .filter(|word| word.starts_with("fenghuo_"))
}

/// Names within `{…}`, before an operator, and within the brackets after `by`, `without`, `on`,
/// `ignoring`, `group_left` and `group_right`.
fn labels_in(expr: &str) -> Vec<&str> {
    let mut labels = Vec::new();
    for (start, _) in expr.match_indices('{') {
        let matchers = expr[start + 1..].split('}').next().unwrap_or_default();
        // Odd pieces are quoted values; a name stands at the end of an even one.
        for piece in matchers.split('"').step_by(2) {
            let name = piece.trim_matches(|c| !is_name(c));
            labels.extend((!name.is_empty()).then_some(name));
        }
    }
    for keyword in [
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
    ] {
        for (start, _) in expr.match_indices(keyword) {
            let after = expr[start + keyword.len()..].trim_start();
            let alone = !expr[..start].ends_with(is_name);
            if let Some(list) = after.strip_prefix('(').filter(|_| alone) {
                let list = list.split(')').next().unwrap_or_default();
                labels.extend(
                    list.split(',')
                        .map(str::trim)
                        .filter(|name| !name.is_empty()),
                );
            }
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dashboard(kind: &str, exprs: &[&str]) -> String {
        let targets: Vec<_> = exprs.iter().map(|expr| json!({ "expr": expr })).collect();
        let inner = json!({ "title": "inner", "type": kind, "targets": targets });
        json!({ "panels": [{ "title": "row", "type": "row", "panels": [inner] }] }).to_string()
    }

    fn faults(kind: &str, exprs: &[&str]) -> usize {
        check_dashboard(&dashboard(kind, exprs)).len()
    }

    #[test]
    fn a_panel_that_asks_for_nothing_of_ours_is_found() {
        assert_eq!(faults("text", &[]), 0);
        assert_eq!(faults("stat", &[]), 1);
        assert_eq!(faults("stat", &[""]), 1);
        assert_eq!(faults("stat", &["up"]), 1);
        assert_eq!(faults("stat", &["fenghuo_ready"]), 0);
        assert_eq!(check_dashboard("{").len(), 1);
    }

    #[test]
    fn an_unknown_metric_or_variable_is_found() {
        assert_eq!(faults("stat", &["fenghuo_fires"]), 1);
        assert_eq!(
            faults("stat", &["rate(fenghuo_events_total[$__rate_interval])"]),
            1
        );
        assert_eq!(faults("stat", &["fenghuo_judge_duration_seconds"]), 1);
        assert_eq!(
            faults("stat", &["rate(fenghuo_judge_duration_seconds_bucket[1m])"]),
            0
        );
        assert_eq!(faults("stat", &["fenghuo_ready_count"]), 1);
    }

    #[test]
    fn an_unknown_label_is_found() {
        assert_eq!(
            faults("stat", &["sum by (stream, outcome) (fenghuo_events_total)"]),
            0
        );
        assert_eq!(
            faults("stat", &["sum by (colour) (fenghuo_events_total)"]),
            1
        );
        assert_eq!(
            faults(
                "stat",
                &["fenghuo_alerts{state=\"firing\", severity=~\"page|warn\"}"]
            ),
            0
        );
        assert_eq!(
            faults(
                "stat",
                &["fenghuo_alerts{state=\"firing\", level=\"page\"}"]
            ),
            1
        );
        assert_eq!(
            faults("stat", &["bottomk(3, fenghuo_reading{signal=\"a.b\"})"]),
            0
        );
    }

    #[test]
    fn the_repository_passes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert_eq!(check(&root).unwrap(), []);
        assert!(dashboard_queries(&root).unwrap().len() > 20);
    }
}
