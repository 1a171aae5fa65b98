//! The pages of this process on their way: from what dispatch has committed to what became of it.
//!
//! It must never send what is not durable: the stage hands out nothing else. Each channel has a queue
//! of its own, so that one whose receiver stands still holds up no other.

mod queue;

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use fenghuo_alert::Severity;
use fenghuo_engine::record::{DeliveryOutcome, Intent, PageAction};
use fenghuo_engine::{Dispatch, View};
use fenghuo_notify::{Notifier, Outcome};

use crate::clock::{self, Watch};
use crate::conditions::{Condition, Conditions};
use crate::config::Config;
use crate::deliver;
use crate::identity::Identity;
use crate::watchdog::Watchdog;
use queue::{Place, Queue};

/// The condition of a channel whose receiver does not answer.
pub const STUCK: &str = "channel.stuck";

/// The condition of a channel that does not keep up with its pages.
pub const BEHIND: &str = "channel.behind";

/// The condition of pages that reached nobody.
pub const UNDELIVERED: &str = "pages.undelivered";

/// A page that has waited for longer is late.
const LATE: Duration = Duration::from_secs(10);

/// Pages that reached nobody are told of for so long after the last one.
const UNDELIVERED_TOLD: Duration = Duration::from_secs(5 * 60);

/// Sends what dispatch has committed, and brings back what became of it.
pub struct Sender {
    notifier: Arc<Notifier>,
    runtime: tokio::runtime::Handle,
    identity: Arc<Identity>,
    public_url: Option<String>,
    conditions: Arc<Conditions>,
    queues: BTreeMap<String, Queue>,
    outcomes: (
        mpsc::Sender<DeliveryOutcome>,
        mpsc::Receiver<DeliveryOutcome>,
    ),
    refreshing: Option<tokio::task::JoinHandle<()>>,
    watchdog: Option<Watchdog>,
    began_ms: i64,
    view: Arc<View>,
    /// Pages that reached nobody, and since when there are no more of them.
    undelivered: (u64, Option<Watch>),
}

impl Sender {
    /// One that has nothing to send yet.
    pub fn new(
        config: &Config,
        identity: Arc<Identity>,
        notifier: Arc<Notifier>,
        conditions: Arc<Conditions>,
        view: Arc<View>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self {
            notifier,
            runtime,
            identity,
            public_url: config.http.public_url.clone(),
            conditions,
            queues: BTreeMap::new(),
            outcomes: mpsc::channel(),
            refreshing: None,
            watchdog: config.watchdog.clone().map(|watchdog| {
                Watchdog::new(watchdog, config.shop.id.clone().unwrap_or_default())
            }),
            began_ms: clock::now_ms(),
            undelivered: (view.undelivered(), None),
            view,
        }
    }

    /// Takes what is ready and gives back outcomes. Returns whether every page that was handed out has its outcome in the stage.
    pub fn serve(
        &mut self,
        dispatch: &mut Dispatch,
        ready: &dyn Fn() -> Result<(), String>,
    ) -> bool {
        dispatch.set_time(clock::now_ms());
        // An outcome is there before its page stops to count: looked at in this order, none is
        // missed.
        let was_idle = self.is_idle();
        for outcome in self.outcomes.1.try_iter() {
            dispatch.outcome(outcome);
        }
        if !dispatch.is_assigned() {
            // Another instance has the alerts, or this one begins again with what is committed.
            self.queues.values_mut().for_each(Queue::clear);
            if let Some(refreshing) = self.refreshing.take() {
                refreshing.abort();
            }
        }
        let decided = dispatch.take_ready();
        if self.refreshing.is_none() && dispatch.is_restored() {
            for (channel, alert) in dispatch.delivered() {
                let page =
                    deliver::adopted((*alert).clone(), &self.shop(), self.public_url.clone());
                self.notifier.adopt(&channel, &page);
            }
            let notifier = Arc::clone(&self.notifier);
            self.refreshing = Some(self.runtime.spawn(async move { notifier.refresh().await }));
        }
        if dispatch.is_restored()
            && let Some(watchdog) = &mut self.watchdog
        {
            watchdog.beat(&self.notifier, &self.runtime, ready);
        }
        for intent in decided {
            let queue = self.queues.entry(intent.channel.clone()).or_default();
            queue.push(intent);
        }
        for outcome in self.expired() {
            dispatch.outcome(outcome);
        }
        let mut next = Vec::new();
        for queue in self.queues.values_mut() {
            next.extend(std::iter::from_fn(|| queue.pop()));
        }
        for (intent, place) in next {
            self.send(intent, place);
        }
        self.show();
        was_idle && self.is_idle()
    }

