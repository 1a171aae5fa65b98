//! A clock that jumps, under a daemon that runs and over restarts of it: what is wrong is told, and
//! a sale below the floor is paged all the same.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::shop::{floor, order};
use fenghuo_tests::{http, now_ms, producer, rfc3339};
use xtask::services::Kafka;

const HOUR_MS: i64 = 3_600_000;
const JUMPS_MS: [i64; 8] = [
    60_000,
    -60_000,
    HOUR_MS,
    -HOUR_MS,
    8 * HOUR_MS,
    -8 * HOUR_MS,
    87_600 * HOUR_MS,
    -87_600 * HOUR_MS,
];

/// Where each jump takes the start of a process or several.
const SOME_MS: [i64; 4] = [60_000, -HOUR_MS, 8 * HOUR_MS, 87_600 * HOUR_MS];

/// Within this time of the clock being right a page is there.
const PAGED_WITHIN_MS: i64 = 5_000;

/// A daemon on a folder, whose clock can be set.
struct Clocked {
    installation: Installation,
    offset: PathBuf,
    events: u32,
}

impl Clocked {
    fn new() -> Result<Self> {
        let mut installation = Installation::new()?;
        let listen = installation.listen();
        let text = format!("http.listen = {listen:?}\nlog.kind = \"embedded\"\n");
        installation.write("fenghuo.toml", text)?;
        let offset = installation.write("offset", "0")?;
        installation.set("FENGHUO_CLOCK_OFFSET_FILE", &offset.display().to_string());
        Ok(Self {
            installation,
            offset,
            events: 0,
        })
    }

    fn set(&self, by_ms: i64) -> Result<()> {
        // Whole or not at all: it is read at any time.
        let part = self.installation.write("offset.part", by_ms.to_string())?;
        Ok(std::fs::rename(part, &self.offset)?)
    }

    /// A sale below the floor: the name of what was sold, and whether the order was taken.
    fn sell(&mut self, process: &Process) -> Result<(String, bool)> {
        self.sell_by(process, 0)
    }

    /// The same, told by a sender whose clock is wrong by so much.
    fn sell_by(&mut self, process: &Process, by_ms: i64) -> Result<(String, bool)> {
        self.events += 1;
        let sku = format!("sku-{}-x", self.events);
        let at = rfc3339(now_ms() + by_ms);
        let meta = |what: &str| {
            format!(
                r#""meta":{{"event_id":"{what}-{sku}","source":"test","shop_id":"42","occurred_at":"{at}"}}"#
            )
        };
        let (floor, order) = (meta("floor"), meta("order"));
        let body = format!(
            r#"{{{floor},"catalog":{{"type":"UPSERT","sku_id":"{sku}","pack_units":1,"price_floor":{{"currency_code":"CNY","minor_units":4900}}}}}}
{{{order},"order":{{"type":"PAID","order_id":"{sku}","lines":[{{"sku_id":"{sku}","quantity":1,"pack_units":1,"unit_price":{{"currency_code":"CNY","minor_units":490}}}}]}}}}
"#
        );
        let headers = [("content-type", "application/x-ndjson")];
        let answer = http::post(&process.url("/api/v1/events"), &headers, body)?;
        ensure!(answer.status < 500, "{answer:?}");
        let answer = answer.json()?;
        Ok((sku, answer["accepted"] == 2))
    }

    fn is_paged(process: &Process, sku: &str) -> Result<()> {
        let began_ms = now_ms();
        let page = format!("PAGE     price-floor sku={sku}");
        process.until(&page, |process| process.log().contains(&page).then_some(()))?;
        let took_ms = now_ms() - began_ms;
        ensure!(took_ms <= PAGED_WITHIN_MS, "{page} took {took_ms} ms");
        Ok(())
    }

    fn sale_is_paged(&mut self, process: &Process) -> Result<()> {
        let (sku, is_taken) = self.sell(process)?;
        ensure!(is_taken, "{}", process.log());
        Self::is_paged(process, &sku)
    }

    /// Waits for what must not happen within a time.
    fn pass(process: &Process, time_ms: i64) -> Result<()> {
        let until_ms = now_ms() + time_ms;
        process.until("time to pass", |_| (now_ms() >= until_ms).then_some(()))
    }

