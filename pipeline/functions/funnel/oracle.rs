//! The options told plainly: every chain there is, from the definition in [`manual`](super::manual). Slow, for tests
//! only. It shares nothing with the functions but the names of the choices.

use std::cmp::Reverse;

use super::options::{Entry, Order};

/// A touch, and a value to hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Touch {
    pub time: Option<i64>,
    pub touchpoint: Option<&'static str>,
    pub channel: Option<&'static str>,
    pub held: Option<i32>,
}

/// What a funnel asks.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub steps: Vec<&'static str>,
    pub window: i64,
    pub orders: Vec<Order>,
    pub entry: Entry,
    pub min_gaps: Vec<Option<i64>>,
    pub max_gaps: Vec<Option<i64>>,
    pub excluded: Vec<Option<&'static str>>,
    pub is_excluded_everywhere: bool,
    pub removes: bool,
    /// Steps from 0.
    pub optional: Vec<usize>,
    pub has_hold: bool,
    pub among: Option<Vec<&'static str>>,
    /// Whether options are left out where they are the default, and an order is one text where it can.
    pub is_brief: bool,
}

/// A chain: (step, touch) pairs.
type Chain = Vec<(usize, usize)>;

/// An attempt: the position (from 1) of the touch of each step, and the last entry.
pub(super) type Attempt = (Vec<Option<i32>>, i32);

/// Whether a touch matches a text in the syntax of steps. No touchpoint has a `:` in its name.
pub(super) fn matches(text: &str, touch: Touch) -> bool {
    text.split('|').any(|alternative| match alternative.split_once(':') {
        _ if alternative == "*" => true,
        Some((channel, touchpoint)) => touch.channel == Some(channel) && touch.touchpoint == Some(touchpoint),
        None => touch.touchpoint == Some(alternative),
    })
}

impl Asked {
    pub(super) fn is_unordered(&self) -> bool {
        self.orders.contains(&Order::Any)
    }

    /// The steps that can begin a chain.
    fn entry_steps(&self) -> Vec<usize> {
        let run = self.orders.iter().take_while(|order| **order == Order::Any).count();
        (0..run.max(1)).collect()
    }
}

/// One journey; only touches with a time are left.
struct Naive<'a> {
    asked: &'a Asked,
    touches: Vec<(i64, Touch, i32)>,
}

