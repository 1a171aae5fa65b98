//! The promises of the log in a folder.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use fenghuo_log::contract::{Member, at, spec_of, text, texts, topic};
use redb::backends::InMemoryBackend;

use super::*;

fn log() -> EmbeddedLog {
    let file =
        || -> std::io::Result<Box<dyn StorageBackend>> { Ok(Box::new(InMemoryBackend::new())) };
    EmbeddedLog::with_file(Box::new(file), Box::new(file::now_ms), Syncing::Awaited)
}

fenghuo_log::contract!(log());

/// The values of a partition, with their offsets.
fn values(log: &EmbeddedLog, of: &TopicPartition) -> Vec<(u64, String)> {
    let mut values = Vec::new();
    let mut each = |record: Whole| {
        let value = record.value.unwrap_or_else(|| b"-".to_vec());
        values.push((record.offset, String::from_utf8_lossy(&value).into_owned()));
        true
    };
    log.dump(of, 0, &mut each).unwrap();
    values
}

fn bytes_of(log: &EmbeddedLog) -> u64 {
    log.shared.lock().bytes_by_topic().values().sum()
}

fn drop_beyond(log: &EmbeddedLog, bytes_max: Option<u64>) {
    let kept = Kept {
        bytes_max,
        ..Kept::default()
    };
    log.drop_old(&kept).unwrap();
}

fn open(folder: &Path) -> EmbeddedLog {
    EmbeddedLog::open(folder).unwrap()
}

#[test]
fn a_folder_keeps_topics_records_and_where_groups_stand() {
    let folder = tempfile::tempdir().unwrap();
    let (input, state) = (at("input", 1), at("state", 0));
    {
        let log = open(folder.path());
        topic(&log, "input", 2);
        let compacted = TopicSpec {
            compacted: true,
            ..spec_of("state", 1)
        };
        log.ensure(&[compacted]).unwrap();
        log.append(texts(&input, 0..5)).unwrap();
        let mut member = Member::open(&log, "g", "a", &["input"]);
        member.step_until("five", |member| member.count() == 5);
        let row = |value: &str| Append::new(state.clone(), Some(b"k".to_vec()), value.into());
        member.commit(vec![row("old"), row("new")]).unwrap();
        assert!(member.session.durable(std::time::Duration::ZERO).unwrap());
    }
    let log = open(folder.path());
    assert_eq!(log.partitions("input").unwrap(), Some(2));
    assert_eq!(values(&log, &state), [(1, "new".to_owned())]);
    assert_eq!((log.high(&input), log.high(&state)), (5, 2));
    log.append(texts(&input, 5..7)).unwrap();
    let mut member = Member::open(&log, "g", "a", &["input"]);
    member.step_until("the rest", |member| member.count() == 2);
    assert_eq!(member.values(&input), ["5", "6"]);
    assert_eq!(log.committed(&input), Some(5));
}

#[test]
fn one_process_holds_a_folder_and_another_is_told_which() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let error = EmbeddedLog::open(folder.path()).unwrap_err().to_string();
    let holder = format!("process {}", std::process::id());
    assert!(
        error.contains(&holder) && error.contains("stop it"),
        "{error}"
    );
    drop(log);
    open(folder.path());
}

#[test]
fn what_a_newer_build_wrote_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let path = folder.path().join("log.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[16] = 3;
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..32]);
    bytes[32..40].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = EmbeddedLog::open(folder.path()).unwrap_err();
    assert!(error.is_newer(), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("format 3"), "{cause}");
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.redb");
    std::fs::write(&path, "something else".repeat(1_000)).unwrap();
    assert!(matches!(
        EmbeddedLog::open(folder.path()),
        Err(FolderError::Store { .. })
    ));
    assert!(std::fs::read(&path).unwrap().starts_with(b"something else"));
}

