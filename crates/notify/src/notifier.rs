//! The notifier: takes a page through a channel until it is taken, refused, or out of time.
//!
//! Owns the loop that all channels share: turn, gate, try, verdict, wait. Nothing is dropped on
//! the way, and every page ends in exactly one [`Outcome`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::bucket::{Gate, Urgency};
use crate::channel::{Delivery, Receiver};
use crate::clock::{Clock, SystemClock};
use crate::config::{ChannelConfig, Sending};
use crate::health::{Health, Standing};
use crate::keys::ConfigError;
use crate::render::{Message, Templates};
use crate::retry::{Verdict, backoff};
use crate::secret::Secret;
use crate::terminal::Terminal;
use crate::transport::{Http, Transport};
use crate::turns::Turns;
use crate::{Outcome, Page};

/// What the notifier reaches the world by.
#[derive(Clone)]
pub struct Means {
    /// Carries requests.
    pub transport: Arc<dyn Transport>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Shows the log channels' lines.
    pub terminal: Terminal,
}

impl Means {
    /// HTTP, the machine's clock, standard output.
    pub fn system() -> Result<Self, ConfigError> {
        let http = Http::new().map_err(|error| ConfigError {
            file: "system".to_owned(),
            at: "HTTP client".to_owned(),
            problem: error.to_string(),
            place: None,
        })?;
        Ok(Self {
            transport: Arc::new(http),
            clock: Arc::new(SystemClock),
            terminal: Terminal::stdout(),
        })
    }
}

/// Pages that have another channel to go to wait no longer than this for one that is stuck.
const FAIL_OVER_AFTER: Duration = Duration::from_secs(30);

/// What becomes of a page that a channel does not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// It is tried until the deadline.
    Undelivered,
    /// It goes another way, and sooner where this channel is stuck.
    AnotherChannel,
}

struct Channel {
    name: String,
    sending: Sending,
    templates: Templates,
    gate: Gate,
    turns: Turns,
    health: Health,
    receiver: Receiver,
    /// The secrets of all other channels.
    others: Vec<Secret>,
}

/// All channels of an installation.
pub struct Notifier {
    channels: BTreeMap<String, Channel>,
    means: Means,
}

impl Notifier {
    /// Reads the channels' secrets; reaches the world by `means`.
    pub fn with(channels: Vec<ChannelConfig>, means: Means) -> Result<Self, ConfigError> {
        let mut made = BTreeMap::new();
        for config in channels {
            let templates = Templates::compile(config.title.as_deref(), config.text.as_deref())
                .map_err(|(key, problem)| config.error(key, problem))?;
            let receiver = Receiver::new(&config, &means)?;
            let sending = config.sending.clone();
            let gate = Gate::new(
                sending.rate_per_minute,
                sending.burst,
                sending.in_flight_max,
            );
            let name = config.name.clone();
            let turns = Turns::default();
            let channel = Channel {
                name: name.clone(),
                sending,
                templates,
                gate,
                turns,
                health: Health::new(),
                receiver,
                others: Vec::new(),
            };
            if made.insert(name, channel).is_some() {
                return Err(config.error("name", "another channel has this name"));
            }
        }
        // Several channels may have one gateway between them and their receivers.
        let secrets: Vec<(String, Secret)> = made
            .values()
            .flat_map(|channel| {
                let secrets = channel.receiver.secrets().into_iter();
                secrets.map(|secret| (channel.name.clone(), secret))
            })
            .collect();
        for channel in made.values_mut() {
            let others = secrets.iter().filter(|(of, _)| *of != channel.name);
            channel.others = others.map(|(_, secret)| secret.clone()).collect();
        }
        Ok(Self {
            channels: made,
            means,
        })
    }

