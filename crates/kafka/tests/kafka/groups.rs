//! A member whose offset is gone.

use fenghuo_log::{Error, Log};

use crate::member::{Member, at, broker, log, texts, topic};

#[test]
fn a_committed_offset_that_retention_deleted_is_out_of_range() {
    let log = log();
    topic(&log, "range", 1);
    let to = at("range", 0);
    log.append(texts(&to, 0..10)).unwrap();
    let mut member = Member::open(&log, "range", "a", &["range"]);
    member.step_until("ten", |member| member.count() == 10);
    member.next.insert(to.clone(), 3);
    member.commit(Vec::new()).unwrap();
    drop(member);

    // Retention, at once: everything before offset 7 goes.
    let requests = std::env::temp_dir().join(format!("fenghuo-range-{}.json", std::process::id()));
    let json = r#"{"version":1,"partitions":[{"topic":"range","partition":0,"offset":7}]}"#;
    std::fs::write(&requests, json).unwrap();
    let deleted = broker()
        .tool("org.apache.kafka.tools.DeleteRecordsCommand")
        .args([
            "--bootstrap-server",
            &broker().bootstrap(),
            "--offset-json-file",
        ])
        .arg(&requests)
        .output()
        .unwrap();
    std::fs::remove_file(&requests).unwrap();
    assert!(deleted.status.success(), "{deleted:?}");

    let mut next = Member::open(&log, "range", "a", &["range"]);
    let error = (0..400)
        .find_map(|_| next.step().err())
        .expect("no error came");
    let Error::OutOfRange {
        partition,
        offset,
        low,
        high,
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((partition, *offset, *low, *high), (&to, 3, 7, 10));

    // Restoring takes what is still there.
    let mut values = Vec::new();
    let mut reader = Member::open(&log, "range.reader", "a", &["range"]);
    let keep = &mut |record: fenghuo_log::Record<'_>| values.push(record.offset);
    reader.session.read(&to, 0, u64::MAX, keep).unwrap();
    assert_eq!(values, [7, 8, 9]);
}
