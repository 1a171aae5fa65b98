//! Log lines: what the process says of itself on standard error.
//!
//! A thread of its own writes them, behind a bounded queue. While nobody reads, further lines are
//! dropped and counted: no stage, request or page ever waits for them.

use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::cli::Cli;
use crate::clock::{self, Watch};

/// Lines that wait to be written.
const WAITING_MAX: usize = 8 * 1024;

/// How long the last words of the process wait for a reader.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Sets them up; what waits is written when the result is dropped, or given up after a second.
///
/// Standard output is for what was asked.
pub fn start(cli: &Cli) -> Result<WorkerGuard, String> {
    let filter = EnvFilter::try_new(&cli.log).map_err(|error| error.to_string())?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_MAX)
        .thread_name("log-lines")
        .finish(std::io::stderr());
    // The first one counts; there is no second.
    let _ = DROPPED.set(writer.error_counter());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal());
    if cli.log_json {
        lines.json().init();
    } else {
        lines.init();
    }
    Ok(guard)
}

/// Lines that were dropped since the start.
pub fn dropped() -> u64 {
    DROPPED
        .get()
        .map_or(0, |counter| counter.dropped_lines() as u64)
}

/// Says why the process ends, unless nobody reads.
pub fn last_words(text: String) {
    let saying = std::thread::spawn(move || {
        // Whoever closed it does not want to know.
        let _ = writeln!(std::io::stderr(), "{text}");
    });
    let watch = Watch::start();
    while !saying.is_finished() && watch.elapsed() < LAST_WORDS_WITHIN {
        clock::wait(Duration::from_millis(1));
    }
}