#[test]
fn large_commits_are_read_whole_from_memory_and_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let of = at("large", 0);
    // Bytes that do not pack: a congruential sequence.
    let noise = |seed: u32| -> Vec<u8> {
        (0..100_000_u32)
            .map(|n| ((n + seed).wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect()
    };
    let count = |log: &EmbeddedLog| {
        let mut member = Member::open(log, "g", "a", &["large"]);
        let mut seen = 0;
        let mut bytes = 0;
        let mut each = |record: fenghuo_log::Record<'_>| {
            assert_eq!(record.value.unwrap(), noise(record.offset as u32));
            assert_eq!(record.offset, seen);
            seen += 1;
            bytes += record.value.unwrap().len();
        };
        member.session.read(&of, 0, u64::MAX, &mut each).unwrap();
        (seen, bytes)
    };
    {
        let log = open(folder.path());
        topic(&log, "large", 1);
        let append = |seed| Append::new(of.clone(), None, noise(seed));
        log.append((0..40).map(append).collect()).unwrap();
        assert_eq!(count(&log), (40, 4_000_000));
    }
    assert_eq!(count(&open(folder.path())), (40, 4_000_000));
}

#[test]
fn old_batches_are_dropped_and_what_is_left_keeps_its_offsets() {
    let log = log();
    topic(&log, "t", 1);
    let of = at("t", 0);
    for number in 0..10 {
        log.append(texts(&of, number * 2..number * 2 + 2)).unwrap();
    }
    log.forget(&of, 7).unwrap();
    // The batch with 6 and 7 has more than what is to go.
    let offsets = |log: &EmbeddedLog| -> Vec<u64> {
        values(log, &of)
            .into_iter()
            .map(|(offset, _)| offset)
            .collect()
    };
    assert_eq!(offsets(&log), (6..20).collect::<Vec<_>>());
    let mut member = Member::open(&log, "g", "a", &["t"]);
    member.step_until("all that is left", |member| member.count() == 14);
    log.forget(&of, 100).unwrap();
    assert_eq!((offsets(&log).len(), log.high(&of)), (0, 20));
    log.append(vec![text(&of, "x")]).unwrap();
    assert_eq!(values(&log, &of), [(20, "x".to_owned())]);
}

/// A log in memory at a time that a test sets.
fn timed(now_ms: &Arc<AtomicI64>) -> EmbeddedLog {
    let file =
        || -> std::io::Result<Box<dyn StorageBackend>> { Ok(Box::new(InMemoryBackend::new())) };
    let now_ms = Arc::clone(now_ms);
    let clock = Box::new(move || now_ms.load(Ordering::Relaxed));
    let log = EmbeddedLog::with_file(Box::new(file), clock, Syncing::Awaited);
    topic(&log, "t", 1);
    log
}

fn times(log: &EmbeddedLog) -> Vec<i64> {
    let mut times = Vec::new();
    let mut each = |record: Whole| {
        times.push(record.timestamp_ms);
        true
    };
    log.dump(&at("t", 0), 0, &mut each).unwrap();
    times
}

/// Guards: after a jump ahead and back, time stood still until the clock came by there again.
#[test]
fn time_goes_back_with_a_step_of_the_clock_and_else_never() {
    let clock = Arc::new(AtomicI64::new(0));
    let log = timed(&clock);
    for now_ms in [10_000, 9_000, 11_000, 3_611_000, 12_000, 11_500, 13_000] {
        clock.store(now_ms, Ordering::Relaxed);
        log.append(vec![text(&at("t", 0), now_ms)]).unwrap();
    }
    assert_eq!(
        times(&log),
        [10_000, 10_000, 11_000, 3_611_000, 12_000, 12_000, 13_000]
    );
}

#[test]
fn a_clock_that_is_years_ahead_for_a_while_empties_nothing() {
    const DAY_MS: i64 = 86_400_000;
    const MINUTE_MS: i64 = 60_000;
    let clock = Arc::new(AtomicI64::new(100 * DAY_MS));
    let log = timed(&clock);
    log.ensure(&[TopicSpec {
        name: "t".to_owned(),
        partitions: 1,
        compacted: false,
        retention_ms: Some(7 * DAY_MS),
    }])
    .unwrap();
    let write = |count: i64| {
        for _ in 0..count {
            clock.fetch_add(MINUTE_MS, Ordering::Relaxed);
            log.append(vec![text(&at("t", 0), 0)]).unwrap();
            log.drop_old(&Kept::default()).unwrap();
        }
    };
    write(90);
    clock.fetch_add(3_650 * DAY_MS, Ordering::Relaxed);
    write(30);
    assert_eq!(times(&log).len(), 120, "by the step alone nothing is old");
    clock.fetch_sub(3_650 * DAY_MS, Ordering::Relaxed);
    write(90);
    assert_eq!(times(&log).len(), 210);
    // What was stamped by the wrong clock goes with what is as old.
    for _ in 0..8 * 24 * 12 {
        clock.fetch_add(5 * MINUTE_MS, Ordering::Relaxed);
        log.drop_old(&Kept::default()).unwrap();
    }
    write(1);
    assert_eq!(times(&log).len(), 1);
}

