//! A text from outside as it may be shown: on a terminal, in a page, in a log line.

use std::fmt::Write as _;

/// The text with every control, format and direction character written out (`\u{1b}`), and at most
/// `chars_max` characters long.
///
/// ```
/// assert_eq!(fenghuo_signal::shown("tea\u{1b}[2J", 60), "tea\\u{1b}[2J");
/// assert_eq!(fenghuo_signal::shown("abcdef", 3), "abc…");
/// ```
pub fn shown(text: &str, chars_max: usize) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == chars_max {
            shown.push('…');
            break;
        }
        // What Rust would not print in quotes either, but for the quotes themselves.
        let is_plain = matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1;
        match is_plain {
            true => shown.push(c),
            // Writing to a string does not fail.
            false => drop(write!(shown, "{}", c.escape_unicode())),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let text = "茶 \u{202e}gpj\u{200b}\r\n\u{9b}\u{feff}\"x\\";
        let expected = "茶 \\u{202e}gpj\\u{200b}\\u{d}\\u{a}\\u{9b}\\u{feff}\"x\\";
        assert_eq!(shown(text, 100), expected);
    }
}
