//! Bad receivers, and pages that are costly to write.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use xtask::wait;

use super::probe::{Probe, memory_mib};
use super::receiver::{Mood, Receiver};
use super::site::{HEALTH_MS_MAX, MEMORY_MIB_MAX, PAGE_MS_MAX, Site, channel, route};
use super::{Attack, Finding, Settings};
use crate::now_ms;
use crate::shop::{floor, order};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "stuck-channel",
        done: "a webhook that never answers has thousands of pages on its route; then a healthy one gets 20",
        expected: "p99 of the healthy one <= 2 s; the stuck one is named by /-/ready and the metrics; health p99 <= 100 ms",
        on_kafka: true,
        in_short: true,
        play: stuck_channel,
    },
    Attack {
        name: "burst-of-pages",
        done: "hundreds of skus are sold below their floors at once, far more than a channel's rate; once that is \
               decided, a few more",
        expected: "p99 of those few <= 2 s, and that pages wait is named by /-/ready and the metrics",
        on_kafka: true,
        in_short: true,
        play: burst_of_pages,
    },
    Attack {
        name: "costly-template",
        done: "a channel's title and text are loops of 10^8 steps and of endless output",
        expected: "the page comes as plain text within 2 s, and another channel's too",
        on_kafka: true,
        in_short: true,
        play: costly_template,
    },
    Attack {
        name: "endless-answers",
        done: "two webhooks answer each of hundreds of pages without end: one with interim answers, one with a body",
        expected: "p99 of a healthy channel's pages <= 2 s, health p99 <= 100 ms, memory below the ceiling",
        on_kafka: true,
        in_short: true,
        play: endless_answers,
    },
];

/// Events that sell so many skus below their floors.
pub fn below_floor(prefix: &str, skus: usize) -> Vec<Value> {
    let at_ms = now_ms();
    let pair = |number: usize| {
        let sku = format!("{prefix}-{number}");
        [
            floor(&sku, 1_800, at_ms),
            order(&format!("o-{sku}"), &sku, 180, at_ms),
        ]
    };
    (0..skus).flat_map(pair).collect()
}

fn burst_of_pages(settings: &Settings) -> Result<Finding> {
    const WORDS: [&str; 1] = ["channel.behind"];
    let mut finding = Finding::default();
    let mut site = Site::new(settings, "burst-of-pages")?;
    // At the rate that a channel has without another one.
    let tables = format!(
        "[[channel]]\nname = \"pager\"\ntype = \"webhook\"\nurl = {:?}\nunsigned = true\n{}",
        site.pager.url(),
        route("", "pager")
    );
    site.configure("", &tables)?;
    site.start()?;
    let burst = settings.pick(600, 4_000);
    for part in below_floor("burst", burst).chunks(1_000) {
        site.send(part)?;
    }
    // What is decided in the middle of a burst is in the middle of those that wait.
    wait::until("all of it to be decided", Duration::from_secs(30), || {
        let line = site.metric_names("fenghuo_view_entries", &["\"episodes\""])?;
        let (_, decided) = line.rsplit_once(' ')?;
        (decided.parse::<f64>().ok()? >= burst as f64).then_some(())
    })?;
    let pages = site.pages("real", settings.pick(5, 20), Duration::from_secs(10))?;
    finding.measure(format!("pages behind a burst of {burst}: {pages}"));
    finding.expect(
        pages.percentile(99) <= PAGE_MS_MAX,
        format!("pages took {pages}"),
    );
    let told = wait::until("it to be told", Duration::from_secs(20), || {
        site.ready_names(&WORDS)
    });
    finding.expect(
        told.is_ok(),
        "/-/ready does not name the channel that is behind",
    );
    let metric = site.metric_names("fenghuo_condition", &WORDS);
    finding.expect(metric.is_some(), "no fenghuo_condition names it");
    Ok(finding)
}

fn stuck_channel(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let stuck = Receiver::start(Mood::Silent)?;
    let mut site = Site::new(settings, "stuck-channel")?;
    let tables = channel("silent-hook", &stuck.url(), "in_flight_max = 1000")
        + &route("entity = { sku = \"stuck-*\" }", "silent-hook")
        + &site.pager_alone();
    // `pager_alone` ends with its route, and a route's order is what counts.
    site.configure("", &tables)?;
    site.start()?;
    let count = settings.pick(1_500, 3_000);
    for part in below_floor("stuck", count).chunks(1_000) {
        site.send(part)?;
    }
    let held = wait::until("pages at the stuck one", Duration::from_secs(30), || {
        (stuck.count() >= 8).then_some(())
    });
    finding.expect(held.is_ok(), "the stuck receiver was not asked");
    let probe = Probe::start(site.address()?)?;
    let pages = site.pages("price", 20, Duration::from_secs(8))?;
    finding.measure(format!(
        "{} requests held, {count} pages on its route",
        stuck.count()
    ));
    finding.measure(format!("healthy pages {pages}"));
    finding.expect(
        pages.percentile(99) <= PAGE_MS_MAX,
        format!("pages of the healthy channel took {pages}"),
    );
    let named = wait::until("the stuck one to be told", Duration::from_secs(30), || {
        site.ready_names(&["silent-hook"])
    });
    finding.expect(
        named.is_ok(),
        "/-/ready does not name the channel that is stuck",
    );
    let metric = site.metric_names("fenghuo_condition", &["silent-hook"]);
    finding.expect(metric.is_some(), "no fenghuo_condition names the channel");
    let paged = site.pager.wait_for("fenghuo.", Duration::from_secs(10));
    finding.expect(
        paged.is_some(),
        "nobody was paged for the channel that is stuck",
    );
    let health = probe.finish();
    finding.measure(format!("health {health}"));
    finding.expect(
        health.percentile(99) <= HEALTH_MS_MAX,
        format!("health took {health}"),
    );
    let (most, _) = memory_mib(site.daemon()?.id())?;
    finding.measure(format!("{most} MiB"));
    finding.expect(most <= MEMORY_MIB_MAX, format!("{most} MiB"));
    Ok(finding)
}

