//! Chaos on a folder: one daemon, killed again and again while a shop hands events in over HTTP.
//!
//! A batch is sent until it is acknowledged, so much comes twice; some kills hit while a receiver
//! holds a page that it has and has not answered. What holds in the end is what holds on Kafka, and
//! that no event is missing of which the sender was told that it is kept.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use xtask::wait;

use super::plan::{Plan, Settings as PlanSettings, Staged, Trouble};
use super::random::Random;
use super::shown::Shown;
use super::traffic::{Ledger, Message, Shop, sku_of};
use super::verdict::{self, Check, Found};
use super::world::RULES;
use crate::consumer::Record;
use crate::installation::{Installation, Process};
use crate::pagerduty::PagerDuty;
use crate::webhook::Webhook;
use crate::{http, now_ms};

/// Orders a second of the shop's own time.
const RATE: u64 = 1_000;
/// The shop's own time between one kill and the next: 1,500 orders.
const LIFE_MS: u64 = 1_500;
/// Events that have to be acknowledged anew before a kill.
const ACKNOWLEDGED_MIN: u64 = 1_000;
/// One kill of so many waits for a page to be on its way.
const PAGE_EVERY: usize = 8;
/// One trouble of so many is a sell-out.
const SOLD_OUT_EVERY: usize = 5;
/// How long a trouble lasts: a dip by the clock, a sell-out, which is seen when its pane closes, in
/// the shop's own time, of which a second takes about half of one.
const DIP_MS: u64 = 20_000;
const SOLD_OUT_MS: u64 = 150_000;
/// Who sends at a time, and how much at once.
const SENDERS: usize = 3;
const BATCH_EVENTS: usize = 250;
/// How long anything may take that is bound to happen.
const WITHIN: Duration = Duration::from_secs(120);
const SETTLED_WITHIN: Duration = Duration::from_secs(240);

const ROUTING_KEY: &str = "chaos0123456789abcdef0123456789a";
const SOURCES: [&str; 4] = [
    "shop.orders",
    "shop.inventory",
    "shop.catalog",
    "shop.couriers",
];

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often the daemon is killed.
    pub kills: usize,
    /// What chance begins with.
    pub seed: u64,
}

/// What a run has shown.
#[derive(Debug)]
pub struct Report {
    /// Every check.
    pub checks: Vec<Check>,
    /// Kills while a page had been taken and not answered.
    pub mid_page: usize,
    /// Events acknowledged, repeats among them.
    pub acknowledged: u64,
    /// Batches that had to be sent again.
    pub sent_again: u64,
    /// From each start of the daemon to its first answer to a sender, in ms, sorted.
    pub back_ms: Vec<u64>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Whether nothing speaks against it.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.problems.is_empty())
    }
}

/// A batch on its way.
struct Batch {
    messages: Vec<Message>,
}

impl Batch {
    fn body(&self) -> String {
        let lines = self.messages.iter().map(|message| message.value.as_str());
        lines.fold(String::new(), |body, line| body + line + "\n")
    }
}

/// What the senders have in common.
#[derive(Default)]
struct Sent {
    acknowledged: AtomicU64,
    again: AtomicU64,
    /// Lines that cannot be taken, in batches that were sent again, once for each time.
    wrong_again: AtomicU64,
    is_over: AtomicBool,
    /// What was acknowledged: hashes of the values.
    kept: Mutex<HashSet<u64>>,
    problems: Mutex<Vec<String>>,
}

