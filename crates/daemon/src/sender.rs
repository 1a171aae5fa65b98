//! The pages of this process on their way: from what dispatch has committed to what became of it.
//!
//! It must never send what is not durable: the stage hands out nothing else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use fenghuo_engine::Dispatch;
use fenghuo_engine::record::{DeliveryOutcome, Intent, PageAction};
use fenghuo_notify::Notifier;

use crate::clock;
use crate::config::Config;
use crate::deliver;
use crate::identity::Identity;
use crate::watchdog::Watchdog;

/// Pages that are being sent at a time; the others wait in the log.
const SENDING_MAX: usize = 1_000;

/// Sends what dispatch has committed, and brings back what became of it.
pub struct Sender {
    notifier: Arc<Notifier>,
    runtime: tokio::runtime::Handle,
    identity: Arc<Identity>,
    public_url: Option<String>,
    sending: Arc<AtomicUsize>,
    waiting: VecDeque<Intent>,
    outcomes: (
        mpsc::Sender<DeliveryOutcome>,
        mpsc::Receiver<DeliveryOutcome>,
    ),
    refreshing: Option<tokio::task::JoinHandle<()>>,
    watchdog: Option<Watchdog>,
    began_ms: i64,
}

impl Sender {
    /// One that has nothing to send yet.
    pub fn new(
        config: &Config,
        identity: Arc<Identity>,
        notifier: Arc<Notifier>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self {
            notifier,
            runtime,
            identity,
            public_url: config.http.public_url.clone(),
            sending: Arc::new(AtomicUsize::new(0)),
            waiting: VecDeque::new(),
            outcomes: mpsc::channel(),
            refreshing: None,
            watchdog: config.watchdog.clone().map(|watchdog| {
                Watchdog::new(watchdog, config.shop.id.clone().unwrap_or_default())
            }),
            began_ms: clock::now_ms(),
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
        let was_idle = self.sending.load(Ordering::Acquire) == 0;
        for outcome in self.outcomes.1.try_iter() {
            dispatch.outcome(outcome);
        }
        if !dispatch.is_assigned() {
            // Another instance has the alerts, or this one begins again with what is committed.
            self.waiting.clear();
            if let Some(refreshing) = self.refreshing.take() {
                refreshing.abort();
            }
        }
        let decided = dispatch.take_ready();
        if self.refreshing.is_none() && dispatch.is_restored() {
            for (channel, alert) in dispatch.delivered() {
                let page = deliver::adopted(alert, &self.shop(), self.public_url.clone());
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
        self.waiting.extend(decided);
        while self.sending.load(Ordering::Relaxed) < SENDING_MAX {
            let Some(intent) = self.waiting.pop_front() else {
                break;
            };
            self.send(intent);
        }
        was_idle && self.sending.load(Ordering::Acquire) == 0
    }

    fn shop(&self) -> String {
        self.identity.known().shop.unwrap_or_default()
    }

    fn send(&self, intent: Intent) {
        self.sending.fetch_add(1, Ordering::Relaxed);
        let page = deliver::page(&intent, &self.shop(), self.public_url.clone());
        let (notifier, sending) = (Arc::clone(&self.notifier), Arc::clone(&self.sending));
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
            if !outcome.delivered {
                metrics::counter!("fenghuo_undelivered_pages_total").increment(1);
            }
            // Where the worker is gone, the next one sends the page again under its key.
            let _ = outcomes.send(outcome);
            sending.fetch_sub(1, Ordering::Release);
        });
    }
}
