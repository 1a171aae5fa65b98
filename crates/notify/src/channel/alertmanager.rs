//! Alertmanager, API v2, every member of its cluster
//! (<https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>).
//!
//! Alertmanager forgets what is not sent again, so the channel keeps the open alerts and sends
//! them every minute, and the resolved ones for a while. A page counts as delivered when one
//! member took it; the members share what they send on, and the next refresh brings it to the others.
//!
//! **Identity.** An alert is its label set. `severity` is a label, since that is what people route
//! by; so when it rises, the alert becomes another one. The request that brings the
//! new one also ends the old one. More generally: under one `dedup_key` at most one label set is open, whatever
//! changed it. And under one label set only the latest `dedup_key` counts: the end of an earlier
//! episode, sent again, must not end the next one. The episode is an annotation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use url::Url;

use super::{Delivery, json, post};
use crate::render::{Facts, Message, time};
use crate::retry::Verdict;
use crate::secret::Secret;
use crate::transport::{Request, Transport};
use crate::{Action, Page};

/// Alerts in one request of a refresh.
const BATCH_MAX: usize = 256;
/// Times that a request is followed up at once because what it carried has changed meanwhile.
const FOLLOW_UPS_MAX: u32 = 3;

type Labels = BTreeMap<String, String>;

pub(crate) struct Alertmanager {
    channel: String,
    members: Vec<Member>,
    authorization: Option<Secret>,
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) refresh: Duration,
    pub(crate) resolved_for: Duration,
    pub(crate) open_max: usize,
    pub(crate) timeout: Duration,
}

struct Member {
    url: Url,
    /// Host and port, for metrics and reasons.
    name: String,
}

#[derive(Default)]
struct Open {
    alerts: BTreeMap<Labels, Kept>,
    revision: u64,
}

/// An alert that is sent again.
struct Kept {
    dedup_key: String,
    body: Body,
    /// Changes with the alert.
    revision: u64,
    /// When it was heard that it is over.
    ended: Option<Instant>,
}

#[derive(Clone, Debug, Serialize, PartialEq)]
struct Body {
    labels: Labels,
    annotations: Labels,
    #[serde(rename = "startsAt", serialize_with = "as_time")]
    starts_at_ms: i64,
    #[serde(
        rename = "endsAt",
        serialize_with = "as_time",
        skip_serializing_if = "Option::is_none"
    )]
    ends_at_ms: Option<i64>,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<String>,
}

/// What one request carries, and the revision of each alert where it is kept.
type Batch = Vec<(Option<u64>, Body)>;

impl Alertmanager {
    pub(crate) fn new(
        channel: String,
        urls: &[Url],
        authorization: Option<Secret>,
        limits: Limits,
    ) -> Self {
        let members = urls.iter().map(|url| {
            let port = url
                .port()
                .map_or_else(String::new, |port| format!(":{port}"));
            let name = format!("{}{port}", url.host_str().unwrap_or_default());
            let mut url = url.clone();
            // Cannot fail for an address with a host, which the config has seen to.
            if let Ok(mut path) = url.path_segments_mut() {
                path.pop_if_empty().extend(["api", "v2", "alerts"]);
            }
            Member { url, name }
        });
        let members = members.collect();
        Self {
            channel,
            members,
            authorization,
            limits,
            open: Mutex::default(),
        }
    }

    /// Keeps the page's alert open without sending it: it was delivered in an earlier life.
    pub(crate) fn adopt(&self, delivery: &Delivery<'_>) {
        self.apply(delivery);
    }

    /// Sends to every member; returns as soon as one took it, and lets the other requests end by
    /// themselves.
    pub(crate) async fn send(
        self: &Arc<Self>,
        transport: &Arc<dyn Transport>,
        delivery: &Delivery<'_>,
    ) -> Verdict {
        let batch = self.apply(delivery);
        let (verdicts, mut answers) = mpsc::channel(self.members.len().max(1));
        for index in 0..self.members.len() {
            let this = Arc::clone(self);
            let (transport, batch, verdicts) = (transport.clone(), batch.clone(), verdicts.clone());
            let now_ms = delivery.now_ms;
            tokio::spawn(async move {
                let verdict = this.post(index, &*transport, batch, now_ms).await;
                // Nobody listens once a member took the page.
                let _ = verdicts.send(verdict).await;
            });
        }
        drop(verdicts);
        let mut worst = Verdict::Permanent("no Alertmanager took it".to_owned());
        while let Some(verdict) = answers.recv().await {
            match verdict {
                Verdict::Delivered => return Verdict::Delivered,
                // One member that may take it later outweighs all that never will.
                Verdict::Retry { .. } => worst = verdict,
                Verdict::Permanent(_) if matches!(worst, Verdict::Permanent(_)) => worst = verdict,
                Verdict::Permanent(_) => {}
            }
        }
        worst
    }

