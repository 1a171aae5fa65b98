//! What a page says: its facts, its title and text, and the bounds on all texts.
//!
//! A template never costs a page: where it fails, the page goes out with its plain summary and
//! says that the template failed. Nothing here knows a receiver; channels bring their own limits.

mod counted;
mod growth;
#[cfg(test)]
mod hostile;
mod sample;

use std::collections::BTreeMap;
use std::sync::Arc;

use fenghuo_alert::Transition;
use fenghuo_signal::{Entity, Reading};
use minijinja::UndefinedBehavior;
use serde::Serialize;

use crate::text::{clean, cut, one_line};
use crate::{Action, Page};

/// Characters of a title, before a channel's own limit.
const TITLE_CHARS_MAX: usize = 512;
/// Characters of a text, before a channel's own limit.
const TEXT_CHARS_MAX: usize = 8 * 1024;
/// Characters of any other text that comes with an alert.
const FIELD_CHARS_MAX: usize = 1024;
/// Labels of a page that are shown.
const LABELS_MAX: usize = 64;

/// The built-in templates, in the same form as a channel's own.
const TITLE: &str = "{{ summary }}";
const TEXT: &str = "\
{{ rule }} on {{ entity_text }}: {{ signal }} is {{ reading_text }}
{% if action == 'resolve' %}over since {{ resolved_at or at }}, began {{ pending_at }}\
{% else %}since {{ pending_at }}{% endif %}, peak {{ peak_text }}\
{% if playbook %}
playbook: {{ playbook }}{% endif %}{% if owner_role %}
owner: {{ owner_role }}{% endif %}";

/// A page's words, bounded but not yet cut to a receiver's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub title: String,
    /// One or more lines.
    pub text: String,
    /// Why the channel's template was not used, where it failed.
    pub template_error: Option<String>,
}

/// The facts of a page: what templates see and what the webhook's `data` holds. Times are RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct Facts<'a> {
    /// `trigger` or `resolve`.
    pub action: &'static str,
    /// Names what the page is about, from trigger to resolve.
    pub dedup_key: &'a str,
    /// The episode's id.
    pub episode: &'a str,
    /// The rule's name.
    pub rule: &'a str,
    /// The signal's name.
    pub signal: &'a str,
    /// The entity with its kind.
    pub entity: &'a Entity,
    /// The entity as text.
    pub entity_text: String,
    /// `warn` or `page`: the highest of the episode.
    pub severity: &'static str,
    /// The reading that led to this step.
    pub reading: &'a Reading,
    /// The reading's value and bounds as text.
    pub reading_text: String,
    /// The value furthest beyond its limit.
    pub peak: f64,
    /// The same as text.
    pub peak_text: String,
    /// When this step happened.
    pub at: String,
    /// When the limit was first passed.
    pub pending_at: String,
    /// When it fired.
    pub fired_at: Option<String>,
    /// When it was over.
    pub resolved_at: Option<String>,
    /// The prepared plan.
    pub playbook: Option<&'a str>,
    /// Who should act.
    pub owner_role: Option<&'a str>,
    /// The rule's labels.
    pub labels: BTreeMap<&'a str, String>,
    /// The rule's own words.
    pub summary: String,
    /// The campaign.
    pub campaign: Option<String>,
    /// The shop.
    pub shop: &'a str,
    /// Where to look further.
    pub link: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// The facts of a page.
    pub fn of(page: &'a Page) -> Self {
        let alert = &page.alert;
        let labels = alert.labels.iter().take(LABELS_MAX);
        Self {
            action: page.action.as_str(),
            dedup_key: &page.dedup_key,
            episode: &alert.episode,
            rule: &alert.rule,
            signal: &alert.signal,
            entity: &alert.entity,
            entity_text: clean(&alert.entity.to_string()),
            severity: alert.severity.as_str(),
            reading: &alert.reading,
            reading_text: reading_text(&alert.reading),
            peak: alert.peak,
            peak_text: short(alert.peak),
            at: time(alert.at_ms),
            pending_at: time(alert.pending_at_ms),
            fired_at: alert.fired_at_ms.map(time),
            resolved_at: alert.resolved_at_ms.map(time),
            playbook: alert.playbook.as_deref(),
            owner_role: alert.owner_role.as_deref(),
            labels: labels
                .map(|(name, text)| (name.as_str(), cut(&clean(text), FIELD_CHARS_MAX)))
                .collect(),
            summary: summary(alert),
            campaign: alert.campaign.as_deref().map(clean),
            shop: &page.shop,
            link: page.link.as_deref(),
        }
    }
}

