//! Source to tokens, with positions.

use super::error::Error;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A name without points.
    Name(&'a str),
    /// A whole number; the sign is an operator.
    Int(u64),
    /// A number with a point or an exponent.
    Float(f64),
    /// A text without its quotes and escapes.
    Text(String),
    /// An operator or a bracket.
    Mark(&'static str),
    /// The end of the source.
    End,
}

/// Longer ones come before those that they begin with.
const MARKS: [&str; 23] = [
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")",
    "[", "]", ",", ".", "=",
];

/// The source from a position on.
#[derive(Clone)]
pub(super) struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, at: 0 }
    }

    /// The next token, and where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), Error> {
        let rest = &self.source[self.at..];
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.at += blank;
        let start = self.at;
        let rest = &self.source[start..];
        let token = match rest.bytes().next() {
            None => Token::End,
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                Token::Name(self.take(rest.trim_start_matches(is_part).len(), rest))
            }
            Some(b'0'..=b'9') => self.number(rest)?,
            Some(quote @ (b'"' | b'\'')) => self.text(char::from(quote))?,
            Some(_) => self.mark(rest)?,
        };
        Ok((start, token))
    }

    /// Moves on to where `left` bytes of `rest` are left.
    fn take(&mut self, left: usize, rest: &'a str) -> &'a str {
        let taken = &rest[..rest.len() - left];
        self.at += taken.len();
        taken
    }

    fn number(&mut self, rest: &'a str) -> Result<Token<'a>, Error> {
        let start = self.at;
        let is_digit = |c: char| c.is_ascii_digit();
        let mut left = rest.trim_start_matches(is_digit);
        let mut is_whole = true;
        if let Some(decimals) = left.strip_prefix('.')
            && decimals.starts_with(is_digit)
        {
            (left, is_whole) = (decimals.trim_start_matches(is_digit), false);
        }
        if let Some(exponent) = left.strip_prefix(['e', 'E']) {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.starts_with(is_digit) {
                (left, is_whole) = (digits.trim_start_matches(is_digit), false);
            }
        }
        let text = self.take(left.len(), rest);
        if left.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            let end = left.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let found = format!("{:?}", &rest[..text.len() + end.unwrap_or(left.len())]);
            let expected = "a number such as 12 or 1.5; a span is duration(\"2h\")";
            return Err(Error::unexpected(start, found, expected));
        }
        let value = match is_whole {
            true => text.parse().ok().map(Token::Int),
            false => text
                .parse()
                .ok()
                .filter(|value: &f64| value.is_finite())
                .map(Token::Float),
        };
        value.ok_or_else(|| Error::unexpected(start, text, "a number of at most 64 bits"))
    }

    fn text(&mut self, quote: char) -> Result<Token<'a>, Error> {
        let start = self.at;
        let mut text = String::new();
        let mut letters = self.source[start + 1..].char_indices();
        while let Some((at, letter)) = letters.next() {
            let here = start + 1 + at;
            match letter {
                _ if letter == quote => {
                    self.at = here + 1;
                    return Ok(Token::Text(text));
                }
                '\n' => break,
                '\\' => text.push(match letters.next() {
                    Some((_, same @ ('\\' | '"' | '\''))) => same,
                    Some((_, 'n')) => '\n',
                    Some((_, 't')) => '\t',
                    Some((_, other)) => {
                        let found = format!("\"\\{other}\"");
                        let expected = "one of the escapes \\\\ \\\" \\' \\n \\t";
                        return Err(Error::unexpected(here, found, expected));
                    }
                    None => break,
                }),
                _ => text.push(letter),
            }
        }
        let found = "a text without an end";
        Err(Error::unexpected(
            start,
            found,
            format!("{quote} at its end, on the same line"),
        ))
    }

    fn mark(&mut self, rest: &'a str) -> Result<Token<'a>, Error> {
        if let Some(mark) = MARKS.into_iter().find(|mark| rest.starts_with(mark)) {
            self.at += mark.len();
            return Ok(Token::Mark(mark));
        }
        let found: String = rest.chars().take(1).collect();
        let expected = match found.as_str() {
            "&" => "&&",
            "|" => "||",
            "“" | "”" | "‘" | "’" => "a text in straight quotes",
            "，" | "（" | "）" => "the ASCII form of this mark",
            _ => "a name, a number, a text or an operator",
        };
        Err(Error::unexpected(self.at, format!("{found:?}"), expected))
    }
}
