//! Threads with a name, the lives that they lead, and how they all come to an end.
//!
//! Owns the course of the process: whether it goes on, why not, and in which order its workers
//! end. A worker is one runner in one thread; after an error that may pass it is dropped and opened
//! again, which begins at its last commit.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fenghuo_log::{Error, Runner, Stage};

use crate::clock::{self, Watch};

/// Longest wait of one poll: how soon a worker sees that it is to stop.
pub const POLL_MAX: Duration = Duration::from_millis(100);

/// Waits between lives of a worker, growing from one to the other.
pub const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Workers of a stage wait so long for each other before they take partitions: who takes them all
/// restores them all, and then gives half of them away.
const PEERS_WITHIN: Duration = Duration::from_secs(1);

/// What is left of the shutdown deadline for leaving the group.
const FAREWELL: Duration = Duration::from_secs(1);

/// A thread of this process.
pub type Worker = std::thread::JoinHandle<()>;

/// A worker among those of its stage.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Its stage.
    pub who: Writer,
    /// How many workers the stage has.
    pub workers: usize,
}

/// Who writes what others read, in the order of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// What takes events in.
    Intake,
    /// A worker of this stage.
    Ingest,
    /// A worker of this stage.
    Evaluate,
    /// The worker of this stage.
    Dispatch,
}

/// Why the process must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A newer build has taken over.
    Newer(String),
    /// Anything else that trying again does not heal.
    Fatal(String),
}

/// The course of the process: whether it goes on, and why not.
#[derive(Debug)]
pub struct Course {
    stop: AtomicBool,
    fault: Mutex<Option<Fault>>,
    /// Why workers had to begin again, until they did.
    failing: Mutex<BTreeMap<String, String>>,
    /// How many write, in the order of [`Writer`].
    writing: [AtomicUsize; 4],
    /// How many have joined their group, in the same order.
    joined: [AtomicUsize; 4],
    deadline: Duration,
    is_alone: bool,
}

/// One that writes, until it is dropped.
#[derive(Debug)]
pub struct Writing<'a>(&'a AtomicUsize);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Course {
    /// A process that has so long to end. One that is alone with its log reads what was written
    /// to its end before it does, as far as half of that time allows.
    pub fn new(deadline: Duration, is_alone: bool) -> Self {
        Self {
            stop: AtomicBool::new(false),
            fault: Mutex::new(None),
            failing: Mutex::new(BTreeMap::new()),
            writing: Default::default(),
            joined: Default::default(),
            deadline,
            is_alone,
        }
    }

    /// Whether nobody else reads what this process does not.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Set once the process is to end.
    pub fn stop(&self) -> &AtomicBool {
        &self.stop
    }

    /// Whether the process is to end.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Whether what comes now would not be judged any more: on Kafka somebody else will.
    pub fn is_closed(&self) -> bool {
        self.is_alone && self.is_stopping()
    }

    /// Lets the process end.
    pub fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Lets the process end for a reason.
    pub fn fail(&self, why: String) {
        self.end_for(Fault::Fatal(why));
    }

    /// Lets the process end, as another build has taken over.
    pub fn end_newer(&self, why: String) {
        self.end_for(Fault::Newer(why));
    }

    fn end_for(&self, fault: Fault) {
        let (Fault::Newer(why) | Fault::Fatal(why)) = &fault;
        tracing::error!(why, "cannot go on");
        lock(&self.fault).get_or_insert(fault);
        self.end();
    }

    /// Why the process must end, once it must.
    pub fn verdict(&self) -> Option<Fault> {
        lock(&self.fault).clone()
    }

    /// The same in words.
    pub fn fault(&self) -> Option<String> {
        let (Fault::Newer(why) | Fault::Fatal(why)) = self.verdict()?;
        Some(why)
    }

    /// A worker cannot go on for now, or goes on.
    fn set_failing(&self, worker: &str, why: Option<String>) {
        let mut failing = lock(&self.failing);
        match why {
            Some(why) => failing.insert(worker.to_owned(), why),
            None => failing.remove(worker),
        };
    }

    /// Why a worker cannot go on for now.
    pub fn failing(&self) -> Option<String> {
        let failing = lock(&self.failing);
        let (worker, why) = failing.first_key_value()?;
        Some(format!("{worker} begins again at its last commit: {why}"))
    }

