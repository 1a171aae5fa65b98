//! The generic webhook, signed as Standard Webhooks says
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! The body is `{"type": "alert.firing" | "alert.resolved", "timestamp": …, "data": {…}}`; `data`
//! holds [`Facts`] and the page's `title` and `text`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use serde::Serialize;
use sha2::Sha256;
use url::Url;

use super::{Delivery, json};
use crate::render::{Facts, time};
use crate::secret::Secret;
use crate::transport::Request;

/// Bytes that the standard allows a key to have.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

pub(crate) struct Webhook {
    url: Url,
    keys: Vec<SigningKey>,
    authorization: Option<Secret>,
    /// What no reason may show: the URL as it was given and the text forms of the keys.
    hidden: Vec<Secret>,
}

/// One key of a channel; each one signs, so that a receiver can change keys without a gap.
pub(crate) struct SigningKey {
    key: Vec<u8>,
    text: Secret,
}

/// Reads `whsec_…` keys, separated by white space.
pub(crate) fn signing_keys(secrets: &Secret) -> Result<Vec<SigningKey>, String> {
    const FORM: &str = "expected whsec_ and 24 to 64 bytes in base64";
    let parse = |(index, text): (usize, &str)| {
        let encoded = text
            .strip_prefix("whsec_")
            .ok_or_else(|| format!("key {} does not begin with whsec_; {FORM}", index + 1))?;
        let key = BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| format!("key {} is no base64; {FORM}", index + 1))?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(format!("key {} has {} bytes; {FORM}", index + 1, key.len()));
        }
        Ok(SigningKey {
            key,
            // With what it begins with: behind that the key itself is known, too.
            text: Secret::new(text),
        })
    };
    secrets
        .expose()
        .split_whitespace()
        .enumerate()
        .map(parse)
        .collect()
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    title: &'a str,
    text: &'a str,
    #[serde(flatten)]
    facts: Facts<'a>,
}

impl Webhook {
    pub(crate) fn new(
        url: Url,
        url_text: Secret,
        keys: Vec<SigningKey>,
        authorization: Option<Secret>,
    ) -> Self {
        let mut hidden = vec![url_text];
        hidden.extend(keys.iter().map(|key| key.text.clone()));
        hidden.extend(authorization.clone());
        Self {
            url,
            keys,
            authorization,
            hidden,
        }
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.hidden.iter()
    }

    pub(crate) fn render(&self, delivery: &Delivery<'_>) -> Request {
        let page = delivery.page;
        let body = json(&Body {
            r#type: page.action.event_type(),
            timestamp: time(page.alert.at_ms),
            data: Data {
                title: &delivery.message.title,
                text: &delivery.message.text,
                facts: Facts::of(page),
            },
        });
        let timestamp_s = delivery.now_ms.div_euclid(1_000);
        let mut headers = vec![
            ("webhook-id", page.delivery_id.clone()),
            ("webhook-timestamp", timestamp_s.to_string()),
        ];
        if !self.keys.is_empty() {
            let sign = |key: &SigningKey| sign(&key.key, &page.delivery_id, timestamp_s, &body);
            let signatures: Vec<String> = self.keys.iter().map(sign).collect();
            headers.push(("webhook-signature", signatures.join(" ")));
        }
        if let Some(authorization) = &self.authorization {
            headers.push(("authorization", authorization.expose().to_owned()));
        }
        Request {
            url: self.url.clone(),
            headers,
            body,
        }
    }
}

fn sign(key: &[u8], id: &str, timestamp_s: i64, body: &str) -> String {
    // HMAC takes keys of any length, so this cannot fail; an empty signature would be refused.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(format!("{id}.{timestamp_s}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_test_vector_of_the_standard() {
        let keys = signing_keys(&Secret::new(SECRET)).unwrap();
        let signature = sign(
            &keys[0].key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn keys_are_checked_and_never_repeated_in_the_problem() {
        let short = format!("whsec_{}", BASE64_STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", BASE64_STANDARD.encode([7; 65]));
        for wrong in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_not*base64",
            &short,
            &long,
        ] {
            let problem = signing_keys(&Secret::new(wrong)).err().expect(wrong);
            assert!(!problem.contains(&wrong[6..]), "{problem}");
        }
        let longest = format!("whsec_{}", BASE64_STANDARD.encode([7; 64]));
        assert!(signing_keys(&Secret::new(longest)).is_ok());
    }

    #[test]
    fn every_key_signs_and_the_body_is_documented() {
        let other = format!("whsec_{}", BASE64_STANDARD.encode([7; 24]));
        let keys = signing_keys(&Secret::new(format!("{SECRET}\n{other}\n"))).unwrap();
        let url = Url::parse("https://hooks.example/alerts").unwrap();
        let authorization = Some(Secret::new("Bearer abc"));
        let webhook = Webhook::new(
            url,
            Secret::new("https://hooks.example/alerts"),
            keys,
            authorization,
        );
        for (name, page) in [
            ("firing", fixture::firing()),
            ("resolved", fixture::resolved()),
        ] {
            let message = fixture::message(&page);
            let delivery = Delivery {
                page: &page,
                message: &message,
                now_ms: 1_614_265_330_999,
            };
            let request = webhook.render(&delivery);
            insta::assert_snapshot!(format!("webhook_{name}"), fixture::shown(&request));
            let signatures = &request
                .headers
                .iter()
                .find(|h| h.0 == "webhook-signature")
                .unwrap()
                .1;
            let signatures: Vec<&str> = signatures.split(' ').collect();
            let key = &webhook.keys[0].key;
            assert_eq!(signatures.len(), 2);
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            let quoted = webhook
                .secrets()
                .fold(hex.clone(), |text, secret| secret.redact(text));
            assert_ne!(quoted, hex);
            assert_eq!(
                signatures[0],
                sign(key, &page.delivery_id, 1_614_265_330, &request.body)
            );
        }
    }
}