    fn is_idle(&self) -> bool {
        self.queues.values().all(|queue| queue.sending() == 0)
    }

    /// Pages that waited here for as long as their channel may try them: they go another way, or are
    /// undelivered.
    fn expired(&mut self) -> Vec<DeliveryOutcome> {
        let notifier = &self.notifier;
        let mut outcomes = Vec::new();
        for queue in self.queues.values_mut().filter(|queue| queue.waiting() > 0) {
            let is_too_long = |intent: &Intent, since: &clock::Watch| {
                let patience = notifier.patience(&intent.channel, deliver::otherwise(intent));
                since.elapsed() > patience
            };
            for intent in queue.expired(is_too_long) {
                let reason = "it waited behind others until its time was over".to_owned();
                let failed = Outcome::Failed {
                    attempts: 0,
                    reason,
                };
                outcomes.push(deliver::outcome_of(&intent, failed));
            }
        }
        outcomes
    }

    /// Shows how the channels fare.
    fn show(&mut self) {
        let (mut stuck, mut behind) = (Vec::new(), Vec::new());
        for standing in self.notifier.standing() {
            let name = standing.channel;
            let queue = self.queues.get(&name);
            let waiting = queue.map_or(0, Queue::waiting);
            metrics::gauge!("fenghuo_channel_waiting_pages", "channel" => name.clone())
                .set(waiting as f64);
            metrics::gauge!("fenghuo_channel_sending_pages", "channel" => name.clone())
                .set(standing.sending as f64);
            let Some((since, reason)) = standing.failing.filter(|_| standing.is_stuck) else {
                let late = queue.map_or(0, |queue| queue.late(LATE));
                if late > 0 {
                    behind.push(Condition {
                        name: BEHIND,
                        about: name.clone(),
                        severity: Severity::Page,
                        blocks_ready: false,
                        text: format!(
                            "{late} pages have waited for channel {name} for more than {} s: there are more than \
                             its rate_per_minute lets through, or its receiver refuses some. Look at what fires \
                             so often, or raise the rate to what the receiver takes.",
                            LATE.as_secs()
                        ),
                    });
                }
                continue;
            };
            let text = format!(
                "Channel {name} has taken nothing for {} s, and {} pages wait for it: {reason}. \
                 Look at its receiver and its address; pages go to the route's fallback channels, \
                 where it has any.",
                since.as_secs(),
                waiting + standing.sending
            );
            stuck.push(Condition {
                name: STUCK,
                about: name,
                severity: Severity::Page,
                blocks_ready: true,
                text,
            });
        }
        let now_ms = clock::now_ms();
        self.conditions.replace(now_ms, STUCK, stuck);
        self.conditions.replace(now_ms, BEHIND, behind);
        let undelivered = self.undelivered().into_iter().collect();
        self.conditions.replace(now_ms, UNDELIVERED, undelivered);
    }

    /// What is said of pages that reached nobody.
    fn undelivered(&mut self) -> Option<Condition> {
        let all = self.view.undelivered();
        if all > self.undelivered.0 {
            self.undelivered = (all, Some(Watch::start()));
        }
        let last = self.undelivered.1.as_ref()?;
        (last.elapsed() < UNDELIVERED_TOLD).then(|| Condition {
            name: UNDELIVERED,
            about: String::new(),
            severity: Severity::Page,
            blocks_ready: false,
            text: format!(
                "{all} pages since this process began reached nobody, the last one {} s ago. \
                 /api/v1/deliveries tells which, and why.",
                last.elapsed().as_secs()
            ),
        })
    }

    fn shop(&self) -> String {
        self.identity.known().shop.unwrap_or_default()
    }

    fn send(&self, intent: Arc<Intent>, place: Place) {
        let page = deliver::page(&intent, &self.shop(), self.public_url.clone());
        let notifier = Arc::clone(&self.notifier);
        let outcomes = self.outcomes.0.clone();
        let began_ms = self.began_ms;
        self.runtime.spawn(async move {
            let outcome = deliver::send(&notifier, &intent, page).await;
            // A page that an earlier life decided says nothing of how fast this one is.
            let is_new = intent.action == PageAction::Trigger && intent.at_ms >= began_ms;
            if let Some(appended_ms) = intent.appended_ms.filter(|_| is_new && outcome.delivered) {
                let took_ms = (outcome.at_ms - appended_ms).max(0);
                metrics::histogram!("fenghuo_append_to_page_seconds").record(took_ms as f64 / 1e3);
            }
            // Where the worker is gone, the next one sends the page again under its key.
            let _ = outcomes.send(outcome);
            drop(place);
        });
    }
}
