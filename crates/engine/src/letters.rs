//! The keys of dead letters: where the messages were that they are about.

use fenghuo_log::TopicPartition;

/// The key of the letter about a message that was refused.
pub(crate) fn key(id: &TopicPartition, offset: u64) -> Vec<u8> {
    format!("{id}@{offset}").into_bytes()
}

/// The place that a letter's key names.
pub(crate) fn parse(key: &[u8]) -> Option<(TopicPartition, u64)> {
    let (id, offset) = std::str::from_utf8(key).ok()?.rsplit_once('@')?;
    let (topic, partition) = id.rsplit_once('/')?;
    let id = TopicPartition::new(topic, partition.parse().ok()?);
    Some((id, offset.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_no_other_is() {
        let id = TopicPartition::new("shop/eu@1.orders", 3);
        assert_eq!(parse(&key(&id, 7)), Some((id, 7)));
        for other in ["", "late", "o1", "a@1", "a/b@1", "a/1@", "a/1@-1"] {
            assert_eq!(parse(other.as_bytes()), None, "{other}");
        }
        assert_eq!(parse(b"\xff/1@1"), None);
    }
}
