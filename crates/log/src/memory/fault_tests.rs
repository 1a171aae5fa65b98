//! What goes wrong does so as it would on a real log, and a runner lets nothing out too early.

use super::*;
use crate::{Cadence, Progress, Restore, Runner, Stage};

fn spec(member: &str) -> SessionSpec {
    SessionSpec {
        group: "g".to_owned(),
        member: member.to_owned(),
        topics: vec!["in".to_owned()],
        start: Start::Earliest,
        low_latency: false,
    }
}

fn of(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

fn open() -> MemoryLog {
    let log = MemoryLog::new();
    let spec = |name: &str, compacted| TopicSpec {
        name: name.to_owned(),
        partitions: 1,
        compacted,
        retention_ms: None,
    };
    log.ensure(&[spec("in", false), spec("out", false), spec("kept", true)])
        .unwrap();
    log.append(vec![Append::new(of("in"), None, b"a".to_vec())])
        .unwrap();
    log
}

/// A session that has the partition.
fn joined(log: &MemoryLog, member: &str) -> Box<dyn Session> {
    let mut session = log.open(&spec(member)).unwrap();
    let polled = session.poll(Duration::ZERO, &mut |_, _| {}).unwrap();
    assert!(matches!(polled, Polled::Assigned(_)), "{polled:?}");
    session.start(&[(0, of("in"), 0)]).unwrap();
    session
}

fn commit(text: &str, to: u64) -> Commit {
    Commit {
        appends: vec![Append::new(of("out"), None, text.into())],
        offsets: vec![(of("in"), to)],
    }
}

/// What is in a topic, and how far the group has come.
fn state(log: &MemoryLog, topic: &str) -> (String, u64, Option<u64>) {
    let texts = log.lock().topics[topic][0]
        .records
        .iter()
        .map(|(at, stored)| {
            let value = stored.value.clone().unwrap_or_else(|| b"-".to_vec());
            format!("{at}{}", String::from_utf8(value).unwrap())
        })
        .collect::<Vec<_>>()
        .join(" ");
    let offset = log.offsets("g").get(&of("in")).copied();
    (texts, log.high(&of(topic)), offset)
}

#[test]
fn each_fault_of_a_commit_lands_what_it_says() {
    for (fault, expected) in [
        (CommitFault::Refused, (String::new(), 0, None)),
        (CommitFault::Aborted, (String::new(), 2, None)),
        (CommitFault::Unanswered, ("0x".to_owned(), 2, Some(1))),
        (CommitFault::Held, (String::new(), 0, None)),
    ] {
        let log = open();
        log.mark_transactions();
        let mut session = joined(&log, "m");
        log.fail_commit("m", fault);
        session.commit(commit("x", 1)).unwrap_err();
        session.commit(commit("y", 1)).unwrap_err();
        assert_eq!(state(&log, "out"), expected, "{fault:?}");
    }
}

#[test]
fn a_commit_on_its_way_lands_only_while_its_member_has_the_partition() {
    for expelled in [false, true] {
        let log = open();
        let mut zombie = joined(&log, "m");
        log.fail_commit("m", CommitFault::Held);
        zombie.commit(commit("x", 1)).unwrap_err();
        let mut other = log.open(&spec("n")).unwrap();
        if expelled {
            log.expel("m");
            let polled = other.poll(Duration::ZERO, &mut |_, _| {}).unwrap();
            assert!(matches!(polled, Polled::Assigned(_)));
        }
        let landed = log.deliver("m").unwrap();
        assert_eq!(landed.is_ok(), !expelled, "{landed:?}");
        assert_eq!(state(&log, "out").2.is_some(), !expelled);
    }
}

#[test]
fn who_was_expelled_is_told_what_it_lost_and_who_was_severed_can_do_nothing() {
    let log = open();
    let mut session = joined(&log, "m");
    log.expel("m");
    let polled = session.poll(Duration::ZERO, &mut |_, _| {}).unwrap();
    assert_eq!(polled, Polled::Lost(vec![of("in")]));
    session.release(&[of("in")]).unwrap();
    let polled = session.poll(Duration::ZERO, &mut |_, _| {}).unwrap();
    assert!(matches!(polled, Polled::Assigned(_)), "it joined anew");

    log.sever("m");
    session.commit(commit("x", 1)).unwrap_err();
    drop(session);
    let mut other = log.open(&spec("n")).unwrap();
    let polled = other.poll(Duration::ZERO, &mut |_, _| {}).unwrap();
    assert_eq!(polled, Polled::Records(0), "its place is kept for a while");
    log.expel("m");
    let polled = other.poll(Duration::ZERO, &mut |_, _| {}).unwrap();
    assert!(matches!(polled, Polled::Assigned(_)));
}

#[test]
fn a_crash_takes_back_whole_commits_from_the_end() {
    for (kept, expected) in [
        (0, ("0a".to_owned(), 1, Some(1))),
        (1, ("0a 1b".to_owned(), 2, Some(2))),
        (9, ("0a 1b 2c".to_owned(), 3, Some(3))),
    ] {
        let log = open();
        let mut session = joined(&log, "m");
        log.hold_durability();
        for (text, to) in [("a", 1), ("b", 2), ("c", 3)] {
            session.commit(commit(text, to)).unwrap();
            if text == "a" {
                log.sync();
            }
            assert_eq!(session.durable(Duration::ZERO).unwrap(), text == "a");
        }
        log.crash(kept);
        assert_eq!(state(&log, "out"), expected);
        session.commit(commit("d", 4)).unwrap_err();
    }
}

#[test]
fn compaction_keeps_the_last_durable_record_of_a_key_and_every_offset() {
    let log = open();
    let put = |key: &str, value: Option<&str>| Append {
        to: of("kept"),
        key: Some(key.into()),
        value: value.map(Into::into),
        headers: Vec::new(),
    };
    log.append(vec![
        put("a", Some("1")),
        put("b", Some("2")),
        put("a", Some("3")),
        put("c", Some("4")),
        put("c", None),
    ])
    .unwrap();
    let mut session = joined(&log, "m");
    log.hold_durability();
    let appends = vec![put("b", Some("5"))];
    let offsets = Vec::new();
    session.commit(Commit { appends, offsets }).unwrap();
    log.compact(&of("kept"), &mut |offset| offset == 3);
    // The 2 is superseded by what a crash may still take back.
    assert_eq!(state(&log, "kept").0, "12 23 34 4- 55");
    log.sync();
    log.compact(&of("kept"), &mut |_| false);
    assert_eq!(state(&log, "kept").0, "23 55");
    assert_eq!(log.high(&of("kept")), 6);
    log.compact(&of("in"), &mut |_| false);
    assert_eq!(
        state(&log, "in").0,
        "0a",
        "only compacted topics are compacted"
    );
}

/// Counts what it applied and what it may tell of.
#[derive(Default)]
struct Count {
    applied: usize,
    told: usize,
}

impl Stage for Count {
    fn assign(&mut self, _: usize, _: &Assigned, _: u64) -> Vec<Restore> {
        Vec::new()
    }
    fn restore(&mut self, _: usize, _: usize, _: Record<'_>) {}
    fn revoke(&mut self, _: usize) {}
    fn apply(&mut self, _: usize, _: Record<'_>) {
        self.applied += 1;
    }
    fn flush(&mut self, _: i64, _: &[Progress], appends: &mut Vec<Append>) {
        appends.push(Append::new(of("out"), None, b"x".to_vec()));
    }
    fn committed(&mut self) {
        self.told = self.applied;
    }
}

/// Guards: a commit that moved no offset once landed after its partitions had moved on.
#[test]
fn a_runner_whose_partitions_moved_on_commits_nothing_even_if_it_read_nothing() {
    let log = open();
    let cadence = Cadence {
        busy_ms: 0,
        idle_ms: Some(1_000),
        records_max: usize::MAX,
    };
    let session = log.open(&spec("m")).unwrap();
    let mut runner = Runner::new(session, Count::default(), Start::Earliest, cadence);
    for _ in 0..2 {
        runner.step(0, Duration::ZERO).unwrap();
    }
    let before = state(&log, "out");
    log.expel("m");
    runner.commit(1_000).unwrap_err();
    assert_eq!(state(&log, "out"), before);
}

#[test]
fn a_runner_lets_nothing_out_before_it_is_durable_and_reads_nothing_meanwhile() {
    let log = open();
    log.hold_durability();
    let cadence = Cadence {
        busy_ms: 0,
        idle_ms: None,
        records_max: usize::MAX,
    };
    let session = log.open(&spec("m")).unwrap();
    let mut runner = Runner::new(session, Count::default(), Start::Earliest, cadence);
    let step = |runner: &mut Runner<Count>| {
        runner.step(0, Duration::ZERO).unwrap();
        (runner.stage().applied, runner.stage().told)
    };
    assert_eq!(step(&mut runner), (0, 0), "partitions come");
    assert_eq!(step(&mut runner), (1, 0));
    assert!(runner.is_waiting());
    log.append(vec![Append::new(of("in"), None, b"b".to_vec())])
        .unwrap();
    assert_eq!(step(&mut runner), (1, 0));
    assert!(!runner.commit(0).unwrap());
    log.sync();
    assert_eq!(step(&mut runner), (2, 1), "let out, and read on");
    assert!(runner.is_waiting());
}
