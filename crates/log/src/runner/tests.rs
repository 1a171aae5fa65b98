//! When a runner commits.

use std::time::Duration;

use super::*;
use crate::memory::MemoryLog;
use crate::{Log, SessionSpec, TopicSpec};

/// Says something of records with a value, and nothing of others.
#[derive(Default)]
struct Selective {
    read: usize,
    to_say: Vec<Vec<u8>>,
    shown: usize,
}

impl Stage for Selective {
    fn assign(&mut self, _: usize, _: &Assigned, _: u64) -> Vec<Restore> {
        Vec::new()
    }
    fn restore(&mut self, _: usize, _: usize, _: Record<'_>) {}
    fn revoke(&mut self, _: usize) {}
    fn apply(&mut self, _: usize, record: Record<'_>) {
        self.read += 1;
        let value = record.value.unwrap_or_default();
        if !value.is_empty() {
            self.to_say.push(value.to_vec());
        }
    }
    fn flush(&mut self, _: i64, _: &[Progress], appends: &mut Vec<Append>) {
        for value in std::mem::take(&mut self.to_say) {
            appends.push(Append::new(TopicPartition::new("out", 0), None, value));
        }
    }
    fn committed(&mut self) {
        self.shown = self.read;
    }
}

fn spec(group: &str) -> SessionSpec {
    SessionSpec {
        group: group.to_owned(),
        member: format!("{group}-0"),
        topics: vec!["in".to_owned()],
        start: Start::Earliest,
        low_latency: true,
    }
}

struct Fixture {
    log: MemoryLog,
    runner: Runner<Selective>,
}

impl Fixture {
    /// A runner that stands at the begin of its partition.
    fn new() -> Self {
        let log = MemoryLog::new();
        let topics = ["in", "out"].map(|name| TopicSpec {
            name: name.to_owned(),
            partitions: 1,
            compacted: false,
            retention_ms: None,
        });
        log.ensure(&topics).unwrap();
        let session = log.open(&spec("g"));
        let cadence = Cadence {
            busy_ms: 0,
            idle_ms: None,
            records_max: usize::MAX,
        };
        let stage = Selective::default();
        let runner = Runner::new(session.unwrap(), stage, Start::Earliest, cadence);
        let mut fixture = Self { log, runner };
        fixture.step(0);
        fixture
    }

    fn append(&self, value: &str) {
        let to = TopicPartition::new("in", 0);
        let append = Append::new(to, None, value.as_bytes().to_vec());
        self.log.append(vec![append]).unwrap();
    }

    fn step(&mut self, now_ms: i64) -> bool {
        let step = self.runner.step(now_ms, Duration::ZERO).unwrap();
        step.committed
    }

    fn committed(&self) -> Option<u64> {
        self.log.committed(&TopicPartition::new("in", 0))
    }
}

#[test]
fn offsets_alone_are_committed_once_a_second_and_what_is_said_takes_them_along() {
    let mut fixture = Fixture::new();
    fixture.append("");
    assert!(fixture.step(10), "the first time at once");
    assert_eq!(fixture.committed(), Some(1));

    fixture.append("");
    assert!(!fixture.step(500));
    assert_eq!(fixture.committed(), Some(1));
    assert_eq!(fixture.runner.stage().shown, 2, "it is shown all the same");

    fixture.append("said");
    assert!(fixture.step(600));
    assert_eq!(fixture.committed(), Some(3));

    fixture.append("");
    assert!(!fixture.step(1_599));
    assert!(fixture.step(1_600), "although nothing more came");
    assert_eq!(fixture.committed(), Some(4));
    assert!(!fixture.step(10_000), "and then there is nothing to commit");
}

#[test]
fn a_drain_commits_offsets_of_which_nothing_was_said() {
    let mut fixture = Fixture::new();
    fixture.append("");
    fixture.step(0);
    fixture.append("");
    assert!(!fixture.step(1));
    assert!(fixture.runner.commit(2).unwrap());
    assert_eq!(fixture.committed(), Some(2));
    assert!(!fixture.runner.commit(3).unwrap());
}

/// Guards: what was read and led to nothing to say was once shown before it was durable, because
/// only a commit was waited for.
#[test]
fn what_leads_to_nothing_to_say_is_shown_once_it_is_durable() {
    let mut fixture = Fixture::new();
    fixture.append("");
    fixture.step(0);
    assert_eq!(fixture.runner.stage().shown, 1);

    // A loader's append is durable when it returns; what another stage commits is not.
    let mut writer = fixture.log.open(&spec("w")).unwrap();
    fixture.log.hold_durability();
    let to = TopicPartition::new("in", 0);
    let commit = Commit {
        appends: vec![Append::new(to, None, Vec::new())],
        offsets: Vec::new(),
    };
    writer.commit(commit).unwrap();
    assert!(!fixture.step(1));
    assert!(fixture.runner.is_waiting());
    assert_eq!(fixture.runner.stage().shown, 1);
    fixture.log.sync();
    fixture.step(2);
    assert_eq!(fixture.runner.stage().shown, 2);
}
