//! What is broken and mended: a broker, instances with one group behind a relay each, and the
//! receivers of their pages.
//!
//! An instance that ends by itself is started again, as a service manager does, and is told of.
//! It must never judge what it sees.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use xtask::services::Kafka;
use xtask::wait;

use super::plan::{Cut, Fault, Refusal};
use super::relay::{Line, Relay};
use crate::installation::{Installation, Process};
use crate::pagerduty::PagerDuty;
use crate::webhook::Webhook;

/// Partitions of each source topic.
pub const SOURCE_PARTITIONS: u32 = 12;
/// Partitions of `fenghuo.panes`, by default.
const PANES_PARTITIONS: usize = 4;
/// The topics that the shop writes to.
pub const SOURCES: [&str; 4] = [
    "shop.orders",
    "shop.inventory",
    "shop.catalog",
    "shop.couriers",
];

/// What is kept of each instance in the end.
const ANSWERS: [(&str, &str); 5] = [
    ("ready.json", "/-/ready"),
    ("metrics.txt", "/metrics"),
    ("totals.json", "/api/v1/totals"),
    ("readings.json", "/api/v1/readings?limit=10000"),
    ("episodes.json", "/api/v1/episodes?limit=10000"),
];

const ROUTING_KEY: &str = "chaos0123456789abcdef0123456789a";
/// How long an instance may take to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

/// How long the group may take to settle before anything begins.
const READ_WITHIN: Duration = Duration::from_secs(90);

/// Rules that page at once and end at once. Nothing keeps them quiet: every episode is paged.
pub(super) const RULES: &str = r#"
[[rule]]
name = "price-floor"
signal = "price.floor"
where = { kind = "sku" }
page = [{ read = "value", below = 1 }]
keep_firing = "1s"
playbook = "price-below-floor"
summary = "{sku} was ordered at {value} of its floor price."

[[rule]]
name = "stock-oversell"
signal = "stock.oversell"
where = { kind = "sku" }
page = [{ read = "lower", above = 0 }]
keep_firing = "1s"
playbook = "oversold"
summary = "{sku} is sold {lower} units beyond its supply."
"#;

/// An instance of the daemon.
#[derive(Debug)]
pub struct Instance {
    /// Its directory.
    pub installation: Installation,
    relay: Relay,
    process: Option<Process>,
    /// Whether it is meant to run.
    is_wanted: bool,
    /// Logs of its processes that have ended.
    logs: Vec<String>,
}

impl Instance {
    /// The process, where one runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Logs of all its processes, in order.
    pub fn logs(&self) -> Vec<String> {
        let mut logs = self.logs.clone();
        logs.extend(self.process.as_ref().map(Process::log));
        logs
    }
}

/// All of it. What it started ends with this value.
#[derive(Debug)]
pub struct World {
    /// The broker.
    pub kafka: Kafka,
    /// One receiver of pages.
    pub pagerduty: PagerDuty,
    /// The other one.
    pub webhook: Webhook,
    /// The instances.
    pub instances: Vec<Instance>,
    receivers: [Relay; 2],
    /// What ended by itself: which instance, and how.
    pub ended: Vec<String>,
}

impl World {
    /// Starts everything.
    pub fn start(instances: usize) -> Result<Self> {
        let relays: Vec<Relay> = (0..instances)
            .map(|_| Relay::start())
            .collect::<Result<_>>()?;
        let ports: Vec<u16> = relays.iter().map(Relay::port).collect();
        let kafka = Kafka::start_behind(&ports)?;
        let pagerduty = PagerDuty::start(ROUTING_KEY, 0)?;
        let webhook = Webhook::start()?;
        let receivers = [Relay::start()?, Relay::start()?];
        receivers[0].lead_to(pagerduty.port());
        receivers[1].lead_to(webhook.port());
        let mut made = Vec::new();
        for (number, relay) in relays.into_iter().enumerate() {
            relay.lead_to(kafka.relayed_port(number));
            let installation = Installation::new()?;
            installation.write("key", ROUTING_KEY)?;
            installation.write("rules.toml", RULES)?;
            let bootstrap = format!("127.0.0.1:{}", relay.port());
            let ports = receivers.each_ref().map(Relay::port);
            installation.configure(&bootstrap, &config(number, ports))?;
            made.push(Instance {
                installation,
                relay,
                process: None,
                is_wanted: false,
                logs: Vec::new(),
            });
        }
        let mut world = Self {
            kafka,
            pagerduty,
            webhook,
            instances: made,
            receivers,
            ended: Vec::new(),
        };
        // The first one makes the topics; the others find them.
        for number in 0..instances {
            world.start_instance(number)?;
            world.listens(number)?;
        }
        wait::until("every partition to be read", READ_WITHIN, || {
            world.is_read().then_some(())
        })?;
        Ok(world)
    }

    /// Whether every partition of the sources and of the panes has its reader. Of the alerts none
    /// is told of before the first alert.
    fn is_read(&self) -> bool {
        let mut read = BTreeSet::new();
        for process in self.instances.iter().filter_map(Instance::process) {
            let Ok(answer) = process.get("/metrics") else {
                return false;
            };
            let rows = answer.body.lines().filter_map(|line| {
                let labels = line.strip_prefix("fenghuo_consumer_lag_records")?;
                let labels = labels.split_once('}')?.0.to_owned();
                (!labels.contains("dispatch")).then_some(labels)
            });
            read.extend(rows);
        }
        read.len() == SOURCES.len() * SOURCE_PARTITIONS as usize + PANES_PARTITIONS
    }

