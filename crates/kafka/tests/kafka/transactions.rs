//! What a commit may carry, and who else reads it.

use fenghuo_kafka::{KafkaConfig, KafkaLog};
use fenghuo_log::{Append, Error};

use crate::member::{Member, at, broker, log, text, topic};

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
