//! What a page says: its facts, its title and text, and the bounds on all texts.
//!
//! A template never costs a page: where it fails, the page goes out with its plain summary and
//! says that the template failed. Nothing here knows a receiver; channels bring their own limits.

mod growth;

use std::collections::BTreeMap;

use fenghuo_alert::Transition;
use fenghuo_signal::{Entity, Reading};
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Serialize;

use crate::text::{clean, cut, one_line};
use crate::{Action, Page};

/// Characters of a title, before a channel's own limit.
const TITLE_CHARS_MAX: usize = 512;
/// Characters of a text, before a channel's own limit.
const TEXT_CHARS_MAX: usize = 8 * 1024;
/// Characters of any other text that comes with an alert.
const FIELD_CHARS_MAX: usize = 1024;
/// Bytes that a template may write; what is beyond the bounds above would be cut off anyway.
const RENDERED_BYTES_MAX: usize = 64 * 1024;
/// Steps that a template may take: eight times what a page with all its labels needs.
const STEPS_MAX: u64 = 5_000;
/// Numbers that `range` gives: they are a list, whose text takes time to write.
const RANGE_MAX: usize = 1_000;
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

/// A channel's compiled templates.
pub(crate) struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// Compiles; an error names the key and the place in it.
    pub(crate) fn compile(
        title: Option<&str>,
        text: Option<&str>,
    ) -> Result<Self, (&'static str, String)> {
        let sources = [
            ("title", title.unwrap_or(TITLE)),
            ("text", text.unwrap_or(TEXT)),
        ];
        // Before anything is compiled: the compiler works out what is constant.
        for (name, source) in sources {
            if let Some(problem) = growth::unbounded(source) {
                return Err((name, problem));
            }
        }
        let mut environment = Environment::new();
        // A misspelt name must show as an error, not as a hole in the page.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // A loop in a loop must not hold up the page, nor those of others.
        environment.set_fuel(Some(STEPS_MAX));
        environment.add_filter("join", join);
        environment.add_function("range", range);
        for (name, source) in sources {
            environment
                .add_template_owned(name, source.to_owned())
                .map_err(|error| (name, told(&error)))?;
        }
        Ok(Self { environment })
    }

    /// The words of a page. Always succeeds.
    pub(crate) fn message(&self, page: &Page) -> Message {
        let facts = Facts::of(page);
        let rendered = self
            .render("title", &facts)
            .and_then(|title| Ok((title, self.render("text", &facts)?)));
        match rendered {
            Ok((title, text)) => Message {
                title: one_line(&title, TITLE_CHARS_MAX),
                text: cut(clean(&text).trim(), TEXT_CHARS_MAX),
                template_error: None,
            },
            Err(error) => Message {
                title: one_line(&facts.summary, TITLE_CHARS_MAX),
                text: format!("{}\n(template error: {error})", facts.summary),
                template_error: Some(error),
            },
        }
    }

    fn render(&self, name: &str, facts: &Facts<'_>) -> Result<String, String> {
        let mut written = Bounded::default();
        let rendered = self.environment.get_template(name).and_then(|template| {
            let done = template.render_captured_to(facts, &mut written);
            done.map(|_| ())
        });
        match rendered {
            _ if written.is_full => Err(format!("writes more than {RENDERED_BYTES_MAX} bytes")),
            Ok(_) => String::from_utf8(written.bytes).map_err(|error| error.to_string()),
            Err(error) => Err(told(&error)),
        }
    }
}

