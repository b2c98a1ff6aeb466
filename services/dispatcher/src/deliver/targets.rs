//! Who may be sent how much just now. Pure: the time is handed in.
//!
//! A *target* is whom the load of deliveries falls on: a host and port, or the mail server. Each has a
//! number of *places*, attempts at a time: few for one that nothing is known of, more with each answer,
//! half as many after each failure. After some failures in a row its *circuit opens*: nothing is sent for
//! a while, then one probe, whose answer closes the circuit and whose failure opens it for twice as long.
//!
//! All targets share a number of attempts at a time. Those that take long are counted apart, so that
//! targets which hang don't keep others waiting.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::store::deliveries::Held;

/// The places of a target that nothing is known of.
const FIRST_PLACES: usize = 4;
/// An attempt that takes longer is counted apart.
const LONG: Duration = Duration::from_millis(500);
/// How many times as many long ones there may be as others.
const LONG_FACTOR: usize = 4;
/// After how many failures in a row a circuit opens.
const FAILURES: u32 = 5;
/// For how long at first, and at most.
const OPEN_FIRST: Duration = Duration::from_secs(5);
const OPEN_MAX: Duration = Duration::from_secs(60);
/// Targets of which something is remembered; beyond, those that do nothing are forgotten.
const REMEMBERED: usize = 4096;

/// How a target answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With whatever it wanted to say.
    Answered,
    /// Not at all, or that it is out of order.
    Failed,
}

#[derive(Clone, Debug)]
struct Target {
    under_way: usize,
    places: usize,
    failures: u32,
    /// Until when the circuit is open; `None` when it is closed.
    open_until: Option<Instant>,
    /// When it opened first without an answer since.
    open_since: Option<Instant>,
    opened: u32,
    /// A probe is under way.
    probe: bool,
}

#[derive(Clone, Debug)]
struct UnderWay {
    held: Held,
    target: String,
    began: Instant,
    probe: bool,
}

/// What is under way, and to whom.
#[derive(Clone, Debug)]
pub struct Targets {
    in_flight: usize,
    per_target: usize,
    targets: HashMap<String, Target>,
    under_way: HashMap<Uuid, UnderWay>,
}

impl Targets {
    /// Lets so many attempts be under way at a time, in all and to one target.
    pub fn new(in_flight: usize, per_target: usize) -> Self {
        Self { in_flight, per_target, targets: HashMap::new(), under_way: HashMap::new() }
    }

    /// How many attempts may be begun now.
    pub fn room(&self, now: Instant) -> usize {
        let all = self.under_way.len();
        let short =
            self.under_way.values().filter(|one| now.duration_since(one.began) < LONG).count();
        let in_all = (self.in_flight * (LONG_FACTOR + 1)).saturating_sub(all);
        self.in_flight.saturating_sub(short).min(in_all)
    }

    /// How many to a target that [`Targets::places`] doesn't mention.
    pub fn first_places(&self) -> usize {
        self.per_target.min(FIRST_PLACES)
    }

    /// How many more attempts each target takes now, of those that something is known of.
    pub fn places(&self, now: Instant) -> (Vec<String>, Vec<i64>) {
        self.targets
            .iter()
            .map(|(name, target)| {
                let places = match target.open_until {
                    Some(until) if now < until || target.probe => 0,
                    Some(_) => 1,
                    None => target.places.saturating_sub(target.under_way),
                };
                (name.clone(), i64::try_from(places).unwrap_or(i64::MAX))
            })
            .unzip()
    }

    /// An attempt begins.
    pub fn begin(&mut self, held: Held, target: &str, now: Instant) {
        if self.targets.len() >= REMEMBERED {
            self.targets.retain(|_, target| target.under_way > 0 || target.failures > 0);
        }
        let first = self.first_places();
        let known = self.targets.entry(target.to_owned()).or_insert_with(|| Target {
            under_way: 0,
            places: first,
            failures: 0,
            open_until: None,
            open_since: None,
            opened: 0,
            probe: false,
        });
        known.under_way += 1;
        let probe = known.open_until.is_some();
        known.probe |= probe;
        let target = target.to_owned();
        self.under_way.insert(held.claim, UnderWay { held, target, began: now, probe });
    }

    /// An attempt has ended; `None`: it was not made after all.
    pub fn end(&mut self, claim: Uuid, answer: Option<Answer>, now: Instant) {
        let Some(ended) = self.under_way.remove(&claim) else { return };
        let Some(target) = self.targets.get_mut(&ended.target) else { return };
        target.under_way = target.under_way.saturating_sub(1);
        if ended.probe {
            target.probe = false;
        }
        match answer {
            None => {}
            Some(Answer::Answered) => {
                target.places = (target.places + 1).min(self.per_target);
                target.failures = 0;
                target.open_until = None;
                target.open_since = None;
                target.opened = 0;
            }
            Some(Answer::Failed) => {
                target.places = (target.places / 2).max(1);
                target.failures = target.failures.saturating_add(1);
                // What was begun before the circuit opened says nothing about later.
                if target.failures >= FAILURES && (target.open_until.is_none() || ended.probe) {
                    let longer = OPEN_FIRST.saturating_mul(1 << target.opened.min(8));
                    target.open_until = Some(now + longer.min(OPEN_MAX));
                    target.open_since.get_or_insert(now);
                    target.opened = target.opened.saturating_add(1);
                }
            }
        }
    }

