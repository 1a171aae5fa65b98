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
        let is_plain = is_plain && !is_invisible(c);
        match is_plain {
            true => shown.push(c),
            // Writing to a string does not fail.
            false => drop(write!(shown, "{}", c.escape_unicode())),
        }
    }
    shown
}

/// Whether a character shows nothing itself, or nothing that is agreed on: format characters (Unicode
/// 16, general category Cf), separators of lines and paragraphs, letters, marks and signs that are blank,
/// selectors of variants, private use, and what is no character. Two names that differ in these alone
/// look alike.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}'
        | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{16fe4}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}'
    ) || u32::from(c) & 0xfffe == 0xfffe
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

    #[test]
    fn what_shows_nothing_is_written_out_and_writing_is_not() {
        for c in [
            '\u{34f}',
            '\u{115f}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180e}',
            '\u{2800}',
            '\u{3164}',
            '\u{e000}',
            '\u{fdd0}',
            '\u{fe0f}',
            '\u{ffff}',
            '\u{1fffe}',
            '\u{e0100}',
            '\u{100000}',
        ] {
            assert!(is_invisible(c), "{c:?}");
            let told = shown(&format!("a{c}"), 100);
            assert!(told.is_ascii() && told.len() > 2, "{told:?}");
        }
        for c in "aé茶カ한ไก่🦀❤–·　".chars() {
            assert!(!is_invisible(c), "{c:?}");
        }
    }
}
