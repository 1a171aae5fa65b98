//! What shop this is: its id, its currency, its time zone.
//!
//! The config says it; of a folder without one, the first fact of a shop that ingest takes does (an
//! order, a catalogue entry, a plan, a stock movement, a parcel), and it is kept in the folder from
//! then on. One daemon serves one shop: whoever sends for another one is told so at the door, and
//! his event is a dead letter, which `fenghuo dead-letter replay` brings back once `fenghuo shop
//! set` has said what is right. It must never forget what it has learned by itself, nor refuse
//! anyone on what is not settled.

mod told;

use std::sync::{PoisonError, RwLock};

use anyhow::{Context as _, ensure};
use fenghuo_engine::IngestConfig;
use fenghuo_intake::{Message, Rejected};
use fenghuo_log::{Append, Error, Log, SessionSpec, Start, TopicPartition, TopicSpec};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::config::{self, Config, Shop};

/// Where it is kept: a compacted topic of one record.
pub const TOPIC: &str = "fenghuo.shop";
const KEY: &[u8] = b"shop";

/// What is known of the shop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// Its id.
    pub shop: Option<String>,
    /// Its currency, ISO 4217.
    pub currency: Option<String>,
    /// Its time zone, minutes east of UTC.
    pub utc_offset_min: Option<i32>,
}

impl Known {
    /// What a config says.
    pub fn of(shop: &Shop) -> Self {
        Self {
            shop: shop.id.clone(),
            currency: shop.currency.clone(),
            utc_offset_min: Some(shop.utc_offset_min),
        }
    }

    /// What is missing here is as it is there.
    fn or(self, other: Known) -> Self {
        Self {
            shop: self.shop.or(other.shop),
            currency: self.currency.or(other.currency),
            utc_offset_min: self.utc_offset_min.or(other.utc_offset_min),
        }
    }

    fn is_complete(&self) -> bool {
        self.shop.is_some() && self.currency.is_some() && self.utc_offset_min.is_some()
    }
}

#[derive(Debug, Default)]
struct Inner {
    known: Known,
    /// What the log holds of it.
    kept: Known,
}

/// What shop this is, as far as it is known by now.
#[derive(Debug, Default)]
pub struct Identity {
    /// What the config says; nothing goes before it.
    said: Known,
    /// What is not known yet is learned from events, and kept.
    learns: bool,
    /// What ingest is told: only what it takes settles anything.
    ingest: Option<IngestConfig>,
    inner: RwLock<Inner>,
}

/// What `fenghuo shop set` corrects; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// All that was learned is forgotten first.
    pub forget: bool,
    /// What is so from now on.
    #[serde(flatten)]
    pub known: Known,
}

