//! The machine's clock: the one place where the daemon reads it.
//!
//! Owns what time it is for everything that is written into a log. A clock that is set is not
//! followed at once: the monotonic clock says that no such time has passed, so time goes on as it
//! did until the events that come in agree with the clock again, or, where none come, until it has
//! stayed as it is for a while. [`told`] says what stands between the two. No time is given out that
//! follows a step forward before the stages can know of the step.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fenghuo_engine::View;
use fenghuo_window::Jump;
use fenghuo_window::checked::Checked;
pub use fenghuo_window::checked::{Standing, Verdict};

mod note;

/// Names a file that holds a signed number of ms, which is added to the machine's clock: for
/// rehearsals of a clock that is wrong. It is read anew as often as [`OFFSET_EVERY`] allows; one
/// that is missing or holds no number adds nothing.
const OFFSET_FILE: &str = "FENGHUO_CLOCK_OFFSET_FILE";

/// How long a number read from that file counts.
const OFFSET_EVERY: Duration = Duration::from_millis(50);

/// The clock of this process.
static CLOCK: Mutex<Clock> = Mutex::new(Clock {
    checked: None,
    jump: None,
    views: Vec::new(),
});

struct Clock {
    checked: Option<Checked>,
    /// The step forward that was told last.
    jump: Option<Jump>,
    /// Who is told of it.
    views: Vec<Weak<View>>,
}

impl Clock {
    fn checked(&mut self, wall_ms: i64, passed_ms: i64) -> &mut Checked {
        let checked = &mut self.checked;
        checked.get_or_insert_with(|| Checked::new(wall_ms, passed_ms))
    }

    fn look(&mut self, wall_ms: i64, passed_ms: i64) -> i64 {
        let checked = self.checked(wall_ms, passed_ms);
        let now_ms = checked.look(wall_ms, passed_ms);
        let jump = checked.jump();
        if std::mem::replace(&mut self.jump, jump) != jump {
            let views = self.views.iter().filter_map(Weak::upgrade);
            views.for_each(|view| view.set_jump(jump));
        }
        now_ms
    }
}

fn clock() -> MutexGuard<'static, Clock> {
    // What it guards is whole after every change.
    CLOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Now, Unix ms: the machine's clock where it goes evenly, and past a step of it the time that went
/// on.
pub fn now_ms() -> i64 {
    let (wall_ms, passed_ms) = (wall_ms(), passed_ms());
    clock().look(wall_ms, passed_ms)
}

/// Tells the stages that share a view of the steps forward that are followed.
pub fn tell(view: &Arc<View>) {
    let mut clock = clock();
    view.set_jump(clock.jump);
    clock.views.retain(|view| view.strong_count() > 0);
    clock.views.push(Arc::downgrade(view));
}

/// What the log in a folder says was written last, Unix ms, before anything else is: a clock that is
/// behind that is not followed at once either. Where a former process [noted](fn@note) what it knew since
/// the machine was started, its time goes on, whatever the clock says.
pub fn begin(last_ms: i64, folder: &Path) {
    let (wall_ms, passed_ms) = (wall_ms(), passed_ms());
    let mut clock = clock();
    let checked = clock.checked(wall_ms, passed_ms);
    match note::read(folder) {
        Some((known, elapsed_ms)) => checked.resume(&known, elapsed_ms, last_ms, passed_ms),
        None => checked.begin(last_ms, wall_ms, passed_ms),
    }
    clock.look(wall_ms, passed_ms);
}

/// Notes in the folder of the log what is known of the clock, for the next process.
///
/// # Errors
/// When it cannot be written.
pub fn note(folder: &Path) -> io::Result<()> {
    let (wall_ms, passed_ms) = (wall_ms(), passed_ms());
    let known = clock().checked(wall_ms, passed_ms).known(passed_ms);
    note::write(folder, &known)
}

/// Tells the clock when an event that was told just now says that it happened, Unix ms. Where it is
/// told before the event is written, the event is not stamped by a time that it speaks against.
pub fn hear(occurred_ms: i64) {
    let (wall_ms, passed_ms) = (wall_ms(), passed_ms());
    let mut clock = clock();
    let now_ms = clock.look(wall_ms, passed_ms);
    let checked = clock.checked(wall_ms, passed_ms);
    if checked.is_listening(passed_ms) {
        checked.hear(occurred_ms, now_ms, passed_ms);
        clock.look(wall_ms, passed_ms);
    }
}

/// What stands between the machine's clock and the time that is written.
pub fn told() -> Option<Standing> {
    let (_, passed_ms) = (now_ms(), passed_ms());
    let clock = clock();
    let checked = clock.checked.as_ref();
    checked.and_then(|checked| checked.told(passed_ms))
}

/// What the machine's clock says, Unix ms.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall_ms = since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    });
    wall_ms.saturating_add(offset_ms())
}

/// Time since this was called first, in ms: it knows no steps.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
fn passed_ms() -> i64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let passed = BEGAN.get_or_init(Instant::now).elapsed();
    i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
}

/// What is added to the machine's clock.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
fn offset_ms() -> i64 {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    static READ: Mutex<Option<(Instant, i64)>> = Mutex::new(None);
    let Some(file) = FILE.get_or_init(|| std::env::var_os(OFFSET_FILE).map(PathBuf::from)) else {
        return 0;
    };
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    match *read {
        Some((at, offset_ms)) if at.elapsed() < OFFSET_EVERY => offset_ms,
        _ => {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let offset_ms = text.trim().parse().unwrap_or(0);
            *read = Some((Instant::now(), offset_ms));
            offset_ms
        }
    }
}

/// A watch that began when it was made.
#[derive(Clone, Copy, Debug)]
pub struct Watch(Instant);

impl Watch {
    /// Begins.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since it began.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Waits; only for the pace of the demo and of looking at a folder, and the backoff of a worker.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// What the local time is ahead of UTC now, in minutes: for who sits at this machine, never for the
/// shop.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn utc_offset_min() -> i32 {
    let now = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default();
    jiff::tz::TimeZone::system().to_offset(now).seconds() / 60
}

/// The same as text, such as `+08:00`.
pub fn utc_offset() -> String {
    let minutes = utc_offset_min();
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}