    /// Something is said of the clock, or nothing any more.
    fn is_told(process: &Process, is_wrong: bool) -> Result<()> {
        process.until("what is said of the clock", |process| {
            let answer = process.get("/-/ready").ok()?;
            let is_said = answer.body.contains("\"clock.");
            (is_said == is_wrong && (is_wrong || answer.status == 200)).then_some(())
        })
    }
}

#[test]
fn a_jump_of_the_clock_is_told_and_a_sale_below_the_floor_is_paged_during_and_after() -> Result<()>
{
    let mut clocked = Clocked::new()?;
    let process = clocked.installation.run()?;
    clocked.sale_is_paged(&process)?;
    for jump_ms in JUMPS_MS {
        clocked.set(jump_ms)?;
        Clocked::is_told(&process, true)?;
        clocked.sale_is_paged(&process)?;
        clocked.set(0)?;
        clocked.sale_is_paged(&process)?;
        Clocked::is_told(&process, false)?;
    }
    process.terminate()?;
    Ok(())
}

#[test]
fn a_start_with_a_wrong_clock_is_told_and_forgotten_once_it_is_right() -> Result<()> {
    let mut clocked = Clocked::new()?;
    let process = clocked.installation.run()?;
    clocked.sale_is_paged(&process)?;
    process.terminate()?;
    for jump_ms in JUMPS_MS {
        clocked.set(jump_ms)?;
        let process = clocked
            .installation
            .start(["run", "--config", "fenghuo.toml"])?;
        process.until("the daemon to answer", |process| {
            process.get("/-/ready").ok()
        })?;
        // Where it is an hour behind from the start, what is sold is refused, and that is told. Nobody
        // was away for ten years, so that such a clock is not followed.
        let (sku, is_taken) = clocked.sell(&process)?;
        if jump_ms > 8_760 * HOUR_MS {
            ensure!(is_taken, "{}", process.log());
            Clocked::is_paged(&process, &sku)?;
        }
        if jump_ms.abs() > 60_000 {
            Clocked::is_told(&process, true)?;
        }
        process.terminate()?;
        clocked.set(0)?;
        let process = clocked.installation.run()?;
        clocked.sale_is_paged(&process)?;
        process.terminate()?;
    }
    Ok(())
}

/// Guards: an episode was resolved by a step that was followed, and paged again under another key
/// once the clock was set back; what was told in the first second after the step was refused.
#[test]
fn a_step_that_is_followed_ends_nothing_and_pages_nothing_twice() -> Result<()> {
    for is_told in [false, true] {
        let mut clocked = Clocked::new()?;
        let process = clocked.installation.run()?;
        let mut sold = Vec::new();
        let mut sell = |clocked: &mut Clocked, by_ms: i64| -> Result<()> {
            let (sku, is_taken) = clocked.sell_by(&process, by_ms)?;
            ensure!(is_taken, "{}", process.log());
            Clocked::is_paged(&process, &sku)?;
            sold.push(sku);
            Ok(())
        };
        sell(&mut clocked, 0)?;
        clocked.set(HOUR_MS)?;
        if is_told {
            Clocked::pass(&process, 300)?;
            sell(&mut clocked, HOUR_MS)?;
            // Who tells the true time is heard as well.
            sell(&mut clocked, 0)?;
        }
        // Without any event it is followed after 10 s.
        process.until("the clock to be followed", |process| {
            let answer = process.get("/-/ready").ok()?;
            answer.body.contains("\"clock.stepped\"").then_some(())
        })?;
        Clocked::pass(&process, 3_000)?;
        clocked.set(0)?;
        if is_told {
            // The daemon reads the file a little later.
            Clocked::pass(&process, 300)?;
            sell(&mut clocked, 0)?;
        }
        Clocked::pass(&process, 14_000)?;
        sell(&mut clocked, 0)?;
        let log = process.log();
        for sku in &sold {
            let of = |what: &str| {
                log.matches(&format!("{what} price-floor sku={sku}:"))
                    .count()
            };
            let told = (of("PAGE    "), of("RESOLVED"));
            ensure!(told == (1, 0), "{is_told}: {sku} {told:?}\n{log}");
        }
        process.terminate()?;
    }
    Ok(())
}

/// A sale below the floor at the true time, in records that are stamped so much ahead of it.
fn sell_on_kafka(kafka: &Kafka, sku: &str, ahead_ms: i64) -> Result<()> {
    let at_ms = now_ms();
    let floors = [(sku.to_owned(), floor(sku, 1_800, at_ms))];
    let order = [(sku.to_owned(), order(&format!("o-{sku}"), sku, 180, at_ms))];
    for (topic, events) in [("shop.catalog", floors), ("shop.orders", order)] {
        match ahead_ms {
            0 => producer::kcat(kafka, topic, &events)?,
            _ => producer::console_at(kafka, topic, &events, ahead_ms)?,
        }
    }
    Ok(())
}

