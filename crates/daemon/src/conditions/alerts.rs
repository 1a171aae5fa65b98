//! Alerts about the process itself: a condition that stands is paged like any other trouble.
//!
//! Owns the steps that conditions take in `fenghuo.alerts`. They lie in the log beside those of the
//! shop's rules, so routes, retries and restarts treat them alike: what a former run of this
//! instance left open is read at the start, and resolved once it is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use fenghuo_alert::{Severity, State, Transition};
use fenghuo_engine::View;
use fenghuo_engine::record::{AlertRecord, VERSION, topic};
use fenghuo_log::{Append, Log, TopicPartition};
use fenghuo_signal::{Entity, Kind, Reading};

use super::{Conditions, Standing};

/// What the rules of these alerts begin with.
const PREFIX: &str = "fenghuo.";

/// The signal that they name.
const SIGNAL: &str = "fenghuo.condition";

/// A condition that comes back within this time was not over.
const CLEAR_AFTER_MS: i64 = 30_000;

/// A warning that stands for less than this is nobody's business.
const WARN_AFTER_MS: i64 = 30_000;

/// What was last seen of a condition whose alert is open.
struct Open {
    last: Transition,
    seen_ms: i64,
}

/// Tells the log of conditions that begin, grow graver and end.
pub struct Alerts {
    /// Empty where the process is alone with its log; else its instance.
    instance: String,
    open: BTreeMap<(String, Entity), Open>,
}

impl Alerts {
    /// One that has no alert open.
    pub fn new(instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            open: BTreeMap::new(),
        }
    }

    /// Where the records are that a former run of this instance left.
    pub fn place() -> TopicPartition {
        TopicPartition::new(topic::ALERTS, 0)
    }

    /// Takes up what a former run left open; the records come in their order.
    pub fn restore(&mut self, value: &[u8], now_ms: i64) {
        // What cannot be read stops the stages, which say so.
        if let Ok(record) = serde_json::from_slice::<AlertRecord>(value) {
            self.take_up(record.transition, now_ms);
        }
    }

    fn take_up(&mut self, last: Transition, now_ms: i64) {
        if last.signal != SIGNAL || last.labels.get("instance") != Some(&self.instance) {
            return;
        }
        let key = (last.rule.clone(), last.entity.clone());
        match last.to {
            State::Resolved => _ = self.open.remove(&key),
            _ => {
                let seen_ms = now_ms;
                self.open.insert(key, Open { last, seen_ms });
            }
        }
    }

    /// Tells the log what has changed since the last call. What cannot be appended is told by the
    /// next call.
    ///
    /// # Errors
    /// Those of the log.
    pub fn tell(
        &mut self,
        conditions: &Conditions,
        log: &dyn Log,
        view: &View,
        now_ms: i64,
    ) -> anyhow::Result<()> {
        let standing = conditions.all();
        let steps = self.steps(&standing, now_ms);
        if steps.is_empty() {
            return Ok(());
        }
        let mut appends = Vec::new();
        for transition in &steps {
            let record = AlertRecord {
                version: VERSION,
                transition: transition.clone(),
                appended_ms: Some(now_ms),
            };
            let key = transition.episode.clone().into_bytes();
            appends.push(Append::new(
                Self::place(),
                Some(key),
                serde_json::to_vec(&record)?,
            ));
        }
        log.append(appends)
            .context("telling the log of this process's own alerts")?;
        for transition in steps {
            view.publish_transition(transition.clone());
            self.take_up(transition, now_ms);
        }
        Ok(())
    }

    fn steps(&mut self, standing: &[Standing], now_ms: i64) -> Vec<Transition> {
        let mut steps = Vec::new();
        for one in standing {
            let key = (rule(one), self.entity(one));
            match self.open.get_mut(&key) {
                Some(open) => {
                    open.seen_ms = now_ms;
                    if open.last.severity < one.condition.severity {
                        steps.push(Transition {
                            from: State::Firing,
                            severity: one.condition.severity,
                            at_ms: now_ms,
                            summary: one.condition.text.clone(),
                            ..open.last.clone()
                        });
                    }
                }
                None => {
                    let stands_ms = (now_ms - one.since_ms).abs();
                    if one.condition.severity == Severity::Page || stands_ms >= WARN_AFTER_MS {
                        steps.push(self.firing(key, one, now_ms));
                    }
                }
            }
        }
        for open in self.open.values() {
            // A clock that was set back must not keep an alert open until it is there again.
            let passed_ms = now_ms - open.seen_ms;
            if passed_ms.abs() >= CLEAR_AFTER_MS {
                steps.push(Transition {
                    from: open.last.to,
                    to: State::Resolved,
                    at_ms: now_ms,
                    resolved_at_ms: Some(now_ms),
                    reading: Reading::exact(0.0, 1),
                    ..open.last.clone()
                });
            }
        }
        steps
    }

    fn entity(&self, standing: &Standing) -> Entity {
        let condition = &standing.condition;
        let about = match condition.about.as_str() {
            "" => "fenghuo",
            about => about,
        };
        match self.instance.as_str() {
            "" => Entity::one(Kind::COMPONENT, about),
            instance => Entity::one(Kind::COMPONENT, &format!("{instance}/{about}")),
        }
    }

    fn firing(&self, key: (String, Entity), standing: &Standing, now_ms: i64) -> Transition {
        let (rule, entity) = key;
        let since_ms = standing.since_ms;
        let name = format!("{}\n{rule}\n{entity}\n{since_ms}\n{now_ms}", self.instance);
        let labels = [("instance".to_owned(), self.instance.clone())];
        Transition {
            episode: format!("{:032x}", xxhash_rust::xxh3::xxh3_128(name.as_bytes())),
            rule,
            signal: SIGNAL.to_owned(),
            entity,
            from: State::Inactive,
            to: State::Firing,
            severity: standing.condition.severity,
            at_ms: now_ms,
            pending_at_ms: since_ms,
            fired_at_ms: Some(now_ms),
            resolved_at_ms: None,
            reading: Reading::exact(1.0, 1),
            peak: 1.0,
            playbook: None,
            owner_role: Some(match standing.condition.severity {
                Severity::Page => "on-call".to_owned(),
                Severity::Warn => "platform".to_owned(),
            }),
            labels: Arc::new(labels.into()),
            summary: standing.condition.text.clone(),
            campaign: None,
        }
    }
}

