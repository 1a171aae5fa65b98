//! The simulation itself: that it passes, repeats itself, and finds what is planted.

use super::*;

/// What was decided does not hang on what went wrong around it.
#[test]
fn a_run_without_faults_keeps_every_promise_and_does_much() {
    let report = run(&Scenario::new(1).without_faults(), None).unwrap();
    assert!(report.episodes > 10, "{report:?}");
    assert!(report.pages > 10, "{report:?}");
    for (fate, count) in &report.fates {
        assert!(*count > 3, "{fate:?} in {report:?}");
    }
}
