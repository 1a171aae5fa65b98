//! What a config may say, and what a person is told who says something else.

use std::path::Path;

use fenghuo_event::{Body, decode, pb, to_protobuf};

use super::*;

mod many;

fn deploy(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(file)
}

/// All of a config but the name of its file, and whether it says what holds anyway.
fn shown(mut config: Config) -> String {
    config.shop.is_currency_said = false;
    config.shop.is_zone_said = false;
    for channel in &mut config.channels {
        channel.file.clear();
    }
    format!("{config:#?}")
}

#[test]
fn the_annotated_example_says_the_defaults() {
    let example = Config::load(&deploy("fenghuo.toml")).unwrap();
    let empty = Config::parse("empty", "").unwrap();
    assert_eq!(shown(example), shown(empty));
}

/// Whoever reads the example reads of every key: the raw types are searched for their names.
#[test]
fn the_annotated_example_names_every_key() {
    let example = std::fs::read_to_string(deploy("fenghuo.toml")).unwrap();
    let words: Vec<&str> = example
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    for line in include_str!("raw.rs").lines() {
        let field = line
            .trim()
            .strip_prefix("pub ")
            .and_then(|rest| rest.split_once(": "));
        if let Some((name, _)) = field {
            assert!(
                words.contains(&name),
                "deploy/fenghuo.toml does not explain {name}"
            );
        }
    }
}

