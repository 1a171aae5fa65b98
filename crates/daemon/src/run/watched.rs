//! What the running process watches of itself: clocks, disk, maps and the door, once a second.
//!
//! Owns the looking; what is found stands in [`crate::conditions`], and is paged from there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fenghuo_alert::Severity;

use super::{Shared, limits};
use crate::clock::{self, Watch};
use crate::conditions::alerts::Alerts;
use crate::conditions::clock::Ages;
use crate::conditions::maps::Maps;
use crate::conditions::{self, Condition};
use crate::log_lines;
use crate::refusals::{self, Refusals};
use crate::topics::{Looks, Topics};
use crate::worker::{POLL_MAX, Worker, spawn};

/// How often what is wrong with the process itself is looked for and told.
const CONDITIONS_EVERY: Duration = Duration::from_secs(1);

/// Characters of a file's name that are shown.
const FILE_CHARS_MAX: usize = 200;

/// The name of what [`slow_file`] makes.
pub(super) const SLOW_FILE: &str = "files.slow";

/// A file of the watched folder has been read for long.
pub(super) fn slow_file(file: &str, bytes: u64, took: Duration) -> Condition {
    Condition {
        name: SLOW_FILE,
        about: file.chars().take(FILE_CHARS_MAX).collect(),
        severity: Severity::Warn,
        blocks_ready: false,
        text: format!(
            "The watched file {file:.200} has been read for {} s, {} MiB of it so far; others have \
             their turns meanwhile. Take it away if it is no export.",
            took.as_secs(),
            bytes >> 20
        ),
    }
}

/// The name of what [`left_files`] makes.
pub(super) const LEFT_FILES: &str = "files.left";

/// Files of the watched folder find no place.
pub(super) fn left_files(left: usize, places: usize) -> Condition {
    Condition {
        name: LEFT_FILES,
        about: String::new(),
        severity: Severity::Page,
        blocks_ready: false,
        text: format!(
            "{left} files of the watched folder are not read: {places} others wait to be read, or \
             {} are there. Take old ones away, or raise intake.files_max.",
            places.saturating_mul(fenghuo_intake::watch::FILES_PER_PLACE)
        ),
    }
}

/// The name of what [`folder_away`] makes.
pub(super) const FOLDER_AWAY: &str = "files.folder";

/// The watched folder has been out of reach for so long.
pub(super) fn folder_away(folder: &Path, ms: i64, why: &str) -> Condition {
    let folder = folder.display().to_string();
    Condition {
        name: FOLDER_AWAY,
        about: folder.chars().take(FILE_CHARS_MAX).collect(),
        severity: Severity::Page,
        blocks_ready: false,
        text: format!(
            "The watched folder {folder:.200} has been out of reach for {} s, and no exports are \
             taken: {why:.200}. Put it back, mount it or give the rights back; start the daemon \
             again if another folder is meant.",
            ms / 1_000
        ),
    }
}

/// Looks for what is wrong with the process itself, and lets it be paged.
pub(super) fn start(shared: &Arc<Shared>, refusals: Option<Arc<Refusals>>) -> Worker {
    let shared = Arc::clone(shared);
    spawn("conditions".to_owned(), move |_| {
        let mut alerts: Option<Alerts> = None;
        let (mut maps, mut ages) = (Maps::default(), Ages::default());
        let mut watch = Watch::start();
        while !shared.course.is_stopping() {
            clock::wait(POLL_MAX);
            if watch.elapsed() < CONDITIONS_EVERY {
                continue;
            }
            watch = Watch::start();
            look_at_clocks(&shared, &mut ages);
            look(&shared, &mut maps, refusals.as_deref());
            if let Err(error) = tell(&shared, &mut alerts) {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "conditions are not in the log yet"
                );
            }
        }
    })
}

/// Looks at the clocks.
fn look_at_clocks(shared: &Shared, ages: &mut Ages) {
    let topics = shared.topology.ingest.topics.iter();
    let heard = shared.view.heard();
    let found = conditions::clock::conditions(&conditions::clock::Look {
        standing: clock::told(),
        is_history: ages.is_history(heard, clock::now_ms()),
        heard,
        lateness_ms: topics.map(|topic| topic.lateness_ms).max().unwrap_or(0),
        ahead_ms_max: shared.topology.ingest.ahead_ms_max,
        is_elsewhere: matches!(shared.topics, Topics::Kafka(_)),
        now_ms: clock::now_ms(),
    });
    if let Err(error) = shared.topics.note_clock() {
        tracing::warn!(%error, "what is known of the clock is not noted");
    }
    for name in conditions::clock::NAMES {
        let of_name = found.iter().filter(|one| one.name == name).cloned();
        let now_ms = clock::now_ms();
        shared.conditions.replace(now_ms, name, of_name.collect());
    }
}

/// Looks at what does not report by itself.
fn look(shared: &Shared, maps: &mut Maps, refusals: Option<&Refusals>) {
    let full = shared.topics.full().map(|text| Condition {
        name: "disk.full",
        about: String::new(),
        severity: Severity::Page,
        blocks_ready: true,
        text: format!("The disk is full, and no events are taken: {text}. Make room."),
    });
    let lost = shared.topics.lost(Looks::Now).map(|text| Condition {
        name: "log.lost",
        about: String::new(),
        severity: Severity::Page,
        blocks_ready: true,
        text: format!(
            "The log is lost at the next restart, and no events are taken: {text}. Do not stop this \
             process: take fenghuo log backup now, which copies all that the open file still holds, \
             and go on from the copy."
        ),
    });
    let lost = lost.into_iter().collect();
    shared.conditions.replace(clock::now_ms(), "log.lost", lost);
    metrics::counter!("fenghuo_log_lines_dropped_total").absolute(log_lines::dropped());
    let now_ms = clock::now_ms();
    let full = full.into_iter().collect();
    shared.conditions.replace(now_ms, "disk.full", full);
    let view = &shared.view;
    let full = maps.full(now_ms, &view.entries(), &limits(shared), &view.refused());
    shared.conditions.replace(now_ms, "map.full", full);
    let refusing = refusals.and_then(Refusals::condition);
    let refusing = refusing.into_iter().collect();
    shared
        .conditions
        .replace(now_ms, refusals::CONDITION, refusing);
}

/// Tells the log, once the alerts that a former run left open are known.
fn tell(shared: &Shared, alerts: &mut Option<Alerts>) -> anyhow::Result<()> {
    let now_ms = clock::now_ms();
    let alerts = match alerts {
        Some(alerts) => alerts,
        None => {
            let instance = match shared.course.is_alone() {
                true => "",
                false => &shared.topology.instance,
            };
            let mut restored = Alerts::new(instance);
            shared.topics.scan(&Alerts::place(), None, &mut |record| {
                restored.restore(record.value.as_deref().unwrap_or_default(), now_ms);
                Ok(())
            })?;
            alerts.insert(restored)
        }
    };
    alerts.tell(
        &shared.conditions,
        &*shared.topics.log(),
        &shared.view,
        now_ms,
    )
}