/// The shop goes on to sell until it is told, since a difference is seen by stamps.
fn sell_until_told(
    kafka: &Kafka,
    process: &Process,
    (sku, ahead_ms): (&str, i64),
    condition: &str,
) -> Result<()> {
    let mut sold = 0;
    process.until(condition, |process| {
        sold += 1;
        sell_on_kafka(kafka, &format!("{sku}-{sold}"), ahead_ms).ok()?;
        let answer = process.get("/-/ready").ok()?;
        answer.body.contains(condition).then_some(())
    })
}

/// The clock of a real broker is not set here: after a step back its transactions end late, since
/// the clients inside it wait by that clock.
#[test]
fn stamps_by_a_wrong_clock_are_told_of_and_a_sale_is_paged_once_it_is_right() -> Result<()> {
    let kafka = Kafka::start()?;
    for topic in ["shop.catalog", "shop.orders"] {
        let mut create = kafka.tool("org.apache.kafka.tools.TopicCommand");
        create
            .args(["--bootstrap-server", &kafka.bootstrap(), "--create"])
            .args(["--topic", topic, "--partitions", "4"])
            .args(["--config", "message.timestamp.type=CreateTime"])
            .args([
                "--config",
                &format!("message.timestamp.after.max.ms={}", i64::MAX),
            ]);
        ensure!(create.status()?.success(), "{topic} was not created");
    }
    let installation = Installation::new()?;
    installation.configure(&kafka.bootstrap(), "shop.id = \"shop-42\"\n")?;
    let process = installation.run()?;
    sell_on_kafka(&kafka, "first", 0)?;
    Clocked::is_paged(&process, "first")?;
    for jump_ms in SOME_MS {
        let during = format!("during{jump_ms}");
        sell_until_told(&kafka, &process, (&during, jump_ms), "\"clock.broker\"")?;
        // Who is more than a few minutes ahead of the stamps is taken for wrong, and told of.
        if jump_ms > -HOUR_MS {
            Clocked::is_paged(&process, &format!("{during}-1"))?;
        }
        let after = format!("after{jump_ms}");
        sell_on_kafka(&kafka, &after, 0)?;
        Clocked::is_paged(&process, &after)?;
        Clocked::is_told(&process, false)?;
    }
    process.terminate()?;
    Ok(())
}

#[test]
fn on_kafka_a_jump_of_the_daemons_clock_is_told_and_a_sale_is_paged_all_the_same() -> Result<()> {
    let kafka = Kafka::start()?;
    let mut installation = Installation::new()?;
    installation.configure(&kafka.bootstrap(), "shop.id = \"shop-42\"\n")?;
    let offset = installation.write("offset", "0")?;
    installation.set("FENGHUO_CLOCK_OFFSET_FILE", &offset.display().to_string());
    let set = |by_ms: i64| -> Result<()> {
        let part = installation.write("offset.part", by_ms.to_string())?;
        Ok(std::fs::rename(part, &offset)?)
    };
    let process = installation.run()?;
    for jump_ms in JUMPS_MS {
        set(jump_ms)?;
        Clocked::is_told(&process, true)?;
        for (is_right, sku) in [(false, "during"), (true, "after")] {
            if is_right {
                set(0)?;
            }
            let sku = format!("{sku}{jump_ms}");
            sell_on_kafka(&kafka, &sku, 0)?;
            Clocked::is_paged(&process, &sku)?;
        }
        Clocked::is_told(&process, false)?;
    }
    process.terminate()?;
    // And over a restart.
    for jump_ms in SOME_MS {
        set(jump_ms)?;
        let process = installation.start(["run", "--config", "fenghuo.toml"])?;
        let wrong = format!("wrong{jump_ms}");
        sell_until_told(&kafka, &process, (&wrong, 0), "\"clock.")?;
        process.terminate()?;
        set(0)?;
        let process = installation.run()?;
        let sku = format!("right{jump_ms}");
        sell_on_kafka(&kafka, &sku, 0)?;
        Clocked::is_paged(&process, &sku)?;
        Clocked::is_told(&process, false)?;
        process.terminate()?;
    }
    Ok(())
}
