//! `cargo xtask generate`: what follows from the catalogue in files that people read.
//!
//! It owns the table of signals in the README and the signals' panels of the dashboard. `cargo xtask
//! tidy` says when they are not as they would be generated.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::deploy::DASHBOARD;
use crate::tidy::Finding;

/// The catalogue's files, below the workspace's root.
const CATALOGUE: &str = "crates/signal/catalogue";
const README: &str = "README.md";
const TABLE_BEGIN: &str = "<!-- signals: written by `cargo xtask generate` -->\n";
const TABLE_END: &str = "<!-- end of signals -->\n";
/// The row of the dashboard under which the signals' panels stand.
const ROW: &str = "Signals";
/// Ids of the panels that are written here begin with it.
const PANEL_ID: u64 = 1_000;
const PANELS_A_LINE: u64 = 3;
const PANEL_WIDTH: u64 = 24 / PANELS_A_LINE;
const PANEL_HEIGHT: u64 = 8;

/// A file of the catalogue, as far as it is shown.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    signal: Vec<Signal>,
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Deserialize)]
struct Signal {
    name: String,
    about: String,
    unit: String,
    #[serde(default)]
    title: BTreeMap<String, String>,
    #[serde(default)]
    show: Show,
}

#[derive(Default, Deserialize)]
struct Show {
    #[serde(rename = "as")]
    shown_as: Option<String>,
    beside: Option<String>,
}

#[derive(Deserialize)]
struct Rule {
    signal: String,
    #[serde(default)]
    warn: Vec<Limit>,
    #[serde(default)]
    page: Vec<Limit>,
}

#[derive(Deserialize)]
struct Limit {
    read: String,
    below: Option<f64>,
    above: Option<f64>,
}

/// Everything that is shown of the catalogue.
struct Catalogue {
    signals: Vec<Signal>,
    rules: Vec<Rule>,
}

/// A file as it is to be.
struct Generated {
    path: &'static str,
    found: String,
    expected: String,
}

/// Writes what is not as it is to be.
pub fn run(root: &Path) -> Result<()> {
    for file in all(root)? {
        if file.found != file.expected {
            let path = root.join(file.path);
            fs::write(&path, &file.expected)
                .with_context(|| format!("writing {}", path.display()))?;
            println!("generate: {} is written", file.path);
        }
    }
    Ok(())
}

/// What is not as it would be written.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let differing = all(root)?
        .into_iter()
        .filter(|file| file.found != file.expected);
    let what = "does not follow the catalogue: run `cargo xtask generate`";
    Ok(differing
        .map(|file| Finding::new(file.path, what))
        .collect())
}

fn all(root: &Path) -> Result<[Generated; 2]> {
    let read = |path: &str| {
        let path = root.join(path);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let catalogue = catalogue(root)?;
    let (readme, dashboard) = (read(README)?, read(DASHBOARD)?);
    Ok([
        Generated {
            path: README,
            expected: with_table(&readme, &catalogue)?,
            found: readme,
        },
        Generated {
            path: DASHBOARD,
            expected: with_panels(&dashboard, &catalogue)?,
            found: dashboard,
        },
    ])
}

fn catalogue(root: &Path) -> Result<Catalogue> {
    let folder = root.join(CATALOGUE);
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut catalogue = Catalogue {
        signals: Vec::new(),
        rules: Vec::new(),
    };
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let file: File =
            toml::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        catalogue.signals.extend(file.signal);
        catalogue.rules.extend(file.rule);
    }
    Ok(catalogue)
}

/// The README with its table of signals.
fn with_table(readme: &str, catalogue: &Catalogue) -> Result<String> {
    let (Some((before, rest)), true) = (readme.split_once(TABLE_BEGIN), readme.contains(TABLE_END))
    else {
        bail!("{README} has no place for the table of signals");
    };
    let after = rest.split_once(TABLE_END).map_or("", |(_, after)| after);
    let mut table = "| signal | unit | tells |\n|---|---|---|\n".to_owned();
    for signal in &catalogue.signals {
        let Signal {
            name, unit, about, ..
        } = signal;
        table += &format!("| `{name}` | {unit} | {about} |\n");
    }
    Ok(format!("{before}{TABLE_BEGIN}{table}{TABLE_END}{after}"))
}

