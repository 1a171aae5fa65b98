//! The daemon's binary, built as people build it, for tests that run it from outside.
//!
//! It must never guess where cargo puts things: cargo says so itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::services::run;

/// The package and the binary in it.
const PACKAGE: &str = "fenghuo-daemon";
const NAME: &str = "fenghuo";

/// What cargo tells of each thing that it built.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// The release build of `fenghuo`. It is built first where it is not up to date, which
/// `cargo xtask test` has seen to before any test asks.
pub fn fenghuo() -> Result<PathBuf> {
    let output = run(Command::new("cargo")
        .args(["build", "--release", "--message-format", "json"])
        .args(["--package", PACKAGE, "--bin", NAME])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))))?;
    executable(&output).with_context(|| format!("cargo built {PACKAGE} and told of no {NAME}"))
}

/// The path of the binary in cargo's messages, one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| {
            message
                .target
                .as_ref()
                .is_some_and(|target| target.name == NAME)
        })
        .find_map(|message| message.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_among_cargo_s_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"fenghuo_log"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"fenghuo"},"executable":"/t/fenghuo"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages), Some(PathBuf::from("/t/fenghuo")));
        assert_eq!(executable("not json\n{}\n"), None);
    }
}
