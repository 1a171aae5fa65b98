//! The kinds of receiver: each turns a page into its request and reads its answer, in one file.
//!
//! A channel makes one try at a time and knows nothing of rates, waits or deadlines; the notifier
//! does, the same way for all.

pub(crate) mod alertmanager;
mod log;
mod pagerduty;
mod slack;
mod webhook;

use std::sync::Arc;

use url::Url;

use crate::config::{ChannelConfig, ChannelKind};
use crate::keys::{ConfigError, parse_url};
use crate::notifier::Means;
use crate::render::Message;
use crate::retry::Verdict;
use crate::secret::{Secret, SecretSource};
use crate::transport::{Request, Transport};
use crate::{Page, retry};

use alertmanager::Alertmanager;
use log::Log;
use pagerduty::PagerDuty;
use slack::Slack;
use webhook::Webhook;

/// Bytes of an answer that are looked at, of the 4 KiB that are read.
const ANSWER_BYTES_SHOWN: usize = 2 * 1024;

/// A page on its way to one receiver.
#[derive(Clone, Copy)]
pub(crate) struct Delivery<'a> {
    pub(crate) page: &'a Page,
    pub(crate) message: &'a Message,
    /// Wall time of this try.
    pub(crate) now_ms: i64,
}

/// One of the kinds.
pub(crate) enum Receiver {
    Log(Log),
    Webhook(Webhook),
    PagerDuty(PagerDuty),
    Alertmanager(Arc<Alertmanager>),
    Slack(Slack),
}

/// The key of a webhook's signing keys.
const SIGNING_KEYS: &str = "secret";

/// Reads the secrets of a channel, each in the form that its kind needs.
struct Reading<'a>(&'a ChannelConfig);

impl Reading<'_> {
    fn secret(&self, key: &str, source: &SecretSource) -> Result<Secret, ConfigError> {
        // Signing keys alone may be several, each on a line of its own.
        let read = match key {
            SIGNING_KEYS => source.read(),
            _ => source.read_line(),
        };
        let secret = read.map_err(|problem| self.0.error(key, problem))?;
        self.0.check_secret(key, source, &secret)?;
        Ok(secret)
    }

    fn address(&self, source: &SecretSource) -> Result<(Url, Secret), ConfigError> {
        let secret = self.secret("url", source)?;
        let url = parse_url(secret.expose()).map_err(|problem| self.0.error("url", problem))?;
        Ok((url, secret))
    }

    fn keys(&self, source: &SecretSource) -> Result<Vec<webhook::SigningKey>, ConfigError> {
        let secrets = self.secret(SIGNING_KEYS, source)?;
        webhook::signing_keys(&secrets).map_err(|problem| self.0.error(SIGNING_KEYS, problem))
    }

    fn header(&self, source: Option<&SecretSource>) -> Result<Option<Secret>, ConfigError> {
        const KEY: &str = "authorization";
        let Some(source) = source else {
            return Ok(None);
        };
        let secret = self.secret(KEY, source)?;
        match http::HeaderValue::from_str(secret.expose()) {
            Ok(_) => Ok(Some(secret)),
            Err(_) => {
                let problem =
                    "cannot be a header's value; expected one line such as Bearer and a token";
                Err(self.0.error(KEY, problem))
            }
        }
    }

    fn pagerduty(&self, url: &Url, source: &SecretSource) -> Result<PagerDuty, ConfigError> {
        let key = self.secret("routing_key", source)?;
        PagerDuty::new(url.clone(), key).map_err(|problem| self.0.error("routing_key", problem))
    }
}

/// Reads the secrets that are here, as a receiver does, and keeps nothing.
pub(crate) fn check_secrets(config: &ChannelConfig) -> Result<(), ConfigError> {
    let read = Reading(config);
    let is_here = |source: &&SecretSource| source.absence().is_none();
    match &config.kind {
        ChannelKind::Log { .. } => {}
        ChannelKind::Webhook {
            url,
            secrets,
            authorization,
        } => {
            let url = Some(url).filter(is_here);
            url.map(|url| read.address(url)).transpose()?;
            let keys = secrets.as_ref().filter(is_here);
            keys.map(|keys| read.keys(keys)).transpose()?;
            read.header(authorization.as_ref().filter(is_here))?;
        }
        ChannelKind::PagerDuty { url, routing_key } => {
            let key = Some(routing_key).filter(is_here);
            key.map(|key| read.pagerduty(url, key)).transpose()?;
        }
        ChannelKind::Alertmanager { authorization, .. } => {
            read.header(authorization.as_ref().filter(is_here))?;
        }
        ChannelKind::Slack { url } => {
            let url = Some(url).filter(is_here);
            url.map(|url| read.address(url)).transpose()?;
        }
    }
    Ok(())
}

