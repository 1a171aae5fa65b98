//! Evaluate: from deltas to readings, and from readings to alerts, one panes partition at a time.
//!
//! All that it decides follows from the records of its partition, time included; read again, they
//! lead to the same decisions. So a restart takes the last checkpoint, folds what came after it
//! again, and says nothing of what was said before.

use std::sync::Arc;

use fenghuo_alert::{State as AlertState, Transition};
use fenghuo_log::{Append, Assigned, Broken, Progress, Record, Restore, Stage, TopicPartition};
use fenghuo_signal::{Catalogue, Entity, Kind};
use fenghuo_window::{History, Series};

use crate::ingest::home_of;
use crate::record::{AlertRecord, CommitRecord, PANES_SINCE, VERSION, topic};
use crate::set::{InForce, Set};
use crate::view::{ChartPoint, Published, SourceStanding, Totals, View};
use checkpoint::{Reader, SEGMENTS, Unreadable, Writer};
use shard::{Changed, Decision, Shard};

pub(crate) mod checkpoint;
pub(crate) mod shard;

/// What evaluate is told.
#[derive(Clone, Debug)]
pub struct EvaluateConfig {
    /// Source topics, with their stream.
    pub topics: Vec<(Arc<str>, fenghuo_event::Stream)>,
    /// Entities that one partition keeps at most; what comes after is not counted, and told.
    pub entities_max: usize,
    /// Bytes of panes that one partition keeps at most, besides a few of each entity; of one that
    /// grows beyond, the oldest go.
    pub panes_bytes_max: usize,
    /// A source that lags further behind than this mutes the signals that rest on it.
    pub behind_ms_max: i64,
    /// Within this time all that is known was written down once, so that a restart folds no more
    /// than the panes of this time again; `None` = nothing is written down.
    pub checkpoint_ms: Option<i64>,
}

const MINUTE_MS: i64 = 60_000;

/// A shard, and how it is written down.
struct Held {
    shard: Shard,
    state: Writer,
    /// What was read of the state partition, until the panes follow.
    reader: Option<Reader>,
    /// First panes offset that is still there.
    low: u64,
    /// Panes offset at which its group goes on.
    from: u64,
    /// Next panes offset.
    next: u64,
    /// Panes partitions that there are.
    partitions: u32,
    /// When the next segment is written down.
    turn_ms: Option<i64>,
    /// The set in the log is not that judged by.
    set_changed: bool,
    /// What is published is of another set.
    is_turned: bool,
    shown: Shown,
}

/// The stage.
pub struct Evaluate {
    config: Arc<EvaluateConfig>,
    in_force: InForce,
    view: Arc<View>,
    owner: u64,
    shards: Vec<Option<Held>>,
    decisions: Vec<Decision>,
    said: Vec<Transition>,
    broken: Option<Broken>,
}

impl Evaluate {
    /// A stage without partitions.
    pub fn new(config: EvaluateConfig, in_force: InForce, view: Arc<View>) -> Self {
        Self {
            config: Arc::new(config),
            in_force,
            owner: view.new_owner(),
            view,
            shards: Vec::new(),
            decisions: Vec::new(),
            said: Vec::new(),
            broken: None,
        }
    }

    fn merge(&mut self, index: usize, record: &Record<'_>) {
        let Some(Some(held)) = self.shards.get_mut(index) else {
            return;
        };
        let partition = held.shard.partition();
        let commit = match record.value.map(<CommitRecord as prost::Message>::decode) {
            None => None,
            Some(Ok(commit)) => Some(commit),
            Some(Err(error)) => {
                self.broken = Some(damaged(topic::PANES, record.offset, &error));
                return;
            }
        };
        if let Some(commit) = commit {
            if let Err(broken) = readable(topic::PANES, record.offset, commit.version) {
                self.broken = Some(broken);
                return;
            }
            if commit.set_number > held.shard.set().number {
                match of_commit(&self.in_force, &commit) {
                    Ok(None) => {}
                    Ok(Some(set)) => {
                        if let Err(unreadable) = held.turn_to(&set, &mut self.decisions) {
                            self.broken = Some(unread(partition, unreadable));
                            return;
                        }
                    }
                    Err(broken) => {
                        self.broken = Some(broken);
                        return;
                    }
                }
            }
            held.shard
                .apply(&commit, record.offset, &mut self.decisions);
        }
        held.next = record.offset + 1;
    }

    fn withdraw(&self, held: &Held) {
        let (shard, partitions) = (&held.shard, held.partitions);
        let is_its = |entity: &Entity| home_of(entity, partitions) == shard.partition();
        self.view
            .withdraw_shard(shard.partition(), self.owner, shard.entities(), &is_its);
    }