    /// One more writes from now on.
    pub fn enter(&self, who: Writer) -> Writing<'_> {
        let count = &self.writing[who as usize];
        count.fetch_add(1, Ordering::SeqCst);
        Writing(count)
    }

    /// A worker has joined its group for the first time; the others are about to.
    fn join(&self, role: Role) {
        let joined = &self.joined[role.who as usize];
        joined.fetch_add(1, Ordering::SeqCst);
        let watch = Watch::start();
        while joined.load(Ordering::SeqCst) < role.workers
            && watch.elapsed() < PEERS_WITHIN
            && !self.is_stopping()
        {
            clock::wait(Duration::from_millis(1));
        }
    }

    fn writes(&self, who: Writer) -> bool {
        self.writing[who as usize].load(Ordering::SeqCst) > 0
    }

    /// Whether anybody still writes what this one reads.
    fn is_fed(&self, who: Writer) -> bool {
        let before = &self.writing[..who as usize];
        before.iter().any(|count| count.load(Ordering::SeqCst) > 0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole after every change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts one.
pub fn spawn(name: String, work: impl FnOnce(&str) + Send + 'static) -> Worker {
    let thread = std::thread::Builder::new().name(name.clone());
    // Without threads there is nothing to run; the process ends with the system's own error.
    match thread.spawn(move || work(&name)) {
        Ok(worker) => worker,
        Err(error) => panic!("starting a thread: {error}"),
    }
}

/// Runs lives of one worker until it is to stop. After each step `each` sees the runner, and how
/// long the step took in seconds where it had records; it answers whether nothing is under way
/// that should be committed before the worker ends.
pub fn work<S: Stage>(
    course: &Course,
    role: Role,
    name: &str,
    open: &dyn Fn() -> Result<Runner<S>, Error>,
    each: &mut dyn FnMut(&mut Runner<S>, Option<f64>) -> bool,
) {
    let mut backoff = BACKOFF.0;
    let has_joined = Cell::new(false);
    let open = || {
        let runner = open()?;
        if !has_joined.replace(true) {
            course.join(role);
        }
        Ok(runner)
    };
    while !course.is_stopping() {
        let lived = live(course, role.who, name, &open, each, &mut backoff);
        if let Err(error) = &lived {
            course.set_failing(name, Some(chain(error)));
        }
        match lived {
            Ok(()) => return,
            Err(
                error @ (Error::Fatal(_)
                | Error::Former { .. }
                | Error::Fenced { .. }
                | Error::PartitionCount { .. }),
            ) => {
                return course.fail(format!("{name}: {}", chain(&error)));
            }
            Err(error @ Error::Newer(_)) => {
                return course.end_for(Fault::Newer(format!("{name}: {error}")));
            }
            // Retention has passed us by: the next life goes on with what is there, and says so.
            Err(error @ Error::OutOfRange { .. }) => {
                tracing::error!(worker = name, error = chain(&error), "records are lost");
            }
            Err(error @ Error::Retriable { .. }) => {
                tracing::warn!(
                    worker = name,
                    error = chain(&error),
                    "beginning again at the last commit"
                );
            }
        }
        let watch = Watch::start();
        while !course.is_stopping() && watch.elapsed() < backoff {
            clock::wait(POLL_MAX.min(backoff));
        }
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

fn live<S: Stage>(
    course: &Course,
    who: Writer,
    name: &str,
    open: &dyn Fn() -> Result<Runner<S>, Error>,
    each: &mut dyn FnMut(&mut Runner<S>, Option<f64>) -> bool,
    backoff: &mut Duration,
) -> Result<(), Error> {
    let writing = course.enter(who);
    let mut runner = open()?;
    course.set_failing(name, None);
    let mut step = |runner: &mut Runner<S>| {
        let watch = Watch::start();
        let step = runner.step_by(&mut clock::now_ms, POLL_MAX)?;
        let took = (step.records > 0).then(|| watch.elapsed().as_secs_f64());
        let is_idle = each(runner, took);
        Ok::<_, Error>((step, is_idle))
    };
    while !course.is_stopping() {
        let (step, _) = step(&mut runner)?;
        if step.committed {
            *backoff = BACKOFF.0;
        }
    }
    let watch = Watch::start();
    if course.is_alone {
        // Asked before the step, which then sees what they wrote last.
        let mut is_fed = course.is_fed(who);
        while watch.elapsed() < course.deadline / 2 {
            let held = runner.partitions().count();
            let (step, _) = step(&mut runner)?;
            let is_new = runner.partitions().count() != held;
            if !is_fed && !is_new && step.records == 0 && !runner.is_waiting() {
                break;
            }
            is_fed = course.is_fed(who);
        }
    }
    // Nothing more is read; what is under way may still come to its end.
    loop {
        let is_idle = each(&mut runner, None);
        runner.commit(clock::now_ms())?;
        if is_idle || watch.elapsed() + FAREWELL > course.deadline {
            break;
        }
        clock::wait(Duration::from_millis(10));
    }
    drop(writing);
    // Whoever left now would hand its partitions to those who still read theirs.
    while course.is_alone && course.writes(who) && watch.elapsed() + FAREWELL < course.deadline {
        clock::wait(Duration::from_millis(10));
    }
    Ok(())
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use fenghuo_log::memory::MemoryLog;
    use fenghuo_log::{
        Append, Assigned, Cadence, Log, Progress, Record, Restore, SessionSpec, Start,
        TopicPartition, TopicSpec,
    };

    use super::*;

    /// Passes on what it reads, or counts it.
    struct Pass<'a> {
        to: Option<&'static str>,
        read: Vec<Vec<u8>>,
        assigned: &'a AtomicU64,
        counted: &'a AtomicU64,
    }

    impl Stage for Pass<'_> {
        fn assign(&mut self, _index: usize, _assigned: &Assigned, _from: u64) -> Vec<Restore> {
            self.assigned.fetch_add(1, Ordering::SeqCst);
            Vec::new()
        }

        fn restore(&mut self, _index: usize, _which: usize, _record: Record<'_>) {}

        fn revoke(&mut self, _index: usize) {}

        fn apply(&mut self, _index: usize, record: Record<'_>) {
            self.read.push(record.value.unwrap_or_default().to_vec());
        }

        fn flush(&mut self, _at_ms: i64, _progress: &[Progress], appends: &mut Vec<Append>) {
            let read = std::mem::take(&mut self.read);
            match self.to {
                None => _ = self.counted.fetch_add(read.len() as u64, Ordering::SeqCst),
                Some(to) => appends.extend(read.into_iter().enumerate().map(|(at, value)| {
                    let to = TopicPartition::new(to, at as u32 % PARTITIONS);
                    Append::new(to, None, value)
                })),
            }
        }

        fn committed(&mut self) {}
    }

    const PARTITIONS: u32 = 4;
    const WORKERS: usize = 2;

    #[test]
    fn a_lone_process_reads_what_was_written_before_it_ends_and_restores_nothing_twice() {
        let log = MemoryLog::new();
        for name in ["events", "panes"] {
            log.ensure(&[TopicSpec {
                name: name.to_owned(),
                partitions: PARTITIONS,
                compacted: false,
                retention_ms: None,
            }])
            .unwrap();
        }
        let course = Course::new(Duration::from_secs(60), true);
        let (assigned, counted) = (AtomicU64::new(0), AtomicU64::new(0));
        let live = |who, name: &'static str, number: usize, to: Option<&'static str>| {
            let role = Role {
                who,
                workers: WORKERS,
            };
            let open = || {
                let session = log.open(&SessionSpec {
                    group: name.to_owned(),
                    member: format!("{name}-{number}"),
                    topics: vec![if to.is_some() { "events" } else { "panes" }.to_owned()],
                    start: Start::Earliest,
                    low_latency: false,
                })?;
                let cadence = Cadence {
                    busy_ms: 0,
                    idle_ms: None,
                    records_max: 100,
                };
                let stage = Pass {
                    to,
                    read: Vec::new(),
                    assigned: &assigned,
                    counted: &counted,
                };
                Ok(Runner::new(session, stage, Start::Earliest, cadence))
            };
            work(&course, role, name, &open, &mut |_, _| true);
        };
        let event = |at: u32| {
            let to = TopicPartition::new("events", at % PARTITIONS);
            Append::new(to, None, vec![1])
        };
        std::thread::scope(|scope| {
            for number in 0..WORKERS {
                scope.spawn(move || live(Writer::Ingest, "ingest", number, Some("panes")));
                scope.spawn(move || live(Writer::Evaluate, "evaluate", number, None));
            }
            log.append((0..1_000).map(event).collect()).unwrap();
            while assigned.load(Ordering::SeqCst) < 2 * u64::from(PARTITIONS) {
                clock::wait(Duration::from_millis(1));
            }
            // One that takes events in is in the middle of it.
            let writing = course.enter(Writer::Intake);
            course.end();
            for _ in 0..10 {
                log.append((0..1_000).map(event).collect()).unwrap();
            }
            drop(writing);
        });
        assert_eq!(counted.into_inner(), 11_000);
        assert_eq!(assigned.into_inner(), 2 * u64::from(PARTITIONS));
    }
}
