//! Mistakes in a rules file: owns their wording and the search for the nearest name.

/// A mistake in a rules file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {}{problem}", .rule.as_ref().map(|name| format!("rule {name:?}: ")).unwrap_or_default())]
pub struct RuleError {
    /// The file, by the name that was given for it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule, where it got as far as a name.
    pub rule: Option<String>,
    /// What is wrong.
    pub problem: Box<Problem>,
}

/// What is wrong in a rules file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is no TOML.
    #[error("no valid TOML: {0}")]
    Syntax(String),
    /// A name that means nothing here.
    #[error("unknown {what} {name:?}; {hint}")]
    Unknown {
        /// What it would be the name of: a key, a signal, a kind …
        what: String,
        /// The name.
        name: String,
        /// The nearest name, or else all there are.
        hint: String,
    },
    /// Something that must be there is not.
    #[error("{key} is missing; expected {expected}")]
    Missing {
        /// The key.
        key: String,
        /// What it would hold.
        expected: String,
    },
    /// Something that is there cannot be.
    #[error("{key} is {found}; expected {expected}")]
    Unfit {
        /// The key.
        key: String,
        /// What it holds.
        found: String,
        /// What it would hold.
        expected: String,
    },
}

/// The most of a text from a file that an error repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;
/// The longest list of names that an error gives, in characters.
const HINT_CHARS_MAX: usize = 1_000;

impl Problem {
    pub(crate) fn unknown<'k>(
        what: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Problem {
        let mut known: Vec<&str> = known.into_iter().collect();
        known.sort_unstable();
        known.dedup();
        let hint = match nearest(name, &known) {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.is_empty() => "there is none to name".to_owned(),
            None => format!("expected one of {}", known.join(", ")),
        };
        Problem::Unknown {
            what: shown(what, SHOWN_CHARS_MAX),
            name: shown(name, SHOWN_CHARS_MAX),
            hint: shown(hint, HINT_CHARS_MAX),
        }
    }

    pub(crate) fn missing(key: impl Into<String>, expected: &str) -> Problem {
        Problem::Missing {
            key: shown(key, SHOWN_CHARS_MAX),
            expected: expected.to_owned(),
        }
    }

    pub(crate) fn unfit(
        key: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Problem {
        Problem::Unfit {
            key: shown(key, SHOWN_CHARS_MAX),
            found: shown(found, SHOWN_CHARS_MAX),
            expected: expected.into(),
        }
    }

    pub(crate) fn syntax(message: &str) -> Problem {
        Problem::Syntax(shown(message, HINT_CHARS_MAX))
    }
}

/// A text from a file, cut so that no error grows with the file, and on one line.
fn shown(text: impl Into<String>, chars_max: usize) -> String {
    let mut text: String = text.into();
    if let Some((end, _)) = text.char_indices().nth(chars_max) {
        text.truncate(end);
        text.push('…');
    }
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, " "),
        false => text,
    }
}

/// The longest name that is compared with the known ones.
const NAME_BYTES_COMPARED_MAX: usize = 256;

/// The name within three edits that are also fewer than half of what was typed.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // What is far longer than any name is near to none, and comparing it would cost its square.
    if name.len() > NAME_BYTES_COMPARED_MAX {
        return None;
    }
    let most = (name.chars().count() / 2).min(3);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, known)| known)
}