#[test]
fn the_config_of_the_compose_file_holds() {
    let config = Config::load(&deploy("compose/fenghuo.toml")).unwrap();
    assert!(config.http.token.is_some());
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn every_mistake_is_told() {
    let mut told = String::new();
    for text in include_str!("mistakes.toml").split("\n# ---\n") {
        let error = match Config::parse("fenghuo.toml", text) {
            Ok(config) => panic!("no mistake: {text}\n{config:?}"),
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        };
        told += &format!("{}\n  => {error}\n\n", text.trim());
    }
    insta::assert_snapshot!(told);
}

#[test]
fn every_mistake_in_a_plan_is_told() {
    let example = std::fs::read_to_string(deploy("plans/example.toml")).unwrap();
    let mut told = String::new();
    for (from, to) in [
        ("id = \"double-11\"\n", ""),
        ("id = \"double-11\"", "id = \"\""),
        ("+08:00\nend", "\nend"),
        ("start = 2026", "start = \"soon\" # 2026"),
        ("end = 2026-11-12", "end = 2026-11-01"),
        ("2026-11-11T00:00:00+08:00]", "2026-11-21T00:00:00+08:00]"),
        ("forecast_cv = 0.25", "forecast_cv = -1.0"),
        ("\"48h\"", "\"48\""),
        ("at = \"4h\"", "at = \"13h\""),
        ("at = \"4h\"", "at = \"4h500ms\""),
        ("orders = 300", "orders = -300"),
        ("units = 380", "unit = 380"),
        ("\"310000.00\"", "\"310000.005\""),
        ("planned_units = 12000\n", ""),
        ("planned_units = 12000", "planned_units = -1"),
        ("priority = 1", "priority = 0"),
        ("id = \"8002\"\ntitle", "id = \"8001\"\ntitle"),
        (
            "price_floor = \"18.00\"\nprice_c",
            "price_floor = \"¥18\"\nprice_c",
        ),
        ("price_ceiling = \"79.00\"", "price_ceiling = \"7.00\""),
        ("max_discount = 0.5", "max_discount = 5"),
        ("[[campaign.staff]]", "[[campaign.stuff]]"),
        ("gtin = \"06901234567892\"", "gtin = 6901234567892"),
    ] {
        let text = example.replacen(from, to, 1);
        assert_ne!(text, example, "{from}");
        let mut plans = Plans::default();
        let document = document::Document::parse("plan.toml", &text);
        let error = match document.and_then(|document| plans.add(&document, Some("CNY"))) {
            Ok(()) => panic!("no mistake: {to}"),
            Err(error) => error,
        };
        told += &format!("{to}\n  => {error}\n");
    }
    insta::assert_snapshot!(told);
}

#[test]
fn a_plan_becomes_events_that_the_border_takes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fenghuo.toml");
    let plan = deploy("plans/example.toml");
    std::fs::write(&file, format!("plans.files = [{plan:?}]\nshop.id = \"42\"")).unwrap();
    let config = Config::load(&file).unwrap();
    let at_ms = 1_780_000_000_123;
    let events = config.plans.events(at_ms, config.shop.id.as_deref());
    assert_eq!(events.len(), 3);
    for event in &events {
        let bytes = to_protobuf(event);
        let event = decode(&bytes, None).unwrap();
        assert_eq!(event.meta.occurred_at.map(|at| at.0), Some(at_ms));
        assert_eq!(event.meta.shop_id, "42");
        match event.body {
            Body::Catalog(sku) if sku.sku_id == "8001" => {
                let floor = sku.price_floor.unwrap();
                assert_eq!((&*floor.currency_code, floor.minor_units), ("CNY", 1_800));
            }
            Body::Catalog(sku) => assert_eq!(sku.sku_id, "8002"),
            Body::Plan(plan) => {
                assert_eq!(plan.start.map(|at| at.0), Some(1_794_225_600_000));
                assert_eq!(plan.flash_offsets_s, [24 * 3_600, 28 * 3_600]);
                assert_eq!(plan.curve[4].offset_s, 24 * 3_600 + 600);
                assert_eq!(plan.curve[0].gmv_minor, 31_000_000);
                assert_eq!(plan.ship_sla.map(|span| span.0), Some(48 * 3_600_000));
                assert_eq!(plan.skus[0].planned_units, 12_000);
                assert_eq!(plan.skus[1].curve.len(), 2);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn an_event_is_known_by_what_it_says_and_not_by_when() {
    let text = std::fs::read_to_string(deploy("plans/example.toml")).unwrap();
    let ids = |text: &str, at_ms| -> Vec<String> {
        let mut plans = Plans::default();
        let document = document::Document::parse("plan.toml", text).unwrap();
        plans.add(&document, Some("CNY")).unwrap();
        let events: Vec<pb::Event> = plans.events(at_ms, None);
        let ids = events
            .into_iter()
            .filter_map(|event| Some(event.meta?.event_id));
        ids.collect()
    };
    let first = ids(&text, 1);
    assert_eq!(first, ids(&text, 2));
    let changed = ids(
        &text.replace("planned_units = 6000", "planned_units = 6001"),
        1,
    );
    assert_eq!(first[..2], changed[..2], "the skus are as they were");
    assert_ne!(first[2], changed[2], "the campaign is not");
}

#[test]
fn a_secret_is_read_when_it_is_needed_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "hush-hush\n").unwrap();
    let file = folder.path().join("fenghuo.toml");
    let sasl =
        "kafka.sasl = { mechanism = \"PLAIN\", username = \"u\", password_file = \"password\" }";
    std::fs::write(&file, format!("{sasl}\nhttp.token_file = \"missing\"")).unwrap();
    let config = Config::load(&file).unwrap();
    let connection = config.kafka().unwrap();
    assert_eq!(
        connection.security.sasl.as_ref().unwrap().password,
        "hush-hush"
    );
    assert!(!format!("{config:?} {connection:?}").contains("hush"));
    let error = config.token().unwrap_err().to_string();
    assert!(
        error.starts_with("http.token: cannot read file "),
        "{error}"
    );
}

#[test]
fn files_are_looked_for_beside_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "[[rule]]\nname = \"mine\"\nsignal = \"price.floor\"\npage = [{ read = \"value\", below = 0, clear = 1 }]\n";
    std::fs::write(folder.path().join("mine.toml"), rule).unwrap();
    let file = folder.path().join("fenghuo.toml");
    let text = "rules = { builtin = false, files = [\"mine.toml\"] }";
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.rules.len(), 1);
    assert!(config.rules.named("mine").is_some());
}

#[test]
fn settings_reach_the_stages() {
    let config = Config::parse(
        "fenghuo.toml",
        r#"
            shop = { id = "42", currency = "JPY" }
            kafka = { group = "watch", instance = "b" }
            topics = { prefix = "s-", streams = ["plans", "orders"], names = { plans = "p" }, panes_partitions = 2 }
            ingest = { start = "7d", commit = "80ms", lateness = { default = "1s", orders = "2m" } }
            evaluate.behind_max = "30s"
        "#,
    )
    .unwrap();
    let topology = config.topology(10 * 86_400_000);
    assert_eq!(
        (topology.group.as_str(), topology.instance.as_str()),
        ("watch", "b")
    );
    assert_eq!(topology.start, Start::At(3 * 86_400_000));
    assert_eq!((topology.commit_ms, topology.behind_ms_max), (80, 30_000));
    assert_eq!(topology.ingest.panes_partitions, 2);
    let topics = topology.ingest.topics.iter();
    let topics: Vec<_> = topics
        .map(|topic| (&*topic.name, topic.lateness_ms))
        .collect();
    assert_eq!(topics, [("s-orders", 120_000), ("p", 1_000)]);
    assert_eq!(
        config.topic_of(Stream::Plans).map(|name| &**name),
        Some("p")
    );
    assert_eq!(config.topic_of(Stream::Ops), None);
    let made: Vec<_> = config
        .source_topics()
        .iter()
        .map(|topic| topic.compacted)
        .collect();
    assert_eq!(made, [false, true]);
}

