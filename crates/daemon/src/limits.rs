//! What the system lets this process do: how many files it may have open, and how large they may be.
//!
//! Owns that a limit is known before anything rests on it. Connections of others come out of what is
//! left over: they must never take the descriptors that receivers, brokers and the log need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the process needs itself: the log, watched files, receivers, threads.
const OWN: u64 = 128;

/// What it needs besides for brokers.
const BROKERS: u64 = 256;

/// With fewer connections than these nobody could look on while others send.
const CONNECTIONS_MIN: u64 = 32;

/// Raises the number of files that may be open as far as it goes, and returns how many connections may
/// come out of it.
///
/// # Errors
/// What to do, where there are too few.
pub fn connections(has_brokers: bool) -> anyhow::Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // None is no limit.
    let most = match setrlimit(Resource::Nofile, most) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    };
    left(most, has_brokers)
}

fn left(most: u64, has_brokers: bool) -> anyhow::Result<usize> {
    let own = OWN + if has_brokers { BROKERS } else { 0 };
    let left = most.saturating_sub(own);
    anyhow::ensure!(
        left >= CONNECTIONS_MIN,
        "this process may have {most} files open, and needs {} at least: raise the limit (`ulimit -n 1024`, \
         or LimitNOFILE= of the service)",
        own + CONNECTIONS_MIN
    );
    Ok(usize::try_from(left).unwrap_or(usize::MAX))
}

/// A file that may not grow any more is a failed write, told like one of a full disk, and not the end
/// of the process. To be called within a runtime.
pub fn survive_file_size() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // A handler stands for as long as the process does, whether anybody listens or not.
    signal(SignalKind::from_raw(SIGXFSZ)).map(drop)
}

/// The same number on every Linux but MIPS.
const SIGXFSZ: i32 = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_out_of_what_is_left() {
        assert_eq!(left(1_024, false).unwrap(), 896);
        assert_eq!(left(1_024, true).unwrap(), 640);
        assert_eq!(left(160, false).unwrap(), 32);
        let error = left(64, false).unwrap_err().to_string();
        assert!(
            error.contains("64 files") && error.contains("160"),
            "{error}"
        );
    }
}