fn rule(standing: &Standing) -> String {
    format!("{PREFIX}{}", standing.condition.name)
}

#[cfg(test)]
mod tests {
    use fenghuo_log::memory::MemoryLog;
    use fenghuo_log::{SessionSpec, Start, TopicSpec};

    use super::super::tests::condition;
    use super::*;

    fn log() -> MemoryLog {
        let log = MemoryLog::new();
        log.ensure(&[TopicSpec {
            name: topic::ALERTS.to_owned(),
            partitions: 1,
            compacted: false,
            retention_ms: None,
        }])
        .unwrap();
        log
    }

    fn values(log: &MemoryLog) -> Vec<Vec<u8>> {
        let mut session = log
            .open(&SessionSpec {
                group: "look".to_owned(),
                member: "look".to_owned(),
                topics: Vec::new(),
                start: Start::Earliest,
                low_latency: false,
            })
            .unwrap();
        let mut values = Vec::new();
        session
            .read(&Alerts::place(), 0, u64::MAX, &mut |record| {
                values.push(record.value.unwrap().to_vec());
            })
            .unwrap();
        values
    }

    fn restored(log: &MemoryLog, instance: &str, now_ms: i64) -> Alerts {
        let mut alerts = Alerts::new(instance);
        for value in values(log) {
            alerts.restore(&value, now_ms);
        }
        alerts
    }

    #[test]
    fn a_condition_is_one_episode_over_a_restart() {
        let (log, view, conditions) = (log(), View::new(), Conditions::new());
        let mut alerts = Alerts::new("");
        let at = |ms: i64| WARN_AFTER_MS + ms;
        conditions.set(1, condition("disk.full", "", Severity::Warn));
        alerts.tell(&conditions, &log, &view, 1_000).unwrap();
        assert_eq!(view.open().len(), 0, "it may pass");
        alerts.tell(&conditions, &log, &view, at(1_000)).unwrap();
        conditions.set(2, condition("disk.full", "", Severity::Page));
        alerts.tell(&conditions, &log, &view, at(2_000)).unwrap();
        alerts.tell(&conditions, &log, &view, at(3_000)).unwrap();
        assert_eq!(view.open().len(), 1);

        let mut again = restored(&log, "", at(4_000));
        again.tell(&conditions, &log, &view, at(5_000)).unwrap();
        conditions.clear("disk.full", "");
        again.tell(&conditions, &log, &view, at(6_000)).unwrap();
        assert_eq!(view.open().len(), 1, "it may come back");
        again
            .tell(&conditions, &log, &view, at(5_000) + CLEAR_AFTER_MS)
            .unwrap();
        assert_eq!(view.open().len(), 0);
        let told: Vec<Transition> = values(&log)
            .iter()
            .map(|value| serde_json::from_slice::<AlertRecord>(value).unwrap())
            .map(|record| record.transition)
            .collect();
        let steps: Vec<_> = told.iter().map(|step| (step.to, step.severity)).collect();
        assert_eq!(
            steps,
            [
                (State::Firing, Severity::Warn),
                (State::Firing, Severity::Page),
                (State::Resolved, Severity::Page)
            ]
        );
        assert!(told.iter().all(|step| step.episode == told[0].episode));
    }

    #[test]
    fn another_instance_is_not_spoken_for() {
        let (log, view, conditions) = (log(), View::new(), Conditions::new());
        conditions.set(1, condition("disk.full", "", Severity::Page));
        let mut one = Alerts::new("one");
        one.tell(&conditions, &log, &view, 1_000).unwrap();
        let mut two = restored(&log, "two", 2_000);
        two.tell(&Conditions::new(), &log, &view, 2_000 + CLEAR_AFTER_MS)
            .unwrap();
        assert_eq!(values(&log).len(), 1);
    }
}
