//! Chaos: instances of the daemon on a real broker, killed, stopped, cut off and starved by a plan
//! from a seed while a shop is busy; and the verdict over what became of its events and pages.
//!
//! It must never know how the daemon works: it sees HTTP, topics, and what receivers get.

pub mod folder;
pub mod plan;
pub mod random;
pub mod relay;
pub mod shown;
pub mod traffic;
pub mod verdict;
pub mod watch;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::wait;

use crate::producer::Stream;
use crate::{consumer, now_ms};
use plan::{Fault, Plan, Planned, Trouble};
use shown::Shown;
use traffic::{Ledger, Message, Shop};
use verdict::{Check, Found, Repeats};
use watch::Watch;
use world::{Instance, SOURCES, World};

/// Between two looks at the plan, the shop, or whether all is counted.
const TICK: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(500);
/// How long after the traffic everything has to be counted.
const COUNTED_WITHIN: Duration = Duration::from_secs(120);
/// How long after that every trouble has to be over and told.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);
/// How long nothing may be missing until a trouble has to be seen: a price at once, and stock when
/// its pane of 10 s closes, 5 s later, with all that its sources say.
const DIP_SEEN_MS: i64 = 5_000;
const SOLD_OUT_SEEN_MS: i64 = 25_000;
/// What the acceptance asks of a takeover.
const TAKEOVER_MS_MAX: i64 = 30_000;

/// A kill and how long the others took to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// Who was killed.
    pub instance: usize,
    /// Into the traffic, in ms.
    pub at_ms: i64,
    /// How long something was missing; `None` where it never came back.
    pub took_ms: Option<i64>,
    /// Nothing else was broken meanwhile.
    pub is_alone: bool,
}

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every check.
    pub checks: Vec<Check>,
    /// Every kill of an instance.
    pub takeovers: Vec<Takeover>,
    /// Pages that came again.
    pub repeats: Repeats,
    /// From each trouble's first message to its first page, in ms, sorted.
    pub page_delays_ms: Vec<i64>,
    /// Rows of totals that another instance knew better, in the end.
    pub old_rows: usize,
    /// From the end of the traffic until everything was counted.
    pub counted: Duration,
    /// Instances that ended by themselves and were started again.
    pub ended: Vec<String>,
    /// Lines of the instances' logs at level ERROR.
    pub errors: Vec<String>,
    /// Where the logs of the instances are.
    pub logs: PathBuf,
}

impl Report {
    /// Whether nothing speaks against it.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.problems.is_empty())
    }
}

/// Carries out a plan and judges it. The logs of the instances go to `logs`.
///
/// # Errors
/// When the world cannot be started or looked at; what the daemon does wrong is in the report.
pub fn run(plan: &Plan, logs: &Path) -> Result<Report> {
    let mut world = World::start(plan.settings.instances)?;
    let listens = world.instances.iter();
    let watch = Watch::start(listens.map(|one| one.installation.listen()).collect());
    let bootstrap = world.kafka.bootstrap();
    let began = Instant::now();
    let began_ms = now_ms();
    let traffic = start_traffic(plan, bootstrap.clone(), began)?;
    let happened = carry_out(plan, &mut world, began)?;
    while !traffic.is_finished() {
        world.supervise()?;
        until(Instant::now() + TICK)?;
    }
    let (ledger, sent) = match traffic.join() {
        Ok(sent) => sent.context("the shop's traffic")?,
        Err(_) => bail!("the shop's traffic panicked"),
    };

    world.kafka.wait_until_up()?;
    let ended_at = Instant::now();
    let shown = until_counted(&mut world, &ledger)?;
    let counted = ended_at.elapsed();
    println!(
        "{:>7.1} s  waited {:.1} s for the counts",
        began.elapsed().as_secs_f64(),
        counted.as_secs_f64()
    );
    until_settled(&mut world, &bootstrap)?;
    println!("{:>7.1} s  judging", began.elapsed().as_secs_f64());
    let delays = watch::delays(&sent, &watch.finish());
    let mut found = look(&world, &bootstrap, shown)?;
    found.unseen = unseen(&ledger, &delays);
    found.pager = world.pagerduty.seen();
    found.hook = world.webhook.seen();
    world.save_answers(logs)?;
    save_topic(&logs.join("alerts.jsonl"), &found.alerts)?;
    save_topic(&logs.join("deliveries.jsonl"), &found.deliveries)?;
    let not_ended_well = world.terminate()?;
    let mut checks = verdict::checks(&ledger, &found);
    let takeovers = takeovers(&happened, began_ms, &delays);
    checks.push(took_over(&takeovers));
    let ended = world.ended.clone();
    checks.push(Check::new(
        "nobody ends but who is told to, and then well",
        format!("{} instances", world.instances.len()),
        ended.iter().cloned().chain(not_ended_well).collect(),
    ));
    let all_logs = world.instances.iter().flat_map(Instance::logs);
    let errors = all_logs.flat_map(|log| errors_of(&log)).collect();
    Ok(Report {
        checks,
        takeovers,
        repeats: verdict::repeats(&found),
        page_delays_ms: page_delays_ms(&ledger, &found),
        old_rows: found.shown.old,
        counted,
        ended,
        errors,
        logs: world.save_logs(logs)?,
    })
}

