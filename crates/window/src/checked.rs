//! Whether a clock can be believed, from what it says beside one that knows no steps.
//!
//! Pure: both clocks are arguments. A clock that moved against the other by more than `EVEN_MS`
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

/// Nobody was away for so long: a clock that begins further ahead of what was written last was set.
const AWAY_MS_MAX: i64 = 365 * 86_400_000;

/// Such a clock is believed after this time, where no event speaks for or against it.
const CONFIRM_AWAY_MS: i64 = 600_000;

/// A step that was believed is told for so long.
const TOLD_MS: i64 = 30_000;

/// A step that was believed may still be found wrong by events for so long.
const DOUBTED_MS: i64 = 600_000;

/// Events against a step that was believed: more than twice as many as were for it, and this many
/// where any was for it.
const DOUBTS_MIN: u64 = 3;

/// The clock was set, and is not believed yet, or no longer.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// How far it is ahead of the time that went on.
    by_ms: i64,
    since_ms: i64,
    for_clock: u64,
    against: u64,
}

/// A step forward that is followed: no time has passed between its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The time with which time went on, Unix ms.
    pub to_ms: i64,
    /// How far that was ahead of the time that went on until then.
    pub by_ms: i64,
}

impl Jump {
    /// How much of the way from one time to another was no time that passed, for a clock that may
    /// lag by `lateness_ms`; 0 where that is no more than clocks differ by.
    pub fn within(&self, from_ms: i64, to_ms: i64, lateness_ms: i64) -> i64 {
        let begin_ms = self.to_ms.saturating_sub(self.by_ms);
        let from_ms = from_ms.max(begin_ms.saturating_sub(lateness_ms));
        match to_ms.min(self.to_ms).saturating_sub(from_ms) {
            way_ms if way_ms > EVEN_MS => way_ms.min(self.by_ms),
            _ => 0,
        }
    }
}

/// What is known of a clock that was set, to be taken up by another process of the same machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The time that was told, Unix ms.
    pub time_ms: i64,
    /// The clock was set, and is not believed.
    pub step: Option<KnownStep>,
    /// The step that was believed last.
    pub followed: Option<KnownStep>,
    /// The step forward that time followed.
    pub jump: Option<Jump>,
}

/// A step, and what events said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownStep {
    /// How far it is ahead of the time that went on.
    pub by_ms: i64,
    /// How long ago it was seen, or believed.
    pub age_ms: i64,
    /// Events that agree with it.
    pub for_clock: u64,
    /// Events that agree with the time that went on.
    pub against: u64,
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
    /// It began further ahead than anybody was away: time goes on from what was written last, and
    /// events say how long that is ago.
    is_resumed: bool,
    /// The step that was believed last, since when, by the even clock.
    followed: Option<Step>,
    jump: Option<Jump>,
}

impl Checked {
    /// A clock that is believed; `passed_ms` is the even clock.
    pub fn new(wall_ms: i64, passed_ms: i64) -> Self {
        Self {
            ahead_ms: wall_ms.saturating_sub(passed_ms),
            step: None,
            is_resumed: false,
            followed: None,
            jump: None,
        }
    }

    /// Something was written at `last_ms`, Unix ms, or nothing ever where that is 0: a clock that is
    /// behind that, or years ahead of it, was set in between.
    pub fn begin(&mut self, last_ms: i64, wall_ms: i64, passed_ms: i64) {
        self.is_resumed = last_ms > 0 && wall_ms > last_ms.saturating_add(AWAY_MS_MAX);
        if self.is_resumed || wall_ms < last_ms.saturating_sub(AHEAD_MS) {
            self.ahead_ms = last_ms.saturating_sub(passed_ms);
            self.look(wall_ms, passed_ms);
        }
    }

    /// A former process knew this, and so much time has passed since by a clock that knows no steps
    /// and outlives a process. What was written later than that time says is believed more.
    pub fn resume(&mut self, known: &Known, elapsed_ms: i64, last_ms: i64, passed_ms: i64) {
        let even_ms = known.time_ms.saturating_add(elapsed_ms).max(last_ms);
        self.ahead_ms = even_ms.saturating_sub(passed_ms);
        let began_ms = passed_ms.saturating_sub(elapsed_ms);
        let step = |known: KnownStep| Step {
            by_ms: known.by_ms,
            since_ms: began_ms.saturating_sub(known.age_ms),
            for_clock: known.for_clock,
            against: known.against,
        };
        (self.step, self.followed) = (known.step.map(step), known.followed.map(step));
        self.jump = known.jump;
        self.is_resumed = false;
    }

