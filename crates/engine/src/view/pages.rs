//! What is read of the view a page or a few at a time: no answer copies a whole map, and none
//! reads the readings of one signal to answer for another.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::PoisonError;

use fenghuo_alert::{Severity, Transition};
use fenghuo_signal::{Entity, Kind, Reading, ReadingState};

use super::least::Least;
use super::{ChartPoint, Delivery, Published, Totals, View};

/// Where an open episode stands in the list: the gravest first, then the newest.
pub type AlertPlace = (Reverse<Severity>, Reverse<i64>, Reverse<String>);

/// Where an episode stands among all: the newest first.
pub type EpisodePlace = (Reverse<i64>, String);

/// What the readings of one signal come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How many there are of each state.
    pub counts: [(ReadingState, u64); 3],
    /// Of those that can be judged, the ones with the most traffic.
    pub top: Vec<(Entity, Reading)>,
    /// How many that can be judged are left, and the sum of their values.
    pub rest: (u64, f64),
}

/// Open episodes of one rule and severity.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenGroup {
    /// The severity.
    pub severity: Severity,
    /// The rule.
    pub rule: String,
    /// How many there are.
    pub open: usize,
    /// The newest of them.
    pub newest: Vec<Transition>,
}

/// By what a reading ranks: the first number, then the second; nothing for what is left out.
pub type Rank<'a> = dyn Fn(&Entity, &Reading) -> Option<(f64, u64)> + 'a;

/// Where an open episode stands in the list of them.
pub fn alert_place(last: &Transition) -> AlertPlace {
    (
        Reverse(last.severity),
        Reverse(last.pending_at_ms),
        Reverse(last.episode.clone()),
    )
}

/// Where an episode stands in the list of all.
pub fn episode_place(last: &Transition) -> EpisodePlace {
    (Reverse(last.pending_at_ms), last.episode.clone())
}

impl View {
    /// Readings of one signal, sorted by entity: up to `limit` after an entity, of the entities that
    /// are wanted.
    pub fn readings_after(
        &self,
        signal: &str,
        after: Option<&Entity>,
        limit: usize,
        is_wanted: &dyn Fn(&Entity) -> bool,
    ) -> Vec<(Entity, Published)> {
        let mut least = Least::new(limit);
        let of = self.readings.of(signal);
        for entry in of.iter().flat_map(|of| of.iter()) {
            let entity = entry.key();
            if after.is_none_or(|after| entity > after) && is_wanted(entity) {
                least.offer(entity.clone(), || (entity.clone(), *entry.value()));
            }
        }
        least.into_vec()
    }

    /// How many readings there are of a signal.
    pub fn readings_count(&self, signal: &str) -> usize {
        self.readings.of(signal).map_or(0, |of| of.len())
    }

    /// The readings of one signal that rank highest; those without a rank are left out, and of
    /// equal ones the first entity comes first.
    pub fn readings_ranked(
        &self,
        signal: &str,
        limit: usize,
        rank: &Rank<'_>,
    ) -> Vec<(Entity, Published)> {
        let mut least = Least::new(limit);
        let of = self.readings.of(signal);
        for entry in of.iter().flat_map(|of| of.iter()) {
            let (entity, published) = (entry.key(), *entry.value());
            if let Some((rank, n)) = rank(entity, &published.reading) {
                let key = (Reverse(ordered(rank)), Reverse(n), entity.clone());
                least.offer(key, || (entity.clone(), published));
            }
        }
        least.into_vec()
    }

    /// What the readings of one signal come to, in one pass: `top` of them by name, by their
    /// orders, or by their samples where none are known.
    pub fn summary(&self, signal: &str, top: usize) -> Summary {
        let mut counts = [
            (ReadingState::Ok, 0),
            (ReadingState::Insufficient, 0),
            (ReadingState::Unknown, 0),
        ];
        let mut least = Least::new(top);
        let (mut known, mut sum) = (0_u64, 0.0);
        let of = self.readings.of(signal);
        for entry in of.iter().flat_map(|of| of.iter()) {
            let (entity, reading) = (entry.key(), entry.value().reading);
            for (state, count) in &mut counts {
                *count += u64::from(*state == reading.state);
            }
            if reading.state != ReadingState::Ok {
                continue;
            }
            (known, sum) = (known + 1, sum + reading.value);
            let orders = self.totals.get(entity).map(|totals| totals.orders);
            let traffic = orders.unwrap_or_else(|| i64::try_from(reading.n).unwrap_or(i64::MAX));
            least.offer((Reverse(traffic), entity.clone()), || {
                (entity.clone(), reading)
            });
        }
        let top = least.into_vec();
        let named: f64 = top.iter().map(|(_, reading)| reading.value).sum();
        Summary {
            counts,
            rest: (known - top.len() as u64, sum - named),
            top,
        }
    }

    /// The totals of an entity.
    pub fn totals_of(&self, entity: &Entity) -> Option<Totals> {
        self.totals.get(entity).map(|entry| *entry.value())
    }

    /// Totals of the entities of a kind with the most orders.
    pub fn totals_most(&self, kind: Kind, limit: usize) -> Vec<(Entity, Totals)> {
        let mut least = Least::new(limit);
        for entry in &self.totals {
            let (entity, totals) = (entry.key(), *entry.value());
            if entity.kind == kind {
                let key = (Reverse(totals.orders), entity.clone());
                least.offer(key, || (entity.clone(), totals));
            }
        }
        least.into_vec()
    }

