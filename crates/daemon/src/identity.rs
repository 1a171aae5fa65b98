//! What shop this is: its id, its currency, its time zone.
//!
//! The config says it; of a folder without one, the first accepted event does, and it is kept in
//! the folder from then on. One daemon serves one shop: whoever sends for another one is told so
//! at the door. It must never forget what it has learned.

use std::sync::{PoisonError, RwLock};

use fenghuo_intake::{Message, Rejected};
use fenghuo_log::{Append, Error, Log, SessionSpec, Start, TopicPartition, TopicSpec};
use serde::{Deserialize, Serialize};

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
    /// What is not known yet is learned from events, and kept.
    learns: bool,
    /// Something was learned that is not in the log yet.
    is_news: bool,
}

/// What shop this is, as far as it is known by now.
#[derive(Debug, Default)]
pub struct Identity {
    inner: RwLock<Inner>,
}

/// Why an event is another shop's: a countable word, and what was expected.
pub type Foreign = (&'static str, String);

impl Identity {
    /// What is known from the beginning, and all that will be.
    pub fn new(known: Known) -> Self {
        Self::with(known, false, false)
    }

    fn with(known: Known, learns: bool, is_news: bool) -> Self {
        let inner = Inner {
            known,
            learns,
            is_news,
        };
        Self {
            inner: RwLock::new(inner),
        }
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
                Self::restore(known, log)
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
        let known = known.or(kept.clone());
        // What the config says is kept as well, for who looks at the folder without it.
        let is_news = known != kept;
        Ok(Self::with(known, true, is_news))
    }

    /// What is known now.
    pub fn known(&self) -> Known {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.known.clone()
    }

    fn admit(&self, message: &Message) -> Result<(), Foreign> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        belongs(&inner.known, message)?;
        if !inner.learns || inner.known.is_complete() {
            return Ok(());
        }
        drop(inner);
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        belongs(&inner.known, message)?;
        let told = Known {
            shop: Some(message.shop_id.to_string()).filter(|id| !id.is_empty()),
            currency: message.currencies.first().map(ToString::to_string),
            utc_offset_min: utc_offset_min(&message.value),
        };
        let known = inner.known.clone().or(told);
        if known != inner.known {
            tracing::info!(
                shop = known.shop,
                currency = known.currency,
                utc_offset_min = known.utc_offset_min,
                "the shop is known from its events"
            );
            inner.known = known;
            inner.is_news = true;
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
            }),
        }
    }

    /// The record to append with the next events, where something was learned.
    pub fn unkept(&self) -> Option<Append> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        if !inner.is_news {
            return None;
        }
        let value = serde_json::to_vec(&inner.known).ok()?;
        Some(Append::new(place(), Some(KEY.to_vec()), value))
    }

    /// What [`Identity::unkept`] gave is durable, unless more was learned since.
    pub fn kept(&self, append: &Append) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.is_news = serde_json::to_vec(&inner.known).ok() != append.value;
    }
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

/// The offset of the time at which a JSON event happened, as its source wrote it.
fn utc_offset_min(value: &[u8]) -> Option<i32> {
    let event: serde_json::Value = serde_json::from_slice(value).ok()?;
    let time = event.pointer("/meta/occurred_at")?.as_str()?;
    if time.ends_with(['Z', 'z']) {
        return Some(0);
    }
    let at = time.rfind(['+', '-'])?;
    fenghuo_notify::utc_offset_min(time.get(at..)?)
}

#[cfg(test)]
mod tests {
    use fenghuo_intake::body::{Form, Limits, messages};
    use fenghuo_log::memory::MemoryLog;

    use super::*;

