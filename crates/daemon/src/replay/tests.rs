//! Small histories, written by hand, to their reports.

use std::path::{Path, PathBuf};

use super::*;

const MAPPING: &str = r#"
source = "test"
currency = "CNY"
time = { format = "%Y-%m-%d %H:%M", zone = "+00:00" }
columns = { order_id = "o", sku = "s", quantity = "q", time = "t", unit_price = "p" }
type.skip_when = [{ column = "o", prefix = "A" }]
"#;

fn event(id: &str, at: &str, body: &str) -> String {
    format!(
        r#"{{"meta":{{"event_id":"{id}","source":"test","occurred_at":"2026-11-11T{at}Z"}},{body}}}"#
    ) + "\n"
}

fn order(id: &str, kind: &str, at: &str, sku: &str, price_minor: i64) -> String {
    event(
        id,
        at,
        &format!(
            r#""order":{{"type":"{kind}","order_id":"{id}","campaign_id":"sale","lines":[{{"sku_id":"{sku}","quantity":2,"unit_price":{{"currency_code":"CNY","minor_units":{price_minor}}}}}]}}"#
        ),
    )
}

fn floor(sku: &str, at: &str, floor_minor: i64) -> String {
    event(
        &format!("floor-{sku}"),
        at,
        &format!(
            r#""catalog":{{"type":"UPSERT","sku_id":"{sku}","pack_units":1,"price_floor":{{"currency_code":"CNY","minor_units":{floor_minor}}}}}"#
        ),
    )
}

/// One file for the catalogue and one for orders, with everything in them that can happen.
fn history() -> [String; 2] {
    let catalog = ["b", "a"].map(|sku| floor(sku, "10:00:00", 1_800)).concat();
    let orders = [
        "no event\n".to_owned(),
        order("1", "PAID", "10:00:10", "b", 2_000),
        order("2", "PAID", "10:20:00", "a", 900),
        order("2", "PAID", "10:20:00", "a", 900),
        order("3", "CANCELLED", "10:20:30", "b", 2_000),
        "{}\n".to_owned(),
        order("4", "PAID", "13:00:00", "b", 1_900),
        // Hours late, and worth counting all the same.
        order("5", "PAID", "10:21:00", "b", 2_000),
        order("6", "PAID", "13:00:00.5", "b", 1_000),
    ];
    [catalog, orders.concat()]
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn lines(&self, texts: &[String]) -> Vec<Input> {
        let texts = texts.iter().enumerate();
        texts
            .map(|(at, text)| Input::JsonLines(self.write(&format!("{at}.jsonl"), text)))
            .collect()
    }
}

fn play(
    config: &Config,
    inputs: Vec<Input>,
    until_ms: Option<i64>,
    every_ms: i64,
) -> (Report, String) {
    let folder = Folder::new();
    let path = folder.0.path().join("readings.csv");
    let readings = Readings::create(&path, every_ms).unwrap();
    let mut progress = Progress::new(None);
    let report = replay(config, inputs, until_ms, Some(readings), &mut progress).unwrap();
    (report, std::fs::read_to_string(path).unwrap())
}

fn ms(text: &str) -> i64 {
    format!("2026-11-11T{text}Z")
        .parse::<Timestamp>()
        .unwrap()
        .0
}

const HOUR_MS: i64 = 3_600_000;

#[test]
fn a_history_gives_its_report_and_the_same_each_time() {
    let config = Config::without_file().unwrap();
    let folder = Folder::new();
    let inputs = folder.lines(&history());
    let (report, readings) = play(&config, inputs.clone(), None, HOUR_MS);
    let json = report.json().unwrap();
    insta::assert_snapshot!("report", json);
    insta::assert_snapshot!("text", text::report(&report, 480));
    let (again, readings_again) = play(&config, inputs, None, HOUR_MS);
    assert_eq!(json, again.json().unwrap());
    assert_eq!(readings, readings_again);
}

#[test]
fn what_was_read_is_what_became_of_it() {
    let config = Config::without_file().unwrap();
    let folder = Folder::new();
    let (report, _) = play(&config, folder.lines(&history()), None, HOUR_MS);
    let expected = Events {
        read: 11,
        accepted: 7,
        rejected: 2,
        duplicate: 1,
        late: 1,
    };
    assert_eq!(report.events, expected);
    assert_eq!(report.rows, None);
}

#[test]
fn how_a_history_is_cut_into_files_makes_no_difference() {
    let config = Config::without_file().unwrap();
    let folder = Folder::new();
    let (two, readings) = play(&config, folder.lines(&history()), None, HOUR_MS);
    let one = folder.lines(&[history().concat()]);
    let (one, of_one) = play(&config, one, None, HOUR_MS);
    assert_eq!(two.json().unwrap(), one.json().unwrap());
    assert_eq!(readings, of_one);
}

/// What a sku's floor reads at each instant of the file.
fn floors(readings: &str, sku: &str) -> Vec<String> {
    let mut lines = csv::Reader::from_reader(readings.as_bytes());
    let lines = lines.records().map(Result::unwrap);
    lines
        .filter(|line| &line[1] == "price.floor" && line[2] == format!("sku={sku}"))
        .map(|line| format!("{} {} {} {}", &line[0][11..], &line[3], &line[6], &line[7]))
        .collect()
}

