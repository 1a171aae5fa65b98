//! What fuzzing begins with, made and not kept: events of the simulated shop, one of each kind
//! with every field given, and shapes that nobody means well with. What once broke something is
//! kept in `cases/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fenghuo_alert::Rules;
use fenghuo_event::bounds::MESSAGE_BYTES_MAX;
use fenghuo_event::{to_json, to_protobuf};
use fenghuo_sim::{Shop, ShopConfig, Trouble};

use crate::{Target, oracle};

/// Events of the simulated shop, taken far apart.
const SHOP_EVENTS: usize = 60;
const SHOP_STRIDE: usize = 251;

/// All inputs that `target` is to be begun with.
pub fn of(target: Target) -> Vec<Vec<u8>> {
    let mut seeds = match target {
        Target::Json => oracle::full_json(),
        Target::Protobuf => oracle::full_protobuf(),
        Target::Rules => rules(),
    };
    seeds.extend(shop(target));
    seeds.extend(hostile(target, 4 << 10));
    seeds
}

/// Writes [`of`] into `directory`, a file an input.
pub fn write(target: Target, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (number, seed) in of(target).iter().enumerate() {
        fs::write(directory.join(format!("seed-{number:03}")), seed)?;
    }
    Ok(())
}

/// Inputs that broke something once, with the files that they are in.
pub fn cases(target: Target) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("cases")
        .join(target.name());
    let mut paths: Vec<PathBuf> = match directory.is_dir() {
        true => fs::read_dir(&directory)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?,
        false => Vec::new(),
    };
    paths.sort();
    paths
        .into_iter()
        .map(|path| fs::read(&path).map(|input| (path, input)))
        .collect()
}

fn shop(target: Target) -> Vec<Vec<u8>> {
    let mut config = ShopConfig {
        skus: 20,
        sku_curves: 2,
        orders_per_day: 2_000.0,
        ..ShopConfig::default()
    };
    config.troubles = Trouble::demo(&config);
    let events = Shop::new(config).step_by(SHOP_STRIDE).take(SHOP_EVENTS);
    match target {
        Target::Json => events
            .map(|(_, event)| to_json(&event).into_bytes())
            .collect(),
        Target::Protobuf => events.map(|(_, event)| to_protobuf(&event)).collect(),
        Target::Rules => Vec::new(),
    }
}

/// The built-in rules, each alone.
fn rules() -> Vec<Vec<u8>> {
    let builtin = Rules::builtin_text();
    let rules = builtin.split("[[rule]]").skip(1);
    rules
        .map(|rule| format!("[[rule]]{rule}").into_bytes())
        .collect()
}

/// Shapes of `bytes` bytes or somewhat fewer: each repeats one thing that could cost more than its
/// length, as deep, as wide or as long as it goes.
pub fn hostile(target: Target, bytes: usize) -> Vec<Vec<u8>> {
    match target {
        Target::Json => hostile_json(bytes),
        Target::Protobuf => hostile_protobuf(bytes),
        Target::Rules => hostile_rules(bytes),
    }
}

/// `open`, as much of `repeat` as there is room for, `close`.
fn filled(open: &str, repeat: &str, close: &str, bytes: usize) -> Vec<u8> {
    let room = bytes.saturating_sub(open.len() + close.len());
    format!("{open}{}{close}", repeat.repeat(room / repeat.len())).into_bytes()
}