/// Orders paid so far, with the times at which it was so many.
type Sent = Vec<(i64, i64)>;

/// Produces what the shop does until the traffic is over and acknowledged.
fn start_traffic(
    plan: &Plan,
    bootstrap: String,
    began: Instant,
) -> Result<JoinHandle<Result<(Ledger, Sent)>>> {
    let mut shop = Shop::new(plan);
    let mut streams = BTreeMap::new();
    for topic in SOURCES {
        streams.insert(topic, Stream::start(&bootstrap, topic)?);
    }
    let produce = move || {
        let mut sent = Vec::new();
        let mut send = |messages: Vec<Message>| -> Result<()> {
            for Message { topic, key, value } in messages {
                let stream = streams.get_mut(topic).context("an unknown topic")?;
                stream.send(&key, &value)?;
            }
            Ok(())
        };
        send(shop.open(now_ms()))?;
        loop {
            let since_ms = began.elapsed().as_millis() as u64;
            send(shop.tick(since_ms, now_ms()))?;
            sent.push((now_ms(), shop.ledger().sold.all.orders));
            if shop.is_closed(since_ms) {
                break;
            }
            until(Instant::now() + TICK)?;
        }
        for stream in streams.into_values() {
            stream.finish()?;
        }
        Ok((shop.ledger().clone(), sent))
    };
    let thread = std::thread::Builder::new().name("shop".to_owned());
    Ok(thread.spawn(produce)?)
}

fn until(time: Instant) -> Result<()> {
    let limit = time.saturating_duration_since(Instant::now()) + Duration::from_secs(60);
    wait::until("the time", limit, || (Instant::now() >= time).then_some(()))
}

/// Breaks and mends as planned; gives the times at which it was really done.
fn carry_out(plan: &Plan, world: &mut World, began: Instant) -> Result<Vec<Planned>> {
    let mut steps = Vec::new();
    for (number, planned) in plan.faults.iter().enumerate() {
        steps.push((planned.from_ms, number, true));
        steps.push((planned.to_ms, number, false));
    }
    steps.sort_unstable();
    let mut happened = plan.faults.clone();
    for (at_ms, number, begins) in steps {
        let at = began + Duration::from_millis(at_ms);
        while Instant::now() < at {
            world.supervise()?;
            until(at.min(Instant::now() + TICK))?;
        }
        let now_ms = began.elapsed().as_millis() as u64;
        let fault = plan.faults[number].fault;
        if begins {
            happened[number].from_ms = now_ms;
            world.begin(fault)?;
        } else {
            world.end(fault)?;
            happened[number].to_ms = began.elapsed().as_millis() as u64;
        }
        let what = if begins { "" } else { "over: " };
        println!("{:>7.1} s  {what}{fault}", now_ms as f64 / 1e3);
    }
    let end = began + Duration::from_millis(plan.settings.traffic_ms);
    while Instant::now() < end {
        world.supervise()?;
        until(end.min(Instant::now() + TICK))?;
    }
    Ok(happened)
}

