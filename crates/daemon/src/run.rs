//! `fenghuo run`: the stages on Kafka or in a folder, for as long as the process is wanted.
//!
//! Owns the threads. Each worker is one runner in one thread; after an error that may pass it is
//! dropped and opened again, which begins at its last commit. Pages are sent by tasks beside the
//! dispatch worker; what became of them comes back to it and into the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use fenghuo_engine::{Board, TopologyConfig};
use fenghuo_log::{Append, Error, Log, Runner, Stage, TopicPartition};
use fenghuo_notify::Notifier;

use crate::cli;
use crate::clock::{self, Watch};
use crate::config::{self, Config};
use crate::control;
use crate::exit::Exit;
use crate::http::{self, Elsewhere, Shown};
use crate::identity::Identity;
use crate::intake::Intake;
use crate::load::partition_for;
use crate::measured::{Holdings, MeasuredLog};
use crate::sender::Sender;
use crate::topics::Topics;
use crate::watch;
use crate::welcome;
use crate::worker::{Worker, drain, spawn};

/// Longest wait of one poll: how soon a worker sees that it is to stop.
const POLL_MAX: Duration = Duration::from_millis(100);

/// Waits between lives of a worker, growing to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What is left of the shutdown deadline for leaving the group.
const FAREWELL: Duration = Duration::from_secs(1);

/// A source that is further behind is not caught up.
const BEHIND_MS_MAX: i64 = 60_000;

/// Where only records can be counted, more than these are not caught up.
const BEHIND_RECORDS_MAX: u64 = 100_000;

/// Where everything is kept if nothing else was said.
const DATA: &str = "fenghuo-data";

/// The stages, as their groups are named.
const STAGES: [&str; 3] = ["ingest", "evaluate", "dispatch"];

/// A process that was given no partition for this long is a standby.
const STANDBY_AFTER: Duration = Duration::from_secs(30);

/// How often old events are dropped, where a folder keeps them.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);

/// What the brokers say of the other members is asked no more often.
const MEMBERS_FRESH: Duration = Duration::from_secs(2);

/// A newer build has taken over.
#[derive(Debug, thiserror::Error)]
#[error("{0}; a newer build has taken over, so this one ends")]
pub struct NewerError(String);

impl NewerError {
    /// What it wrote.
    pub fn new(what: String) -> Self {
        Self(what)
    }
}

/// What the workers share.
struct Shared {
    config: Config,
    topology: TopologyConfig,
    topics: Topics,
    log: MeasuredLog,
    identity: Arc<Identity>,
    holdings: Holdings,
    began: Watch,
    board: Arc<Board>,
    stop: AtomicBool,
    /// Why the process must end, once it must.
    fatal: Mutex<Option<String>>,
    /// That is because a newer build has taken over.
    newer: AtomicBool,
    /// Why workers had to begin again, until they did.
    failing: Mutex<BTreeMap<String, String>>,
    /// Partitions of each source topic.
    partitions: BTreeMap<String, u32>,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn fail(&self, why: String) {
        tracing::error!(why, "cannot go on");
        self.fatal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(why);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// A worker cannot go on for now, or goes on.
    fn set_failing(&self, worker: &str, why: Option<String>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => failing.insert(worker.to_owned(), why),
            None => failing.remove(worker),
        };
    }

