//! The watchdog: an alert that always fires, told again and again while all is well, so that
//! someone outside can wait for it and wake people when it stays away.
//!
//! It is sent by the process that sends the pages, through the notifier that sends the pages, and
//! only while that process is ready. It is not in the log: one that was missed is the point.

use std::sync::Arc;
use std::time::Duration;

use fenghuo_alert::{Severity, State, Transition};
use fenghuo_notify::{Action, Notifier, Otherwise, Outcome, Page};
use fenghuo_signal::{Entity, Kind, Reading};

use crate::clock::{self, Watch};
use crate::config;

/// Beats, as often as the config says.
pub struct Watchdog {
    config: config::Watchdog,
    shop: String,
    last: Option<Watch>,
}

impl Watchdog {
    /// One that has not beaten yet.
    pub fn new(config: config::Watchdog, shop: String) -> Self {
        Self {
            config,
            shop,
            last: None,
        }
    }

    /// Beats if it is time and `ready` says that all is well; if not, it looks again at the next
    /// call.
    pub fn beat(
        &mut self,
        notifier: &Arc<Notifier>,
        runtime: &tokio::runtime::Handle,
        ready: &dyn Fn() -> Result<(), String>,
    ) {
        let is_due = |last: &Watch| last.elapsed() >= self.config.every;
        if !self.last.as_ref().is_none_or(is_due) || ready().is_err() {
            return;
        }
        self.last = Some(Watch::start());
        let page = page(&self.shop, clock::now_ms(), self.config.every);
        let (notifier, channel) = (Arc::clone(notifier), self.config.channel.clone());
        runtime.spawn(async move {
            let outcome = match notifier.send(&channel, page, Otherwise::Undelivered).await {
                Outcome::Delivered { .. } => "delivered",
                Outcome::Failed { reason, .. } => {
                    tracing::warn!(channel, reason, "the watchdog was not heard");
                    "failed"
                }
            };
            metrics::counter!("fenghuo_watchdog_beats_total", "outcome" => outcome).increment(1);
        });
    }
}

/// What a beat says. Its key is always the same, its delivery never.
fn page(shop: &str, now_ms: i64, every: Duration) -> Page {
    let key = format!("watchdog-{shop}");
    Page {
        delivery_id: format!("{key}-{now_ms}"),
        dedup_key: key.clone(),
        action: Action::Trigger,
        alert: Transition {
            episode: key,
            rule: "watchdog".to_owned(),
            signal: "fenghuo.watchdog".to_owned(),
            entity: Entity::one(Kind::SHOP, ""),
            from: State::Firing,
            to: State::Firing,
            severity: Severity::Warn,
            at_ms: now_ms,
            pending_at_ms: now_ms,
            fired_at_ms: Some(now_ms),
            resolved_at_ms: None,
            reading: Reading::exact(1.0, 1),
            peak: 1.0,
            playbook: None,
            owner_role: None,
            labels: Arc::default(),
            summary: format!(
                "Fenghuo is watching. This is told every {}; wake someone when it stays away.",
                humantime::format_duration(every)
            ),
            campaign: None,
        },
        shop: shop.to_owned(),
        link: None,
    }
}
