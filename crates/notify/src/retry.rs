//! What an answer means, and when to try again.
//!
//! Owns the classification that receivers share (a channel adds its own cases), the reading of
//! `Retry-After`, and the backoff. Never waits itself.

use std::time::Duration;

/// Characters of an answer's body that a reason quotes.
const QUOTE_CHARS_MAX: usize = 200;

/// What the receiver said to one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The `Retry-After` header as it came.
    pub retry_after: Option<String>,
    /// The beginning of the body.
    pub body: String,
}

/// What one try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Taken.
    Delivered,
    /// Not now.
    Retry {
        /// How long the receiver asked to wait.
        after: Option<Duration>,
        /// Whether it is the channel as a whole that has to slow down.
        throttled: bool,
        /// Why, for a person.
        reason: String,
    },
    /// Never, however often it is tried.
    Permanent(String),
}

impl Verdict {
    /// The same, told otherwise.
    #[must_use]
    pub fn told(self, tell: impl FnOnce(String) -> String) -> Self {
        match self {
            Verdict::Delivered => Verdict::Delivered,
            Verdict::Retry {
                after,
                throttled,
                reason,
            } => Verdict::Retry {
                after,
                throttled,
                reason: tell(reason),
            },
            Verdict::Permanent(reason) => Verdict::Permanent(tell(reason)),
        }
    }

    /// Another try, with nothing said about when.
    pub fn retry(reason: impl Into<String>) -> Self {
        Verdict::Retry {
            after: None,
            throttled: false,
            reason: reason.into(),
        }
    }

    /// As a metric's label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Verdict::Delivered => "delivered",
            Verdict::Retry {
                throttled: true, ..
            } => "throttled",
            Verdict::Retry {
                throttled: false, ..
            } => "retry",
            Verdict::Permanent(_) => "permanent",
        }
    }
}

/// The classes that every HTTP receiver here has in common: 2xx is taken; 408, 425, 429 and 5xx
/// may go better later; all else (3xx too: redirects are not followed) will not.
pub fn classify(answer: &Answer, now_ms: i64) -> Verdict {
    let after = answer
        .retry_after
        .as_deref()
        .and_then(|text| retry_after(text, now_ms));
    match answer.status {
        200..=299 => Verdict::Delivered,
        429 => Verdict::Retry {
            after,
            throttled: true,
            reason: reason(answer),
        },
        408 | 425 | 500..=599 => Verdict::Retry {
            after,
            throttled: false,
            reason: reason(answer),
        },
        _ => Verdict::Permanent(reason(answer)),
    }
}

/// Status and the beginning of the body, on one line.
pub fn reason(answer: &Answer) -> String {
    let line = crate::text::one_line(&answer.body, QUOTE_CHARS_MAX);
    let quote = match crate::text::words_of(&line) {
        Some(words) => words,
        None => "[the answer is no plain text]".to_owned(),
    };
    if quote.is_empty() {
        format!("status {}", answer.status)
    } else {
        format!("status {}: {quote}", answer.status)
    }
}

/// `Retry-After` in either of its forms, seconds or an HTTP date (RFC 9110, 10.2.3); a date that
/// is over is no wait, and what is neither is as if it were not there.
fn retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    let wait_ms = date.timestamp().as_millisecond().saturating_sub(now_ms);
    Some(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)))
}

/// How long to wait after try number `attempt` (from 1): anything from nothing to a ceiling that
/// doubles with each try ("full jitter": Brooker, "Exponential backoff and jitter", 2015).
///
/// The jitter is a function of the delivery and the try alone, so that a simulated run repeats
/// itself; it only has to differ between deliveries.
pub fn backoff(delivery_id: &str, attempt: u32, min: Duration, max: Duration) -> Duration {
    let doublings = attempt.saturating_sub(1).min(30);
    let ceiling = min.saturating_mul(1 << doublings).min(max);
    let ceiling_us = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
    let random = mix(hash(delivery_id).wrapping_add(u64::from(attempt)));
    let scaled = (u128::from(random) * u128::from(ceiling_us)) >> 64;
    Duration::from_micros(u64::try_from(scaled).unwrap_or(ceiling_us))
}

/// FNV-1a, 64 bits.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>) -> Answer {
        Answer {
            status,
            retry_after: retry_after.map(str::to_owned),
            body: "no\n way".into(),
        }
    }

    #[test]
    fn statuses_fall_into_their_classes() {
        let class = |status| classify(&answer(status, None), 0).as_str();
        for (status, expected) in [
            (200, "delivered"),
            (202, "delivered"),
            (302, "permanent"),
            (400, "permanent"),
            (401, "permanent"),
            (404, "permanent"),
            (410, "permanent"),
            (408, "retry"),
            (429, "throttled"),
            (500, "retry"),
            (503, "retry"),
        ] {
            assert_eq!(class(status), expected, "{status}");
        }
    }

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(reason(&answer(400, None)), "status 400: no way");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
        let date_ms = 784_111_777_000;
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(retry_after("120", 0), seconds(120));
        assert_eq!(retry_after(" 0 ", 0), seconds(0));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after(date, date_ms - 30_000), seconds(30));
        assert_eq!(retry_after(date, date_ms + 30_000), seconds(0));
        for neither in ["", "soon", "-5", "1.5"] {
            assert_eq!(retry_after(neither, 0), None, "{neither:?}");
        }
    }

    #[test]
    fn backoff_grows_to_its_ceiling_and_differs_between_deliveries() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(60));
        let wait = |id: &str, attempt| backoff(id, attempt, min, max);
        let mut waits: Vec<Duration> = (0..1_000).map(|i| wait(&format!("d{i}"), 3)).collect();
        waits.sort();
        assert!(waits[999] <= Duration::from_secs(4));
        assert!(
            waits[999] > Duration::from_millis(3_900),
            "the whole range is used"
        );
        assert!(
            waits[0] < Duration::from_millis(100),
            "the whole range is used"
        );
        let median = waits[500].as_secs_f64();
        assert!(
            (1.6..2.4).contains(&median),
            "the middle is at half the ceiling: {median}"
        );
        assert!((0..1_000).all(|i| wait(&format!("d{i}"), u32::MAX) <= max));
        assert_eq!(wait("d", 5), wait("d", 5));
        assert_ne!(wait("d", 5), wait("d", 6));
    }
}
