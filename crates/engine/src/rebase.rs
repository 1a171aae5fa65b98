//! Offsets in another log: what Fenghuo's own records say of places in other partitions, said
//! anew where those records were copied and count from 0 again.
//!
//! Owns which records name which places. Nothing else changes in a record, and above all no
//! episode's id: it is named after the offset at which it began, which a copied record carries on
//! (`origin`). It must never guess a place: a message that was gone before the copy has none.

use std::collections::BTreeMap;

use fenghuo_log::{Broken, TopicPartition, Whole};
use serde::{Deserialize, Serialize};

use crate::evaluate::checkpoint::{self, Rebased};
use crate::evaluate::{damaged, readable, unread};
use crate::letters;
use crate::record::{CommitRecord, topic};

/// Records of one partition that lie one behind the other in both logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Offset of the first one where it was.
    pub from: u64,
    /// Offset of the first one where it is now.
    pub to: u64,
    /// How many there are.
    pub records: u64,
}

/// Where the records of a log came to lie in another one.
#[derive(Debug, Default)]
pub struct Moves {
    runs: BTreeMap<TopicPartition, Vec<Run>>,
}

impl Moves {
    /// Takes note of a run; those of a partition come in order.
    pub fn add(&mut self, of: TopicPartition, run: Run) {
        self.runs.entry(of).or_default().push(run);
    }

    /// Records of a partition that were copied.
    pub fn records(&self, of: &TopicPartition) -> u64 {
        let runs = self.runs.get(of).into_iter().flatten();
        runs.map(|run| run.records).sum()
    }

    /// The run that an offset is in or behind.
    fn run(&self, of: &TopicPartition, offset: u64) -> Option<Run> {
        let runs = self.runs.get(of)?;
        let behind = runs.partition_point(|run| run.from <= offset);
        runs.get(behind.checked_sub(1)?).copied()
    }

    /// Where the record at `offset` is now; `None` where it was not there to be copied.
    pub fn offset(&self, of: &TopicPartition, offset: u64) -> Option<u64> {
        let run = self.run(of, offset)?;
        let into = offset - run.from;
        (into < run.records).then(|| run.to + into)
    }

    /// Where a reader stands now that was to read `next`: right behind the last record before it
    /// that was copied. So what was read without a gap still is, however many offsets the
    /// transactions of the other log took for themselves.
    pub fn next(&self, of: &TopicPartition, next: u64) -> u64 {
        let Some(before) = next.checked_sub(1) else {
            return 0;
        };
        self.run(of, before).map_or(0, |run| {
            let read = (next - run.from).min(run.records);
            run.to + read
        })
    }
}

/// When a topic's turn is: none names a place in one whose turn is later.
pub fn turn(name: &str) -> u8 {
    match name {
        topic::DEAD_LETTER | topic::PANES => 1,
        topic::REPLAYED | topic::STATE => 2,
        _ if name.starts_with("fenghuo.") => 3,
        _ => 0,
    }
}

