//! The threads beside the stages: the watched folder, the folder's upkeep and its control socket, and
//! which set is in force.
//!
//! Each ends when the process is to end. None of them may stop a stage but by a fault of the course.

use std::sync::Arc;
use std::time::Duration;

use fenghuo_log::Error;

use super::{Shared, watched};
use crate::clock::{self, Watch};
use crate::control;
use crate::sets::{self, Agreed};
use crate::topics::{Looks, Topics};
use crate::watch;
use crate::worker::{POLL_MAX, Worker, Writer, chain, spawn};

/// How often old events are dropped, where a folder keeps them.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);

/// How often it is asked which set is in force.
const SETS_EVERY: Duration = Duration::from_secs(1);

/// Reads the files of a watched folder, where there is one.
pub(super) fn start_watch(shared: &Arc<Shared>) -> Option<Worker> {
    let watched = shared.config.watched.clone()?;
    let shared = Arc::clone(shared);
    Some(spawn("files".to_owned(), move |name| {
        let log = shared.topics.log();
        let (config, identity) = (&shared.config, &shared.identity);
        let _writing = shared.course.enter(Writer::Intake);
        let halt = watch::Halt {
            stop: shared.course.stop(),
            pause: &|| shared.topics.lost(Looks::Before).is_some(),
            slow: &|slow| {
                let slow = slow.map(|(file, bytes, took)| watched::slow_file(file, bytes, took));
                let slow = slow.into_iter().collect();
                let now_ms = clock::now_ms();
                shared.conditions.replace(now_ms, watched::SLOW_FILE, slow);
            },
            left: &|left| {
                let left = left.map(|(left, places)| watched::left_files(left, places));
                let left = left.into_iter().collect();
                let now_ms = clock::now_ms();
                shared.conditions.replace(now_ms, watched::LEFT_FILES, left);
            },
            away: &|away| {
                let folder = &watched.folder;
                let away = away.map(|(ms, why)| watched::folder_away(folder, ms, why));
                let away = away.into_iter().collect();
                let now_ms = clock::now_ms();
                let name = watched::FOLDER_AWAY;
                shared.conditions.replace(now_ms, name, away);
            },
        };
        if let Err(error) = watch::watch(&*log, config, identity, &watched, halt) {
            shared.course.fail(format!("{name}: {error:#}"));
        }
    }))
}

/// Answers who may ask something of the folder, where there is one.
pub(super) fn start_control(shared: &Arc<Shared>) -> anyhow::Result<Option<Worker>> {
    let Topics::Folder(log, folder) = shared.topics.clone() else {
        return Ok(None);
    };
    let listener = control::listen(&folder.path)?;
    let shared = Arc::clone(shared);
    Ok(Some(spawn("control".to_owned(), move |_| {
        control::serve(&listener, &log, &shared.identity, shared.course.stop());
    })))
}

/// Follows which set is in force.
pub(super) fn start_sets(shared: &Arc<Shared>, mut sets: Agreed) -> Worker {
    let shared = Arc::clone(shared);
    spawn("sets".to_owned(), move |_| {
        let mut watch: Option<Watch> = None;
        while !shared.course.is_stopping() {
            if watch
                .as_ref()
                .is_none_or(|watch| watch.elapsed() > SETS_EVERY)
            {
                match sets.follow() {
                    Ok(Some(set)) => shared.topology.set.put(set),
                    Ok(None) => {}
                    Err(sets::Error::OtherBuild(why)) => return shared.course.end_newer(why),
                    Err(sets::Error::Log(error)) => {
                        let error = format!("{error:#}");
                        tracing::warn!(error, "which set is in force is not read yet");
                    }
                }
                let superseded = sets.condition().into_iter().collect();
                let now_ms = clock::now_ms();
                shared
                    .conditions
                    .replace(now_ms, sets::SUPERSEDED, superseded);
                watch = Some(Watch::start());
            }
            clock::wait(POLL_MAX);
        }
    })
}

/// Looks after the folder, now and then.
pub(super) fn start_upkeep(shared: &Arc<Shared>) -> Worker {
    let shared = Arc::clone(shared);
    spawn("upkeep".to_owned(), move |_| {
        let mut watch = Watch::start();
        while !shared.course.is_stopping() {
            clock::wait(POLL_MAX);
            if watch.elapsed() > UPKEEP_EVERY {
                match shared.topics.tidy() {
                    Ok(()) => {}
                    // What cannot be read will not be read better by a stage.
                    Err(Error::Fatal(why)) => shared.course.fail(why),
                    Err(error) => {
                        let error = chain(&error);
                        tracing::warn!(error, "old records could not be dropped");
                    }
                }
                watch = Watch::start();
            }
        }
    })
}
