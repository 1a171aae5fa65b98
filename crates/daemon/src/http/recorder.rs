//! The recorder: what the process measures as it happens, with descriptions and buckets.
//!
//! What the view knows is not measured here: it is read when metrics are asked for.

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of every histogram, in seconds.
const BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Installs the recorder; a process has one.
///
/// # Errors
/// Another one is installed.
pub fn recorder() -> Result<PrometheusHandle, BuildError> {
    let handle = builder()?.install_recorder()?;
    describe();
    Ok(handle)
}

/// A recorder's settings.
pub(super) fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)
}

/// Tells the installed recorder what is measured, and lets counters begin at 0: an alert on the
/// first of something needs the 0 before it.
fn describe() {
    describe_histogram!(
        "fenghuo_commit_duration_seconds",
        "Time to commit a batch, by stage."
    );
    describe_histogram!(
        "fenghuo_judge_duration_seconds",
        "Time to fold a batch of commit records and judge what changed."
    );
    describe_histogram!(
        "fenghuo_append_to_page_seconds",
        "From the append of the oldest event that led to a page to the receiver's answer."
    );
    describe_counter!(
        "fenghuo_log_dropped_bytes_total",
        "Bytes of a topic in the folder that were dropped because a limit was reached."
    );
    describe_counter!(
        "fenghuo_files_events_total",
        "Events read from the files of the watched folder."
    );
    describe_counter!(
        "fenghuo_files_rejected_total",
        "Rows of the watched folder's files that are dead letters."
    );
    describe_gauge!("fenghuo_files_watched", "Files that are remembered.");
    describe_gauge!(
        "fenghuo_files_watched_limit",
        "Most files that may wait to be read."
    );
    describe_gauge!(
        "fenghuo_files_left",
        "Files that have found no place for long, and are not read."
    );
    describe_gauge!(
        "fenghuo_files_reading_seconds",
        "For how long the watched file has been read that is being read for longest, in seconds."
    );
    describe_gauge!("fenghuo_files_rows", "Rows that are remembered, each once.");
    describe_gauge!("fenghuo_files_rows_limit", "Most rows there may be.");
    describe_counter!(
        "fenghuo_http_crowded_total",
        "Connections that were closed or requests that were refused for want of room or of progress."
    );
    describe_counter!(
        "fenghuo_log_lines_dropped_total",
        "Log lines that were dropped while nobody read standard error."
    );
    describe_gauge!(
        "fenghuo_channel_waiting_pages",
        "Pages that wait until their channel has a place for them."
    );
    describe_gauge!(
        "fenghuo_channel_sending_pages",
        "Pages that are being sent, or wait for their next try, by channel."
    );
    crate::refusals::describe();
    fenghuo_notify::describe_metrics();
}
