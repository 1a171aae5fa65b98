//! What goes wrong in a run, as data: a list that is drawn before the run begins, so that a part
//! of it can be left out and the rest happens as before.

use std::fmt;

use fenghuo_log::memory::CommitFault;

use super::scenario::{CHANNELS, Mode};
use crate::disk::Operation;
use crate::random::Random;

/// One of the three stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Ingest.
    Ingest,
    /// Evaluate.
    Evaluate,
    /// Dispatch.
    Dispatch,
}

impl Stage {
    /// All of them, in the order of the data.
    pub const ALL: [Stage; 3] = [Stage::Ingest, Stage::Evaluate, Stage::Dispatch];

    /// As in the names of groups.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Ingest => "ingest",
            Stage::Evaluate => "evaluate",
            Stage::Dispatch => "dispatch",
        }
    }
}

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes pages at once.
    Up,
    /// Takes them, and answers after this time.
    Slow {
        /// Until the answer.
        ms: i64,
    },
    /// Asks to try again later.
    Failing,
    /// Takes them, and the answer is lost.
    Mute,
    /// Refuses them for good.
    Refusing,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// An instance dies; it comes back at the end. Its groups learn of it after some turns.
    Crash {
        /// Which one.
        instance: usize,
        /// Turns until its partitions go to others.
        noticed: usize,
    },
    /// An instance is told to stop, and comes back at the end.
    Leave {
        /// Which one.
        instance: usize,
    },
    /// An instance stands still while its partitions move, and then goes on. With a stage, it
    /// stops in the middle of that stage's next commit.
    Zombie {
        /// Which one.
        instance: usize,
        /// Whose commit is on its way meanwhile.
        within: Option<Stage>,
    },
    /// The next commit of a stage goes wrong, and the session with it.
    Commit {
        /// Which instance.
        instance: usize,
        /// Whose commit.
        stage: Stage,
        /// How.
        fault: CommitFault,
    },
    /// Nobody reaches the log.
    Away,
    /// Polls bring few records.
    Trickle {
        /// At most so many.
        records_max: usize,
    },
    /// What is committed does not become durable.
    SlowDisk,
    /// Everything stops, and of what was committed and not durable this share is left.
    PowerLoss {
        /// Share left, in percent.
        kept_percent: usize,
    },
    /// A receiver behaves otherwise.
    Receiver {
        /// Which one.
        channel: usize,
        /// How.
        mood: Mood,
    },
    /// The compacted topics are compacted, but for some records.
    Compaction,
    /// An operation of the disk fails: the next one of its kind, or one after it.
    Disk {
        /// Which.
        operation: Operation,
        /// Operations before it that go well.
        after: usize,
    },
    /// The disk has no room for anything new.
    Full,
    /// The clock of an instance is wrong.
    Clock {
        /// Which one.
        instance: usize,
        /// By so much.
        ahead_ms: i64,
    },
    /// The clock of the machine is wrong: that of every instance, and, but on Kafka, of the log.
    Machine {
        /// By so much.
        ahead_ms: i64,
    },
    /// The clock of the log alone is wrong, as that of brokers may be.
    Broker {
        /// By so much.
        ahead_ms: i64,
    },
}

/// What clocks are wrong by: a service that was off, the time zone, a battery that is empty.
pub(super) const CLOCK_JUMPS_MS: [i64; 8] = [
    60_000,
    -60_000,
    3_600_000,
    -3_600_000,
    8 * 3_600_000,
    -8 * 3_600_000,
    87_600 * 3_600_000,
    -87_600 * 3_600_000,
];

/// Something that goes wrong, from a turn on and for some turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// It begins before this turn.
    pub turn: usize,
    /// It lasts so many turns.
    pub turns: usize,
    /// What.
    pub kind: Kind,
}

impl Fault {
    /// Whether it is under way at a turn.
    pub fn covers(&self, turn: usize) -> bool {
        (self.turn..self.turn + self.turns).contains(&turn)
    }