fn hash(value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Sends batches, each until it is acknowledged.
fn send_all(url: &str, batches: &Mutex<Receiver<Batch>>, sent: &Sent) {
    loop {
        let batch = {
            let batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
            batches.recv()
        };
        let Ok(batch) = batch else { return };
        let body = batch.body();
        let mut tries = 0;
        let rejected = loop {
            if sent.is_over.load(Ordering::Relaxed) {
                return;
            }
            let answer = http::post(url, &[("content-type", "application/x-ndjson")], &body);
            match answer.map(|answer| (answer.status, answer.json())) {
                Ok((200, Ok(answer))) => break answer["rejected"].as_u64().unwrap_or(0),
                Ok((status @ (400..=428 | 430..=499), answer)) => {
                    let mut problems = sent.problems.lock().unwrap_or_else(PoisonError::into_inner);
                    problems.push(format!("{status}: {answer:?}"));
                    return;
                }
                _ => std::thread::yield_now(),
            }
            tries += 1;
            let _ = wait::until::<()>("another try", Duration::from_millis(5), || None);
        };
        if tries > 0 {
            sent.again.fetch_add(1, Ordering::Relaxed);
            sent.wrong_again
                .fetch_add(rejected * tries, Ordering::Relaxed);
        }
        let mut kept = sent.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let valid = batch
            .messages
            .iter()
            .filter(|message| !message.key.starts_with("wrong"));
        kept.extend(valid.map(|message| hash(&message.value)));
        drop(kept);
        let events = batch.messages.len() as u64;
        sent.acknowledged.fetch_add(events, Ordering::Relaxed);
    }
}

/// Kills, and judges. What is left of the folder goes to `logs` where something was wrong.
///
/// # Errors
/// When it cannot be carried out; what the daemon does wrong is in the report.
pub fn run(settings: Settings, logs: &Path) -> Result<Report> {
    let began = Instant::now();
    let world = World::start()?;
    let (mut shop, plan) = shop(settings);
    let sent = Arc::new(Sent::default());
    let (queue, batches) = sync_channel(SENDERS);
    let batches = Arc::new(Mutex::new(batches));
    let url = format!("http://{}/api/v1/events", world.installation.listen());
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (url, batches, sent) = (url.clone(), Arc::clone(&batches), Arc::clone(&sent));
            std::thread::spawn(move || send_all(&url, &batches, &sent))
        })
        .collect();
    let mut run = Run {
        world: &world,
        sent: &sent,
        queue,
        random: Random::new(settings.seed ^ 0xf01d),
        back_ms: Vec::new(),
        mid_page: 0,
        dropped: 0,
    };
    let killed = run.kills(&mut shop, &plan);
    let finished = killed.and_then(|()| run.finish(&mut shop, &plan));
    let (back_ms, mid_page, dropped) = (run.back_ms.clone(), run.mid_page, run.dropped);
    sent.is_over.store(true, Ordering::Relaxed);
    drop(run);
    for sender in senders {
        if sender.join().is_err() {
            bail!("a sender panicked");
        }
    }
    let mut ledger = shop.ledger().clone();
    ledger.wrong -= dropped;
    let found = world.found(finished?)?;
    let mut checks = verdict::checks(&ledger, &found.0);
    checks.retain(|check| !REPLACED.contains(&check.name));
    checks.extend(own_checks(&ledger, &found, &sent));
    let mut back_ms = back_ms;
    back_ms.sort_unstable();
    let report = Report {
        checks,
        mid_page,
        acknowledged: sent.acknowledged.load(Ordering::Relaxed),
        sent_again: sent.again.load(Ordering::Relaxed),
        back_ms,
        took: began.elapsed(),
    };
    if !report.is_good() {
        world.save(logs)?;
    }
    Ok(report)
}

/// Checks that hold on Kafka alone, where nothing is handed in twice.
const REPLACED: [&str; 2] = [
    "everything sent is in the topics once",
    "every message that cannot be taken is set aside once",
];

fn own_checks(ledger: &Ledger, (found, dumped): &(Found, HashSet<u64>), sent: &Sent) -> Vec<Check> {
    let kept = sent.kept.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = kept.difference(dumped).count();
    let late = |letter: &&Record| letter.header("reason") == Some("late");
    let late = found.letters.iter().filter(late).count() as u64;
    let wrong = found.letters.len() as u64 - late;
    let most = ledger.wrong + sent.wrong_again.load(Ordering::Relaxed);
    let problem = |is_wrong: bool, text: String| is_wrong.then_some(text).into_iter().collect();
    vec![
        Check::new(
            "no acknowledged event is missing",
            format!("{} acknowledged", kept.len()),
            problem(
                missing > 0 || kept.is_empty(),
                format!("{missing} are missing"),
            ),
        ),
        Check::new(
            "what cannot be taken is set aside, once for each time it was sent",
            format!("{} wrong, {} late", ledger.wrong, ledger.late),
            problem(
                late != ledger.late || wrong < ledger.wrong || wrong > most,
                format!("{late} late and {wrong} wrong were set aside, of at most {most}"),
            ),
        ),
        Check::new(
            "nothing is refused that is in order",
            "every answer".to_owned(),
            sent.problems
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        ),
    ]
}

