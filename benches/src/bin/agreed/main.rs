//! `agreed`: the work that the design's numbers are stated for, measured on a real broker.
//!
//! Paid orders of one line as JSON over 10,000 skus (Zipf 1.1), 5,000 a second of event time, in
//! four partitions of Apache Kafka. It measures what a bare consumer gets out of the broker, how
//! fast the daemon catches up with all of it, what a steady rate costs and how long its pages take,
//! and how fast `replay` reads the same orders from a file. It prints one table with the targets
//! beside what was measured, and never fails because a time was missed.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures the real machine by its clock"
)]

mod broker;
mod daemon;
mod events;
mod steady;
mod table;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use fenghuo_benches::machine::{Result, children_cpu_s, receiver};

use broker::{Bare, Broker, consume};
use daemon::Daemon;
use steady::{Steady, measure};
use table::Table;

/// Measure the agreed work.
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// The daemon's binary.
    #[arg(long, default_value = "target/release/fenghuo")]
    binary: PathBuf,
    /// Parts to measure; without it, all of them.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Orders to catch up with, and to replay.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// Steady rates, in orders a second.
    #[arg(long = "rate", value_delimiter = ',', default_values_t = [100_000, 10_000])]
    rates: Vec<u64>,
    /// How long a steady rate is measured.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Orders below their floor, each to be paged, in that time.
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u64).range(..=9_999))]
    pages: u64,
    /// A broker that is there already, and empty: for one part alone. Without it, each part starts
    /// its own.
    #[arg(long)]
    bootstrap: Option<String>,
    /// The process of that broker, for its CPU time.
    #[arg(long)]
    broker_pid: Option<u32>,
    /// How the shop's producers compress.
    #[arg(long, default_value = "none")]
    compression: String,
    /// Further lines of the daemon's config.
    #[arg(long, default_value = "")]
    config: String,
    /// Say what process the daemon is, for a profiler to be attached.
    #[arg(long)]
    tell_process: bool,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What a bare consumer gets, and then the daemon on the same orders.
    Catchup,
    /// Steady rates.
    Steady,
    /// The same orders from a file.
    Replay,
    /// A year of a small shop from a file.
    Year,
}

impl Arguments {
    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let brokers = usize::from(arguments.has(Part::Catchup))
        + usize::from(arguments.has(Part::Steady)) * arguments.rates.len();
    if arguments.bootstrap.is_some() && brokers > 1 {
        return Err("a given broker serves one part and one rate: use --only and --rate".into());
    }
    let mut table = Table::default();
    if arguments.has(Part::Catchup) {
        catch_up(&arguments, &mut table)?;
    }
    if arguments.has(Part::Steady) {
        for rate in &arguments.rates {
            tell(&format!("{rate} orders a second"));
            steady_rows(&mut table, *rate, &measure(&arguments, *rate)?);
        }
    }
    if arguments.has(Part::Replay) {
        replay(&arguments, &mut table)?;
    }
    if arguments.has(Part::Year) {
        for (name, lines_max) in [("one line an order", 1), ("22 lines an order", 43)] {
            year(&arguments, &mut table, name, lines_max)?;
        }
    }
    println!("{table}");
    Ok(())
}

/// Says on the terminal what takes its time now.
fn tell(what: &str) {
    eprintln!("agreed: {what}");
}

fn catch_up(arguments: &Arguments, table: &mut Table) -> Result<()> {
    let orders = arguments.events;
    let million = orders as f64 / 1e6;
    let broker = Broker::start(arguments)?;
    tell(&format!("loading {orders} orders"));
    broker.load(orders)?;
    for (bare, name) in [
        (Bare::Drop, "consume and drop"),
        (Bare::Parse, "consume and serde_json, borrowed"),
    ] {
        tell(name);
        let consumed = consume(&broker, bare, orders)?;
        let rate = million / consumed.took.as_secs_f64();
        table.row(name, "M events/s", rate, "");
        table.row(name, "CPU s a million", consumed.cpu_s / million, "");
        let of_broker = consumed.broker_cpu_s / million;
        table.row(name, "of the broker, CPU s a million", of_broker, "");
    }
    tell("catching up");
    let (hook, _) = receiver()?;
    let (began, broker_cpu) = (Instant::now(), broker.cpu_s());
    let mut daemon = Daemon::start(arguments, &broker, hook)?;
    if arguments.tell_process {
        eprintln!("agreed: the daemon is process {}", daemon.id());
    }
    daemon.until_judged(1)?;
    let (first, counted) = (Instant::now(), daemon.judged());
    daemon.until_judged(orders)?;
    let (took, warm) = (began.elapsed(), first.elapsed());
    let (used, used_by_broker) = (daemon.cpu_s(), broker.cpu_s() - broker_cpu);
    let name = "catch-up, all signals";
    let rate = million / took.as_secs_f64();
    table.row(name, "M events/s, from the start", rate, "≥ 0.7");
    let warm_rate = (orders - counted) as f64 / 1e6 / warm.as_secs_f64();
    table.row(name, "M events/s, from the first count", warm_rate, "");
    table.row(name, "CPU s a million", used / million, "≤ 2.0");
    let of_broker = used_by_broker / million;
    table.row(name, "of the broker, CPU s a million", of_broker, "");
    Ok(())
}

