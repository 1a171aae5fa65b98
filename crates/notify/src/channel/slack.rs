//! Slack, by incoming webhook (<https://api.slack.com/messaging/webhooks>).
//!
//! The address is the secret. Slack has no notion of an incident: a resolve is another message.

use fenghuo_alert::Severity;
use serde_json::json;
use url::Url;

use super::{Delivery, json as body};
use crate::Action;
use crate::render::Facts;
use crate::secret::Secret;
use crate::text::cut;
use crate::transport::Request;

const HEADER_CHARS_MAX: usize = 150;
const SECTION_CHARS_MAX: usize = 3_000;
/// Ours: the fallback is for notifications, where nobody reads more.
const FALLBACK_CHARS_MAX: usize = 500;

pub(crate) struct Slack {
    url: Url,
    secret: Secret,
}

impl Slack {
    pub(crate) fn new(url: Url, secret: Secret) -> Self {
        Self { url, secret }
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.secret)
    }

    pub(crate) fn render(&self, delivery: &Delivery<'_>) -> Request {
        let (page, message) = (delivery.page, delivery.message);
        let facts = Facts::of(page);
        let mark = match (page.action, page.alert.severity) {
            (Action::Resolve, _) => "✅ Resolved",
            (Action::Trigger, Severity::Page) => "🔥 Page",
            (Action::Trigger, Severity::Warn) => "⚠️ Warning",
        };
        let title = format!("{mark}: {}", message.title);
        let mut context = vec![facts.shop, facts.rule];
        context.extend(facts.campaign.as_deref());
        let mut context = escaped(&context.join(" · "), SECTION_CHARS_MAX / 2);
        if let Some(link) = facts.link {
            // `|` would end the address and `>` the link.
            let link = link
                .replace('|', "%7C")
                .replace('>', "%3E")
                .replace('<', "%3C");
            let link = link.replace('&', "&amp;");
            if link.chars().count() < SECTION_CHARS_MAX / 2 - 50 {
                context.push_str(&format!(" · <{link}|Open in Fenghuo>"));
            }
        }
        // A header is plain text and takes no escapes; the rest is their markup.
        let blocks = json!([
            { "type": "header",
              "text": { "type": "plain_text", "text": cut(&title, HEADER_CHARS_MAX), "emoji": true } },
            { "type": "section",
              "text": { "type": "mrkdwn", "text": section(&message.text) } },
            { "type": "context",
              "elements": [{ "type": "mrkdwn", "text": context }] },
        ]);
        let message = json!({ "text": escaped(&title, FALLBACK_CHARS_MAX), "blocks": blocks });
        Request {
            url: self.url.clone(),
            headers: Vec::new(),
            body: body(&message),
        }
    }
}

/// A section must not be empty.
fn section(text: &str) -> String {
    let text = escaped(text, SECTION_CHARS_MAX);
    if text.trim().is_empty() {
        "—".to_owned()
    } else {
        text
    }
}

/// Escapes what Slack's markup reads as control characters; at most `chars_max` characters of
/// the result, never half an escape.
fn escaped(text: &str, chars_max: usize) -> String {
    let mut kept = String::new();
    let mut chars = 0;
    for c in text.chars() {
        let escape = match c {
            '&' => Some("&amp;"),
            '<' => Some("&lt;"),
            '>' => Some("&gt;"),
            _ => None,
        };
        let length = escape.map_or(1, str::len);
        // One is kept back for the mark of what was cut off.
        if chars + length > chars_max - 1 {
            kept.push('…');
            break;
        }
        match escape {
            Some(escape) => kept.push_str(escape),
            None => kept.push(c),
        }
        chars += length;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture;

    fn render(page: &crate::Page) -> Request {
        let text = "https://hooks.slack.example/services/T/B/secret";
        let slack = Slack::new(Url::parse(text).unwrap(), Secret::new(text));
        let message = fixture::message(page);
        slack.render(&Delivery {
            page,
            message: &message,
            now_ms: 0,
        })
    }

    #[test]
    fn the_requests() {
        for (name, page) in [
            ("firing", fixture::firing()),
            ("warning", fixture::warning()),
            ("resolved", fixture::resolved()),
        ] {
            insta::assert_snapshot!(format!("slack_{name}"), fixture::shown(&render(&page)));
        }
    }

    #[test]
    fn the_limits_hold_and_no_escape_is_cut() {
        for chars_max in 1..12 {
            let text = escaped("a<b&c>d", chars_max);
            assert!(text.chars().count() <= chars_max, "{text}");
            let rest = text
                .replace("&lt;", "")
                .replace("&amp;", "")
                .replace("&gt;", "");
            assert!(!rest.contains(['&', ';', '<', '>']), "{text}");
        }
        let mut page = fixture::firing();
        page.alert.summary = "&".repeat(10_000);
        page.alert.playbook = Some("<&>".repeat(10_000));
        page.shop = "<&>".repeat(10_000);
        let body: serde_json::Value = serde_json::from_str(&render(&page).body).unwrap();
        let length = |pointer: &str| {
            body.pointer(pointer)
                .unwrap()
                .as_str()
                .unwrap()
                .chars()
                .count()
        };
        assert!(length("/blocks/0/text/text") <= HEADER_CHARS_MAX);
        assert!(length("/blocks/1/text/text") <= SECTION_CHARS_MAX);
        assert!(length("/blocks/2/elements/0/text") <= SECTION_CHARS_MAX);
        assert!(length("/text") <= FALLBACK_CHARS_MAX);
    }
}
