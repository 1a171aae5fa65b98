//! Instances that agree on a set, on one log.

use std::sync::Arc;

use fenghuo_alert::Rules;
use fenghuo_embedded::EmbeddedLog;
use fenghuo_log::{Log as _, TopicSpec};
use fenghuo_signal::Catalogue;

use super::*;
use crate::config::Folder;

/// A log with the topic and nothing in it.
fn topics(folder: &tempfile::TempDir) -> Topics {
    let log = EmbeddedLog::open(&folder.path().join("data")).unwrap();
    log.ensure(&[TopicSpec {
        name: topic::SETS.to_owned(),
        partitions: 1,
        compacted: false,
        retention_ms: None,
    }])
    .unwrap();
    Topics::Folder(log, Folder::at(folder.path().join("data")))
}

/// The built-in set with another limit of one rule.
fn files(below: f64) -> Set {
    let catalogue = Catalogue::built_in();
    let names = catalogue.signal_names();
    let text = format!(
        "[[rule]]\nname = \"price-floor\"\nsignal = \"price.floor\"\npage = [{{ read = \"value\", below = {below:?}, clear = 1.0 }}]\n"
    );
    let rules = Rules::builtin(&names).unwrap();
    let rules = rules.with("rules.toml", &text, &names).unwrap();
    Set::new(catalogue, Arc::new(rules))
}

fn agreed(topics: &Topics, instance: &str, own: Set) -> Agreed {
    Sets::open(topics, instance).agree(own).unwrap()
}

#[test]
fn a_set_that_the_log_never_held_is_in_force_for_all_and_one_that_it_held_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let topics = topics(&folder);
    let (old, new) = (files(0.9), files(0.8));
    let a = agreed(&topics, "a", old.clone());
    assert_eq!((a.in_force().number, a.condition()), (1, None));
    let mut b = agreed(&topics, "b", old.clone());
    assert_eq!(
        (b.in_force().number, b.condition()),
        (1, None),
        "the same files"
    );

    // The first one is started again with other files.
    let mut a = {
        drop(a);
        agreed(&topics, "a", new.clone())
    };
    assert_eq!((a.in_force().number, a.condition()), (2, None));
    let followed = b.follow().unwrap().unwrap();
    assert_eq!((followed.number, followed.hash()), (2, new.hash()));
    let told = b.condition().unwrap();
    assert_eq!(told.name, SUPERSEDED);
    assert!(told.text.contains("fenghuo set use 1"), "{}", told.text);
    assert!(b.follow().unwrap().is_none(), "there is no third one");

    // A restart with the files of before changes nothing, and says so.
    drop(b);
    let mut b = agreed(&topics, "b", old.clone());
    assert_eq!(b.in_force().number, 2);
    assert!(b.condition().is_some());

    // Going back is a command.
    let all = asked(&topics, "somebody", Some(1)).unwrap();
    let told: Vec<_> = all.iter().map(|came| (came.number, came.hash)).collect();
    let (old_hash, new_hash) = (old.hash(), new.hash());
    assert_eq!(told, [(1, old_hash), (2, new_hash), (3, old_hash)]);
    assert_eq!(all[2].by, "somebody");
    for instance in [&mut a, &mut b] {
        let followed = instance.follow().unwrap().unwrap();
        assert_eq!((followed.number, followed.hash()), (3, old_hash));
    }
    assert!(a.condition().unwrap().text.contains("fenghuo set use 2"));
    assert_eq!(b.condition(), None);
}

#[test]
fn going_back_to_what_is_not_there_or_in_force_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let topics = topics(&folder);
    let refused = |number| asked(&topics, "x", Some(number)).unwrap_err().to_string();
    assert!(refused(1).contains("no set was ever in force"));
    drop(agreed(&topics, "a", files(0.9)));
    assert!(refused(1).contains("in force already"));
    for number in [0, 2, u64::MAX] {
        assert!(refused(number).contains("the last one is 1"), "{number}");
    }
}

#[test]
fn two_that_propose_at_once_end_with_the_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let topics = topics(&folder);
    let (mine, other) = (files(0.9), files(0.8));
    let mut a = Sets::open(&topics, "a");
    a.read().unwrap();
    // Both have read that there is none; both propose theirs.
    let b = Sets::open(&topics, "b");
    b.propose(other.row()).unwrap();
    let mut a = a.agree(mine.clone()).unwrap();
    assert_eq!(a.in_force().hash(), mine.hash());
    let mut b = agreed(&topics, "b", other.clone());
    assert_eq!(b.in_force().hash(), mine.hash());
    assert!(b.condition().is_some());
    assert!(a.follow().unwrap().is_none() && b.follow().unwrap().is_none());
}

#[test]
fn what_another_build_made_ends_this_one_with_the_way_back() {
    let folder = tempfile::tempdir().unwrap();
    let topics = topics(&folder);
    let own = files(0.9);
    let mut a = agreed(&topics, "a", own.clone());
    let other = SetRow {
        catalogue: 7,
        ..own.row()
    };
    Sets::open(&topics, "b").propose(other).unwrap();
    for error in [
        a.follow().unwrap_err(),
        Sets::open(&topics, "a").agree(own).err().unwrap(),
    ] {
        assert!(matches!(error, Error::OtherBuild(_)), "{error}");
        assert!(error.to_string().contains("fenghuo set use 1"), "{error}");
    }
}

#[test]
fn a_record_that_cannot_be_read_holds_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let topics = topics(&folder);
    let garbage = Append::new(place(), None, b"\xff\xff\xff".to_vec());
    topics.log().append(vec![garbage]).unwrap();
    let a = agreed(&topics, "a", files(0.9));
    assert_eq!(a.in_force().number, 2);
}
