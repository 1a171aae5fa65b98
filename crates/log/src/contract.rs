//! What every log has to keep, as cases that its own tests run.
//!
//! Owns a member of a group that keeps what it reads, and the cases: sharing, taking over,
//! transactions, fencing, restoring. They see a log through its trait alone; what only one kind of
//! log can do is tested beside it. [`contract!`](crate::contract) makes a test of each. A case
//! fails by a panic, and its topics and groups are its own, so that all can run on one log.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{
    Append, Commit, Error, Log, Polled, Record, Session, SessionSpec, Start, TopicPartition,
    TopicSpec,
};

/// Polls after which a condition counts as never met.
const POLLS_MAX: u32 = 400;
const WAIT: Duration = Duration::from_millis(50);

/// Makes a topic.
pub fn topic(log: &dyn Log, name: &str, partitions: u32) {
    log.ensure(&[spec_of(name, partitions)]).unwrap();
}

/// A topic that keeps its records.
pub fn spec_of(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions,
        compacted: false,
        retention_ms: None,
    }
}

/// A partition of a topic.
pub fn at(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

/// A record that holds a text.
pub fn text(to: &TopicPartition, value: impl ToString) -> Append {
    Append::new(to.clone(), None, value.to_string().into_bytes())
}

/// A record for each of these numbers.
pub fn texts(to: &TopicPartition, values: std::ops::Range<u32>) -> Vec<Append> {
    values.map(|value| text(to, value)).collect()
}

/// What was read of each partition: offset and value, in order.
pub type Seen = BTreeMap<TopicPartition, Vec<(u64, String)>>;

/// A member of a group that keeps what it reads.
pub struct Member {
    /// Its session.
    pub session: Box<dyn Session>,
    /// Where a partition without a commit begins.
    pub start: Start,
    /// By the index given to the session.
    pub held: Vec<Option<TopicPartition>>,
    /// Next offsets, to be committed.
    pub next: BTreeMap<TopicPartition, u64>,
    /// What it has read.
    pub seen: Seen,
}

impl Member {
    /// Opens it; fails by a panic.
    pub fn open(log: &dyn Log, group: &str, member: &str, topics: &[&str]) -> Self {
        Self::try_open(log, group, member, topics).unwrap()
    }

    /// Opens it.
    pub fn try_open(
        log: &dyn Log,
        group: &str,
        member: &str,
        topics: &[&str],
    ) -> Result<Self, Error> {
        let session = log.open(&SessionSpec {
            group: group.to_owned(),
            member: member.to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            start: Start::Earliest,
            low_latency: true,
        })?;
        Ok(Self {
            session,
            start: Start::Earliest,
            held: Vec::new(),
            next: BTreeMap::new(),
            seen: Seen::new(),
        })
    }

    /// Polls once and answers the group as a stage's runner does.
    pub fn step(&mut self) -> Result<(), Error> {
        let Self {
            session,
            held,
            next,
            seen,
            ..
        } = self;
        let polled = session.poll(WAIT, &mut |index, record| {
            let partition = held[index].clone().unwrap();
            next.insert(partition.clone(), record.offset + 1);
            let value = String::from_utf8(record.value.unwrap_or(b"-").to_vec()).unwrap();
            seen.entry(partition)
                .or_default()
                .push((record.offset, value));
        })?;
        match polled {
            Polled::Records(_) => {}
            Polled::Assigned(assigned) => {
                let mut begin = Vec::new();
                for one in assigned {
                    let from = match one.committed {
                        Some(offset) => offset,
                        None => self.session.resolve(&one.partition, self.start)?,
                    };
                    begin.push((self.held.len(), one.partition.clone(), from));
                    self.held.push(Some(one.partition));
                }
                self.session.start(&begin)?;
            }
            Polled::Revoked(partitions) => {
                self.commit(Vec::new())?;
                self.forget(&partitions)?;
            }
            Polled::Lost(partitions) => self.forget(&partitions)?,
        }
        Ok(())
    }

    fn forget(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for held in &mut self.held {
            held.take_if(|held| partitions.contains(held));
        }
        self.next
            .retain(|partition, _| !partitions.contains(partition));
        self.session.release(partitions)
    }

    /// Commits everything read, with these appends.
    pub fn commit(&mut self, appends: Vec<Append>) -> Result<(), Error> {
        let offsets = std::mem::take(&mut self.next).into_iter().collect();
        self.session.commit(Commit { appends, offsets })
    }

    /// Steps until a condition holds, or panics.
    pub fn step_until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        for _ in 0..POLLS_MAX {
            if condition(self) {
                return;
            }
            self.step().unwrap();
        }
        panic!("never came true: {what}; seen {:?}", self.seen);
    }

    /// How many partitions it holds.
    pub fn holds(&self) -> usize {
        self.held.iter().flatten().count()
    }

    /// How many records it has read.
    pub fn count(&self) -> usize {
        self.seen.values().map(Vec::len).sum()
    }

    /// Values read of a partition.
    pub fn values(&self, partition: &TopicPartition) -> Vec<&str> {
        self.seen
            .get(partition)
            .into_iter()
            .flatten()
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Whether it holds partitions and has read all of them.
    pub fn is_at_end(&mut self) -> bool {
        let held: Vec<usize> = (0..self.held.len())
            .filter(|index| self.held[*index].is_some())
            .collect();
        !held.is_empty() && held.into_iter().all(|index| self.session.at_end(index))
    }
}

/// Steps both in turn until the condition holds.
fn step_both(
    a: &mut Member,
    b: &mut Member,
    what: &str,
    condition: impl Fn(&Member, &Member) -> bool,
) {
    for _ in 0..POLLS_MAX {
        if condition(a, b) {
            return;
        }
        a.step().unwrap();
        b.step().unwrap();
    }
    panic!("never came true: {what}; {:?} and {:?}", a.held, b.held);
}

/// Two members share and one takes over without gap or repeat.
pub fn two_members_share_and_one_takes_over_without_gap_or_repeat(log: &dyn Log) {
    topic(log, "share", 4);
    let partitions: Vec<_> = (0..4).map(|number| at("share", number)).collect();
    let append = |range: std::ops::Range<u32>| {
        for partition in &partitions {
            log.append(texts(partition, range.clone())).unwrap();
        }
    };
    append(0..50);
    let mut a = Member::open(log, "share", "a", &["share"]);
    a.step_until("all of the first part", |a| a.count() == 200);
    // Not committed: what the second member gets must be committed as it is given back.
    let mut b = Member::open(log, "share", "b", &["share"]);
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

/// What a leaving member did not commit is read again.
pub fn what_a_leaving_member_did_not_commit_is_read_again(log: &dyn Log) {
    topic(log, "leave", 2);
    let mut a = Member::open(log, "leave", "a", &["leave"]);
    let mut b = Member::open(log, "leave", "b", &["leave"]);
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

/// A session dropped before it answers does not hang.
pub fn a_session_dropped_before_it_answers_does_not_hang(log: &dyn Log) {
    topic(log, "unanswered", 1);
    let mut member = Member::open(log, "unanswered", "a", &["unanswered"]);
    let mut asked = false;
    for _ in 0..POLLS_MAX {
        let polled = member.session.poll(WAIT, &mut |_, _| {});
        asked = matches!(polled.unwrap(), Polled::Assigned(_));
        if asked {
            break;
        }
    }
    assert!(asked);
    drop(member);
    let mut next = Member::open(log, "unanswered", "a", &["unanswered"]);
    next.step_until("its partition", |next| next.holds() == 1);
}

/// The end and the lag count what can be seen.
pub fn the_end_and_the_lag_count_what_can_be_seen(log: &dyn Log) {
    topic(log, "lag", 1);
    let to = at("lag", 0);
    let mut member = Member::open(log, "lag", "a", &["lag"]);
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
    let mut next = Member::open(log, "lag", "a", &["lag"]);
    next.step_until("some records", |next| next.count() > 0);
    assert!(!next.is_at_end() && next.session.lag(0) > 0 || next.count() == 5_003);
    next.step_until("the end again", |next| {
        next.count() == 5_003 && next.is_at_end()
    });
    assert_eq!(next.session.lag(0), 0);
}

/// A partition without a commit begins where it is told.
pub fn a_partition_without_a_commit_begins_where_it_is_told(log: &dyn Log) {
    topic(log, "start", 1);
    let to = at("start", 0);
    log.append(texts(&to, 0..10)).unwrap();
    let mut member = Member::open(log, "start", "a", &["start"]);
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

/// A reopened member resumes at the committed offset.
pub fn a_reopened_member_resumes_at_the_committed_offset(log: &dyn Log) {
    topic(log, "resume.in", 1);
    topic(log, "resume.out", 1);
    let (input, output) = (at("resume.in", 0), at("resume.out", 0));
    log.append(texts(&input, 0..10)).unwrap();

    let mut first = Member::open(log, "resume", "a", &["resume.in"]);
    first.step_until("ten records", |first| first.count() == 10);
    first.commit(vec![text(&output, "ten")]).unwrap();
    log.append(texts(&input, 10..12)).unwrap();
    first.step_until("two more", |first| first.count() == 12);
    // These two are read and not committed: the second life reads them again.
    drop(first);

    let mut second = Member::open(log, "resume", "a", &["resume.in"]);
    second.step_until("the end", |second| second.count() > 0 && second.is_at_end());
    assert_eq!(second.values(&input), ["10", "11"]);

    let mut written = Vec::new();
    let read = &mut |record: Record<'_>| written.push(record.value.unwrap().to_vec());
    second.session.read(&output, 0, u64::MAX, read).unwrap();
    assert_eq!(written, [b"ten"]);
}

/// A record keeps its key its content type and its absence of a value.
pub fn a_record_keeps_its_key_its_content_type_and_its_absence_of_a_value(log: &dyn Log) {
    topic(log, "parts", 1);
    let to = at("parts", 0);
    let mut whole = Append::new(to.clone(), Some(b"key".to_vec()), b"value".to_vec());
    whole.headers = vec![
        ("trace", b"1".to_vec()),
        ("content-type", b"application/json".to_vec()),
    ];
    let mut tombstone = Append::new(to.clone(), Some(b"key".to_vec()), Vec::new());
    tombstone.value = None;
    let empty = Append::new(to.clone(), None, Vec::new());

    let mut member = Member::open(log, "parts", "a", &["parts"]);
    member.commit(vec![whole, tombstone, empty]).unwrap();
    let mut records = Vec::new();
    member
        .session
        .read(&to, 0, u64::MAX, &mut |record| {
            assert!(
                record.timestamp_ms > 1_600_000_000_000,
                "{}",
                record.timestamp_ms
            );
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            records.push((
                owned(record.key),
                owned(record.value),
                owned(record.content_type),
            ));
        })
        .unwrap();
    let key = || Some(b"key".to_vec());
    assert_eq!(
        records,
        [
            (
                key(),
                Some(b"value".to_vec()),
                Some(b"application/json".to_vec())
            ),
            (key(), None, None),
            (None, Some(Vec::new()), None),
        ]
    );
}

/// Nothing of a failed commit is ever seen.
pub fn nothing_of_a_failed_commit_is_ever_seen(log: &dyn Log) {
    topic(log, "failed.in", 1);
    topic(log, "failed.out", 1);
    let (input, output) = (at("failed.in", 0), at("failed.out", 0));
    log.append(texts(&input, 0..3)).unwrap();

    let mut first = Member::open(log, "failed", "a", &["failed.in"]);
    first.step_until("three records", |first| first.count() == 3);
    // The second record goes where there is no partition, after the first was sent.
    let error = first.commit(vec![
        text(&output, "lost"),
        text(&at("failed.out", 7), "nowhere"),
    ]);
    assert!(
        matches!(&error, Err(Error::Fatal(text)) if text.contains("failed.out/7")),
        "{error:?}"
    );
    drop(first);

    let mut second = Member::open(log, "failed", "a", &["failed.in", "failed.out"]);
    second.step_until("three records again", |second| second.count() >= 3);
    second.commit(vec![text(&output, "kept")]).unwrap();
    second.step_until("what is kept", |second| {
        second.count() >= 4 && second.is_at_end()
    });
    assert_eq!(second.values(&input), ["0", "1", "2"]);
    assert_eq!(second.values(&output), ["kept"]);
}

/// A second session under the same name fences the first.
pub fn a_second_session_under_the_same_name_fences_the_first(log: &dyn Log) {
    topic(log, "fence.in", 1);
    topic(log, "fence.out", 1);
    let output = at("fence.out", 0);
    let mut first = Member::open(log, "fence", "a", &["fence.in"]);
    first.step_until("its partition", |first| first.holds() == 1);
    first.commit(vec![text(&output, "first")]).unwrap();

    let mut second = Member::open(log, "fence", "a", &["fence.in"]);
    let error = first.commit(vec![text(&output, "zombie")]).unwrap_err();
    assert!(
        matches!(&error, Error::Fenced { member } if member == "a"),
        "{error:?}"
    );
    drop(first);

    second.commit(vec![text(&output, "second")]).unwrap();
    let mut written = Vec::new();
    second
        .session
        .read(&output, 0, u64::MAX, &mut |record| {
            written.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        })
        .unwrap();
    assert_eq!(written, ["first", "second"]);
}

/// Another number of partitions is an error.
pub fn another_number_of_partitions_is_an_error(log: &dyn Log) {
    topic(log, "count", 2);
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

/// A missing topic cannot be read.
pub fn a_missing_topic_cannot_be_read(log: &dyn Log) {
    let error = Member::try_open(log, "missing", "a", &["nowhere"]).err();
    assert!(
        matches!(&error, Some(Error::Fatal(text)) if text.contains("nowhere")),
        "{error:?}"
    );
}

/// A compacted topic restores the last record of each key.
pub fn a_compacted_topic_restores_the_last_record_of_each_key(log: &dyn Log) {
    log.ensure(&[TopicSpec {
        compacted: true,
        ..spec_of("state", 1)
    }])
    .unwrap();
    let to = at("state", 0);
    let mut member = Member::open(log, "state", "a", &["state"]);
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

    let mut rows = BTreeMap::new();
    let mut restore = |record: Record<'_>| {
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

/// A range is read exactly and again.
pub fn a_range_is_read_exactly_and_again(log: &dyn Log) {
    topic(log, "ranges", 2);
    for number in 0..2 {
        log.append(texts(&at("ranges", number), 0..100)).unwrap();
    }
    let mut member = Member::open(log, "ranges", "a", &["ranges"]);
    let mut read = |number: u32, from: u64, to: u64| {
        let mut offsets = Vec::new();
        let keep = &mut |record: Record<'_>| offsets.push(record.offset);
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

/// Makes a test of each case of the [contract](crate::contract); `$open` gives a log, of which the
/// last one may still live.
#[macro_export]
macro_rules! contract {
    ($open:expr) => {
        $crate::contract! {
            @ $open;
            two_members_share_and_one_takes_over_without_gap_or_repeat
            what_a_leaving_member_did_not_commit_is_read_again
            a_session_dropped_before_it_answers_does_not_hang
            the_end_and_the_lag_count_what_can_be_seen
            a_partition_without_a_commit_begins_where_it_is_told
            a_reopened_member_resumes_at_the_committed_offset
            a_record_keeps_its_key_its_content_type_and_its_absence_of_a_value
            nothing_of_a_failed_commit_is_ever_seen
            a_second_session_under_the_same_name_fences_the_first
            another_number_of_partitions_is_an_error
            a_missing_topic_cannot_be_read
            a_compacted_topic_restores_the_last_record_of_each_key
            a_range_is_read_exactly_and_again
        }
    };
    (@ $open:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::contract::$case(&$open);
            }
        )*
    };
}