    /// Breaks something.
    pub fn begin(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill(number) => {
                let instance = &mut self.instances[number];
                instance.is_wanted = false;
                if let Some(process) = instance.process.take() {
                    process.signal("KILL")?;
                    instance.logs.push(process.log());
                }
            }
            Fault::Freeze(number) => self.signal(number, "STOP")?,
            Fault::Cut(number, Cut::Silent) => self.instances[number].relay.set(Line::Silent),
            Fault::Cut(number, Cut::Closed) => self.instances[number].relay.set(Line::Closed),
            Fault::Broker => self.kafka.kill()?,
            Fault::Receivers(Refusal::Closed) => {
                for relay in &self.receivers {
                    relay.set(Line::Closed);
                }
            }
            Fault::Receivers(Refusal::Unavailable) => self.set_down(true),
        }
        Ok(())
    }

    /// Mends it.
    pub fn end(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill(number) => self.start_instance(number)?,
            Fault::Freeze(number) => self.signal(number, "CONT")?,
            Fault::Cut(number, _) => self.instances[number].relay.set(Line::Open),
            Fault::Broker => self.kafka.start_again()?,
            Fault::Receivers(Refusal::Closed) => {
                for relay in &self.receivers {
                    relay.set(Line::Open);
                }
            }
            Fault::Receivers(Refusal::Unavailable) => self.set_down(false),
        }
        Ok(())
    }

    /// Starts again what has ended by itself.
    pub fn supervise(&mut self) -> Result<()> {
        for number in 0..self.instances.len() {
            let instance = &mut self.instances[number];
            if !instance.is_wanted || !instance.process.as_ref().is_some_and(Process::has_ended) {
                continue;
            }
            if let Some(mut process) = instance.process.take() {
                let (status, log) = process.wait()?;
                let last = log.lines().last().unwrap_or_default();
                self.ended
                    .push(format!("instance {number} ended with {status}: {last}"));
                instance.logs.push(log);
            }
            self.start_instance(number)?;
        }
        Ok(())
    }

    /// Ends all instances as a service manager does; tells of those that did not end well.
    pub fn terminate(&mut self) -> Result<Vec<String>> {
        let mut told = Vec::new();
        for (number, instance) in self.instances.iter_mut().enumerate() {
            instance.is_wanted = false;
            let Some(process) = instance.process.take() else {
                told.push(format!("instance {number} does not run"));
                continue;
            };
            let (status, log) = process.terminate()?;
            if status.code() != Some(0) {
                let last = log.lines().last().unwrap_or_default();
                told.push(format!("instance {number} ended with {status}: {last}"));
            }
            instance.logs.push(log);
        }
        Ok(told)
    }

    /// Writes what the instances say of themselves into a directory, for a look after a failure.
    pub fn save_answers(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        for (number, instance) in self.instances.iter().enumerate() {
            for (name, path) in ANSWERS {
                let answer = instance.process().map(|process| process.get(path));
                let text = match answer {
                    Some(Ok(answer)) => answer.body,
                    Some(Err(error)) => format!("{error:#}"),
                    None => "it does not run".to_owned(),
                };
                std::fs::write(directory.join(format!("instance-{number}-{name}")), text)?;
            }
        }
        Ok(())
    }

    /// Copies the logs of all processes into a directory.
    pub fn save_logs(&self, directory: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(directory)?;
        for (number, instance) in self.instances.iter().enumerate() {
            for (life, log) in instance.logs().iter().enumerate() {
                let name = format!("instance-{number}-{life:02}.log");
                std::fs::write(directory.join(name), log)?;
            }
        }
        Ok(directory.to_owned())
    }

    fn set_down(&self, is_down: bool) {
        self.pagerduty.set_down(is_down);
        self.webhook.set_down(is_down);
    }

    fn start_instance(&mut self, number: usize) -> Result<()> {
        let instance = &mut self.instances[number];
        instance.is_wanted = true;
        let process = instance
            .installation
            .start(["run", "--config", "fenghuo.toml"])?;
        instance.process = Some(process);
        Ok(())
    }

    /// Waits until an instance answers over HTTP at all.
    fn listens(&self, number: usize) -> Result<()> {
        let Some(process) = self.instances[number].process() else {
            bail!("instance {number} does not run");
        };
        wait::until("an instance to listen", LISTENS_WITHIN, || {
            process.get("/-/healthy").ok()
        })
        .with_context(|| process.log())
        .map(drop)
    }

    fn signal(&self, number: usize, name: &str) -> Result<()> {
        match self.instances[number].process() {
            Some(process) if !process.has_ended() => process.signal(name),
            _ => Ok(()),
        }
    }
}

fn config(number: usize, receivers: [u16; 2]) -> String {
    let [pagerduty, webhook] = receivers;
    format!(
        r#"kafka.instance = "{number}"
shop.id = "shop-42"
rules.builtin = false
rules.files = ["rules.toml"]
topics.streams = ["orders", "inventory", "catalog", "couriers"]
topics.source_partitions = {SOURCE_PARTITIONS}
[[channel]]
name = "pager"
type = "pagerduty"
url = "http://127.0.0.1:{pagerduty}/v2/enqueue"
routing_key_file = "key"
backoff_min = "100ms"
backoff_max = "2s"
[[channel]]
name = "hook"
type = "webhook"
url = "http://127.0.0.1:{webhook}/"
unsigned = true
backoff_min = "100ms"
backoff_max = "2s"
[[route]]
severity = ["page"]
channels = ["pager", "hook"]
"#
    )
}
