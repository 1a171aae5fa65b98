//! Mistakes in expressions: owns their wording and the search for the nearest name.

use std::fmt;

/// All mistakes that were found in one expression, by position; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl fmt::Display for Errors {
    /// A line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            write!(f, "{end}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// A mistake in an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {problem}")]
pub struct Error {
    /// Where it is, in bytes from the beginning of the source.
    pub at: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong in an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A name that means nothing here.
    #[error("unknown {what} {name:?}; {hint}")]
    Unknown {
        /// What it would be the name of: a field, a method, a value of an enum …
        what: String,
        /// The name.
        name: String,
        /// The nearest name, or else all there are.
        hint: String,
    },
    /// Something that cannot be where it is.
    #[error("found {found}, expected {expected}")]
    Unexpected {
        /// What is there.
        found: String,
        /// What could be there, or what to do.
        expected: String,
    },
}

/// The most of a text from the source that an error repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;
/// The longest list of names that an error gives, in characters.
const HINT_CHARS_MAX: usize = 300;

impl Error {
    pub(super) fn unknown<'k>(
        at: usize,
        what: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Self {
        let mut known: Vec<&str> = known.into_iter().collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.is_empty() => "there is none to name".to_owned(),
            None => {
                known.sort_unstable();
                shown(
                    &format!("expected one of {}", known.join(", ")),
                    HINT_CHARS_MAX,
                )
            }
        };
        let problem = Problem::Unknown {
            what: what.into(),
            name: shown(name, SHOWN_CHARS_MAX),
            hint,
        };
        Self { at, problem }
    }

    pub(super) fn unexpected(
        at: usize,
        found: impl AsRef<str>,
        expected: impl Into<String>,
    ) -> Self {
        let problem = Problem::Unexpected {
            found: shown(found.as_ref(), SHOWN_CHARS_MAX),
            expected: expected.into(),
        };
        Self { at, problem }
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

/// A text from the source, cut so that no error grows with it, and on one line.
fn shown(text: &str, chars_max: usize) -> String {
    let mut out: String = text.chars().take(chars_max).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out.replace(char::is_control, " ")
}

/// The longest name that is compared with the known ones.
const NAME_BYTES_COMPARED_MAX: usize = 256;

/// The known name within three edits of `name` that are also at most half of it; else one that
/// `name` is the end or the beginning of, as `quantity` is of `line.quantity`.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // What is far longer than any name is near to none, and comparing it would cost its square.
    if name.len() > NAME_BYTES_COMPARED_MAX {
        return None;
    }
    let most = (name.chars().count() / 2).min(3);
    let is_part = |known: &str| {
        let rest = known.strip_suffix(name).map(|rest| rest.ends_with('.'));
        let rest = rest.or(known.strip_prefix(name).map(|rest| rest.starts_with('.')));
        rest == Some(true)
    };
    known
        .into_iter()
        .filter_map(|known| match strsim::damerau_levenshtein(name, known) {
            edits if edits <= most => Some((edits, known)),
            _ if is_part(known) => Some((usize::MAX, known)),
            _ => None,
        })
        .min()
        .map(|(_, known)| known)
}
