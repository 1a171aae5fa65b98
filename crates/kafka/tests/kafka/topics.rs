//! Topics are created as wanted, checked, and read outside the group.

use fenghuo_log::{Append, Error, Log, TopicSpec};

use crate::member::{Member, at, broker, log, spec_of, texts, topic};

#[test]
fn missing_topics_are_created_with_their_policies() {
    let log = log();
    let compacted = TopicSpec {
        compacted: true,
        ..spec_of("made.compacted", 2)
    };
    let kept = TopicSpec {
        retention_ms: Some(86_400_000),
        ..spec_of("made.kept", 3)
    };
    log.ensure(&[compacted.clone(), kept.clone()]).unwrap();
    log.ensure(&[compacted, kept]).unwrap();
    assert_eq!(log.partitions("made.compacted").unwrap(), Some(2));
    assert_eq!(log.partitions("made.kept").unwrap(), Some(3));
    assert_eq!(log.partitions("made.nowhere").unwrap(), None);

    let described = broker()
        .tool("org.apache.kafka.tools.TopicCommand")
        .args([
            "--bootstrap-server",
            &broker().bootstrap(),
            "--describe",
            "--topic",
            "made.*",
        ])
        .output()
        .unwrap();
    let described = String::from_utf8_lossy(&described.stdout).into_owned();
    let line = |topic: &str| {
        let is_of = |line: &&str| line.contains(topic) && line.contains("Configs:");
        described.lines().find(is_of).unwrap_or_default()
    };
    assert!(
        line("made.compacted").contains("cleanup.policy=compact"),
        "{described}"
    );
    assert!(
        line("made.kept").contains("retention.ms=86400000"),
        "{described}"
    );
}

#[test]
fn another_number_of_partitions_is_an_error() {
    let log = log();
    topic(&log, "count", 2);
    let error = log.ensure(&[spec_of("count", 3)]).unwrap_err();
    assert!(
        matches!(
            error,
            Error::PartitionCount {
                found: 2,
                expected: 3,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_missing_topic_cannot_be_read() {
    let error = Member::try_open(&log(), "missing", "a", &["nowhere"]).err();
    assert!(
        matches!(&error, Some(Error::Fatal(text)) if text.contains("nowhere")),
        "{error:?}"
    );
}

#[test]
fn a_compacted_topic_restores_the_last_record_of_each_key() {
    let log = log();
    log.ensure(&[TopicSpec {
        compacted: true,
        ..spec_of("state", 1)
    }])
    .unwrap();
    let to = at("state", 0);
    let mut member = Member::open(&log, "state", "a", &["state"]);
    for round in 0..20_u32 {
        let append = |key: u32| {
            Append::new(
                to.clone(),
                Some(key.to_string().into_bytes()),
                round.to_string().into(),
            )
        };
        member.commit((0..5).map(append).collect()).unwrap();
    }
    let mut tombstone = Append::new(to.clone(), Some(b"3".to_vec()), Vec::new());
    tombstone.value = None;
    member.commit(vec![tombstone]).unwrap();

    let mut rows = std::collections::BTreeMap::new();
    let mut restore = |record: fenghuo_log::Record<'_>| {
        let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
        match record.value {
            Some(value) => rows.insert(key, String::from_utf8(value.to_vec()).unwrap()),
            None => rows.remove(&key),
        };
    };
    member.session.read(&to, 0, u64::MAX, &mut restore).unwrap();
    let keys = ["0", "1", "2", "4"];
    assert_eq!(
        rows,
        keys.map(|key| (key.to_owned(), "19".to_owned())).into()
    );
}

#[test]
fn a_range_is_read_exactly_and_again() {
    let log = log();
    topic(&log, "ranges", 2);
    for number in 0..2 {
        log.append(texts(&at("ranges", number), 0..100)).unwrap();
    }
    let mut member = Member::open(&log, "ranges", "a", &["ranges"]);
    let mut read = |number: u32, from: u64, to: u64| {
        let mut offsets = Vec::new();
        let keep = &mut |record: fenghuo_log::Record<'_>| offsets.push(record.offset);
        member
            .session
            .read(&at("ranges", number), from, to, keep)
            .unwrap();
        offsets
    };
    for _ in 0..3 {
        assert_eq!(read(0, 10, 20), (10..20).collect::<Vec<_>>());
        assert_eq!(read(1, 0, u64::MAX), (0..100).collect::<Vec<_>>());
        assert!(read(0, 50, 50).is_empty());
        assert!(read(1, 100, u64::MAX).is_empty());
        assert_eq!(read(0, 95, 1000), (95..100).collect::<Vec<_>>());
    }
}
