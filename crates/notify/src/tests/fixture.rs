//! Pages, a scripted receiver and a strict reader of PagerDuty's contract.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use fenghuo_alert::{Severity, State, Transition};
use fenghuo_signal::{Entity, Kind, Reading, ReadingState};
use serde_json::Value;
use tokio::time::Instant;

use crate::render::{Message, Templates};
use crate::transport::{Answer, NoAnswer, Posting, Request, Transport};
use crate::{
    Action, ChannelConfig, ChannelKind, Clock, Means, Notifier, Page, SecretSource, Terminal,
};

/// 2026-11-11T12:00:00Z, 20:00 in the shop.
pub(crate) const EIGHT_PM_MS: i64 = 1_794_398_400_000;

pub(crate) fn firing() -> Page {
    Page {
        delivery_id: "msg_0001".to_owned(),
        dedup_key: "5f2c7d0be6a14c0f9d3b8a7e61c2f4a0".to_owned(),
        action: Action::Trigger,
        alert: Transition {
            episode: "5f2c7d0be6a14c0f9d3b8a7e61c2f4a0".to_owned(),
            rule: "price-below-floor".to_owned(),
            signal: "price.floor".to_owned(),
            entity: Entity::one(Kind::SKU, "A<1>&B"),
            from: State::Pending,
            to: State::Firing,
            severity: Severity::Page,
            at_ms: EIGHT_PM_MS + 3_250,
            pending_at_ms: EIGHT_PM_MS + 3_250,
            fired_at_ms: Some(EIGHT_PM_MS + 3_250),
            resolved_at_ms: None,
            reading: Reading::exact(0.08, 1),
            peak: 0.08,
            playbook: Some("price-below-floor".to_owned()),
            owner_role: Some("pricing".to_owned()),
            labels: Arc::new(BTreeMap::from([("team".to_owned(), "pricing".to_owned())])),
            summary: "A<1>&B sold at 0.08 of its floor".to_owned(),
            campaign: Some("d11".to_owned()),
        },
        shop: "redlamp".to_owned(),
        link: Some("http://fenghuo.shop.example:8686/?episode=5f2c&x=1".to_owned()),
    }
}

pub(crate) fn warning() -> Page {
    let mut page = firing();
    page.alert.rule = "ship-first-scan".to_owned();
    page.alert.signal = "ship.first_scan".to_owned();
    page.alert.entity = Entity::pair(Kind::WAREHOUSE_COURIER, "HZ1", "SF");
    page.alert.severity = Severity::Warn;
    page.alert.reading = Reading {
        state: ReadingState::Ok,
        value: 0.041_2,
        lower: 0.031,
        upper: 0.054,
        surprise: 4.2,
        n: 812,
    };
    page.alert.peak = 0.031;
    page.alert.playbook = None;
    page.alert.summary = "HZ1/SF: 4.1 % of parcels not scanned after 24 h".to_owned();
    page.alert.campaign = None;
    page.link = None;
    page
}

pub(crate) fn resolved() -> Page {
    let mut page = firing();
    page.delivery_id = "msg_0002".to_owned();
    page.action = Action::Resolve;
    page.alert.from = State::Recovering;
    page.alert.to = State::Resolved;
    page.alert.at_ms = EIGHT_PM_MS + 95_000;
    page.alert.resolved_at_ms = Some(EIGHT_PM_MS + 95_000);
    page.alert.reading = Reading::exact(1.02, 40);
    page.alert.summary = "A<1>&B sold at 1.02 of its floor".to_owned();
    page
}

pub(crate) fn message(page: &Page) -> Message {
    Templates::compile(None, None).unwrap().message(page)
}

/// A request as a person reads it.
pub(crate) fn shown(request: &Request) -> String {
    let mut text = format!("POST {}\n", request.url);
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\n"));
    }
    let body: Value = serde_json::from_str(&request.body).unwrap();
    text + &serde_json::to_string_pretty(&body).unwrap()
}

