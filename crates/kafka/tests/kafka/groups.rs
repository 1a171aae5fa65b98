//! Members share partitions, take over from each other, and begin where they are told.

use std::collections::BTreeMap;

use fenghuo_log::{Error, Log, Start};

use crate::member::{Member, at, broker, log, text, texts, topic};

/// Steps both in turn until the condition holds.
fn step_both(
    a: &mut Member,
    b: &mut Member,
    what: &str,
    condition: impl Fn(&Member, &Member) -> bool,
) {
    for _ in 0..400 {
        if condition(a, b) {
            return;
        }
        a.step().unwrap();
        b.step().unwrap();
    }
    panic!("never came true: {what}; {:?} and {:?}", a.held, b.held);
}

#[test]
fn two_members_share_and_one_takes_over_without_gap_or_repeat() {
    let log = log();
    topic(&log, "share", 4);
    let partitions: Vec<_> = (0..4).map(|number| at("share", number)).collect();
    let append = |range: std::ops::Range<u32>| {
        for partition in &partitions {
            log.append(texts(partition, range.clone())).unwrap();
        }
    };
    append(0..50);
    let mut a = Member::open(&log, "share", "a", &["share"]);
    a.step_until("all of the first part", |a| a.count() == 200);
    // Not committed: what the second member gets must be committed as it is given back.
    let mut b = Member::open(&log, "share", "b", &["share"]);
    step_both(&mut a, &mut b, "two partitions each", |a, b| {
        a.holds() == 2 && b.holds() == 2
    });
    append(50..100);
    step_both(&mut a, &mut b, "all of the second part", |a, b| {
        a.count() + b.count() == 400
    });
    b.commit(Vec::new()).unwrap();
    let (seen_by_b, _) = (std::mem::take(&mut b.seen), drop(b));

    append(100..150);
    a.step_until("the rest", |a| a.holds() == 4 && a.count() + 200 >= 500);
    a.step_until("the end", Member::is_at_end);

    let mut all: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for (partition, records) in a.seen.into_iter().chain(seen_by_b) {
        let values = records
            .into_iter()
            .map(|(_, value)| value.parse::<u32>().unwrap());
        all.entry(partition).or_default().extend(values);
    }
    for partition in &partitions {
        let values = all.get_mut(partition).unwrap();
        values.sort_unstable();
        assert_eq!(*values, (0..150).collect::<Vec<_>>(), "{partition}");
    }
}

#[test]
fn what_a_leaving_member_did_not_commit_is_read_again() {
    let log = log();
    topic(&log, "leave", 2);
    let mut a = Member::open(&log, "leave", "a", &["leave"]);
    let mut b = Member::open(&log, "leave", "b", &["leave"]);
    step_both(&mut a, &mut b, "one partition each", |a, b| {
        a.holds() == 1 && b.holds() == 1
    });
    for number in 0..2 {
        log.append(texts(&at("leave", number), 0..5)).unwrap();
    }
    step_both(&mut a, &mut b, "all", |a, b| {
        a.count() == 5 && b.count() == 5
    });
    a.commit(Vec::new()).unwrap();
    drop(b);
    a.step_until("what b read in vain", |a| a.holds() == 2 && a.count() >= 10);
    a.step_until("the end", Member::is_at_end);
    for number in 0..2 {
        assert_eq!(a.values(&at("leave", number)), ["0", "1", "2", "3", "4"]);
    }
}

#[test]
fn a_session_dropped_before_it_answers_does_not_hang() {
    let log = log();
    topic(&log, "unanswered", 1);
    let mut member = Member::open(&log, "unanswered", "a", &["unanswered"]);
    let mut asked = false;
    for _ in 0..400 {
        let polled = member
            .session
            .poll(std::time::Duration::from_millis(50), &mut |_, _| {});
        asked = matches!(polled.unwrap(), fenghuo_log::Polled::Assigned(_));
        if asked {
            break;
        }
    }
    assert!(asked);
    drop(member);
    let mut next = Member::open(&log, "unanswered", "a", &["unanswered"]);
    next.step_until("its partition", |next| next.holds() == 1);
}

#[test]
fn the_end_and_the_lag_count_what_can_be_seen() {
    let log = log();
    topic(&log, "lag", 1);
    let to = at("lag", 0);
    let mut member = Member::open(&log, "lag", "a", &["lag"]);
    member.step_until("the end of nothing", Member::is_at_end);
    assert_eq!(member.session.lag(0), 0);

    // Transactions leave marks behind the records, which are no records to come.
    for value in 0..3 {
        member.commit(vec![text(&to, value)]).unwrap();
    }
    member.step_until("three records and the end", |member| {
        member.count() == 3 && member.is_at_end()
    });
    assert_eq!(member.session.lag(0), 0);
    drop(member);

    log.append(texts(&to, 0..5_000)).unwrap();
    let mut next = Member::open(&log, "lag", "a", &["lag"]);
    next.step_until("some records", |next| next.count() > 0);
    assert!(!next.is_at_end() && next.session.lag(0) > 0 || next.count() == 5_003);
    next.step_until("the end again", |next| {
        next.count() == 5_003 && next.is_at_end()
    });
    assert_eq!(next.session.lag(0), 0);
}

#[test]
fn a_partition_without_a_commit_begins_where_it_is_told() {
    let log = log();
    topic(&log, "start", 1);
    let to = at("start", 0);
    log.append(texts(&to, 0..10)).unwrap();
    let mut member = Member::open(&log, "start", "a", &["start"]);
    let session = &mut member.session;
    assert_eq!(session.resolve(&to, Start::Earliest).unwrap(), 0);
    assert_eq!(session.resolve(&to, Start::Latest).unwrap(), 10);
    assert_eq!(session.resolve(&to, Start::At(0)).unwrap(), 0);
    // No record is that young.
    assert_eq!(
        session.resolve(&to, Start::At(4_000_000_000_000)).unwrap(),
        10
    );
    let mut times = Vec::new();
    session
        .read(&to, 0, 10, &mut |record| times.push(record.timestamp_ms))
        .unwrap();
    assert_eq!(session.resolve(&to, Start::At(times[9] + 1)).unwrap(), 10);

    member.start = Start::Latest;
    member.step_until("its partition", |member| member.holds() == 1);
    log.append(vec![text(&to, "new")]).unwrap();
    member.step_until("the new one", |member| member.count() > 0);
    assert_eq!(member.values(&to), ["new"]);
}

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