/// Waits until the instances show all that was sent, or for as long as they may take.
fn until_counted(world: &mut World, ledger: &Ledger) -> Result<Shown> {
    let began = Instant::now();
    let mut last = Shown::default();
    while began.elapsed() < COUNTED_WITHIN {
        world.supervise()?;
        let processes = world.instances.iter().filter_map(Instance::process);
        // One that is not up yet does not answer.
        if let Ok(shown) = Shown::of(processes) {
            let is_counted = verdict::totals(&ledger.sold, &shown.sold).is_empty()
                && verdict::levels(ledger, &shown).is_empty();
            last = shown;
            if is_counted {
                break;
            }
        }
        until(Instant::now() + LOOK)?;
    }
    Ok(last)
}

/// Waits until every trouble is over and told, or for as long as that may take.
fn until_settled(world: &mut World, bootstrap: &str) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < SETTLED_WITHIN {
        world.supervise()?;
        let alerts = json_records(bootstrap, "fenghuo.alerts")?;
        let deliveries = json_records(bootstrap, "fenghuo.deliveries")?;
        if verdict::is_settled(&alerts, &deliveries) {
            return Ok(());
        }
        until(Instant::now() + 4 * LOOK)?;
    }
    Ok(())
}

fn json_records(bootstrap: &str, topic: &str) -> Result<Vec<Value>> {
    consumer::read(bootstrap, topic)?
        .iter()
        .map(|record| {
            serde_json::from_str(&record.value)
                .with_context(|| format!("offset {} of {topic}", record.offset))
        })
        .collect()
}

/// Reads the topics, and asks the instances once more: what was counted too often since shows.
fn look(world: &World, bootstrap: &str, counted: Shown) -> Result<Found> {
    let mut messages = BTreeMap::new();
    for topic in SOURCES {
        messages.insert(topic, consumer::read(bootstrap, topic)?.len() as u64);
    }
    let processes = world.instances.iter().filter_map(Instance::process);
    Ok(Found {
        shown: Shown::of(processes).unwrap_or(counted),
        alerts: json_records(bootstrap, "fenghuo.alerts")?,
        deliveries: json_records(bootstrap, "fenghuo.deliveries")?,
        letters: consumer::read(bootstrap, "fenghuo.dead-letter")?,
        messages,
        ..Found::default()
    })
}

/// Keeps what a topic held, a record a line.
fn save_topic(path: &Path, records: &[Value]) -> Result<()> {
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    std::fs::write(path, lines).with_context(|| format!("writing {}", path.display()))
}

fn takeovers(happened: &[Planned], began_ms: i64, delays: &[(i64, i64)]) -> Vec<Takeover> {
    let mut takeovers = Vec::new();
    for (number, planned) in happened.iter().enumerate() {
        let Fault::Kill(instance) = planned.fault else {
            continue;
        };
        let at_ms = planned.from_ms as i64;
        let took_ms = watch::takeover_ms(began_ms + at_ms, delays);
        let until_ms = planned.from_ms + took_ms.unwrap_or(i64::MAX / 2) as u64;
        // What was mended shortly before is still felt.
        let is_alone = happened.iter().enumerate().all(|(other, with)| {
            let is_felt = with.from_ms < until_ms && with.to_ms + 10_000 > planned.from_ms;
            other == number || matches!(with.fault, Fault::Receivers(_)) || !is_felt
        });
        takeovers.push(Takeover {
            instance,
            at_ms,
            took_ms,
            is_alone,
        });
    }
    takeovers
}