    /// Why a worker cannot go on for now.
    fn failing(&self) -> Option<String> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let (worker, why) = failing.first_key_value()?;
        Some(format!("{worker} begins again at its last commit: {why}"))
    }

    fn fatal(&self) -> Option<String> {
        self.fatal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Runs until it is told to stop.
pub fn run(args: &cli::Run) -> anyhow::Result<Exit> {
    let config = told(args)?;
    for warning in &config.warnings {
        tracing::warn!(warning, "config");
    }
    let (token, intake_token) = (config.token()?, config.intake_token()?);
    let notifier = Arc::new(Notifier::new(config.channels.clone())?);
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind(config.http.listen))
        .with_context(|| format!("http.listen: cannot listen on {}", config.http.listen))?;
    let prometheus = http::recorder()?;
    fenghuo_notify::describe_metrics();

    let topics = Topics::open(&config)?;
    let log = topics.log();
    let identity =
        until_reached(|| Identity::open(&config, &*log).context("reading what shop this is"))?;
    let mut topology = config.topology(clock::now_ms());
    let known = identity.known();
    (topology.ingest.shop, topology.ingest.currency) = (known.shop, known.currency);
    let partitions = until_reached(|| {
        let partitions = source_topics(&config, &*log)?;
        let own = topology.own_topics(&|name| partitions.get(name).copied().unwrap_or(1));
        log.ensure(&own).context("making fenghuo's own topics")?;
        plans(&config, &*log, &partitions)?;
        Ok(partitions)
    })?;

    let holdings = Holdings::default();
    let shared = Arc::new(Shared {
        log: MeasuredLog::new(log, holdings.clone()),
        topics,
        identity: Arc::new(identity),
        holdings,
        began: Watch::start(),
        board: Arc::new(Board::new()),
        stop: AtomicBool::new(false),
        fatal: Mutex::new(None),
        newer: AtomicBool::new(false),
        failing: Mutex::new(BTreeMap::new()),
        partitions,
        topology,
        config,
    });
    let mut shown = shown(&shared, token, prometheus);
    shown.intake = shared
        .config
        .intake
        .is_open
        .then(|| Arc::new(taker(&shared)));
    shown.intake_token = intake_token;
    let shown = Arc::new(shown);
    let address = listener.local_addr()?;
    tracing::info!(%address, "listening");
    if let config::Log::Embedded(folder) = &shared.config.log {
        println!("{}", welcome::text(&folder.path, address));
        if shared.identity.known().shop.is_none() {
            println!("{}", welcome::first_events(address, &clock::utc_offset()));
        }
    }
    let (closing, closed) = tokio::sync::watch::channel(false);
    let mut told = closed.clone();
    let server = runtime.spawn(http::serve(listener, shown, async move {
        // The sender lives as long as the process is wanted.
        let _ = told.wait_for(|closing| *closing).await;
    }));

    let mut workers = start_workers(&shared, &notifier, runtime.handle());
    workers.push(start_upkeep(&shared));
    workers.extend(start_watch(&shared));
    workers.extend(start_control(&shared)?);
    runtime.block_on(stop_signal(&shared, &workers));
    shared.stop.store(true, Ordering::Relaxed);
    let drained = drain(workers, shared.config.shutdown_deadline);
    let _ = closing.send(true);
    let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), server).await });
    runtime.shutdown_background();
    if let Some(why) = shared.fatal() {
        anyhow::ensure!(!shared.newer.load(Ordering::Relaxed), NewerError(why));
        anyhow::bail!(why);
    }
    anyhow::ensure!(
        drained,
        "not everything was committed within the shutdown deadline; it will be read again"
    );
    tracing::info!("drained");
    Ok(Exit::Done)
}

/// Tries until the brokers are there: a daemon that is started while they are away waits for them,
/// as one does that they leave. What trying again does not heal ends it.
fn until_reached<T>(mut ask: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut backoff = BACKOFF.0;
    loop {
        let error = match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some(Error::Retriable { .. }) = error.downcast_ref::<Error>() else {
            return Err(error);
        };
        tracing::warn!(error = format!("{error:#}"), "waiting for the brokers");
        clock::wait(backoff);
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// What the command line and the config that it names say.
fn told(args: &cli::Run) -> anyhow::Result<Config> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => {
            let mut config = Config::without_file()?;
            config.set_terminal_offset(clock::utc_offset_min());
            config
        }
    };
    Ok(match (&args.data, &args.config) {
        (Some(folder), _) => config.in_folder(folder.clone()),
        (None, Some(_)) => config,
        (None, None) => config.in_folder(DATA.into()),
    })
}

/// Makes the shop's topics where that is allowed, and tells how many partitions each has.
fn source_topics(config: &Config, log: &dyn Log) -> anyhow::Result<BTreeMap<String, u32>> {
    let mut partitions = BTreeMap::new();
    let mut missing = Vec::new();
    for spec in config.source_topics() {
        match log.partitions(&spec.name)? {
            Some(found) => {
                partitions.insert(spec.name, found);
            }
            None if config.topics.create => missing.push(spec),
            None => anyhow::bail!(
                "there is no topic {}; make it, or set topics.create = true",
                spec.name
            ),
        }
    }
    if !missing.is_empty() {
        log.ensure(&missing).context("making the source topics")?;
        partitions.extend(missing.into_iter().map(|spec| (spec.name, spec.partitions)));
    }
    Ok(partitions)
}