fn hostile_json(bytes: usize) -> Vec<Vec<u8>> {
    const META: &str =
        r#""meta":{"event_id":"e1","source":"/shop/42","occurred_at":"2026-11-11T12:00:00Z"}"#;
    let heartbeat = format!(r#"{{{META},"ops":{{"type":"HEARTBEAT","component":"c"}}"#);
    let of = |body: &str| format!("{{{META},{body}");
    let numbered = |open: &str, entry: &dyn Fn(usize) -> String, close: &str| {
        let mut out = open.to_owned();
        for at in 0.. {
            let next = entry(at);
            if out.len() + next.len() + close.len() > bytes {
                break;
            }
            out.push_str(&next);
        }
        (out + close).into_bytes()
    };
    vec![
        // Deep, to the end and without one; of both brackets.
        filled("", "[", "", bytes),
        filled("", "{\"a\":", "", bytes),
        filled(&format!("{heartbeat},\"x\":"), "[", "", bytes),
        filled(&format!("{heartbeat},\"x\":"), "[[]", "]}", bytes),
        // Wide: unknown members, elements known and unknown, entries, the same name again.
        filled(&heartbeat, r#","x":1"#, "}", bytes),
        numbered(&heartbeat, &|at| format!(r#","x{at}":{{}}"#), "}"),
        filled(&of(r#""plan":{"skus":[{}"#), ",{}", "]}}", bytes),
        filled(&of(r#""plan":{"flash_offsets_s":[0"#), ",0", "]}}", bytes),
        filled(
            &of(r#""order":{"promotion_ids":[""#),
            r#"",""#,
            r#""]}}"#,
            bytes,
        ),
        filled(&heartbeat, r#","courier":null"#, "}", bytes),
        numbered(
            &of(r#""supplier":{"scores":{"a":1"#),
            &|at| format!(r#","s{at}":1"#),
            "}}}",
        ),
        filled(
            &of(r#""supplier":{"scores":{"a":1"#),
            r#","a":1"#,
            "}}}",
            bytes,
        ),
        numbered(
            &of(r#""custom":{"name":"n","numbers":{"a":1"#),
            &|at| format!(r#","s{at}":1e9"#),
            "}}}",
        ),
        filled(
            &of(r#""custom":{"name":"n","entity":{"a":"1"#),
            r#"","a":"1"#,
            "\"}}}",
            bytes,
        ),
        // Long: strings plain, escaped and of control letters, numbers, white space, names.
        filled(
            &of(r#""feedback":{"kind":"REVIEW","feedback_id":"f","text":""#),
            "漏",
            "\"}}",
            bytes,
        ),
        filled(
            &of(r#""feedback":{"kind":"REVIEW","feedback_id":"f","text":""#),
            r"\ud83d\udd25",
            "\"}}",
            bytes,
        ),
        filled(
            &of(r#""feedback":{"kind":"REVIEW","feedback_id":"f","text":""#),
            r"\u0000",
            "\"}}",
            bytes,
        ),
        filled(&of(r#""ops":{"type":""#), r"\u001b[2J", "\"}}", bytes),
        filled(&of(r#""custom":{"name":""#), "n", "\"}}", bytes),
        filled(
            &of(r#""custom":{"name":"n","texts":{""#),
            "k",
            "\":\"\"}}}",
            bytes,
        ),
        filled(&of(r#""order":{"type":"#), "9", "}}", bytes),
        filled(&of(r#""order":{"type":0."#), "0", "1}}", bytes),
        filled(&of(r#""order":{"type":1e"#), "9", "}}", bytes),
        filled(
            &of(r#""plan":{"start":"2026-11-11T12:00:00."#),
            "0",
            "Z\"}}",
            bytes,
        ),
        filled(&of(r#""visit":{"window":""#), "0", "s\"}}", bytes),
        filled("", " ", &format!("{heartbeat}}}"), bytes),
        filled("\n", "\n", &format!("{heartbeat}}}"), bytes),
        filled("{\"", "m", "\":1}", bytes),
        filled("{\"", r"\u006d", "\":1}", bytes),
    ]
}

/// A field of the wire format with a length.
fn field(number: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for mut value in [u64::from(number << 3 | 2), value.len() as u64] {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    out.extend_from_slice(value);
    out
}

fn hostile_protobuf(bytes: usize) -> Vec<Vec<u8>> {
    // Numbers of the .proto: plan is 8 with skus 9 and flash_offsets_s 6; supplier 9 with scores 7;
    // custom 11 with name 1 and texts 4.
    let meta = field(
        1,
        &[
            field(1, b"e1"),
            field(2, b"/shop/42"),
            field(3, &[0x08, 0x80, 0xe8, 0xcc, 0xd7, 0x06]),
        ]
        .concat(),
    );
    let ops = field(10, &[field(2, b"c"), vec![0x08, 0x01]].concat());
    let event = [meta.clone(), ops].concat();
    let room = bytes.saturating_sub(event.len() + 32);
    let times = |repeat: &[u8]| repeat.repeat(room / repeat.len());
    let after = |tail: Vec<u8>| [event.clone(), tail].concat();
    let body = |number: u32, value: Vec<u8>| [meta.clone(), field(number, &value)].concat();
    let entries: Vec<u8> = (0..room / 16)
        .flat_map(|at| field(7, &field(1, format!("s{at}").as_bytes())))
        .collect();
    vec![
        // Deep: groups, and lengths inside each other that reach to the end.
        times(&[0x7b]),
        after(times(&[0x7b])),
        after([vec![0x7b; room / 2], vec![0x7c; room / 2]].concat()),
        after(times(&[0x7b, 0x7c])),
        (0..12).fold(Vec::new(), |inner, _| field(8, &inner)),
        // Wide: unknown fields, elements, packed runs, entries, the meta again and again.
        after(times(&[0xf8, 0x06, 0x00])),
        after(times(&[0xfa, 0x06, 0x00])),
        body(8, times(&field(9, &[]))),
        body(8, times(&[0x30, 0x00])),
        body(8, field(6, &times(&[0x00]))),
        body(9, entries),
        body(9, times(&field(7, &[]))),
        body(11, times(&field(4, &[]))),
        body(
            11,
            [field(1, b"n"), times(&field(4, &field(1, b"k")))].concat(),
        ),
        times(&meta),
        times(&field(1, &[])),
        // Long: strings, numbers that do not end, lengths past the end.
        body(5, field(12, &times("漏".as_bytes()))),
        body(5, field(12, &times(&[0xff]))),
        after(times(&[0x80])),
        after(vec![
            0xfa, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ]),
        vec![0xff; bytes.min(MESSAGE_BYTES_MAX)],
    ]
}

fn hostile_rules(bytes: usize) -> Vec<Vec<u8>> {
    vec![
        filled("a=", "[", "", bytes),
        filled("a=", "{a=", "", bytes),
        filled("a", ".a", "=1", bytes),
        filled("[a", ".a", "]", bytes),
        filled("", "[[rule]]\n", "", bytes),
        filled("[[rule]]\nname=\"", "a", "\"", bytes),
        filled("[[rule]]\nname=\"a\"\nsignal=\"", "s", "\"", bytes),
        filled("[[rule]]\nname=\"a\"\n", "x", "=1", bytes),
        filled(
            "[[rule]]\nname=\"a\"\nsignal=\"sales.pace\"\nwhere={kind=[\"sku\"",
            ",\"sku\"",
            "]}",
            bytes,
        ),
        filled(
            "[[rule]]\nname=\"a\"\nsignal=\"sales.pace\"\nsummary=\"",
            "{",
            "\"",
            bytes,
        ),
        filled(
            "[[rule]]\nname=\"a\"\nsignal=\"sales.pace\"\nhold=\"",
            "1m",
            "\"",
            bytes,
        ),
        filled("[[rule]]\nname=\"a\"\nleast_sample=", "9", "", bytes),
        filled("", "#", "", bytes),
        filled("", "\n", "x", bytes),
    ]
}