    /// Sends everything kept to every member, now and then every `refresh`. Never returns.
    pub(crate) async fn refresh(
        self: Arc<Self>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn crate::Clock>,
    ) {
        let mut ticks = tokio::time::interval(self.limits.refresh);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let batches = self.due();
            let mut members = tokio::task::JoinSet::new();
            for index in 0..self.members.len() {
                let (this, transport) = (Arc::clone(&self), Arc::clone(&transport));
                let (batches, now_ms) = (batches.clone(), clock.now_ms());
                members.spawn(async move {
                    for batch in batches {
                        this.post(index, &*transport, batch, now_ms).await;
                    }
                });
            }
            while members.join_next().await.is_some() {}
        }
    }

    /// Takes the page into what is kept; returns what has to be sent for it.
    fn apply(&self, delivery: &Delivery<'_>) -> Batch {
        let page = delivery.page;
        let now = Instant::now();
        let end_ms = end_ms(page, delivery.now_ms);
        let body = body(page, delivery.message, delivery.now_ms);
        let mut open = self.open();
        open.revision += 1;
        let revision = open.revision;
        let mut batch = Batch::new();
        for (labels, kept) in &mut open.alerts {
            let over = page.action == Action::Resolve || *labels != body.labels;
            if kept.dedup_key == page.dedup_key && over {
                // An end already told stays as it was told.
                if kept.ended.is_none() {
                    kept.ended = Some(now);
                    kept.body.ends_at_ms = Some(end_ms.max(kept.body.starts_at_ms));
                    kept.revision = revision;
                }
                batch.push((Some(kept.revision), kept.body.clone()));
            }
        }
        let ended = page.action == Action::Resolve;
        if ended && (!batch.is_empty() || open.alerts.contains_key(&body.labels)) {
            // Either told, or the label set belongs to a later episode, which goes on.
            return batch;
        }
        let known = open.alerts.contains_key(&body.labels);
        if !known && open.alerts.len() >= self.limits.open_max {
            tracing::warn!(channel = %self.channel, open_max = self.limits.open_max, "too many open alerts: this one is sent but not refreshed");
            batch.push((None, body));
        } else {
            let kept = Kept {
                dedup_key: page.dedup_key.clone(),
                body: body.clone(),
                revision,
                ended: ended.then_some(now),
            };
            open.alerts.insert(body.labels.clone(), kept);
            batch.push((Some(revision), body));
        }
        metrics::gauge!("fenghuo_alertmanager_open_alerts", "channel" => self.channel.clone())
            .set(open.alerts.len() as f64);
        batch
    }

    /// Everything that has to be sent again, and forgets what was resolved long enough ago.
    fn due(&self) -> Vec<Batch> {
        let mut open = self.open();
        let now = Instant::now();
        let resolved_for = self.limits.resolved_for;
        open.alerts
            .retain(|_, kept| kept.ended.is_none_or(|ended| now - ended <= resolved_for));
        let all: Batch = open
            .alerts
            .values()
            .map(|kept| (Some(kept.revision), kept.body.clone()))
            .collect();
        all.chunks(BATCH_MAX).map(<[_]>::to_vec).collect()
    }

    /// Sends a batch to one member. Where an alert changed while its request was under way, the
    /// request may have overtaken or undone the news, so the alert's present state follows at once.
    async fn post(
        &self,
        index: usize,
        transport: &dyn Transport,
        batch: Batch,
        now_ms: i64,
    ) -> Verdict {
        let Some(member) = self.members.get(index) else {
            return Verdict::Delivered;
        };
        let mut first = None;
        let mut batch = batch;
        for _ in 0..=FOLLOW_UPS_MAX {
            let posting = post(
                transport,
                self.request(member, &batch),
                now_ms,
                self.secrets(),
            );
            let verdict = tokio::time::timeout(self.limits.timeout, posting).await;
            let verdict = verdict.unwrap_or_else(|_| Verdict::retry("no answer in time"));
            metrics::counter!(
                "fenghuo_alertmanager_posts_total",
                "channel" => self.channel.clone(),
                "member" => member.name.clone(),
                "result" => verdict.as_str(),
            )
            .increment(1);
            if verdict != Verdict::Delivered {
                tracing::debug!(channel = %self.channel, member = %member.name, ?verdict, "not taken");
            }
            let taken = verdict == Verdict::Delivered;
            first.get_or_insert(verdict);
            batch = self.changed_since(&batch);
            if !taken || batch.is_empty() {
                break;
            }
        }
        first.unwrap_or(Verdict::Delivered)
    }

    fn changed_since(&self, batch: &Batch) -> Batch {
        let open = self.open();
        let newer = |(revision, body): &(Option<u64>, Body)| {
            let kept = open.alerts.get(&body.labels)?;
            let changed = revision.is_some_and(|revision| revision != kept.revision);
            changed.then(|| (Some(kept.revision), kept.body.clone()))
        };
        batch.iter().filter_map(newer).collect()
    }

    fn request(&self, member: &Member, batch: &Batch) -> Request {
        let bodies: Vec<&Body> = batch.iter().map(|(_, body)| body).collect();
        let authorization = self.authorization.iter();
        let headers = authorization.map(|text| ("authorization", text.expose().to_owned()));
        Request {
            url: member.url.clone(),
            headers: headers.collect(),
            body: json(&bodies),
        }
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.authorization.iter()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing panics under this lock, and what is kept is whole after every step.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Alertmanager lives by the wall clock: what ends in its future would not be resolved.
fn end_ms(page: &Page, now_ms: i64) -> i64 {
    page.alert
        .resolved_at_ms
        .unwrap_or(page.alert.at_ms)
        .min(now_ms)
}

/// Takes both an instant and an optional one.
fn as_time<S: serde::Serializer>(
    at_ms: &(impl Copy + Into<Option<i64>>),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let at_ms: Option<i64> = (*at_ms).into();
    at_ms.map(time).serialize(serializer)
}

fn body(page: &Page, message: &Message, now_ms: i64) -> Body {
    let alert = &page.alert;
    let facts = Facts::of(page);
    // What begins in Alertmanager's future would not fire.
    let starts_at_ms = alert.fired_at_ms.unwrap_or(alert.at_ms).min(now_ms);
    let ends_at_ms = end_ms(page, now_ms).max(starts_at_ms);
    let ended = page.action == Action::Resolve;
    let mut annotations: Labels = [
        ("summary", message.title.as_str()),
        ("description", message.text.as_str()),
        ("episode", facts.episode),
        ("dedup_key", facts.dedup_key),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .collect();
    let plan = [
        ("playbook", facts.playbook),
        ("owner_role", facts.owner_role),
        ("campaign", facts.campaign.as_deref()),
    ];
    for (name, text) in plan {
        annotations.extend(text.map(|text| (name.to_owned(), text.to_owned())));
    }
    let link = page
        .link
        .clone()
        .filter(|link| crate::keys::parse_url(link).is_ok());
    Body {
        labels: labels(&facts, page),
        annotations,
        starts_at_ms,
        ends_at_ms: ended.then_some(ends_at_ms),
        generator_url: link,
    }
}

/// Entity parts and our own names first; a rule's label cannot take their place.
fn labels(facts: &Facts<'_>, page: &Page) -> Labels {
    let entity = &page.alert.entity;
    let mut labels = Labels::new();
    let mut put = |name: &str, text: &str| {
        // An empty label is as good as none to Alertmanager.
        if !text.is_empty() {
            labels
                .entry(label_name(name))
                .or_insert_with(|| text.to_owned());
        }
    };
    put("alertname", facts.rule);
    put("signal", facts.signal);
    put("severity", facts.severity);
    put("shop", facts.shop);
    let (first, second) = entity.kind.parts();
    put(first, &entity.first);
    put(second.unwrap_or_default(), &entity.second);
    for (name, text) in &facts.labels {
        put(name, text);
    }
    labels
}

/// A label's name as the Prometheus data model has it: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn label_name(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut fitted: String = name.chars().map(fit).collect();
    if fitted.is_empty() || fitted.starts_with(|c: char| c.is_ascii_digit()) {
        fitted.insert(0, '_');
    }
    fitted
}
