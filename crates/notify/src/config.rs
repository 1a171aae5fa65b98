//! Channels as configured: the TOML form, its defaults, and the validated form.
//!
//! ```toml
//! [[channel]]
//! name = "pager"
//! type = "pagerduty"                       # log | webhook | pagerduty | alertmanager | slack
//! routing_key_file = "secrets/pagerduty"   # or routing_key_env = "NAME"; never the key itself
//! ```
//!
//! Where a secret is gets settled here; it is read when the notifier is made, so that a config can
//! be checked on a machine that has no secrets.

use std::time::Duration;

use toml::{Table, Value};
use url::Url;

use crate::keys::{ConfigError, Keys};
use crate::render::Templates;
use crate::secret::{Secret, SecretSource, is_placeholder};

/// One channel, validated.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// The file that it comes from, for errors.
    pub file: String,
    /// Unique; routes name it, and metrics carry it.
    pub name: String,
    /// Limits and waits.
    pub sending: Sending,
    /// Template of the title; the built-in one where `None`.
    pub title: Option<String>,
    /// Template of the text; the built-in one where `None`.
    pub text: Option<String>,
    /// What kind of receiver, and what that kind needs.
    pub kind: ChannelKind,
}

/// How a channel sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// `rate_per_minute`: requests a minute in the long run.
    pub rate_per_minute: u32,
    /// `burst`: requests at once after a rest.
    pub burst: u32,
    /// `in_flight_max`: requests that wait for an answer at one time (default 8).
    pub in_flight_max: usize,
    /// `timeout`: how long one try waits for its answer (default 5 s).
    pub timeout: Duration,
    /// `deadline`: how long a page is tried, from its turn on (default 5 min).
    pub deadline: Duration,
    /// `backoff_min`: ceiling of the wait after the first failed try (default 500 ms).
    pub backoff_min: Duration,
    /// `backoff_max`: ceiling of all waits (default 30 s).
    pub backoff_max: Duration,
    /// `retry_after_max`: the longest wait that a receiver can ask for (default 1 min).
    pub retry_after_max: Duration,
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            rate_per_minute: 600,
            burst: 60,
            in_flight_max: 8,
            timeout: Duration::from_secs(5),
            deadline: Duration::from_secs(300),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(60),
        }
    }
}

impl Sending {
    fn with_rate(rate_per_minute: u32, burst: u32) -> Self {
        Self {
            rate_per_minute,
            burst,
            ..Self::default()
        }
    }
}

/// What kind of receiver a channel has.
#[derive(Clone, Debug)]
pub enum ChannelKind {
    /// `log`: lines on the terminal.
    Log {
        /// `colour = "auto" | "always" | "never"`, default auto.
        colour: Colour,
        /// `utc_offset = "+08:00"`: the offset of the times shown, in minutes; default UTC.
        utc_offset_min: i32,
    },
    /// `webhook`: Standard Webhooks.
    Webhook {
        /// `url`, or `url_file` / `url_env` where the address is a secret.
        url: SecretSource,
        /// `secret_file` / `secret_env`: one or more `whsec_…` separated by white space, each of
        /// which signs; `None` only with `unsigned = true`.
        secrets: Option<SecretSource>,
        /// `authorization_file` / `authorization_env`: the value of an `Authorization` header.
        authorization: Option<SecretSource>,
    },
    /// `pagerduty`: Events API v2.
    PagerDuty {
        /// `url`, default `https://events.pagerduty.com/v2/enqueue`.
        url: Url,
        /// `routing_key_file` / `routing_key_env`.
        routing_key: SecretSource,
    },
    /// `alertmanager`: API v2.
    Alertmanager {
        /// `urls`: every Alertmanager of the cluster, at most 16; never a balancer before them.
        urls: Vec<Url>,
        /// `authorization_file` / `authorization_env`, as of the webhook.
        authorization: Option<SecretSource>,
        /// `refresh`: how often open alerts are sent again (default 1 min; well below
        /// Alertmanager's `resolve_timeout` of 5 min).
        refresh: Duration,
        /// `resolved_for`: how long resolved ones are sent again (default 15 min, at least 5).
        resolved_for: Duration,
        /// `open_max`: alerts kept for that; past it new ones are sent but not refreshed
        /// (default 10,000).
        open_max: usize,
    },
    /// `slack`: an incoming webhook.
    Slack {
        /// `url_file` / `url_env`: the address is the secret.
        url: SecretSource,
    },
}

