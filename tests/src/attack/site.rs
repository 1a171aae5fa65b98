//! A daemon to be attacked, with a receiver that is healthy, and what honest people do with it.
//!
//! It keeps the daemon's logs when it ends. It must never do any harm itself.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::services::Kafka;
use xtask::wait;

use super::probe::Times;
use super::receiver::{Mood, Receiver};
use super::{Place, Settings};
use crate::installation::{Installation, Process};
use crate::shop::{FLOOR_RULE, floor, order};
use crate::{http, now_ms};

/// A floor of a price, and a price below it, in minor units.
const FLOOR: i64 = 1_800;
const BELOW: i64 = 180;
/// How long honest senders go on after being asked to wait.
const SENDS_WITHIN: Duration = Duration::from_secs(10);

/// What a page of a price may take, by what is promised.
pub const PAGE_MS_MAX: u64 = 2_000;
/// What an answer of health may take.
pub const HEALTH_MS_MAX: u64 = 100;
/// Memory of a daemon with default limits.
pub const MEMORY_MIB_MAX: u64 = 1_024;

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// What a sender was told.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Status code.
    pub status: u16,
    /// Events that are kept.
    pub accepted: u64,
    /// Events that are dead letters.
    pub rejected: u64,
    /// The whole answer.
    pub body: String,
}

/// A channel by webhook to a receiver, as a table of the config.
pub fn channel(name: &str, url: &str, more: &str) -> String {
    format!(
        "[[channel]]\nname = {name:?}\ntype = \"webhook\"\nurl = {url:?}\nunsigned = true\n\
         backoff_min = \"100ms\"\nbackoff_max = \"2s\"\nrate_per_minute = 60000\nburst = 10000\n{more}\n"
    )
}

/// A route; what matches is as in the config.
pub fn route(matches: &str, channel: &str) -> String {
    format!("[[route]]\n{matches}\nchannels = [{channel:?}]\n")
}

/// A daemon and what it needs.
pub struct Site {
    /// Its directory.
    pub installation: Installation,
    /// The healthy receiver.
    pub pager: Receiver,
    process: Option<Process>,
    kafka: Option<Kafka>,
    logs: PathBuf,
    lives: usize,
    has_shop: bool,
}

impl Site {
    /// A directory, a receiver, and a broker where one is needed.
    pub fn new(settings: &Settings, name: &str) -> Result<Self> {
        let kafka = match settings.place {
            Place::Kafka => Some(Kafka::start()?),
            Place::Embedded => None,
        };
        Ok(Self {
            installation: Installation::new()?,
            pager: Receiver::start(Mood::Healthy)?,
            process: None,
            kafka,
            logs: settings.logs.join(name),
            lives: 0,
            has_shop: true,
        })
    }

    /// A running one with these keys, which pages the healthy receiver.
    pub fn running(settings: &Settings, name: &str, keys: &str) -> Result<Self> {
        let mut site = Self::new(settings, name)?;
        site.configure(keys, &site.pager_alone())?;
        site.start()?;
        Ok(site)
    }

    /// The tables by which the healthy receiver is told of everything.
    pub fn pager_alone(&self) -> String {
        channel("pager", &self.pager.url(), "") + &route("", "pager")
    }

    /// From the next config on nothing says which shop this is.
    pub const fn forget_shop(&mut self) {
        self.has_shop = false;
    }

    /// Writes the config: keys, then tables.
    pub fn configure(&self, keys: &str, tables: &str) -> Result<()> {
        let listen = self.installation.listen();
        let log = match &self.kafka {
            Some(kafka) => format!(
                "kafka.bootstrap = [{:?}]\nintake.http = true\n",
                kafka.bootstrap()
            ),
            None => "log.kind = \"embedded\"\n".to_owned(),
        };
        let shop = if self.has_shop {
            "shop.id = \"shop-42\"\n"
        } else {
            ""
        };
        let text = format!(
            "http.listen = {listen:?}\n{shop}rules.files = [\"rules.toml\"]\n\
             {log}{keys}\n{tables}"
        );
        self.installation.write("rules.toml", FLOOR_RULE)?;
        self.installation.write("fenghuo.toml", text).map(drop)
    }