    /// Takes the checkpoint that was read, and returns the panes offset to fold on from.
    fn load(&mut self, index: usize) -> Option<u64> {
        let held = self.shards.get_mut(index)?.as_mut()?;
        let mut reader = held.reader.take()?;
        // What the log has was counted and judged under the set of then: it is folded under it.
        let then = reader.set().and_then(|row| self.in_force.make(row));
        held.set_changed = then.is_none();
        if let Some(set) = then {
            held.shown = Shown::new(&set.catalogue);
            held.shard = Shard::new(held.shard.partition(), Arc::clone(&self.config), set);
        }
        match held.shard.load(&mut reader) {
            Ok(_) if reader.heads().any(|(_, head)| head.covered > held.from) => {
                let what = format!(
                    "it rests on more than {} holds: was that topic made anew? Then delete both, \
                     or begin with another group",
                    topic::PANES
                );
                self.broken = Some(unread(held.shard.partition(), Unreadable::Damaged(what)));
                None
            }
            Ok(from) => {
                if from > 0 && from < held.low {
                    // Retention took panes that no checkpoint covers.
                    held.shard.holes += 1;
                }
                Some(from.max(held.low))
            }
            Err(unreadable) => {
                self.broken = Some(unread(held.shard.partition(), unreadable));
                None
            }
        }
    }

    /// Writes down the segments whose turn it is.
    fn write_down(&mut self, at_ms: i64, appends: &mut Vec<Append>) {
        let Some(cycle_ms) = self.config.checkpoint_ms else {
            return;
        };
        let step_ms = (cycle_ms / SEGMENTS as i64).max(1);
        for held in self.shards.iter_mut().flatten() {
            if std::mem::take(&mut held.set_changed) {
                // All at once: what a restart folds again must never lie under two sets of rules.
                held.state.set(held.shard.set(), appends);
                for segment in 0..SEGMENTS {
                    held.shard
                        .write_segment(segment, held.next, &held.state, appends);
                }
            }
            // Never further ahead than a step: the clock may have gone back since.
            let turn_ms = held.turn_ms.unwrap_or(at_ms);
            let turn_ms = turn_ms.min(at_ms.saturating_add(step_ms));
            held.turn_ms = Some(turn_ms);
            if at_ms >= turn_ms {
                // Whatever became of the turns of earlier lives, the oldest comes first.
                let oldest = held.shard.oldest_segment();
                held.shard
                    .write_segment(oldest, held.next, &held.state, appends);
                // After a silence nothing is made up for: there was little to write down.
                held.turn_ms = Some((turn_ms + step_ms).max(at_ms));
            }
        }
    }

    fn publish(&mut self) {
        for held in self.shards.iter_mut().flatten() {
            let Held {
                shard,
                shown,
                partitions,
                ..
            } = held;
            if std::mem::take(&mut held.is_turned) {
                // What the set before read is nobody's reading any more.
                let (partition, partitions) = (shard.partition(), *partitions);
                let is_its = |entity: &Entity| home_of(entity, partitions) == partition;
                self.view
                    .withdraw_shard(partition, self.owner, shard.entities(), &is_its);
            }
            self.view.publish_shard(shard.partition(), self.owner);
            for (topic, partition, state) in shard.clocks() {
                let standing = SourceStanding {
                    newest_ms: (state.newest_ms != i64::MIN).then_some(state.newest_ms),
                    lateness_ms: state.lateness_ms,
                    at_end: state.at_end,
                    at_ms: state.at_ms,
                };
                self.view.publish_source(topic, partition, standing);
            }
            for _ in 0..std::mem::take(&mut shard.holes) {
                self.view.count_hole();
            }
            let view = &self.view;
            shard.drain_changed(&mut |Changed {
                                          entity,
                                          history,
                                          facts,
                                          readings,
                                      }| {
                if let Some(totals) = shown.totals(history) {
                    view.publish_totals(entity.clone(), totals);
                }
                for (signal, reading, at_ms) in readings {
                    let published = Published { reading, at_ms };
                    view.publish_reading(&signal, entity.clone(), published);
                    if entity.kind == Kind::CAMPAIGN
                        && *signal == *"sales.pace"
                        && view.chart_begins_ms(entity) != Some(Shown::chart_begins_ms(at_ms))
                    {
                        let points = shown.chart(history, facts, at_ms);
                        view.publish_chart(entity.clone(), points);
                    }
                }
            });
        }
        let shards = || self.shards.iter().flatten().map(|held| &held.shard);
        let sum = |of: fn(&Shard) -> u64| shards().map(of).sum::<u64>();
        let refused = sum(|shard| shard.room.refused);
        let plans = sum(|shard| shard.room.plans_refused);
        let entries = [
            ("entities", sum(|shard| shard.places() as u64)),
            ("entities_refused", refused),
            ("plan_points", sum(|shard| shard.points() as u64)),
            ("plan_points_refused", plans),
            ("panes_bytes", sum(|shard| shard.panes_bytes() as u64)),
            ("panes_cut", sum(|shard| shard.panes_cut)),
        ];
        self.view.set_entries(self.owner, &entries);
        if refused + plans > 0 {
            let names = shards().flat_map(|shard| shard.room.names()).collect();
            self.view.set_refused(self.owner, names);
        }
        for transition in self.said.drain(..) {
            self.view.publish_transition(transition);
        }
    }
}