/// Whether a terminal gets ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Where the notifier was told that the terminal can show them.
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

#[derive(Clone, Copy)]
enum Type {
    Log,
    Webhook,
    PagerDuty,
    Alertmanager,
    Slack,
}

impl Type {
    const NAMES: [(&'static str, Type); 5] = [
        ("log", Type::Log),
        ("webhook", Type::Webhook),
        ("pagerduty", Type::PagerDuty),
        ("alertmanager", Type::Alertmanager),
        ("slack", Type::Slack),
    ];
}

/// Channels that one installation can have.
const CHANNELS_MAX: usize = 64;
/// Mistakes in the channels of one config that are looked for.
const MISTAKES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;
const HOUR: Duration = Duration::from_secs(3_600);

impl ChannelConfig {
    /// A channel with default limits, for programs that embed the notifier.
    pub fn new(name: impl Into<String>, kind: ChannelKind) -> Self {
        let sending = match kind {
            ChannelKind::Log { .. } => Sending::with_rate(60_000, 10_000),
            // About 120 a minute a key, and about one a second: what the receivers say.
            ChannelKind::PagerDuty { .. } => Sending::with_rate(120, 30),
            ChannelKind::Slack { .. } => Sending::with_rate(60, 5),
            ChannelKind::Webhook { .. } | ChannelKind::Alertmanager { .. } => Sending::default(),
        };
        Self {
            file: String::new(),
            name: name.into(),
            sending,
            title: None,
            text: None,
            kind,
        }
    }

