//! Properties of the reader of rules: any text gives rules within their bounds, or one error of
//! readable length that names a line of the text; and an error is no surprise, but the same again.

use fenghuo_alert::Rules;
use fenghuo_signal::Catalogue;

/// The most that an error says: a few lines for a person, the longest of them the list of signals.
const ERROR_CHARS_MAX: usize = 2_000;

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let catalogue = Catalogue::built_in();
    let signals = catalogue.signal_names();
    match Rules::parse("fuzz.toml", text, &signals) {
        Ok(rules) => {
            assert!(rules.len() <= Rules::COUNT_MAX);
            for (index, rule) in rules.iter().enumerate() {
                assert_eq!(rules.named(&rule.name).map(|(at, _)| at), Some(index));
                assert!(signals.contains(&rule.signal.as_str()));
                assert!(!rule.limits.is_empty());
                for limit in &rule.limits {
                    assert!(limit.at.is_finite() && limit.clear.is_finite());
                    assert!(limit.hold_ms >= 0);
                }
            }
        }
        Err(error) => {
            let lines = text.lines().count();
            assert!((1..=lines + 1).contains(&error.line), "{error}");
            let said = error.to_string();
            assert!(said.chars().count() <= ERROR_CHARS_MAX, "{said:.500}");
            assert!(!said.contains(char::is_control), "{said:?}");
        }
    }
}