/// The dashboard with a panel for each signal, and one for those of a shop's own files.
fn with_panels(dashboard: &str, catalogue: &Catalogue) -> Result<String> {
    let mut dashboard: Value = serde_json::from_str(dashboard).context("reading the dashboard")?;
    let Some(panels) = dashboard["panels"].as_array_mut() else {
        bail!("{DASHBOARD} has no panels");
    };
    let is_row = |panel: &Value| panel["type"] == "row";
    let Some(row) = panels
        .iter()
        .position(|panel| is_row(panel) && panel["title"] == ROW)
    else {
        bail!("{DASHBOARD} has no row {ROW:?}");
    };
    let rest = panels.iter().skip(row + 1).position(is_row);
    let next = rest.map_or(panels.len(), |rows| row + 1 + rows);
    let top = panels[row]["gridPos"]["y"].as_u64().unwrap_or(0) + 1;
    let mut written: Vec<Value> = catalogue
        .signals
        .iter()
        .map(|signal| panel(signal, catalogue))
        .collect();
    written.push(own_panel(catalogue));
    let mut y = top;
    for (at, panel) in (0_u64..).zip(&mut written) {
        y = top + at / PANELS_A_LINE * PANEL_HEIGHT;
        panel["id"] = json!(PANEL_ID + at);
        panel["gridPos"] = json!({
            "h": PANEL_HEIGHT, "w": PANEL_WIDTH, "x": at % PANELS_A_LINE * PANEL_WIDTH, "y": y,
        });
    }
    // What stands below moves with them.
    let below = y + PANEL_HEIGHT;
    let was = panels
        .get(next)
        .and_then(|panel| panel["gridPos"]["y"].as_u64());
    for panel in panels.iter_mut().skip(next) {
        let y = panel["gridPos"]["y"].as_u64().unwrap_or(0);
        panel["gridPos"]["y"] = json!(below + y.saturating_sub(was.unwrap_or(0)));
    }
    panels.splice(row + 1..next, written);
    Ok(format!("{dashboard:#}\n"))
}

fn panel(signal: &Signal, catalogue: &Catalogue) -> Value {
    let name = &signal.name;
    let unit = match signal.show.shown_as.as_deref() {
        Some("percent") => "percentunit",
        Some("hours") => "h",
        Some("seconds") => "s",
        _ => "none",
    };
    let limits = limits(signal, catalogue);
    let most = match limits.iter().any(|(_, _, is_below)| *is_below) {
        true => "bottomk",
        false => "topk",
    };
    let of_value: Vec<_> = limits.iter().filter(|(_, at, _)| at.is_some()).collect();
    let mut defaults = json!({ "unit": unit });
    if of_value.is_empty() {
        defaults["custom"] = custom("off");
    } else {
        defaults["custom"] = custom("dashed");
        defaults["thresholds"] = json!({ "mode": "absolute", "steps": steps(&of_value) });
    }
    let title = signal.title.get("en").unwrap_or(name);
    series(
        title,
        &format!("{name}: {}", signal.about),
        &format!("{most}(10, fenghuo_reading{{signal=\"{name}\"}})"),
        "{{entity}}",
        &defaults,
    )
}

/// Readings of the signals that a shop has added.
fn own_panel(catalogue: &Catalogue) -> Value {
    let names: Vec<&str> = catalogue
        .signals
        .iter()
        .map(|signal| signal.name.as_str())
        .collect();
    let known = names.join("|").replace('.', "\\\\.");
    series(
        "Your own signals",
        "Signals of the files under [catalogue]: the largest twenty readings.",
        &format!("topk(20, fenghuo_reading{{signal!~\"{known}\"}})"),
        "{{signal}} {{entity}}",
        &json!({ "unit": "none", "custom": custom("off") }),
    )
}

/// The limits of a signal's rules: the colour, where it lies if it is one of the value, and whether
/// what lies below it is trouble. Those of the signal that it stands beside tell which end is bad.
fn limits(signal: &Signal, catalogue: &Catalogue) -> Vec<(&'static str, Option<f64>, bool)> {
    let of = |name: &str, is_beside: bool| {
        let rules = catalogue.rules.iter().filter(|rule| rule.signal == name);
        let limits = rules.flat_map(|rule| {
            let warn = rule.warn.iter().map(|limit| ("orange", limit));
            warn.chain(rule.page.iter().map(|limit| ("red", limit)))
        });
        let limits = limits.map(|(colour, limit)| {
            let is_value = limit.read == "value" && !is_beside;
            let at = limit.below.or(limit.above).filter(|_| is_value);
            (colour, at, limit.below.is_some())
        });
        limits.collect::<Vec<_>>()
    };
    let mut limits = of(&signal.name, false);
    let beside = catalogue.signals.iter();
    let mut beside = beside.filter(|of| of.show.beside.as_deref() == Some(&signal.name));
    if let Some(beside) = beside.next() {
        limits.extend(of(&beside.name, true));
    }
    limits
}

