//! Topics are created as wanted.

use fenghuo_log::{Log, TopicSpec};

use crate::member::{broker, log, spec_of};

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