fn steady_rows(table: &mut Table, rate: u64, steady: &Steady) {
    let name = format!("{} k orders/s", rate / 1_000);
    let million = steady.daemon / steady.rate * 1e6;
    let is_busy = rate >= 100_000;
    let (cpu, share, broker, p99) = match is_busy {
        true => ("≤ 3.5", "", "≤ 0.3", "≤ 200"),
        false => ("", "≤ 0.15", "", "≤ 150"),
    };
    table.row(&name, "sent, k orders/s", steady.rate / 1e3, "");
    table.row(&name, "CPU s a million", million, cpu);
    table.row(&name, "of a core", steady.daemon, share);
    table.row(&name, "broker, of a core", steady.broker, broker);
    table.row(
        &name,
        "broker before the daemon came",
        steady.broker_alone,
        "",
    );
    table.row(&name, "sender, of a core", steady.sender, "");
    let came = steady.delays_ms.len() as f64;
    let all = format!("= {}", steady.pages);
    table.row(&name, "pages received", came, &all);
    table.row(&name, "page p50, ms", steady.delay_ms(50), "");
    table.row(&name, "page p99, ms", steady.delay_ms(99), p99);
    table.row(&name, "page latest, ms", steady.delay_ms(100), "");
}

/// Runs `replay` on a file; how long it took, and its CPU time in s.
fn replayed(arguments: &Arguments, file: &Path) -> Result<(Duration, f64)> {
    let (began, cpu) = (Instant::now(), children_cpu_s());
    let output = Command::new(std::fs::canonicalize(&arguments.binary)?)
        .arg("replay")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("replay ended with {}: {told}", output.status).into());
    }
    Ok((began.elapsed(), children_cpu_s() - cpu))
}

/// Writes so many orders, a line each.
fn file(name: &str, orders: u64, each: &dyn Fn(u64, &mut Vec<u8>)) -> Result<tempfile::TempPath> {
    let path = tempfile::Builder::new()
        .prefix(name)
        .suffix(".jsonl")
        .tempfile_in("target")?
        .into_temp_path();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
    let mut line = Vec::new();
    for number in 0..orders {
        line.clear();
        each(number, &mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()?;
    Ok(path)
}

fn replay(arguments: &Arguments, table: &mut Table) -> Result<()> {
    let orders = arguments.events;
    tell(&format!("replaying {orders} orders"));
    let first_ms = fenghuo_benches::START_MS;
    let path = file("agreed-", orders, &|number, line| {
        events::order(number, first_ms + (number / 5) as i64, line);
    })?;
    let (took, cpu_s) = replayed(arguments, &path)?;
    let million = orders as f64 / 1e6;
    let name = "replay of the file";
    let rate = million / took.as_secs_f64();
    table.row(name, "M events/s", rate, "≥ 0.5");
    table.row(name, "CPU s a million", cpu_s / million, "");
    Ok(())
}

fn year(arguments: &Arguments, table: &mut Table, name: &str, lines_max: u64) -> Result<()> {
    tell(&format!("replaying a year, {name}"));
    const YEAR_MS: u64 = 365 * 86_400_000;
    let first_ms = fenghuo_benches::START_MS;
    let path = file("year-", events::YEAR_ORDERS, &|number, line| {
        let at_ms = first_ms + (YEAR_MS / events::YEAR_ORDERS * number) as i64;
        // From one to the most, as many of each.
        let lines = 1 + number * 29 % lines_max;
        events::year_order(number, lines, at_ms, line);
    })?;
    let (took, cpu_s) = replayed(arguments, &path)?;
    let name = format!("a year, {name}");
    let target = if lines_max == 1 { "≤ 0.5" } else { "" };
    table.row(&name, "s", took.as_secs_f64(), target);
    table.row(&name, "CPU s", cpu_s, "");
    Ok(())
}