impl Held {
    /// Goes on under another set: what both have goes on, what is new begins.
    fn turn_to(&mut self, set: &Arc<Set>, decisions: &mut Vec<Decision>) -> Result<(), Unreadable> {
        self.set_changed = true;
        self.is_turned |= self.shard.turn_to(set, decisions)?;
        self.shown = Shown::new(&set.catalogue);
        Ok(())
    }
}

/// The set that a commit was counted by, as far as this build can make it and anybody told it.
fn of_commit(in_force: &InForce, commit: &CommitRecord) -> Result<Option<Arc<Set>>, Broken> {
    let current = in_force.get();
    let Some(row) = &commit.set else {
        return Ok((current.number == commit.set_number).then_some(current));
    };
    match in_force.make(row) {
        // Of another build, and another came into force since: it is passed over.
        None if current.number > commit.set_number => Ok(None),
        None => Err(Broken::Newer(format!(
            "the panes are counted by set {}, which another build made",
            commit.set_number
        ))),
        made => Ok(made),
    }
}

/// The measures that are shown beside the readings.
struct Shown {
    sold: Series,
    totals: Series,
    placed: Series,
}

impl Shown {
    fn new(catalogue: &Catalogue) -> Self {
        let series = |measure| catalogue.series_of(measure).clone();
        Self {
            sold: series("sold"),
            totals: series("totals"),
            placed: series("placed"),
        }
    }

    /// What was sold since the log began; `None` where nothing was.
    fn totals(&self, history: &History) -> Option<Totals> {
        let (paid, placed) = (history.amount(&self.totals), history.amount(&self.placed));
        paid.or(placed)?;
        let paid = |field: usize| paid.map_or(0, |values| values[field]);
        Some(Totals {
            orders: paid(0),
            units: paid(1),
            revenue_minor: paid(2),
            cancelled_orders: paid(3),
            cancelled_units: paid(4),
            cancelled_revenue_minor: paid(5),
            placed_orders: placed.map_or(0, |values| values[0]),
        })
    }

    /// When the chart of a time begins: one minute's is as good as any other's.
    fn chart_begins_ms(now_ms: i64) -> i64 {
        now_ms - now_ms.rem_euclid(MINUTE_MS) - 120 * MINUTE_MS
    }

    /// Two hours back and half an hour ahead, in minutes.
    fn chart(
        &self,
        history: &History,
        facts: &fenghuo_signal::Facts,
        now_ms: i64,
    ) -> Vec<ChartPoint> {
        let Some(plan) = facts.plan(now_ms) else {
            return Vec::new();
        };
        let begins_ms = Self::chart_begins_ms(now_ms);
        let minutes = (0..150).map(|minute| {
            let at_ms = begins_ms + minute * MINUTE_MS;
            let planned = plan.expected(at_ms, at_ms + MINUTE_MS).0;
            let paid = (minute < 120).then(|| history.sum(&self.sold, at_ms, at_ms + MINUTE_MS)[0]);
            ChartPoint {
                at_ms,
                planned,
                paid,
            }
        });
        minutes.collect()
    }
}

/// A stage that ends without being asked for its partitions leaves nothing behind that nobody
/// keeps up.
impl Drop for Evaluate {
    fn drop(&mut self) {
        for held in self.shards.iter().flatten() {
            self.withdraw(held);
        }
        self.view.withdraw_entries(self.owner);
    }
}

