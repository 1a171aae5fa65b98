//! Threads with a name, and the wait for their end.

use std::time::Duration;

use crate::clock::{self, Watch};

/// A thread of this process.
pub type Worker = std::thread::JoinHandle<()>;

/// Starts one.
pub fn spawn(name: String, work: impl FnOnce(&str) + Send + 'static) -> Worker {
    let thread = std::thread::Builder::new().name(name.clone());
    // Without threads there is nothing to run; the process ends with the system's own error.
    match thread.spawn(move || work(&name)) {
        Ok(worker) => worker,
        Err(error) => panic!("starting a thread: {error}"),
    }
}

/// Waits for every worker, no longer than the deadline.
pub fn drain(workers: Vec<Worker>, deadline: Duration) -> bool {
    let watch = Watch::start();
    for worker in workers {
        while !worker.is_finished() {
            if watch.elapsed() > deadline {
                return false;
            }
            clock::wait(Duration::from_millis(10));
        }
        if worker.join().is_err() {
            return false;
        }
    }
    true
}