/// Takeovers that nothing else disturbed are in time, and every one comes to its end.
fn took_over(takeovers: &[Takeover]) -> Check {
    let mut problems = Vec::new();
    for takeover in takeovers {
        let at_s = takeover.at_ms as f64 / 1e3;
        match takeover.took_ms {
            None => problems.push(format!("the kill at {at_s:.1} s was never made good")),
            Some(took_ms) if takeover.is_alone && took_ms > TAKEOVER_MS_MAX => {
                problems.push(format!("the kill at {at_s:.1} s took {took_ms} ms"));
            }
            Some(_) => {}
        }
    }
    let about = format!("{} kills", takeovers.len());
    Check::new("the others take over from who was killed", about, problems)
}

/// Troubles that were over before anybody could see them: who never had the time to come up with
/// what is going on cannot tell of it, and has to page nobody for what is over.
fn unseen(ledger: &Ledger, delays: &[(i64, i64)]) -> BTreeSet<String> {
    let troubles = ledger.troubles.iter().filter(|(_, told)| {
        let needed_ms = match told.trouble {
            Trouble::Dip => DIP_SEEN_MS,
            Trouble::SoldOut => SOLD_OUT_SEEN_MS,
        };
        watch::longest_calm_ms(told.from_ms, told.to_ms, delays) < needed_ms
    });
    troubles.map(|(sku, _)| sku.clone()).collect()
}

fn page_delays_ms(ledger: &Ledger, found: &Found) -> Vec<i64> {
    let mut delays_ms = Vec::new();
    for (sku, told) in &ledger.troubles {
        // A sell-out is judged when its pane closes, which says nothing of how fast a page is.
        if told.trouble == Trouble::SoldOut {
            continue;
        }
        let first =
            found.hook.taken.iter().find(|hook| {
                hook.kind == "alert.firing" && hook.data["entity"]["sku"] == sku.as_str()
            });
        delays_ms.extend(first.map(|hook| hook.at_ms - told.from_ms));
    }
    delays_ms.sort_unstable();
    delays_ms
}

fn errors_of(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains("ERROR"));
    lines.map(ToOwned::to_owned).collect()
}

/// The value below which so many of a hundred lie.
fn percentile(sorted: &[i64], percent: usize) -> i64 {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        let took = |is_it: &dyn Fn(&Takeover) -> bool| {
            let kills = self.takeovers.iter().filter(|takeover| is_it(takeover));
            let mut took: Vec<i64> = kills.filter_map(|takeover| takeover.took_ms).collect();
            took.sort_unstable();
            took
        };
        let told = |sorted: &[i64]| {
            format!(
                "p50 {:.1} s, p90 {:.1} s, most {:.1} s",
                percentile(sorted, 50) as f64 / 1e3,
                percentile(sorted, 90) as f64 / 1e3,
                percentile(sorted, 100) as f64 / 1e3
            )
        };
        let all = took(&|_| true);
        writeln!(f, "takeover after a kill ({}): {}", all.len(), told(&all))?;
        let alone = took(&|takeover| takeover.is_alone);
        writeln!(
            f,
            "  with nothing else broken ({}): {}",
            alone.len(),
            told(&alone)
        )?;
        let delays = &self.page_delays_ms;
        writeln!(
            f,
            "from an order below its floor to its page ({}): {}",
            delays.len(),
            told(delays)
        )?;
        let Repeats {
            repeated,
            after_resolve,
            given_up,
        } = self.repeats;
        writeln!(
            f,
            "pages that came again under their key: {repeated}, after their resolve: \
             {after_resolve}; given up: {given_up}"
        )?;
        writeln!(
            f,
            "rows shown that another instance knew better: {}",
            self.old_rows
        )?;
        writeln!(
            f,
            "counted {:.1} s after the last event",
            self.counted.as_secs_f64()
        )?;
        for ended in &self.ended {
            writeln!(f, "ended by itself: {ended}")?;
        }
        for error in self.errors.iter().take(10) {
            writeln!(f, "log: {error}")?;
        }
        writeln!(f, "logs: {}", self.logs.display())?;
        let verdict = if self.is_good() {
            "nothing lost, nothing twice"
        } else {
            "FAILED"
        };
        write!(f, "verdict: {verdict}")
    }
}
