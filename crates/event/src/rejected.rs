//! Why a message is not an event: the few reasons that are counted, and the detail that is read by
//! a person. A detail must never carry more of the input than a line.

use std::fmt;

/// Why a message was rejected: the label of a metric and a header of the dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A `content-type` that names neither encoding.
    UnsupportedEncoding,
    /// Not a message of its encoding: cut short, badly formed, not UTF-8.
    Malformed,
    /// Over one of the [`bounds`](crate::bounds) on size: bytes, elements, nesting.
    TooLarge,
    /// Something that every event of its kind must have is not there.
    MissingField,
    /// A value of the wrong type or outside what it may be.
    InvalidValue,
}

impl Reason {
    /// All of them, in order.
    pub const ALL: [Reason; 5] = [
        Reason::UnsupportedEncoding,
        Reason::Malformed,
        Reason::TooLarge,
        Reason::MissingField,
        Reason::InvalidValue,
    ];

    /// As in metrics and dead letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::UnsupportedEncoding => "unsupported_encoding",
            Reason::Malformed => "malformed",
            Reason::TooLarge => "too_large",
            Reason::MissingField => "missing_field",
            Reason::InvalidValue => "invalid_value",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that is no event, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejected {
    /// The class.
    pub reason: Reason,
    /// The path of the field where one is to blame, and what was expected there.
    pub detail: String,
}

/// The longest detail. Ours are shorter; a library's may quote the input, in its middle.
const DETAIL_CHARS_MAX: usize = 240;
/// What is left of a longer one: the path and the beginning of a quotation …
const DETAIL_HEAD_CHARS: usize = 90;
/// … and what was expected.
const DETAIL_TAIL_CHARS: usize = 70;
/// The longest quotation of ours.
const QUOTE_CHARS: usize = 50;

impl Rejected {
    /// With a detail cut to a readable length.
    pub(crate) fn new(reason: Reason, detail: &str) -> Self {
        let chars = detail.chars().count();
        let detail = if chars <= DETAIL_CHARS_MAX {
            detail.to_owned()
        } else {
            let head: String = detail.chars().take(DETAIL_HEAD_CHARS).collect();
            let tail: String = detail.chars().skip(chars - DETAIL_TAIL_CHARS).collect();
            format!("{head} … {tail}")
        };
        Self { reason, detail }
    }
}

/// One step of the way to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into the field of that name.
    Field(&'static str),
    /// Into that element of a list.
    Element(usize),
}

/// The way to a field, collected from the inside out while an error returns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Path(Vec<Step>);

impl Path {
    pub(crate) fn push(&mut self, step: Step) {
        self.0.push(step);
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().rev().enumerate() {
            match step {
                Step::Field(name) if at == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Element(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A rejection on its way up; boxed so that the good path passes a pointer at most.
#[derive(Debug)]
pub(crate) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: Reason,
    what: String,
    path: Path,
}

impl Fault {
    #[cold]
    pub(crate) fn new(reason: Reason, what: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            reason,
            what: what.into(),
            path: Path::default(),
        }))
    }

    /// The value of the field `name` is not what it may be.
    #[cold]
    pub(crate) fn invalid(name: &'static str, what: impl Into<String>) -> Self {
        Self::new(Reason::InvalidValue, what).within(name)
    }

    /// The field `name` must be given.
    #[cold]
    pub(crate) fn missing(name: &'static str, what: &str) -> Self {
        Self::new(Reason::MissingField, what).within(name)
    }

    #[cold]
    pub(crate) fn within(mut self, name: &'static str) -> Self {
        self.0.path.push(Step::Field(name));
        self
    }

    /// The value with that key of a map.
    #[cold]
    pub(crate) fn of_key(mut self, key: &str) -> Self {
        self.0.what = format!("{}: {}", quote(key), self.0.what);
        self
    }

    #[cold]
    pub(crate) fn at_element(mut self, index: usize) -> Self {
        self.0.path.push(Step::Element(index));
        self
    }
}

impl From<Fault> for Rejected {
    fn from(fault: Fault) -> Self {
        let Inner { reason, what, path } = *fault.0;
        match path.0.is_empty() {
            true => Rejected::new(reason, &what),
            false => Rejected::new(reason, &format!("{path}: {what}")),
        }
    }
}

/// A value quoted for a detail, cut to its first characters.
pub(crate) fn quote(value: &str) -> String {
    match value.char_indices().nth(QUOTE_CHARS) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}…", &value[..end]),
    }
}