/// A shop with a trouble in every life that is to end in the middle of a page.
fn shop(settings: Settings) -> (Shop, Plan) {
    let end_ms = settings.kills as u64 * LIFE_MS;
    let troubles = (0..settings.kills.div_ceil(PAGE_EVERY)).map(|number| {
        let from_ms = (number * PAGE_EVERY) as u64 * LIFE_MS + 1;
        let is_sold_out = number % SOLD_OUT_EVERY == 1 && from_ms + SOLD_OUT_MS < end_ms;
        let (trouble, lasts_ms) = match is_sold_out {
            true => (Trouble::SoldOut, SOLD_OUT_MS),
            false => (Trouble::Dip, DIP_MS),
        };
        Staged {
            from_ms,
            to_ms: from_ms + lasts_ms,
            trouble,
        }
    });
    let plan = Plan {
        settings: PlanSettings {
            traffic_ms: end_ms,
            kills: settings.kills,
            seed: settings.seed,
            instances: 1,
            rate: RATE,
        },
        faults: Vec::new(),
        troubles: troubles.collect(),
    };
    (Shop::new(&plan), plan)
}

struct Run<'a> {
    world: &'a World,
    sent: &'a Sent,
    queue: SyncSender<Batch>,
    random: Random,
    back_ms: Vec<u64>,
    mid_page: usize,
    /// Messages that only a topic of Kafka can hold.
    dropped: u64,
}