/// A channel's templates.
pub(crate) struct Templates {
    title: String,
    text: String,
}

/// Why a template could not be used.
struct Failed {
    problem: String,
    /// Whether it asked for more than a template may take.
    is_too_much: bool,
}

impl Templates {
    /// Looks a channel's templates over; an error names the key and the place in it.
    pub(crate) fn compile(
        title: Option<&str>,
        text: Option<&str>,
    ) -> Result<Self, (&'static str, String)> {
        let templates = Self {
            title: title.unwrap_or(TITLE).to_owned(),
            text: text.unwrap_or(TEXT).to_owned(),
        };
        for (key, source) in templates.sources() {
            // Before anything else is done with it.
            if let Some(problem) = growth::unbounded(source) {
                return Err((key, problem));
            }
            counted::parsed(key, source).map_err(|error| (key, told(&error)))?;
        }
        Ok(templates)
    }

    fn sources(&self) -> [(&'static str, &str); 2] {
        [("title", &self.title), ("text", &self.text)]
    }

    /// Tries the templates on an ordinary page, and says where one takes more than it may. What a
    /// page lacks that another one may have is no mistake here.
    pub(crate) fn try_out(&self) -> Result<(), (&'static str, String)> {
        for action in [Action::Trigger, Action::Resolve] {
            let page = sample::page(action);
            let facts = Facts::of(&page);
            for (key, source) in self.sources() {
                match render(key, source, &facts, UndefinedBehavior::Chainable) {
                    Err(failed) if failed.is_too_much => return Err((key, failed.problem)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The words of a page. Always succeeds.
    pub(crate) fn message(&self, page: &Page) -> Message {
        let facts = Facts::of(page);
        // A misspelt name must show as an error, not as a hole in the page.
        let rendered = self
            .sources()
            .map(|(key, source)| render(key, source, &facts, UndefinedBehavior::Strict));
        match rendered {
            [Ok(title), Ok(text)] => Message {
                title: one_line(&title, TITLE_CHARS_MAX),
                text: cut(clean(&text).trim(), TEXT_CHARS_MAX),
                template_error: None,
            },
            [Err(failed), _] | [_, Err(failed)] => Message {
                title: one_line(&facts.summary, TITLE_CHARS_MAX),
                text: format!("{}\n(template error: {})", facts.summary, failed.problem),
                template_error: Some(failed.problem),
            },
        }
    }
}

fn render(
    key: &'static str,
    source: &str,
    facts: &Facts<'_>,
    undefined: UndefinedBehavior,
) -> Result<String, Failed> {
    let budget = Arc::default();
    counted::render(key, source, facts, undefined, &budget).map_err(|error| Failed {
        problem: told(&error),
        is_too_much: budget.is_spent(),
    })
}

fn told(error: &minijinja::Error) -> String {
    let line = error
        .line()
        .map_or_else(String::new, |line| format!(" (line {line})"));
    one_line(&format!("{error}{line}"), 300)
}

/// The rule's words, or the bare facts where a rule has none.
fn summary(alert: &Transition) -> String {
    if alert.summary.trim().is_empty() {
        clean(&format!(
            "{} on {}: {} is {}",
            alert.rule,
            alert.entity,
            alert.signal,
            short(alert.reading.value)
        ))
    } else {
        cut(clean(&alert.summary).trim(), FIELD_CHARS_MAX)
    }
}

/// `0.31 [0.21 to 0.43], n 120`; the bounds only where they say more than the value.
fn reading_text(reading: &Reading) -> String {
    let value = short(reading.value);
    if reading.state == fenghuo_signal::ReadingState::Unknown {
        return "unknown".to_owned();
    }
    if reading.lower == reading.value && reading.upper == reading.value {
        return format!("{value}, n {}", reading.n);
    }
    format!(
        "{value} [{} to {}], n {}",
        short(reading.lower),
        short(reading.upper),
        reading.n
    )
}

/// At most three decimals, no trailing zeros.
pub(crate) fn short(number: f64) -> String {
    let text = format!("{number:.3}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// RFC 3339 in UTC; a time that no calendar has is shown as its number.
pub(crate) fn time(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| format!("{at_ms} ms"), |at| at.to_string())
}

impl Action {
    /// The type of a webhook's body.
    pub(crate) const fn event_type(self) -> &'static str {
        match self {
            Action::Trigger => "alert.firing",
            Action::Resolve => "alert.resolved",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture;

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0.5, "0.5"),
            (2.0, "2"),
            (-0.000_1, "0"),
            (1.234_56, "1.235"),
            (1_000_000.0, "1000000"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(short(number), expected);
        }
    }

    #[test]
    fn the_built_in_words() {
        let templates = Templates::compile(None, None).unwrap();
        let shown = |page: &Page| {
            let message = templates.message(page);
            assert_eq!(message.template_error, None);
            format!("{}\n---\n{}", message.title, message.text)
        };
        insta::assert_snapshot!("words_firing", shown(&fixture::firing()));
        insta::assert_snapshot!("words_resolved", shown(&fixture::resolved()));
        let mut bare = fixture::firing();
        bare.alert.playbook = None;
        bare.alert.owner_role = None;
        bare.alert.summary = " ".to_owned();
        insta::assert_snapshot!("words_bare", shown(&bare));
    }

    #[test]
    fn a_failing_template_costs_no_page() {
        let templates = Templates::compile(None, Some("{{ reading.valeu }}")).unwrap();
        let page = fixture::firing();
        let message = templates.message(&page);
        assert_eq!(message.title, page.alert.summary);
        assert!(
            message.text.starts_with(&page.alert.summary),
            "{}",
            message.text
        );
        assert!(
            message.text.contains("(template error: "),
            "{}",
            message.text
        );
        assert!(message.template_error.is_some());
    }

    #[test]
    fn nothing_that_cannot_be_seen_reaches_a_person() {
        let mut page = fixture::firing();
        page.alert.entity.first = "gel\u{202e}3x\u{200b}\u{2066}!".into();
        page.alert.summary = "gel\u{202e} is\u{feff} cheap\u{200f}".to_owned();
        page.alert.campaign = Some("c\u{2067}1".to_owned());
        let text = Some("{{ entity.sku }} {{ entity_text }} {{ campaign }} {{ labels }}");
        let message = Templates::compile(None, text).unwrap().message(&page);
        assert_eq!(message.title, "gel is cheap");
        assert!(
            message.text.starts_with("gel3x! sku=gel3x! c1"),
            "{}",
            message.text
        );
    }

    #[test]
    fn a_template_sees_the_facts() {
        let text = "{{ entity.sku }}/{{ labels.team }}/{{ reading.value * 100 }}/{{ shop }}";
        let templates = Templates::compile(Some("{{ rule | upper }}"), Some(text)).unwrap();
        let message = templates.message(&fixture::firing());
        assert_eq!(message.title, "PRICE-BELOW-FLOOR");
        assert_eq!(message.text, "A<1>&B/pricing/8.0/redlamp");
    }

    #[test]
    fn texts_are_bounded() {
        let mut page = fixture::firing();
        page.alert.summary = "长".repeat(100_000);
        page.alert.labels = Arc::new(
            (0..1_000)
                .map(|i| (format!("l{i}"), "x".repeat(10_000)))
                .collect(),
        );
        let message = Templates::compile(None, None).unwrap().message(&page);
        assert!(message.title.chars().count() <= TITLE_CHARS_MAX);
        let json = serde_json::to_string(&Facts::of(&page)).unwrap();
        assert!(json.len() < 128 * 1024, "{} bytes", json.len());
    }
}
