//! What no input may break. A [`Target`] is one reader of bytes from outside, with the properties
//! that hold of whatever it is given; `cargo xtask fuzz` lets libFuzzer look for the input that
//! breaks one, and every test run puts the kept inputs through them.
//!
//! A target must panic for a fault of ours and for nothing else, and keep nothing between inputs.

mod events;
mod oracle;
mod rules;
pub mod seeds;

use std::process::ExitCode;

/// A reader of bytes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An event in JSON.
    Json,
    /// An event in the protobuf wire format.
    Protobuf,
    /// A rules file.
    Rules,
}

impl Target {
    /// All of them, in order.
    pub const ALL: [Target; 3] = [Target::Json, Target::Protobuf, Target::Rules];

    /// As on the command line, and the directory of its cases.
    pub const fn name(self) -> &'static str {
        match self {
            Target::Json => "json",
            Target::Protobuf => "protobuf",
            Target::Rules => "rules",
        }
    }

    /// Reads one input and holds what came of it against the properties.
    ///
    /// # Panics
    /// Where a property does not hold.
    pub fn check(self, input: &[u8]) {
        match self {
            Target::Json => events::check_json(input),
            Target::Protobuf => events::check_protobuf(input),
            Target::Rules => rules::check(input),
        }
    }

    /// The program of a target without libFuzzer: each argument is a file with one input, or
    /// `--seeds` and a directory, into which what fuzzing begins with is written.
    pub fn run_arguments(self) -> ExitCode {
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            let done = match argument == "--seeds" {
                true => arguments
                    .next()
                    .ok_or_else(|| std::io::Error::other("--seeds expects a directory"))
                    .and_then(|directory| seeds::write(self, directory.as_ref())),
                false => std::fs::read(&argument).map(|input| self.check(&input)),
            };
            if let Err(error) = done {
                eprintln!("error: {}: {error}", argument.to_string_lossy());
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    }
}