    /// Reads a text that consists of `[[channel]]` tables. `file` is how errors name it, and
    /// paths of secrets are relative to its folder.
    ///
    /// ```
    /// use fenghuo_notify::ChannelConfig;
    /// let text = "[[channel]]\nname = \"terminal\"\ntype = \"log\"\n";
    /// assert_eq!(ChannelConfig::parse("fenghuo.toml", text).unwrap()[0].name, "terminal");
    /// let error = ChannelConfig::parse("fenghuo.toml", &text.replace("log", "lgo")).unwrap_err();
    /// assert!(error.to_string().contains("did you mean \"log\"?"));
    /// ```
    pub fn parse(file: &str, text: &str) -> Result<Vec<Self>, ConfigError> {
        let fail = |at: &str, problem: String| ConfigError {
            file: file.to_owned(),
            at: at.to_owned(),
            problem,
            place: None,
        };
        // The parser's own message would show the lines around an error, and they may hold what
        // someone wrongly put there.
        let root: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| {
                1 + text
                    .bytes()
                    .take(span.start)
                    .filter(|byte| *byte == b'\n')
                    .count()
            });
            fail(&format!("line {line}"), error.message().to_owned())
        })?;
        if let Some(key) = root.keys().find(|key| *key != "channel") {
            return Err(fail(
                key,
                "unknown key; expected [[channel]] tables".to_owned(),
            ));
        }
        let tables = match root.get("channel") {
            None => return Ok(Vec::new()),
            Some(Value::Array(tables)) => tables
                .iter()
                .map(|value| value.as_table().cloned())
                .collect(),
            Some(_) => None,
        };
        let tables: Vec<Table> =
            tables.ok_or_else(|| fail("channel", "expected [[channel]] tables".to_owned()))?;
        Self::from_tables(file, &tables).map_err(|mut mistakes| mistakes.swap_remove(0))
    }

    /// Reads the `[[channel]]` tables of a larger config.
    ///
    /// # Errors
    /// The mistakes, at least one, in the order of the tables.
    pub fn from_tables(file: &str, tables: &[Table]) -> Result<Vec<Self>, Vec<ConfigError>> {
        let mut channels: Vec<Self> = Vec::with_capacity(tables.len());
        let mut mistakes = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            if mistakes.len() >= MISTAKES_MAX {
                break;
            }
            if index == CHANNELS_MAX {
                let keys = Keys::new(file, index, table);
                mistakes.push(keys.error("", format!("more than {CHANNELS_MAX} channels")));
                break;
            }
            channels.extend(Self::from_table(
                file,
                index,
                table,
                &channels,
                &mut mistakes,
            ));
        }
        match mistakes.is_empty() {
            true => Ok(channels),
            false => Err(mistakes),
        }
    }

    /// Reads a table. Reading ends at the first mistake: its key is left out, and the rest is read
    /// again for further ones.
    fn from_table(
        file: &str,
        index: usize,
        table: &Table,
        others: &[Self],
        mistakes: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        let mut rest = table.clone();
        let mut is_sound = true;
        loop {
            let mut keys = Keys::new(file, index, &rest);
            let read = Self::from_keys(&mut keys).and_then(|channel| {
                if others.iter().any(|other| other.name == channel.name) {
                    return Err(keys.error("name", "another channel has this name"));
                }
                keys.finish()?;
                Ok(channel)
            });
            let mistake = match read {
                Ok(channel) => return is_sound.then_some(channel),
                Err(mistake) => mistake,
            };
            let key = mistake.place.as_ref().map(|(_, key)| key.clone());
            let is_left_out = key.is_some_and(|key| rest.remove(&key).is_some());
            // What is missing may be what was left out.
            if is_left_out || is_sound {
                mistakes.push(mistake);
            }
            if !is_left_out || mistakes.len() >= MISTAKES_MAX {
                return None;
            }
            is_sound = false;
        }
    }

    fn from_keys(keys: &mut Keys<'_>) -> Result<Self, ConfigError> {
        let name = keys.required("name", "a name such as \"pager\"")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            let problem = format!(
                "{name:?} is no name; expected 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'"
            );
            return Err(keys.error("name", problem));
        }
        keys.rename(format!("channel {name:?}"));
        let kind = keys.choice("type", &Type::NAMES)?;
        let kind = match kind.ok_or_else(|| {
            keys.error(
                "type",
                "is missing; expected log, webhook, pagerduty, alertmanager or slack",
            )
        })? {
            Type::Log => log(keys)?,
            Type::Webhook => webhook(keys)?,
            Type::PagerDuty => pagerduty(keys)?,
            Type::Alertmanager => alertmanager(keys)?,
            Type::Slack => ChannelKind::Slack {
                url: keys.required_secret("url")?,
            },
        };
        let mut channel = Self {
            file: keys.file().to_owned(),
            ..Self::new(name, kind)
        };
        channel.sending = sending(keys, &channel.sending)?;
        channel.title = keys.text("title")?.map(str::to_owned);
        channel.text = keys.text("text")?.map(str::to_owned);
        // Compiled here for its errors alone; the notifier compiles what it keeps.
        Templates::compile(channel.title.as_deref(), channel.text.as_deref())
            .and_then(|templates| templates.try_out())
            .map_err(|(key, problem)| keys.error(key, problem))?;
        Ok(channel)
    }

    /// The secrets that it needs, each with the key that names its place.
    fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        let maybe = |key, source| Option::as_ref(source).map(|source| (key, source));
        match &self.kind {
            ChannelKind::Log { .. } => Vec::new(),
            ChannelKind::Webhook {
                url,
                secrets,
                authorization,
            } => [
                Some(("url", url)),
                maybe("secret", secrets),
                maybe("authorization", authorization),
            ]
            .into_iter()
            .flatten()
            .collect(),
            ChannelKind::PagerDuty { routing_key, .. } => vec![("routing_key", routing_key)],
            ChannelKind::Alertmanager { authorization, .. } => {
                maybe("authorization", authorization).into_iter().collect()
            }
            ChannelKind::Slack { url } => vec![("url", url)],
        }
    }

    /// Looks at the secrets that are here as the notifier will, and says which are not: those are no
    /// mistake, since a config is checked where it is written, too.
    pub fn check_secrets(&self) -> Result<Vec<String>, ConfigError> {
        crate::channel::check_secrets(self)?;
        let absent = self.secrets().into_iter().filter_map(|(key, source)| {
            let why = source.absence()?;
            Some(format!(
                "channel {:?}: {key} is not checked: {why}",
                self.name
            ))
        });
        Ok(absent.collect())
    }

    /// What an example says keeps nothing secret, and reaches nobody.
    pub(crate) fn check_secret(
        &self,
        key: &str,
        source: &SecretSource,
        secret: &Secret,
    ) -> Result<(), ConfigError> {
        // An address that stands in the config is no secret.
        let is_plain = matches!(source, SecretSource::Given(_));
        let mut each = secret.expose().split_whitespace();
        if is_plain || !(is_placeholder(secret.expose()) || each.any(is_placeholder)) {
            return Ok(());
        }
        let problem = format!("{source} holds what an example says; expected the secret itself");
        Err(self.error(key, problem))
    }

    /// An error about this channel.
    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let at = format!("channel {:?}: {key}", self.name);
        ConfigError {
            file: self.file.clone(),
            at,
            problem: problem.into(),
            place: None,
        }
    }
}

