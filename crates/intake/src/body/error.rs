//! Why nothing of a body is taken. What is said here never grows with the input.

use super::Packing;
use crate::shown;

/// Why nothing of a body is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Where one event ends and the next begins cannot be told.
    #[error("the body cannot be split at byte {byte}: {problem}")]
    CannotSplit {
        /// The place in the unpacked body, counted from 0.
        byte: u64,
        /// What was expected there, and what was found.
        problem: String,
    },
    /// The packing is cut short or damaged.
    #[error("the body is no whole {packing} at byte {byte}: {problem}")]
    CannotUnpack {
        /// How the body is said to be packed.
        packing: Packing,
        /// How much of the packed body was read without a fault.
        byte: u64,
        /// What is wrong there.
        problem: String,
    },
    /// More bytes than a body may have, as it came or unpacked.
    #[error("the body has more than {bytes_max} bytes; send it in several requests")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// It unpacks to far more than any events would.
    #[error(
        "the body unpacks to more than {ratio_max} times its bytes; send it less densely packed, \
         or without what is blank in it"
    )]
    Inflates {
        /// The limit.
        ratio_max: usize,
    },
    /// More events than a body may have.
    #[error("the body has more than {events_max} events; send it in several requests")]
    TooMany {
        /// The limit.
        events_max: usize,
    },
    /// The bodies that are read at the same time leave no memory for this one.
    #[error("too much is being read at once; send this again later")]
    NoRoom,
}

impl Error {
    /// The body cannot be split at `byte`, where something else was expected.
    #[cold]
    pub(super) fn cannot_split(body: &[u8], byte: usize, expected: &str) -> Self {
        let got = match body.get(byte..) {
            None | Some([]) => "the end of the body".to_owned(),
            Some(rest) => shown(&rest[..rest.len().min(SHOWN_BYTES)]),
        };
        Self::CannotSplit {
            byte: byte as u64,
            problem: format!("expected {expected}, got {got}"),
        }
    }
}

/// How much of a body is shown where it cannot be split.
const SHOWN_BYTES: usize = 24;

/// A header whose value asks for something that is not read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{header}: expected {expected}, got {got}")]
pub struct UnsupportedError {
    header: &'static str,
    expected: &'static str,
    got: String,
}

impl UnsupportedError {
    #[cold]
    pub(super) fn new(header: &'static str, expected: &'static str, got: &str) -> Self {
        Self {
            header,
            expected,
            got: shown(got.as_bytes()),
        }
    }
}
