//! Everything at once, while an honest shop goes on.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use xtask::wait;

use super::probe::{Probe, Times, memory_mib};
use super::receiver::{Mood, Receiver};
use super::receivers::below_floor;
use super::site::{HEALTH_MS_MAX, MEMORY_MIB_MAX, PAGE_MS_MAX, Site, channel, route};
use super::{Attack, Finding, Settings, pass, wire};
use crate::now_ms;
use crate::shop::order;

pub(super) const ATTACKS: &[Attack] = &[Attack {
    name: "all-at-once",
    done: "a stuck channel, costly templates, bombs, bad lines, idle senders, unread answers and slow heads at once, \
           with default limits, while a shop sells",
    expected: "a deterministic page to a healthy receiver p99 <= 2 s, health p99 <= 100 ms, memory <= 1 GiB, \
               and every order that was acknowledged is counted once",
    on_kafka: true,
    in_short: true,
    play: all_at_once,
}];

const NEVER: Duration = Duration::from_secs(8);
/// How long a sender goes on with one batch.
const HANDED_IN_WITHIN: Duration = Duration::from_secs(30);
const COUNTED_WITHIN: Duration = Duration::from_secs(60);
/// Orders in a batch of the honest shop, and the pause after it.
const BATCH: usize = 50;
const PAUSE: Duration = Duration::from_millis(250);

/// What the threads have in common.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// Orders that were acknowledged, each once.
    acknowledged: AtomicU64,
    /// Orders whose senders never had an answer: they may be counted or not.
    unknown: AtomicU64,
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }
}

/// Sends events until they are acknowledged. Of `orders` among them an account is kept.
fn hand_in(site: &Site, shared: &Shared, events: &[Value], orders: u64) {
    let until = Instant::now() + HANDED_IN_WITHIN;
    while Instant::now() < until {
        if site
            .send(events)
            .is_ok_and(|taken| taken.status == 200 && taken.rejected == 0)
        {
            shared.acknowledged.fetch_add(orders, Ordering::Relaxed);
            return;
        }
        if !site.is_alive() {
            break;
        }
        pass(PAUSE);
    }
    shared.unknown.fetch_add(orders, Ordering::Relaxed);
}

fn shop(site: &Site, shared: &Shared) {
    for batch in 0.. {
        if !shared.goes_on() {
            break;
        }
        let at_ms = now_ms();
        let events: Vec<Value> = (0..BATCH)
            .map(|one| {
                let id = format!("real-{batch}-{one}");
                order(&id, &format!("s-{one}"), 5_000, at_ms)
            })
            .collect();
        hand_in(site, shared, &events, BATCH as u64);
        pass(PAUSE);
    }
}

/// Sells below the floor on the routes of receivers that are stuck or costly.
fn stuck(site: &Site, shared: &Shared) {
    for batch in 0..2_000 {
        if !shared.goes_on() {
            break;
        }
        let mut events = below_floor(&format!("stuck-{batch}"), 50);
        events.extend(below_floor(&format!("costly-{batch}"), 2));
        hand_in(site, shared, &events, 52);
        pass(PAUSE * 2);
    }
}

/// Bodies and lines that nobody can take, a few at a time.
fn garbage(site: &Site, shared: &Shared) -> Result<()> {
    let to = site.address()?;
    let lines = "{}\n".repeat(50_000).into_bytes();
    let bomb = zstd::encode_all(&vec![b'\n'; 64 << 20][..], 3)?;
    let zstd = "Content-Encoding: zstd\r\n";
    let bodies = [
        wire::post_bytes("", &lines),
        wire::post_bytes(zstd, &bomb),
        wire::post_bytes(zstd, &zstd::encode_all(&lines[..], 3)?),
        wire::post_bytes("", &vec![b'['; 100_000]),
    ];
    for round in 0..10_000 {
        if !shared.goes_on() {
            break;
        }
        let body = &bodies[round % bodies.len()];
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| wire::exchange(to, body, NEVER));
            }
        });
        pass(PAUSE);
    }
    Ok(())
}