    /// The names of the channels, in order.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.keys().map(String::as_str)
    }

    /// How each channel fares, in the order of their names.
    pub fn standing(&self) -> Vec<Standing> {
        let channels = self.channels.iter();
        channels
            .map(|(name, channel)| channel.health.standing(name))
            .collect()
    }

    /// How long a page may wait for a channel from when it was handed to it; nothing where there is
    /// no such channel.
    pub fn patience(&self, channel: &str, otherwise: Otherwise) -> Duration {
        let channel = self.channels.get(channel);
        channel.map_or(Duration::ZERO, |channel| channel.patience(otherwise))
    }

    /// Sends a page and waits for what becomes of it, tries and waits included.
    ///
    /// Pages under one `dedup_key` and channel leave in the order of the calls, each after the one
    /// before is done with; a page's deadline runs from its turn on. How many pages wait is
    /// the caller's to bound. To stop waiting, drop the future: the page may then have been sent.
    pub async fn send(&self, channel: &str, page: Page, otherwise: Otherwise) -> Outcome {
        let Some(channel) = self.channels.get(channel) else {
            let reason = format!("there is no channel {channel:?}");
            return Outcome::Failed {
                attempts: 0,
                reason,
            };
        };
        let _turn = channel.turns.take(&page.dedup_key).await;
        let _sending = channel.health.enter();
        let message = channel.message(&page);
        let outcome = channel
            .deliver(&self.means, &page, &message, otherwise)
            .await;
        let label = match &outcome {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Failed { attempts, reason } => {
                tracing::warn!(
                    channel = %channel.name, delivery_id = %page.delivery_id,
                    dedup_key = %page.dedup_key, attempts, reason, "page not delivered"
                );
                "failed"
            }
        };
        metrics::counter!(
            "fenghuo_deliveries_total", "channel" => channel.name.clone(), "outcome" => label
        )
        .increment(1);
        outcome
    }

    /// Takes up an episode that an earlier life of the process paged: a channel that has to repeat
    /// open alerts goes on doing so. Counts as no delivery.
    pub fn adopt(&self, channel: &str, page: &Page) {
        let Some(channel) = self.channels.get(channel) else {
            return;
        };
        if let Receiver::Alertmanager(alertmanager) = &channel.receiver {
            let message = channel.message(page);
            let now_ms = self.means.clock.now_ms();
            alertmanager.adopt(&Delivery {
                page,
                message: &message,
                now_ms,
            });
        }
    }

    /// Repeats open alerts where a channel needs that. Runs until it is dropped; start it after
    /// the open episodes were adopted.
    pub async fn refresh(&self) {
        let mut tasks = tokio::task::JoinSet::new();
        for channel in self.channels.values() {
            if let Receiver::Alertmanager(alertmanager) = &channel.receiver {
                let (transport, clock) = (self.means.transport.clone(), self.means.clock.clone());
                tasks.spawn(Arc::clone(alertmanager).refresh(transport, clock));
            }
        }
        while tasks.join_next().await.is_some() {}
        // Without such a channel there is nothing to do, for ever.
        std::future::pending::<()>().await;
    }
}

impl Channel {
    fn message(&self, page: &Page) -> Message {
        let message = self.templates.message(page);
        if let Some(error) = &message.template_error {
            tracing::warn!(channel = %self.name, error, "template failed; the page is sent as plain text");
            metrics::counter!(
                "fenghuo_template_errors_total", "channel" => self.name.clone()
            )
            .increment(1);
        }
        message
    }

    /// How long a page may wait now.
    fn patience(&self, otherwise: Otherwise) -> Duration {
        let deadline = self.sending.deadline;
        match otherwise {
            Otherwise::AnotherChannel if self.health.is_stuck() => deadline.min(FAIL_OVER_AFTER),
            _ => deadline,
        }
    }

    /// Waits until a page that began then has waited for too long.
    async fn too_long(&self, began: Instant, otherwise: Otherwise) {
        let last = sleep_until(began + self.sending.deadline);
        let sooner = async {
            loop {
                self.health.stuck().await;
                sleep_until(began + self.patience(otherwise)).await;
                if Instant::now() >= began + self.patience(otherwise) {
                    return;
                }
            }
        };
        match otherwise {
            Otherwise::Undelivered => last.await,
            Otherwise::AnotherChannel => tokio::select! {
                () = last => {}
                () = sooner => {}
            },
        }
    }

