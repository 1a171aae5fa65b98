//! Checks of source text: headers, lengths, what is left unfinished, and what a pure crate may
//! not say.
//!
//! It must never try to understand Rust: each check looks for words in lines, and is written so
//! that code in rustfmt's form cannot get round it by accident.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Finding, PURE};

/// Past this many lines a file is two files.
const LINES_MAX: usize = 700;

/// Where source text lives, below the workspace's root.
const PLACES: &[&str] = &[
    "crates", "benches", "tests", "proto", "deploy", ".ci", ".cargo",
];

/// Directories that no person wrote.
const SKIPPED: &[&str] = &["target", "snapshots", "proptest-regressions"];

/// Endings of the text files that are looked at for machine paths.
const TEXT: &[&str] = &[
    "rs", "toml", "md", "yaml", "yml", "json", "proto", "service", "html", "js", "css", "sh", "run",
];

/// Beginnings of paths that exist on one machine only. Written in two halves, so that this file
/// passes its own check.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
];

/// What is left behind by work that is not finished.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
    // With a reason it says what it needs, and the test run lists it.
    concat!("#[ig", "nore]"),
];

/// Words of the standard library by which a pure crate would reach the world outside it.
const WORLD: &[&str] = &[
    "Instant",
    "SystemTime",
    "env",
    "fs",
    "net",
    "process",
    "thread",
    "RandomState",
    "stdin",
    "stdout",
    "stderr",
];

/// The one file that may hold unsafe code, and the one manifest that therefore has lints of its own.
const UNSAFE_FILE: &str = "crates/kafka/src/batch.rs";
const UNSAFE_MANIFEST: &str = "crates/kafka/Cargo.toml";

/// The attributes that lift a ban. Written in two halves, as above.
const LIFTS_UNSAFE: &str = concat!("allow(", "unsafe_code");
const LIFTS_BANS: &str = concat!("clippy::", "disallowed_");

/// Checks every file below `root` that a person wrote.
pub(super) fn check_tree(root: &Path) -> Result<Vec<Finding>> {
    let mut files = Vec::new();
    for place in PLACES {
        collect(&root.join(place), &mut files)?;
    }
    files.extend(
        files_in(root)?
            .into_iter()
            .filter(|path| path.is_file() && is_text(path)),
    );
    files.sort();
    let mut findings = Vec::new();
    for path in files {
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        findings.extend(check_file(&name, &text));
    }
    Ok(findings)
}

/// All checks that apply to a file of this name, which is relative to the workspace's root.
fn check_file(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = check_machine_paths(name, text);
    if name.ends_with("/Cargo.toml") {
        findings.extend(check_manifest(name, text));
    }
    if !name.ends_with(".rs") {
        return findings;
    }
    findings.extend(check_header(name, text));
    findings.extend(check_length(name, text));
    findings.extend(check_unfinished(name, text));
    findings.extend(check_sleeps(name, text));
    findings.extend(check_unsafe(name, text));
    let pure = PURE
        .iter()
        .any(|pure| name.starts_with(&format!("crates/{pure}/src/")));
    if pure {
        findings.extend(check_pure_source(name, text));
    }
    findings
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in files_in(directory)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(&path, files)?;
            }
        } else if is_text(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let failed = || format!("listing {}", directory.display());
    fs::read_dir(directory)
        .with_context(failed)?
        .map(|entry| Ok(entry.with_context(failed)?.path()))
        .collect()
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    TEXT.contains(&extension.as_ref()) || path.ends_with(".ci/run")
}

/// A place in a file; lines count from 1.
fn at(name: &str, index: usize) -> String {
    format!("{name}:{}", index + 1)
}

/// No path of somebody's machine.
fn check_machine_paths(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for path in MACHINE_PATHS {
            // The middle of a relative path or of an address is no machine's path: what comes
            // before the slash tells.
            let absolute = line.match_indices(path).any(|(start, _)| {
                line[..start].chars().next_back().is_none_or(|before| {
                    !before.is_alphanumeric() && !matches!(before, '.' | '}' | '_' | '-' | '~')
                })
            });
            if absolute {
                findings.push(Finding::new(
                    at(name, index),
                    format!("names a machine's path, {path}"),
                ));
            }
        }
    }
    findings
}

/// Every file opens by saying what it owns.
fn check_header(name: &str, text: &str) -> Option<Finding> {
    let opens = text
        .lines()
        .next()
        .is_some_and(|line| line.starts_with("//! "));
    (!opens).then(|| {
        Finding::new(
            name,
            "does not open with `//!`: what it owns, what it must never do",
        )
    })
}

