//! Bodies that are small on the wire and large in memory.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;

use super::probe::{Probe, memory_mib};
use super::site::{HEALTH_MS_MAX, MEMORY_MIB_MAX, PAGE_MS_MAX, Site};
use super::wire::{self, Answer};
use super::{Attack, Finding, Settings, Size};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "many-lines",
        done: "three senders of packed bodies, each of 22 orders of 4,096 lines, as fast as they are taken",
        expected: "p99 of the pages meanwhile and behind them <= 2 s; health p99 <= 100 ms; memory <= 1 GiB",
        on_kafka: false,
        in_short: true,
        play: many_lines,
    },
    Attack {
        name: "always-sold",
        done: "90,000 skus sold in each hour of 15 days, then in each minute of an hour; then a restart",
        expected: "memory <= 1 GiB in both lives; p99 of the pages <= 2 s; that panes were cut is told by the metrics",
        on_kafka: false,
        in_short: false,
        play: always_sold,
    },
    Attack {
        name: "small-bodies",
        done: "zstd and gzip bombs of 2 KB, 120 at once; 50,000 empty events, 64 at once; arrays and objects nested 100,000 deep",
        expected: "what unpacks beyond the bounds, or is no list of events, is refused with 4xx or 503; memory <= 1 GiB; \
               a page after each within 2 s; health p99 <= 100 ms",
        on_kafka: true,
        in_short: true,
        play: small_bodies,
    },
];

/// Lines of an order at most.
const LINES: usize = 4_096;

/// A packed body of orders that have as many lines as they may, of 90,000 skus in all, paid at a time.
fn many_lines_body(number: usize, at_ms: i64) -> Result<Vec<u8>> {
    let at = crate::rfc3339(at_ms);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for order in 0..22 {
        let line = |at: usize| {
            let sku = order * LINES + at;
            format!(
                "{{\"sku_id\":\"many-{sku}\",\"quantity\":1,\"unit_price\":{{\"currency_code\":\"CNY\",\"minor_units\":900}}}}"
            )
        };
        let lines: Vec<String> = (0..LINES).map(line).collect();
        writeln!(
            encoder,
            "{{\"meta\":{{\"event_id\":\"many-{number}-{order}\",\"source\":\"many\",\"occurred_at\":{at:?}}},\
             \"order\":{{\"type\":\"PAID\",\"order_id\":\"many-{number}-{order}\",\"lines\":[{}]}}}}",
            lines.join(",")
        )?;
    }
    Ok(encoder.finish()?)
}

fn many_lines(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = Site::running(settings, "many-lines", "")?;
    // What was priced before has a place, whatever comes then.
    site.page_ms("line-before", Duration::from_secs(5))?;
    let rounds = settings.pick(4, 20);
    let probe = Probe::start(site.address()?)?;
    let (pages, refused) = std::thread::scope(|scope| -> Result<_> {
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                let site = &site;
                scope.spawn(move || -> Result<u64> {
                    let mut other = 0;
                    for round in 0..rounds {
                        let body = many_lines_body(sender * rounds + round, crate::now_ms())?;
                        let gzip = [("content-encoding", "gzip")];
                        other += u64::from(site.send_body(&body, &gzip)?.status != 200);
                    }
                    Ok(other)
                })
            })
            .collect();
        let pages = site.pages("line", settings.pick(5, 20), Duration::from_secs(8))?;
        let mut refused = 0;
        for sender in senders {
            refused += sender.join().unwrap_or(Ok(0))?;
        }
        Ok((pages, refused))
    })?;
    let behind = site.pages("behind", 3, Duration::from_secs(8))?;
    let health = probe.finish();
    let (most, _) = memory_mib(site.daemon()?.id())?;
    finding.measure(format!(
        "{} bodies, {refused} refused for good; pages meanwhile {pages}, behind them {behind}; health \
         {health}; {most} MiB",
        3 * rounds
    ));
    for times in [pages, behind] {
        finding.expect(
            times.percentile(99) <= PAGE_MS_MAX,
            format!("pages took {times}"),
        );
    }
    finding.expect(
        health.percentile(99) <= HEALTH_MS_MAX,
        format!("health took {health}"),
    );
    finding.expect(most <= MEMORY_MIB_MAX, format!("{most} MiB"));
    Ok(finding)
}

fn always_sold(settings: &Settings) -> Result<Finding> {
    const MINUTE_MS: i64 = 60_000;
    let mut finding = Finding::default();
    let mut site = Site::running(settings, "always-sold", "")?;
    let back_ms = (1..=360).rev().map(|hours| hours * 60 * MINUTE_MS);
    let back_ms = back_ms.chain((1..60).rev().map(|minutes| minutes * MINUTE_MS));
    for (number, back_ms) in back_ms.enumerate() {
        let body = many_lines_body(number, crate::now_ms() - back_ms)?;
        let taken = site.send_body(&body, &[("content-encoding", "gzip")])?;
        finding.expect(taken.status == 200, format!("answer {}", taken.status));
    }
    for life in ["first", "second"] {
        let pages = site.pages(life, 10, Duration::from_secs(8))?;
        let (most, _) = memory_mib(site.daemon()?.id())?;
        finding.measure(format!("{life} life: pages {pages}, {most} MiB"));
        finding.expect(
            pages.percentile(99) <= PAGE_MS_MAX,
            format!("pages took {pages}"),
        );
        finding.expect(most <= MEMORY_MIB_MAX, format!("{most} MiB"));
        if life == "first" {
            let cut = site.metric_names("fenghuo_view_entries", &["panes_cut"]);
            finding.expect(cut.is_some(), "nothing was cut");
            finding.measure(cut.unwrap_or_default());
            site.stop()?;
            site.start()?;
        }
    }
    Ok(finding)
}

