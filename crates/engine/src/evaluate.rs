//! Evaluate: from deltas to readings, and from readings to alerts, one panes partition at a time.
//!
//! All that it decides follows from the records of its partition, time included; read again, they
//! lead to the same decisions. So a restart folds them again and says nothing of what was said
//! before.

use std::sync::Arc;

use fenghuo_alert::{Origin, Rules, State as AlertState, Transition};
use fenghuo_log::{Append, Assigned, Progress, Record, Restore, Stage, TopicPartition};
use fenghuo_signal::Kind;
use fenghuo_signal::series::{SALES, TOTALS};

use crate::board::{Board, ChartPoint, Published, SourceStanding, Totals};
use crate::home::{Changed, Decision, Home};
use crate::record::{AlertRecord, CommitRecord, VERSION, topic};

/// What evaluate is told.
#[derive(Clone, Debug)]
pub struct EvaluateConfig {
    /// The rules.
    pub rules: Arc<Rules>,
    /// Source topics, with their stream.
    pub topics: Vec<(Arc<str>, fenghuo_event::Stream)>,
    /// Entities that one partition keeps at most; what comes after is not counted, and told.
    pub entities_max: usize,
    /// A source that lags further behind than this mutes the signals that rest on it.
    pub behind_ms_max: i64,
}

/// The stage.
pub struct Evaluate {
    config: Arc<EvaluateConfig>,
    board: Arc<Board>,
    homes: Vec<Option<Home>>,
    decisions: Vec<Decision>,
    said: Vec<Transition>,
    broken: Option<String>,
}

impl Evaluate {
    /// A stage without partitions.
    pub fn new(config: EvaluateConfig, board: Arc<Board>) -> Self {
        Self {
            config: Arc::new(config),
            board,
            homes: Vec::new(),
            decisions: Vec::new(),
            said: Vec::new(),
            broken: None,
        }
    }

    fn merge(&mut self, index: usize, record: &Record<'_>) {
        let Some(Some(home)) = self.homes.get_mut(index) else {
            return;
        };
        let Some(value) = record.value else { return };
        match <CommitRecord as prost::Message>::decode(value) {
            Ok(commit) if commit.version <= VERSION => {
                home.apply(&commit, record.offset, &mut self.decisions);
            }
            Ok(commit) => {
                self.broken = Some(format!(
                    "record {} of {} has version {}; this build reads up to {VERSION}",
                    record.offset,
                    topic::PANES,
                    commit.version
                ));
            }
            Err(error) => {
                self.broken = Some(format!(
                    "record {} of {}: {error}",
                    record.offset,
                    topic::PANES
                ));
            }
        }
    }

    fn publish(&mut self) {
        for home in self.homes.iter_mut().flatten() {
            self.board.publish_home(home.partition());
            for (topic, partition, state) in home.clocks() {
                let standing = SourceStanding {
                    newest_ms: (state.newest_ms != i64::MIN).then_some(state.newest_ms),
                    lateness_ms: state.lateness_ms,
                    at_end: state.at_end,
                    at_ms: state.at_ms,
                };
                self.board.publish_source(topic, partition, standing);
            }
            for _ in 0..std::mem::take(&mut home.holes) {
                self.board.count_hole();
            }
            let board = &self.board;
            home.drain_changed(&mut |Changed {
                                         entity,
                                         history,
                                         facts,
                                         readings,
                                     }| {
                if let Some(values) = history.amount(&TOTALS) {
                    board.publish_totals(entity.clone(), totals(values));
                }
                for (signal, reading, at_ms) in readings {
                    let published = Published { reading, at_ms };
                    board.publish_reading(signal, entity.clone(), published);
                    if entity.kind == Kind::Campaign && signal == "sales.pace" {
                        let points = chart(history, facts, at_ms);
                        board.publish_chart(entity.clone(), points);
                    }
                }
            });
        }
        let entities: usize = self.homes.iter().flatten().map(Home::len).sum();
        self.board.set_entries("entities", entities as u64);
        let refused: u64 = self.homes.iter().flatten().map(|home| home.refused).sum();
        self.board.set_entries("entities_refused", refused);
        for transition in self.said.drain(..) {
            self.board.publish_transition(transition);
        }
    }
}

fn totals(values: &[i64]) -> Totals {
    let at = |field: usize| values.get(field).copied().unwrap_or_default();
    Totals {
        orders: at(0),
        units: at(1),
        revenue_minor: at(2),
        cancelled_orders: at(3),
        cancelled_units: at(4),
        cancelled_revenue_minor: at(5),
        placed_orders: at(6),
    }
}

/// Two hours back and half an hour ahead, in minutes.
fn chart(
    history: &fenghuo_window::History,
    facts: &fenghuo_signal::Facts,
    now_ms: i64,
) -> Vec<ChartPoint> {
    const MINUTE_MS: i64 = 60_000;
    let Some(plan) = facts.plan(now_ms) else {
        return Vec::new();
    };
    let now_ms = now_ms - now_ms.rem_euclid(MINUTE_MS);
    (-120..30)
        .map(|minute| {
            let at_ms = now_ms + minute * MINUTE_MS;
            let planned = plan.expected(at_ms, at_ms + MINUTE_MS).0;
            let paid = (minute < 0).then(|| history.sum(&SALES, at_ms, at_ms + MINUTE_MS)[0]);
            ChartPoint {
                at_ms,
                planned,
                paid,
            }
        })
        .collect()
}

impl Stage for Evaluate {
    fn assign(&mut self, index: usize, assigned: &Assigned, from: u64) -> Vec<Restore> {
        if self.homes.len() <= index {
            self.homes.resize_with(index + 1, || None);
        }
        let partition = assigned.partition.clone();
        self.homes[index] = Some(Home::new(partition.partition, Arc::clone(&self.config)));
        vec![Restore {
            partition,
            from: assigned.low,
            to: from,
        }]
    }

    fn restore(&mut self, index: usize, _which: usize, record: Record<'_>) {
        self.merge(index, &record);
        // What these records led to is in the log already; people still want to see it.
        for decision in self.decisions.drain(..) {
            self.said.push(decision.transition);
        }
    }

    fn revoke(&mut self, index: usize) {
        if let Some(home) = self.homes.get_mut(index).and_then(Option::take) {
            self.board.withdraw_home(home.partition());
        }
    }

    fn apply(&mut self, index: usize, record: Record<'_>) {
        self.merge(index, &record);
    }

    fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    fn flush(&mut self, _at_ms: i64, _progress: &[Progress], appends: &mut Vec<Append>) {
        for Decision {
            transition,
            appended_ms,
        } in self.decisions.drain(..)
        {
            debug_assert_ne!(
                transition.to,
                AlertState::Inactive,
                "nothing to say of a calm alert"
            );
            let key = transition.episode.clone().into_bytes();
            let record = AlertRecord {
                version: VERSION,
                transition,
                appended_ms,
            };
            // A struct of texts and numbers always has a JSON form.
            if let Ok(value) = serde_json::to_vec(&record) {
                appends.push(Append::new(
                    TopicPartition::new(topic::ALERTS, 0),
                    Some(key),
                    value,
                ));
            }
            self.said.push(record.transition);
        }
    }

    fn committed(&mut self) {
        self.publish();
    }
}

/// Where the decisions of a partition begin.
pub(crate) fn origin(partition: u32, offset: u64) -> Origin {
    Origin { partition, offset }
}
