//! Many rows, many commits, and a crash before and after each.

use super::*;

fn many(orders: usize) -> String {
    let rows = (0..orders).map(|order| {
        let order = format!("o{order}");
        row(&order, "a", "1") + &row(&order, "b", "2")
    });
    HEADER.to_owned() + &rows.collect::<String>()
}

#[test]
fn a_crash_before_and_after_every_commit_loses_and_repeats_nothing() {
    let mut desk = Desk::new(&[MAPPING]);
    desk.crashes = true;
    let text = many(12_000);
    desk.put("a.csv", &text[..text.len() / 3]);
    desk.look();
    desk.put("a.csv", &*text);
    desk.rest();
    let expect = desk.orders();
    assert_eq!(expect.len(), 12_000);
    assert!(expect.windows(2).all(|pair| pair[0] != pair[1]));
    // Anew, in another order, under the same name and another.
    let mut rows: Vec<&str> = text.lines().skip(1).collect();
    rows.reverse();
    let newest_first = format!("{HEADER}{}\n", rows.join("\n"));
    desk.put("a.csv", &*newest_first);
    desk.rest();
    desk.put("b.csv", &*newest_first);
    desk.rest();
    assert_eq!(desk.orders().len(), 12_000);
    assert_eq!(desk.reasons(), [""; 0]);
    assert_eq!(desk.watcher.rows(), 24_000);
    let bytes: usize = desk.kept.values().map(Vec::len).sum();
    assert!(bytes < 24_000 * 21 + 1_000, "{bytes}");
}

#[test]
fn a_file_that_was_replaced_has_only_its_own_rows() {
    let mut desk = Desk::new(&[MAPPING]);
    desk.put("a.csv", many(3_000));
    desk.rest();
    assert_eq!(desk.watcher.rows(), 3_000);
    desk.put("a.csv", format!("{HEADER}{}", row("other", "a", "1")));
    desk.rest();
    assert_eq!(desk.watcher.rows(), 1);
    // One head and one chunk are left.
    assert_eq!(desk.kept.len(), 2);
    desk.restart();
    assert_eq!((desk.watcher.rows(), desk.watcher.files()), (1, 1));
    desk.rest();
    assert_eq!(desk.orders().len(), 3_001);
}

#[test]
fn what_a_newer_build_wrote_ends_a_restore() {
    let mut watcher = Watcher::new(Settings::new(Vec::new()));
    assert!(watcher.restore(b"?", None).is_err());
    watcher.restore(b"F\0\0\0\0", Some(b"\x09")).unwrap();
    assert!(watcher.restored().is_err());
}