#[test]
fn readings_are_of_their_instant() {
    let config = Config::without_file().unwrap();
    let folder = Folder::new();
    let (_, readings) = play(&config, folder.lines(&history()), None, HOUR_MS);
    let header = "at,signal,entity,value,lower,upper,n,state\n";
    assert!(readings.starts_with(header), "{readings}");
    // What happens at an instant is in its line, what happens after is not.
    assert_eq!(
        floors(&readings, "b"),
        [
            "10:00:00Z 1 0 ok",
            "11:00:00Z 1 0 ok",
            "12:00:00Z 1 0 ok",
            "13:00:00Z 1.0555555555555556 1 ok",
            "13:00:00.5Z 0.5555555555555556 2 ok",
        ]
    );
    let mut lines = csv::Reader::from_reader(readings.as_bytes());
    let mut keys: Vec<(Timestamp, String)> = lines
        .records()
        .map(|line| line.unwrap())
        .map(|line| (line[0].parse().unwrap(), line[1].to_owned()))
        .collect();
    let in_order = keys.clone();
    keys.sort();
    assert_eq!(in_order, keys);
}

#[test]
fn what_nothing_was_told_of_has_no_line() {
    let config = Config::without_file().unwrap();
    let folder = Folder::new();
    let inputs = folder.lines(&[order("1", "PAID", "10:00:10", "a", 2_000)]);
    let (_, readings) = play(&config, inputs, None, HOUR_MS);
    assert!(floors(&readings, "a").is_empty());
}

#[test]
fn time_passes_to_the_end_that_was_asked_for() {
    let config = Config::without_file().unwrap();
    let folder = Folder::new();
    let resolved = |until: Option<&str>| {
        let inputs = folder.lines(&history());
        let (report, readings) = play(&config, inputs, until.map(ms), HOUR_MS);
        let resolved = report
            .episodes
            .iter()
            .map(|one| one.resolved_at_ms.is_some());
        let last = readings.lines().last().unwrap().split(',').next().unwrap();
        (resolved.collect::<Vec<_>>(), last[11..].to_owned())
    };
    assert_eq!(
        resolved(None),
        (vec![true, false], "13:00:00.5Z".to_owned())
    );
    let before = resolved(Some("11:00:00"));
    assert_eq!(before, (vec![true, false], "13:00:00.5Z".to_owned()));
    let after = resolved(Some("13:30:00"));
    assert_eq!(after, (vec![true, true], "13:30:00Z".to_owned()));
}

/// Guards: an episode once ended when time happened to be looked at, not when it was over.
#[test]
fn how_often_readings_are_written_moves_no_end() {
    let config = Config::without_file().unwrap();
    let folder = Folder::new();
    for every_ms in [HOUR_MS, HOUR_MS / 60, 100 * HOUR_MS] {
        let inputs = folder.lines(&history());
        let (report, _) = play(&config, inputs, Some(ms("14:00:00")), every_ms);
        let ends: Vec<_> = report
            .episodes
            .iter()
            .map(|one| one.resolved_at_ms)
            .collect();
        // Ten minutes of the window, and two for which it keeps firing.
        assert_eq!(ends, [Some(ms("10:32:10")), Some(ms("13:12:11"))]);
    }
}

#[test]
fn plans_hold_from_the_first_event_and_count_as_no_event() {
    let folder = Folder::new();
    let plan = "[[sku]]\nid = \"a\"\npack_units = 1\nprice_floor = \"18.00\"\n";
    folder.write("plan.toml", plan);
    let text = "shop.currency = \"CNY\"\nplans.files = [\"plan.toml\"]\n";
    let config = Config::load(&folder.write("fenghuo.toml", text)).unwrap();
    let inputs = folder.lines(&[order("1", "PAID", "10:00:10", "a", 900)]);
    let (report, _) = play(&config, inputs, None, HOUR_MS);
    assert_eq!((report.events.read, report.events.accepted), (1, 1));
    let rules: Vec<_> = report
        .episodes
        .iter()
        .map(|one| one.rule.as_str())
        .collect();
    assert_eq!(rules, ["price-floor"]);
}

#[test]
fn rows_that_are_no_order_are_counted_apart() {
    let folder = Folder::new();
    let mapping = folder.write("mapping.toml", MAPPING);
    let rows = "o,s,q,t,p\n1,a,2,2026-11-11 10:00,1.50\n1,b,0,2026-11-11 10:00,1.50\n\
                A2,b,1,2026-11-11 10:00,1.50\n3,a,1,2026-11-11 10:05,0.505\n";
    let file = folder.write("orders.csv", rows);
    let csv = cli::Csv {
        what_and_mapping: Some(vec!["orders".to_owned(), mapping.display().to_string()]),
    };
    let inputs = load::inputs(&[file], &csv).unwrap();
    let (report, _) = play(&Config::without_file().unwrap(), inputs, None, HOUR_MS);
    let rows = Rows {
        rejected: 2,
        skipped: 1,
    };
    assert_eq!(report.rows, Some(rows));
    assert_eq!((report.events.read, report.events.accepted), (1, 1));
    assert_eq!(report.totals.shop.revenue_minor, 300);
}

#[test]
fn nothing_gives_an_empty_report() {
    let config = Config::without_file().unwrap();
    let folder = Folder::new();
    let (report, readings) = play(&config, folder.lines(&["{}\n".to_owned()]), None, HOUR_MS);
    assert_eq!((report.events.read, report.events.rejected), (1, 1));
    assert!(report.episodes.is_empty() && report.totals.skus.is_empty());
    assert_eq!(readings.lines().count(), 1);
}

#[test]
fn what_cannot_be_opened_is_named() {
    let config = Config::without_file().unwrap();
    let inputs = vec![Input::JsonLines(Path::new("/none/such.jsonl").to_owned())];
    let none = None::<Readings<Vec<u8>>>;
    let error = replay(&config, inputs, None, none, &mut Progress::new(None)).unwrap_err();
    assert!(error.to_string().contains("/none/such.jsonl"), "{error}");
    let error = Readings::create(Path::new("/none/such.csv"), 1)
        .err()
        .unwrap();
    assert!(error.to_string().contains("/none/such.csv"), "{error}");
}
