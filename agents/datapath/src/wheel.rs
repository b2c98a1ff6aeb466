//! A timer for each flow: a wheel with one slot a tick, whose entries are linked through their indices.
//!
//! Arming and disarming take constant time and no allocation, whatever the number of flows. Times are
//! milliseconds since the worker began. An entry comes up at most one tick after its deadline and never
//! before; one that lies beyond the wheel's horizon comes up early at the horizon. Whoever gets it
//! compares its deadline with the time and arms it again, which is also how idle timers are moved on
//! without being touched for every byte.

/// How long a tick is, in milliseconds.
const TICK: u64 = 64;
/// How many ticks the wheel holds: a little more than the default idle timeout of 350 s.
const SLOTS: usize = 8_192;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    previous: u32,
    /// The slot that the entry is in; `NONE` while disarmed.
    slot: u32,
}

const DISARMED: Link = Link { next: NONE, previous: NONE, slot: NONE };

pub(crate) struct Wheel {
    heads: Vec<u32>,
    links: Vec<Link>,
    /// The last tick whose slot was emptied.
    current: u64,
    /// No entry is in a slot of an earlier tick than this; `None` while nothing is armed.
    earliest: Option<u64>,
    armed: usize,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        let heads = vec![NONE; SLOTS];
        Self { heads, links: Vec::new(), current: 0, earliest: None, armed: 0 }
    }

    /// Lets `index` come up at `deadline`, instead of when it was to come up before.
    pub(crate) fn arm(&mut self, index: u32, deadline: u64) {
        self.disarm(index);
        let last = self.current + SLOTS as u64 - 1;
        let tick = deadline.div_ceil(TICK).clamp(self.current + 1, last);
        let slot = (tick % SLOTS as u64) as u32;
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, DISARMED);
        }
        let next = std::mem::replace(&mut self.heads[slot as usize], index);
        if next != NONE {
            self.links[next as usize].previous = index;
        }
        self.links[index as usize] = Link { next, previous: NONE, slot };
        self.earliest = Some(self.earliest.map_or(tick, |earliest| earliest.min(tick)));
        self.armed += 1;
    }

    /// Lets `index` not come up.
    pub(crate) fn disarm(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(index as usize) else { return };
        let Link { next, previous, slot } = std::mem::replace(link, DISARMED);
        if slot == NONE {
            return;
        }
        match previous {
            NONE => self.heads[slot as usize] = next,
            previous => self.links[previous as usize].next = next,
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        self.armed -= 1;
        if self.armed == 0 {
            self.earliest = None;
        }
    }

    /// When to look again, in milliseconds; possibly for nothing, never too late.
    pub(crate) fn due(&self) -> Option<u64> {
        self.earliest.map(|tick| tick * TICK)
    }

    /// Takes out what has come up by `now`, and puts it into `up`.
    pub(crate) fn advance(&mut self, now: u64, up: &mut Vec<u32>) {
        let target = now / TICK;
        if target <= self.current {
            return;
        }
        if self.earliest.is_none_or(|earliest| earliest > target) {
            self.current = target;
            return;
        }
        // Everything is armed for less than a turn ahead, so that one turn empties all that is due.
        let first = self.current + 1;
        self.current = target;
        for tick in first..=target.min(first + SLOTS as u64 - 1) {
            let slot = (tick % SLOTS as u64) as usize;
            while self.heads[slot] != NONE {
                let index = self.heads[slot];
                self.disarm(index);
                up.push(index);
            }
        }
        self.earliest = match self.armed {
            0 => None,
            _ => (target + 1..target + SLOTS as u64)
                .find(|tick| self.heads[(tick % SLOTS as u64) as usize] != NONE),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn up_by(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut up = Vec::new();
        wheel.advance(now, &mut up);
        up.sort_unstable();
        up
    }

    #[test]
    fn an_entry_comes_up_once_after_its_deadline_and_within_a_tick() {
        let mut wheel = Wheel::new();
        wheel.arm(7, 1_000);
        assert!(up_by(&mut wheel, 999).is_empty());
        assert_eq!(up_by(&mut wheel, 1_000 + TICK), [7]);
        assert!(up_by(&mut wheel, 1_000_000).is_empty());
        assert_eq!(wheel.due(), None);
    }

    #[test]
    fn arming_again_moves_it_and_disarming_takes_it_out() {
        let mut wheel = Wheel::new();
        for index in 0..3 {
            wheel.arm(index, 500);
        }
        wheel.arm(0, 2_000);
        wheel.disarm(1);
        assert_eq!(up_by(&mut wheel, 600), [2]);
        assert_eq!(wheel.due(), Some(2_048));
        assert_eq!(up_by(&mut wheel, 2_048), [0]);
    }

    #[test]
    fn a_deadline_beyond_the_horizon_comes_up_early_to_be_armed_again() {
        let mut wheel = Wheel::new();
        wheel.arm(0, 10_000_000);
        let due = wheel.due().unwrap();
        assert!(due < 10_000_000);
        assert_eq!(up_by(&mut wheel, due), [0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn it_does_what_a_plain_list_of_deadlines_does(
            steps in prop::collection::vec((0u32..20, 0u64..100_000, 0u64..30_000, any::<bool>()), 1..100),
        ) {
            let mut wheel = Wheel::new();
            let mut plain = std::collections::BTreeMap::new();
            let mut now = 0;
            for (index, wait, pass, arm) in steps {
                if arm {
                    wheel.arm(index, now + wait);
                    plain.insert(index, now + wait);
                } else {
                    wheel.disarm(index);
                    plain.remove(&index);
                }
                now += pass;
                for index in up_by(&mut wheel, now) {
                    let deadline = plain.remove(&index).expect("only what is armed comes up");
                    prop_assert!(deadline <= now, "too early");
                }
                for deadline in plain.values() {
                    prop_assert!(deadline + 2 * TICK > now, "too late");
                    prop_assert!(wheel.due().unwrap() <= deadline + 2 * TICK);
                }
            }
        }
    }
}