fn sending(keys: &mut Keys<'_>, default: &Sending) -> Result<Sending, ConfigError> {
    let in_flight_max = u32::try_from(default.in_flight_max).unwrap_or(u32::MAX);
    Ok(Sending {
        rate_per_minute: keys.count("rate_per_minute", default.rate_per_minute, 60_000)?,
        burst: keys.count("burst", default.burst, 10_000)?,
        in_flight_max: keys.count("in_flight_max", in_flight_max, 1_000)? as usize,
        timeout: keys.duration("timeout", default.timeout, Duration::from_secs(60))?,
        deadline: keys.duration("deadline", default.deadline, 24 * HOUR)?,
        backoff_min: keys.duration("backoff_min", default.backoff_min, HOUR)?,
        backoff_max: keys.duration("backoff_max", default.backoff_max, HOUR)?,
        retry_after_max: keys.duration("retry_after_max", default.retry_after_max, HOUR)?,
    })
}

fn log(keys: &mut Keys<'_>) -> Result<ChannelKind, ConfigError> {
    let words = [
        ("auto", Colour::Auto),
        ("always", Colour::Always),
        ("never", Colour::Never),
    ];
    let colour = keys.choice("colour", &words)?.unwrap_or(Colour::Auto);
    let utc_offset_min = match keys.text("utc_offset")? {
        None => 0,
        Some(text) => utc_offset_min(text).ok_or_else(|| {
            keys.error(
                "utc_offset",
                format!("{text:?} is no offset; expected one like \"+08:00\""),
            )
        })?,
    };
    Ok(ChannelKind::Log {
        colour,
        utc_offset_min,
    })
}

/// An offset from UTC, `+08:00` or `-03:30`, in minutes.
pub fn utc_offset_min(text: &str) -> Option<i32> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two_digits = |text: &str| match text.as_bytes() {
        [a, b] if a.is_ascii_digit() && b.is_ascii_digit() => text.parse::<i32>().ok(),
        _ => None,
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn webhook(keys: &mut Keys<'_>) -> Result<ChannelKind, ConfigError> {
    let plain = keys.url("url")?;
    let secret = keys.secret("url")?;
    let url = match (plain, secret) {
        (Some(url), None) => SecretSource::Given(crate::Secret::new(url)),
        (None, Some(secret)) => secret,
        (Some(_), Some(_)) => {
            return Err(keys.error("url", "is set beside url_file or url_env; expected one"));
        }
        (None, None) => {
            return Err(keys.error("url", "is missing; expected url, url_file or url_env"));
        }
    };
    let secrets = keys.secret("secret")?;
    let unsigned = keys.flag("unsigned")?;
    if secrets.is_some() == unsigned {
        return Err(keys.error("", "expected secret_file or secret_env, or unsigned = true"));
    }
    Ok(ChannelKind::Webhook {
        url,
        secrets,
        authorization: keys.secret("authorization")?,
    })
}

fn pagerduty(keys: &mut Keys<'_>) -> Result<ChannelKind, ConfigError> {
    let url = match keys.url("url")? {
        Some(url) => url,
        None => crate::keys::parse_url("https://events.pagerduty.com/v2/enqueue")
            .map_err(|problem| keys.error("url", problem))?,
    };
    Ok(ChannelKind::PagerDuty {
        url,
        routing_key: keys.required_secret("routing_key")?,
    })
}

fn alertmanager(keys: &mut Keys<'_>) -> Result<ChannelKind, ConfigError> {
    const RESOLVED_FOR_MIN: Duration = Duration::from_secs(300);
    let urls = keys.urls("urls", 16)?;
    let authorization = keys.secret("authorization")?;
    let refresh = keys.duration("refresh", Duration::from_secs(60), HOUR)?;
    let resolved_for = keys.duration("resolved_for", 3 * RESOLVED_FOR_MIN, 24 * HOUR)?;
    if resolved_for < RESOLVED_FOR_MIN {
        return Err(keys.error("resolved_for", "is too short; expected 5m or more"));
    }
    let open_max = keys.count("open_max", 10_000, 1_000_000)? as usize;
    Ok(ChannelKind::Alertmanager {
        urls,
        authorization,
        refresh,
        resolved_for,
        open_max,
    })
}
