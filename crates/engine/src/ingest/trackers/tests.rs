//! Trackers: what is kept of a life, and for how long.

use super::*;
use fenghuo_signal::Parcel;
use proptest::prelude::*;

const BOUNDS: TrackerBounds = TrackerBounds {
    entries_max: 1_000_000,
    bytes_max: 1 << 30,
    closed_ms: 3_600_000,
};

const NOW_MS: i64 = 1_794_369_600_000;

pub(in crate::ingest) fn parcel(number: u64) -> Parcel {
    Parcel {
        courier: format!("courier-{}", number % 7),
        warehouse: format!("warehouse-{}", number % 5),
        lane: format!("BJ>{}", number % 31),
        campaign: "double-11".to_owned(),
        labelled_ms: NOW_MS + number as i64 * 3,
        promised_ms: NOW_MS + 172_800_000 + number as i64,
        from_the_start: true,
        ..Parcel::default()
    }
}

fn see(trackers: &mut Trackers<Parcel>, name: &str) -> Option<Parcel> {
    let mut seen = None;
    trackers.with(name, |life| seen.clone_from(life));
    seen
}

#[test]
fn an_open_parcel_takes_less_than_the_128_bytes_that_it_may() {
    let mut trackers: Trackers<Parcel> = Trackers::new(BOUNDS);
    for number in 0..200_000 {
        let name = format!("SF{number:012}");
        trackers.with(&name, |life| *life = Some(parcel(number)));
    }
    trackers.lives.take_changes();
    let each = trackers.held_bytes() / trackers.len();
    assert!(each <= 64, "{each} B");
}

#[test]
fn what_finds_no_room_is_counted_and_what_is_known_goes_on() {
    let mut by_bytes: Trackers<Parcel> = Trackers::new(TrackerBounds {
        bytes_max: 100_000,
        ..BOUNDS
    });
    let mut by_count: Trackers<Parcel> = Trackers::new(TrackerBounds {
        entries_max: 500,
        ..BOUNDS
    });
    for trackers in [&mut by_bytes, &mut by_count] {
        for number in 0..10_000 {
            trackers.with(&number.to_string(), |life| *life = Some(parcel(number)));
        }
        assert!(
            (100..10_000).contains(&trackers.len()),
            "{}",
            trackers.len()
        );
        assert_eq!(trackers.refused, 10_000 - trackers.len() as u64);
        trackers.with("7", |life| life.as_mut().unwrap().scanned = true);
        assert!(see(trackers, "7").unwrap().scanned);
        assert_eq!(see(trackers, "9999"), None);
    }
    assert_eq!(by_count.len(), 500);
}

#[test]
fn a_closed_life_is_known_for_as_long_as_it_is_to_be_and_forgotten_then() {
    let mut trackers: Trackers<Parcel> = Trackers::new(BOUNDS);
    let close = |trackers: &mut Trackers<Parcel>, name: &str, at_ms: i64| {
        trackers.with(name, |life| {
            life.get_or_insert_default().closed_ms = at_ms;
        });
    };
    trackers.with("open", |life| *life = Some(parcel(1)));
    trackers.with("closed", |life| *life = Some(parcel(2)));
    close(&mut trackers, "closed", NOW_MS);
    trackers.lives.forget(NOW_MS + BOUNDS.closed_ms - 1);
    assert_eq!(see(&mut trackers, "closed").unwrap().closed_ms, NOW_MS);
    trackers.lives.forget(NOW_MS + BOUNDS.closed_ms + 60_000);
    assert_eq!(trackers.lives.take_changes().forgotten, [key_of("closed")]);
    assert_eq!(see(&mut trackers, "closed"), None);
    assert_eq!(see(&mut trackers, "open"), Some(parcel(1)));

    // One that was closed under a clock years ahead goes when the others would.
    close(&mut trackers, "ahead", NOW_MS + 1_000 * 86_400_000);
    trackers.lives.forget(NOW_MS);
    trackers.lives.forget(NOW_MS + BOUNDS.closed_ms + 60_000);
    assert_eq!(see(&mut trackers, "ahead"), None);
    // And one that changes when it is closed is where it is now, not where it was.
    close(&mut trackers, "twice", NOW_MS);
    close(&mut trackers, "twice", NOW_MS + 600_000);
    trackers.lives.forget(NOW_MS + BOUNDS.closed_ms + 60_000);
    assert!(see(&mut trackers, "twice").is_some());
    trackers.with("twice", |life| *life = Some(parcel(3)));
    trackers.lives.forget(NOW_MS + 10 * BOUNDS.closed_ms);
    assert_eq!(see(&mut trackers, "twice"), Some(parcel(3)));
    assert_eq!(trackers.len(), 2);
}

#[test]
fn only_what_has_changed_is_told() {
    let mut trackers: Trackers<Parcel> = Trackers::new(BOUNDS);
    for name in ["a", "b"] {
        trackers.with(name, |life| *life = Some(parcel(1)));
        trackers.with(name, |life| life.as_mut().unwrap().scanned = true);
    }
    let changed = trackers.lives.take_changes().changed;
    assert_eq!(changed, [key_of("a"), key_of("b")]);
    trackers.with("a", |life| life.as_mut().unwrap().scanned = true);
    assert!(trackers.lives.take_changes().changed.is_empty());
    trackers.with("b", |life| life.as_mut().unwrap().promised_ms += 1);
    assert_eq!(trackers.lives.take_changes().changed, [key_of("b")]);
}

proptest! {
    #[test]
    fn a_parcel_is_read_as_it_was_written(
        texts in prop::array::uniform4("[a-z>/]{0,40}"),
        labelled_ms in prop_oneof![Just(0), any::<i64>()],
        promised_ms in prop_oneof![Just(0), any::<i64>()],
        (scanned, from_the_start) in any::<(bool, bool)>(),
    ) {
        let [courier, warehouse, lane, campaign] = texts;
        let parcel = Parcel {
            courier, warehouse, lane, campaign, labelled_ms, promised_ms, scanned, from_the_start,
            closed_ms: 0,
        };
        let mut trackers: Trackers<Parcel> = Trackers::new(BOUNDS);
        // What was read before must not be seen in what is read after.
        trackers.with("other", |life| *life = Some(super::tests::parcel(1)));
        see(&mut trackers, "other");
        trackers.with("it", |life| *life = Some(parcel.clone()));
        see(&mut trackers, "other");
        prop_assert_eq!(see(&mut trackers, "it"), Some(parcel));
    }
}
