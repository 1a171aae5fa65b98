//! What a folder is after it was made, emptied, replaced or lost, and who may read it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fenghuo_embedded::EmbeddedLog;
use fenghuo_log::Log as _;
use fenghuo_log::contract::{at, spec_of, texts};

fn fill(folder: &Path, records: u32) {
    let log = EmbeddedLog::open(folder).unwrap();
    log.ensure(&[spec_of("t", 1)]).unwrap();
    for number in 0..records {
        log.append(texts(&at("t", 0), number..number + 1)).unwrap();
    }
}

fn refused(folder: &Path) -> String {
    let error = EmbeddedLog::open(folder).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("backup"), "{source}");
    source
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_log_that_was_emptied_lost_or_replaced_is_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let (data, other) = (root.path().join("data"), root.path().join("other"));
    fill(&data, 5);
    fill(&other, 9);
    let path = data.join("log.redb");
    let whole = std::fs::read(&path).unwrap();
    for (bytes, word) in [
        (Vec::new(), "0 bytes"),
        (whole[..100].to_vec(), "cut off"),
        (b"something else".repeat(2_000), "no log of fenghuo"),
        (vec![0; whole.len()], "no log of fenghuo"),
        (
            std::fs::read(other.join("log.redb")).unwrap(),
            "another log",
        ),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let why = refused(&data);
        assert!(why.contains(word), "{why}");
        let left = std::fs::read(&path).unwrap();
        assert_eq!(left.len(), bytes.len(), "{word}");
    }
    std::fs::remove_file(&path).unwrap();
    let why = refused(&data);
    assert!(why.contains("gone"), "{why}");
    assert!(!path.exists(), "no empty history takes its place");
    std::fs::write(&path, &whole).unwrap();
    fill(&data, 1);
    // Put back as it was, it has lost what came since.
    std::fs::write(&path, &whole).unwrap();
    let why = refused(&data);
    assert!(why.contains("older"), "{why}");
    std::fs::remove_file(data.join("identity")).unwrap();
    assert_eq!(EmbeddedLog::open(&data).unwrap().high(&at("t", 0)), 5);
}

#[test]
fn one_that_was_cut_off_while_it_was_made_begins_again() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("log.part"), [0; 5_000]).unwrap();
    fill(&data, 3);
    assert!(!data.join("log.part").exists());
    // Its name, and the note of it missing yet.
    std::fs::remove_file(data.join("identity")).unwrap();
    std::fs::write(data.join("identity.part"), "fenghuo").unwrap();
    assert_eq!(EmbeddedLog::open(&data).unwrap().high(&at("t", 0)), 3);
}

#[test]
fn others_can_read_nothing_of_a_folder_nor_of_its_copy() {
    let root = tempfile::tempdir().unwrap();
    let (data, copy) = (root.path().join("deep/data"), root.path().join("copy"));
    fill(&data, 1);
    EmbeddedLog::open(&data).unwrap().backup(&copy).unwrap();
    let closed = |folder: &Path| {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    };
    closed(&data);
    drop(EmbeddedLog::open(&copy).unwrap());
    closed(&copy);
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(&data, 0o755);
    for name in ["log.redb", "lock", "identity"] {
        open(&data.join(name), 0o644);
    }
    drop(EmbeddedLog::open(&data).unwrap());
    closed(&data);
    // What holds other things too is somebody else's folder.
    std::fs::write(data.join("notes.txt"), "").unwrap();
    open(&data, 0o755);
    drop(EmbeddedLog::open(&data).unwrap());
    assert_eq!(mode(&data), 0o755);
}