/// Tells the stages of the plans in the config, through the shop's own topics.
fn plans(config: &Config, log: &dyn Log, partitions: &BTreeMap<String, u32>) -> anyhow::Result<()> {
    let mut appends = Vec::new();
    for event in config
        .plans
        .events(clock::now_ms(), config.shop.id.as_deref())
    {
        let Some(body) = &event.body else { continue };
        let Some(topic) = config.topic_of(body.stream()) else {
            continue;
        };
        let key = body.key().as_bytes().to_vec();
        let count = partitions.get(&**topic).copied().unwrap_or(1);
        let to = TopicPartition::new(Arc::clone(topic), partition_for(&key, count));
        let mut append = Append::new(to, Some(key), fenghuo_event::to_protobuf(&event));
        append
            .headers
            .push(("content-type", b"application/protobuf".to_vec()));
        appends.push(append);
    }
    if !appends.is_empty() {
        tracing::info!(events = appends.len(), "telling the plans of the config");
        log.append(appends)
            .context("telling the plans of the config")?;
    }
    Ok(())
}

/// What takes events in over HTTP.
fn taker(shared: &Shared) -> Intake {
    let topics = shared.topics.clone();
    Intake::new(
        &shared.config,
        topics.log(),
        Box::new(move || topics.full()),
        &shared.partitions,
        Arc::clone(&shared.identity),
        shared.holdings.clone(),
    )
}

fn shown(
    shared: &Arc<Shared>,
    token: Option<fenghuo_notify::Secret>,
    prometheus: metrics_exporter_prometheus::PrometheusHandle,
) -> Shown {
    let config = &shared.config;
    let (for_ready, for_healthy) = (Arc::clone(shared), Arc::clone(shared));
    let (for_held, for_elsewhere) = (shared.holdings.clone(), Arc::clone(shared));
    let members = Mutex::new(None);
    let sources = shared
        .partitions
        .values()
        .map(|count| u64::from(*count))
        .sum::<u64>();
    let homes = u64::from(config.topics.panes_partitions);
    Shown {
        board: Arc::clone(&shared.board),
        identity: Arc::clone(&shared.identity),
        token,
        intake: None,
        intake_token: None,
        metrics_open: config.http.metrics_open,
        now_ms: Arc::new(clock::now_ms),
        ready: Arc::new(move || ready(&for_ready)),
        healthy: Arc::new(
            move || match for_healthy.fatal().or(for_healthy.topics.fault()) {
                Some(why) => Err(why),
                None => Ok(()),
            },
        ),
        held: Arc::new(move || for_held.all()),
        elsewhere: Arc::new(move || {
            // Held while the brokers are asked, so that they are asked once.
            let mut asked = members.lock().unwrap_or_else(PoisonError::into_inner);
            match &*asked {
                Some((watch, told)) if Watch::elapsed(watch) < MEMBERS_FRESH => {
                    Ok(Vec::clone(told))
                }
                _ => {
                    let told = elsewhere(&for_elsewhere)?;
                    *asked = Some((Watch::start(), told.clone()));
                    Ok(told)
                }
            }
        }),
        panes_partitions: config.topics.panes_partitions as usize,
        prometheus,
        limits: vec![
            (
                "duplicates",
                sources * 2 * config.ingest.duplicates.entries_max as u64,
            ),
            (
                "trackers",
                sources * config.ingest.trackers.entries_max as u64,
            ),
            ("entities", homes * config.evaluate.entities_max as u64),
        ],
        top_entities: config.http.top_entities,
    }
}

/// What other members of the groups hold.
fn elsewhere(shared: &Shared) -> Result<Vec<Elsewhere>, String> {
    let held = shared.holdings.all();
    let mut all = Vec::new();
    for stage in STAGES {
        let group = shared.topology.group_of(stage);
        let members = shared
            .topics
            .members(&group)
            .map_err(|error| chain(&error))?;
        for member in members {
            let is_here = |partition: &TopicPartition| {
                held.iter().any(|held| {
                    (held.stage, &*held.topic, held.partition)
                        == (stage, &*partition.topic, partition.partition)
                })
            };
            let others = member.partitions.iter().filter(|one| !is_here(one));
            let partitions: Vec<(String, u32)> = others
                .map(|one| (one.topic.to_string(), one.partition))
                .collect();
            if !partitions.is_empty() {
                all.push(Elsewhere {
                    stage,
                    instance: member.client_id,
                    host: member.host,
                    partitions,
                });
            }
        }
    }
    Ok(all)
}