#[test]
fn a_watched_folder_says_what_its_files_hold_and_how_late_they_may_be() {
    let parse = |more: &str| {
        let text = format!("topics.prefix = \"\"\n{more}");
        Config::parse(&deploy("fenghuo.toml").display().to_string(), &text)
    };
    let watched = |settings: &str| {
        format!(
            "[intake]\nwatch = \"exports\"\nmappings = [\"mappings/order-list.toml\", \
             \"mappings/stock-list.toml\", \"mappings/parcel-list.toml\"]\n{settings}"
        )
    };
    let late_ms = |config: &Config, stream: Stream| {
        let mut sources = config.topics.sources.iter();
        sources
            .find(|source| source.stream == stream)
            .map(|source| source.lateness_ms)
    };
    let config = parse(&watched("settle = \"1m\"\nfiles_max = 7\nrows_max = 8000")).unwrap();
    let intake = config.watched.as_ref().unwrap();
    assert_eq!(intake.folder, deploy("exports"));
    assert_eq!(intake.settings.mappings.len(), 3);
    let settings = &intake.settings;
    let bounds = (settings.settle_ms, settings.files_max, settings.rows_max);
    assert_eq!(bounds, (60_000, 7, 8_000));
    // The rhythm, and the time that a file takes to rest.
    assert_eq!(late_ms(&config, Stream::Orders), Some(3_660_000));
    assert_eq!(late_ms(&config, Stream::Inventory), Some(960_000));
    assert_eq!(late_ms(&config, Stream::Couriers), Some(3_660_000));
    assert_eq!(late_ms(&config, Stream::Ops), Some(5_000));

    let said = watched("[ingest.lateness]\norders = \"5s\"\ndefault = \"2h\"");
    let config = parse(&said).unwrap();
    assert_eq!(late_ms(&config, Stream::Orders), Some(5_000));
    assert_eq!(late_ms(&config, Stream::Inventory), Some(7_200_000));

    for (more, told) in [
        (
            watched("[shop]\ncurrency = \"JPY\""),
            "intake.mappings[0]: has prices in CNY; expected shop.currency, \"JPY\"",
        ),
        (
            format!("streams = [\"orders\"]\n{}", watched("")).replace("streams", "topics.streams"),
            "intake.mappings[1]: holds inventory, which topics.streams leaves out",
        ),
    ] {
        let error = parse(&more).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn without_a_file_any_shop_and_currency_will_do() {
    let config = Config::without_file().unwrap();
    assert_eq!((config.shop.id, config.shop.currency), (None, None));
    assert_eq!(config.channels.len(), 1);
    assert!(!config.rules.is_empty());
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let config = Config::parse(
        "fenghuo.toml",
        r#"
            channel = [{ name = "a", type = "log" }, { name = "b", type = "log" }]
            route = [{ severity = ["page"], channels = ["a"] }]
        "#,
    )
    .unwrap();
    assert_eq!(
        config.warnings,
        [
            "no route takes every alert: what matches none is on the screen only",
            "no route names the channel \"b\"",
        ]
    );
}

/// A config that was written before a stream was there names all that were.
#[test]
fn a_measure_of_a_stream_that_is_not_read_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let page = std::fs::read_to_string(deploy("docs/catalogue.md")).unwrap();
    let mut blocks = page.split("```toml\n").skip(1);
    let machines = blocks.find(|block| block.starts_with("# machines.toml"));
    let (machines, _) = machines.unwrap().split_once("```").unwrap();
    std::fs::write(folder.path().join("machines.toml"), machines).unwrap();
    let path = folder.path().join("fenghuo.toml");
    let config = |topics: &str| {
        let text = format!("{topics}\n[catalogue]\nfiles = [\"machines.toml\"]\n");
        Config::parse(&path.display().to_string(), &text).unwrap()
    };
    assert_eq!(config("").warnings, [""; 0]);
    assert_eq!(
        config("topics.streams = [\"orders\", \"ops\"]").warnings,
        [
            "measure \"oven\" counts custom, which topics.streams leaves out: what rests on it is \
             unknown"
        ]
    );
}

/// Pieces of configs put together at random: each holds or is refused, at a line of its text and in
/// a few words, and nothing brings the reader down.
#[test]
fn spoilt_configs_bring_nothing_down() {
    let example = std::fs::read_to_string(deploy("fenghuo.toml")).unwrap();
    let compose = std::fs::read_to_string(deploy("compose/fenghuo.toml")).unwrap();
    let mut seeds: Vec<String> = include_str!("mistakes.toml")
        .split("\n# ---\n")
        .map(str::to_owned)
        .collect();
    seeds.extend([example, compose]);
    let long = "x".repeat(5_000);
    seeds.push(format!("shop.id = \"{long}\""));
    seeds.push(format!("{long} = 1"));
    seeds.push(format!("shop.{long}.{long} = 1"));
    seeds.push(format!("shop.time_zone = \"{long}\""));
    seeds.push(format!("a = {}", "[".repeat(10_000)));
    seeds.push(format!("a{} = 1", ".a".repeat(5_000)));
    let mut held = 0;
    for seed in 0..1_500_u64 {
        let mut state = seed;
        let mut below = |end: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((bits >> 32) as usize) % end.max(1)
        };
        let mut text = seeds[below(seeds.len())].clone();
        for _ in 0..=seed % 3 {
            let from = text.floor_char_boundary(below(text.len()));
            let to = text.floor_char_boundary((from + below(24)).min(text.len()));
            let other = &seeds[below(seeds.len())];
            let start = other.floor_char_boundary(below(other.len()));
            let end = other.floor_char_boundary((start + below(40)).min(other.len()));
            text.replace_range(from..to, &other[start..end]);
        }
        match Config::parse("nowhere/fenghuo.toml", &text) {
            Ok(_) => held += 1,
            Err(error) => {
                let said = format!("{:#}", anyhow::Error::from(error));
                assert!(said.lines().count() <= 51, "seed {seed}: {said:.500}");
                for line in said.lines() {
                    assert!(line.chars().count() < 3_000, "seed {seed}: {line:.500}");
                }
            }
        }
    }
    assert!(held > 5, "{held} of the spoilt configs hold");
}

