//! A broker that is killed and comes back, with a reader at the end of what there was.

use fenghuo_kafka::{KafkaConfig, KafkaLog};
use fenghuo_log::{Error, Log};
use xtask::services::Kafka;

use crate::member::{Member, at, texts, topic};

/// librdkafka may stand one past the end that it has handed out when it connects anew: what comes
/// next must be read all the same, and what is there must not be taken for deleted.
#[test]
fn a_reader_at_the_end_misses_nothing_over_a_restart_of_the_broker() {
    const PARTITIONS: u32 = 8;
    const LIVES: u32 = 2;
    let mut kafka = Kafka::start().unwrap();
    let log = KafkaLog::new(KafkaConfig::new([kafka.bootstrap()])).unwrap();
    topic(&log, "again", PARTITIONS);
    let mut reader = Member::open(&log, "again", "a", &["again"]);
    for life in 0..LIVES {
        for partition in 0..PARTITIONS {
            let value = life..life + 1;
            log.append(texts(&at("again", partition), value)).unwrap();
        }
        read_to_the_end(&log, &mut reader, ((life + 1) * PARTITIONS) as usize);
        for partition in 0..PARTITIONS {
            let values: Vec<String> = (0..=life).map(|value| value.to_string()).collect();
            let seen = reader.values(&at("again", partition));
            assert_eq!(seen, values, "life {life}, partition {partition}");
        }
        kafka.kill().unwrap();
        kafka.start_again().unwrap();
        kafka.wait_until_up().unwrap();
    }
}

/// Reads and commits; begins again at the last commit after what may pass, as the daemon does.
fn read_to_the_end(log: &KafkaLog, reader: &mut Member, count: usize) {
    let mut steps = 0;
    while reader.count() < count || !reader.is_at_end() {
        steps += 1;
        assert!(steps < 600, "{count} were appended: {:?}", reader.seen);
        match reader.step() {
            Ok(()) => {}
            Err(Error::Retriable { .. }) => {
                let seen = std::mem::take(&mut reader.seen);
                let again = Member::open(log, "again", "a", &["again"]);
                drop(std::mem::replace(reader, again));
                reader.seen = seen;
            }
            Err(error) => panic!("{error}"),
        }
    }
    reader.commit(Vec::new()).unwrap();
}
