//! When the next cycle starts.

use std::time::{Duration, Instant};

use uuid::Uuid;

/// Longest wait after a fault, before chance shortens it.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Longest wait after the first fault; it doubles with each that follows.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// A fixed rate: cycles start at whole multiples of `every` from the first. One that takes longer is followed at once by
/// the next, and what was missed is not made up for.
#[derive(Debug)]
pub struct Schedule {
    every: Duration,
    /// When the last cycle was due to start.
    due: Instant,
}

impl Schedule {
    /// The first cycle is due at `start`.
    pub fn new(every: Duration, start: Instant) -> Self {
        Self { every, due: start }
    }

    /// How long to wait at `now`, the end of a cycle, until the next one starts.
    pub fn wait(&mut self, now: Instant) -> Duration {
        let next = self.due + self.every;
        if next >= now {
            self.due = next;
            return next - now;
        }
        let late = now - self.due;
        self.due += self.every * u32::try_from(late.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(u32::MAX);
        Duration::ZERO
    }
}

/// Exponential back-off with full jitter: the wait after the nth fault in a row is evenly distributed between none and
/// 2ⁿ⁻¹ seconds, five minutes at most. Those who wait for the same store do not come back at the same time.
///
/// Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Debug, Default)]
pub struct BackOff {
    faults: u32,
}

impl BackOff {
    /// Counts a fault; returns how long to wait. `chance` lies in [0, 1).
    pub fn wait(&mut self, chance: f64) -> Duration {
        let longest = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(self.faults)).min(LONGEST_WAIT);
        self.faults += 1;
        longest.mul_f64(chance)
    }

    /// The fault is over.
    pub fn reset(&mut self) {
        self.faults = 0;
    }

    /// Faults in a row.
    pub fn faults(&self) -> u32 {
        self.faults
    }
}

/// A random number in [0, 1).
pub fn chance() -> f64 {
    // The first 48 bits of a version 4 UUID are random.
    let (bits, _) = Uuid::new_v4().as_u64_pair();
    (bits >> 16) as f64 / (1_u64 << 48) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn cycles_start_at_a_fixed_rate_and_missed_ones_are_not_made_up_for() {
        let start = Instant::now();
        let mut schedule = Schedule::new(seconds(10), start);
        for (ended, wait) in [(3, 7), (10, 10), (29, 1), (65, 0), (66, 4), (70, 10), (90, 0), (90, 10)] {
            assert_eq!(schedule.wait(start + seconds(ended)), seconds(wait), "a cycle that ended after {ended} s");
        }
    }

    #[test]
    fn waits_double_up_to_five_minutes_until_the_fault_is_over() {
        let mut back_off = BackOff::default();
        let waits: Vec<u64> = (0..11).map(|_| back_off.wait(0.5).as_millis() as u64).collect();
        assert_eq!(waits[..9], [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000]);
        assert_eq!(waits[9..], [150_000, 150_000]);
        assert_eq!(back_off.faults(), 11);
        back_off.reset();
        assert_eq!(back_off.wait(0.999_999).as_millis(), 999);
        assert_eq!(back_off.wait(0.0), Duration::ZERO);
    }

    #[test]
    fn chance_is_spread_evenly() {
        let mean =
            (0..10_000).map(|_| chance()).inspect(|chance| assert!((0.0..1.0).contains(chance))).sum::<f64>() / 1e4;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
