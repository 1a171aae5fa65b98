//! The topology: which stages read which topics, under which names, and the stages run together
//! in one thread of control.

use std::sync::Arc;
use std::time::Duration;

use fenghuo_event::Stream;
use fenghuo_log::{Cadence, Error, Log, Runner, SessionSpec, Start, Step, TopicSpec};

use crate::dispatch::{Dispatch, DispatchConfig};
use crate::evaluate::{Evaluate, EvaluateConfig};
use crate::ingest::{Ingest, IngestConfig};
use crate::record::topic;
use crate::route::Routes;
use crate::set::InForce;
use crate::view::View;

/// What an installation is told, on any log.
#[derive(Clone, Debug)]
pub struct TopologyConfig {
    /// Consumer groups and members are named after it.
    pub group: String,
    /// What tells this process from others of the group.
    pub instance: String,
    /// What ingest is told.
    pub ingest: IngestConfig,
    /// What is counted, read and judged. A clone of this config shares it.
    pub set: InForce,
    /// Who is told of what.
    pub routes: Routes,
    /// Entities that one panes partition keeps at most.
    pub entities_max: usize,
    /// Bytes of panes that one panes partition keeps at most, besides a few of each entity.
    pub panes_bytes_max: usize,
    /// A source that lags further behind than this mutes the signals that rest on it.
    pub behind_ms_max: i64,
    /// Where a source partition without a commit begins.
    pub start: Start,
    /// How long a batch gathers.
    pub commit_ms: i64,
    /// Records after which a batch is committed at once.
    pub batch_records_max: usize,
    /// How long commit records are kept; `None` = for ever.
    pub panes_retention_ms: Option<i64>,
    /// How long dead letters are kept; `None` = for ever. Whoever may send can write them.
    pub dead_letter_retention_ms: Option<i64>,
    /// Within this time all that evaluate knows was written down once; `None` = nothing is.
    pub checkpoint_ms: Option<i64>,
}

impl TopologyConfig {
    /// The topics of Fenghuo's own, for source topics with these numbers of partitions.
    pub fn own_topics(&self, source_partitions: &dyn Fn(&str) -> u32) -> Vec<TopicSpec> {
        let plain = |name: &str, partitions, retention_ms| TopicSpec {
            name: name.to_owned(),
            partitions,
            compacted: false,
            retention_ms,
        };
        let mut topics = vec![
            plain(
                topic::PANES,
                self.ingest.panes_partitions,
                self.panes_retention_ms,
            ),
            TopicSpec {
                name: topic::STATE.to_owned(),
                partitions: self.ingest.panes_partitions,
                compacted: true,
                retention_ms: None,
            },
            plain(topic::SETS, 1, None),
            plain(topic::ALERTS, 1, None),
            plain(topic::DELIVERIES, 1, None),
            plain(topic::DEAD_LETTER, 1, self.dead_letter_retention_ms),
        ];
        for source in &self.ingest.topics {
            topics.push(TopicSpec {
                name: topic::trackers(&source.name),
                partitions: source_partitions(&source.name),
                compacted: true,
                retention_ms: None,
            });
        }
        topics
    }

    fn sources(&self) -> Vec<(Arc<str>, Stream)> {
        let topics = self.ingest.topics.iter();
        topics
            .map(|source| (Arc::clone(&source.name), source.stream))
            .collect()
    }

    /// The consumer group of a stage.
    pub fn group_of(&self, stage: &str) -> String {
        format!("{}-{stage}", self.group)
    }

    fn session(
        &self,
        stage: &str,
        worker: usize,
        topics: Vec<String>,
        start: Start,
    ) -> SessionSpec {
        SessionSpec {
            group: self.group_of(stage),
            member: format!("{}-{stage}-{}-{worker}", self.group, self.instance),
            topics,
            start,
            low_latency: stage != "ingest",
        }
    }

    /// Opens an ingest worker.
    pub fn ingest(
        &self,
        log: &dyn Log,
        view: &Arc<View>,
        worker: usize,
    ) -> Result<Runner<Ingest>, Error> {
        let topics = self
            .ingest
            .topics
            .iter()
            .map(|source| source.name.to_string())
            .collect();
        let session = log.open(&self.session("ingest", worker, topics, self.start))?;
        let stage = Ingest::new(self.ingest.clone(), self.set.clone(), Arc::clone(view));
        let cadence = Cadence {
            busy_ms: self.commit_ms,
            idle_ms: Some(1_000),
            records_max: self.batch_records_max,
        };
        Ok(Runner::new(session, stage, self.start, cadence))
    }

