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

/// What of a text is words and small numbers; what is anything else shows as `…`. A text that is
/// mostly something else is `None`: in which form somebody writes a key down is not to be foreseen,
/// but none of them is plain words.
pub(crate) fn words_of(text: &str) -> Option<String> {
    let is_word = |c: char| c.is_ascii_alphabetic() || is_ideograph(c);
    let (mut plain, mut others, mut single) = (String::new(), 0, 0);
    for part in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let (token, rest) = match part.char_indices().next_back() {
            Some((at, c)) if !c.is_alphanumeric() => part.split_at(at),
            _ => (part, ""),
        };
        let length = token.chars().count();
        let is_number = length < 5 && token.chars().all(|c| c.is_ascii_digit());
        let is_plain = is_number || length <= WORD_CHARS_MAX && token.chars().all(is_word);
        single += usize::from(length > 0 && (length == 1 || is_number));
        match is_plain {
            true => plain += token,
            false => {
                others += 1;
                plain.push('…');
            }
        }
        // Emphasis by other alphabets and the like.
        plain.extend(rest.chars().map(|c| match c.is_ascii() || is_ideograph(c) {
            true => c,
            false => '…',
        }));
    }
    (others <= OTHERS_MAX && single <= SINGLE_MAX).then_some(plain)
}

/// Letters of a word at most.
const WORD_CHARS_MAX: usize = 24;

/// Parts that are no words, at most, in a text that is mostly words.
const OTHERS_MAX: usize = 2;

/// Single characters and small numbers at most.
const SINGLE_MAX: usize = 7;

/// Chinese text and its punctuation.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3000}'..='\u{303f}' | '\u{3400}'..='\u{9fff}' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}')
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
    fn words_and_small_numbers_are_quoted_and_nothing_that_may_be_a_key() {
        for told in [
            "{\"ok\":false,\"error\":\"invalid_payload\",\"line\":12}",
            "Rate limited, come again in 30 seconds (code 429)",
            "签名不正确，请检查时间戳。",
        ] {
            assert_eq!(words_of(told).as_deref(), Some(told));
        }
        assert_eq!(
            words_of("no channel C02AB9XYZ here").as_deref(),
            Some("no channel … here")
        );
        for hidden in [
            "0x5a,0x71,0x38,0x72,0x39",
            "715a 7238 6b39 4d2d",
            "z q 8 r 9 k m 2 p 4",
            "90 113 56 114 57 107 109 50",
            "C5H66P35CPJMGQBADDM6QRJFE1ON4SRKELR7EU3PF8QN4SRKELR7EU3P A1B2C3 D4E5F6 G7H8",
            "\u{1d5ec}\u{1d5f6}\u{1d5f7} \u{24d0}1 \u{1d7d8}2 \u{24d1}3 \u{24d2}4",
        ] {
            assert_eq!(words_of(hidden), None, "{hidden}");
        }
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
