//! `fenghuo run`: the stages on Kafka or in a folder, for as long as the process is wanted.
//!
//! Owns the threads. Each worker is one runner in one thread; after an error that may pass it is
//! dropped and opened again, which begins at its last commit. Pages are sent by tasks beside the
//! dispatch worker; what became of them comes back to it and into the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use fenghuo_engine::record::topic;
use fenghuo_engine::{TopologyConfig, View};
use fenghuo_event::Stream;
use fenghuo_log::{Append, Error, Log, TopicPartition};
use fenghuo_notify::{Means, Notifier};
use fenghuo_signal::catalogue::Origin;

use crate::cli;
use crate::clock::{self, Watch};
use crate::conditions::Conditions;
use crate::config::{self, Config};
use crate::control;
use crate::exit::Exit;
use crate::folder::copy::broken_off;
use crate::http::{self, Elsewhere, Shown};
use crate::identity::Identity;
use crate::intake::Intake;
use crate::limits;
use crate::load::partition_for;
use crate::measured::{Holdings, MeasuredLog};
use crate::sender::Sender;
use crate::sets::{self, Sets};
use crate::topics::{Looks, Topics};
use crate::welcome;
use crate::worker::{BACKOFF, Course, Fault, Role, Worker, Writer, chain, drain, spawn, work};

mod beside;
mod ending;
mod watched;

/// A source that is further behind is not caught up.
const BEHIND_MS_MAX: i64 = 60_000;

/// Where only records can be counted, more than these are not caught up.
const BEHIND_RECORDS_MAX: u64 = 100_000;

/// Where everything is kept if nothing else was said.
const DATA: &str = "fenghuo-data";

/// The stages, as their groups are named.
pub const STAGES: [&str; 3] = ["ingest", "evaluate", "dispatch"];

/// A process that was given no partition for this long is a standby.
const STANDBY_AFTER: Duration = Duration::from_secs(30);

/// What hangs may do so no longer than this after the shutdown deadline.
const END_AFTER: Duration = Duration::from_secs(2);

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
    view: Arc<View>,
    course: Arc<Course>,
    conditions: Arc<Conditions>,
    /// Partitions of each source topic.
    partitions: BTreeMap<String, u32>,
}

