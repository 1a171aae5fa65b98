//! Texts as expressions see them: a slice of the scope or of a literal, perhaps to be read in small
//! letters. Small letters are made while comparing, so that no comparison allocates.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A text, as it is or with `A` to `Z` in small letters.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'s> {
    text: &'s str,
    lower: bool,
}

impl<'s> Piece<'s> {
    /// A text as it is.
    #[inline]
    pub const fn new(text: &'s str) -> Self {
        Self { text, lower: false }
    }

    #[inline]
    pub(super) const fn lower(self) -> Self {
        Self {
            lower: true,
            ..self
        }
    }

    /// Borrowed unless a capital letter has to be replaced.
    pub fn into_text(self) -> Cow<'s, str> {
        match self.lower && self.text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(self.text.to_ascii_lowercase()),
            false => Cow::Borrowed(self.text),
        }
    }

    /// Its length in characters.
    pub(super) fn size(self) -> i64 {
        self.text.chars().count() as i64
    }

    #[inline]
    fn is_plain_with(self, other: Piece<'_>) -> bool {
        !self.lower && !other.lower
    }

    #[inline]
    fn letter(self, byte: u8) -> u8 {
        match self.lower {
            true => byte.to_ascii_lowercase(),
            false => byte,
        }
    }

    fn same_letters(self, letters: &[u8], other: Piece<'_>) -> bool {
        let others = other.text.as_bytes();
        let mut pairs = letters.iter().zip(others);
        letters.len() == others.len() && pairs.all(|(a, b)| self.letter(*a) == other.letter(*b))
    }

    /// Whether both say the same.
    #[inline]
    pub fn equals(self, other: Piece<'_>) -> bool {
        match self.is_plain_with(other) {
            true => self.text == other.text,
            false => self.same_letters(self.text.as_bytes(), other),
        }
    }

    /// By code points, as UTF-8 orders its bytes.
    pub(super) fn compare(self, other: Piece<'_>) -> Ordering {
        if self.is_plain_with(other) {
            return self.text.cmp(other.text);
        }
        let letters = self.text.bytes().map(|byte| self.letter(byte));
        letters.cmp(other.text.bytes().map(|byte| other.letter(byte)))
    }

    #[inline]
    pub(super) fn starts_with(self, other: Piece<'_>) -> bool {
        let letters = self.text.as_bytes().get(..other.text.len());
        match self.is_plain_with(other) {
            true => letters == Some(other.text.as_bytes()),
            false => letters.is_some_and(|letters| self.same_letters(letters, other)),
        }
    }

    pub(super) fn ends_with(self, other: Piece<'_>) -> bool {
        let start = self.text.len().checked_sub(other.text.len());
        let letters = start.and_then(|start| self.text.as_bytes().get(start..));
        letters.is_some_and(|letters| self.same_letters(letters, other))
    }

    pub(super) fn contains(self, other: Piece<'_>) -> bool {
        if self.is_plain_with(other) {
            return self.text.contains(other.text);
        }
        let mut windows = self.text.as_bytes().windows(other.text.len().max(1));
        other.text.is_empty() || windows.any(|letters| self.same_letters(letters, other))
    }
}
