//! Survival: how soon the members of a cohort reach a state, held against the own curve of the days
//! before.

use crate::estimator::{Arguments, Column, Estimator, Named, Next, Read, Seen};
use crate::reading::Reading;
use crate::statistics::{self, wilson};

const HOUR_MS: i64 = 3_600_000;

/// Members from which on their share is told.
const MEMBERS_MIN: i64 = 20;

/// Members that are still in the first state at 72 hours from which on their share is told.
const OLD_MIN: i64 = 3;

/// Upper ends, in hours, of the ages at which the change is counted, and the columns of them.
const AGES_HOURS: [i64; 10] = [1, 2, 3, 4, 6, 8, 12, 24, 48, 72];
const COLUMNS: [&str; 11] = [
    "labelled",
    "within_1h",
    "within_2h",
    "within_3h",
    "within_4h",
    "within_6h",
    "within_8h",
    "within_12h",
    "within_24h",
    "within_48h",
    "within_72h",
];

pub(crate) static NAMED: Named = Named {
    name: "survival",
    keys: &["survival"],
    build: |arguments: &Arguments<'_, '_, '_>| {
        let columns = arguments.panes("survival", COLUMNS)?;
        arguments.check_kept("survival", columns[0], 9 * 24 * HOUR_MS)?;
        Some(Box::new(Survival { columns }))
    },
};

#[derive(Debug)]
struct Survival {
    columns: [Column; 11],
}

fn age_index(hours: i64) -> usize {
    AGES_HOURS.iter().position(|age| *age == hours).unwrap_or(0)
}

impl Survival {
    /// Members, and changes within each age, summed over the cohorts of `[from_ms, to_ms)`.
    fn cohorts(&self, seen: &Seen<'_>, from_ms: i64, to_ms: i64) -> (i64, [i64; AGES_HOURS.len()]) {
        let sums = seen.sums(self.columns[0].series, from_ms, to_ms);
        let mut within = [0; AGES_HOURS.len()];
        let mut so_far = 0;
        for (age, column) in within.iter_mut().zip(&self.columns[1..]) {
            so_far += sums[column.field];
            *age = so_far;
        }
        (sums[self.columns[0].field], within)
    }

    /// How odd it is that so few of the members 6 to 24 hours old have changed, and how many they
    /// are.
    fn deficit(&self, seen: &Seen<'_>, now_ms: i64) -> (f64, u64) {
        let (base_members, base_within) =
            self.cohorts(seen, now_ms - 9 * 24 * HOUR_MS, now_ms - 24 * HOUR_MS);
        if base_members < 50 {
            return (0.0, 0);
        }
        let (mut n, mut changed, mut expected, mut variance) = (0_i64, 0_i64, 0.0, 0.0);
        for age_hours in 7..24 {
            // The cohort's youngest member is one hour younger than its oldest.
            let from_ms = now_ms - age_hours * HOUR_MS;
            let (members, within) = self.cohorts(seen, from_ms, from_ms + HOUR_MS);
            let age = AGES_HOURS
                .iter()
                .rposition(|edge| *edge < age_hours)
                .unwrap_or(0);
            let p = (base_within[age] as f64 / base_members as f64).clamp(0.0, 1.0);
            n += members;
            changed += within[age];
            expected += members as f64 * p;
            variance += statistics::DISPERSION * members as f64 * p * (1.0 - p);
        }
        if n < 50 {
            return (0.0, 0);
        }
        // A curve that says "always" has no variance of its own; one member is the least it can
        // tell.
        let z = (expected - changed as f64) / variance.sqrt().max(1.0);
        (statistics::normal_surprise(z), n.unsigned_abs())
    }
}

impl Estimator for Survival {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        seen.is_counted(self.columns[0])
    }

    fn read(&self, seen: &Seen<'_>) -> Read {
        let now_ms = seen.now_ms - seen.now_ms.rem_euclid(HOUR_MS);
        let hours_ago = |hours: i64| now_ms - hours * HOUR_MS;
        let (members, within) = self.cohorts(seen, hours_ago(48), hours_ago(24));
        let left = (members - within[age_index(24)]).max(0);
        let (old_members, old_within) = self.cohorts(seen, hours_ago(96), hours_ago(72));
        let old_left = (old_members - old_within[age_index(72)]).max(0);
        let (surprise, tested) = self.deficit(seen, now_ms);

        // Each of the three has a sample of its own; too small a one says nothing.
        let share = |part: i64, of: i64| part as f64 / of.max(1) as f64;
        let samples = [members, old_members].map(|n| n.max(0).unsigned_abs());
        let mut reading = Reading::exact(0.0, samples[0] + samples[1] + tested);
        if members >= MEMBERS_MIN {
            reading.value = share(left, members);
            reading.lower = wilson(left.unsigned_abs(), samples[0]).0;
        }
        if old_left >= OLD_MIN {
            reading.upper = share(old_left, old_members);
        }
        reading.surprise = surprise;
        let any = self.cohorts(seen, hours_ago(96), i64::MAX).0 > 0;
        if !any {
            reading = reading.insufficient();
        }
        Read {
            reading,
            next: if any {
                Next::At(now_ms + HOUR_MS)
            } else {
                Next::Touched
            },
        }
    }
}