/// Connections that hold a place: renewed, since good doors close them.
fn holders(site: &Site, shared: &Shared) -> Result<()> {
    let to = site.address()?;
    let post =
        "POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\n";
    let asked = "GET /screen.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(32);
    let idle = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    let large = format!("{post}Content-Length: 99000000000\r\n\r\n");
    let live = "GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned();
    let slow = "GET / HTTP/1.1\r\nX: ".to_owned();
    let kinds = [asked, idle, large, live, slow];
    for _ in 0..200 {
        if !shared.goes_on() {
            break;
        }
        let mut streams = Vec::new();
        for number in 0..600 {
            let Ok(mut stream) = wire::connect(to, PAUSE) else {
                continue;
            };
            stream.set_write_timeout(Some(Duration::from_millis(20)))?;
            // Refused ones are closed; the next round comes.
            let _ = stream.write_all(kinds[number % kinds.len()].as_bytes());
            streams.push(stream);
        }
        for _ in 0..20 {
            if shared.goes_on() {
                pass(PAUSE);
            }
        }
    }
    Ok(())
}

/// Pages of new skus, one after the other.
fn pages(site: &Site, shared: &Shared, time: Duration) -> (Times, usize) {
    let (mut times, mut missing) = (Vec::new(), 0);
    let until = Instant::now() + time;
    for number in 0.. {
        if Instant::now() >= until || !site.is_alive() {
            break;
        }
        let sku = format!("page-{number}");
        let began_ms = now_ms();
        hand_in(site, shared, &below_floor(&sku, 1), 1);
        let came = site.pager.wait_for(&format!("\"{sku}-0\""), NEVER);
        missing += usize::from(came.is_none());
        let took = came.map_or(NEVER.as_millis() as i64, |at_ms| at_ms - began_ms);
        times.push(took.max(0) as u64);
        pass(PAUSE);
    }
    (Times::new(times), missing)
}

fn all_at_once(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let silent = Receiver::start(Mood::Silent)?;
    let mut site = Site::new(settings, "all-at-once")?;
    // On the sample page of `check` it costs nothing.
    let template = "{% if entity.sku is startingwith('costly') %}{% for a in range(1000) %}\
        {% for b in range(1000) %}{% endfor %}{% endfor %}{% endif %}x";
    let tables = channel("stuck", &silent.url(), "")
        + &channel("costly", &silent.url(), &format!("text = {template:?}"))
        + &route("entity = { sku = \"stuck-*\" }", "stuck")
        + &route("entity = { sku = \"costly-*\" }", "costly")
        + &site.pager_alone();
    site.configure("", &tables)?;
    site.start()?;
    let shared = Shared::default();
    let probe = Probe::start(site.address()?)?;
    let (pages, missing) = std::thread::scope(|scope| {
        scope.spawn(|| shop(&site, &shared));
        scope.spawn(|| stuck(&site, &shared));
        // What they send is refused or not; what follows from it is measured below.
        scope.spawn(|| garbage(&site, &shared).ok());
        scope.spawn(|| holders(&site, &shared).ok());
        let pages = pages(&site, &shared, settings.together);
        shared.is_over.store(true, Ordering::Relaxed);
        pages
    });
    let health = probe.finish();
    finding.measure(format!(
        "pages {pages}, {missing} never came; health {health}"
    ));
    finding.expect(
        pages.percentile(99) <= PAGE_MS_MAX,
        format!("pages took {pages}"),
    );
    finding.expect(
        health.percentile(99) <= HEALTH_MS_MAX,
        format!("health took {health} (5000 is never)"),
    );
    if !site.is_alive() {
        finding.expect(false, "the daemon died");
        return Ok(finding);
    }
    let (most, now) = memory_mib(site.daemon()?.id())?;
    finding.measure(format!("memory {most} MiB at most, {now} MiB now"));
    finding.expect(most <= MEMORY_MIB_MAX, format!("memory reached {most} MiB"));
    let acknowledged = shared.acknowledged.load(Ordering::Relaxed);
    let unknown = shared.unknown.load(Ordering::Relaxed);
    let counted = wait::until("every order", COUNTED_WITHIN, || {
        let orders = site.orders().ok()?;
        (orders >= acknowledged).then_some(orders)
    });
    // One that does not even answer has counted nothing that can be shown.
    let counted = counted.or_else(|_| site.orders()).unwrap_or_default();
    finding.measure(format!(
        "{acknowledged} orders acknowledged, {counted} counted, {unknown} without an answer"
    ));
    finding.expect(
        (acknowledged..=acknowledged + unknown).contains(&counted),
        format!("{counted} orders are counted, {acknowledged} were acknowledged"),
    );
    Ok(finding)
}
