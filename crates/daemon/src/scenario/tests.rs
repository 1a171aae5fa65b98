//! Scenarios: the shipped ones, the documented one, and what is said of wrong ones.

use std::path::{Path, PathBuf};

use super::*;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}

/// What `text` prints when it is played.
fn played(config: &Config, text: &str) -> Result<(bool, String), Vec<String>> {
    let known = Known {
        catalogue: &config.catalogue,
        rules: &config.rules,
    };
    let mut all = String::new();
    let mut are_right = true;
    for scenario in document::parse("shop.md", text, &known)? {
        let outcome = play(config, &scenario).unwrap();
        are_right &= outcome.is_right();
        all += &told("shop.md", &scenario, &outcome);
    }
    Ok((are_right, all))
}

fn built_in() -> Config {
    Config::without_file().unwrap()
}

#[test]
fn what_is_shipped_passes() {
    let config = built_in();
    let files = std::fs::read_dir(deploy("scenarios")).unwrap();
    let mut played_some = false;
    for file in files {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (are_right, all) = played(&config, &text).unwrap();
        assert!(are_right, "{}:\n{all}", path.display());
        played_some = true;
    }
    assert!(played_some);
}

/// The example of the docs' one page, with the catalogue of the other.
#[test]
fn the_documented_example_passes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let page = read("docs/catalogue.md");
    let mut blocks = page
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let coupons = blocks.find(|block| block.starts_with("# coupons.toml"));
    write("coupons.toml", coupons.unwrap());
    write("fenghuo.toml", "[catalogue]\nfiles = [\"coupons.toml\"]\n");
    let config = Config::load(&folder.path().join("fenghuo.toml")).unwrap();
    let page = read("docs/scenarios.md");
    let example = page.split("````markdown\n").nth(1).unwrap();
    let example = example.split("````").next().unwrap();
    let (are_right, all) = played(&config, example).unwrap();
    assert!(are_right, "{all}");
    // It can fail: fewer refusals than it expects.
    let fewer = example.replace("| 150 ", "| 20  ");
    assert_ne!(fewer, example);
    let (are_right, all) = played(&config, &fewer).unwrap();
    assert!(!are_right);
    insta::assert_snapshot!("differing", all);
}

/// A signal of a shop's own over custom events, from its files alone, as the docs show it.
#[test]
fn the_documented_example_of_custom_events_passes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let page = read("docs/catalogue.md");
    let mut blocks = page
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let machines = blocks.find(|block| block.starts_with("# machines.toml"));
    write("machines.toml", machines.unwrap());
    write("fenghuo.toml", "[catalogue]\nfiles = [\"machines.toml\"]\n");
    let config = Config::load(&folder.path().join("fenghuo.toml")).unwrap();
    let page = read("docs/scenarios.md");
    let mut examples = page.split("````markdown\n").skip(1);
    let example = examples.find(|rest| rest.starts_with("# An oven")).unwrap();
    let example = example.split("````").next().unwrap();
    let (are_right, all) = played(&config, example).unwrap();
    assert!(are_right, "{all}");
    // It can fail: not hot enough, or about nothing that it names.
    for (from, to) in [
        ("| 262 ", "| 249 "),
        ("| entity.machine |", "| entity.oven    |"),
    ] {
        let other = example.replace(from, to);
        assert_ne!(other, example);
        let (are_right, all) = played(&config, &other).unwrap();
        assert!(!are_right, "{to}:\n{all}");
    }
    // Beyond its bounds it is a dead letter.
    let wrong = example.replacen("| 231.5           |", "| \"NaN\"           |", 1);
    let (are_right, all) = played(&config, &wrong).unwrap();
    assert!(!are_right && all.contains("custom.numbers"), "{all}");
}

#[test]
fn a_rejected_event_fails_unless_it_is_spoken_of() {
    let text = "# Nothing sold\n\n```json order\n{\"order\": {\"type\": \"PAYED\", \"order_id\": \"o{n}\"}}\n```\n\
        | at | event |\n|---|---|\n| 0s | order |\n\n| at | accepted |\n|---|---|\n| 1s | 0 |\n";
    let (are_right, all) = played(&built_in(), text).unwrap();
    assert!(!are_right, "{all}");
    insta::assert_snapshot!("rejected", all);
    let spoken = text
        .replace("| accepted |\n|---", "| accepted | rejected |\n|---|---")
        .replace("| 1s | 0 |", "| 1s | 0 | 1 |");
    let (are_right, all) = played(&built_in(), &spoken).unwrap();
    assert!(are_right, "{all}");
}

