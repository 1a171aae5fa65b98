//! Clocks that jump, during a run and over a restart.
//!
//! Events always carry the true time; only the daemon's clock is wrong.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use xtask::wait;

use super::site::Site;
use super::{Attack, Finding, Settings, Size, pass};
use crate::now_ms;
use crate::shop::{floor, order};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "clock-run",
        done: "the daemon's clock jumps for 4 s and back while it runs: +-1 min, +-1 h, +8 h, +10 years",
        expected: "while wrong: /-/ready names the clock and a page about it comes; events of then are paged or refused; \
                   a new sku is paged within 5 s of the clock being right",
        on_kafka: true,
        in_short: true,
        play: during_a_run,
    },
    Attack {
        name: "clock-restart",
        done: "the daemon is started with a clock that is wrong, which is set right 4 s later, and restarted",
        expected: "a clock behind the log is named by /-/ready and paged; a new sku is paged within 5 s of the clock being right",
        on_kafka: true,
        in_short: true,
        play: over_a_restart,
    },
];

/// The variable by which a daemon is told a file with an offset of its clock.
const VARIABLE: &str = "FENGHUO_CLOCK_OFFSET_FILE";
const WRONG_FOR: Duration = Duration::from_secs(4);
const FOLLOWED_WITHIN: Duration = Duration::from_millis(1_500);
const PAGED_WITHIN: Duration = Duration::from_secs(5);
/// How long after that a page is still waited for, to tell late from never.
const PAGED_AT_ALL: Duration = Duration::from_secs(8);

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const STEPS_MS: [i64; 6] = [
    HOUR_MS,
    -MINUTE_MS,
    MINUTE_MS,
    -HOUR_MS,
    8 * HOUR_MS,
    10 * 365 * 24 * HOUR_MS,
];

/// A daemon whose clock can be set.
struct Clock {
    site: Site,
    file: PathBuf,
}

impl Clock {
    fn new(settings: &Settings, name: &str) -> Result<Self> {
        let mut site = Site::new(settings, name)?;
        let file = site.installation.write("offset", "0")?;
        site.installation.set(VARIABLE, &file.to_string_lossy());
        site.configure("", &site.pager_alone())?;
        Ok(Self { site, file })
    }

    fn set(&self, offset_ms: i64) -> Result<()> {
        // Renamed, so that no half of it is ever read.
        let next = self.file.with_extension("next");
        std::fs::write(&next, offset_ms.to_string())?;
        Ok(std::fs::rename(next, &self.file)?)
    }

    /// Whether it is told that the clock is wrong, by `/-/ready` and by a page that is newer than
    /// so many.
    fn is_told(&self, pages_before: usize) -> (Option<String>, bool) {
        let began = std::time::Instant::now();
        let ready = wait::until("the clock to be named", WRONG_FOR, || {
            self.site.ready_names(&["clock"])
        });
        let left = WRONG_FOR.saturating_sub(began.elapsed());
        let is_new = || self.clock_pages() > pages_before;
        let paged = wait::until("a page about the clock", left, || is_new().then_some(()));
        pass(WRONG_FOR.saturating_sub(began.elapsed()));
        (ready.ok(), paged.is_ok())
    }

    /// Whether the daemon goes by the clock that was set: one that does not is not attacked.
    fn is_followed(&self, offset_ms: i64) -> bool {
        let followed = wait::until("the clock to be followed", FOLLOWED_WITHIN, || {
            let picture = self.site.daemon().ok()?.json("/api/v1/snapshot").ok()?;
            let off_ms = picture["now_ms"].as_i64()? - now_ms() - offset_ms;
            (off_ms.abs() < MINUTE_MS / 4).then_some(())
        });
        followed.is_ok()
    }

    fn clock_pages(&self) -> usize {
        let taken = self.site.pager.taken();
        let about = taken.iter().filter(|(_, body)| {
            body.contains("fenghuo.clock") || (body.contains("fenghuo.") && body.contains("clock"))
        });
        about.count()
    }

    /// A sku sold below its floor by true time: `None` where the daemon refused the order, and said
    /// so.
    fn sell(&self, sku: &str) -> Result<Option<()>> {
        let at_ms = now_ms();
        let order = order(&format!("o-{sku}"), sku, 180, at_ms);
        let Ok(taken) = self.site.send(&[floor(sku, 1_800, at_ms), order]) else {
            // Asked to wait for longer than senders do, which is a refusal that is told.
            return Ok(None);
        };
        Ok((taken.status == 200 && taken.rejected == 0).then_some(()))
    }
}