/// Steps of a threshold, from low to high: each colours what lies above it.
fn steps(limits: &[&(&'static str, Option<f64>, bool)]) -> Vec<Value> {
    let mut below: Vec<(f64, &str)> = Vec::new();
    let mut above: Vec<(f64, &str)> = Vec::new();
    for (colour, at, is_below) in limits {
        let at = at.unwrap_or(0.0);
        match is_below {
            true => below.push((at, colour)),
            false => above.push((at, colour)),
        }
    }
    below.sort_by(|a, b| a.0.total_cmp(&b.0));
    above.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut steps = Vec::new();
    let mut from = Value::Null;
    for (at, colour) in below {
        steps.push(json!({ "color": colour, "value": from }));
        from = json!(at);
    }
    steps.push(json!({ "color": "transparent", "value": from }));
    for (at, colour) in above {
        steps.push(json!({ "color": colour, "value": at }));
    }
    steps
}

fn custom(thresholds: &str) -> Value {
    json!({
        "lineWidth": 1,
        "fillOpacity": 10,
        "showPoints": "never",
        "spanNulls": 60_000,
        "stacking": { "mode": "none", "group": "A" },
        "scaleDistribution": { "type": "linear" },
        "thresholdsStyle": { "mode": thresholds },
    })
}

fn series(title: &str, about: &str, query: &str, legend: &str, defaults: &Value) -> Value {
    let source = json!({ "type": "prometheus", "uid": "prometheus" });
    json!({
        "datasource": source,
        "type": "timeseries",
        "title": title,
        "description": about,
        "targets": [{ "refId": "A", "datasource": source, "expr": query, "legendFormat": legend }],
        "fieldConfig": { "defaults": defaults, "overrides": [] },
        "options": {
            "legend": { "displayMode": "table", "placement": "right", "calcs": ["lastNotNull"], "showLegend": true },
            "tooltip": { "mode": "multi", "sort": "desc" },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[signal]]
        name = "a.cover"
        about = "how long it lasts"
        unit = "hours"
        title = { en = "Cover" }
        show = { as = "hours", beside = "a.left" }
        [[signal]]
        name = "a.left"
        about = "what is left"
        unit = "units"
        [[rule]]
        signal = "a.cover"
        warn = [{ read = "value", below = 2 }, { read = "lower", below = 0 }]
        page = [{ read = "value", below = 1 }]
    "#;

    fn given() -> Catalogue {
        let File { signal, rule } = toml::from_str(FILE).unwrap();
        Catalogue {
            signals: signal,
            rules: rule,
        }
    }

    #[test]
    fn a_table_stands_where_the_readme_has_its_place() {
        let readme = format!("a\n{TABLE_BEGIN}old\n{TABLE_END}b\n");
        let made = with_table(&readme, &given()).unwrap();
        assert_eq!(
            made,
            format!(
                "a\n{TABLE_BEGIN}| signal | unit | tells |\n|---|---|---|\n| `a.cover` | hours | how long it \
                 lasts |\n| `a.left` | units | what is left |\n{TABLE_END}b\n"
            )
        );
        assert_eq!(with_table(&made, &given()).unwrap(), made);
        assert!(with_table("a\n", &given()).is_err());
    }

    #[test]
    fn panels_stand_under_their_row_and_move_what_is_below() {
        let row =
            |title: &str, y: u64| json!({ "type": "row", "title": title, "gridPos": { "y": y } });
        let old = json!({ "type": "timeseries", "title": "old", "gridPos": { "y": 6 } });
        let below = json!({ "type": "stat", "title": "s", "gridPos": { "y": 20 } });
        let dashboard =
            json!({ "panels": [row("Now", 0), row(ROW, 5), old, row("Then", 19), below] });
        let made = with_panels(&dashboard.to_string(), &given()).unwrap();
        let value: Value = serde_json::from_str(&made).unwrap();
        let panels = value["panels"].as_array().unwrap();
        let titles: Vec<&str> = panels
            .iter()
            .map(|panel| panel["title"].as_str().unwrap())
            .collect();
        let expected = [
            "Now",
            "Signals",
            "Cover",
            "a.left",
            "Your own signals",
            "Then",
            "s",
        ];
        assert_eq!(titles, expected);
        let tops: Vec<u64> = panels
            .iter()
            .map(|panel| panel["gridPos"]["y"].as_u64().unwrap())
            .collect();
        assert_eq!(tops, [0, 5, 6, 6, 6, 14, 15]);
        let query = |at: usize| {
            panels[at]["targets"][0]["expr"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(query(2), "bottomk(10, fenghuo_reading{signal=\"a.cover\"})");
        assert_eq!(query(3), "bottomk(10, fenghuo_reading{signal=\"a.left\"})");
        assert_eq!(
            query(4),
            "topk(20, fenghuo_reading{signal!~\"a\\\\.cover|a\\\\.left\"})"
        );
        let steps = &panels[2]["fieldConfig"]["defaults"]["thresholds"]["steps"];
        assert_eq!(
            *steps,
            json!([
                { "color": "red", "value": null },
                { "color": "orange", "value": 1.0 },
                { "color": "transparent", "value": 2.0 },
            ])
        );
        assert_eq!(with_panels(&made, &given()).unwrap(), made);
    }
}