impl Run<'_> {
    fn acknowledged(&self) -> u64 {
        self.sent.acknowledged.load(Ordering::Relaxed)
    }

    /// Hands messages to the senders, who may be held up for as long as the daemon is away.
    fn hand_in(&mut self, messages: Vec<Message>) -> Result<()> {
        for batch in self.split(messages) {
            self.queue.send(batch).context("the senders are gone")?;
        }
        Ok(())
    }

    /// Cuts messages into batches, without those that only a topic of Kafka can hold: they are
    /// wrong only because of the topic that they are in.
    fn split(&mut self, messages: Vec<Message>) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        for message in messages {
            if message.topic == "shop.orders" && message.value.contains("\"inventory\":") {
                self.dropped += 1;
                continue;
            }
            match batches.last_mut() {
                Some(last) if last.messages.len() < BATCH_EVENTS => last.messages.push(message),
                _ => batches.push(Batch {
                    messages: vec![message],
                }),
            }
        }
        batches
    }

    fn start(&mut self) -> Result<Process> {
        let (at, before) = (Instant::now(), self.acknowledged());
        let process = self.world.start_daemon()?;
        wait::until("an answer to a sender", WITHIN, || {
            (self.acknowledged() > before || process.has_ended()).then_some(())
        })
        .with_context(|| process.log())?;
        ensure!(!process.has_ended(), "it ended: {}", process.log());
        self.back_ms.push(at.elapsed().as_millis() as u64);
        Ok(process)
    }

    fn kills(&mut self, shop: &mut Shop, plan: &Plan) -> Result<()> {
        let opening = shop.open(now_ms());
        let first = self.world.start_daemon()?;
        self.hand_in(opening)?;
        // The first life ends like the others; it is no kill of the plan.
        drop(first);
        for number in 0..plan.settings.kills {
            let until_ms = (number as u64 + 1) * LIFE_MS;
            let is_mid_page = number % PAGE_EVERY == 0
                && plan.troubles[number / PAGE_EVERY].trouble == Trouble::Dip;
            if is_mid_page {
                let number = number / PAGE_EVERY;
                self.world.webhook.hold(&sku_of(number, Trouble::Dip));
            }
            let before = self.acknowledged();
            let batches = self.split(shop.tick(until_ms, now_ms()));
            // They wait for the daemon, which has to be started beside them.
            let (process, handed) = std::thread::scope(|scope| {
                let queue = self.queue.clone();
                let handing = scope
                    .spawn(move || batches.into_iter().try_for_each(|batch| queue.send(batch)));
                let process = self.start();
                let handed = handing.join();
                (process, handed)
            });
            let process = process?;
            ensure!(matches!(handed, Ok(Ok(()))), "the senders are gone");
            wait::until("events to be acknowledged", WITHIN, || {
                (self.acknowledged() >= before + ACKNOWLEDGED_MIN).then_some(())
            })
            .with_context(|| process.log())?;
            if is_mid_page {
                wait::until("a page to be on its way", WITHIN, || {
                    self.world.webhook.is_held().then_some(())
                })
                .with_context(|| process.log())?;
                self.mid_page += 1;
            } else {
                let pause = Duration::from_millis(self.random.below(40));
                let _ = wait::until::<()>("a moment", pause, || None);
            }
            process.signal("KILL")?;
            drop(process);
            self.world.webhook.release();
            if (number + 1) % 50 == 0 {
                println!("{} kills, {} events", number + 1, self.acknowledged());
            }
        }
        Ok(())
    }

    /// Everything is handed in and comes to its end.
    fn finish(&mut self, shop: &mut Shop, plan: &Plan) -> Result<Shown> {
        let process = self.world.start_daemon()?;
        let last = shop.tick(plan.settings.traffic_ms + SOLD_OUT_MS, now_ms());
        self.hand_in(last)?;
        let sent: u64 = shop.ledger().messages.values().sum::<u64>() - self.dropped;
        wait::until("everything to be acknowledged", WITHIN, || {
            (self.acknowledged() == sent).then_some(())
        })
        .with_context(|| process.log())?;
        let mut shown = Shown::default();
        let counted = wait::until("the counts", WITHIN, || {
            shown = Shown::of([&process]).ok()?;
            let ledger = shop.ledger();
            let is_counted = verdict::totals(&ledger.sold, &shown.sold).is_empty()
                && verdict::levels(ledger, &shown).is_empty();
            is_counted.then_some(())
        });
        if counted.is_err() {
            println!("waited in vain for the counts");
        }
        let settled = wait::until("every trouble to be over and told", SETTLED_WITHIN, || {
            let alerts = process.json("/api/v1/alerts").ok()?;
            let deliveries = process.json("/api/v1/deliveries?limit=10000").ok()?;
            let all_told = deliveries["deliveries"].as_array()?.iter();
            let mut all_told = all_told.filter(|row| row["ended_at"].is_null());
            (alerts["alerts"].as_array()?.is_empty() && all_told.next().is_none()).then_some(())
        });
        if settled.is_err() {
            println!("waited in vain for the troubles to be over");
        }
        let shown = Shown::of([&process])?;
        let (status, log) = process.terminate()?;
        ensure!(status.success(), "it ended with {status}: {log}");
        Ok(shown)
    }
}

/// The daemon's folder, and the receivers of its pages.
struct World {
    installation: Installation,
    pagerduty: PagerDuty,
    webhook: Webhook,
}

impl World {
    fn start() -> Result<Self> {
        let (pagerduty, webhook) = (PagerDuty::start(ROUTING_KEY, 0)?, Webhook::start()?);
        let installation = Installation::new()?;
        installation.write("key", ROUTING_KEY)?;
        installation.write("rules.toml", RULES)?;
        let (listen, pager, hook) = (installation.listen(), pagerduty.port(), webhook.port());
        let config = format!(
            r#"http.listen = {listen:?}
log.kind = "embedded"
rules.builtin = false
rules.files = ["rules.toml"]
topics.streams = ["orders", "inventory", "catalog", "couriers"]
# A restart reads this much of the source again before it goes on; a batch is sent again sooner.
ingest.duplicates.horizon = "15s"
[[channel]]
name = "pager"
type = "pagerduty"
url = "http://127.0.0.1:{pager}/v2/enqueue"
routing_key_file = "key"
rate_per_minute = 6000
backoff_min = "50ms"
[[channel]]
name = "hook"
type = "webhook"
url = "http://127.0.0.1:{hook}/"
unsigned = true
rate_per_minute = 6000
backoff_min = "50ms"
[[route]]
severity = ["page"]
channels = ["pager", "hook"]
"#
        );
        installation.write("fenghuo.toml", config)?;
        Ok(Self {
            installation,
            pagerduty,
            webhook,
        })
    }

