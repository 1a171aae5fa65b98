//! Bytes that flip in a folder that is stopped.
//!
//! What is read afterwards may be less, with an error; it must never be something else.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::{services, wait};

use super::folder::{copy, store_of};
use super::receivers::below_floor;
use super::site::Site;
use super::{Attack, Finding, Settings};
use crate::chaos::random::Random;
use crate::http;

pub(super) const ATTACKS: &[Attack] = &[Attack {
    name: "flipped-bytes",
    done: "one byte of a stopped folder is changed, again and again; dump, verify and run read it",
    expected: "never another record than there was, never a panic; where dump or verify succeeds, all is there; \
               a run that is ready has the same totals",
    on_kafka: false,
    in_short: true,
    play: flipped_bytes,
}];

/// One flip of so many is also run.
const RUN_EVERY: usize = 10;
/// Bytes around a place that decide whether anything stands there.
const AROUND: usize = 48;
const READY_WITHIN: Duration = Duration::from_secs(12);

/// A byte of a file, and what it is changed by.
#[derive(Clone, Debug)]
struct Flip {
    file: PathBuf,
    at: usize,
    bit: u8,
}

/// The folder as it was.
struct Whole {
    folder: PathBuf,
    records: HashSet<String>,
    lines: usize,
    totals: Value,
}

#[derive(Default)]
struct Counts {
    read: usize,
    told: usize,
    run: usize,
    refused: usize,
    faults: Vec<String>,
}

fn flipped_bytes(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let mut site = Site::running(settings, "flipped-bytes", "")?;
    for part in below_floor("kept", settings.pick(200, 500)).chunks(50) {
        site.send(part)?;
    }
    site.page_ms("last", Duration::from_secs(10))?;
    let totals = site.daemon()?.json("/api/v1/totals")?["total"].clone();
    site.stop()?;
    let folder = site.installation.path("kept");
    copy(&site.installation.path("fenghuo-data"), &folder)?;
    let dumped = read(&site, &folder, "dump")?;
    ensure!(
        dumped.status.success(),
        "an undamaged folder cannot be dumped"
    );
    let records: HashSet<String> = lines(&dumped).map(ToOwned::to_owned).collect();
    let whole = Whole {
        folder,
        lines: lines(&dumped).count(),
        records,
        totals,
    };
    let flips = flips(&whole.folder, settings.pick(40, 1_000), settings.seed)?;
    let next = Mutex::new(flips.iter().enumerate());
    let counts = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (site, whole, next, counts) = (&site, &whole, &next, &counts);
            scope.spawn(move || {
                let take = || next.lock().ok().and_then(|mut next| next.next());
                while let Some((number, flip)) = take() {
                    let scratch = site.installation.path(&format!("scratch-{worker}"));
                    let found = try_one(site, whole, flip, &scratch, number % RUN_EVERY == 0);
                    let Ok(mut counts) = counts.lock() else { break };
                    note(&mut counts, flip, found);
                }
            });
        }
    });
    let counts = counts
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    finding.measure(format!(
        "{} records; {} flips: {} told by dump or verify, {} of {} runs refused",
        whole.lines, counts.read, counts.told, counts.refused, counts.run
    ));
    finding.measure(format!("{} faults", counts.faults.len()));
    finding.faults = counts.faults;
    Ok(finding)
}

/// What became of one flip.
struct Tried {
    is_told: bool,
    /// Whether it was run, and then refused.
    is_refused: Option<bool>,
    faults: Vec<String>,
}

fn note(counts: &mut Counts, flip: &Flip, tried: Result<Tried>) {
    counts.read += 1;
    let name = flip.file.to_string_lossy();
    let place = format!("{name}:{} ^ {:#04x}", flip.at, flip.bit);
    match tried {
        Ok(tried) => {
            counts.told += usize::from(tried.is_told);
            counts.run += usize::from(tried.is_refused.is_some());
            counts.refused += usize::from(tried.is_refused == Some(true));
            let faults = tried.faults.into_iter();
            counts
                .faults
                .extend(faults.map(|fault| format!("{place}: {fault}")));
        }
        Err(error) => counts.faults.push(format!("{place}: {error:#}")),
    }
}