/// Lets a record of `of` name places where they are now.
///
/// # Errors
/// When a newer build wrote it, or it cannot be read.
pub fn rebase(of: &TopicPartition, record: &mut Whole, moves: &Moves) -> Result<(), Broken> {
    match &*of.topic {
        topic::PANES => panes(record, moves),
        topic::STATE => state(of, record, moves),
        topic::DEAD_LETTER => {
            letter(record, moves);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn panes(record: &mut Whole, moves: &Moves) -> Result<(), Broken> {
    let Some(value) = &record.value else {
        return Ok(());
    };
    let commit = <CommitRecord as prost::Message>::decode(&value[..]);
    let mut commit = commit.map_err(|error| damaged(topic::PANES, record.offset, &error))?;
    readable(topic::PANES, record.offset, commit.version)?;
    for source in &mut commit.sources {
        let of = TopicPartition::new(source.topic.as_str(), source.partition);
        source.from = moves.next(&of, source.from);
        source.to = moves.next(&of, source.to);
    }
    commit.origin.get_or_insert(record.offset);
    record.value = Some(prost::Message::encode_to_vec(&commit));
    Ok(())
}

fn state(of: &TopicPartition, record: &mut Whole, moves: &Moves) -> Result<(), Broken> {
    let panes = TopicPartition::new(topic::PANES, of.partition);
    let rebased = checkpoint::rebase(
        record.key.as_deref(),
        record.value.as_deref(),
        &|next| moves.next(&panes, next),
        &|name, partition, next| moves.next(&TopicPartition::new(name, partition), next),
    );
    match rebased {
        Ok(Rebased::AsItWas) => Ok(()),
        Ok(Rebased::Value(value)) => {
            record.value = Some(value);
            Ok(())
        }
        Err(unreadable) => Err(unread(of.partition, unreadable)),
    }
}

/// A letter names its message's place twice: in its key for a restart, in its headers for people.
fn letter(record: &mut Whole, moves: &Moves) {
    let Some((of, offset)) = record.key.as_deref().and_then(letters::parse) else {
        // Late, or of a file or a sender: the place in its headers, if any, is told below.
        return place_in_headers(record, moves);
    };
    let now = moves.offset(&of, offset);
    // Under its old number it would speak of another message.
    record.key = now.map(|now| letters::key(&of, now));
    place_in_headers(record, moves);
}

fn place_in_headers(record: &mut Whole, moves: &Moves) {
    let text = |name: &str| {
        let found = record.headers.iter().find(|(header, _)| header == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let place = (|| {
        let partition = text("partition")?.parse().ok()?;
        let of = TopicPartition::new(text("topic")?, partition);
        Some((of, text("offset")?.parse::<u64>().ok()?))
    })();
    let Some((of, offset)) = place else { return };
    match moves.offset(&of, offset) {
        None => record.headers.retain(|(header, _)| header != "offset"),
        Some(now) => {
            let header = record.headers.iter_mut();
            for (_, value) in header.filter(|(header, _)| header == "offset") {
                *value = now.to_string().into_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{SourceRange, VERSION};

    /// 100..110 lie at 3..13, and 110..115 at 14..19.
    fn moves() -> Moves {
        let mut moves = Moves::default();
        for (from, to, records) in [(100, 3, 10), (110, 14, 5)] {
            let run = Run { from, to, records };
            moves.add(TopicPartition::new("shop.orders", 1), run);
        }
        moves
    }

    #[test]
    fn each_record_has_its_place_and_readers_go_on_without_a_gap() {
        let (moves, of) = (moves(), TopicPartition::new("shop.orders", 1));
        let places = [99, 100, 109, 110, 114, 115].map(|offset| moves.offset(&of, offset));
        assert_eq!(places, [None, Some(3), Some(12), Some(14), Some(18), None]);
        let nexts = [0, 50, 100, 101, 110, 111, 115, 400].map(|next| moves.next(&of, next));
        assert_eq!(nexts, [0, 0, 0, 4, 13, 15, 19, 19]);
        assert_eq!(moves.records(&of), 15);
        let other = TopicPartition::new("shop.orders", 0);
        assert_eq!((moves.offset(&other, 0), moves.next(&other, 7)), (None, 0));
    }

    fn record(value: Vec<u8>) -> Whole {
        Whole {
            offset: 70,
            value: Some(value),
            ..Whole::default()
        }
    }

    #[test]
    fn a_commit_keeps_the_name_that_it_gave_its_episodes() {
        let commit = CommitRecord {
            version: VERSION,
            sources: vec![SourceRange {
                topic: "shop.orders".to_owned(),
                partition: 1,
                from: 90,
                to: 112,
                ..SourceRange::default()
            }],
            ..CommitRecord::default()
        };
        let mut moved = record(prost::Message::encode_to_vec(&commit));
        let of = TopicPartition::new(topic::PANES, 0);
        // Copied twice, as from one folder to another and on: the name is that of the first log.
        rebase(&of, &mut moved, &moves()).unwrap();
        moved.offset = 5;
        rebase(&of, &mut moved, &Moves::default()).unwrap();
        let again = <CommitRecord as prost::Message>::decode(&moved.value.unwrap()[..]).unwrap();
        assert_eq!(again.origin, Some(70));

        let mut moved = record(prost::Message::encode_to_vec(&commit));
        rebase(&of, &mut moved, &moves()).unwrap();
        let again = <CommitRecord as prost::Message>::decode(&moved.value.unwrap()[..]).unwrap();
        assert_eq!((again.sources[0].from, again.sources[0].to), (0, 16));

        let newer = CommitRecord {
            version: VERSION + 1,
            ..commit
        };
        let mut newer = record(prost::Message::encode_to_vec(&newer));
        let refused = rebase(&of, &mut newer, &moves()).unwrap_err();
        assert!(matches!(refused, Broken::Newer(_)), "{refused:?}");
        let refused = rebase(&of, &mut record(vec![0xff]), &moves()).unwrap_err();
        assert!(matches!(refused, Broken::Damaged(_)), "{refused:?}");
    }

    #[test]
    fn a_letter_speaks_of_the_message_where_it_is_or_of_none() {
        let source = TopicPartition::new("shop.orders", 1);
        let of = TopicPartition::new(topic::DEAD_LETTER, 0);
        for (offset, now) in [(111, Some(15)), (7, None)] {
            let text = |value: &str| value.as_bytes().to_vec();
            let mut moved = Whole {
                key: Some(letters::key(&source, offset)),
                headers: vec![
                    ("reason".to_owned(), text("future")),
                    ("topic".to_owned(), text("shop.orders")),
                    ("partition".to_owned(), text("1")),
                    ("offset".to_owned(), text(&offset.to_string())),
                ],
                ..record(vec![1])
            };
            rebase(&of, &mut moved, &moves()).unwrap();
            assert_eq!(moved.key, now.map(|now| letters::key(&source, now)));
            let told = moved.headers.iter().find(|(name, _)| name == "offset");
            let told = told.map(|(_, value)| String::from_utf8(value.clone()).unwrap());
            assert_eq!(told, now.map(|now| now.to_string()));
            assert_eq!(moved.headers[0].1, b"future");
        }
    }

    #[test]
    fn what_names_a_place_comes_after_that_place() {
        for (first, second) in [
            ("shop.orders", topic::DEAD_LETTER),
            ("shop.orders", topic::PANES),
            (topic::DEAD_LETTER, topic::REPLAYED),
            (topic::PANES, topic::STATE),
        ] {
            assert!(turn(first) < turn(second), "{first} {second}");
        }
    }
}
