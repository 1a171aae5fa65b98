//! One instance: the three workers of a process, their view and their sender.
//!
//! Does what the daemon does: a worker whose session fails is dropped and opened again a little
//! later, and begins at its last commit.

use std::sync::Arc;
use std::time::Duration;

use fenghuo_alert::Transition;
use fenghuo_engine::{Dispatch, Evaluate, Ingest, TopologyConfig, View};
use fenghuo_log::{Error, Log, Runner, Step, TopicPartition};

use super::Violation;
use super::fault::Stage;
use super::kept::Kept;
use super::scenario;
use super::sender::Sender;

/// What a worker did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// Nothing to speak of.
    Little,
    /// It committed.
    Committed,
    /// Its session failed: it begins again later.
    Failed,
    /// It waits for the answer to a commit that is on its way.
    Stuck,
}

/// A worker, and when it may be opened again.
struct Worker<S> {
    runner: Option<Runner<S>>,
    opens_turn: usize,
}

impl<S: fenghuo_log::Stage> Worker<S> {
    fn new() -> Self {
        Self {
            runner: None,
            opens_turn: 0,
        }
    }

    fn step(
        &mut self,
        turn: usize,
        now_ms: i64,
        open: impl FnOnce() -> Result<Runner<S>, Error>,
    ) -> Result<Step, Error> {
        if self.runner.is_none() {
            if turn < self.opens_turn {
                return Ok(Step::default());
            }
            self.runner = Some(open()?);
        }
        match &mut self.runner {
            Some(runner) => runner.step(now_ms, Duration::ZERO),
            None => Ok(Step::default()),
        }
    }

    fn leave(&mut self, now_ms: i64) {
        if let Some(mut runner) = self.runner.take() {
            // What it cannot commit any more is read again by others.
            let _ = runner.commit(now_ms);
        }
    }
}

/// An instance that lives.
pub struct Process {
    instance: usize,
    config: TopologyConfig,
    view: Arc<View>,
    ingest: Worker<Ingest>,
    evaluate: Worker<Evaluate>,
    dispatch: Worker<Dispatch>,
    /// Its pages.
    pub sender: Sender,
}

/// The name of a worker in its group.
pub fn member(instance: usize, stage: Stage) -> String {
    format!("fenghuo-{}-{instance}-0", stage.name())
}

impl Process {
    /// A new life of an instance.
    pub fn new(instance: usize) -> Self {
        Self {
            instance,
            config: scenario::config(instance),
            view: Arc::new(View::new()),
            ingest: Worker::new(),
            evaluate: Worker::new(),
            dispatch: Worker::new(),
            sender: Sender::default(),
        }
    }

    /// What it shows.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Every episode that it shows.
    pub fn shown(&self) -> Vec<Transition> {
        let mut shown = self.view.open();
        shown.extend(self.view.closed());
        shown
    }

    /// The panes partitions of which its view shows all that is committed.
    pub fn shows(&self) -> impl Iterator<Item = &TopicPartition> {
        let runner = self.evaluate.runner.as_ref();
        let runner = runner.filter(|runner| !runner.is_waiting());
        runner.into_iter().flat_map(Runner::partitions)
    }

    /// Steps one worker.
    pub fn step(
        &mut self,
        stage: Stage,
        turn: usize,
        now_ms: i64,
        log: &dyn Log,
        kept: &Kept,
    ) -> Result<Did, Violation> {
        let (config, view) = (&self.config, &self.view);
        let stepped = match stage {
            Stage::Ingest => {
                let open = || config.ingest(log, view, 0);
                self.ingest.step(turn, now_ms, open)
            }
            Stage::Evaluate => {
                let open = || config.evaluate(log, view, 0);
                self.evaluate.step(turn, now_ms, open)
            }
            Stage::Dispatch => {
                let open = || config.dispatch(log, view);
                let stepped = self.dispatch.step(turn, now_ms, open);
                if let (Ok(_), Some(runner)) = (&stepped, &mut self.dispatch.runner) {
                    self.sender.serve(runner.stage_mut(), now_ms);
                }
                stepped
            }
        };
        match stepped {
            Ok(step) if step.committed => Ok(Did::Committed),
            Ok(_) => Ok(Did::Little),
            Err(Error::Retriable { .. }) if kept.is_held(&member(self.instance, stage)) => {
                Ok(Did::Stuck)
            }
            Err(Error::Retriable { .. }) => {
                self.drop_worker(stage, turn);
                Ok(Did::Failed)
            }
            Err(error) => {
                let detail = format!("{} of instance {}: {error}", stage.name(), self.instance);
                Err(Violation::new("every stage can go on", detail))
            }
        }
    }

    /// Drops a worker, to be opened again some turns later.
    pub fn drop_worker(&mut self, stage: Stage, turn: usize) {
        let opens_turn = turn + 3;
        match stage {
            Stage::Ingest => {
                self.ingest = Worker {
                    runner: None,
                    opens_turn,
                }
            }
            Stage::Evaluate => {
                self.evaluate = Worker {
                    runner: None,
                    opens_turn,
                }
            }
            Stage::Dispatch => {
                self.dispatch = Worker {
                    runner: None,
                    opens_turn,
                }
            }
        }
    }

    /// Commits what was read, and leaves its groups.
    pub fn leave(&mut self, now_ms: i64) {
        self.ingest.leave(now_ms);
        self.evaluate.leave(now_ms);
        self.dispatch.leave(now_ms);
    }
}
