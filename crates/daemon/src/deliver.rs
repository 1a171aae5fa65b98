//! From what dispatch decided to what the notifier sends.

use fenghuo_engine::record::{DeliveryOutcome, Intent, PageAction};
use fenghuo_notify::{Action, Notifier, Otherwise, Outcome, Page};

use crate::clock;

/// The page that an intent asks for.
pub fn page(intent: &Intent, shop: &str, link: Option<String>) -> Page {
    Page {
        delivery_id: intent.delivery_id.clone(),
        dedup_key: intent.alert.episode.clone(),
        action: match intent.action {
            PageAction::Trigger => Action::Trigger,
            PageAction::Resolve => Action::Resolve,
        },
        alert: (*intent.alert).clone(),
        shop: shop.to_owned(),
        link,
    }
}

/// Sends a page and tells what became of it.
pub async fn send(notifier: &Notifier, intent: &Intent, page: Page) -> DeliveryOutcome {
    let outcome = notifier
        .send(&intent.channel, page, otherwise(intent))
        .await;
    outcome_of(intent, outcome)
}

/// What becomes of a page that its channel does not deliver.
pub fn otherwise(intent: &Intent) -> Otherwise {
    match intent.fallback.is_empty() {
        true => Otherwise::Undelivered,
        false => Otherwise::AnotherChannel,
    }
}

/// What dispatch is told of an outcome.
pub fn outcome_of(intent: &Intent, outcome: Outcome) -> DeliveryOutcome {
    let (delivered, attempts, reason) = match outcome {
        Outcome::Delivered { attempts } => (true, attempts, None),
        Outcome::Failed { attempts, reason } => (false, attempts, Some(reason)),
    };
    DeliveryOutcome {
        delivery_id: intent.delivery_id.clone(),
        delivered,
        attempts,
        reason,
        at_ms: clock::now_ms(),
    }
}

/// The trigger of an episode that was delivered in an earlier life.
pub fn adopted(alert: fenghuo_alert::Transition, shop: &str, link: Option<String>) -> Page {
    Page {
        delivery_id: alert.episode.clone(),
        dedup_key: alert.episode.clone(),
        action: Action::Trigger,
        alert,
        shop: shop.to_owned(),
        link,
    }
}