    /// What another process has to know to go on.
    pub fn known(&self, passed_ms: i64) -> Known {
        let step = |step: Step| KnownStep {
            by_ms: step.by_ms,
            age_ms: passed_ms.saturating_sub(step.since_ms),
            for_clock: step.for_clock,
            against: step.against,
        };
        Known {
            time_ms: passed_ms.saturating_add(self.ahead_ms),
            step: self.step.map(step),
            followed: self.followed.map(step),
            jump: self.jump,
        }
    }

    /// What time it is.
    pub fn look(&mut self, wall_ms: i64, passed_ms: i64) -> i64 {
        let even_ms = passed_ms.saturating_add(self.ahead_ms);
        let by_ms = wall_ms.saturating_sub(even_ms);
        if by_ms.abs() <= EVEN_MS {
            self.step = None;
            self.is_resumed = false;
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
            std::cmp::Ordering::Equal if self.is_resumed => {
                passed_ms - step.since_ms >= CONFIRM_AWAY_MS
            }
            std::cmp::Ordering::Equal => passed_ms - step.since_ms >= CONFIRM_MS,
        };
        if !is_confirmed {
            return even_ms;
        }
        self.step = None;
        self.is_resumed = false;
        self.followed = Some(Step {
            by_ms,
            since_ms: passed_ms,
            ..step
        });
        self.jump = (by_ms > 0).then_some(Jump {
            to_ms: wall_ms,
            by_ms,
        });
        self.ahead_ms = wall_ms.saturating_sub(passed_ms);
        wall_ms
    }

    /// The last step forward that was followed; none once time went back.
    pub fn jump(&self) -> Option<Jump> {
        self.jump
    }

    /// Takes when an event that was just told happened; `now_ms` is the time that is told.
    pub fn hear(&mut self, occurred_ms: i64, now_ms: i64, passed_ms: i64) {
        let Some(step) = &mut self.step else {
            return self.doubt(occurred_ms, now_ms, passed_ms);
        };
        let from_even_ms = occurred_ms.saturating_sub(now_ms);
        let from_clock_ms = from_even_ms.saturating_sub(step.by_ms);
        if self.is_resumed {
            if from_clock_ms.saturating_abs() <= NEAR_MS {
                step.for_clock += 1;
            } else if (0..step.by_ms).contains(&from_even_ms) {
                // It happened while nobody was here: now is at least then.
                step.against += 1;
                step.by_ms -= from_even_ms;
                self.ahead_ms = self.ahead_ms.saturating_add(from_even_ms);
            } else if from_even_ms.saturating_abs() <= NEAR_MS {
                step.against += 1;
            }
            return;
        }
        step.count(from_even_ms);
    }

    /// A step that was believed is followed no more where many more events speak against it: those
    /// by which it was believed came from a clock that is wrong in the same way.
    fn doubt(&mut self, occurred_ms: i64, now_ms: i64, passed_ms: i64) {
        let is_new = |step: &Step| passed_ms - step.since_ms < DOUBTED_MS;
        let Some(mut step) = self.followed.filter(is_new) else {
            return;
        };
        let before_ms = now_ms.saturating_sub(step.by_ms);
        step.count(occurred_ms.saturating_sub(before_ms));
        self.followed = Some(step);
        let least = if step.for_clock == 0 { 1 } else { DOUBTS_MIN };
        if step.against >= least && step.against > 2 * step.for_clock {
            self.step = Some(step);
            self.followed = None;
            self.jump = (step.by_ms < 0).then_some(Jump {
                to_ms: before_ms,
                by_ms: -step.by_ms,
            });
            self.ahead_ms = self.ahead_ms.saturating_sub(step.by_ms);
        }
    }

    /// Whether what an event says of the time would be listened to.
    pub fn is_listening(&self, passed_ms: i64) -> bool {
        let is_doubted = |step: &Step| passed_ms - step.since_ms < DOUBTED_MS;
        self.step.is_some() || self.followed.as_ref().is_some_and(is_doubted)
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
        let step = self.followed?;
        (passed_ms - step.since_ms < TOLD_MS).then_some(Standing {
            by_ms: step.by_ms,
            verdict: Verdict::Followed,
        })
    }
}