#[test]
fn times_and_numbers_are_filled_in() {
    let text = "# Two\n```json order\n{\"order\": {\"order_id\": \"{n}{}{n\", \"at\": \"{time-1h}\"}}\n```\n\
        | at | event | count | over |\n|--|--|--|--|\n";
    let text = text.replace("|--|--|--|--|", "|---|---|---|---|")
        + "| 1m | order | 2 | 1m |\n| 1m30s | order | | |\n\n| at | accepted |\n|---|---|\n| 2m | 0 |\n";
    let config = built_in();
    let known = Known {
        catalogue: &config.catalogue,
        rules: &config.rules,
    };
    let scenarios = document::parse("shop.md", &text, &known).unwrap();
    let mut sending = Sending::new(&scenarios[0]).unwrap();
    let mut sent = Vec::new();
    while let Some((at_ms, _, value)) = sending.next_by(i64::MAX) {
        let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(
            value["meta"]["occurred_at"],
            fenghuo_event::Timestamp(at_ms).to_string()
        );
        sent.push(format!(
            "{} {}",
            at_ms - scenarios[0].begin_ms,
            value["order"]
        ));
    }
    assert_eq!(
        sent,
        [
            r#"60000 {"at":"2026-11-10T15:01:00Z","order_id":"1{}{n"}"#,
            r#"90000 {"at":"2026-11-10T15:01:30Z","order_id":"2{}{n"}"#,
            r#"90000 {"at":"2026-11-10T15:01:30Z","order_id":"3{}{n"}"#,
        ]
    );
}

/// Each of these is one mistake, and all are told at once.
#[test]
fn every_mistake_is_told_with_what_helps() {
    let text = read("scenarios/price.md");
    let edits: [(&str, &str); 17] = [
        ("# A sale", "A sale"),
        ("```json floor", "```json"),
        ("\"pack_units\": 1,", "\"pack_units\": 1"),
        ("{\"order\":", "{\"a\": 1, \"order\":"),
        (
            "{\"order\":",
            "{\"meta\": {\"occurred_at\": \"{time+}\"}, \"order\":",
        ),
        ("| 0s  | floor |", "| 0s  | flor |"),
        ("| 60s |", "| soon |"),
        ("| 60s |", "| 500d |"),
        ("| at  | event |", "| when | event |"),
        ("| 2000  ", "| 2000 | 7 "),
        ("lines.0.unit", "lines.7.unit"),
        (
            "price-floor | sku=mug | firing",
            "price-flor | sku=mug | firing",
        ),
        ("sku=mug | firing", "mug | firing"),
        ("| firing ", "| fired "),
        ("| page     | 1     |", "| page | often |"),
        ("| rule    ", "| rule | size | "),
        ("| at | accepted | rejected |", "| at | eaten | rejected |"),
    ];
    let config = built_in();
    let mut all = String::new();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        let wrong = text.replacen(from, to, 1);
        let mistakes = played(&config, &wrong).expect_err(to);
        all += &format!("{from} => {to}\n");
        for mistake in mistakes {
            all += &format!("    {mistake}\n");
        }
    }
    insta::assert_snapshot!("mistakes", all);
}

#[test]
fn a_cell_commands_no_terminal_and_one_dash_is_a_rule() {
    let text = "# a\u{202e}b\n\n```json floor\n{\"catalog\": {\"type\": \"UPSERT\", \"sku_id\": \"mug\", \
                \"pack_units\": 1, \"price_floor\": {\"currency_code\": \"CNY\", \"minor_units\": 1800}}}\n```\n\n\
                | at | event |\n|--|:-:|\n| 5s | floor |\n\n\
                | at | rule | entity | state |\n|-|--|:--|---|\n\
                | 1h | price-floor | sku=\u{1b}[31m\u{202e}m\u{85}n | firing |\n";
    let (is_right, told) = played(&built_in(), text).unwrap();
    assert!(!is_right);
    let bad = |c: &char| c.is_control() && *c != '\n' || *c == '\u{202e}';
    assert_eq!(told.chars().find(bad), None, "{told:?}");
    assert!(told.contains(r"sku=\u{1b}[31m\u{202e}m\u{85}n"), "{told}");
}