/// Panics where an event breaks the contract of PagerDuty's Events API v2.
pub(crate) fn check_pagerduty(body: &str) {
    assert!(body.len() <= 512 * 1024, "body of {} bytes", body.len());
    let event: Value = serde_json::from_str(body).unwrap();
    let text = |pointer: &str, bytes_max: usize| {
        let text = event.pointer(pointer).and_then(Value::as_str);
        let text = text.unwrap_or_else(|| panic!("{pointer} is no text in {event}"));
        assert!(
            !text.is_empty() && text.chars().count() <= bytes_max,
            "{pointer}: {text:?}"
        );
        text.to_owned()
    };
    let keys = |value: &Value, allowed: &[&str]| {
        for key in value.as_object().unwrap().keys() {
            assert!(allowed.contains(&key.as_str()), "unknown key {key}");
        }
    };
    keys(
        &event,
        &[
            "routing_key",
            "event_action",
            "dedup_key",
            "payload",
            "images",
            "links",
            "client",
            "client_url",
        ],
    );
    let payload = [
        "summary",
        "source",
        "severity",
        "timestamp",
        "component",
        "group",
        "class",
        "custom_details",
    ];
    keys(&event["payload"], &payload);
    assert_eq!(text("/routing_key", 32).len(), 32);
    assert!(["trigger", "acknowledge", "resolve"].contains(&text("/event_action", 20).as_str()));
    text("/dedup_key", 255);
    text("/payload/summary", 1024);
    text("/payload/source", 1024);
    let severity = text("/payload/severity", 20);
    assert!(
        ["critical", "error", "warning", "info"].contains(&severity.as_str()),
        "{severity}"
    );
    text("/payload/timestamp", 40)
        .parse::<jiff::Timestamp>()
        .unwrap();
    assert!(event["payload"]["custom_details"].is_object());
}

/// What a scripted receiver does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Status(u16),
    RetryAfter(u16, &'static str),
    NoAnswer,
    Hang,
}

/// Answers request by request from a script, then takes everything.
#[derive(Default)]
pub(crate) struct Scripted {
    steps: Mutex<VecDeque<Step>>,
    seen: Mutex<Vec<(Instant, Request)>>,
}

impl Scripted {
    pub(crate) fn new(steps: &[Step]) -> Arc<Self> {
        Arc::new(Self {
            steps: Mutex::new(steps.to_vec().into()),
            seen: Mutex::default(),
        })
    }

    pub(crate) fn seen(&self) -> Vec<(Instant, Request)> {
        self.seen.lock().unwrap().clone()
    }
}

impl Transport for Scripted {
    fn post(&self, request: Request) -> Posting<'_> {
        self.seen.lock().unwrap().push((Instant::now(), request));
        let step = self
            .steps
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Step::Status(202));
        Box::pin(async move {
            let (status, retry_after) = match step {
                Step::Status(status) => (status, None),
                Step::RetryAfter(status, text) => (status, Some(text.to_owned())),
                Step::NoAnswer => return Err(NoAnswer("connection refused".to_owned())),
                Step::Hang => std::future::pending().await,
            };
            Ok(Answer {
                status,
                retry_after,
                body: String::new(),
            })
        })
    }
}

/// The runtime's clock, which tests can pause, as a wall clock.
pub(crate) struct Paused(Instant);

impl Paused {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Paused {
    fn now_ms(&self) -> i64 {
        EIGHT_PM_MS + 60_000 + i64::try_from((Instant::now() - self.0).as_millis()).unwrap()
    }
}

pub(crate) fn webhook(url: &str) -> ChannelConfig {
    let url = SecretSource::Given(crate::Secret::new(url));
    ChannelConfig::new(
        "hook",
        ChannelKind::Webhook {
            url,
            secrets: None,
            authorization: None,
        },
    )
}

pub(crate) fn notifier(channel: ChannelConfig, transport: Arc<dyn Transport>) -> Notifier {
    let terminal = Terminal::new(Box::new(std::io::sink()), false);
    let clock = Arc::new(Paused::new());
    Notifier::with(
        vec![channel],
        Means {
            transport,
            clock,
            terminal,
        },
    )
    .unwrap()
}
