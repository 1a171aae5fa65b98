//! The short form of the standing attack, on a folder. The long one is `cargo xtask attack`.

use std::path::PathBuf;
use std::time::Duration;

use fenghuo_tests::attack::{self, Place, Settings, Size};

#[test]
fn a_daemon_with_a_folder_holds_against_the_short_attack() {
    let settings = Settings {
        place: Place::Embedded,
        size: Size::Short,
        together: Duration::from_secs(8),
        only: Vec::new(),
        seed: 11,
        logs: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("attack"),
    };
    let report = attack::run(&settings).unwrap();
    assert!(report.is_good(), "{report}");
}