/// No file is longer than a person reads in one sitting.
fn check_length(name: &str, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    (lines > LINES_MAX).then(|| {
        Finding::new(
            name,
            format!("has {lines} lines of {LINES_MAX}: split it along a seam"),
        )
    })
}

/// Nothing is left unfinished, and no test is switched off.
fn check_unfinished(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = code_of(line);
        for word in UNFINISHED.iter().filter(|word| code.contains(**word)) {
            findings.push(Finding::new(
                at(name, index),
                format!("leaves `{word}` behind"),
            ));
        }
    }
    findings
}

/// Every package takes the workspace's lints, so that none of them forgets that unsafe code is
/// forbidden.
fn check_manifest(name: &str, text: &str) -> Option<Finding> {
    let lints = text.split("[lints").nth(1).unwrap_or_default();
    let inherits = lints.starts_with("]\nworkspace = true\n");
    let denies = name == UNSAFE_MANIFEST && text.contains("unsafe_code = \"deny\"");
    (!inherits && !denies).then(|| Finding::new(name, "does not take the workspace's lints"))
}

/// Unsafe code stays in its one file.
fn check_unsafe(name: &str, text: &str) -> Option<Finding> {
    let index = text
        .lines()
        .position(|line| code_of(line).contains(LIFTS_UNSAFE))?;
    (name != UNSAFE_FILE).then(|| {
        Finding::new(
            at(name, index),
            format!("allows unsafe code; only {UNSAFE_FILE} may"),
        )
    })
}

/// No test waits for a time: it waits for a condition, or in paused time.
fn check_sleeps(name: &str, text: &str) -> Vec<Finding> {
    let paused = text.contains("start_paused") || text.contains("time::pause");
    let mut testing = name.starts_with("tests/") || name.contains("/tests/");
    testing |= name.ends_with("/tests.rs");
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        testing |= line.trim() == "#[cfg(test)]";
        let code = code_of(line);
        let sleeps = code.contains("thread::sleep") || (code.contains("time::sleep") && !paused);
        if testing && sleeps {
            findings.push(Finding::new(
                at(name, index),
                "sleeps in a test: wait for a condition (xtask::wait) or pause time",
            ));
        }
    }
    findings
}

/// A pure crate reads no clock, environment, file, socket or random source and starts no thread.
fn check_pure_source(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    // A `use std::…;` may go on over several lines; every word in it counts.
    let mut importing = false;
    for (index, line) in text.lines().enumerate() {
        let code = code_of(line);
        if code.contains(LIFTS_BANS) {
            findings.push(Finding::new(
                at(name, index),
                "a pure crate lifts a ban of clippy.toml: take it as an argument",
            ));
        }
        importing |= code
            .trim_start()
            .trim_start_matches("pub ")
            .starts_with("use std::");
        let words: Vec<&str> = if importing {
            words_of(code).collect()
        } else {
            // Outside an import only what is spelt as a path into the standard library counts.
            code.match_indices("std::")
                .flat_map(|(start, _)| words_of(path_at(&code[start..])))
                .collect()
        };
        for word in words.into_iter().filter(|word| WORLD.contains(word)) {
            findings.push(Finding::new(
                at(name, index),
                format!("a pure crate uses std's `{word}`: take it as an argument"),
            ));
        }
        importing &= !code.contains(';');
    }
    findings
}

/// The line without its comment.
fn code_of(line: &str) -> &str {
    let start = if line.trim_start().starts_with("//") {
        Some(0)
    } else {
        line.find(" // ")
    };
    start.map_or(line, |start| &line[..start])
}