/// Ready once everything known of the partitions that this process was given is restored, and
/// every source was read to its end, or nearly. One that was given none is a standby, after a
/// while.
fn ready(shared: &Shared) -> Result<(), String> {
    let now_ms = clock::now_ms();
    let held = shared.holdings.all();
    // One that cannot reach the brokers is no standby.
    if let Some(why) = shared.failing() {
        return Err(why);
    }
    if held.is_empty() {
        return match shared.began.elapsed() > STANDBY_AFTER {
            true => Ok(()),
            false => Err("no partition was given to this process yet".to_owned()),
        };
    }
    if let Some(held) = held.iter().find(|held| held.behind.is_none()) {
        return Err(format!(
            "{}/{} is being restored",
            held.topic, held.partition
        ));
    }
    let panes = held.iter().filter(|held| held.stage == "evaluate").count();
    let homes = shared.board.homes();
    if homes < panes {
        return Err(format!(
            "{homes} of {panes} partitions of fenghuo.panes are restored"
        ));
    }
    if panes == 0 {
        // The clocks of the sources are where the panes are; ingest and dispatch are behind by
        // what they have yet to read.
        let behind: u64 = held.iter().filter_map(|held| held.behind).sum();
        return match behind <= BEHIND_RECORDS_MAX {
            true => Ok(()),
            false => Err(format!("{behind} records are being caught up with")),
        };
    }
    let standings = shared.board.sources();
    for (topic, count) in &shared.partitions {
        for partition in 0..*count {
            let standing = standings
                .iter()
                .find(|(name, at, _)| name == topic && *at == partition);
            let Some((_, _, standing)) = standing else {
                return Err(format!("nothing was heard of {topic}/{partition} yet"));
            };
            if now_ms - standing.at_ms > BEHIND_MS_MAX {
                return Err(format!(
                    "nothing was heard of {topic}/{partition} for a while"
                ));
            }
            let behind_ms = standing
                .newest_ms
                .map_or(i64::MAX, |newest| now_ms - newest);
            if !standing.at_end && behind_ms > BEHIND_MS_MAX {
                return Err(format!("{topic}/{partition} is being caught up with"));
            }
        }
    }
    Ok(())
}

fn start_workers(
    shared: &Arc<Shared>,
    notifier: &Arc<Notifier>,
    runtime: &tokio::runtime::Handle,
) -> Vec<Worker> {
    let mut workers = Vec::new();
    for number in 0..shared.config.ingest.workers {
        let shared = Arc::clone(shared);
        workers.push(spawn(format!("ingest-{number}"), move |name| {
            let open = || shared.topology.ingest(&shared.log, &shared.board, number);
            work(&shared, name, &open, &mut |_, _| true);
        }));
    }
    for number in 0..shared.config.evaluate.workers {
        let shared = Arc::clone(shared);
        workers.push(spawn(format!("evaluate-{number}"), move |name| {
            let open = || shared.topology.evaluate(&shared.log, &shared.board, number);
            let judged = metrics::histogram!("fenghuo_judge_duration_seconds");
            work(&shared, name, &open, &mut |_, took| {
                if let Some(took) = took {
                    judged.record(took);
                }
                true
            });
        }));
    }
    let (shared, notifier) = (Arc::clone(shared), Arc::clone(notifier));
    let runtime = runtime.clone();
    workers.push(spawn("dispatch".to_owned(), move |name| {
        let open = || shared.topology.dispatch(&shared.log, &shared.board);
        let mut sender = Sender::new(
            &shared.config,
            Arc::clone(&shared.identity),
            notifier,
            runtime,
        );
        work(&shared, name, &open, &mut |runner, _| {
            sender.serve(runner.stage_mut(), &|| ready(&shared))
        });
    }));
    workers
}