impl Receiver {
    /// Reads the secrets that the kind needs.
    pub(crate) fn new(config: &ChannelConfig, means: &Means) -> Result<Self, ConfigError> {
        let read = Reading(config);
        Ok(match &config.kind {
            ChannelKind::Log {
                colour,
                utc_offset_min,
            } => {
                let with_text = config.text.is_some();
                Receiver::Log(Log::new(
                    means.terminal.clone(),
                    *colour,
                    *utc_offset_min,
                    with_text,
                ))
            }
            ChannelKind::Webhook {
                url,
                secrets,
                authorization,
            } => {
                let (url, url_secret) = read.address(url)?;
                let keys = secrets.as_ref().map(|keys| read.keys(keys)).transpose()?;
                let authorization = read.header(authorization.as_ref())?;
                let keys = keys.unwrap_or_default();
                Receiver::Webhook(Webhook::new(url, url_secret, keys, authorization))
            }
            ChannelKind::PagerDuty { url, routing_key } => {
                Receiver::PagerDuty(read.pagerduty(url, routing_key)?)
            }
            ChannelKind::Alertmanager {
                urls,
                authorization,
                refresh,
                resolved_for,
                open_max,
            } => Receiver::Alertmanager(Arc::new(Alertmanager::new(
                config.name.clone(),
                urls,
                read.header(authorization.as_ref())?,
                alertmanager::Limits {
                    refresh: *refresh,
                    resolved_for: *resolved_for,
                    open_max: *open_max,
                    timeout: config.sending.timeout,
                },
            ))),
            ChannelKind::Slack { url } => {
                let (url, secret) = read.address(url)?;
                Receiver::Slack(Slack::new(url, secret))
            }
        })
    }

    /// All secrets that it is reached by.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        match self {
            Receiver::Log(_) => Vec::new(),
            Receiver::Webhook(webhook) => webhook.secrets().cloned().collect(),
            Receiver::PagerDuty(pagerduty) => pagerduty.secrets().cloned().collect(),
            Receiver::Alertmanager(alertmanager) => alertmanager.secrets().cloned().collect(),
            Receiver::Slack(slack) => slack.secrets().cloned().collect(),
        }
    }

    /// Sends once. No reason in the verdict contains a secret of its own.
    pub(crate) async fn attempt(
        &self,
        transport: &Arc<dyn Transport>,
        delivery: Delivery<'_>,
    ) -> Verdict {
        let now_ms = delivery.now_ms;
        match self {
            Receiver::Log(log) => log.print(&delivery).await,
            Receiver::Webhook(webhook) => {
                post(
                    &**transport,
                    webhook.render(&delivery),
                    now_ms,
                    webhook.secrets(),
                )
                .await
            }
            Receiver::PagerDuty(pagerduty) => {
                post(
                    &**transport,
                    pagerduty.render(&delivery),
                    now_ms,
                    pagerduty.secrets(),
                )
                .await
            }
            Receiver::Alertmanager(alertmanager) => alertmanager.send(transport, &delivery).await,
            Receiver::Slack(slack) => {
                post(
                    &**transport,
                    slack.render(&delivery),
                    now_ms,
                    slack.secrets(),
                )
                .await
            }
        }
    }
}

/// Sends a request and classifies what comes back, in the way that all HTTP receivers share.
async fn post<'a>(
    transport: &dyn Transport,
    request: Request,
    now_ms: i64,
    secrets: impl Iterator<Item = &'a Secret>,
) -> Verdict {
    let blot = |text: String| secrets.fold(text, |text, secret| secret.redact(text));
    match transport.post(request).await {
        Ok(mut answer) => {
            // A receiver may quote in its answer what it was sent. Blotted out before anything is
            // cut: half of a secret is not known for one. Half of one may also stand at the end of
            // what was read, so that end is not looked at.
            answer.body = blot(answer.body);
            let shown = (0..=ANSWER_BYTES_SHOWN.min(answer.body.len())).rev();
            let mut shown = shown.filter(|at| answer.body.is_char_boundary(*at));
            let shown = shown.next().unwrap_or(0);
            answer.body.truncate(shown);
            retry::classify(&answer, now_ms)
        }
        Err(no_answer) => Verdict::retry(blot(no_answer.0)),
    }
}

/// A body from a value that always serialises: maps with text keys, numbers, texts.
fn json(value: &impl serde::Serialize) -> String {
    // An error could only come from a map with keys that are no text, of which there is none.
    serde_json::to_string(value).unwrap_or_default()
}
