//! The notifier: renders a page for a channel, sends it, classifies the answer and tries again.
//!
//! This crate owns the channels (one file each), their configuration, rate limits, retries and
//! deadlines, and what a page looks like. It must never decide what is paged, when, or to whom:
//! it is handed a [`Page`] and a channel's name, and says what became of it. It keeps nothing on
//! disk; what must outlive the process is the caller's.
//!
//! A page is sent at least once. Every try carries the same `delivery_id`, and every step of one
//! episode the same `dedup_key`, by which a receiver knows a repeat.
//!
//! Architecture invariant: a secret (key, token, secret URL) is in a [`Secret`] from the moment it
//! is read, and no error, log line or [`Outcome`] contains one.

mod bucket;
mod channel;
mod clock;
mod config;
mod health;
mod keys;
mod notifier;
mod render;
mod repeats;
mod retry;
mod secret;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
pub mod transport;
mod turns;

pub use clock::{Clock, SystemClock};
pub use config::{ChannelConfig, ChannelKind, Colour, Sending, utc_offset_min};
pub use health::Standing;
pub use keys::ConfigError;
pub use notifier::{Means, Notifier, Otherwise, describe_metrics};
pub use secret::{Secret, SecretSource, is_placeholder};
pub use terminal::Terminal;

/// What a page asks of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Wake someone, or tell those awake that it got worse.
    Trigger,
    /// It is over.
    Resolve,
}

impl Action {
    /// As in bodies and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Trigger => "trigger",
            Action::Resolve => "resolve",
        }
    }
}

/// One message about one alert, for one channel.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Page {
    /// Names this delivery: the same in every try, another for every channel and revision.
    pub delivery_id: String,
    /// Names what the page is about: the same from trigger to resolve.
    pub dedup_key: String,
    /// Trigger or resolve.
    pub action: Action,
    /// The step of the alert that is paged.
    pub alert: fenghuo_alert::Transition,
    /// The shop.
    pub shop: String,
    /// Where a person can look further.
    pub link: Option<String>,
}

impl Page {
    /// Whether it goes ahead of others in a channel's queue.
    fn is_urgent(&self) -> bool {
        self.action == Action::Trigger && self.alert.severity == fenghuo_alert::Severity::Page
    }
}

/// What became of a page.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The receiver took it.
    Delivered {
        /// Tries made, the last one successful.
        attempts: u32,
    },
    /// It was not taken: the receiver refused it for good, or the deadline passed.
    Failed {
        /// Tries made.
        attempts: u32,
        /// Why, for a person; contains no secret.
        reason: String,
    },
}