/// Reads the files of a watched folder, where there is one.
fn start_watch(shared: &Arc<Shared>) -> Option<Worker> {
    let watched = shared.config.watched.clone()?;
    let shared = Arc::clone(shared);
    Some(spawn("files".to_owned(), move |name| {
        let log = shared.topics.log();
        let (config, identity) = (&shared.config, &shared.identity);
        if let Err(error) = watch::watch(&*log, config, identity, &watched, &shared.stop) {
            shared.fail(format!("{name}: {error:#}"));
        }
    }))
}

/// Answers who may ask something of the folder, where there is one.
fn start_control(shared: &Arc<Shared>) -> anyhow::Result<Option<Worker>> {
    let Topics::Folder(log, folder) = shared.topics.clone() else {
        return Ok(None);
    };
    let listener = control::listen(&folder.path)?;
    let shared = Arc::clone(shared);
    Ok(Some(spawn("control".to_owned(), move |_| {
        control::serve(&listener, &log, &shared.stop);
    })))
}

/// Looks after the folder, now and then.
fn start_upkeep(shared: &Arc<Shared>) -> Worker {
    let shared = Arc::clone(shared);
    spawn("upkeep".to_owned(), move |_| {
        let mut watch = Watch::start();
        while !shared.is_stopping() {
            clock::wait(POLL_MAX);
            if watch.elapsed() > UPKEEP_EVERY {
                shared.topics.tidy();
                watch = Watch::start();
            }
        }
    })
}

/// Runs lives of one worker until it is to stop. After each step `each` sees the runner, and how
/// long the step took in seconds where it had records; it answers whether nothing is under way
/// that should be committed before the worker ends.
fn work<S: Stage>(
    shared: &Shared,
    name: &str,
    open: &dyn Fn() -> Result<Runner<S>, Error>,
    each: &mut dyn FnMut(&mut Runner<S>, Option<f64>) -> bool,
) {
    let mut backoff = BACKOFF.0;
    while !shared.is_stopping() {
        let lived = live(shared, name, open, each, &mut backoff);
        if let Err(error) = &lived {
            shared.set_failing(name, Some(chain(error)));
        }
        match lived {
            Ok(()) => return,
            Err(
                error @ (Error::Fatal(_) | Error::Fenced { .. } | Error::PartitionCount { .. }),
            ) => {
                return shared.fail(format!("{name}: {}", chain(&error)));
            }
            Err(error @ Error::Newer(_)) => {
                shared.newer.store(true, Ordering::Relaxed);
                return shared.fail(format!("{name}: {error}"));
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
        while !shared.is_stopping() && watch.elapsed() < backoff {
            clock::wait(POLL_MAX.min(backoff));
        }
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

fn live<S: Stage>(
    shared: &Shared,
    name: &str,
    open: &dyn Fn() -> Result<Runner<S>, Error>,
    each: &mut dyn FnMut(&mut Runner<S>, Option<f64>) -> bool,
    backoff: &mut Duration,
) -> Result<(), Error> {
    let mut runner = open()?;
    shared.set_failing(name, None);
    while !shared.is_stopping() {
        let watch = Watch::start();
        let step = runner.step(clock::now_ms(), POLL_MAX)?;
        let took = (step.records > 0).then(|| watch.elapsed().as_secs_f64());
        each(&mut runner, took);
        if step.committed {
            *backoff = BACKOFF.0;
        }
    }
    // Nothing more is read; what is under way may still come to its end.
    let watch = Watch::start();
    loop {
        let is_idle = each(&mut runner, None);
        runner.commit(clock::now_ms())?;
        if is_idle || watch.elapsed() + FAREWELL > shared.config.shutdown_deadline {
            return Ok(());
        }
        clock::wait(Duration::from_millis(10));
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Waits for SIGTERM, SIGINT, or a worker that cannot go on.
async fn stop_signal(shared: &Shared, workers: &[Worker]) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return shared.fail("signals cannot be listened to".to_owned());
    };
    let mut look = tokio::time::interval(POLL_MAX);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = look.tick() => {
                if shared.is_stopping() {
                    break;
                }
                if workers.iter().any(Worker::is_finished) {
                    shared.fail("a worker ended by a fault of its own".to_owned());
                }
            }
        }
    }
    tracing::info!("stopping");
}