    /// Totals of the entities of a kind by name, up to `limit` after one, and how many there are in
    /// all.
    pub fn totals_after(
        &self,
        kind: Kind,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<(Entity, Totals)>, u64) {
        let mut least = Least::new(limit);
        let mut count = 0;
        for entry in &self.totals {
            let (entity, totals) = (entry.key(), *entry.value());
            if entity.kind != kind {
                continue;
            }
            count += 1;
            if after.is_none_or(|after| entity.first.as_str() > after) {
                least.offer(entity.clone(), || (entity.clone(), totals));
            }
        }
        (least.into_vec(), count)
    }

    /// The charts of the campaigns with the largest plans, the largest first.
    pub fn charts_largest(&self, limit: usize) -> Vec<(Entity, Vec<ChartPoint>)> {
        let mut least = Least::new(limit);
        for entry in &self.charts {
            let (campaign, chart) = (entry.key(), entry.value());
            let planned: f64 = chart.iter().map(|point| point.planned).sum();
            let key = (Reverse(ordered(planned)), campaign.clone());
            least.offer(key, || (campaign.clone(), chart.clone()));
        }
        least.into_vec()
    }

    /// How many episodes are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Open episodes, the gravest and newest first: up to `limit` after a place.
    pub fn open_after(&self, after: Option<&AlertPlace>, limit: usize) -> Vec<Transition> {
        let mut least = Least::new(limit);
        for entry in &self.open {
            let place = alert_place(entry.value());
            if after.is_none_or(|after| place > *after) {
                least.offer(place, || (**entry.value()).clone());
            }
        }
        least.into_vec()
    }

    /// Episodes, open and closed, the newest first: up to `limit` after a place, and how many there
    /// are in all.
    pub fn episodes_after(
        &self,
        after: Option<&EpisodePlace>,
        limit: usize,
    ) -> (Vec<Transition>, usize) {
        let mut least = Least::new(limit);
        let mut count = 0;
        let mut offer = |last: &Transition| {
            count += 1;
            let place = episode_place(last);
            if after.is_none_or(|after| place > *after) {
                least.offer(place, || last.clone());
            }
        };
        for entry in &self.open {
            offer(entry.value());
        }
        // An episode that closes between the two looks is in both; the later one holds.
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.iter().for_each(offer);
        drop(closed);
        (least.into_vec(), count)
    }

    /// The newest closed episodes, the newest first.
    pub fn closed_newest(&self, limit: usize) -> Vec<Transition> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.iter().rev().take(limit).cloned().collect()
    }

    /// Open episodes by severity and rule, the gravest group with the newest episode first: up to
    /// `groups_max` groups with up to `alike_max` episodes each.
    pub fn open_groups(&self, groups_max: usize, alike_max: usize) -> Vec<OpenGroup> {
        type Group = (usize, Least<AlertPlace, Transition>);
        let mut groups: BTreeMap<(Severity, String), Group> = BTreeMap::new();
        for entry in &self.open {
            let last: &Transition = entry.value();
            let group = groups.entry((last.severity, last.rule.clone()));
            let (open, newest) = group.or_insert_with(|| (0, Least::new(alike_max)));
            *open += 1;
            newest.offer(alert_place(last), || last.clone());
        }
        let mut groups: Vec<OpenGroup> = groups
            .into_iter()
            .map(|((severity, rule), (open, newest))| OpenGroup {
                severity,
                rule,
                open,
                newest: newest.into_vec(),
            })
            .collect();
        groups.sort_by_cached_key(|group| group.newest.first().map(alert_place));
        groups.truncate(groups_max);
        groups
    }

    /// Deliveries, the newest first: up to `limit` after one, and how many there are in all. `None`
    /// where that one is forgotten.
    pub fn deliveries_after(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Option<(Vec<Delivery>, usize)> {
        let (names, count) = {
            let order = self.delivery_order.lock();
            let order = order.unwrap_or_else(PoisonError::into_inner);
            let begin = match after {
                None => 0,
                Some(after) => 1 + order.iter().rev().position(|name| name == after)?,
            };
            let names = order.iter().rev().skip(begin).take(limit).cloned();
            (names.collect::<Vec<String>>(), order.len())
        };
        let get = |key: &String| self.deliveries.get(key).map(|entry| entry.value().clone());
        Some((names.iter().filter_map(get).collect(), count))
    }

    /// The deliveries about episodes that are wanted, the newest first.
    pub fn deliveries_about(&self, is_wanted: &dyn Fn(&str) -> bool) -> Vec<Delivery> {
        let order = self.delivery_order.lock();
        let order = order.unwrap_or_else(PoisonError::into_inner).clone();
        let get = |key: &String| {
            let entry = self.deliveries.get(key)?;
            is_wanted(&entry.intent.alert.episode).then(|| entry.value().clone())
        };
        order.iter().rev().filter_map(get).collect()
    }
}

/// A number by which floats can be ordered, the greater one higher; what is none ranks lowest.
fn ordered(rank: f64) -> i64 {
    if rank.is_nan() {
        return i64::MIN;
    }
    // The order of IEEE 754 totalOrder, as in the standard library's `f64::total_cmp`.
    let bits = rank.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

#[cfg(test)]
mod tests;