#[test]
fn what_a_terminal_would_obey_is_written_out_in_every_mistake() {
    for text in [
        "\"a\\u001b[2Jb\" = 1",
        "[shop]\n\"\\u202ekey\\nfenghuo: all is well\" = 1",
        "shop.currency = \"\\u001b]0;x\\u0007\"",
        "log.kind = \"\\u009b2J\\u200b\"",
        "[[route]]\nchannels = [\"\\u001b[2J\"]",
    ] {
        let error = Config::parse("fenghuo.toml", text).unwrap_err();
        let told = crate::for_terminal(&format!("{:#}", anyhow::Error::from(error)));
        let is_bad = |c: char| c.is_control() || ('\u{200b}'..='\u{202e}').contains(&c);
        assert!(!told.contains(is_bad), "{told:?}");
    }
}

#[test]
fn files_are_bounded_before_they_are_parsed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: usize| {
        let path = folder.path().join(name);
        std::fs::write(&path, "#".repeat(bytes)).unwrap();
        path
    };
    let told = |config: &std::path::Path| {
        let error = Config::load(config).unwrap_err();
        format!("{:#}", anyhow::Error::from(error))
    };
    let said = told(&write("large.toml", (1 << 20) + 1));
    assert!(
        said.contains("large.toml") && said.contains("larger than 1 MiB"),
        "{said}"
    );
    for (name, bytes, key, limit) in [
        ("r.toml", (1 << 20) + 1, "rules.files", "1 MiB"),
        ("p.toml", (4 << 20) + 1, "plans.files", "4 MiB"),
        (
            "m.toml",
            (256 << 10) + 1,
            "intake.watch = \"in\"\nintake.mappings",
            "256 KiB",
        ),
    ] {
        write(name, bytes);
        let config = folder.path().join("fenghuo.toml");
        std::fs::write(&config, format!("{key} = [{name:?}]")).unwrap();
        let said = told(&config);
        assert!(said.contains(name) && said.contains(limit), "{said}");
    }
    let deep = format!("a = {}{}", "[".repeat(20_000), "]".repeat(20_000));
    assert!(Config::parse("fenghuo.toml", &deep).is_err());
}