    fn start_daemon(&self) -> Result<Process> {
        self.installation
            .start(["run", "--config", "fenghuo.toml", "--log", "warn"])
    }

    /// Reads the folder, which nobody holds any more; gives the hashes of all source values too.
    fn found(&self, shown: Shown) -> Result<(Found, HashSet<u64>)> {
        let mut values = HashSet::new();
        for topic in SOURCES {
            self.dump(topic, |_, line| {
                // The value as it was sent, which a parsed one need not be.
                let value = line.find("\"value\":").map(|at| &line[at..]);
                values.extend(value.and_then(sent_value).map(|value| hash(&value)));
            })?;
        }
        let mut found = Found {
            shown,
            pager: self.pagerduty.seen(),
            hook: self.webhook.seen(),
            messages: BTreeMap::new(),
            ..Found::default()
        };
        self.dump("fenghuo.alerts", |row, _| {
            found.alerts.push(row["value"].clone())
        })?;
        self.dump("fenghuo.deliveries", |row, _| {
            found.deliveries.push(row["value"].clone());
        })?;
        self.dump("fenghuo.dead-letter", |row, _| {
            let headers = row["headers"].as_object();
            let headers = headers.into_iter().flatten();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            found.letters.push(Record {
                offset: row["offset"].as_u64().unwrap_or(0),
                at_ms: 0,
                headers: headers.map(|(name, of)| (name.clone(), text(of))).collect(),
                value: text(&row["value"]),
            });
        })?;
        Ok((found, values))
    }

    fn dump(&self, topic: &str, mut each: impl FnMut(&Value, &str)) -> Result<()> {
        let mut command = self.installation.fenghuo(["log", "dump", "--topic", topic]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no output")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            each(&serde_json::from_str(&line)?, &line);
        }
        let status = child.wait()?;
        ensure!(status.success(), "log dump --topic {topic}: {status}");
        Ok(())
    }

    /// Keeps the folder for a look after a failure.
    fn save(&self, logs: &Path) -> Result<()> {
        std::fs::create_dir_all(logs)?;
        let from = self.installation.path("fenghuo-data").join("log.redb");
        std::fs::copy(from, logs.join("log.redb"))?;
        println!("the folder is in {}", logs.display());
        Ok(())
    }
}

/// The value of a dumped record as it was sent: the same fields in the same order.
fn sent_value(rest: &str) -> Option<String> {
    let value = rest.strip_prefix("\"value\":")?.strip_suffix('}')?;
    Some(value.to_owned())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        let at = |percent: usize| {
            let at = (self.back_ms.len() * percent).div_ceil(100).max(1) - 1;
            self.back_ms.get(at).copied().unwrap_or_default()
        };
        writeln!(
            f,
            "{} kills, {} of them while a page was taken and not answered; {} events acknowledged; \
             {} batches sent again",
            self.back_ms.len(),
            self.mid_page,
            self.acknowledged,
            self.sent_again
        )?;
        writeln!(
            f,
            "from a start to the first answer to a sender: p50 {} ms, p90 {} ms, most {} ms",
            at(50),
            at(90),
            at(100)
        )?;
        writeln!(f, "took {:.0} s", self.took.as_secs_f64())?;
        let verdict = if self.is_good() {
            "nothing lost, nothing twice"
        } else {
            "FAILED"
        };
        write!(f, "verdict: {verdict}")
    }
}