    /// Starts it and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        self.start_unready()?;
        let process = self.daemon()?;
        process.until("the daemon to be ready", |process| {
            (process.get("/-/ready").ok()?.status == 200).then_some(())
        })
    }

    /// Starts it and waits until it listens.
    pub fn start_unready(&mut self) -> Result<()> {
        self.start_with(&["run", "--config", "fenghuo.toml"])?;
        self.daemon()?.until("the daemon to listen", |process| {
            process.get("/-/healthy").ok().map(drop)
        })
    }

    /// Starts it with these arguments.
    pub fn start_with(&mut self, arguments: &[&str]) -> Result<()> {
        self.process = Some(self.installation.start(arguments)?);
        Ok(())
    }

    /// The process.
    pub fn daemon(&self) -> Result<&Process> {
        self.process.as_ref().context("no daemon runs")
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.installation.listen().parse()?)
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.process.as_ref().is_some_and(|one| !one.has_ended())
    }

    /// Ends it as a service manager does; gives its code, where it has one, and its log.
    pub fn stop(&mut self) -> Result<(Option<i32>, String)> {
        let process = self.process.take().context("no daemon runs")?;
        let (status, log) = process.terminate()?;
        self.keep(&log);
        Ok((status.code(), log))
    }

    /// Sends events, and again where it is asked to wait.
    pub fn send(&self, events: &[Value]) -> Result<Taken> {
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        self.send_body(lines.as_bytes(), &[])
    }

    /// Sends a body of lines with further headers, and again where it is asked to wait.
    pub fn send_body(&self, body: &[u8], headers: &[(&str, &str)]) -> Result<Taken> {
        let url = self.daemon()?.url("/api/v1/events");
        let all = [&[NDJSON], headers].concat();
        let answer = wait::until("events to be taken", SENDS_WITHIN, || {
            let answer = http::post(&url, &all, body);
            let waits = answer.as_ref().is_ok_and(|answer| answer.status == 429);
            (!waits).then_some(answer)
        })??;
        let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        Ok(Taken {
            status: answer.status,
            accepted: told["accepted"].as_u64().unwrap_or(0),
            rejected: told["rejected"].as_u64().unwrap_or(0),
            body: answer.body,
        })
    }

    /// Tells of a sku's floor and of an order below it, as they are by the true time.
    pub fn sell_below(&self, sku: &str) -> Result<Taken> {
        let at_ms = now_ms();
        let order = order(&format!("o-{sku}"), sku, BELOW, at_ms);
        let taken = self.send(&[floor(sku, FLOOR, at_ms), order])?;
        if taken.status != 200 {
            bail!(
                "an honest order was answered with {}: {}",
                taken.status,
                taken.body
            );
        }
        Ok(taken)
    }

    /// Sells a sku below its floor; how long its page took, if it came within the time.
    pub fn page_ms(&self, sku: &str, within: Duration) -> Result<Option<u64>> {
        let began_ms = now_ms();
        if self.sell_below(sku).is_err() && self.is_alive() {
            // Who cannot even tell of it is not paged either.
            return Ok(None);
        }
        // The quote ends the name: s-1 is not s-10.
        let came_ms = self.pager.wait_for(&format!("\"{sku}\""), within);
        Ok(came_ms.map(|at_ms| at_ms.saturating_sub(began_ms).max(0) as u64))
    }

    /// The same for several skus in turn. What did not come counts as `within`.
    pub fn pages(&self, prefix: &str, count: usize, within: Duration) -> Result<Times> {
        let mut times = Vec::with_capacity(count);
        let mut missing = 0;
        for number in 0..count {
            let took = self.page_ms(&format!("{prefix}-{number}"), within)?;
            times.push(took.unwrap_or(within.as_millis() as u64));
            missing += usize::from(took.is_none());
            // Three that never come say enough.
            if missing == 3 {
                break;
            }
        }
        Ok(Times::new(times))
    }

    /// What `/-/ready` says where it names one of these words.
    pub fn ready_names(&self, words: &[&str]) -> Option<String> {
        let answer = self.daemon().ok()?.get("/-/ready").ok()?;
        let text = answer.body.to_lowercase();
        let is_named = words.iter().any(|word| text.contains(word));
        is_named.then(|| format!("{} {}", answer.status, answer.body))
    }

    /// A line of the metrics that begins and goes on so, and is not 0.
    pub fn metric_names(&self, name: &str, words: &[&str]) -> Option<String> {
        let text = self.daemon().ok()?.get("/metrics").ok()?.body;
        let mut lines = text.lines().filter(|line| {
            let value = line.rsplit_once(' ').map_or("0", |(_, value)| value);
            let is_some = value.parse::<f64>().is_ok_and(|value| value > 0.0);
            let lower = line.to_lowercase();
            is_some && line.starts_with(name) && words.iter().any(|word| lower.contains(word))
        });
        lines.next().map(ToOwned::to_owned)
    }

    /// Orders that are counted.
    pub fn orders(&self) -> Result<u64> {
        let totals = self.daemon()?.json("/api/v1/totals")?;
        Ok(totals["total"]["orders"].as_u64().unwrap_or(0))
    }

    fn keep(&mut self, log: &str) {
        let name = format!("daemon-{}.log", self.lives);
        self.lives += 1;
        // Without it the verdict is still whole.
        let _ = fs::create_dir_all(&self.logs);
        let _ = fs::write(self.logs.join(name), log);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            let log = process.log();
            self.keep(&log);
        }
    }
}