/// Places where something stands, in every file but the lock.
fn flips(folder: &Path, count: usize, seed: u64) -> Result<Vec<Flip>> {
    let mut random = Random::new(seed);
    let store = store_of(folder)?;
    let bytes = fs::read(&store)?;
    let mut flips = Vec::with_capacity(count);
    // Bounded, as most of the file may be nothing.
    for _ in 0..count * 1_000 {
        if flips.len() == count {
            break;
        }
        let at = random.below(bytes.len() as u64) as usize;
        let around = &bytes[at.saturating_sub(AROUND)..(at + AROUND).min(bytes.len())];
        if around.iter().any(|&byte| byte != 0) {
            let file = store.file_name().context("no name")?.into();
            let bit = 1 << random.below(8);
            flips.push(Flip { file, at, bit });
        }
    }
    Ok(flips)
}

fn lines(output: &Output) -> impl Iterator<Item = &str> {
    // Half a line is no record.
    let text = std::str::from_utf8(&output.stdout).unwrap_or("not UTF-8\n");
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
}

fn read(site: &Site, folder: &Path, command: &str) -> Result<Output> {
    let data = folder.to_string_lossy().into_owned();
    let output = site
        .installation
        .fenghuo(["log", command, "--data", &data])
        .output();
    output.context("starting fenghuo")
}

fn try_one(site: &Site, whole: &Whole, flip: &Flip, scratch: &Path, is_run: bool) -> Result<Tried> {
    let mut faults = Vec::new();
    let mut is_told = false;
    for command in ["verify", "dump"] {
        damage(whole, flip, scratch)?;
        let output = read(site, scratch, command)?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        is_told |= !output.status.success();
        let ended = output.status.code();
        if ended.is_none_or(|code| code >= 100) || told.contains("panicked") {
            let first = told.lines().find(|line| line.contains("panicked"));
            faults.push(format!("{command} ended with {}: {first:?}", output.status));
        }
        if command == "dump" {
            let foreign = lines(&output).find(|line| !whole.records.contains(*line));
            if let Some(line) = foreign {
                let shown: String = line.chars().take(200).collect();
                faults.push(format!("dump printed what never was: {shown}"));
            }
            let count = lines(&output).count();
            if output.status.success() && count != whole.lines {
                faults.push(format!(
                    "dump printed {count} of {} records and said nothing",
                    whole.lines
                ));
            }
        }
    }
    let is_refused = if is_run {
        damage(whole, flip, scratch)?;
        let (is_refused, fault) = run(site, whole, scratch)?;
        faults.extend(fault);
        Some(is_refused)
    } else {
        None
    };
    Ok(Tried {
        is_told,
        is_refused,
        faults,
    })
}

fn damage(whole: &Whole, flip: &Flip, scratch: &Path) -> Result<()> {
    if scratch.exists() {
        fs::remove_dir_all(scratch)?;
    }
    copy(&whole.folder, scratch)?;
    let path = scratch.join(&flip.file);
    let mut bytes = fs::read(&path)?;
    bytes[flip.at] ^= flip.bit;
    fs::write(&path, bytes)?;
    Ok(fs::set_permissions(
        &path,
        fs::Permissions::from_mode(0o600),
    )?)
}

/// Whether a run refused the folder, and what it did wrong.
fn run(site: &Site, whole: &Whole, scratch: &Path) -> Result<(bool, Option<String>)> {
    let [port] = services::free_ports()?;
    let config = format!(
        "http.listen = \"127.0.0.1:{port}\"\nlog.kind = \"embedded\"\nlog.folder = {scratch:?}\n\
         shop.id = \"shop-42\"\nrules.files = [\"rules.toml\"]\n"
    );
    let name = format!("damaged-{port}.toml");
    site.installation.write(&name, config)?;
    let mut process = site.installation.start(["run", "--config", &name])?;
    let base = format!("http://127.0.0.1:{port}");
    let found = wait::until("it to be ready or to end", READY_WITHIN, || {
        if process.has_ended() {
            return Some(None);
        }
        let ready = http::get(&format!("{base}/-/ready"), &[]).ok()?;
        (ready.status == 200).then_some(Some(()))
    });
    match found {
        Ok(Some(())) => {
            let totals = http::get(&format!("{base}/api/v1/totals"), &[])?.json()?;
            let is_same = totals["total"] == whole.totals;
            let fault =
                (!is_same).then(|| format!("run is ready with other totals: {}", totals["total"]));
            Ok((false, fault))
        }
        Ok(None) => {
            let (status, log) = process.wait()?;
            let is_panic = status.code().is_none_or(|code| code >= 100) || log.contains("panicked");
            let first = log.lines().find(|line| line.contains("panicked"));
            Ok((
                true,
                is_panic.then(|| format!("run ended with {status}: {first:?}")),
            ))
        }
        // It lives, is not ready and says why, which is an answer too.
        Err(_) => Ok((true, None)),
    }
}