#[test]
fn a_token_that_can_be_guessed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fenghuo.toml");
    std::fs::write(
        &config,
        "http.token_file = \"t\"\nintake.token_file = \"t\"",
    )
    .unwrap();
    let config = Config::load(&config).unwrap();
    for token in ["short", "change-me-change-me", "0123456789abcde"] {
        std::fs::write(folder.path().join("t"), token).unwrap();
        for error in [
            config.token().unwrap_err(),
            config.intake_token().unwrap_err(),
        ] {
            let told = error.to_string();
            assert!(
                told.contains("openssl rand -hex 32") && !told.contains(token),
                "{told}"
            );
        }
    }
    std::fs::write(folder.path().join("t"), "0123456789abcdef").unwrap();
    assert!(config.token().is_ok() && config.intake_token().is_ok());
}

/// Each with the key that is named. What is not there is no mistake: a config is checked where it is
/// written, too.
#[test]
fn what_a_run_refuses_as_a_secret_is_refused_by_check_and_shown_to_nobody() {
    for (key, table) in [
        ("http.token", "http.token_file = \"s\""),
        ("intake.token", "intake.token_file = \"s\""),
        (
            "kafka.sasl.password",
            "kafka.sasl = { mechanism = \"PLAIN\", username = \"u\", password_file = \"s\" }",
        ),
        (
            "routing_key",
            "type = \"pagerduty\"\nrouting_key_file = \"s\"",
        ),
        (
            "secret",
            "type = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\nsecret_file = \"s\"",
        ),
        (
            "authorization",
            "type = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\nunsigned = true\nauthorization_file = \"s\"",
        ),
        (
            "url",
            "type = \"webhook\"\nurl_file = \"s\"\nunsigned = true",
        ),
        ("url", "type = \"slack\"\nurl_file = \"s\""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fenghuo.toml");
        let text = match table.starts_with("type") {
            true => format!("[[channel]]\nname = \"a\"\n{table}\n[[route]]\nchannels = [\"a\"]\n"),
            false => table.to_owned(),
        };
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        let absent = config.check_secrets().unwrap();
        assert_eq!(absent.len(), 1, "{key}: {absent:?}");
        assert!(
            absent[0].contains(key) && absent[0].contains("is not here"),
            "{absent:?}"
        );
        let places = ["https://hooks.slack.com/services/T0/B0/XXXXXXXX"];
        for secret in ["change-me", "xxxxxxxxxxxxxxxxxxxxxxxx", "TODO"]
            .iter()
            .chain(&places)
        {
            // An address is no placeholder of a key.
            if secret.starts_with("https") && key != "url" {
                continue;
            }
            std::fs::write(folder.path().join("s"), format!("{secret}\n")).unwrap();
            let told = config.check_secrets().unwrap_err().to_string();
            assert!(
                told.contains(key) && !told.contains(secret),
                "{key}: {told}"
            );
        }
        let (good, bad): (_, &[&str]) = match key {
            "url" => (
                "http://127.0.0.1/8b1c7f0e5d2a4f60",
                &[
                    "8b1c7f0e5d2a4f60",
                    "ftp://127.0.0.1/8b1c7f0e5d2a4f60",
                    "https://h:99999/8b1c7f0e5d2a4f60",
                ],
            ),
            "secret" => (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                &[
                    "8b1c7f0e5d2a4f60",
                    "whsec_8b1c7f0e5d2a4f60",
                    "whsec_!8b1c7f0e5d2a4f60",
                ],
            ),
            "routing_key" => (
                "8b1c7f0e5d2a4f608b1c7f0e5d2a4f60",
                &["8b1c7f0e5d2a4f60", "8b1c7f0e5d2a4f60!b1c7f0e5d2a4f60"],
            ),
            "authorization" => (
                "Bearer 8b1c7f0e5d2a4f60",
                &["Bearer 8b1c7f0e5d2a4f60\u{1}x"],
            ),
            "kafka.sasl.password" => ("8b1c7f0e5d2a4f60", &[]),
            _ => ("8b1c7f0e5d2a4f608b1c7f0e5d2a4f60", &["8b1c7f0e"]),
        };
        for secret in bad.iter().chain(&["", " \n"]) {
            std::fs::write(folder.path().join("s"), secret).unwrap();
            let told = config.check_secrets().unwrap_err().to_string();
            assert!(
                told.contains(key) && !told.contains("8b1c7f0e"),
                "{key}: {told}"
            );
        }
        std::fs::write(folder.path().join("s"), good).unwrap();
        assert_eq!(config.check_secrets().unwrap(), Vec::<String>::new());
    }
}
