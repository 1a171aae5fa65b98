//! Texts as they may reach a person: cut to a length, on one line, and without what cannot be seen.
//!
//! Names come from outside. A control character can command a terminal, a bidirectional control can
//! turn a price around, and a zero-width character makes two names look alike.

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

/// Format characters (Unicode 16, general category Cf), separators of lines and paragraphs, and
/// letters that are blank: what changes how other characters are read and shows nothing itself.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e007f}'
    )
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
    }
}
