//! Whether a clock can be believed, from what it says beside one that knows no steps.
//!
//! Pure: both clocks are arguments. A clock that moved against the other by more than [`EVEN_MS`]
//! was set, rightly or not. Which one it is, events tell: nothing has happened before its time, and
//! most of what is told has just happened.

/// Clocks that differ by no more go evenly.
const EVEN_MS: i64 = 2_000;

/// A step that no event speaks for or against is believed after this time.
const CONFIRM_MS: i64 = 10_000;

/// An event that is further ahead of a clock than this speaks against it.
const AHEAD_MS: i64 = 5_000;

/// An event this close to a clock speaks for it, where the other one is twice as far away.
const NEAR_MS: i64 = 300_000;

/// A step that was believed is told for so long.
const TOLD_MS: i64 = 30_000;

/// The clock was set, and is not believed yet, or no longer.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// How far it is ahead of the time that went on.
    by_ms: i64,
    since_ms: i64,
    for_clock: u64,
    against: u64,
}

/// What is to be said of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How far the machine's clock is, or was, ahead of the time that went on, ms.
    pub by_ms: i64,
    /// What became of it.
    pub verdict: Verdict,
}

/// Whether a clock that was set is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is known yet.
    Open,
    /// Events say that it is wrong.
    Wrong,
    /// Time follows it.
    Followed,
}

/// A clock beside one that knows no steps.
#[derive(Debug)]
pub struct Checked {
    /// What the time that is told is ahead of the even clock.
    ahead_ms: i64,
    step: Option<Step>,
    /// When a step was believed last, and by how much time went on.
    followed: Option<(i64, i64)>,
}

impl Checked {
    /// A clock that is believed; `passed_ms` is the even clock.
    pub fn new(wall_ms: i64, passed_ms: i64) -> Self {
        Self {
            ahead_ms: wall_ms.saturating_sub(passed_ms),
            step: None,
            followed: None,
        }
    }

    /// Something was written at `last_ms`: a clock that is behind that was set in between.
    pub fn begin(&mut self, last_ms: i64, wall_ms: i64, passed_ms: i64) {
        if wall_ms < last_ms.saturating_sub(AHEAD_MS) {
            self.ahead_ms = last_ms.saturating_sub(passed_ms);
            self.look(wall_ms, passed_ms);
        }
    }