/// Runs until it is told to stop.
pub fn run(args: &cli::Run) -> anyhow::Result<Exit> {
    let mut config = told(args)?;
    for warning in &config.warnings {
        tracing::warn!(warning, "config");
    }
    let (token, intake_token) = (config.token()?, config.intake_token()?);
    let connections_max = limits::connections(matches!(config.log, config::Log::Kafka))?;
    let means = Means::system()?;
    let terminal = means.terminal.clone();
    let notifier = Arc::new(Notifier::with(config.channels.clone(), means)?);
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    {
        let _within = runtime.enter();
        limits::survive_file_size().context("taking the signal of files that are too large")?;
    }
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind(config.http.listen))
        .with_context(|| format!("http.listen: cannot listen on {}", config.http.listen))?;
    let prometheus = http::recorder()?;
    fenghuo_notify::describe_metrics();

    let topics = Topics::open(&config)?;
    let log = topics.log();
    if let Topics::Kafka(kafka) = &topics
        && let Some(why) = until_reached(|| broken_off(kafka))?
    {
        anyhow::bail!(why);
    }
    if until_reached(|| lacks_custom(&config, &*log))? {
        let mut sources = config.topics.sources.iter();
        let topic = sources.find(|source| source.stream == Stream::Custom);
        let topic = topic.map_or("", |source| &*source.name);
        tracing::info!(topic, "is not there and no measure counts it: not read");
        let sources = &mut config.topics.sources;
        sources.retain(|source| source.stream != Stream::Custom);
    }
    let identity =
        until_reached(|| Identity::open(&config, &*log).context("reading what shop this is"))?;
    let mut topology = config.topology(clock::now_ms());
    let said = identity.said().clone();
    (topology.ingest.shop, topology.ingest.currency) = (said.shop, said.currency);
    let known = identity.known();
    if let (Some(currency), true) = (&known.currency, !config.plans.skus.is_empty()) {
        let priced = config.shop.currency.as_ref();
        anyhow::ensure!(
            priced.is_none_or(|priced| priced == currency),
            "the plans are priced in {}, and this folder's shop sells in {currency}: set \
             shop.currency in the config, or correct it with `fenghuo shop set`",
            priced.map_or("no currency", String::as_str)
        );
    }
    let mut sets = None;
    let partitions = until_reached(|| {
        let partitions = source_topics(&config, &*log)?;
        let own = topology.own_topics(&|name| partitions.get(name).copied().unwrap_or(1));
        log.ensure(&own).context("making fenghuo's own topics")?;
        plans(&config, &*log, &partitions)?;
        // Before anything is counted or judged.
        let agreed = Sets::open(&topics, &config.kafka.instance);
        let agreed = agreed.agree(config.set()).map_err(sets::Error::cause)?;
        sets = Some(agreed);
        Ok(partitions)
    })?;
    if let Some(sets) = &sets {
        topology.set.put(sets.in_force());
    }

    let holdings = Holdings::default();
    // In a folder nobody else would judge what was taken; on Kafka somebody does, now or later.
    let is_alone = matches!(topics, Topics::Folder(..));
    let course = Course::new(config.shutdown_deadline, is_alone);
    let view = Arc::new(View::new());
    clock::tell(&view);
    let shared = Arc::new(Shared {
        log: MeasuredLog::new(log, holdings.clone()),
        topics,
        identity: Arc::new(identity),
        holdings,
        began: Watch::start(),
        view,
        course: Arc::new(course),
        conditions: Arc::new(Conditions::new()),
        partitions,
        topology,
        config,
    });
    let mut shown = shown(&shared, token, prometheus);
    let is_open = shared.config.intake.is_open;
    let intake = is_open.then(|| Arc::new(taker(&shared)));
    let refusals = intake.as_ref().map(|intake| Arc::clone(intake.refusals()));
    shown.intake = intake;
    shown.connections_max = connections_max;
    shown.intake_token = intake_token;
    let shown = Arc::new(shown);
    let address = listener.local_addr()?;
    tracing::info!(%address, "listening");
    if let config::Log::Embedded(folder) = &shared.config.log {
        terminal.show(format!("{}\n", welcome::text(&folder.path, address)));
        terminal.show(format!(
            "{}\n\n",
            crate::shop::text(&shared.identity.known())
        ));
        if shared.identity.known().shop.is_none() {
            let token = shared.config.intake.token.as_ref();
            let first = welcome::first_events(address, token, &clock::utc_offset());
            terminal.show(format!("{first}\n"));
        }
    }
    let (closing, closed) = tokio::sync::watch::channel(false);
    let mut told = closed.clone();
    let server = runtime.spawn(http::serve(listener, shown, async move {
        // The sender lives as long as the process is wanted.
        let _ = told.wait_for(|closing| *closing).await;
    }));

    let mut workers = start_workers(&shared, &notifier, runtime.handle());
    workers.push(beside::start_upkeep(&shared));
    workers.push(watched::start(&shared, refusals));
    workers.extend(beside::start_watch(&shared));
    workers.extend(beside::start_control(&shared)?);
    workers.extend(sets.map(|sets| beside::start_sets(&shared, sets)));
    runtime.block_on(ending::stop_signal(&shared.course, &workers));
    shared.course.end();
    end_at_last(shared.config.shutdown_deadline, runtime.handle());
    let drained = drain(workers, shared.config.shutdown_deadline);
    let _ = closing.send(true);
    let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), server).await });
    runtime.shutdown_background();
    match shared.course.verdict() {
        None => {}
        Some(Fault::Newer(why)) => return Err(NewerError(why).into()),
        Some(Fault::Fatal(why)) => anyhow::bail!(why),
    }
    anyhow::ensure!(
        drained,
        "not everything was committed within the shutdown deadline; it will be read again"
    );
    if let Some(why) = shared.topics.lost(Looks::Now) {
        anyhow::bail!("{why}: what was written since is lost, unless a backup was taken meanwhile");
    }
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
        (Some(folder), _) => {
            // Before anything is made: the config says nothing of this folder.
            if let Some(problem) = control::too_long(folder) {
                return Err(cli::UsageError(format!("--data: {problem}")).into());
            }
            config.in_folder(folder.clone())
        }
        (None, Some(_)) => config,
        (None, None) => config.in_folder(DATA.into()),
    })
}

/// Whether the topic of custom events is missing where nothing needs it: no measure counts them, and
/// none of the shop's topics is made here. Installations that are older than that stream have none.
fn lacks_custom(config: &Config, log: &dyn Log) -> anyhow::Result<bool> {
    let counted = Origin::Stream(Stream::Custom);
    let mut measures = config.catalogue.measures().iter();
    let is_needed = config.topics.create || measures.any(|measure| measure.origin == counted);
    match config.topic_of(Stream::Custom) {
        Some(topic) if !is_needed => Ok(log.partitions(topic)?.is_none()),
        _ => Ok(false),
    }
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
    let (topics, for_lost) = (shared.topics.clone(), shared.topics.clone());
    Intake::new(
        &shared.config,
        topics.log(),
        Box::new(move || topics.full()),
        &shared.partitions,
        Arc::clone(&shared.identity),
        shared.holdings.clone(),
        Arc::clone(&shared.course),
    )
    .counting_on(Arc::clone(&shared.view))
    .unless(Box::new(move || for_lost.lost(Looks::Before)))
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
    Shown {
        connections_max: usize::MAX,
        set: shared.topology.set.clone(),
        view: Arc::clone(&shared.view),
        identity: Arc::clone(&shared.identity),
        token,
        public_url: config.http.public_url.clone(),
        intake: None,
        intake_token: None,
        metrics_open: config.http.metrics_open,
        now_ms: Arc::new(clock::now_ms),
        ready: Arc::new(move || ready(&for_ready)),
        conditions: Arc::clone(&shared.conditions),
        healthy: Arc::new(move || {
            let topics = &for_healthy.topics;
            let fault = for_healthy.course.fault().or_else(|| topics.fault());
            match fault.or_else(|| topics.lost(Looks::Before)) {
                Some(why) => Err(why),
                None => Ok(()),
            }
        }),
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
        limits: limits(shared),
        top_entities: config.http.top_entities,
    }
}