impl Stage for Evaluate {
    fn assign(&mut self, index: usize, assigned: &Assigned, from: u64) -> Vec<Restore> {
        if self.shards.len() <= index {
            self.shards.resize_with(index + 1, || None);
        }
        let number = assigned.partition.partition;
        // Of no number: the panes say which set they were counted by.
        let set = Arc::new(self.in_force.get().at(0));
        self.shards[index] = Some(Held {
            shown: Shown::new(&set.catalogue),
            shard: Shard::new(number, Arc::clone(&self.config), set),
            state: Writer::new(number),
            reader: Some(Reader::default()),
            low: assigned.low,
            from,
            next: assigned.low,
            partitions: assigned.partitions,
            turn_ms: None,
            set_changed: true,
            is_turned: false,
        });
        // The checkpoint, and what people were told; then the panes since.
        vec![
            Restore::all(TopicPartition::new(topic::STATE, number)),
            Restore::all(TopicPartition::new(topic::ALERTS, 0)),
        ]
    }

    fn restore(&mut self, index: usize, which: usize, record: Record<'_>) {
        let Some(Some(held)) = self.shards.get_mut(index) else {
            return;
        };
        match which {
            0 => {
                if let Some(Err(unreadable)) =
                    held.reader.as_mut().map(|reader| reader.take(&record))
                {
                    self.broken = Some(unread(held.shard.partition(), unreadable));
                }
            }
            1 => {
                let alert = record.value.map(serde_json::from_slice::<AlertRecord>);
                if let Some(Ok(AlertRecord { transition, .. })) = alert
                    && home_of(&transition.entity, held.partitions) == held.shard.partition()
                {
                    self.said.push(transition);
                }
            }
            _ => {
                let before = self.decisions.len();
                self.merge(index, &record);
                // What these records led to is in the log already; what other partitions have
                // decided is not.
                self.decisions.truncate(before);
            }
        }
    }

    fn restored(&mut self, index: usize, which: usize) -> Option<Restore> {
        match which {
            1 => {
                let from = self.load(index)?;
                let held = self.shards.get_mut(index)?.as_mut()?;
                held.next = from;
                let partition = TopicPartition::new(topic::PANES, held.shard.partition());
                let to = held.from;
                Some(Restore {
                    partition,
                    from,
                    to,
                })
            }
            2 => {
                let held = self.shards.get_mut(index)?.as_mut()?;
                held.next = held.from;
                None
            }
            _ => None,
        }
    }

    fn revoke(&mut self, index: usize) {
        if let Some(held) = self.shards.get_mut(index).and_then(Option::take) {
            self.withdraw(&held);
        }
    }

    fn apply(&mut self, index: usize, record: Record<'_>) {
        self.merge(index, &record);
    }

    fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    fn pending(&self) -> bool {
        // An episode whose rule is gone, or rules that the log does not know yet.
        !self.decisions.is_empty()
            || self.config.checkpoint_ms.is_some()
                && self.shards.iter().flatten().any(|held| held.set_changed)
    }

    fn flush(&mut self, at_ms: i64, _progress: &[Progress], appends: &mut Vec<Append>) {
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
        self.write_down(at_ms, appends);
    }

    fn committed(&mut self) {
        self.publish();
    }
}

/// A record of one of Fenghuo's own topics that a newer build wrote.
pub(crate) fn newer(topic: &str, offset: u64, version: u32) -> Broken {
    Broken::Newer(format!(
        "record {offset} of {topic} has version {version}; this build reads up to {VERSION}"
    ))
}

/// Whether this build reads panes and checkpoints of that version.
///
/// # Errors
/// With what to do about one of a newer or of an earlier build.
pub(crate) fn readable(topic: &str, offset: u64, version: u32) -> Result<(), Broken> {
    match version {
        PANES_SINCE..=VERSION => Ok(()),
        _ if version > VERSION => Err(newer(topic, offset, version)),
        _ => Err(damaged(
            topic,
            offset,
            &format!(
                "it has version {version}, of an earlier build; this build reads {PANES_SINCE} to {VERSION}. Begin with \
                 another group, or another folder that the events are loaded into again"
            ),
        )),
    }
}

/// A record of one of Fenghuo's own topics that cannot be read.
pub(crate) fn damaged(topic: &str, offset: u64, why: &dyn std::fmt::Display) -> Broken {
    Broken::Damaged(format!("record {offset} of {topic}: {why}"))
}

/// A state partition that cannot be read.
pub(crate) fn unread(partition: u32, why: Unreadable) -> Broken {
    let topic = topic::STATE;
    match why {
        Unreadable::Newer(version) => Broken::Newer(format!(
            "{topic}/{partition} has records of version {version}; this build reads up to {VERSION}"
        )),
        Unreadable::Damaged(what) => {
            Broken::Damaged(format!("{topic}/{partition} cannot be read: {what}"))
        }
    }
}