    /// Draws one for a run of so many turns.
    pub(super) fn draw(random: &mut Random, turns: usize, mode: Mode) -> Self {
        let below = |random: &mut Random, end: usize| random.between(0, end as i64) as usize;
        let instance = below(random, mode.instances());
        let stage = Stage::ALL[below(random, 3)];
        let kind = match random.between(0, 100) {
            // What only the in-memory log can do is the disk's here.
            22..40 if mode == Mode::Folder => Kind::Disk {
                operation: Operation::Write,
                after: below(random, 200),
            },
            40..58 if mode == Mode::Folder => Kind::Disk {
                operation: Operation::Sync,
                after: below(random, 20),
            },
            58..73 if mode == Mode::Folder => Kind::Full,
            0..14 => Kind::Crash {
                instance,
                noticed: below(random, 40),
            },
            14..22 => Kind::Leave { instance },
            22..36 => Kind::Zombie {
                instance,
                within: random.chance(0.7).then_some(stage),
            },
            36..64 => Kind::Commit {
                instance,
                stage,
                fault: [
                    CommitFault::Refused,
                    CommitFault::Aborted,
                    CommitFault::Unanswered,
                ][below(random, 3)],
            },
            64..67 => Kind::Away,
            67..70 => Kind::Trickle {
                records_max: 1 + below(random, 6),
            },
            70..73 => Kind::Compaction,
            73..76 => Kind::Clock {
                instance,
                ahead_ms: match random.chance(0.5) {
                    true => random.between(-4_000, 4_000),
                    false => CLOCK_JUMPS_MS[below(random, CLOCK_JUMPS_MS.len())],
                },
            },
            76..84 if mode != Mode::Kafka => Kind::PowerLoss {
                kept_percent: below(random, 101),
            },
            84..87 if mode != Mode::Kafka => Kind::SlowDisk,
            _ => Kind::Receiver {
                channel: below(random, CHANNELS.len()),
                mood: match random.between(0, 4) {
                    0 => Mood::Slow {
                        ms: random.between(100, 6_000),
                    },
                    1 => Mood::Failing,
                    2 => Mood::Mute,
                    _ => Mood::Refusing,
                },
            },
        };
        let lasts = match kind {
            Kind::Commit { .. } | Kind::Compaction | Kind::Disk { .. } => 1,
            Kind::Away | Kind::Full | Kind::SlowDisk | Kind::PowerLoss { .. } => {
                2 + below(random, 30)
            }
            _ => 2 + below(random, 150),
        };
        Self {
            turn: below(random, turns),
            turns: lasts,
            kind,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "turn {:>4}: ", self.turn)?;
        match self.kind {
            Kind::Crash { instance, noticed } => write!(
                f,
                "instance {instance} dies, which is noticed after {noticed} turns"
            ),
            Kind::Leave { instance } => write!(f, "instance {instance} leaves"),
            Kind::Zombie { instance, within } => {
                write!(f, "instance {instance} stands still")?;
                match within {
                    Some(stage) => write!(f, " in a commit of {}", stage.name()),
                    None => Ok(()),
                }
            }
            Kind::Commit {
                instance,
                stage,
                fault,
            } => write!(
                f,
                "the next commit of instance {instance}, {}: {fault:?}",
                stage.name()
            ),
            Kind::Away => write!(f, "the log is away"),
            Kind::Trickle { records_max } => write!(f, "polls bring at most {records_max}"),
            Kind::SlowDisk => write!(f, "commits do not become durable"),
            Kind::PowerLoss { kept_percent } => write!(
                f,
                "power loss, {kept_percent} % of what was not durable is left"
            ),
            Kind::Receiver { channel, mood } => write!(f, "{} is {mood:?}", CHANNELS[channel]),
            Kind::Compaction => write!(f, "compaction"),
            Kind::Disk { operation, after } => {
                write!(f, "a {operation:?} of the disk fails, after {after} others")
            }
            Kind::Full => write!(f, "the disk is full"),
            Kind::Clock { instance, ahead_ms } => {
                write!(f, "the clock of instance {instance} is {ahead_ms} ms ahead")
            }
            Kind::Machine { ahead_ms } => write!(f, "every clock is {ahead_ms} ms ahead"),
            Kind::Broker { ahead_ms } => write!(f, "the log's clock is {ahead_ms} ms ahead"),
        }?;
        if self.turns > 1 {
            write!(f, ", for {} turns", self.turns)?;
        }
        Ok(())
    }
}
