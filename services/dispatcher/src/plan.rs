//! When a delivery is tried again (spec 8.4). Pure: the randomness is handed in.
//!
//! A *schedule* has four phases: retries at once, retries after the shortest delay, retries along a
//! curve from the shortest to the longest, and retries after the longest. What a topic or a
//! subscription says of it is its *delivery policy*, a JSON document, parsed strictly where it is set.

mod document;

pub use document::{
    Effective, PolicyFault, SubscriptionPolicy, TopicPolicy, effective,
    effective_subscription_json, effective_topic_json,
};

use std::time::Duration;

/// The shape of the delays between the shortest and the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Curve {
    /// Equal steps.
    Linear,
    /// Steps that grow by the same amount.
    Arithmetic,
    /// Each delay a fixed multiple of the one before.
    Geometric,
    /// Steps that double.
    Exponential,
}

/// How long retries of an HTTP policy may last in all, in seconds (spec 8.4).
pub const MAX_TOTAL_SECONDS: f64 = 3600.0;

/// A schedule of retries. Delays are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Schedule {
    /// The shortest delay: 1 second or more.
    pub min_delay_target: u32,
    /// The longest delay: at most 3600 seconds.
    pub max_delay_target: u32,
    /// How many retries there are in all: at most 100.
    pub num_retries: u32,
    /// How many of them come at once.
    pub num_no_delay_retries: u32,
    /// How many come after the shortest delay.
    pub num_min_delay_retries: u32,
    /// How many come after the longest delay, at the end.
    pub num_max_delay_retries: u32,
    /// The shape in between.
    pub backoff_function: Curve,
}

impl Default for Schedule {
    /// What the system does when nobody says anything: 3 retries, 20 seconds apart.
    fn default() -> Self {
        Self {
            min_delay_target: 20,
            max_delay_target: 20,
            num_retries: 3,
            num_no_delay_retries: 0,
            num_min_delay_retries: 0,
            num_max_delay_retries: 0,
            backoff_function: Curve::Linear,
        }
    }
}

impl Schedule {
    /// The schedule of mails, which nobody can set: 2 retries after 10 s, 10 growing to 600 s, 38
    /// after 600 s; with the first attempt some 6 hours (spec 8.4).
    pub const MAIL: Self = Self {
        min_delay_target: 10,
        max_delay_target: 600,
        num_retries: 50,
        num_no_delay_retries: 0,
        num_min_delay_retries: 2,
        num_max_delay_retries: 38,
        backoff_function: Curve::Exponential,
    };

    /// The delay before retry number `retry`, counted from 0, without jitter, in seconds; `None` when
    /// there are no more.
    fn plain(&self, retry: u32) -> Option<f64> {
        if retry >= self.num_retries {
            return None;
        }
        let (min, max) = (f64::from(self.min_delay_target), f64::from(self.max_delay_target));
        let Some(retry) = retry.checked_sub(self.num_no_delay_retries) else { return Some(0.0) };
        let Some(i) = retry.checked_sub(self.num_min_delay_retries) else { return Some(min) };
        let backoff = self
            .num_retries
            .saturating_sub(self.num_no_delay_retries)
            .saturating_sub(self.num_min_delay_retries)
            .saturating_sub(self.num_max_delay_retries);
        if i >= backoff {
            return Some(max);
        }
        if backoff == 1 {
            return Some(min);
        }
        let (i, n) = (f64::from(i), f64::from(backoff));
        let t = i / (n - 1.0);
        Some(match self.backoff_function {
            Curve::Linear => min + (max - min) * t,
            Curve::Arithmetic => min + (max - min) * i * (i + 1.0) / (n * (n - 1.0)),
            Curve::Geometric => min * (max / min).powf(t),
            Curve::Exponential => min + (max - min) * (i.exp2() - 1.0) / ((n - 1.0).exp2() - 1.0),
        })
    }

    /// The delay before retry number `retry`, counted from 0; `None` when it is given up. `chance`
    /// from 0 to 1 moves it by up to a tenth either way, between the shortest and the longest.
    pub fn delay(&self, retry: u32, chance: f64) -> Option<Duration> {
        let plain = self.plain(retry)?;
        if plain == 0.0 {
            return Some(Duration::ZERO);
        }
        let (min, max) = (f64::from(self.min_delay_target), f64::from(self.max_delay_target));
        // With one delay for all there is no room between the ends, and jitter is still wanted: many
        // deliveries that failed together must not come back together.
        let (low, high) = if min < max { (min, max) } else { (min * 0.9, max * 1.1) };
        let jittered = plain * (0.9 + 0.2 * chance.clamp(0.0, 1.0));
        Duration::try_from_secs_f64(jittered.clamp(low, high)).ok()
    }

    /// How long all retries take together, in seconds, without jitter.
    fn total(&self) -> f64 {
        (0..self.num_retries).filter_map(|retry| self.plain(retry)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(schedule: &Schedule) -> Vec<f64> {
        (0..).map_while(|retry| schedule.plain(retry)).collect()
    }

    fn curve(backoff_function: Curve) -> Vec<f64> {
        delays(&Schedule {
            min_delay_target: 10,
            max_delay_target: 70,
            num_retries: 4,
            backoff_function,
            ..Schedule::default()
        })
    }

    #[test]
    fn the_default_is_three_retries_twenty_seconds_apart() {
        assert_eq!(delays(&Schedule::default()), [20.0, 20.0, 20.0]);
    }

    #[test]
    fn the_phases_follow_each_other() {
        let schedule = Schedule {
            min_delay_target: 5,
            max_delay_target: 25,
            num_retries: 8,
            num_no_delay_retries: 2,
            num_min_delay_retries: 1,
            num_max_delay_retries: 2,
            backoff_function: Curve::Linear,
        };
        assert_eq!(delays(&schedule), [0.0, 0.0, 5.0, 5.0, 15.0, 25.0, 25.0, 25.0]);
    }

    #[test]
    fn every_curve_runs_from_the_shortest_to_the_longest() {
        assert_eq!(curve(Curve::Linear), [10.0, 30.0, 50.0, 70.0]);
        assert_eq!(curve(Curve::Arithmetic), [10.0, 20.0, 40.0, 70.0]);
        for shape in [Curve::Geometric, Curve::Exponential] {
            let delays = curve(shape);
            assert!((delays[0] - 10.0).abs() < 1e-9 && (delays[3] - 70.0).abs() < 1e-9);
            assert!(delays.windows(2).all(|pair| pair[0] < pair[1]), "{delays:?}");
        }
    }

    #[test]
    fn mail_is_retried_for_six_hours() {
        assert_eq!(delays(&Schedule::MAIL).len(), 50);
        let hours = Schedule::MAIL.total() / 3600.0;
        assert!((6.0..7.0).contains(&hours), "{hours}");
    }

    #[test]
    fn jitter_moves_a_delay_by_a_tenth_at_most() {
        for chance in [0.0, 0.3, 1.0] {
            let delay = Schedule::default().delay(0, chance).unwrap().as_secs_f64();
            assert!((18.0..=22.0).contains(&delay), "{delay}");
        }
        assert_eq!(Schedule::default().delay(3, 0.5), None);
    }
}