/// What each map may hold, of all partitions together.
fn limits(shared: &Shared) -> Vec<(&'static str, u64)> {
    let config = &shared.config;
    let count = |of: &dyn Fn(&str) -> bool| {
        let counted = shared.partitions.iter().filter(|(name, _)| of(name));
        counted.map(|(_, count)| u64::from(*count)).sum::<u64>()
    };
    let couriers = config.topic_of(fenghuo_event::Stream::Couriers);
    let shards = u64::from(config.topics.panes_partitions);
    let duplicates = 2 * config.ingest.duplicates.entries_max as u64;
    let trackers = config.ingest.trackers.entries_max as u64;
    vec![
        ("duplicates", count(&|_| true) * duplicates),
        (
            "trackers",
            count(&|name| couriers.is_some_and(|couriers| &**couriers == name)) * trackers,
        ),
        ("entities", shards * config.evaluate.entities_max as u64),
        (
            "panes_bytes",
            shards * config.evaluate.panes_bytes_max as u64,
        ),
        (
            "plan_points",
            shards * fenghuo_engine::PLAN_POINTS_MAX as u64,
        ),
    ]
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
    if let Some(why) = shared.course.failing() {
        return Err(why);
    }
    if let Some(why) = shared.conditions.blocking() {
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
    let count = |stage: &str| held.iter().filter(|held| held.stage == stage).count();
    let panes = count("evaluate");
    if shared.course.is_alone() {
        // What no worker has taken yet, nobody else holds.
        let sources = shared.partitions.values().map(|count| *count as usize);
        let shards = shared.config.topics.panes_partitions as usize;
        for (what, held, all) in [
            ("the sources", count("ingest"), sources.sum()),
            (topic::PANES, panes, shards),
        ] {
            if held < all {
                return Err(format!("{held} of {all} partitions of {what} are taken"));
            }
        }
    }
    let shards = shared.view.shards();
    if shards < panes {
        return Err(format!(
            "{shards} of {panes} partitions of fenghuo.panes are restored"
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
    let standings = shared.view.sources();
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
    let role = |who, workers| Role { who, workers };
    let ingest = role(Writer::Ingest, shared.config.ingest.workers);
    let evaluate = role(Writer::Evaluate, shared.config.evaluate.workers);
    let dispatch = role(Writer::Dispatch, 1);
    for number in 0..ingest.workers {
        let shared = Arc::clone(shared);
        workers.push(spawn(format!("ingest-{number}"), move |name| {
            let open = || shared.topology.ingest(&shared.log, &shared.view, number);
            let mut heard = 0;
            work(&shared.course, ingest, name, &open, &mut |_, _| {
                // What is taken in here was heard before it was written.
                if matches!(shared.topics, Topics::Kafka(_)) {
                    hear(&shared.view, &mut heard);
                }
                true
            });
        }));
    }
    for number in 0..evaluate.workers {
        let shared = Arc::clone(shared);
        workers.push(spawn(format!("evaluate-{number}"), move |name| {
            let open = || shared.topology.evaluate(&shared.log, &shared.view, number);
            let judged = metrics::histogram!("fenghuo_judge_duration_seconds");
            work(&shared.course, evaluate, name, &open, &mut |_, took| {
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
        let open = || shared.topology.dispatch(&shared.log, &shared.view);
        let mut sender = Sender::new(
            &shared.config,
            Arc::clone(&shared.identity),
            notifier,
            Arc::clone(&shared.conditions),
            Arc::clone(&shared.view),
            runtime,
        );
        work(&shared.course, dispatch, name, &open, &mut |runner, _| {
            sender.serve(runner.stage_mut(), &|| ready(&shared))
        });
    }));
    workers
}

/// Tells the clock what time the events of the last commit say it is.
fn hear(view: &View, heard: &mut u64) {
    let told = view.heard();
    if std::mem::replace(heard, told.commits) != told.commits
        && let Some(occurred_ms) = told.occurred_ms
    {
        clock::hear(occurred_ms);
    }
}

/// Lets the process end whatever hangs: a while after its deadline, or at a second signal.
fn end_at_last(deadline: Duration, runtime: &tokio::runtime::Handle) {
    spawn("end".to_owned(), move |_| {
        clock::wait(deadline + END_AFTER);
        tracing::error!("something hangs beyond the shutdown deadline; ending without it");
        std::process::exit(Exit::Failed.code().into());
    });
    runtime.spawn(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(Exit::Failed.code().into());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_hold_no_socket_is_refused_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("d".repeat(100));
        let args = cli::Run {
            config: None,
            data: Some(data.clone()),
        };
        let error = run(&args).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Usage);
        let bytes = format!("a name of {} bytes", data.as_os_str().len());
        let told = error.to_string();
        assert!(
            told.starts_with("--data: the folder /") && told.contains(&bytes),
            "{told}"
        );
        assert!(!data.exists());
    }
}
