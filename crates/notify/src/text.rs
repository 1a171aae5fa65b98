//! Texts as they may reach a person: cut to a length, on one line, and without what cannot be seen.
//!
//! Names come from outside. A control character can command a terminal, a bidirectional control can
//! turn a price around, and a zero-width character makes two names look alike.

use fenghuo_signal::is_invisible;

/// At most `chars_max` characters; what was cut off shows as `…`.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().nth(chars_max).is_none() {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    if chars_max > 0 {
        kept.push('…');
    }
    kept
}

/// On one line and clean, at most `chars_max` characters.
pub(crate) fn one_line(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let mut seen = word.chars().filter(|c| !is_invisible(*c)).peekable();
        if seen.peek().is_none() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(seen);
    }
    cut(&line, chars_max)
}

/// Without control and invisible characters; line feeds and tabs stay.
pub(crate) fn clean(text: &str) -> String {
    let stays = |c: &char| matches!(c, '\n' | '\t') || !(c.is_control() || is_invisible(*c));
    text.chars().filter(stays).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_whole_characters_and_shows() {
        assert_eq!(cut("烽火台", 3), "烽火台");
        assert_eq!(cut("烽火台上", 3), "烽火…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn one_line_holds_no_control_characters() {
        assert_eq!(
            one_line("a\n\t b\x1b[31mc\u{9b}d \r\n \u{200b} e\u{202e}", 100),
            "a b [31mc d e"
        );
    }

    #[test]
    fn what_is_clean_keeps_its_lines() {
        assert_eq!(clean("a\u{202e}b\n\tc\u{0}\u{2066}\u{feff}"), "ab\n\tc");
        let blank =
            "\u{34f}\u{17b4}\u{fe0f}\u{2800}\u{e000}\u{ffff}\u{fdd0}\u{3164}\u{115f}\u{180b}";
        assert_eq!(clean(&format!("a{blank}b")), "ab");
        assert_eq!(one_line(&format!("a{blank}b {blank} c"), 100), "ab c");
    }
}