    /// Opens an evaluate worker.
    pub fn evaluate(
        &self,
        log: &dyn Log,
        view: &Arc<View>,
        worker: usize,
    ) -> Result<Runner<Evaluate>, Error> {
        let topics = vec![topic::PANES.to_owned()];
        let session = log.open(&self.session("evaluate", worker, topics, Start::Earliest))?;
        let config = EvaluateConfig {
            topics: self.sources(),
            entities_max: self.entities_max,
            panes_bytes_max: self.panes_bytes_max,
            behind_ms_max: self.behind_ms_max,
            checkpoint_ms: self.checkpoint_ms,
        };
        let stage = Evaluate::new(config, self.set.clone(), Arc::clone(view));
        Ok(Runner::new(session, stage, Start::Earliest, prompt()))
    }

    /// Opens the dispatch worker.
    pub fn dispatch(&self, log: &dyn Log, view: &Arc<View>) -> Result<Runner<Dispatch>, Error> {
        let topics = vec![topic::ALERTS.to_owned()];
        let session = log.open(&self.session("dispatch", 0, topics, Start::Earliest))?;
        let config = DispatchConfig {
            routes: self.routes.clone(),
            topics: self.sources(),
        };
        let stage = Dispatch::new(config, self.set.clone(), Arc::clone(view));
        Ok(Runner::new(session, stage, Start::Earliest, prompt()))
    }
}

/// What ingest has gathered is passed on at once.
const fn prompt() -> Cadence {
    Cadence {
        busy_ms: 0,
        idle_ms: None,
        records_max: usize::MAX,
    }
}

/// All stages on one log, stepped by one owner: for the demo, replays and simulations.
pub struct Topology {
    ingest: Runner<Ingest>,
    evaluate: Runner<Evaluate>,
    dispatch: Runner<Dispatch>,
    view: Arc<View>,
}

impl Topology {
    /// Opens every stage. The source topics must exist; Fenghuo's own are made.
    pub fn open(config: &TopologyConfig, log: &dyn Log) -> Result<Self, Error> {
        let mut partitions = std::collections::BTreeMap::new();
        for source in &config.ingest.topics {
            let found = log.partitions(&source.name)?;
            let missing = || Error::Fatal(format!("there is no topic {}", source.name));
            partitions.insert(source.name.to_string(), found.ok_or_else(missing)?);
        }
        log.ensure(&config.own_topics(&|name| partitions.get(name).copied().unwrap_or(1)))?;
        let view = Arc::new(View::new());
        Ok(Self {
            ingest: config.ingest(log, &view, 0)?,
            evaluate: config.evaluate(log, &view, 0)?,
            dispatch: config.dispatch(log, &view)?,
            view,
        })
    }

    /// What the stages know.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The dispatch stage: pages to send, and where to tell what became of them.
    pub fn dispatch(&mut self) -> &mut Dispatch {
        self.dispatch.stage_mut()
    }

    /// Folds everything that the log holds, commits it as of `now_ms`, and lets it pass through
    /// to the pages. Time passes to `now_ms` even if nothing came.
    pub fn settle(&mut self, now_ms: i64) -> Result<(), Error> {
        drain(&mut self.ingest, now_ms)?;
        if !self.ingest.is_flushed(now_ms) {
            self.ingest.commit(now_ms)?;
        }
        drain(&mut self.evaluate, now_ms)?;
        self.dispatch.stage_mut().set_time(now_ms);
        drain(&mut self.dispatch, now_ms)
    }
}

/// Steps until nothing more comes.
fn drain<S: fenghuo_log::Stage>(runner: &mut Runner<S>, now_ms: i64) -> Result<(), Error> {
    loop {
        let held = runner.partitions().count();
        let step = runner.step(now_ms, Duration::ZERO)?;
        if step == Step::default() && runner.partitions().count() == held {
            return Ok(());
        }
    }
}