    fn json(shop: &str, currency: &str, zone: &str) -> String {
        format!(
            r#"{{"meta":{{"event_id":"1","source":"erp","shop_id":{shop:?},
                "occurred_at":"2026-11-11T20:00:00{zone}"}},
               "order":{{"type":"PAID","order_id":"1","lines":[{{"sku_id":"a","quantity":1,
                "unit_price":{{"currency_code":{currency:?},"minor_units":100}}}}]}}}}"#
        )
    }

    fn admit(identity: &Identity, text: &str) -> Result<(), Foreign> {
        let limits = Limits {
            body_bytes_max: 10_000,
            events_max: 1,
            event_bytes_max: 10_000,
        };
        let messages = messages(Form::Json, text.as_bytes(), &"test".into(), limits).unwrap();
        identity.admit(messages[0].as_ref().unwrap())
    }

    #[test]
    fn the_first_event_says_what_shop_it_is_and_the_log_keeps_it() {
        let log = MemoryLog::new();
        let identity = Identity::restore(Known::default(), &log).unwrap();
        assert_eq!(identity.known(), Known::default());
        admit(&identity, &json("42", "JPY", "+09:00")).unwrap();
        let known = Known {
            shop: Some("42".to_owned()),
            currency: Some("JPY".to_owned()),
            utc_offset_min: Some(540),
        };
        assert_eq!(identity.known(), known);
        for (shop, currency, word) in [("43", "JPY", "other_shop"), ("42", "CNY", "other_currency")]
        {
            let refused = admit(&identity, &json(shop, currency, "Z"));
            assert_eq!(refused.unwrap_err().0, word);
        }
        admit(&identity, &json("", "JPY", "-03:30")).unwrap();
        assert_eq!(identity.known(), known);

        let record = identity.unkept().unwrap();
        log.append(vec![record.clone()]).unwrap();
        identity.kept(&record);
        assert_eq!(identity.unkept(), None);
        let again = Identity::restore(Known::default(), &log).unwrap();
        assert_eq!(again.known(), known);
        // What the config says goes before.
        let told = Known {
            currency: Some("CNY".to_owned()),
            ..Known::default()
        };
        let again = Identity::restore(told, &log).unwrap();
        assert_eq!(again.known().currency.as_deref(), Some("CNY"));
    }

    #[test]
    fn a_folder_learns_what_its_config_leaves_open() {
        for (text, said) in [
            ("", (None, None)),
            ("shop.currency = \"JPY\"", (Some("JPY"), None)),
            ("shop.time_zone = \"+08:00\"", (None, Some(480))),
        ] {
            let text = format!("{text}\nlog.kind = \"embedded\"");
            let config = Config::parse("test", &text).unwrap();
            let known = Identity::open(&config, &MemoryLog::new()).unwrap().known();
            assert_eq!((known.currency.as_deref(), known.utc_offset_min), said);
        }
        let kafka = Config::parse("test", "").unwrap();
        let known = Identity::open(&kafka, &MemoryLog::new()).unwrap().known();
        assert_eq!(known.currency.as_deref(), Some("CNY"));
        let moved = kafka.in_folder("there".into());
        let known = Identity::open(&moved, &MemoryLog::new()).unwrap().known();
        assert_eq!(known, Known::default());
    }

    #[test]
    fn what_the_config_leaves_open_on_kafka_stays_open() {
        let identity = Identity::new(Known::default());
        admit(&identity, &json("42", "JPY", "+09:00")).unwrap();
        admit(&identity, &json("43", "CNY", "+09:00")).unwrap();
        assert_eq!(
            (identity.known(), identity.unkept()),
            (Known::default(), None)
        );
    }

    #[test]
    fn what_is_learned_bit_by_bit_is_kept_bit_by_bit() {
        let identity = Identity::restore(Known::default(), &MemoryLog::new()).unwrap();
        let stock = r#"{"meta":{"event_id":"1","source":"wms","shop_id":"42",
            "occurred_at":"2026-11-11T20:00:00Z"},
            "inventory":{"type":"SNAPSHOT","sku_id":"a","location_id":"w","levels":{"on_hand":1}}}"#;
        admit(&identity, stock).unwrap();
        let first = identity.unkept().unwrap();
        assert_eq!(identity.known().currency, None);
        admit(&identity, &json("42", "CNY", "+08:00")).unwrap();
        identity.kept(&first);
        assert!(identity.unkept().is_some(), "more was learned since");
        assert_eq!(identity.known().utc_offset_min, Some(0));
    }
}