impl Step {
    /// Counts an event that happened so long after the time that went on.
    fn count(&mut self, from_even_ms: i64) {
        let from_clock_ms = from_even_ms.saturating_sub(self.by_ms);
        let (even, clock) = (from_even_ms > AHEAD_MS, from_clock_ms > AHEAD_MS);
        let is_far = self.by_ms.saturating_abs() > 2 * NEAR_MS;
        // Some senders are ahead by a minute: what differs by little has to have just happened.
        let is_new = |from_ms: i64| is_far || from_ms.saturating_abs() <= 2 * AHEAD_MS;
        let is_for_clock = match (even, clock) {
            (true, false) if is_new(from_clock_ms) => true,
            (false, true) if is_new(from_even_ms) => false,
            (true, false) | (false, true) => return,
            // How late an event is told is not known, so what differs by little tells nothing.
            _ if !is_far => return,
            _ if from_clock_ms.saturating_abs() <= NEAR_MS => true,
            _ if from_even_ms.saturating_abs() <= NEAR_MS => false,
            _ => return,
        };
        match is_for_clock {
            true => self.for_clock += 1,
            false => self.against += 1,
        }
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
                clock.hear(true_ms - 700, true_ms, passed_ms);
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
                        clock.hear(true_ms - 700, now_ms, passed_ms);
                    }
                }
                let within = if is_told && by_ms != 60_000 { 6 } else { 15 };
                assert!(right_at <= Some(within), "by {by_ms}: {right_at:?}");
                assert!(right_at.is_some());
            }
        }
    }

    #[test]
    fn a_start_that_is_years_ahead_goes_on_from_the_log_by_what_events_say() {
        let ten_years_ms = 87_600 * HOUR_MS;
        for away_ms in [2_000, 5 * HOUR_MS, 720 * HOUR_MS] {
            let (wrong_ms, last_ms) = (START_MS + ten_years_ms, START_MS - away_ms);
            let mut clock = Checked::new(wrong_ms, 0);
            clock.begin(last_ms, wrong_ms, 0);
            assert_eq!(clock.look(wrong_ms + 1_000, 1_000), last_ms + 1_000);
            assert!(clock.told(1_000).is_some());
            for second in 2..1_200 {
                let (passed_ms, true_ms) = (second * 1_000, START_MS + second * 1_000);
                let now_ms = clock.look(true_ms + ten_years_ms, passed_ms);
                clock.hear(true_ms - 700, now_ms, passed_ms);
                let off_ms = clock.look(true_ms + ten_years_ms, passed_ms) - true_ms;
                assert!(
                    (-2_000..=0).contains(&off_ms),
                    "{away_ms}: {off_ms} at {second}"
                );
            }
            let told = clock.told(1_200_000).map(|told| told.verdict);
            assert_eq!(told, Some(Verdict::Wrong));
            let right_ms = START_MS + 1_201_000;
            assert_eq!(clock.look(right_ms, 1_201_000), right_ms);
            assert_eq!(clock.told(1_201_000), None);
        }
        // Whoever was away for years is told the time by the first event.
        let mut clock = Checked::new(START_MS, 0);
        clock.begin(START_MS - ten_years_ms, START_MS, 0);
        let now_ms = clock.look(START_MS + 1_000, 1_000);
        clock.hear(START_MS + 900, now_ms, 1_000);
        assert_eq!(clock.look(START_MS + 1_100, 1_100), START_MS + 1_100);
        // A year is no such time, and neither is a log in which nothing was ever written.
        for last_ms in [START_MS - 8_000 * HOUR_MS, 0] {
            let mut clock = Checked::new(START_MS, 0);
            clock.begin(last_ms, START_MS, 0);
            assert_eq!(clock.look(START_MS + 1_000, 1_000), START_MS + 1_000);
        }
    }

    /// Guards: a step that was held off, or followed, was forgotten by a restart.
    #[test]
    fn a_step_outlives_the_process() {
        for by_ms in JUMPS_MS.into_iter().filter(|by_ms| by_ms.abs() > 60_000) {
            for (seen_s, events_of_clock, is_followed) in
                [(5, false, false), (5, true, true), (20, false, false)]
            {
                let mut clock = Checked::new(START_MS, 0);
                let mut now_ms = START_MS;
                for second in 1..seen_s {
                    let (passed_ms, true_ms) = (second * 1_000, START_MS + second * 1_000);
                    now_ms = clock.look(true_ms + by_ms, passed_ms);
                    let said_ms = true_ms + if events_of_clock { by_ms } else { 0 };
                    clock.hear(said_ms - 50, now_ms, passed_ms);
                }
                let is_set = !(START_MS..=START_MS + 60_000).contains(&now_ms);
                assert_eq!(is_set, is_followed, "by {by_ms}");
                let known = clock.known((seen_s - 1) * 1_000);
                // Three seconds later another process looks at the clock first.
                let true_ms = START_MS + (seen_s + 2) * 1_000;
                let mut clock = Checked::new(true_ms + by_ms, 0);
                clock.resume(&known, 3_000, now_ms, 0);
                let followed_ms = if is_followed { by_ms } else { 0 };
                assert_eq!(clock.look(true_ms + by_ms, 0), true_ms + followed_ms);
                assert_eq!(clock.jump().is_some(), is_followed && by_ms > 0);
                assert!(clock.is_listening(0));
                // A clock that is set right then is believed as ever.
                for second in 0..30 {
                    let now_ms = clock.look(true_ms + second * 1_000, second * 1_000);
                    clock.hear(true_ms + second * 1_000 - 50, now_ms, second * 1_000);
                }
                assert_eq!(clock.look(true_ms + 30_000, 30_000), true_ms + 30_000);
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
        clock.hear(START_MS + 900, START_MS + 1_000, 1_000);
        assert_eq!(clock.look(behind_ms + 60_000, 60_000), START_MS + 60_000);
        // Without any it is believed.
        let mut clock = Checked::new(behind_ms, 0);
        clock.begin(START_MS, behind_ms, 0);
        assert_eq!(clock.look(behind_ms + 10_000, 10_000), behind_ms + 10_000);
    }

    #[test]
    fn a_step_forward_that_is_followed_is_a_jump_until_time_goes_back() {
        for is_told in [true, false] {
            let mut clock = Checked::new(START_MS, 0);
            assert_eq!(clock.look(START_MS + HOUR_MS, 0), START_MS);
            if is_told {
                clock.hear(START_MS + HOUR_MS - 100, START_MS, 0);
            }
            let passed_ms = if is_told { 100 } else { CONFIRM_MS };
            assert_eq!(clock.jump(), None);
            let to_ms = START_MS + HOUR_MS + passed_ms;
            assert_eq!(clock.look(to_ms, passed_ms), to_ms);
            let by_ms = HOUR_MS;
            assert_eq!(clock.jump(), Some(Jump { to_ms, by_ms }));
            for second in 1..30 {
                let passed_ms = passed_ms + second * 1_000;
                clock.look(START_MS + passed_ms, passed_ms);
            }
            assert_eq!(clock.jump(), None);
        }
    }

    #[test]
    fn a_step_that_no_event_spoke_for_is_given_up_for_one_that_speaks_against_it() {
        for by_ms in [HOUR_MS, -HOUR_MS] {
            let mut clock = Checked::new(START_MS, 0);
            let mut look = |passed_ms: i64| {
                let now_ms = clock.look(START_MS + by_ms + passed_ms, passed_ms);
                if passed_ms == 60_000 {
                    clock.hear(START_MS + passed_ms - 50, now_ms, passed_ms);
                }
                now_ms - START_MS - passed_ms
            };
            assert_eq!([0, CONFIRM_MS, 60_000].map(&mut look), [0, by_ms, by_ms]);
            assert_eq!([60_000 + 1, 90_000, 900_000].map(&mut look), [0, 0, 0]);
        }
    }

    #[test]
    fn a_step_that_one_event_spoke_for_is_given_up_for_many_that_speak_against_it() {
        for by_ms in [HOUR_MS, -HOUR_MS, 87_600 * HOUR_MS] {
            let mut clock = Checked::new(START_MS, 0);
            let mut off_ms = Vec::new();
            for tenth in 1..6_000 {
                let (passed_ms, true_ms) = (tenth * 100, START_MS + tenth * 100);
                let now_ms = clock.look(true_ms + by_ms, passed_ms);
                off_ms.push(now_ms - true_ms);
                let wrong_ms = if tenth % 10 == 1 { by_ms } else { 0 };
                clock.hear(true_ms - 50 + wrong_ms, now_ms, passed_ms);
            }
            assert!(off_ms[1..5].contains(&by_ms), "{off_ms:?}");
            assert!(off_ms[20..].iter().all(|off_ms| *off_ms == 0), "{by_ms}");
            let told = clock.told(600_000).map(|told| told.verdict);
            assert_eq!(told, Some(Verdict::Wrong));
        }
        // Those of a sender that is wrong are too few.
        let mut clock = Checked::new(START_MS, 0);
        for tenth in 1..6_000 {
            let (passed_ms, true_ms) = (tenth * 100, START_MS + HOUR_MS + tenth * 100);
            let now_ms = clock.look(true_ms, passed_ms);
            let wrong_ms = if tenth % 10 == 2 { -HOUR_MS } else { 0 };
            clock.hear(true_ms - 50 + wrong_ms, now_ms, passed_ms);
            assert!(tenth == 1 || now_ms == true_ms, "{tenth}");
        }
    }
}