/// Why an event is another shop's: a countable word, and what was expected.
pub type Foreign = (&'static str, String);

impl Identity {
    /// What is known from the beginning, and all that will be.
    pub fn new(known: Known) -> Self {
        let inner = Inner {
            known: known.clone(),
            kept: known.clone(),
        };
        Self {
            said: known,
            learns: false,
            ingest: None,
            inner: RwLock::new(inner),
        }
    }

    /// What the config says, which ingest judges by as well. What a folder learned is judged at
    /// the door alone, so that a correction counts at once.
    pub fn said(&self) -> &Known {
        &self.said
    }

    /// What is known of the shop of a config. On Kafka the config alone says it; a folder learns it
    /// from its events.
    pub fn open(config: &Config, log: &dyn Log) -> Result<Self, Error> {
        let mut known = Known::of(&config.shop);
        match &config.log {
            config::Log::Kafka => Ok(Self::new(known)),
            config::Log::Embedded(_) => {
                known.currency = known.currency.filter(|_| config.shop.is_currency_said);
                known.utc_offset_min = known.utc_offset_min.filter(|_| config.shop.is_zone_said);
                let ingest = config.topology(clock::now_ms()).ingest;
                // What the config does not say of the shop is no reason to refuse anything.
                let ingest = IngestConfig {
                    shop: known.shop.clone(),
                    currency: known.currency.clone(),
                    ..ingest
                };
                let opened = Self::restore(known, log)?;
                Ok(Self {
                    ingest: Some(ingest),
                    ..opened
                })
            }
        }
    }

    /// What a folder knows, for what `known` leaves open.
    pub fn restore(known: Known, log: &dyn Log) -> Result<Self, Error> {
        log.ensure(&[TopicSpec {
            name: TOPIC.to_owned(),
            partitions: 1,
            compacted: true,
            retention_ms: None,
        }])?;
        let mut session = log.open(&SessionSpec {
            group: "fenghuo-shop".to_owned(),
            member: "fenghuo-shop".to_owned(),
            topics: Vec::new(),
            start: Start::Earliest,
            low_latency: false,
        })?;
        let mut kept = Known::default();
        session.read(&place(), 0, u64::MAX, &mut |record| {
            let value = record.value.unwrap_or_default();
            // A newer build may know more of a shop; what this one knows it reads.
            kept = serde_json::from_slice(value).unwrap_or_default();
        })?;
        // What the config says is kept as well, for who looks at the folder without it.
        let inner = Inner {
            known: known.clone().or(kept.clone()),
            kept,
        };
        Ok(Self {
            said: known,
            learns: true,
            ingest: None,
            inner: RwLock::new(inner),
        })
    }

    /// What is known now.
    pub fn known(&self) -> Known {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.known.clone()
    }

    fn admit(&self, message: &Message) -> Result<(), Foreign> {
        let known = self.known();
        belongs(&known, message)?;
        if !self.learns || known.is_complete() {
            return Ok(());
        }
        let Some(told) = told::told(message, &known, self.ingest.as_ref()) else {
            return Ok(());
        };
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        // Another sender may have settled it meanwhile.
        belongs(&inner.known, message)?;
        let known = inner.known.clone().or(told);
        if known != inner.known {
            tracing::info!(
                shop = known.shop,
                currency = known.currency,
                utc_offset_min = known.utc_offset_min,
                "the shop is settled by an event; `fenghuo shop set` corrects it"
            );
            inner.known = known;
        }
        Ok(())
    }

    /// Takes an event of this shop, and learns from it what is not known yet; or says why it is
    /// refused.
    pub fn admitted(&self, message: Message) -> Result<Message, Rejected> {
        match self.admit(&message) {
            Ok(()) => Ok(message),
            Err((reason, detail)) => Err(Rejected {
                reason: format!("{reason}: {detail}"),
                origin: message.origin,
                bytes: message.value,
                row: None,
            }),
        }
    }

    /// The record to append with the next events, where something was learned.
    pub fn unkept(&self) -> Option<Append> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        if !self.learns || inner.known == inner.kept {
            return None;
        }
        record(&inner.known)
    }

    /// What [`Identity::unkept`] gave is durable, unless more was learned since.
    pub fn kept(&self, append: &Append) {
        let kept = append.value.as_deref();
        let Some(kept) = kept.and_then(|value| serde_json::from_slice::<Known>(value).ok()) else {
            return;
        };
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.known = inner.known.clone().or(kept.clone());
        inner.kept = kept;
    }

    /// What [`Identity::unkept`] gave could not be written, nor the events that taught it: they
    /// settle nothing.
    pub fn unlearn(&self) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.known = self.said.clone().or(inner.kept.clone());
    }

    /// Corrects what was learned, durably and at once, and returns what is known then.
    pub fn correct(&self, correction: &Correction, log: &dyn Log) -> anyhow::Result<Known> {
        // Held to the end: nothing is learned meanwhile.
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let before = match correction.forget {
            true => Known::default(),
            false => inner.known.clone(),
        };
        let learned = correction.known.clone().or(before);
        let known = self.said.clone().or(learned.clone());
        ensure!(
            correction.forget || known == learned,
            "the config says otherwise in [shop], and goes before: change it there"
        );
        let record = record(&known).context("what is known of the shop has no JSON form")?;
        log.append(vec![record])?;
        *inner = Inner {
            known: known.clone(),
            kept: known.clone(),
        };
        tracing::info!(
            shop = known.shop,
            currency = known.currency,
            utc_offset_min = known.utc_offset_min,
            "the shop was corrected by hand"
        );
        Ok(known)
    }
}

fn record(known: &Known) -> Option<Append> {
    let value = serde_json::to_vec(known).ok()?;
    Some(Append::new(place(), Some(KEY.to_vec()), value))
}

fn place() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

fn belongs(known: &Known, message: &Message) -> Result<(), Foreign> {
    let id = message.shop_id.as_str();
    if let Some(shop) = &known.shop
        && !id.is_empty()
        && id != shop
    {
        return Err(("other_shop", format!("meta.shop_id: expected {shop}")));
    }
    // Of several in one event, the first one counts while none is known.
    let currency = known.currency.as_deref();
    let currency = currency.or(message.currencies.first().map(|first| first.as_str()));
    if let Some(currency) = currency
        && let Some(other) = message.currencies.iter().find(|other| *other != currency)
    {
        let detail = format!("expected {currency}, found {other}");
        return Err(("other_currency", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
