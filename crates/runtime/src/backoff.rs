//! How long to wait before trying again: exponential, capped, with jitter.
//!
//! Jitter keeps many clients that failed together from coming back together. The randomness is the
//! caller's, so that a test sees the same delays each time.

use std::time::Duration;

use rand::Rng;

/// A policy for delays between attempts. It holds no state: see [`Backoff::delays`] for a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay before the first retry, before jitter.
    pub initial: Duration,
    /// No delay is longer than this, jitter included.
    pub max: Duration,
    /// By how much each delay grows; below 1 counts as 1.
    pub factor: f64,
    /// The share of a delay that is random, from 0 (none) to 1 (anything from zero to the delay).
    /// A jittered delay is never longer than the plain one.
    pub jitter: f64,
}

impl Backoff {
    /// Delays that double from `initial` up to `max`, with a fifth of each left to chance.
    pub const fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, factor: 2.0, jitter: 0.2 }
    }

    /// The delay before retry number `attempt`, counted from 0.
    pub fn delay(&self, attempt: u32, rng: &mut impl Rng) -> Duration {
        let factor = if self.factor.is_finite() { self.factor.max(1.0) } else { 1.0 };
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        let plain =
            (self.initial.as_secs_f64() * factor.powi(exponent)).min(self.max.as_secs_f64());
        let jitter = if self.jitter.is_finite() { self.jitter.clamp(0.0, 1.0) } else { 0.0 };
        let seconds = plain * (1.0 - jitter * rng.random::<f64>());
        // A long `max` in floating point can round up past it, or past what a Duration holds.
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max).min(self.max)
    }

    /// An endless sequence of delays, growing until it is [reset](Delays::reset).
    pub fn delays<R: Rng>(self, rng: R) -> Delays<R> {
        Delays { policy: self, attempt: 0, rng }
    }
}

/// The delays of one sequence of attempts.
#[derive(Clone, Debug)]
pub struct Delays<R> {
    policy: Backoff,
    attempt: u32,
    rng: R,
}

impl<R> Delays<R> {
    /// Starts over with the initial delay: called after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

impl<R: Rng> Iterator for Delays<R> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.policy.delay(self.attempt, &mut self.rng);
        self.attempt = self.attempt.saturating_add(1);
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn delays_double_to_the_cap_and_start_over_after_a_reset() {
        let policy = Backoff {
            jitter: 0.0,
            ..Backoff::new(Duration::from_millis(100), Duration::from_millis(500))
        };
        let mut delays = policy.delays(StdRng::seed_from_u64(1));
        let first: Vec<_> = delays.by_ref().take(4).map(|delay| delay.as_millis()).collect();
        assert_eq!(first, [100, 200, 400, 500]);
        delays.reset();
        assert_eq!(delays.next(), Some(Duration::from_millis(100)));
    }

    proptest! {
        #[test]
        fn a_delay_stays_between_its_jittered_floor_and_the_cap(
            initial in 0u64..10_000, max in 0u64..100_000, factor in -1.0f64..10.0,
            jitter in -1.0f64..2.0, attempt in any::<u32>(), seed in any::<u64>(),
        ) {
            let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(max));
            let policy = Backoff { initial, max, factor, jitter };
            let delay = policy.delay(attempt, &mut StdRng::seed_from_u64(seed));
            prop_assert!(delay <= max);
            let floor = initial.min(max).mul_f64(1.0 - jitter.clamp(0.0, 1.0));
            prop_assert!(delay + Duration::from_micros(1) >= floor, "{delay:?} < {floor:?}");
        }

        #[test]
        fn no_number_makes_it_panic(
            initial in any::<u64>(), max in any::<u64>(), factor in any::<f64>(),
            jitter in any::<f64>(), attempt in any::<u32>(),
        ) {
            let policy = Backoff {
                initial: Duration::from_secs(initial), max: Duration::from_secs(max), factor, jitter,
            };
            prop_assert!(policy.delay(attempt, &mut StdRng::seed_from_u64(7)) <= policy.max);
        }
    }
}