const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// One kind of body and its headers, sent by so many at once.
struct Volley {
    name: &'static str,
    headers: &'static str,
    body: Vec<u8>,
    at_once: usize,
    rounds: usize,
    /// Whether it is beyond a bound, or no list of events at all.
    is_wrong: bool,
}

fn zstd_bomb(bytes: usize, window_log: u32) -> Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 19)?;
    encoder.window_log(window_log)?;
    // Blank lines, so that what is unpacked is also split.
    let block = vec![b'\n'; 1 << 20];
    for _ in 0..bytes.div_ceil(block.len()) {
        encoder.write_all(&block)?;
    }
    Ok(encoder.finish()?)
}

fn gzip_bomb(bytes: usize) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let block = vec![b' '; 1 << 20];
    for _ in 0..bytes.div_ceil(block.len()) {
        encoder.write_all(&block)?;
    }
    Ok(encoder.finish()?)
}

fn volleys(settings: &Settings) -> Result<Vec<Volley>> {
    let rounds = settings.pick(1, 4);
    let volley = |name, headers, body, at_once, is_wrong| Volley {
        name,
        headers,
        body,
        at_once,
        rounds,
        is_wrong,
    };
    let zstd = "Content-Encoding: zstd\r\n";
    let gzip = "Content-Encoding: gzip\r\n";
    let empty = "{}\n".repeat(50_000).into_bytes();
    let mut volleys = vec![
        volley(
            "zstd 64 MiB, window 128 MiB",
            zstd,
            zstd_bomb(64 << 20, 27)?,
            120,
            true,
        ),
        volley(
            "zstd 16 MiB, window 8 MiB",
            zstd,
            zstd_bomb(16 << 20, 23)?,
            120,
            false,
        ),
        // Without a content type a line is an event, and a bad one is a dead letter beside the others.
        volley("[ x 100,000", "", vec![b'['; 100_000], 64, false),
        volley("{} x 50,000", "", empty.clone(), 64, false),
    ];
    if settings.size == Size::Long {
        let packed = zstd::encode_all(&empty[..], 19)?;
        let deep = b"{\"a\":".repeat(100_000);
        volleys.extend([
            volley("gzip 64 MiB", gzip, gzip_bomb(64 << 20)?, 120, true),
            volley("{} x 50,000, zstd", zstd, packed, 64, false),
            volley("{\"a\": x 100,000", "", deep, 64, false),
        ]);
    }
    Ok(volleys)
}

/// Sends one body from so many connections at once.
fn fire(site: &Site, volley: &Volley) -> Result<Vec<Answer>> {
    let to = site.address()?;
    let bytes = wire::post_bytes(volley.headers, &volley.body);
    let mut answers = Vec::new();
    for _ in 0..volley.rounds {
        let round = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..volley.at_once)
                .map(|_| scope.spawn(|| wire::exchange(to, &bytes, ANSWERED_WITHIN)))
                .collect();
            let answers = senders.into_iter().filter_map(|sender| sender.join().ok());
            answers.collect::<Vec<_>>()
        });
        answers.extend(round);
    }
    Ok(answers)
}

fn small_bodies(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = Site::running(settings, "small-bodies", "")?;
    site.page_ms("before", Duration::from_secs(5))?;
    let probe = Probe::start(site.address()?)?;
    for (number, volley) in volleys(settings)?.iter().enumerate() {
        let answers = fire(&site, volley)?;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        let worst = answers.iter().map(|answer| answer.took).max();
        let is_refused = |status: u16| (400..500).contains(&status) || status == 503;
        // A connection that is closed without an answer is a refusal too.
        let is_bad = statuses.iter().any(|&status| {
            status != 0 && !is_refused(status) && (status != 200 || volley.is_wrong)
        });
        statuses.dedup();
        finding.measure(format!(
            "{} ({} bytes): {statuses:?} within {} ms",
            volley.name,
            volley.body.len(),
            worst.unwrap_or_default().as_millis()
        ));
        finding.expect(!is_bad, format!("{}: answered {statuses:?}", volley.name));
        if !site.is_alive() {
            finding.expect(false, format!("the daemon died of {}", volley.name));
            return Ok(finding);
        }
        let page = site.page_ms(&format!("after-{number}"), Duration::from_secs(8))?;
        finding.expect(
            page.is_some_and(|ms| ms <= PAGE_MS_MAX),
            format!("a page after {} took {page:?} ms", volley.name),
        );
        if page.is_none() {
            break;
        }
    }
    let health = probe.finish();
    let (most, now) = memory_mib(site.daemon()?.id())?;
    finding.measure(format!(
        "health {health}; memory {most} MiB at most, {now} MiB now"
    ));
    finding.expect(
        health.percentile(99) <= HEALTH_MS_MAX,
        format!("health took {health}"),
    );
    finding.expect(most <= MEMORY_MIB_MAX, format!("memory reached {most} MiB"));
    Ok(finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bombs_are_small() {
        let zstd = zstd_bomb(16 << 20, 23).unwrap();
        assert!(zstd.len() < 4_096, "{}", zstd.len());
        let gzip = gzip_bomb(16 << 20).unwrap();
        assert!(gzip.len() < 20_000, "{}", gzip.len());
    }
}
