//! Instances killed, stopped and cut off while a shop is busy: nothing is lost, nothing twice.

use std::path::PathBuf;

use fenghuo_tests::chaos::{self, plan::Plan, plan::Settings};

#[test]
fn a_minute_of_chaos_loses_nothing_and_tells_nothing_twice() {
    let plan = Plan::new(Settings {
        traffic_ms: 75_000,
        kills: 6,
        seed: 11,
        instances: 3,
        rate: 200,
    })
    .unwrap();
    println!("{plan}");
    let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chaos");
    let report = chaos::run(&plan, &logs).unwrap();
    println!("{report}");
    assert!(report.is_good(), "{report}");
}