    /// What time it is.
    pub fn look(&mut self, wall_ms: i64, passed_ms: i64) -> i64 {
        let even_ms = passed_ms.saturating_add(self.ahead_ms);
        let by_ms = wall_ms.saturating_sub(even_ms);
        if by_ms.abs() <= EVEN_MS {
            self.step = None;
            self.ahead_ms = wall_ms.saturating_sub(passed_ms);
            return wall_ms;
        }
        let is_known = |step: &Step| (step.by_ms.saturating_sub(by_ms)).abs() <= EVEN_MS;
        let step = self.step.filter(is_known).unwrap_or(Step {
            by_ms,
            since_ms: passed_ms,
            for_clock: 0,
            against: 0,
        });
        self.step = Some(step);
        let is_confirmed = match step.for_clock.cmp(&step.against) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => passed_ms - step.since_ms >= CONFIRM_MS,
        };
        if !is_confirmed {
            return even_ms;
        }
        self.step = None;
        self.followed = Some((passed_ms, by_ms));
        self.ahead_ms = wall_ms.saturating_sub(passed_ms);
        wall_ms
    }

    /// Takes when an event that was just told happened; `now_ms` is the time that is told.
    pub fn hear(&mut self, occurred_ms: i64, now_ms: i64) {
        let Some(step) = &mut self.step else { return };
        let from_even_ms = occurred_ms.saturating_sub(now_ms);
        let from_clock_ms = from_even_ms.saturating_sub(step.by_ms);
        let (even, clock) = (from_even_ms > AHEAD_MS, from_clock_ms > AHEAD_MS);
        let is_far = step.by_ms.saturating_abs() > 2 * NEAR_MS;
        let is_for_clock = match (even, clock) {
            (true, false) => true,
            (false, true) => false,
            // How late an event is told is not known, so what differs by little tells nothing.
            _ if !is_far => return,
            _ if from_clock_ms.saturating_abs() <= NEAR_MS => true,
            _ if from_even_ms.saturating_abs() <= NEAR_MS => false,
            _ => return,
        };
        match is_for_clock {
            true => step.for_clock += 1,
            false => step.against += 1,
        }
    }

    /// What is to be said.
    pub fn told(&self, passed_ms: i64) -> Option<Standing> {
        if let Some(step) = self.step {
            let verdict = match step.against > step.for_clock {
                true => Verdict::Wrong,
                false => Verdict::Open,
            };
            let by_ms = step.by_ms;
            return Some(Standing { by_ms, verdict });
        }
        let (followed_ms, by_ms) = self.followed?;
        (passed_ms - followed_ms < TOLD_MS).then_some(Standing {
            by_ms,
            verdict: Verdict::Followed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 1_794_398_400_000;
    const HOUR_MS: i64 = 3_600_000;
    const JUMPS_MS: [i64; 8] = [
        60_000,
        -60_000,
        HOUR_MS,
        -HOUR_MS,
        8 * HOUR_MS,
        -8 * HOUR_MS,
        87_600 * HOUR_MS,
        -87_600 * HOUR_MS,
    ];

    #[test]
    fn a_jump_and_back_changes_nothing() {
        for by_ms in JUMPS_MS {
            let mut clock = Checked::new(START_MS, 0);
            for second in 0..60 {
                let passed_ms = second * 1_000;
                let is_wrong = (20..24).contains(&second);
                let wall_ms = START_MS + passed_ms + if is_wrong { by_ms } else { 0 };
                assert_eq!(clock.look(wall_ms, passed_ms), START_MS + passed_ms);
                assert_eq!(clock.told(passed_ms).is_some(), is_wrong, "by {by_ms}");
            }
        }
    }

    #[test]
    fn events_hold_a_wrong_clock_off_for_good() {
        for by_ms in JUMPS_MS.into_iter().filter(|by_ms| *by_ms != 60_000) {
            let mut clock = Checked::new(START_MS, 0);
            for second in 1..600 {
                let passed_ms = second * 1_000;
                let true_ms = START_MS + passed_ms;
                let now_ms = clock.look(true_ms + by_ms, passed_ms);
                assert_eq!(now_ms, true_ms, "by {by_ms} at {second}");
                clock.hear(true_ms - 700, true_ms);
            }
            let told = clock.told(600_000);
            let verdict = Verdict::Wrong;
            assert_eq!(told, Some(Standing { by_ms, verdict }));
        }
    }

    #[test]
    fn a_clock_that_is_set_right_is_believed_at_once_by_events_and_soon_without() {
        for by_ms in JUMPS_MS {
            // It was wrong from the start, and is right at second 5.
            for is_told in [true, false] {
                let mut clock = Checked::new(START_MS + by_ms, 0);
                let mut right_at = None;
                for second in 5..60 {
                    let passed_ms = second * 1_000;
                    let true_ms = START_MS + passed_ms;
                    let now_ms = clock.look(true_ms, passed_ms);
                    if now_ms == true_ms {
                        right_at.get_or_insert(second);
                    } else {
                        assert_eq!(now_ms, true_ms + by_ms);
                    }
                    if is_told {
                        clock.hear(true_ms - 700, now_ms);
                    }
                }
                let within = if is_told && by_ms != 60_000 { 6 } else { 15 };
                assert!(right_at <= Some(within), "by {by_ms}: {right_at:?}");
                assert!(right_at.is_some());
            }
        }
    }

    #[test]
    fn a_start_behind_the_log_waits_for_what_events_say() {
        let behind_ms = START_MS - 8 * HOUR_MS;
        let mut clock = Checked::new(behind_ms, 0);
        clock.begin(START_MS, behind_ms, 0);
        assert_eq!(clock.look(behind_ms + 1_000, 1_000), START_MS + 1_000);
        assert!(clock.told(1_000).is_some());
        clock.hear(START_MS + 900, START_MS + 1_000);
        assert_eq!(clock.look(behind_ms + 60_000, 60_000), START_MS + 60_000);
        // Without any it is believed.
        let mut clock = Checked::new(behind_ms, 0);
        clock.begin(START_MS, behind_ms, 0);
        assert_eq!(clock.look(behind_ms + 10_000, 10_000), behind_ms + 10_000);
    }
}
