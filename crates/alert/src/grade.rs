//! Grades: how bad a reading is by the rules, for whoever shows readings.
//!
//! Owns the order in which readings are shown. It must never decide about an alert: a grade is of one
//! reading alone, without holds and without what was before.

use fenghuo_signal::{Entity, Reading, ReadingState};
use serde::Serialize;

use crate::machine::taken;
use crate::rule::{Field, Limit, Rules, Severity, Side};

/// How bad a reading is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// No rule watches the entity, or the reading cannot be judged.
    #[default]
    None,
    /// Within all limits.
    Good,
    /// Beyond a limit of a warning.
    Warn,
    /// Beyond a limit of a page.
    Page,
}

/// A grade, and what else is needed to show a reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Graded {
    /// The grade.
    pub grade: Grade,
    /// How near the reading is to the limit that it is nearest to, or how far beyond: 1 is the limit.
    pub nearness: f64,
    /// The value on a scale from 0 to 1 that has the limits on it, where a limit is one of the value.
    pub bar: Option<f64>,
}

impl Graded {
    /// By what the worst reading comes first.
    pub fn rank(&self) -> f64 {
        const BEYOND_MAX: f64 = 1e9;
        f64::from(self.grade as u8) * BEYOND_MAX + self.nearness.clamp(0.0, BEYOND_MAX - 1.0)
    }
}

impl Rules {
    /// Grades a reading of `signal` about `entity`.
    pub fn grade(&self, signal: &str, entity: &Entity, reading: &Reading) -> Graded {
        let mut graded = Graded::default();
        let watching = self.for_signal(signal).map(|(_, rule)| rule);
        for rule in watching.filter(|rule| rule.watches(entity)) {
            let reading = taken(rule, reading);
            if reading.state != ReadingState::Ok {
                continue;
            }
            graded.grade = graded.grade.max(Grade::Good);
            for limit in &rule.limits {
                graded.nearness = graded.nearness.max(nearness(limit, &reading));
                if limit.is_beyond(&reading) {
                    graded.grade = graded.grade.max(match limit.severity {
                        Severity::Warn => Grade::Warn,
                        Severity::Page => Grade::Page,
                    });
                }
            }
            let bar = bar(&rule.limits, reading.value);
            graded.bar = match (graded.bar, bar) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
        }
        graded
    }
}

/// 1 at the limit, more beyond it. Numbers of the wrong sign are as far as can be told.
fn nearness(limit: &Limit, reading: &Reading) -> f64 {
    let x = limit.read.of(reading);
    let (part, whole) = match limit.side {
        Side::Above => (x, limit.at),
        Side::Below => (limit.at, x),
    };
    match (part > 0.0, whole > 0.0) {
        (true, true) => part / whole,
        (true, false) => f64::MAX,
        (false, _) => f64::from(u8::from(limit.is_beyond(reading))),
    }
}

/// Where the value lies on a scale that shows the limits: upper ones in its middle, lower ones at a
/// quarter of it.
fn bar(limits: &[Limit], value: f64) -> Option<f64> {
    let of_value = limits.iter().filter(|limit| limit.read != Field::Surprise);
    let ends = of_value.map(|limit| match limit.side {
        Side::Above => limit.at * 2.0,
        Side::Below => limit.at * 4.0,
    });
    let end = ends.fold(0.0, f64::max);
    (end > 0.0).then(|| (value / end).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use fenghuo_signal::{Kind, ReadingState};

    use super::*;

    const RULES: &str = r#"
        [[rule]]
        name = "cover"
        signal = "stock.hours_of_cover"
        where = { kind = "sku" }
        page = [{ read = "value", below = 1 }]
        warn = [{ read = "value", below = 2 }]
        least_sample = 5

        [[rule]]
        name = "late"
        signal = "parcel.eta_breach"
        page = [{ read = "lower", above = 0.15 }, { read = "surprise", above = 6 }]
    "#;

    fn rules() -> Rules {
        Rules::parse("r", RULES, &["stock.hours_of_cover", "parcel.eta_breach"]).unwrap()
    }

    #[test]
    fn a_reading_is_as_bad_as_the_worst_limit_that_it_is_beyond() {
        let (rules, sku) = (rules(), Entity::one(Kind::SKU, "mug"));
        let grade = |value: f64, n: u64| {
            rules.grade("stock.hours_of_cover", &sku, &Reading::exact(value, n))
        };
        for (value, expected) in [
            (0.0, Grade::Page),
            (-3.0, Grade::Page),
            (0.99, Grade::Page),
            (1.0, Grade::Warn),
            (2.0, Grade::Good),
            (1e12, Grade::Good),
        ] {
            assert_eq!(grade(value, 5).grade, expected, "{value}");
        }
        assert_eq!(grade(0.5, 4), Graded::default());
        assert_eq!(grade(4.0, 5).bar, Some(0.5));
        assert!(grade(0.5, 5).rank() > grade(0.9, 5).rank());
        assert!(grade(0.9, 5).rank() > grade(1.0, 5).rank());
        assert!(grade(2.0, 5).rank() > grade(3.0, 5).rank());
    }

    #[test]
    fn what_no_rule_watches_has_no_grade() {
        let (rules, campaign) = (rules(), Entity::one(Kind::CAMPAIGN, "sale"));
        let reading = Reading::exact(0.1, 100);
        assert_eq!(
            rules.grade("stock.hours_of_cover", &campaign, &reading),
            Graded::default()
        );
        let unknown = rules.grade("parcel.eta_breach", &campaign, &Reading::unknown());
        assert_eq!(unknown.grade, Grade::None);
    }

    #[test]
    fn a_surprise_alone_can_be_the_reason() {
        let rules = rules();
        let lane = Entity::one(Kind::CAMPAIGN, "sale");
        let reading = Reading {
            state: ReadingState::Ok,
            value: 0.1,
            lower: 0.05,
            upper: 0.2,
            surprise: 7.0,
            n: 100,
        };
        let graded = rules.grade("parcel.eta_breach", &lane, &reading);
        assert_eq!(graded.grade, Grade::Page);
        assert!((graded.bar.unwrap() - 0.1 / 0.3).abs() < 1e-12);
    }
}
