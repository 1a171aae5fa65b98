//! The Prometheus text form: families of samples, with escaped and bounded labels.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Bytes of a label's value; longer ones are cut and told apart by a hash.
const LABEL_BYTES_MAX: usize = 120;

/// What a family measures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// It goes up, and begins anew with the process.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A growing text.
pub(super) struct Exposition {
    text: String,
}

/// One family of it; a family is written in one go.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Continues a text that is valid so far.
    pub(super) fn after(text: String) -> Self {
        Self { text }
    }

    /// Begins a family.
    pub(super) fn family(
        &mut self,
        name: &'static str,
        kind: Type,
        help: &'static str,
    ) -> Family<'_> {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family {
            text: &mut self.text,
            name,
        }
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(self.name);
        for (at, (name, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            push_label(self.text, value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = if value.is_finite() {
            writeln!(self.text, " {value}")
        } else if value.is_nan() {
            writeln!(self.text, " NaN")
        } else {
            let sign = if value > 0.0 { '+' } else { '-' };
            writeln!(self.text, " {sign}Inf")
        };
    }
}

/// Whether a character is not shown as it is.
fn is_hidden(c: char) -> bool {
    c != '\n' && (c.is_control() || fenghuo_signal::is_invisible(c))
}

fn push_label(text: &mut String, value: &str) {
    let mut end = value.len().min(LABEL_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    for c in value[..end].chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            // No terminal that shows the metrics should be driven by them, and no name look like
            // another.
            c if is_hidden(c) => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
    if end < value.len() || value.chars().any(is_hidden) {
        // Two names that look alike now must not become one series: the whole scrape would fail.
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let _ = write!(text, "…{:08x}", hasher.finish() as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(label: &str, value: f64) -> String {
        let mut exposition = Exposition::after(String::new());
        exposition
            .family("fenghuo_x", Type::Gauge, "Help.")
            .sample(&[("entity", label)], value);
        exposition.finish()
    }

    #[test]
    fn labels_are_escaped() {
        let text = one("a\"b\\c\nd", 1.5);
        let expected = "# HELP fenghuo_x Help.\n# TYPE fenghuo_x gauge\nfenghuo_x{entity=\"a\\\"b\\\\c\\nd\"} 1.5\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn long_labels_are_bounded_and_stay_apart() {
        let long = "烽".repeat(100);
        let (a, b) = (one(&format!("{long}a"), 0.0), one(&format!("{long}b"), 0.0));
        assert!(a.len() < 220, "{} bytes", a.len());
        assert_ne!(a, b);
        assert_ne!(one("a\u{1}", 0.0), one("a\u{2}", 0.0));
    }

    #[test]
    fn what_is_not_seen_is_marked_and_stays_apart() {
        let names = [
            "a\u{202e}b",
            "a\u{200b}b",
            "a\u{3164}b",
            "a\u{fe0f}b",
            "a\u{e000}b",
        ];
        let told = names.map(|name| one(name, 0.0));
        for (text, name) in told.iter().zip(names) {
            assert_eq!(text.chars().find(|c| is_hidden(*c)), None, "{name:?}");
            assert!(text.contains("a\u{fffd}b…"), "{text}");
            assert_eq!(told.iter().filter(|other| *other == text).count(), 1);
        }
    }

    #[test]
    fn what_is_not_finite_has_the_form_that_prometheus_reads() {
        assert!(one("x", f64::NAN).ends_with(" NaN\n"));
        assert!(one("x", f64::INFINITY).ends_with(" +Inf\n"));
        assert!(one("x", f64::NEG_INFINITY).ends_with(" -Inf\n"));
    }
}
