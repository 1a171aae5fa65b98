//! When a run ends: by a signal, or by a worker that cannot go on.

use crate::worker::{Course, POLL_MAX, Worker};

/// Whether whoever started this process wants it to outlive the terminal, as `nohup` does.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 != 0)
}

/// Waits for SIGTERM, SIGINT, SIGHUP, or a worker that cannot go on.
pub(super) async fn stop_signal(course: &Course, workers: &[Worker]) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return course.fail("signals cannot be listened to".to_owned());
    };
    let mut hangup = match ignores_hangup() {
        true => None,
        false => signal(SignalKind::hangup()).ok(),
    };
    let hung_up = async {
        match &mut hangup {
            Some(hangup) => _ = hangup.recv().await,
            None => std::future::pending().await,
        }
    };
    let mut hung_up = std::pin::pin!(hung_up);
    let mut look = tokio::time::interval(POLL_MAX);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = &mut hung_up => break,
            _ = look.tick() => {
                if course.is_stopping() {
                    break;
                }
                if workers.iter().any(Worker::is_finished) {
                    course.fail("a worker ended by a fault of its own".to_owned());
                }
            }
        }
    }
    tracing::info!("stopping");
}
