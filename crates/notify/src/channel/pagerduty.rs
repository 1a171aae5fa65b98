//! PagerDuty, Events API v2
//! (<https://developer.pagerduty.com/docs/events-api-v2-overview>).

use fenghuo_alert::Severity;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{Delivery, json as body};
use crate::Action;
use crate::render::{Facts, Message};
use crate::secret::Secret;
use crate::text::{cut, one_line};
use crate::transport::Request;

const ROUTING_KEY_CHARS: usize = 32;
const DEDUP_KEY_BYTES_MAX: usize = 255;
const SUMMARY_CHARS_MAX: usize = 1024;
/// Ours, not PagerDuty's: what still reads well in its lists.
const FIELD_CHARS_MAX: usize = 255;

pub(crate) struct PagerDuty {
    url: Url,
    routing_key: Secret,
}

#[derive(Serialize)]
struct Event<'a> {
    routing_key: &'a str,
    event_action: &'static str,
    dedup_key: String,
    payload: Payload,
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Value>,
}

#[derive(Serialize)]
struct Payload {
    summary: String,
    source: String,
    severity: &'static str,
    timestamp: String,
    component: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    class: String,
    custom_details: Value,
}

impl PagerDuty {
    /// The problem does not repeat the key.
    pub(crate) fn new(url: Url, routing_key: Secret) -> Result<Self, String> {
        let key = routing_key.expose();
        if key.len() != ROUTING_KEY_CHARS || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!(
                "is no routing key ({} bytes); expected {ROUTING_KEY_CHARS} letters and digits",
                key.len()
            ));
        }
        Ok(Self { url, routing_key })
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.routing_key)
    }

    pub(crate) fn render(&self, delivery: &Delivery<'_>) -> Request {
        let page = delivery.page;
        let facts = Facts::of(page);
        let link = page.link.as_deref();
        let links = link.map(|href| json!({ "href": href, "text": "Open in Fenghuo" }));
        let event = Event {
            routing_key: self.routing_key.expose(),
            event_action: match page.action {
                Action::Trigger => "trigger",
                Action::Resolve => "resolve",
            },
            dedup_key: dedup_key(&page.dedup_key),
            // A resolve needs none, but takes it, and it tells what the page was about.
            payload: payload(page.alert.severity, &facts, delivery.message),
            client: "Fenghuo",
            client_url: link,
            links: links.into_iter().collect(),
        };
        Request {
            url: self.url.clone(),
            headers: Vec::new(),
            body: body(&event),
        }
    }
}

fn payload(severity: Severity, facts: &Facts<'_>, message: &Message) -> Payload {
    let field = |text: &str| one_line(text, FIELD_CHARS_MAX);
    // Never empty: PagerDuty refuses an event without a summary or a source.
    let or = |text: String, other: &str| {
        if text.is_empty() {
            other.to_owned()
        } else {
            text
        }
    };
    let summary = one_line(&message.title, SUMMARY_CHARS_MAX);
    Payload {
        summary: or(summary, facts.rule),
        source: or(field(facts.shop), "fenghuo"),
        severity: match severity {
            Severity::Page => "critical",
            Severity::Warn => "warning",
        },
        timestamp: facts.at.clone(),
        component: field(&facts.entity_text),
        group: facts.campaign.as_deref().map(field),
        class: field(facts.signal),
        custom_details: json!({
            "text": message.text,
            "rule": facts.rule,
            "entity": facts.entity,
            "episode": facts.episode,
            "reading": facts.reading,
            "peak": facts.peak,
            "pending_at": facts.pending_at,
            "fired_at": facts.fired_at,
            "resolved_at": facts.resolved_at,
            "playbook": facts.playbook,
            "owner_role": facts.owner_role,
            "labels": facts.labels,
        }),
    }
}

/// As it is where it fits, else its hash: cut off, two keys could become one.
fn dedup_key(key: &str) -> String {
    if key.len() <= DEDUP_KEY_BYTES_MAX {
        return key.to_owned();
    }
    let hash = Sha256::digest(key.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    cut(&format!("sha256-{hash}"), DEDUP_KEY_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture;

    const KEY: &str = "0123456789abcdef0123456789ABCDEF";

    fn pagerduty() -> PagerDuty {
        let url = Url::parse("https://events.pagerduty.com/v2/enqueue").unwrap();
        PagerDuty::new(url, Secret::new(KEY)).unwrap()
    }

    fn render(page: &crate::Page) -> Request {
        let message = fixture::message(page);
        pagerduty().render(&Delivery {
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
            let request = render(&page);
            insta::assert_snapshot!(format!("pagerduty_{name}"), fixture::shown(&request));
            fixture::check_pagerduty(&request.body);
        }
    }

    #[test]
    fn the_contract_holds_at_its_limits() {
        let mut page = fixture::firing();
        page.dedup_key = "k".repeat(10_000);
        page.shop = String::new();
        page.alert.summary = "\u{1F525}".repeat(5_000);
        page.alert.entity.first = "x".repeat(5_000).into();
        page.alert.labels = std::sync::Arc::new(
            (0..1_000)
                .map(|i| (format!("l{i}"), "x".repeat(10_000)))
                .collect(),
        );
        fixture::check_pagerduty(&render(&page).body);
        let mut other = page.clone();
        other.dedup_key.push('k');
        assert_ne!(dedup_key(&page.dedup_key), dedup_key(&other.dedup_key));
    }

    #[test]
    fn a_wrong_routing_key_is_not_repeated() {
        let url = Url::parse("https://events.pagerduty.com/v2/enqueue").unwrap();
        let problem = PagerDuty::new(url, Secret::new("0123456789abcdef"))
            .err()
            .unwrap();
        assert!(!problem.contains("0123456789"), "{problem}");
    }
}
