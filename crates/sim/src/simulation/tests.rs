//! The simulation itself: that it passes, repeats itself, and finds what is planted.

use fenghuo_log::memory::CommitFault;

use super::*;

#[test]
fn a_run_without_faults_keeps_every_promise_and_does_much() {
    let report = run(&Scenario::new(1).without_faults(), None).unwrap();
    assert_eq!((report.faults, report.failed, report.taken_back), (0, 0, 0));
    assert!(report.episodes > 10, "{report:?}");
    assert!(report.pages > 10, "{report:?}");
    for (fate, count) in &report.fates {
        assert!(*count > 3, "{fate:?} in {report:?}");
    }
}

#[test]
fn a_scenario_goes_the_same_way_every_time_and_is_large_enough() {
    let mut modes = Vec::new();
    for seed in 1..7 {
        let report = run(&Scenario::new(seed), None).unwrap();
        assert_eq!(run(&Scenario::new(seed), None).unwrap(), report);
        assert!(report.messages >= 2_000, "seed {seed}: {report:?}");
        assert!(report.faults >= 20, "seed {seed}: {report:?}");
        modes.push(Scenario::new(seed).mode);
    }
    assert!(modes.contains(&Mode::Kafka) && modes.contains(&Mode::Embedded));
}

#[test]
fn a_folder_on_a_disk_that_fails_keeps_every_promise() {
    let mut all = Report::default();
    for seed in 1..4 {
        let report = run(&Scenario::in_folder(seed), None).unwrap();
        assert_eq!(run(&Scenario::in_folder(seed), None).unwrap(), report);
        all.add(&report);
    }
    assert!(all.messages >= 6_000 && all.faults >= 60, "{all:?}");
    assert!(all.disk_failed > 10 && all.taken_back > 0, "{all:?}");
    assert!(all.dropped > 100, "{all:?}");
    assert!(all.episodes > 30 && all.pages > 30, "{all:?}");
}

#[test]
fn every_bug_that_needs_a_disk_is_found() {
    for plant in [Plant::EarlyAnswer, Plant::EarlyPage, Plant::FailedSync] {
        assert!(plant.needs_disk());
        let fails = |seed| {
            let scenario = Scenario::in_folder(seed);
            let played = std::panic::catch_unwind(|| run(&scenario, Some(plant)).is_err());
            // On a file that is no longer what it wrote, the store itself may be the first to see.
            played.unwrap_or(plant == Plant::FailedSync)
        };
        // A failed sync is found by one seed in three.
        assert!((1..30).any(fails), "{plant:?}");
    }
}

/// What a planted bug breaks, found within a few seeds and shrunk to a few messages.
#[test]
fn every_planted_bug_is_found_and_its_history_is_short() {
    for (plant, invariant) in [
        (Plant::OffsetsFirst, "each range is committed once"),
        (Plant::ForgottenTracker, "deltas are the naive sum"),
        (Plant::ResolvedUnknown, "missing data resolves nothing"),
    ] {
        let mut failures = (1..6).filter_map(|seed| {
            let scenario = Scenario::new(seed);
            let violation = run(&scenario, Some(plant)).err()?;
            Some((scenario, violation))
        });
        let (scenario, violation) = failures.next().expect("a seed that fails");
        assert_eq!(violation.invariant, invariant, "{plant:?}");
        let short = shrink(scenario, violation, Some(plant));
        assert_eq!(short.violation.invariant, invariant, "{plant:?}");
        let (faults, messages) = (short.scenario.faults.len(), short.scenario.messages.len());
        assert!(faults <= 3 && messages <= 10, "{faults} and {messages}");
    }
}

/// A segment of trackers is written in several records and read again: where one of them were to be
/// missing, a restart would stop rather than forget lives.
#[test]
fn a_segment_of_which_only_a_part_lands_is_found() {
    let fails = |seed| run(&Scenario::new(seed), Some(Plant::HalfSegment)).is_err();
    assert!((1..6).any(fails));
}

/// The seeds hold every jump, of the machine's clock and of the log's alone, and every log.
#[test]
fn a_clock_that_jumps_and_comes_back_makes_nothing_deaf_and_ends_nothing() {
    let mut kinds = Vec::new();
    for seed in 1..17 {
        let scenario = Scenario::with_wrong_clock(seed);
        let (fault, mode) = (scenario.faults[0], scenario.mode);
        kinds.push(fault.kind);
        let report = run(&scenario, None)
            .unwrap_or_else(|violation| panic!("seed {seed}, {mode:?}, {fault}: {violation}"));
        assert_eq!(report.faults, 1);
        assert!(report.pages > 10, "seed {seed}: {report:?}");
    }
    for ahead_ms in fault::CLOCK_JUMPS_MS {
        for kind in [Kind::Machine { ahead_ms }, Kind::Broker { ahead_ms }] {
            assert!(kinds.contains(&kind), "{kind:?}");
        }
    }
}

/// The seeds hold every jump, with events that agree with it and without, and every log.
#[test]
fn a_clock_that_is_followed_and_comes_back_ends_no_episode_and_begins_none_anew() {
    for seed in 0..24 {
        let scenario = Scenario::with_followed_clock(seed);
        let (fault, mode) = (scenario.faults[0], scenario.mode);
        let report = run(&scenario, None)
            .unwrap_or_else(|violation| panic!("seed {seed}, {mode:?}, {fault}: {violation}"));
        assert_eq!(report.faults, 1);
        assert!(report.pages > 5, "seed {seed}: {report:?}");
    }
}

/// Time that never goes back ends and fires what no true time would, and is deaf after ten years.
#[test]
fn time_that_never_goes_back_is_found_by_what_it_ends_and_by_what_it_does_not_hear() {
    let mut found = std::collections::BTreeSet::new();
    for seed in 1..17 {
        let scenario = Scenario::with_wrong_clock(seed);
        if let Err(violation) = run(&scenario, Some(Plant::NeverBack)) {
            found.insert(violation.invariant);
        }
    }
    assert!(found.contains(clocks::IN_TIME), "{found:?}");
    assert!(found.contains(clocks::UNCHANGED), "{found:?}");
}

/// Guards: the idle tick of an ingest that stood still once landed after its partitions had moved.
#[test]
fn a_zombie_of_each_stage_changes_nothing() {
    for within in Stage::ALL {
        let mut scenario = Scenario::new(4).without_faults();
        for (nth, turn) in (100..1_900).step_by(150).enumerate() {
            scenario.faults.push(Fault {
                turn,
                turns: 100,
                kind: Kind::Zombie {
                    instance: nth % 3,
                    within: Some(within),
                },
            });
        }
        let report = run(&scenario, None).unwrap();
        assert!(report.failed >= 3, "{within:?}: {report:?}");
    }
}

#[test]
fn a_commit_of_each_stage_may_end_in_any_way() {
    for fault in [
        CommitFault::Refused,
        CommitFault::Aborted,
        CommitFault::Unanswered,
    ] {
        let mut scenario = Scenario::new(2).without_faults();
        for (nth, turn) in (10..1_990).step_by(20).enumerate() {
            scenario.faults.push(Fault {
                turn,
                turns: 1,
                kind: Kind::Commit {
                    instance: nth % 3,
                    stage: Stage::ALL[nth / 3 % 3],
                    fault,
                },
            });
        }
        let report = run(&scenario, None).unwrap();
        assert!(report.failed >= 30, "{fault:?}: {report:?}");
    }
}