/// What is expected of a clock that was set right.
fn is_paged_again(
    finding: &mut Finding,
    clock: &Clock,
    what: &str,
    during: Option<&str>,
) -> Result<()> {
    let right_ms = now_ms();
    let sku = format!("after-{}", what.replace(' ', "-"));
    let mut is_taken = clock.sell(&sku)?.is_some();
    let came = wait::until("a page after it", PAGED_WITHIN + PAGED_AT_ALL, || {
        // One that was refused is sent again, as its sender would once a second.
        if !is_taken && (now_ms() - right_ms) % 1_000 < 100 {
            is_taken = clock.sell(&sku).ok().flatten().is_some();
        }
        clock.site.pager.first(&format!("\"{sku}\""))
    });
    let took = came.ok().map(|at_ms| at_ms - right_ms);
    finding.measure(format!(
        "{what}: paged {took:?} ms after the clock was right"
    ));
    finding.expect(
        took.is_some_and(|ms| ms <= PAGED_WITHIN.as_millis() as i64),
        format!("{what}: a new sku was paged {took:?} ms after the clock was right (accepted: {is_taken})"),
    );
    if let Some(sku) = during {
        let came = clock
            .site
            .pager
            .wait_for(&format!("\"{sku}\""), PAGED_WITHIN);
        finding.expect(
            came.is_some(),
            format!("{what}: an order taken while the clock was wrong was never paged"),
        );
    }
    Ok(())
}

fn steps(settings: &Settings) -> &'static [i64] {
    match settings.size {
        Size::Short => &STEPS_MS[..1],
        Size::Long => &STEPS_MS,
    }
}

fn told(offset_ms: i64) -> String {
    match offset_ms {
        ms if ms.abs() < HOUR_MS => format!("{:+} min", ms / MINUTE_MS),
        ms if ms.abs() < 24 * HOUR_MS => format!("{:+} h", ms / HOUR_MS),
        ms => format!("{:+} y", ms / (365 * 24 * HOUR_MS)),
    }
}

fn during_a_run(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let mut clock = Clock::new(settings, "clock-run")?;
    clock.site.start()?;
    let before = clock.site.page_ms("before", PAGED_AT_ALL)?;
    finding.expect(before.is_some(), "no page before the clock was touched");
    for (number, &offset_ms) in steps(settings).iter().enumerate() {
        let what = told(offset_ms);
        let pages = clock.clock_pages();
        clock.set(offset_ms)?;
        // The new time has to be read before an order is judged by it.
        pass(Duration::from_millis(200));
        let sku = format!("during-{number}");
        let is_taken = clock.sell(&sku)?.is_some();
        let (ready, paged) = is_shown(&mut finding, &clock, &what, offset_ms, pages);
        finding.expect(ready, format!("{what}: /-/ready does not name the clock"));
        finding.expect(paged, format!("{what}: nobody was paged about the clock"));
        clock.set(0)?;
        pass(Duration::from_millis(100));
        is_paged_again(&mut finding, &clock, &what, is_taken.then_some(&sku))?;
        // What was told of this step ends before the next one begins.
        let _ = wait::until("the clock to be right", Duration::from_secs(20), || {
            clock.site.ready_names(&["clock"]).is_none().then_some(())
        });
    }
    Ok(finding)
}

/// Whether a clock that was set is named by `/-/ready`, and by a page newer than so many.
fn is_shown(
    finding: &mut Finding,
    clock: &Clock,
    what: &str,
    offset_ms: i64,
    pages: usize,
) -> (bool, bool) {
    let is_followed = clock.is_followed(offset_ms);
    let (ready, paged) = clock.is_told(pages);
    finding.expect(
        is_followed || ready.is_some(),
        format!("{what}: the daemon does not go by {VARIABLE}"),
    );
    finding.measure(format!(
        "{what}: told {}",
        ready.as_deref().unwrap_or("nothing")
    ));
    (ready.is_some(), paged)
}

fn over_a_restart(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let mut clock = Clock::new(settings, "clock-restart")?;
    clock.site.start()?;
    let before = clock.site.page_ms("before", PAGED_AT_ALL)?;
    finding.expect(before.is_some(), "no page before the clock was touched");
    for (number, &offset_ms) in steps(settings).iter().enumerate() {
        let what = format!("restart {}", told(offset_ms));
        clock.site.stop()?;
        let pages = clock.clock_pages();
        clock.set(offset_ms)?;
        clock.site.start_unready()?;
        let sku = format!("during-{number}");
        let is_taken = clock.sell(&sku).ok().flatten().is_some();
        let (ready, paged) = is_shown(&mut finding, &clock, &what, offset_ms, pages);
        // Of a clock that runs ahead at the start nobody can know: the daemon may have been away, but
        // not for years.
        if !(0..=365 * 24 * HOUR_MS).contains(&offset_ms) {
            finding.expect(ready, format!("{what}: /-/ready does not name the clock"));
            finding.expect(paged, format!("{what}: nobody was paged about the clock"));
        }
        // Set right by turns before the next start and while it runs.
        let is_running = number % 2 == 1;
        if !is_running {
            clock.site.stop()?;
        }
        clock.set(0)?;
        if !is_running {
            clock.site.start_unready()?;
        }
        pass(Duration::from_millis(100));
        is_paged_again(&mut finding, &clock, &what, is_taken.then_some(&sku))?;
    }
    Ok(finding)
}