#[test]
fn many_that_wait_share_a_sync_and_all_is_there() {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open(folder.path());
        topic(&log, "t", 8);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let log = log.clone();
                scope.spawn(move || {
                    for value in 0..50 {
                        log.append(vec![text(&at("t", number), value)]).unwrap();
                    }
                });
            }
        });
        assert_eq!(log.unsynced(), 0);
    }
    let log = open(folder.path());
    for number in 0..8 {
        let expected: Vec<_> = (0..50).map(|value| (value, value.to_string())).collect();
        assert_eq!(values(&log, &at("t", number)), expected);
    }
}

#[test]
fn what_is_too_old_or_too_much_goes_but_never_what_was_not_read() {
    static NOW_MS: AtomicI64 = AtomicI64::new(0);
    let file =
        || -> std::io::Result<Box<dyn StorageBackend>> { Ok(Box::new(InMemoryBackend::new())) };
    let clock = Box::new(|| NOW_MS.load(Ordering::Relaxed));
    let log = EmbeddedLog::with_file(Box::new(file), clock, Syncing::Awaited);
    let kept = TopicSpec {
        retention_ms: Some(1_000),
        ..spec_of("kept", 1)
    };
    log.ensure(&[kept, spec_of("all", 1)]).unwrap();
    let (kept, all) = (at("kept", 0), at("all", 0));
    let mut reader = Member::open(&log, "g", "a", &["kept", "all"]);
    for number in 0..100 {
        NOW_MS.store(i64::from(number) * 100, Ordering::Relaxed);
        log.append(vec![text(&kept, number), text(&all, number)])
            .unwrap();
    }
    drop_beyond(&log, Some(0));
    assert_eq!(values(&log, &kept).len(), 100, "nobody has read them");
    reader.step_until("all", |reader| reader.count() == 200);
    reader.commit(Vec::new()).unwrap();

    drop_beyond(&log, None);
    let left = values(&log, &kept);
    assert_eq!((left[0].0, left.len()), (89, 11), "of the last second");
    assert_eq!(values(&log, &all).len(), 100);
    let bytes = bytes_of(&log);
    drop_beyond(&log, Some(bytes / 2));
    assert!(bytes_of(&log) <= bytes / 2);
    assert!(values(&log, &all)[0].0 > 20 && !values(&log, &all).is_empty());
    drop_beyond(&log, Some(0));
    assert_eq!(bytes_of(&log), 0);
}

#[test]
fn a_topic_that_is_flooded_loses_its_own_records_and_no_others() {
    let log = log();
    log.ensure(&[
        spec_of("orders", 2),
        spec_of("flood", 1),
        spec_of("letters", 1),
    ])
    .unwrap();
    // Bytes that do not pack.
    let noise = |of: &TopicPartition, seed: u32| -> Append {
        let bytes = (0..4_000_u32).map(|n| ((n + seed).wrapping_mul(2_654_435_761) >> 13) as u8);
        Append::new(of.clone(), None, bytes.collect())
    };
    for number in 0..20 {
        let orders = at("orders", number % 2);
        log.append(vec![noise(&orders, number)]).unwrap();
    }
    let orders = || values_of(&log, "orders");
    for number in 0..500 {
        let letters = noise(&at("letters", 0), number);
        log.append(vec![noise(&at("flood", 0), number), letters])
            .unwrap();
    }
    let bytes = |topic: &str| log.shared.lock().bytes_by_topic()[topic];
    assert_eq!(orders(), 20);
    let kept = Kept {
        bytes_max: Some(400_000),
        topics: vec![("letters".to_owned(), 50_000)],
    };
    let dropped = log.drop_old(&kept).unwrap();
    let names: Vec<&str> = dropped.keys().map(String::as_str).collect();
    assert_eq!(names, ["flood", "letters"]);
    assert_eq!(orders(), 20, "the oldest of all, and less than their share");
    assert!(bytes("letters") <= 50_000 && bytes("letters") > 40_000);
    assert!(bytes_of(&log) <= 400_000 && bytes("flood") > 200_000);
    // With no limit for all, a topic's own holds.
    let own = Kept {
        bytes_max: None,
        topics: vec![("letters".to_owned(), 10_000)],
    };
    log.drop_old(&own).unwrap();
    assert!(bytes("letters") <= 10_000);
}