    /// How many circuits are open.
    pub fn open(&self) -> usize {
        self.targets.values().filter(|target| target.open_until.is_some()).count()
    }

    /// The targets whose circuits have been open for so long.
    pub fn silent_for(&self, long: Duration, now: Instant) -> Vec<String> {
        self.targets
            .iter()
            .filter(|(_, target)| {
                target.open_since.is_some_and(|since| now.duration_since(since) >= long)
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Everything that is under way, which is forgotten here.
    pub fn drain(&mut self) -> Vec<Held> {
        self.under_way.drain().map(|(_, one)| one.held).collect()
    }

    /// How many attempts are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        let id = Uuid::new_v4();
        Held { id, created_at: chrono::Utc::now(), claim: id }
    }

    fn places(targets: &Targets, name: &str, now: Instant) -> usize {
        let (names, places) = targets.places(now);
        names
            .iter()
            .position(|known| known == name)
            .map_or(targets.first_places(), |place| usize::try_from(places[place]).unwrap())
    }

    /// Begins what the target takes, and says which.
    fn fill(targets: &mut Targets, name: &str, now: Instant) -> Vec<Uuid> {
        let many = places(targets, name, now).min(targets.room(now));
        (0..many)
            .map(|_| {
                let held = held();
                targets.begin(held, name, now);
                held.claim
            })
            .collect()
    }

    #[test]
    fn a_target_gets_more_places_with_each_answer_and_half_as_many_after_a_failure() {
        let (mut targets, now) = (Targets::new(100, 32), Instant::now());
        let first = fill(&mut targets, "a", now);
        assert_eq!(first.len(), 4);
        assert_eq!(places(&targets, "a", now), 0);
        for claim in first {
            targets.end(claim, Some(Answer::Answered), now);
        }
        assert_eq!(places(&targets, "a", now), 8);
        for _ in 0..100 {
            let held = held();
            targets.begin(held, "a", now);
            targets.end(held.claim, Some(Answer::Answered), now);
        }
        assert_eq!(places(&targets, "a", now), 32);
        let held = held();
        targets.begin(held, "a", now);
        targets.end(held.claim, Some(Answer::Failed), now);
        assert_eq!(places(&targets, "a", now), 16);
    }

    #[test]
    fn a_circuit_opens_after_failures_in_a_row_and_a_probe_decides() {
        let (mut targets, start) = (Targets::new(100, 32), Instant::now());
        let fail = |targets: &mut Targets, now| {
            let held = held();
            targets.begin(held, "a", now);
            targets.end(held.claim, Some(Answer::Failed), now);
        };
        for _ in 0..5 {
            fail(&mut targets, start);
        }
        assert_eq!((places(&targets, "a", start), targets.open()), (0, 1));
        let later = start + Duration::from_secs(5);
        assert_eq!(places(&targets, "a", later), 1);
        let probe = held();
        targets.begin(probe, "a", later);
        assert_eq!(places(&targets, "a", later), 0, "one probe at a time");
        targets.end(probe.claim, Some(Answer::Failed), later);
        assert_eq!(places(&targets, "a", later + Duration::from_secs(9)), 0, "twice as long");
        let again = later + Duration::from_secs(10);
        let probe = held();
        targets.begin(probe, "a", again);
        targets.end(probe.claim, Some(Answer::Answered), again);
        assert_eq!(targets.open(), 0);
        assert!(places(&targets, "a", again) >= 1);
        assert!(targets.silent_for(Duration::ZERO, again).is_empty());
    }

    #[test]
    fn a_fifth_of_the_targets_hanging_takes_no_room_from_the_others() {
        // Each round is a millisecond. Healthy targets answer within the round; hanging ones never.
        let (mut targets, start) = (Targets::new(64, 32), Instant::now());
        let names: Vec<String> = (0..50).map(|number| format!("target {number}")).collect();
        let mut least = usize::MAX;
        for round in 0..2_000_usize {
            let now = start + Duration::from_millis(round as u64);
            let mut answered = Vec::new();
            // Each is the first to be looked at in its turn.
            for number in (0..50).map(|place| (round + place) % 50) {
                let name = &names[number];
                let begun = fill(&mut targets, name, now);
                if number % 5 != 0 {
                    answered.extend(begun);
                }
            }
            // From the moment on that the hanging ones count as long.
            if round > 600 {
                least = least.min(answered.len());
            }
            for claim in answered {
                targets.end(claim, Some(Answer::Answered), now);
            }
        }
        assert_eq!(least, 64, "all of the room goes to those that answer");
        assert_eq!(targets.under_way(), 10 * 4, "the first places of ten that hang");
    }

    #[test]
    fn what_was_not_tried_changes_nothing() {
        let (mut targets, now) = (Targets::new(10, 4), Instant::now());
        let held = held();
        targets.begin(held, "a", now);
        targets.end(held.claim, None, now);
        assert_eq!((places(&targets, "a", now), targets.under_way()), (4, 0));
    }
}