/// The items of a list as one text, up to a bound.
fn join(list: &Value, between: Option<&str>) -> Result<String, minijinja::Error> {
    let mut joined = String::new();
    for (index, item) in list.try_iter()?.enumerate() {
        if index > 0 {
            joined += between.unwrap_or_default();
        }
        match item.as_str() {
            Some(text) => joined += text,
            None => joined += &item.to_string(),
        }
        if joined.len() > RENDERED_BYTES_MAX {
            return Err(refused(format!(
                "join makes more than {RENDERED_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(joined)
}

/// The numbers from `first` to before `second`, or from 0 to before `first`.
fn range(first: i64, second: Option<i64>, step: Option<u32>) -> Result<Vec<i64>, minijinja::Error> {
    let (from, to) = second.map_or((0, first), |to| (first, to));
    let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
    if step == 0 {
        return Err(refused("range has a step of 0".to_owned()));
    }
    let mut numbers = (from..to).step_by(step);
    let taken: Vec<i64> = numbers.by_ref().take(RANGE_MAX).collect();
    match numbers.next() {
        None => Ok(taken),
        Some(_) => Err(refused(format!("range has more than {RANGE_MAX} numbers"))),
    }
}

fn refused(problem: String) -> minijinja::Error {
    minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, problem)
}

/// What a template has written, up to a bound.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > RENDERED_BYTES_MAX {
            self.is_full = true;
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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
    fn a_costly_template_costs_neither_the_page_nor_the_time_of_others() {
        let nested =
            "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        let silent =
            "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
        let long = "{% for a in range(9000) %}{{ summary }}{% endfor %}";
        let page = fixture::firing();
        let listed = "{% for a in range(1000) %}{% if range(1000)|string %}{% endif %}{% endfor %}";
        let joined = "{{ range(1000)|join(summary ~ summary ~ summary) }}";
        for text in [nested, silent, long, listed, joined] {
            let templates = Templates::compile(None, Some(text)).unwrap();
            let message = templates.message(&page);
            assert_eq!(message.title, page.alert.summary, "{text}");
            // Of this one every step is costly, and all of them are allowed.
            assert!(message.template_error.is_some() || text == listed, "{text}");
        }
    }

    /// What the process has used at most, MiB.
    fn most_mib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1_024
    }

    /// Each of these would take a gigabyte or more, some of them before they write a byte.
    #[test]
    fn a_template_that_doubles_its_texts_is_refused_before_it_takes_memory() {
        let doublings = |one: &str| "{% set a = summary %}".to_owned() + &one.repeat(28);
        let nested = |one: &str, end: &str| {
            "{% set a = summary %}".to_owned() + &one.repeat(28) + "{{ a }}" + &end.repeat(28)
        };
        let hostile = [
            doublings("{% set a = a ~ a %}") + "{{ a }}",
            doublings("{% set a = a + a %}") + "{{ a }}",
            doublings("{% set a = [a, a] %}") + "{{ a|string|length }}",
            doublings("{% set a = [a, a]|join %}") + "{{ a|length }}",
            doublings("{% set a %}{{ a }}{{ a }}{% endset %}") + "{{ a|length }}",
            nested("{% for a in [a ~ a] %}", "{% endfor %}"),
            nested("{% with a = a ~ a %}", "{% endwith %}"),
            nested("{% for a in {'x': a ~ a}.values() %}", "{% endfor %}"),
            "{% for a in ['xxxx'] recursive %}{{ loop([a ~ a]) }}{% endfor %}".to_owned(),
            "{% set peak = summary %}{{ (peak * 10000) * 1000 }}".to_owned(),
            "{% set reading = labels %}{{ reading.value * 100000000 }}".to_owned(),
            "{% for peak in ['x'] %}{{ peak * 100000000 }}{% endfor %}".to_owned(),
            "{% for (peak, b) in labels|items %}{{ peak * 100000000 }}{% endfor %}".to_owned(),
            "{{ 'x' * 100000000 }}".to_owned(),
            "{{ summary * (peak * 1000000) }}".to_owned(),
            "{{ [summary, summary] }}".to_owned(),
            "{{ '%999999999d'|format(1) }}".to_owned(),
            "{{ summary | indent(1000000000) }}".to_owned(),
            "{{ summary | batch(1000000000, 'x') }}".to_owned(),
            "{{ summary | replace('', summary) | replace('', summary) }}".to_owned(),
            "{% filter upper %}{% for a in range(1000) %}{{ labels }}{% endfor %}{% endfilter %}"
                .to_owned(),
            "{% set n = namespace() %}".to_owned(),
            "{{ summary ~ summary".to_owned() + &" ~ summary".repeat(8) + " }}",
            "{{ dict(a=summary) }}".to_owned(),
            "{{ summary }}".repeat(4_000),
        ];
        for text in &hostile {
            let Ok(templates) = Templates::compile(None, Some(text)) else {
                continue;
            };
            let message = templates.message(&fixture::firing());
            panic!("taken: {text}, and makes {} characters", message.text.len());
        }
        assert!(most_mib() < 256, "{} MiB", most_mib());
    }

    #[test]
    fn what_pages_need_is_written_and_takes_little() {
        let plain = "{% set unit = labels.team or 'x' %}{{ rule ~ ': ' ~ unit }} \
            {% for name, value in labels|items %}{{ loop.index * 2 }} {{ name }}={{ value }};{% endfor %} \
            {{ reading.value * 100 + 1 }} {{ (peak - 1)|round(2) * 3 }} {{ ['a', 'b']|join('+') }} \
            {% with p = playbook %}{{ p|default('none', true)|upper }}{% endwith %} \
            {% for a in range(2) if a > 0 %}{{ a }}{% endfor %}{{ summary[:3] ~ '…' if summary else '' }}";
        let templates = Templates::compile(Some("{{ rule|title }}"), Some(plain)).unwrap();
        let message = templates.message(&fixture::firing());
        assert_eq!(message.template_error, None);
        assert!(message.text.contains(": pricing"), "{}", message.text);
        // The most that is allowed, of the longest facts.
        let mut page = fixture::firing();
        page.alert.labels = (0..LABELS_MAX)
            .map(|i| (format!("l{i}"), "长".repeat(FIELD_CHARS_MAX)))
            .collect();
        let joined = |times| {
            format!(
                "{{% if {} %}}x{{% endif %}}",
                vec!["labels"; times].join(" ~ ")
            )
        };
        let most = format!(
            "{}{{% for a in range(300) %}}{}{{% endfor %}}",
            joined(7),
            joined(3)
        );
        let templates = Templates::compile(None, Some(&most)).unwrap();
        assert_eq!(templates.message(&page).template_error, None);
        assert!(most_mib() < 256, "{} MiB", most_mib());
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
        page.alert.labels = (0..1_000)
            .map(|i| (format!("l{i}"), "x".repeat(10_000)))
            .collect();
        let message = Templates::compile(None, None).unwrap().message(&page);
        assert!(message.title.chars().count() <= TITLE_CHARS_MAX);
        let json = serde_json::to_string(&Facts::of(&page)).unwrap();
        assert!(json.len() < 128 * 1024, "{} bytes", json.len());
    }
}