    async fn deliver(
        &self,
        means: &Means,
        page: &Page,
        message: &Message,
        otherwise: Otherwise,
    ) -> Outcome {
        let urgency = if page.is_urgent() {
            Urgency::Page
        } else {
            Urgency::Other
        };
        let began = Instant::now();
        let mut attempts = 0;
        let mut last = "no try was made".to_owned();
        loop {
            let place = tokio::select! {
                biased;
                place = self.gate.enter(urgency, page.alert.at_ms) => place,
                () = self.too_long(began, otherwise) => {
                    return self.out_of_time(otherwise, attempts, &last);
                }
            };
            if Instant::now() >= began + self.patience(otherwise) {
                return self.out_of_time(otherwise, attempts, &last);
            }
            attempts += 1;
            let verdict = self.attempt(means, page, message).await;
            drop(place);
            let wait = match verdict {
                Verdict::Delivered => return Outcome::Delivered { attempts },
                Verdict::Permanent(reason) => return Outcome::Failed { attempts, reason },
                Verdict::Retry {
                    after,
                    throttled,
                    reason,
                } => {
                    last = reason;
                    self.wait(&page.delivery_id, attempts, after, throttled)
                }
            };
            // Said at once rather than at the deadline: the page can go another way sooner.
            if Instant::now() + wait >= began + self.patience(otherwise) {
                return self.out_of_time(otherwise, attempts, &last);
            }
            sleep(wait).await;
        }
    }

    /// One try.
    async fn attempt(&self, means: &Means, page: &Page, message: &Message) -> Verdict {
        let began = Instant::now();
        let delivery = Delivery {
            page,
            message,
            now_ms: means.clock.now_ms(),
        };
        let trying = self.receiver.attempt(&means.transport, delivery);
        let verdict = timeout(self.sending.timeout, trying).await;
        let verdict = verdict.unwrap_or_else(|_| {
            let waited = humantime::format_duration(self.sending.timeout);
            Verdict::retry(format!("no answer within {waited}"))
        });
        let blot = |text, secret: &Secret| secret.redact(text);
        let verdict = verdict.told(|reason| self.others.iter().fold(reason, blot));
        match &verdict {
            Verdict::Delivered | Verdict::Permanent(_) => self.health.answered(),
            Verdict::Retry { reason, .. } => self.health.failed(began, reason),
        }
        metrics::counter!(
            "fenghuo_delivery_attempts_total",
            "channel" => self.name.clone(), "result" => verdict.as_str()
        )
        .increment(1);
        verdict
    }

    /// How long until the next try.
    fn wait(
        &self,
        delivery_id: &str,
        attempts: u32,
        after: Option<Duration>,
        throttled: bool,
    ) -> Duration {
        let sending = &self.sending;
        let jitter = backoff(
            delivery_id,
            attempts,
            sending.backoff_min,
            sending.backoff_max,
        );
        let after = after.map_or(Duration::ZERO, |after| after.min(sending.retry_after_max));
        if throttled {
            self.gate.pause(after);
        }
        // Added, not the larger of both: all who were told the same time would come at once.
        after + jitter
    }

    fn out_of_time(&self, otherwise: Otherwise, attempts: u32, last: &str) -> Outcome {
        let patience = self.patience(otherwise);
        let reason = match patience < self.sending.deadline {
            true => format!("the channel is stuck; last: {last}"),
            false => {
                let deadline = humantime::format_duration(patience);
                format!("no more try within the deadline of {deadline}; last: {last}")
            }
        };
        Outcome::Failed { attempts, reason }
    }
}

/// Describes this crate's metrics to the installed recorder.
pub fn describe_metrics() {
    metrics::describe_counter!(
        "fenghuo_deliveries_total",
        "Pages by channel and outcome: delivered, failed."
    );
    metrics::describe_counter!(
        "fenghuo_delivery_attempts_total",
        "Tries by channel and result: delivered, retry, throttled, permanent."
    );
    metrics::describe_counter!(
        "fenghuo_template_errors_total",
        "Pages sent as plain text because the channel's template failed."
    );
    metrics::describe_counter!(
        "fenghuo_alertmanager_posts_total",
        "Requests to each member of an Alertmanager cluster by result, refreshes included."
    );
    metrics::describe_gauge!(
        "fenghuo_alertmanager_open_alerts",
        "Alerts that an Alertmanager channel keeps and sends again."
    );
}
