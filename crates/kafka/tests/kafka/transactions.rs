//! What a commit carries lands whole, once, and only for who may still commit.

use fenghuo_kafka::{KafkaConfig, KafkaLog};
use fenghuo_log::{Append, Error, Log};

use crate::member::{Member, at, broker, log, text, texts, topic};

#[test]
fn a_reopened_member_resumes_at_the_committed_offset() {
    let log = log();
    topic(&log, "resume.in", 1);
    topic(&log, "resume.out", 1);
    let (input, output) = (at("resume.in", 0), at("resume.out", 0));
    log.append(texts(&input, 0..10)).unwrap();

    let mut first = Member::open(&log, "resume", "a", &["resume.in"]);
    first.step_until("ten records", |first| first.count() == 10);
    first.commit(vec![text(&output, "ten")]).unwrap();
    log.append(texts(&input, 10..12)).unwrap();
    first.step_until("two more", |first| first.count() == 12);
    // These two are read and not committed: the second life reads them again.
    drop(first);

    let mut second = Member::open(&log, "resume", "a", &["resume.in"]);
    second.step_until("the end", |second| second.count() > 0 && second.is_at_end());
    assert_eq!(second.values(&input), ["10", "11"]);

    let mut written = Vec::new();
    let read = &mut |record: fenghuo_log::Record<'_>| written.push(record.value.unwrap().to_vec());
    second.session.read(&output, 0, u64::MAX, read).unwrap();
    assert_eq!(written, [b"ten"]);
}

#[test]
fn a_record_keeps_its_key_its_content_type_and_its_absence_of_a_value() {
    let log = log();
    topic(&log, "parts", 1);
    let to = at("parts", 0);
    let mut whole = Append::new(to.clone(), Some(b"key".to_vec()), b"value".to_vec());
    whole.headers = vec![
        ("trace", b"1".to_vec()),
        ("content-type", b"application/json".to_vec()),
    ];
    let mut tombstone = Append::new(to.clone(), Some(b"key".to_vec()), Vec::new());
    tombstone.value = None;
    let empty = Append::new(to.clone(), None, Vec::new());

    let mut member = Member::open(&log, "parts", "a", &["parts"]);
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

#[test]
fn nothing_of_a_failed_commit_is_ever_seen() {
    let log = log();
    topic(&log, "failed.in", 1);
    topic(&log, "failed.out", 1);
    let (input, output) = (at("failed.in", 0), at("failed.out", 0));
    log.append(texts(&input, 0..3)).unwrap();

    let mut first = Member::open(&log, "failed", "a", &["failed.in"]);
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

    let mut second = Member::open(&log, "failed", "a", &["failed.in", "failed.out"]);
    second.step_until("three records again", |second| second.count() >= 3);
    second.commit(vec![text(&output, "kept")]).unwrap();
    second.step_until("what is kept", |second| {
        second.count() >= 4 && second.is_at_end()
    });
    assert_eq!(second.values(&input), ["0", "1", "2"]);
    assert_eq!(second.values(&output), ["kept"]);
    // What was aborted has an offset, so the one kept is not the first.
    assert!(second.seen[&output][0].0 > 0);
}

#[test]
fn a_second_session_under_the_same_name_fences_the_first() {
    let log = log();
    topic(&log, "fence.in", 1);
    topic(&log, "fence.out", 1);
    let output = at("fence.out", 0);
    let mut first = Member::open(&log, "fence", "a", &["fence.in"]);
    first.step_until("its partition", |first| first.holds() == 1);
    first.commit(vec![text(&output, "first")]).unwrap();

    let mut second = Member::open(&log, "fence", "a", &["fence.in"]);
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

#[test]
fn a_value_as_large_as_a_chunk_passes_and_one_too_large_is_named() {
    let log = log();
    topic(&log, "large", 1);
    let to = at("large", 0);
    let mut member = Member::open(&log, "large", "a", &["large"]);
    // Bytes that do not compress: a simple congruential sequence.
    let noise = |length: u32| -> Vec<u8> {
        (0..length)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect()
    };
    let chunk = noise(600 * 1024);
    member
        .commit(vec![Append::new(to.clone(), None, chunk.clone()); 5])
        .unwrap();
    let mut intact = 0;
    let check = &mut |record: fenghuo_log::Record<'_>| {
        intact += u32::from(record.value == Some(&chunk[..]));
    };
    member.session.read(&to, 0, u64::MAX, check).unwrap();
    assert_eq!(intact, 5);

    let error = member
        .commit(vec![Append::new(to, None, noise(2 * 1024 * 1024))])
        .unwrap_err();
    assert!(
        matches!(&error, Error::Fatal(text) if text.contains("large/0") && text.contains("max.message.bytes")),
        "{error:?}"
    );
}

#[test]
fn a_foreign_producer_is_read_and_a_foreign_consumer_reads() {
    use std::io::Write;
    use std::process::Stdio;

    let log = log();
    topic(&log, "foreign", 1);
    let mut producer = broker()
        .tool("org.apache.kafka.tools.ConsoleProducer")
        .args([
            "--bootstrap-server",
            &broker().bootstrap(),
            "--topic",
            "foreign",
        ])
        .args([
            "--property",
            "parse.headers=true",
            "--property",
            "headers.delimiter=|",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = producer.stdin.take().unwrap();
    writeln!(lines, "content-type:application/json|{{}}").unwrap();
    drop(lines);
    assert!(producer.wait().unwrap().success());

    let mut member = Member::open(&log, "foreign", "a", &["foreign"]);
    let mut content_types = Vec::new();
    member
        .session
        .read(&at("foreign", 0), 0, u64::MAX, &mut |record| {
            content_types.push(record.content_type.map(<[u8]>::to_vec));
            assert_eq!(record.value, Some(&b"{}"[..]));
        })
        .unwrap();
    assert_eq!(content_types, [Some(b"application/json".to_vec())]);

    member
        .commit(vec![text(&at("foreign", 0), "ours")])
        .unwrap();
    let consumer = broker()
        .tool("org.apache.kafka.tools.consumer.ConsoleConsumer")
        .args([
            "--bootstrap-server",
            &broker().bootstrap(),
            "--topic",
            "foreign",
        ])
        .args(["--from-beginning", "--max-messages", "2"])
        .args(["--isolation-level", "read_committed"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&consumer.stdout), "{}\nours\n");
}

#[test]
fn a_property_that_librdkafka_does_not_know_is_an_error() {
    let mut config = KafkaConfig::new([broker().bootstrap()]);
    config
        .extra
        .insert("fetch.min.byte".to_owned(), "1".to_owned());
    let error = KafkaLog::new(config).unwrap_err().to_string();
    assert!(error.contains("fetch.min.byte"), "{error}");
}