fn values_of(log: &EmbeddedLog, topic: &str) -> usize {
    let partitions = log.partitions(topic).unwrap().unwrap();
    let of = |partition| values(log, &at(topic, partition)).len();
    (0..partitions).map(of).sum()
}

#[test]
fn a_copy_is_what_was_committed_when_it_was_taken() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder.path().join("data"));
    topic(&log, "t", 1);
    log.append(texts(&at("t", 0), 0..5)).unwrap();
    let mut member = Member::open(&log, "g", "a", &["t"]);
    member.step_until("five", |member| member.count() == 5);
    // Committed, and not yet durable.
    member.commit(vec![text(&at("t", 0), "six")]).unwrap();
    let copy = folder.path().join("copy");
    log.backup(&copy).unwrap();
    assert!(log.backup(&copy).is_err(), "it is there already");
    log.append(texts(&at("t", 0), 6..9)).unwrap();
    let copied = open(&copy);
    let values = values(&copied, &at("t", 0));
    assert_eq!(values.len(), 6);
    assert_eq!(values[5], (5, "six".to_owned()));
    assert_eq!(copied.committed(&at("t", 0)), Some(5));
    assert_eq!(copied.check().unwrap()[0].records, 6);
}

#[test]
fn who_is_behind_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open(folder.path());
        topic(&log, "t", 2);
        for number in 0..40 {
            // A batch each, larger than what one poll takes.
            let large = Append::new(at("t", 0), None, vec![number; 1_100_000]);
            log.append(vec![large]).unwrap();
        }
    }
    let log = open(folder.path());
    let mut member = Member::open(&log, "g", "a", &["t"]);
    member.step_until("its partitions", |member| member.holds() == 2);
    let fresh = Append::new(at("t", 1), None, b"fresh".to_vec());
    log.append(vec![fresh]).unwrap();
    let mut polls = 0;
    let mut seen = (0, false);
    while !seen.1 {
        polls += 1;
        let mut each = |_: usize, record: fenghuo_log::Record<'_>| match record.value {
            Some(b"fresh") => seen.1 = true,
            _ => seen.0 += 1,
        };
        member
            .session
            .poll(std::time::Duration::ZERO, &mut each)
            .unwrap();
        assert!(polls < 10, "{seen:?}");
    }
    assert!(seen.0 > 0 && seen.0 < 40, "{seen:?}");
}

/// Guards: two processes wrote one log, through a link to it or after its lock was removed, and what
/// both had acknowledged was gone.
#[test]
fn a_log_is_held_whatever_leads_to_it() {
    let home = tempfile::tempdir().unwrap();
    let (one, other) = (home.path().join("one"), home.path().join("other"));
    let log = open(&one);
    let store = one.join("log.redb");
    std::fs::remove_file(one.join("lock")).unwrap();
    let refused = EmbeddedLog::open(&one).unwrap_err();
    assert!(
        refused.to_string().contains("holds this folder"),
        "{refused}"
    );
    type Lead = fn(&Path, &Path) -> std::io::Result<()>;
    let leads: [Lead; 2] = [
        |from, to| std::fs::hard_link(from, to),
        |from, to| std::os::unix::fs::symlink(from, to),
    ];
    for lead in leads {
        std::fs::create_dir(&other).unwrap();
        lead(&store, &other.join("log.redb")).unwrap();
        let refused = EmbeddedLog::open(&other).unwrap_err();
        assert!(
            refused.to_string().contains("holds this folder"),
            "{refused}"
        );
        std::fs::remove_dir_all(&other).unwrap();
    }
    drop(log);
    EmbeddedLog::open(&one).unwrap();
}
