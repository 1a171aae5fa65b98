//! What is forgotten, and who still reads.

use super::*;

fn spec(group: &str) -> SessionSpec {
    SessionSpec {
        group: group.to_owned(),
        member: format!("{group}-0"),
        topics: vec!["t".to_owned()],
        start: Start::Earliest,
        low_latency: false,
    }
}

/// A log with ten records, "0" at 0 ms to "9" at 9 ms.
fn ten() -> (MemoryLog, TopicPartition) {
    let log = MemoryLog::new();
    let topic = TopicSpec {
        name: "t".to_owned(),
        partitions: 1,
        compacted: false,
        retention_ms: None,
    };
    log.ensure(&[topic]).unwrap();
    let of = TopicPartition::new("t", 0);
    for number in 0..10_i64 {
        log.set_time(number);
        let value = number.to_string().into_bytes();
        log.append(vec![Append::new(of.clone(), None, value)])
            .unwrap();
    }
    (log, of)
}

fn begin(session: &mut dyn Session, offset: Option<u64>) -> Assigned {
    let Ok(Polled::Assigned(assigned)) = session.poll(Duration::ZERO, &mut |_, _| {}) else {
        panic!("expected partitions");
    };
    let from = offset.unwrap_or(assigned[0].low);
    let of = assigned[0].partition.clone();
    session.start(&[(0, of, from)]).unwrap();
    assigned[0].clone()
}

fn read(session: &mut dyn Session, of: &TopicPartition, from: u64, to: u64) -> Vec<String> {
    let mut read = Vec::new();
    let mut each = |record: Record<'_>| {
        let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
        read.push(format!("{}:{value}", record.offset));
    };
    session.read(of, from, to, &mut each).unwrap();
    read
}

#[test]
fn what_is_forgotten_is_gone_and_the_rest_keeps_its_offsets() {
    let (log, of) = ten();
    log.forget(&of, 7);
    log.forget(&of, 3);
    let mut session = log.open(&spec("a")).unwrap();
    let assigned = begin(&mut *session, None);
    assert_eq!((assigned.low, assigned.high), (7, 10));
    assert_eq!(read(&mut *session, &of, 0, 9), ["7:7", "8:8"]);
    assert_eq!(session.resolve(&of, Start::Earliest).unwrap(), 7);
    assert_eq!(session.resolve(&of, Start::Latest).unwrap(), 10);
    assert_eq!(session.resolve(&of, Start::At(8)).unwrap(), 8);
    let mut polled = Vec::new();
    session
        .poll(Duration::ZERO, &mut |_, record| polled.push(record.offset))
        .unwrap();
    assert_eq!(polled, [7, 8, 9]);
    assert_eq!(session.lag(0), 0);

    log.forget(&of, 100);
    assert_eq!(log.high(&of), 10);
    log.append(vec![Append::new(of.clone(), None, b"x".to_vec())])
        .unwrap();
    assert_eq!(read(&mut *session, &of, 0, 100), ["10:x"]);
}

#[test]
fn a_reader_of_what_is_forgotten_is_told() {
    let (log, of) = ten();
    let mut session = log.open(&spec("a")).unwrap();
    begin(&mut *session, Some(2));
    log.forget(&of, 5);
    let polled = session.poll(Duration::ZERO, &mut |_, _| {});
    assert!(matches!(
        polled,
        Err(Error::OutOfRange {
            offset: 2,
            low: 5,
            high: 10,
            ..
        })
    ));
}

#[test]
fn all_groups_have_committed_what_the_slowest_has() {
    let (log, of) = ten();
    assert_eq!(log.committed(&of), None);
    let mut sessions = ["a", "b"].map(|group| log.open(&spec(group)).unwrap());
    assert_eq!(log.committed(&of), Some(0));
    for (session, to, expected) in [(0, 8, 0), (1, 5, 5), (1, 9, 8)] {
        if expected != 8 {
            begin(&mut *sessions[session], None);
        }
        let offsets = vec![(of.clone(), to)];
        let appends = Vec::new();
        sessions[session]
            .commit(Commit { appends, offsets })
            .unwrap();
        assert_eq!(log.committed(&of), Some(expected));
    }
}

mod contract {
    use super::MemoryLog;

    fn log() -> MemoryLog {
        let log = MemoryLog::new();
        log.set_time(1_760_000_000_000);
        log
    }

    crate::contract!(log());
}
