//! Every target on what is kept and made: seeds, cases, shapes as large as a message may be, and
//! seeds spoilt at random, from a seed that is printed. Without libFuzzer, in every test run.

use fenghuo_event::bounds::MESSAGE_BYTES_MAX;
use fenghuo_event::decode;
use fenghuo_fuzz::{Target, seeds};
use rustix::time::{ClockId, clock_gettime};

/// SplitMix64: good enough to spoil inputs, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

#[test]
fn what_was_broken_once_holds() {
    for target in Target::ALL {
        for (path, input) in seeds::cases(target).unwrap() {
            println!("{}", path.display());
            target.check(&input);
        }
    }
}

#[test]
fn seeds_hold_and_reach_behind_the_checks() {
    for target in Target::ALL {
        seeds::of(target).iter().for_each(|seed| target.check(seed));
    }
    for target in [Target::Json, Target::Protobuf] {
        // The shop's events and one of each kind with every field given are events.
        let taken = seeds::of(target)
            .iter()
            .filter(|seed| decode(seed, None).is_ok())
            .count();
        assert!(taken >= 70, "{taken} {target:?}");
        for full in &seeds::of(target)[..10] {
            decode(full, None).unwrap();
        }
    }
}

/// A message as large as it may be costs what its length costs: sixteen times the bytes may cost
/// six times as much a byte, where a quadratic reader would cost sixteen times as much. What takes
/// a few milliseconds even so is nobody's concern.
#[test]
fn the_largest_shapes_hold_and_cost_their_length() {
    const FEW_MS: f64 = 20.0;
    for target in Target::ALL {
        let small = seeds::hostile(target, MESSAGE_BYTES_MAX / 16);
        let large = seeds::hostile(target, MESSAGE_BYTES_MAX);
        for (number, (small, large)) in small.iter().zip(&large).enumerate() {
            assert!(large.len() <= MESSAGE_BYTES_MAX);
            let large_ms = fastest_ms(target, large);
            let ratio = large_ms / fastest_ms(target, small).max(0.001);
            assert!(
                large_ms < FEW_MS || ratio < 6.0 * 16.0,
                "{target:?} {number}: {large_ms} ms, {ratio} times the small one"
            );
        }
    }
}

/// The processor's time of the fastest of some tries, since the machine has other things to do.
fn fastest_ms(target: Target, input: &[u8]) -> f64 {
    let used_ms = || {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        used.tv_sec as f64 * 1e3 + used.tv_nsec as f64 / 1e6
    };
    let tries = (0..5).map(|_| {
        let before_ms = used_ms();
        target.check(input);
        used_ms() - before_ms
    });
    tries.fold(f64::INFINITY, f64::min)
}

#[test]
fn spoilt_seeds_hold() {
    for target in Target::ALL {
        let seeds = seeds::of(target);
        for number in 0..4_000 {
            let mut random = Random(number);
            let mut input = seeds[random.below(seeds.len())].clone();
            for _ in 0..=random.below(3) {
                spoil(&mut input, &seeds, &mut random);
            }
            println!("{target:?} {number}");
            target.check(&input);
        }
    }
}

/// One byte changed, a piece taken out, said twice, or put in from another seed.
fn spoil(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let from = random.below(input.len());
    let to = (from + 1 + random.below(16)).min(input.len());
    match random.below(4) {
        0 if from < to => input[from] = random.next() as u8,
        1 => drop(input.drain(from..to)),
        2 => {
            let piece = input[from..to].to_vec();
            input.splice(from..from, piece);
        }
        _ => {
            let other = &seeds[random.below(seeds.len())];
            let start = random.below(other.len());
            let end = (start + 1 + random.below(32)).min(other.len());
            input.splice(from..from, other[start..end].iter().copied());
        }
    }
}