impl Naive<'_> {
    fn time(&self, touch: usize) -> i64 {
        self.touches[touch].0
    }

    fn held(&self, touch: usize) -> Option<i32> {
        self.touches[touch].1.held
    }

    fn serves(&self, step: usize, touch: usize) -> bool {
        matches(self.asked.steps[step], self.touches[touch].1) && (!self.asked.has_hold || self.held(touch).is_some())
    }

    fn takes_part(&self, touch: usize) -> bool {
        let touch = self.touches[touch].1;
        let is_step = self.asked.steps.iter().any(|step| matches(step, touch));
        is_step || self.asked.among.as_ref().is_none_or(|among| among.iter().any(|text| matches(text, touch)))
    }

    /// Whether something excluded between the steps `from` and `to` lies among touches.
    fn is_hit(&self, from: usize, to: usize, mut touches: std::ops::Range<usize>) -> bool {
        let excluded = &self.asked.excluded[from.min(self.asked.excluded.len())..to.min(self.asked.excluded.len())];
        touches.any(|touch| excluded.iter().flatten().any(|text| matches(text, self.touches[touch].1)))
    }

    /// The steps that may follow a step directly.
    fn followers(&self, step: usize) -> Vec<usize> {
        let is_optional = |step: &usize| self.asked.optional.contains(step);
        (step + 1..self.asked.steps.len())
            .filter(|next| (step + 1..*next).all(|between| is_optional(&between)))
            .collect()
    }

    /// Every chain that begins with a touch.
    fn chains(&self, entry: usize, minds_exclusions: bool) -> Vec<Chain> {
        if self.asked.is_unordered() {
            return vec![self.unordered_chain(entry, minds_exclusions)];
        }
        let mut open: Vec<Chain> = vec![vec![(0, entry)]];
        let mut chains = vec![];
        while let Some(chain) = open.pop() {
            let (step, last) = chain[chain.len() - 1];
            for next in self.followers(step) {
                for touch in last + 1..self.touches.len() {
                    let gap = self.time(touch) - self.time(last);
                    let is_allowed = self.serves(next, touch)
                        && (!self.asked.has_hold || self.held(touch) == self.held(entry))
                        && self.time(touch) - self.time(entry) <= self.asked.window
                        && self.asked.min_gaps[next].is_none_or(|least| gap >= least)
                        && self.asked.max_gaps[next].is_none_or(|most| gap <= most)
                        && (self.asked.orders[next] != Order::Next
                            || (last + 1..touch).all(|between| !self.takes_part(between)))
                        && !(minds_exclusions && self.is_hit(step, next, last + 1..touch));
                    if is_allowed {
                        open.push([chain.clone(), vec![(next, touch)]].concat());
                    }
                }
            }
            chains.push(chain);
        }
        chains
    }

    /// The chain of an entry that takes every touch that it can.
    fn unordered_chain(&self, entry: usize, minds_exclusions: bool) -> Chain {
        let mut chain: Chain = vec![];
        for touch in entry..self.touches.len() {
            let is_held = !self.asked.has_hold || self.held(touch) == self.held(entry);
            if self.time(touch) - self.time(entry) > self.asked.window {
                break;
            }
            let step = self.waiting(&chain).into_iter().find(|step| is_held && self.serves(*step, touch));
            match step {
                Some(step) => chain.push((step, touch)),
                None if minds_exclusions && self.is_hit(0, self.asked.steps.len(), touch..touch + 1) => break,
                None => {}
            }
        }
        chain
    }

    /// The steps that a chain waits for.
    fn waiting(&self, chain: &Chain) -> Vec<usize> {
        let is_served = |step: &usize| chain.iter().any(|(served, _)| served == step);
        let Some(first) = (0..self.asked.steps.len()).find(|step| !is_served(step)) else { return vec![] };
        let is_any = |step: &usize| self.asked.orders[*step] == Order::Any;
        let run = (first..self.asked.steps.len()).take_while(|step| is_any(step) || *step == first);
        let run: Vec<usize> = run.take_while(|step| is_any(&first) || *step == first).collect();
        run.into_iter().filter(|step| !is_served(step)).collect()
    }

    fn depth(&self, chain: &Chain) -> usize {
        if self.asked.is_unordered() { chain.len() } else { chain[chain.len() - 1].0 + 1 }
    }

    fn entries(&self, from: usize) -> Vec<usize> {
        let enters = |touch: &usize| self.asked.entry_steps().into_iter().any(|step| self.serves(step, *touch));
        (from..self.touches.len()).filter(enters).collect()
    }

    /// Of chains the deepest; of those the first to arrive, the last to enter, and so on from its end.
    fn best(&self, chains: &[Chain]) -> Option<Chain> {
        let sign = if self.asked.entry == Entry::Last { -1 } else { 1 };
        let key = |chain: &Chain| {
            let backwards = chain.iter().rev().map(|(step, touch)| (Reverse(*step), sign * *touch as i32));
            let backwards: Vec<_> = backwards.collect();
            (Reverse(self.depth(chain)), chain[chain.len() - 1].1, Reverse(chain[0].1), backwards)
        };
        chains.iter().min_by_key(|chain| key(chain)).cloned()
    }

    /// Whether a chain of an entry could go on after a touch that is not the last of all.
    fn can_go_on(&self, chains: &[Chain], after: usize) -> bool {
        chains.iter().any(|chain| {
            let chain: Chain = chain.iter().copied().take_while(|(_, touch)| *touch <= after).collect();
            let (step, last) = chain[chain.len() - 1];
            let closes_at = self.time(chain[0].1) + self.asked.window;
            if self.time(after) > closes_at {
                return false;
            }
            if self.asked.is_unordered() {
                return chain.len() < self.asked.steps.len()
                    && !self.is_hit(0, self.asked.steps.len(), last + 1..after + 1);
            }
            self.followers(step).into_iter().any(|next| {
                let earliest = self.time(after).max(self.time(last) + self.asked.min_gaps[next].unwrap_or(0));
                earliest <= closes_at
                    && self.asked.max_gaps[next].is_none_or(|most| earliest <= self.time(last) + most)
                    && !self.is_hit(step, next, last + 1..after + 1)
                    && (self.asked.orders[next] != Order::Next
                        || (last + 1..after + 1).all(|between| !self.takes_part(between)))
            })
        })
    }

    fn attempt(&self, chain: &Chain, last_entry: usize) -> Attempt {
        let last_step = chain.iter().map(|(step, _)| *step).max().unwrap();
        let touch = |step| chain.iter().find(|(served, _)| *served == step).map(|(_, touch)| self.touches[*touch].2);
        ((0..=last_step).map(touch).collect(), self.touches[last_entry].2)
    }

    /// The furthest step and the attempts.
    fn outcome(&self) -> (usize, Vec<Attempt>) {
        let step_count = self.asked.steps.len();
        if self.asked.entry == Entry::Every {
            let (mut furthest, mut attempts, mut from) = (0, vec![], 0);
            while let Some(entry) = self.entries(from).first().copied() {
                let chains = self.chains(entry, true);
                let best = self.best(&chains).unwrap();
                furthest = furthest.max(self.depth(&best));
                attempts.push(self.attempt(&best, entry));
                from = if self.depth(&best) == step_count {
                    best[best.len() - 1].1 + 1
                } else {
                    let serves = |touch: usize| chains.iter().any(|chain| chain.iter().any(|(_, of)| *of == touch));
                    let is_over = |touch: &usize| !serves(*touch) && !self.can_go_on(&chains, *touch);
                    (entry + 1..self.touches.len()).find(is_over).unwrap_or(self.touches.len())
                };
            }
            return (furthest, attempts);
        }
        let entries = match self.asked.entry {
            Entry::First => self.entries(0).into_iter().take(1).collect(),
            _ => self.entries(0),
        };
        let all = |minds_exclusions| -> Vec<Chain> {
            entries.iter().flat_map(|entry| self.chains(*entry, minds_exclusions)).collect()
        };
        let mut chains = all(true);
        if self.asked.removes {
            let furthest = all(false).iter().map(|chain| self.depth(chain)).max().unwrap_or(0);
            chains.retain(|chain| self.depth(chain) == furthest);
            let deepest = chains.clone();
            let latest_entry = |chain: &Chain| {
                let same = deepest.iter().filter(|other| other.last().unwrap().1 == chain.last().unwrap().1);
                same.map(|other| other[0].1).max().unwrap()
            };
            chains.retain(|chain| {
                let closes_at = self.time(latest_entry(chain)) + self.asked.window;
                let last = chain[chain.len() - 1].1;
                let in_time = (last + 1..self.touches.len()).take_while(|touch| self.time(*touch) <= closes_at).count();
                furthest == step_count || !self.is_hit(furthest - 1, furthest, last + 1..last + 1 + in_time)
            });
        }
        let Some(best) = self.best(&chains) else { return (0, vec![]) };
        let last_entry = match self.asked.entry {
            Entry::First => best[0].1,
            _ if self.depth(&best) == step_count => {
                let arrival = best[best.len() - 1].1;
                entries.into_iter().filter(|entry| *entry <= arrival).max().unwrap()
            }
            _ => entries.into_iter().max().unwrap(),
        };
        (self.depth(&best), vec![self.attempt(&best, last_entry)])
    }
}

/// What the definition says.
pub(super) fn told(asked: &Asked, touches: &[Touch]) -> (usize, Vec<Attempt>) {
    let with_time = (1..).zip(touches).filter_map(|(position, touch)| Some((touch.time?, *touch, position)));
    Naive { asked, touches: with_time.collect() }.outcome()
}
