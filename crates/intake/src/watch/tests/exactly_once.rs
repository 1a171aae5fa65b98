//! However a list is cut, sorted, named, replaced and interrupted: each order once.

use encoding_rs::GB18030;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// One export of the first so many orders.
#[derive(Clone, Debug)]
struct Version {
    orders: Index,
    turn: u64,
    name: u8,
    is_gb: bool,
    cuts: Vec<Index>,
    has_last_end: bool,
    settles: bool,
    removes: bool,
    restarts: bool,
}

fn version() -> impl Strategy<Value = Version> {
    let looks = (
        proptest::collection::vec(any::<Index>(), 0..4),
        any::<bool>(),
        any::<bool>(),
    );
    let first = (any::<Index>(), any::<u64>(), 0..3_u8, any::<bool>());
    (first, looks, any::<bool>(), any::<bool>()).prop_map(|(first, looks, removes, restarts)| {
        Version {
            orders: first.0,
            turn: first.1,
            name: first.2,
            is_gb: first.3,
            cuts: looks.0,
            has_last_end: looks.1,
            settles: looks.2,
            removes,
            restarts,
        }
    })
}

/// Orders by number, in an order that a seed says, each with its rows together.
fn export(orders: &[Vec<u8>], count: usize, version: &Version) -> Vec<u8> {
    let mut numbers: Vec<usize> = (0..count).collect();
    match version.turn % 3 {
        0 => {}
        1 => numbers.reverse(),
        _ => numbers.sort_by_key(|number| (*number as u64 + 1).wrapping_mul(version.turn) % 1_009),
    }
    let mut text = HEADER.to_owned();
    for number in numbers {
        let mut rows: Vec<String> = orders[number]
            .iter()
            .map(|sku| row(&format!("单{number}"), &format!("s{sku}"), "1"))
            .collect();
        if version.turn % 2 == 1 {
            rows.reverse();
        }
        text += &rows.concat();
    }
    let text = match version.has_last_end {
        true => text.as_str(),
        false => text.trim_end(),
    };
    match version.is_gb {
        true => GB18030.encode(text).0.into_owned(),
        false => text.as_bytes().to_vec(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn each_order_comes_once(
        orders in proptest::collection::vec(proptest::collection::vec(0..3_u8, 1..4), 1..12),
        versions in proptest::collection::vec(version(), 1..6),
        crashes in any::<bool>(),
    ) {
        let mut desk = Desk::new(&[MAPPING]);
        desk.crashes = crashes;
        let mut count = 0;
        for version in &versions {
            // A list only grows.
            count = count.max(1 + version.orders.index(orders.len()));
            let bytes = export(&orders, count, version);
            let name = format!("{}.csv", version.name);
            let mut cuts: Vec<usize> = version.cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.sort_unstable();
            for cut in cuts {
                desk.put(&name, &bytes[..cut]);
                desk.now_ms += 1_000;
                desk.look();
            }
            desk.put(&name, bytes);
            if version.removes {
                desk.files.0.borrow_mut().retain(|other, _| *other == name);
            }
            desk.look();
            if version.restarts {
                desk.restart();
            }
            if version.settles {
                desk.rest();
            }
        }
        desk.rest();
        desk.rest();
        let mut expect: Vec<String> = orders[..count]
            .iter()
            .enumerate()
            .map(|(number, skus)| {
                let mut lines: Vec<String> = skus.iter().map(|sku| format!("s{sku}*1")).collect();
                lines.sort();
                format!("单{number} PAID {}", lines.join(" "))
            })
            .collect();
        expect.sort();
        prop_assert_eq!(desk.orders(), expect);
        prop_assert_eq!(desk.reasons(), Vec::<String>::new());
        prop_assert_eq!(desk.problems(), Vec::<String>::new());
        // What a new life knows is what this one knows.
        let rows = desk.watcher.rows();
        desk.restart();
        prop_assert_eq!(desk.watcher.rows(), rows);
    }
}