fn endless_answers(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let interim = Receiver::start(Mood::Interim)?;
    let endless = Receiver::start(Mood::Endless)?;
    let mut site = Site::new(settings, "endless-answers")?;
    let tables = channel("interim", &interim.url(), "in_flight_max = 100")
        + &channel("endless", &endless.url(), "in_flight_max = 100")
        + &route("entity = { sku = \"pour-*\" }", "interim")
        + &route("entity = { sku = \"flow-*\" }", "endless")
        + &site.pager_alone();
    site.configure("", &tables)?;
    site.start()?;
    for prefix in ["pour", "flow"] {
        for part in below_floor(prefix, settings.pick(100, 400)).chunks(1_000) {
            site.send(part)?;
        }
    }
    let asked = wait::until("pages at both", Duration::from_secs(30), || {
        (interim.count() >= 8 && endless.count() >= 8).then_some(())
    });
    finding.expect(asked.is_ok(), "the receivers were not asked");
    let probe = Probe::start(site.address()?)?;
    let pages = site.pages("price", 20, Duration::from_secs(8))?;
    let health = probe.finish();
    let (most, _) = memory_mib(site.daemon()?.id())?;
    finding.measure(format!(
        "{} and {} requests; healthy pages {pages}; health {health}; {most} MiB",
        interim.count(),
        endless.count()
    ));
    finding.expect(
        pages.percentile(99) <= PAGE_MS_MAX,
        format!("pages of the healthy channel took {pages}"),
    );
    finding.expect(
        health.percentile(99) <= HEALTH_MS_MAX,
        format!("health took {health}"),
    );
    finding.expect(most <= MEMORY_MIB_MAX, format!("{most} MiB"));
    Ok(finding)
}

/// The first one costs nothing on the sample page of `check`; the others are refused there.
const LOOPS: [&str; 5] = [
    "{% if entity.sku is startingwith('costly') %}{% for a in range(1000) %}{% for b in range(1000) %}\
        {% endfor %}{% endfor %}{% endif %}{{ rule }}",
    "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}{{ rule }}",
    "{% for a in range(10000) %}{% for b in range(10000) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
    "{% set ns = namespace(x='x') %}{% for a in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{{ range(100000)|list|join('x' * 1000000) }}",
];

fn costly_template(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let templates = settings.pick(&LOOPS[..1], &LOOPS[..]);
    for (number, template) in templates.iter().enumerate() {
        let costly = Receiver::start(Mood::Healthy)?;
        let mut site = Site::new(settings, &format!("costly-template-{number}"))?;
        let more = format!("title = {template:?}\ntext = {template:?}");
        let tables = channel("costly", &costly.url(), &more)
            + &route("entity = { sku = \"costly-*\" }", "costly")
            + &site.pager_alone();
        site.configure("", &tables)?;
        let check = site
            .installation
            .fenghuo(["check", "--config", "fenghuo.toml"])
            .output()?;
        if check.status.code() == Some(78) {
            finding.measure(format!("template {number} is refused by check"));
            continue;
        }
        site.start()?;
        site.sell_below("costly-1")?;
        let sent_ms = now_ms();
        let probe = Probe::start(site.address()?)?;
        let other = site.page_ms("other-1", Duration::from_secs(8))?;
        let came = costly.wait_for("\"costly-1\"", Duration::from_secs(8));
        let health = probe.finish();
        let came = came.map(|at_ms| at_ms - sent_ms);
        finding.measure(format!(
            "template {number}: costly {came:?} ms, other {other:?} ms, health {health}"
        ));
        finding.expect(
            came.is_some_and(|ms| ms <= PAGE_MS_MAX as i64),
            format!("template {number}: its page took {came:?} ms"),
        );
        finding.expect(
            other.is_some_and(|ms| ms <= PAGE_MS_MAX),
            format!("template {number}: another channel's page took {other:?} ms"),
        );
        finding.expect(
            health.percentile(99) <= HEALTH_MS_MAX,
            format!("template {number}: health took {health}"),
        );
    }
    Ok(finding)
}
