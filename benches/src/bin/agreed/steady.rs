//! A steady rate of orders with pages in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fenghuo_benches::machine::{Paged, Result, cpu_s, delays_ms, now_ms, percentile, receiver};
use fenghuo_log::{Append, Log, TopicPartition};

use crate::broker::{Broker, CATALOG, ORDERS, PARTITIONS, order};
use crate::daemon::Daemon;
use crate::{Arguments, events};

/// How often orders are handed to the broker.
const TICK: Duration = Duration::from_millis(10);
/// How long the broker has orders alone: to warm up, and then to be measured without the daemon.
const BROKER_WARM: Duration = Duration::from_secs(8);
const BROKER_ALONE: Duration = Duration::from_secs(8);
/// How long the daemon runs before it is measured.
const DAEMON_WARM: Duration = Duration::from_secs(10);
/// How long the last pages are waited for at most.
const PAGED_WITHIN: Duration = Duration::from_secs(20);

/// What a steady rate came to. Shares are of one core.
#[derive(Clone, Debug)]
pub struct Steady {
    /// Orders a second that were sent.
    pub rate: f64,
    /// The daemon's share.
    pub daemon: f64,
    /// The broker's share.
    pub broker: f64,
    /// The broker's share before there was a daemon: what the sender costs it.
    pub broker_alone: f64,
    /// This program's share, which is the sender's.
    pub sender: f64,
    /// Pages expected.
    pub pages: usize,
    /// From send to receipt, ms, ascending, of those that came.
    pub delays_ms: Vec<f64>,
}

impl Steady {
    /// The delay in ms below which so many of a hundred lie.
    pub fn delay_ms(&self, percent: usize) -> f64 {
        percentile(&self.delays_ms, percent)
    }
}

/// Sends at a rate until it is stopped.
struct Sender {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Sender {
    fn start(broker: &Broker, rate: u64) -> Result<Self> {
        let client = broker.client(&[])?;
        let (sent, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = std::thread::spawn(move || -> Result<()> {
            let began = Instant::now();
            let mut number = 0;
            let mut tick = 0;
            while !stopped.load(Ordering::Relaxed) {
                tick += 1;
                let wait = (TICK * tick).saturating_sub(began.elapsed());
                std::thread::sleep(wait);
                // What an answer of the broker held up is sent with the next ones.
                let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
                let at_ms = now_ms();
                client.append((number..due).map(|of| order(of, at_ms)).collect())?;
                number = due.max(number);
                counted.store(number, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(Self {
            sent,
            stop,
            thread: Some(thread),
        })
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Err(_)) => Err("the sender panicked".into()),
            Some(Ok(ended)) => ended,
            None => Ok(()),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Measures one rate on a broker of its own.
pub fn measure(arguments: &Arguments, rate: u64) -> Result<Steady> {
    let broker = Broker::start(arguments)?;
    let (hook, paged) = receiver()?;
    let sender = Sender::start(&broker, rate)?;
    std::thread::sleep(BROKER_WARM);
    let broker_alone = share(BROKER_ALONE, || broker.cpu_s());
    let mut daemon = Daemon::start(arguments, &broker, hook)?;
    let pages = arguments.pages as usize;
    // Prices are told before anything is sold.
    let prompt = broker.client(&[("linger.ms", "0")])?;
    let place = |topic, number: usize| TopicPartition::new(topic, number as u32 % PARTITIONS);
    let floors = (0..pages).map(|number| {
        let (sku, event) = events::floor(number as u64, now_ms());
        Append::new(place(CATALOG, number), Some(sku.into_bytes()), event)
    });
    prompt.append(floors.collect())?;
    daemon.until_ready()?;
    daemon.until_judged(sender.sent())?;
    std::thread::sleep(DAEMON_WARM);

    let (began, sent) = (Instant::now(), sender.sent());
    let used = || [daemon.cpu_s(), broker.cpu_s(), cpu_s(std::process::id())];
    let before = used();
    let mut ordered: Paged = Vec::with_capacity(pages);
    let whole = Duration::from_secs(arguments.seconds);
    for number in 0..pages {
        // Not evenly, so that no commit interval beats against it: up to a third of a gap late.
        let gap = whole / pages.max(1) as u32;
        let late = gap.mul_f64((number * 7_919 % 97) as f64 / 291.0);
        let due = gap * number as u32 + late;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let (sku, event) = events::dip(number as u64, now_ms());
        ordered.push((sku.clone(), Instant::now()));
        prompt.append(vec![Append::new(
            place(ORDERS, number),
            Some(sku.into_bytes()),
            event,
        )])?;
    }
    std::thread::sleep(whole.saturating_sub(began.elapsed()));
    let after = used();
    let took = began.elapsed().as_secs_f64();
    let events = sender.sent() - sent;
    let received = || paged.lock().map_or(0, |paged| paged.len());
    while received() < pages && began.elapsed() < whole + PAGED_WITHIN {
        std::thread::sleep(TICK);
    }
    sender.end()?;
    let paged = paged.lock().map_err(|_| "the receiver panicked")?;
    let share = |at: usize| (after[at] - before[at]) / took;
    Ok(Steady {
        rate: events as f64 / took,
        daemon: share(0),
        broker: share(1),
        broker_alone,
        sender: share(2),
        pages,
        delays_ms: delays_ms(&ordered, &paged),
    })
}

/// The share of a core that is used in the time to come.
fn share(time: Duration, used: impl Fn() -> f64) -> f64 {
    let (began, before) = (Instant::now(), used());
    std::thread::sleep(time);
    (used() - before) / began.elapsed().as_secs_f64()
}