fn words_of(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// The path that `code` begins with.
fn path_at(code: &str) -> &str {
    let end = code.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':'));
    &code[..end.unwrap_or(code.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_machine_path_is_found_and_a_relative_one_is_not() {
        let bad = format!(
            "a = \"{}alice/data\"\nsee {}bob\n",
            MACHINE_PATHS[1], MACHINE_PATHS[0]
        );
        assert_eq!(
            places(check_file("deploy/a.toml", &bad)),
            ["deploy/a.toml:1", "deploy/a.toml:2"]
        );
        let good = format!(
            "deploy{}x, https://example.com{}y\n",
            MACHINE_PATHS[0], MACHINE_PATHS[1]
        );
        assert_eq!(places(check_file("deploy/a.toml", &good)), [""; 0]);
    }

    #[test]
    fn a_file_without_header_is_found() {
        assert!(check_header("a.rs", "use std::fmt;\n").is_some());
        assert!(check_header("a.rs", "").is_some());
        assert!(check_header("a.rs", "//! What it owns.\n").is_none());
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(check_length("a.rs", &"x\n".repeat(LINES_MAX)).is_none());
        assert!(check_length("a.rs", &"x\n".repeat(LINES_MAX + 1)).is_some());
    }

    #[test]
    fn unfinished_work_is_found_outside_comments() {
        for word in UNFINISHED {
            assert_eq!(
                places(check_unfinished("a.rs", &format!("x\n    {word}\n"))),
                ["a.rs:2"]
            );
            assert_eq!(
                places(check_unfinished("a.rs", &format!("// {word}\n"))),
                [""; 0]
            );
        }
    }

    #[test]
    fn a_sleep_in_a_test_is_found() {
        let sleep = concat!("std::thread::", "sleep(x);");
        let unit =
            format!("fn wait() {{ {sleep} }}\n#[cfg(test)]\nmod tests {{\n    {sleep}\n}}\n");
        let unit = unit.as_str();
        assert_eq!(
            places(check_sleeps("crates/a/src/b.rs", unit)),
            ["crates/a/src/b.rs:4"]
        );
        // In two halves, so that this file passes its own check.
        let whole = concat!("tokio::time::", "sleep(x).await;\n");
        assert_eq!(places(check_sleeps("tests/a.rs", whole)), ["tests/a.rs:1"]);
        assert_eq!(
            places(check_sleeps("crates/a/src/b/tests.rs", whole)),
            ["crates/a/src/b/tests.rs:1"]
        );
        let paused = format!("#[tokio::test(start_paused = true)]\n{whole}");
        assert_eq!(places(check_sleeps("tests/a.rs", &paused)), [""; 0]);
    }

    #[test]
    fn a_package_without_the_workspace_s_lints_is_found() {
        let inherits = "[package]\n\n[lints]\nworkspace = true\n\n[dependencies]\n";
        let own = "[package]\n\n[lints.rust]\nunsafe_code = \"deny\"\n";
        let none = "[package]\n\n[dependencies]\nworkspace = true\n";
        assert!(check_manifest("crates/log/Cargo.toml", inherits).is_none());
        assert!(check_manifest("crates/log/Cargo.toml", own).is_some());
        assert!(check_manifest("crates/log/Cargo.toml", none).is_some());
        assert!(check_manifest(UNSAFE_MANIFEST, own).is_none());
        assert!(check_manifest(UNSAFE_MANIFEST, none).is_some());
    }

    #[test]
    fn unsafe_code_outside_its_file_is_found() {
        let allows = format!("//! A.\n#![{LIFTS_UNSAFE})]\n");
        assert!(check_unsafe(UNSAFE_FILE, &allows).is_none());
        assert_eq!(
            places(
                check_unsafe("crates/kafka/src/log.rs", &allows)
                    .into_iter()
                    .collect()
            ),
            ["crates/kafka/src/log.rs:2"]
        );
    }

    #[test]
    fn a_pure_crate_that_reaches_the_world_is_found() {
        for bad in [
            "let now = std::time::Instant::now();",
            "use std::time::SystemTime;",
            "use std::time::{\n    Duration,\n    Instant,\n};",
            "use std::{\n    collections::BTreeMap,\n    fs,\n};",
            "pub use std::env;",
            "let home = std::env::var(\"HOME\");",
            "let s: std::collections::hash_map::RandomState;",
            concat!("#[allow(clippy::", "disallowed_methods)]"),
        ] {
            let findings = check_file("crates/window/src/a.rs", &format!("//! A.\n{bad}\n"));
            assert_eq!(findings.len(), 1, "{bad}");
            let elsewhere = check_file("crates/daemon/src/a.rs", &format!("//! A.\n{bad}\n"));
            assert_eq!(elsewhere, [], "{bad}");
        }
        for good in [
            "use std::time::Duration;\nlet net = env + fs;",
            "// Never std::fs.",
            "let net = std::cmp::max(a, b); thread(net);",
            "include!(concat!(env!(\"OUT_DIR\"), \"/a.rs\"));",
        ] {
            let findings = check_file("crates/window/src/a.rs", &format!("//! A.\n{good}\n"));
            assert_eq!(findings, [], "{good}");
        }
    }
}
