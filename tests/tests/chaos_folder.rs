//! A daemon with a folder, killed again and again: nothing is lost, nothing twice. In a file of its
//! own, so that it does not run beside the chaos on Kafka.

use std::path::PathBuf;

use fenghuo_tests::chaos::folder;

#[test]
fn forty_kills_of_a_daemon_with_a_folder_lose_nothing_and_tell_nothing_twice() {
    let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chaos-folder");
    let settings = folder::Settings { kills: 40, seed: 4 };
    let report = folder::run(settings, &logs).unwrap();
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(report.mid_page >= 4, "{report}");
}
